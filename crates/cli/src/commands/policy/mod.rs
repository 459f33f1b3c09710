//! `stockade policy`: check, try out, show and explain what is allowed.

pub(crate) mod check;
pub(crate) mod explain;
pub(crate) mod learn;
pub(crate) mod show;
pub(crate) mod test;

use anyhow::anyhow;
use stockade_policy::{Policy, load};

use crate::{
    exit::Exit,
    host_sets::gather,
    human::plural,
    layers::{self, LayerArgs, collect, workspace_of},
    output::Output,
};

/// Check, test, show and explain policies.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(check::Args),
    Test(test::Args),
    Show(show::Args),
    Explain(explain::Args),
    Learn(learn::Args),
}

/// Runs the subcommand.
///
/// # Errors
/// When something could not be read or written.
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        Command::Check(args) => check::run(&args, out),
        Command::Test(args) => test::run(&args, out),
        Command::Show(args) => show::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
        Command::Learn(args) => learn::run(&args, out),
    }
}

/// Loads the policy that a run would have.
///
/// # Errors
/// When a file cannot be read, or any file has a mistake; all mistakes are in the message.
pub(crate) fn effective(layers: &LayerArgs) -> anyhow::Result<Policy> {
    let sources = collect(layers)?;
    let gathered = gather(&workspace_of(layers).unwrap_or_default(), &sources);
    let loaded = load(&sources, &gathered.sets);
    let checked = loaded.and_then(|policy| layers::check_places(&policy).map(|()| policy));
    checked.map_err(|problems| {
        let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        anyhow!(
            "{}\n{}, nothing loaded",
            lines.join("\n"),
            plural(count, "error", "errors")
        )
    })
}
