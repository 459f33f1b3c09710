//! `stockade man`: a manual page on standard output.

use crate::{exit::Exit, human::safe, output::Output};

/// Arguments of `stockade man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade man | man -l -\n  \
    stockade man policy test | man -l -")]
pub(crate) struct Args {
    /// The command, for example `run` or `policy test` [default: the page of all]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Prints the page.
///
/// # Errors
/// When it cannot be rendered or printed.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let mut root = super::visible(&crate::definition()).disable_help_subcommand(true);
    // Gives each command the name of its page, `stockade-policy-test`.
    root.build();
    let mut command = &root;
    for name in &args.command {
        let Some(below) = command.find_subcommand(name) else {
            out.note(format_args!(
                "stockade: there is no command `{}`; `stockade --help` lists them",
                safe(&args.command.join(" "))
            ));
            return Ok(Exit::Usage);
        };
        command = below;
    }
    let mut buffer = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut buffer)?;
    out.raw(String::from_utf8_lossy(&buffer))?;
    Ok(Exit::Yes)
}
