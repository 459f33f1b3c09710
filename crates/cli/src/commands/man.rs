//! `stockade man`: the manual page on standard output.

use crate::{exit::Exit, output::Output};

/// Arguments of `stockade man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stockade man | man -l -")]
pub(crate) struct Args {}

/// Prints the page.
pub(crate) fn run(_args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let mut buffer = Vec::new();
    clap_mangen::Man::new(crate::definition()).render(&mut buffer)?;
    out.raw(String::from_utf8_lossy(&buffer))?;
    Ok(Exit::Yes)
}
