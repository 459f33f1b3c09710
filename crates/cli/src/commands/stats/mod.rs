//! `stockade stats`: what many sessions came to.

#![deny(clippy::wildcard_enum_match_arm)]

mod prices;
mod tables;

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_event::stats::Stats;
use stockade_types::Span;

use self::{
    prices::Prices,
    tables::{Bill, render},
};
use crate::{archive::Archive, exit::Exit, output::Output, own_places};

/// The owner's prices, beside the policy of the user.
const PRICES_FILE: &str = "prices.toml";

/// Say what sessions came to: questions, refusals, hosts, tools, models and their cost.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Tokens are those that the services say; tools and models are what agents say. Costs are \
    list prices; prices.toml beside your policy, or --prices, puts yours in front of them.\n\n\
    Examples:\n  stockade stats\n  stockade stats --since 7d\n  stockade stats --since 24h --json"
)]
pub(crate) struct Args {
    /// Only sessions that began within this span before now (`7d`, `12h`)
    #[arg(long, value_name = "SPAN")]
    since: Option<Span>,
    /// Only sessions that worked on this directory, or on one below it
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Prices of models, in front of those that are known
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was asked for, in every form in which it is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// Sessions that began from then on, nanoseconds since the epoch; all without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_unix_ns: Option<u64>,
    #[serde(flatten)]
    stats: Stats,
    median_answer_ms: Option<u64>,
    bill: Bill,
    /// Sessions whose record is gone, or cannot be read in full.
    incomplete: u64,
}

/// Runs the command.
///
/// # Errors
/// When the state, its index or the table of prices cannot be used.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let own = own_prices(&args);
    let prices = Prices::load(own.as_deref())?;
    let since = args.since.map(|span| {
        let span = u64::try_from(span.duration().as_nanos()).unwrap_or(u64::MAX);
        now_ns().saturating_sub(span)
    });
    let report = read(&args, since, &prices, out)?;
    if args.json {
        out.json(&report)?;
    } else if report.stats.sessions == 0 && report.incomplete == 0 {
        out.note(match (args.since, &args.workspace) {
            (None, None) => "stockade: no sessions yet; `stockade run -- CMD` makes one",
            (Some(_), _) => "stockade: no session began since then; try a longer --since",
            (None, Some(_)) => "stockade: no session worked there",
        });
    } else {
        let lines = render(&report, &prices.as_of, &TimeZone::system(), out.columns());
        out.line(lines.join("\n"))?;
    }
    if report.incomplete > 0 {
        out.note(format_args!(
            "stockade: {} sessions are not or not all in these numbers, because their records are gone or \
             cannot be read; `stockade sessions` names them",
            report.incomplete
        ));
        return Ok(Exit::CannotTell);
    }
    Ok(Exit::Yes)
}

fn read(
    args: &Args,
    since_unix_ns: Option<u64>,
    prices: &Prices,
    out: &mut Output,
) -> anyhow::Result<Report> {
    let mut stats = Stats::default();
    let mut incomplete = 0;
    if let Some(mut archive) = Archive::open(out)? {
        let mut rows = archive.store.sessions()?;
        if let Some(directory) = &args.workspace {
            super::sessions::keep_below(&mut rows, directory)?;
        }
        rows.retain(|row| {
            let started = row.started_unix_ns.unwrap_or(0);
            since_unix_ns.is_none_or(|since| started >= since)
        });
        let all = archive.store.stats()?;
        for row in rows {
            let known = all.get(&row.id);
            if let Some(known) = known {
                stats.merge(known);
            }
            incomplete += u64::from(row.unindexed || row.unreadable > 0 || known.is_none());
        }
    }
    Ok(Report {
        since_unix_ns,
        median_answer_ms: stats.median_answer_ms(),
        bill: Bill::of(&stats, prices),
        stats,
        incomplete,
    })
}

/// Returns the owner's table, if there is one.
fn own_prices(args: &Args) -> Option<PathBuf> {
    let beside = || {
        let (policy, _) = own_places::user_file().ok()?;
        let file = policy.with_file_name(PRICES_FILE);
        std::fs::symlink_metadata(&file).is_ok().then_some(file)
    };
    args.prices.clone().or_else(beside)
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
