//! What a killed supervisor left in the spool.

use std::{collections::HashSet, io, io::Read as _, path::Path};

use stockade_event::{Envelope, Event, SCHEMA_VERSION, spool};
use stockade_types::{DecisionId, SessionId};

use crate::{
    format::open_plain,
    layout::{HEAD_FILE, SPOOL_FILE, is_live},
};

/// Most bytes of a spool that are read; the egress process cannot write more.
pub const SPOOL_BYTES_MAX: u64 = 64 << 20;

/// Returns the decisions of the session in `dir` that took effect and that its journal does not have,
/// in their order: none while its supervisor runs, and none once the journal is closed. `journaled`
/// reads which ones the journal has.
///
/// # Errors
/// When a file cannot be read, or what is in the spool is not of this version.
pub(crate) fn left(
    dir: &Path,
    journaled: impl FnOnce() -> io::Result<HashSet<DecisionId>>,
) -> io::Result<Vec<Event>> {
    let mut spool = match open_plain(dir, SPOOL_FILE) {
        Ok(file) if file.metadata()?.len() > 0 => file.take(SPOOL_BYTES_MAX),
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if is_live(dir)? || open_plain(dir, HEAD_FILE).is_ok() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    spool.read_to_end(&mut bytes)?;
    let (events, _) = spool::entries(&bytes).map_err(io::Error::other)?;
    let journaled = journaled()?;
    let is_left = |event: &Event| {
        let decision = event.decision().map(|record| record.decision);
        decision.is_none_or(|decision| !journaled.contains(&decision))
    };
    Ok(events.into_iter().filter(is_left).collect())
}

/// Gives an event of the spool the fields that a journaled one has; nothing vouches for them.
pub(crate) fn envelope(event: Event, session: SessionId, seq: u64) -> Envelope {
    let time = event.decision().map_or(0, |record| record.time.0);
    Envelope {
        v: SCHEMA_VERSION,
        session,
        seq,
        time_unix_ns: time.saturating_mul(1_000_000),
        mono_ns: 0,
        source: "egress".to_owned(),
        process: None,
        scope: None,
        cause: None,
        truncated: Vec::new(),
        event,
    }
}
