//! `stockade completions`: shell completions on standard output.

use clap_complete::Shell;

use crate::{exit::Exit, output::Output};

/// Arguments of `stockade completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: stockade completions bash > ~/.local/share/bash-completion/completions/stockade"
)]
pub(crate) struct Args {
    /// Shell
    shell: Shell,
}

/// Prints the completions.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let mut buffer = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut super::visible(&crate::definition()),
        "stockade",
        &mut buffer,
    );
    out.raw(String::from_utf8_lossy(&buffer))?;
    Ok(Exit::Yes)
}
