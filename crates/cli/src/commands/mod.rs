//! The commands, one file or folder each.

pub(crate) mod approvals;
mod bench;
mod complete;
mod completions;
mod doctor;
mod enrol;
mod events;
mod log;
mod login;
mod man;
mod node;
mod policy;
mod prune;
mod reference;
mod replay;
mod rules;
pub(crate) mod run;
mod serve;
mod sessions;
mod show;
mod state;
mod stats;

use clap::{Parser, Subcommand};

use crate::{exit::Exit, output::Output};

/// Runs any coding agent inside a boundary: a sandbox it cannot leave, a network it cannot talk
/// around, approvals where they matter, and a record that can be proved.
#[derive(Debug, Parser)]
#[command(
    name = "stockade",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command inside the boundary
    Run(Box<run::Args>),
    /// See and answer open questions
    Approvals(approvals::Args),
    /// List sessions
    Sessions(sessions::Args),
    /// Read one session as a timeline
    Show(show::Args),
    /// Play one session in its own time
    Replay(replay::Args),
    /// Say what sessions came to: questions, refusals, tools, models and cost
    Stats(stats::Args),
    /// Print or follow events
    Events(events::Args),
    /// Check the record
    Log(log::Args),
    /// Check, test, show and explain policies
    Policy(policy::Args),
    /// List the answers that are kept for later sessions, and take them back
    Rules(rules::Args),
    /// Serve an organisation: keep the journals of its machines, ask its people, say its policy
    Serve(serve::Args),
    /// Remove the records of old sessions
    Prune(prune::Args),
    /// See and reset what agents keep between their sessions
    State(state::Args),
    /// Make this machine one of an organisation
    Enrol(enrol::Args),
    /// Sign in at the server of an organisation, to answer questions from this terminal
    Login(login::Args),
    /// Sign out of it
    Logout(login::OutArgs),
    /// The agent of a machine that belongs to an organisation
    Node(node::Args),
    /// Say what works here, what is missing, and the one step that fixes each
    Doctor(doctor::Args),
    /// Print shell completions
    Completions(completions::Args),
    /// Print the manual page, or the page of one command
    Man(man::Args),
    /// Generated reference (for the repository's own documents)
    #[command(name = "__reference", hide = true)]
    Reference(reference::Args),
    /// Candidates for completions of shells
    #[command(name = "__complete", hide = true)]
    Complete(complete::Args),
    /// Measurements (for the repository's own benchmarks)
    #[command(name = "__bench", hide = true)]
    Bench(bench::Args),
}

/// Copies a command without its hidden parts, because not every generator of documents and
/// completions omits them.
fn visible(command: &clap::Command) -> clap::Command {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let below = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set());
    let mut copy = clap::Command::new(command.get_name().to_owned())
        .args(args.cloned())
        .subcommands(below.map(visible))
        .subcommand_required(command.is_subcommand_required_set())
        .arg_required_else_help(command.is_arg_required_else_help_set());
    if let Some(version) = command.get_version() {
        copy = copy.version(version.to_owned());
    }
    if let Some(about) = command.get_about() {
        copy = copy.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        copy = copy.long_about(about.clone());
    }
    if let Some(help) = command.get_after_help() {
        copy = copy.after_help(help.clone());
    }
    copy
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self, out: &mut Output) -> anyhow::Result<Exit> {
        match self.command {
            Command::Run(args) => Ok(run::run(*args, out)),
            Command::Approvals(args) => approvals::run(args, out),
            Command::Sessions(args) => sessions::run(args, out),
            Command::Show(args) => show::run(args, out),
            Command::Replay(args) => replay::run(args, out),
            Command::Stats(args) => stats::run(args, out),
            Command::Events(args) => events::run(args, out),
            Command::Log(args) => log::run(args, out),
            Command::Policy(args) => policy::run(args, out),
            Command::Rules(args) => rules::run(&args, out),
            Command::Serve(args) => serve::run(args, out),
            Command::Prune(args) => prune::run(args, out),
            Command::State(args) => state::run(args, out),
            Command::Enrol(args) => enrol::run(args, out),
            Command::Login(args) => login::run(args, out),
            Command::Logout(args) => login::out(args, out),
            Command::Node(args) => node::run(args, out),
            Command::Doctor(args) => doctor::run(&args, out),
            Command::Completions(args) => completions::run(&args, out),
            Command::Man(args) => man::run(&args, out),
            Command::Reference(args) => reference::run(&args, out),
            Command::Complete(args) => complete::run(args, out),
            Command::Bench(args) => bench::run(&args, out),
        }
    }
}
