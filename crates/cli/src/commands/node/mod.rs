//! `stockade node`: the agent of a machine that belongs to an organisation.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;
use stockade_node::{AgentError, Facts, Link, Note, Options, Status};
use stockade_runner::doctor::{State, examine, works};
use stockade_types::Tier;

pub(super) mod background;

use crate::{
    exit::Exit,
    human::{bytes, safe},
    output::Output,
    state::StateDir,
};

/// The agent of this machine, which belongs to an organisation.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade node run\n  stockade node status --json\n  stockade node flush\n  stockade node stop\n  stockade node leave"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep this machine connected to the server, until it is ended
    ///
    /// Sends the journals of this user's sessions from the enrolment on, keeps the server's receipts
    /// beside them, and ends sessions when the server orders it. Without a connection everything goes on,
    /// and what was recorded meanwhile is sent later.
    Run {
        /// Outlive the terminal
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// End the agent of this machine
    ///
    /// What sessions record from then on is sent when one runs again.
    Stop,
    /// Say whether this machine is connected, and what the server does not hold yet
    ///
    /// Exit codes: 0 connected, 1 not, 3 not enrolled
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Send what the server does not hold yet, and wait until it holds all
    ///
    /// For the end of a job, after which the machine is gone. If an agent runs, it sends, and this waits for
    /// it. Exit codes: 0 the server holds every journal, 1 it does not in time, 3 not enrolled
    Flush {
        /// How long to wait at most
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// Leave the organisation, and remove what this machine knows of it
    ///
    /// Journals and receipts stay. If the server cannot be told, an administrator has to retire the
    /// machine there.
    Leave,
}

/// Runs the command.
///
/// # Errors
/// When the machine is not enrolled, or a file cannot be used.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        Command::Run { detached } => agent(detached, out),
        Command::Stop => stop(out),
        Command::Status { json } => status(json, out),
        Command::Flush { seconds } => flush(seconds, out),
        Command::Leave => leave(out),
    }
}

fn stop(out: &mut Output) -> anyhow::Result<Exit> {
    let state = StateDir::open()?;
    let was = stockade_node::stop(state.path())?;
    out.note(if was {
        "stockade: the agent has ended; what is recorded from now on is sent when one runs again"
    } else {
        "stockade: no agent runs"
    });
    Ok(Exit::Yes)
}

fn agent(is_detached: bool, out: &mut Output) -> anyhow::Result<Exit> {
    if is_detached {
        rustix::process::setsid().context("cannot leave the terminal")?;
    }
    let state = StateDir::open()?;
    let options = Options {
        state: state.path().to_owned(),
        facts: facts(state.path()),
        tell: Arc::new(|note| Output::detect().note(safe(&in_words(note)))),
    };
    stockade_node::run(options)?;
    out.note("stockade: the agent has ended; what is recorded from now on is sent later");
    Ok(Exit::Yes)
}

fn flush(seconds: u64, out: &mut Output) -> anyhow::Result<Exit> {
    let state = StateDir::open()?;
    let options = Options {
        state: state.path().to_owned(),
        facts: facts(state.path()),
        tell: Arc::new(|note| Output::detect().note(safe(&in_words(note)))),
    };
    let open = match stockade_node::flush(options, Duration::from_secs(seconds)) {
        Err(AgentError::NotEnrolled) => {
            out.note("stockade: this machine belongs to no organisation");
            return Ok(Exit::CannotTell);
        }
        open => open?,
    };
    if open == 0 {
        out.line("the server holds every journal")?;
        return Ok(Exit::Yes);
    }
    out.line(format_args!(
        "the server does not hold {} after {seconds} s; they stay in the state directory",
        bytes(open)
    ))?;
    Ok(Exit::No)
}

fn in_words(note: &Note) -> String {
    match note {
        Note::Connected { url, name } => format!("stockade: `{name}` is connected to {url}"),
        Note::Lost { why, again } => {
            let seconds = again.as_secs_f32();
            format!("stockade: no connection: {why}; trying again in {seconds:.1} s")
        }
        Note::Stopped { session, why } => {
            format!("stockade: the journal of {session} is not sent any more: {why}")
        }
        Note::Ordered { session, by } => {
            format!("stockade: session {session} was ended by order of {by}")
        }
        Note::Bundle { channel, serial } => {
            format!("stockade: policy {serial} of `{channel}` is here; sessions from now on use it")
        }
        Note::Refused { what, why } => {
            format!("stockade: {what} of the server is not taken: {why}")
        }
    }
}

fn status(json: bool, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(json);
    let state = StateDir::open()?;
    let Some(status) = stockade_node::status(state.path())? else {
        out.note(
            "stockade: this machine belongs to no organisation; `stockade enrol TOKEN` enrols it",
        );
        return Ok(Exit::CannotTell);
    };
    out.value(&status, text)?;
    let is_connected = status.running && matches!(status.link, Link::Connected { .. });
    Ok(if is_connected { Exit::Yes } else { Exit::No })
}

fn text(status: &Status) -> String {
    let mut lines = vec![format!(
        "{} ({}) of {}, at {}",
        safe(&status.name),
        status.node,
        safe(&status.org),
        safe(&status.url)
    )];
    lines.push(match (&status.link, status.running) {
        (_, false) => "no agent runs; start one with `stockade node run`".to_owned(),
        (Link::Starting, true) => "connecting".to_owned(),
        (Link::Connected { .. }, true) => "connected".to_owned(),
        (Link::Lost { why, .. }, true) => format!("not connected: {}", safe(why)),
    });
    lines.push(match status.unshipped_bytes {
        0 => "the server holds every journal".to_owned(),
        unshipped => format!("the server does not hold {} yet", bytes(unshipped)),
    });
    for stopped in &status.stopped {
        let why = safe(&stopped.why);
        lines.push(format!("{} is not sent any more: {why}", stopped.session));
    }
    lines.join("\n")
}

fn leave(out: &mut Output) -> anyhow::Result<Exit> {
    let state = StateDir::open()?;
    let not_told = stockade_node::leave(state.path()).context("cannot leave")?;
    out.line("this machine belongs to no organisation any more")?;
    if let Some(why) = not_told {
        out.note(format_args!(
            "stockade: the server was not told: {}; an administrator has to retire the machine there",
            safe(&why)
        ));
    }
    Ok(Exit::Yes)
}

/// Returns what this machine says about itself to a server.
pub(in crate::commands) fn facts(state: &Path) -> Facts {
    let checks = examine(Some(state));
    let missing = checks.iter().filter(|check| check.state != State::Ready);
    let uname = rustix::system::uname();
    Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        tiers: Tier::ALL
            .into_iter()
            .filter(|tier| works(*tier, &checks))
            .map(|tier| tier.to_string())
            .collect(),
        guarantees_missing: missing.map(|check| check.name.to_owned()).collect(),
    }
}
