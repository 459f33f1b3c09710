//! `kill -9` of server and agent.

use std::path::Path;

use stockade_testkit::fleet::kill_at_random;

use crate::{
    figures::{Report, float},
    scenarios::Options,
};

/// Kills server and agent at random times.
pub(crate) fn kill(program: &Path, options: &Options) -> Report {
    let what = format!(
        "{} rounds of `kill -9` of server and agent at random times",
        options.rounds
    );
    let mut report = Report::new("kill", what);
    let seed = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    eprintln!("load: seed {seed}");
    // It panics where an event is missing, a receipt is for bytes that are not there, or verdicts differ.
    let kills = kill_at_random(program, options.rounds, seed);
    report.told("kills of the server", kills.servers.into(), "");
    report.told("kills of the agent", kills.agents.into(), "");
    report.told("receipts compared with the disk", kills.receipts.into(), "");
    report.told("events", float(kills.events), "");
    report
}
