//! `stockade policy`: check, try out, show, explain and compare what is allowed.

pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod learn;
pub(crate) mod replay;
pub(crate) mod show;
pub(crate) mod test;

use std::path::Path;

use anyhow::anyhow;
use stockade_policy::{Policy, Source, load};

use crate::{
    exit::Exit,
    host_sets::gather,
    human::plural,
    layers::{self, LayerArgs, collect, workspace_of},
    output::Output,
};

/// Check, test, show, explain and compare policies.
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
    Diff(diff::Args),
    Replay(replay::Args),
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
        Command::Diff(args) => diff::run(&args, out),
        Command::Replay(args) => replay::run(&args, out),
    }
}

/// Loads the policy that a run would have.
///
/// # Errors
/// When a file cannot be read, or any file has a mistake; all mistakes are in the message.
pub(crate) fn effective(layers: &LayerArgs) -> anyhow::Result<Policy> {
    load_all(&collect(layers)?, &workspace_of(layers).unwrap_or_default())
}

/// Loads a policy of these files, with the host sets of a workspace.
///
/// # Errors
/// When any file has a mistake; all mistakes are in the message.
pub(crate) fn load_all(sources: &[Source], workspace: &Path) -> anyhow::Result<Policy> {
    let gathered = gather(workspace, sources);
    let loaded = load(sources, &gathered.sets);
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
