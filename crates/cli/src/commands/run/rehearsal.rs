//! What of a run can be tried without one: for whoever asks whether sessions start here.

use std::path::Path;

use anyhow::Context as _;
use stockade_plan::{DEFAULT_TIER, Network, Streams};
use stockade_policy::{Policy, Problems};
use stockade_runner::{Options, RunError};
use stockade_types::AskMode;
use stockade_types::RawText;

use super::environment;
use crate::{
    host_sets,
    layers::{self, LayerArgs},
};

/// A program that every machine has.
const COMMAND: &str = "/bin/sh";
const NO_DIRECTORY: &str = "there is no current directory";

/// Loads the policy that a run in the current directory has.
///
/// # Errors
/// With the first reason why it does not load, in one line.
pub(crate) fn policy() -> anyhow::Result<Policy> {
    let args = LayerArgs {
        command: command(),
        ..LayerArgs::default()
    };
    let sources = layers::collect(&args)?;
    let current = std::env::current_dir().context(NO_DIRECTORY)?;
    let gathered = host_sets::gather(&current, &sources);
    let policy =
        stockade_policy::load(&sources, &gathered.sets).map_err(|problems| first(&problems))?;
    layers::check_places(&policy).map_err(|problems| first(&problems))?;
    Ok(policy)
}

/// Plans a run in the current directory, and does nothing else.
///
/// # Errors
/// With the reason why it would not start, in one line.
pub(crate) fn plan(policy: Policy, state_dir: &Path) -> anyhow::Result<()> {
    let args = LayerArgs {
        command: command(),
        ..LayerArgs::default()
    };
    let current = std::env::current_dir().context(NO_DIRECTORY)?;
    let options = Options {
        state_dir: state_dir.to_owned(),
        workspace: current.clone(),
        argv: command(),
        policy,
        policy_places: layers::places(&args, &current)?,
        cwd: current,
        tier: DEFAULT_TIER,
        ask: AskMode::Deny,
        network: Network::Proxied,
        terminal: None,
        streams: Streams::PIPES,
        name: None,
        require: Vec::new(),
        waive: Vec::new(),
        environment: environment(),
        fault: None,
        enrolment: None,
        version: env!("CARGO_PKG_VERSION"),
    };
    match stockade_runner::plan(options) {
        Ok(_) => Ok(()),
        Err(error) => Err(with_remedy(error)),
    }
}

fn command() -> Vec<RawText> {
    vec![COMMAND.into()]
}

fn first(problems: &Problems) -> anyhow::Error {
    let more = problems.0.len().saturating_sub(1);
    let first = problems.0.first().map(ToString::to_string);
    let first = first.unwrap_or_else(|| problems.to_string());
    match more {
        0 => anyhow::anyhow!(first),
        more => anyhow::anyhow!("{first} (and {more} more)"),
    }
}

fn with_remedy(error: RunError) -> anyhow::Error {
    let remedy = error.remedy();
    let error = anyhow::Error::from(error);
    match remedy {
        Some(remedy) => anyhow::anyhow!("{error:#}; {remedy}"),
        None => error,
    }
}
