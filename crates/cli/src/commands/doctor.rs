//! `stockade doctor`: what works here, as this user, what is missing, and what would fix it.

use std::path::PathBuf;

use serde::Serialize;
use stockade_runner::doctor::{Check, State, examine};

use crate::{
    exit::Exit,
    human::{bytes, plural},
    output::Output,
    retention, state,
};

/// Arguments of `stockade doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0: the native tier works here; 1: it does not.")]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    native: bool,
    checks: Vec<Check>,
}

/// Examines this machine.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let state_dir: Option<PathBuf> = state::location().ok();
    let checks = examine(state_dir.as_deref());
    let native = checks
        .iter()
        .all(|check| !check.required || check.state != State::Missing);
    let exit = if native { Exit::Yes } else { Exit::No };
    let report = Report { native, checks };
    if args.json {
        out.json(&report)?;
        return Ok(exit);
    }
    let verdict = if native { "ready" } else { "not ready" };
    out.line(format!(
        "{:<12} {verdict}, as uid {}",
        "native",
        rustix::process::geteuid().as_raw()
    ))?;
    if let Some(size) = state_dir
        .as_deref()
        .map(retention::size)
        .filter(|size| size.sessions > 0)
    {
        out.line(format!(
            "{:<12} {:<8} {} of {}; `stockade prune` removes old ones",
            "sessions",
            "",
            plural(size.sessions, "record", "records"),
            bytes(size.bytes),
        ))?;
    }
    for check in &report.checks {
        let mark = match check.state {
            State::Ready => "ready",
            State::Weaker => "weaker",
            State::Missing => "missing",
        };
        out.line(format!("{:<12} {mark:<8} {}", check.name, check.found))?;
        if let Some(remedy) = &check.remedy {
            out.line(format!("{:<12} {:<8} → {remedy}", "", ""))?;
        }
    }
    Ok(exit)
}
