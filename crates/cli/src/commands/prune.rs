//! `stockade prune`: removes the records of old sessions.

use std::time::Duration;

use jiff::tz::TimeZone;
use stockade_types::{ByteSize, Span};

use crate::{
    archive::Archive,
    commands::policy::effective,
    exit::Exit,
    human::{bytes, minute, plural},
    kept_caches,
    layers::LayerArgs,
    output::Output,
    retention::{self, Keep, Removed},
};

/// Sessions that are listed one by one; `--json` has all.
const SHOWN_MAX: usize = 20;

/// Remove the records of old sessions, and what old ones added to caches
///
/// `[sessions]` in your policy (`keep_for`, `keep_bytes`, `keep_count`) decides which records stay, by
/// default 90 days and 4 GiB; options override it. The additions of sessions to caches and toolchains
/// go as a whole for each workspace: if no session used them for that time, and the oldest first
/// beyond `filesystem.caches_bytes_max`, by default 16 GiB. Runs do the same by themselves, once an
/// hour at most. A running session is never removed. `pruned.jsonl` in the state directory lists what
/// was removed. The journals of ended sessions that stay are compressed in place.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade prune --dry-run\n  stockade prune --keep-for 7d --keep 100"
)]
pub(crate) struct Args {
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Keep sessions that ended within this time, for example 30d
    #[arg(long, value_name = "TIME")]
    keep_for: Option<Span>,
    /// Keep the newest sessions up to this size in all, for example 1GiB
    #[arg(long, value_name = "SIZE")]
    keep_bytes: Option<ByteSize>,
    /// Keep additions of sessions to caches up to this size in all, for example 1GiB
    #[arg(long, value_name = "SIZE")]
    keep_caches: Option<ByteSize>,
    /// Keep this number of the newest sessions
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// Print one JSON object a line for each removed session
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When a policy or the state cannot be used, or a record cannot be removed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let policy = effective(&LayerArgs::default())?;
    let set = Keep::from(policy.settings());
    let keep = Keep {
        span: args.keep_for.map_or(set.span, Span::duration),
        bytes: args.keep_bytes.map_or(set.bytes, ByteSize::bytes),
        count: args.keep.or(set.count),
        caches_bytes: args.keep_caches.map_or(set.caches_bytes, ByteSize::bytes),
    };
    let mut archive = match Archive::open_some(out)? {
        Ok(archive) => archive,
        Err(exit) => return Ok(exit),
    };
    let planned = retention::plan(&archive.state, keep)?;
    let (caches, stay) = kept_caches::plan(archive.state.path(), keep.span, keep.caches_bytes)?;
    let mut saved = 0;
    if !args.dry_run {
        kept_caches::remove(archive.state.path(), &caches)?;
        retention::remove(&archive.state, &mut archive.store, &planned)?;
        saved = retention::pack_ended(&archive.state, Duration::MAX)?;
    }
    if args.json {
        for removed in &planned {
            out.json(removed)?;
        }
        for removed in &caches {
            out.json(removed)?;
        }
        return Ok(Exit::Yes);
    }
    let verb = if args.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    tell(&planned, verb, out)?;
    if saved > 0 {
        out.line(format!("{} saved by compressing journals", bytes(saved)))?;
    }
    let left = retention::size(archive.state.path());
    out.line(format!(
        "{} of {} stay (kept for {}, {} at most)",
        plural(left.sessions, "record", "records"),
        bytes(left.bytes),
        days(keep.span),
        bytes(keep.bytes),
    ))?;
    tell_caches(&caches, verb, out)?;
    out.line(format!(
        "{} of what sessions added to caches stay ({} at most)",
        bytes(stay),
        bytes(keep.caches_bytes),
    ))?;
    Ok(Exit::Yes)
}

fn tell(planned: &[Removed], verb: &str, out: &mut Output) -> anyhow::Result<()> {
    let zone = TimeZone::system();
    for removed in planned.iter().take(SHOWN_MAX) {
        let ended = minute(removed.ended_unix_s.saturating_mul(1_000_000_000), &zone);
        let size = bytes(removed.bytes);
        out.line(format!(
            "{}  {ended}  {size:>8}  over its {}",
            removed.session, removed.over
        ))?;
    }
    let total = planned.iter().map(|removed| removed.bytes).sum();
    let count = u64::try_from(planned.len()).unwrap_or(u64::MAX);
    out.line(format!(
        "{} of {} {}",
        plural(count, "record", "records"),
        bytes(total),
        verb
    ))
}

fn tell_caches(
    planned: &[kept_caches::Removed],
    verb: &str,
    out: &mut Output,
) -> anyhow::Result<()> {
    for removed in planned {
        out.line(format!(
            "{} of caches of {} {}: over their {}",
            bytes(removed.bytes),
            removed.workspace.display(),
            verb,
            removed.over
        ))?;
    }
    Ok(())
}

fn days(span: Duration) -> String {
    let days = span.as_secs() / 86_400;
    if days > 0 {
        plural(days, "day", "days")
    } else {
        crate::human::span(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}
