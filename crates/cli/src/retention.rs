//! How long the records of ended sessions stay, and their removal.
//!
//! A removal is recorded first (`pruned.jsonl` in the state directory). Then the record is put
//! aside with one rename, removed from the index, and deleted. If this is interrupted, no record is
//! half there, and the next removal completes it. A session that may still run is not removed, nor
//! is one whose supervisor was killed and whose remains are not yet cleared.

use std::{
    cmp::Reverse,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use serde::Serialize;
use stockade_journal::{
    Packed,
    layout::{RUNNING_DIR, SESSIONS_DIR, is_live, session_dir},
    pack,
};
use stockade_policy::Settings;
use stockade_store::Store;
use stockade_types::SessionId;

use crate::{kept_caches, state::StateDir};

/// How long records stay if no policy sets it: a quarter, for questions about the last one.
const KEEP_FOR: Duration = Duration::from_hours(90 * 24);
/// Bytes of all records if no policy sets a limit.
const KEEP_BYTES: u64 = 4 << 30;
/// A session that began later may not have its lock yet.
const YOUNG: Duration = Duration::from_mins(1);
/// Time between two removals that runs make on their own.
const SELDOM: Duration = Duration::from_hours(1);
/// Time that the end of a run may spend compressing journals; the next run an hour later continues.
const PACKING: Duration = Duration::from_millis(200);
/// The place of records while they are deleted.
const ASIDE_DIR: &str = "removing";
/// The removed records, one per line; its time is when runs last checked.
const PRUNED_FILE: &str = "pruned.jsonl";

/// How long records stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Time since the end.
    pub(crate) span: Duration,
    /// Bytes of all records together.
    pub(crate) bytes: u64,
    /// Number of sessions.
    pub(crate) count: Option<u64>,
    /// Bytes of the sessions' additions to caches.
    pub(crate) caches_bytes: u64,
}

impl From<&Settings> for Keep {
    fn from(settings: &Settings) -> Self {
        let sessions = &settings.sessions;
        let span = sessions.keep_for.as_ref();
        let bytes = sessions.keep_bytes.as_ref();
        Self {
            span: span.map_or(KEEP_FOR, |set| set.value.duration()),
            bytes: bytes.map_or(KEEP_BYTES, |set| set.value.bytes()),
            count: sessions.keep_count.as_ref().map(|set| set.value),
            caches_bytes: kept_caches::bytes_max(settings),
        }
    }
}

/// An existing record.
#[derive(Clone, Debug)]
struct Record {
    session: SessionId,
    bytes: u64,
    /// When it was last written.
    written: SystemTime,
    /// Whether it may be removed at all.
    ended: bool,
}

/// A record that is to be removed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Removed {
    /// The session.
    pub(crate) session: SessionId,
    /// Bytes of its record.
    pub(crate) bytes: u64,
    /// `age`, `bytes` or `count`.
    pub(crate) over: &'static str,
    /// When its record was last written, seconds since the epoch.
    pub(crate) ended_unix_s: u64,
}

/// The size of all records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Sessions.
    pub(crate) sessions: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

/// Returns the size of the records below `state_dir`.
pub(crate) fn size(state_dir: &Path) -> Size {
    let records = records(state_dir).unwrap_or_default();
    records.iter().fold(Size::default(), |size, record| Size {
        sessions: size.sessions + 1,
        bytes: size.bytes + record.bytes,
    })
}

/// Returns the records to remove, the oldest first.
///
/// # Errors
/// When the folder of sessions cannot be read.
pub(crate) fn plan(state: &StateDir, keep: Keep) -> anyhow::Result<Vec<Removed>> {
    let mut records = records(state.path()).context("cannot read the folder of sessions")?;
    records.sort_by(|one, other| (other.written, &other.session).cmp(&(one.written, &one.session)));
    let now = SystemTime::now();
    let (mut bytes, mut count) = (0_u64, 0_u64);
    let mut gone = Vec::new();
    for record in records {
        bytes = bytes.saturating_add(record.bytes);
        count += 1;
        let age = now.duration_since(record.written).unwrap_or_default();
        let over = match () {
            () if age > keep.span => "age",
            () if bytes > keep.bytes => "bytes",
            () if keep.count.is_some_and(|most| count > most) => "count",
            () => continue,
        };
        if !record.ended {
            continue;
        }
        let ended = record.written.duration_since(SystemTime::UNIX_EPOCH);
        gone.push(Removed {
            session: record.session,
            bytes: record.bytes,
            over,
            ended_unix_s: ended.unwrap_or_default().as_secs(),
        });
    }
    gone.reverse();
    Ok(gone)
}

/// Removes these records, and the remains of an earlier removal.
///
/// # Errors
/// When one cannot be removed; those before it are already removed.
pub(crate) fn remove(
    state: &StateDir,
    store: &mut Store,
    planned: &[Removed],
) -> anyhow::Result<()> {
    let aside = state.path().join(ASIDE_DIR);
    match DirBuilder::new().mode(0o700).create(&aside) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make `{}`", aside.display()));
        }
        _ => {}
    }
    let mut list = list(state.path()).context("cannot write down what is removed")?;
    for removed in planned {
        let from = state.session_dir(&removed.session);
        // It can only be live now if its id was drawn twice; then it stays.
        if is_live(&from).unwrap_or(true) {
            continue;
        }
        let mut line = serde_json::to_vec(removed)?;
        line.push(b'\n');
        list.write_all(&line)
            .context("cannot write down what is removed")?;
        let to = aside.join(removed.session.as_str());
        fs::rename(&from, &to).with_context(|| format!("cannot remove `{}`", from.display()))?;
    }
    for entry in fs::read_dir(&aside)?.flatten() {
        let name = entry.file_name();
        if let Some(session) = name
            .to_str()
            .and_then(|name| name.parse::<SessionId>().ok())
        {
            store.forget(&session)?;
        }
        fs::remove_dir_all(entry.path())
            .with_context(|| format!("cannot remove `{}`", entry.path().display()))?;
    }
    Ok(())
}

/// Compresses the journals of ended sessions, the newest first, until `most` has passed; returns
/// how many bytes that saved. A journal that cannot be compressed does not change.
///
/// # Errors
/// When the folder of sessions cannot be read.
pub(crate) fn pack_ended(state: &StateDir, most: Duration) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let mut records = records(state.path()).context("cannot read the folder of sessions")?;
    records.sort_by_key(|record| Reverse(record.written));
    let mut saved = 0_u64;
    for record in records.into_iter().filter(|record| record.ended) {
        if begun.elapsed() >= most {
            break;
        }
        // A full disk has no room for the compressed file; the journal itself is still complete.
        if let Ok(Packed::Now { before, after }) = pack(&state.session_dir(&record.session)) {
            saved = saved.saturating_add(before.saturating_sub(after));
        }
    }
    Ok(saved)
}

/// Compresses journals and removes what exceeds `keep`, at the end of a run, at most once an hour.
///
/// # Errors
/// As [`plan`] and [`remove`].
pub(crate) fn remove_seldom(state: &StateDir, keep: Keep) -> anyhow::Result<()> {
    let looked = fs::metadata(state.path().join(PRUNED_FILE)).and_then(|meta| meta.modified());
    if looked.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < SELDOM)) {
        return Ok(());
    }
    list(state.path())?.set_modified(SystemTime::now())?;
    let (caches, _) = kept_caches::plan(state.path(), keep.span, keep.caches_bytes)?;
    kept_caches::remove(state.path(), &caches)?;
    pack_ended(state, PACKING)?;
    let planned = plan(state, keep)?;
    if planned.is_empty() {
        return Ok(());
    }
    remove(state, &mut Store::open(state.path())?, &planned)
}

fn list(state_dir: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(state_dir.join(PRUNED_FILE))
}

fn records(state_dir: &Path) -> io::Result<Vec<Record>> {
    let entries = match fs::read_dir(state_dir.join(SESSIONS_DIR)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let session = name
            .to_str()
            .and_then(|name| name.parse::<SessionId>().ok());
        // A link in the place of a session is not one of our records.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (Some(session), true) = (session, is_dir) {
            records.push(record(state_dir, session));
        }
    }
    Ok(records)
}

fn record(state_dir: &Path, session: SessionId) -> Record {
    let dir: PathBuf = session_dir(state_dir, &session);
    let files = fs::read_dir(&dir).into_iter().flatten().flatten();
    let files = files.filter_map(|file| file.metadata().ok());
    let start = (0_u64, SystemTime::UNIX_EPOCH);
    let (bytes, written) =
        files
            .filter(fs::Metadata::is_file)
            .fold(start, |(bytes, last), meta| {
                // Its size on the disk, which is more accurate for a sparse or small file.
                let own = meta.blocks().saturating_mul(512);
                (bytes + own, last.max(meta.modified().unwrap_or(last)))
            });
    let made = fs::metadata(&dir).and_then(|meta| meta.modified());
    let written = made.map_or(written, |made| written.max(made));
    let is_young = written.elapsed().map_or(true, |age| age < YOUNG);
    let is_noted = state_dir.join(RUNNING_DIR).join(session.as_str()).exists();
    let ended = !is_young && !is_noted && matches!(is_live(&dir), Ok(false));
    Record {
        session,
        bytes,
        written,
        ended,
    }
}
