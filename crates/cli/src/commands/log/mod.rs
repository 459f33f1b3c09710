//! `stockade log`: the record itself.

mod held;
pub(crate) mod verify;

use clap::Subcommand;

use crate::{exit::Exit, output::Output};

/// Verify the record.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Args),
}

/// Runs the command.
///
/// # Errors
/// As the subcommand.
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        Command::Verify(args) => verify::run(args, out),
    }
}
