//! `stockade doctor`: what works here, as this user, what is missing, and what would fix it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Serialize;
use stockade_plan::DEFAULT_TIER;
use stockade_runner::doctor::{Check, State, examine, works};
use stockade_types::Tier;

use super::run::rehearsal;

use crate::{
    exit::Exit,
    human::{bytes, plural, safe, wrapped},
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

/// Name of the check of the state directory.
const RECORD: &str = "record";
/// Column at which what was found begins.
const INDENT: usize = 22;

#[derive(Serialize)]
struct Report {
    /// Which tiers work here.
    #[serde(flatten)]
    tiers: BTreeMap<Tier, bool>,
    checks: Vec<Check>,
}

/// Examines this machine.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let place = state::location();
    let no_place = place.as_ref().err().map(ToString::to_string);
    let state_dir: Option<PathBuf> = place.ok();
    let mut checks = examine(state_dir.as_deref());
    if let Some(why) = no_place {
        for check in checks.iter_mut().filter(|check| check.name == RECORD) {
            check.found = safe(&why);
        }
    }
    let tries = rehearsed(state_dir.as_deref(), &checks);
    checks.extend(tries);
    let tiers = Tier::ALL.map(|tier| (tier, works(tier, &checks)));
    let exit = if works(DEFAULT_TIER, &checks) {
        Exit::Yes
    } else {
        Exit::No
    };
    let report = Report {
        tiers: tiers.into(),
        checks,
    };
    if args.json {
        out.json(&report)?;
        return Ok(exit);
    }
    for (tier, works) in &report.tiers {
        let verdict = if *works { "ready" } else { "not ready" };
        let uid = rustix::process::geteuid().as_raw();
        out.line(format!("{tier:<12} {verdict}, as uid {uid}"))?;
    }
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
    let width = out.columns();
    for check in &report.checks {
        let mark = match check.state {
            State::Ready => "ready",
            State::Weaker => "weaker",
            State::Missing => "missing",
        };
        let found = wrapped(&check.found, INDENT, width);
        out.line(format!("{:<12} {mark:<8} {found}", check.name))?;
        if let Some(remedy) = &check.remedy {
            let remedy = wrapped(&format!("→ {remedy}"), INDENT + 2, width);
            out.line(format!("{:<12} {:<8} {remedy}", "", ""))?;
        }
    }
    Ok(exit)
}

/// Tries of a run what can be tried without one: its policy, and the current directory.
fn rehearsed(state_dir: Option<&Path>, checks: &[Check]) -> Vec<Check> {
    let check = |name, required, state, found: String, remedy: Option<&str>| Check {
        name,
        state,
        part: None,
        required,
        found,
        remedy: remedy.map(str::to_owned),
    };
    let policy = match rehearsal::policy() {
        Ok(policy) => policy,
        Err(error) => {
            let found = safe(&format!("{error:#}"));
            let remedy = Some("`stockade policy check` says more");
            return vec![check("policy", true, State::Missing, found, remedy)];
        }
    };
    let rules = u64::try_from(policy.rules().len()).unwrap_or(u64::MAX);
    let rules = plural(rules, "rule", "rules");
    let mut tries = vec![check("policy", true, State::Ready, rules, None)];
    // What is missing for any run is said already.
    if let Some(state_dir) = state_dir.filter(|_| works(DEFAULT_TIER, checks)) {
        tries.push(match rehearsal::plan(policy, state_dir) {
            Ok(()) => {
                let found = "sessions can work on the current directory".to_owned();
                check("here", false, State::Ready, found, None)
            }
            Err(error) => {
                let found = format!("no session starts here: {error:#}");
                check("here", false, State::Missing, safe(&found), None)
            }
        });
    }
    tries
}
