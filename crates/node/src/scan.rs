//! The sessions of this user, and how far their journals are.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use stockade_api::Receipt;
use stockade_journal::{
    journal_bytes,
    layout::{SESSIONS_DIR, is_live, session_dir},
    read,
};
use stockade_trust::Keys;
use stockade_types::{SessionId, UnixMillis};

use crate::{receipts, shipping::Here};

/// After this a directory that changes again has another time of change.
const SETTLED: Duration = Duration::from_secs(2);
/// Nanoseconds of a millisecond.
const NS_PER_MS: u64 = 1_000_000;

/// What a scan has found out about a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) session: SessionId,
    pub(crate) here: Here,
    /// The bytes for which there is a receipt.
    pub(crate) held: u64,
}

/// Looks at the sessions again and again.
pub(crate) struct Scanner {
    state: PathBuf,
    /// Sessions that started before are not for the server.
    since: UnixMillis,
    /// Who signs receipts.
    servers: Keys,
    sessions: BTreeMap<SessionId, Known>,
    /// When the directory of sessions was last changed, as last seen.
    changed: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// There is no event yet.
    New,
    /// It started too early.
    Earlier,
    /// It may grow.
    Open(Here),
    /// It has ended.
    Ended,
}

impl Scanner {
    pub(crate) fn new(state: &Path, since: UnixMillis, servers: Keys) -> Self {
        Self {
            state: state.to_owned(),
            since,
            servers,
            sessions: BTreeMap::new(),
            changed: None,
        }
    }

    /// Returns the journals that are new, or have grown or ended since the last call.
    pub(crate) fn scan(&mut self) -> Vec<Found> {
        self.list();
        let open = |known: &Known| matches!(known, Known::New | Known::Open(_));
        let sessions = self.sessions.iter().filter(|(_, known)| open(known));
        let sessions: Vec<(SessionId, Known)> = sessions
            .map(|(session, known)| (session.clone(), *known))
            .collect();
        let looked = sessions.into_iter();
        looked
            .filter_map(|(session, known)| self.look(&session, known))
            .collect()
    }

    /// Looks at a journal as if it had never been seen.
    pub(crate) fn again(&mut self, session: &SessionId) -> Option<Found> {
        self.look(session, Known::New)
    }

    fn list(&mut self) {
        let dir = self.state.join(SESSIONS_DIR);
        let changed = fs::metadata(&dir).and_then(|found| found.modified()).ok();
        let Some(changed) = changed else {
            return;
        };
        // Within one tick of the clock of the file system, a second change has the same time.
        let is_settled = changed.elapsed().is_ok_and(|age| age > SETTLED);
        if is_settled && self.changed == Some(changed) {
            return;
        }
        let Ok(entries) = fs::read_dir(&dir) else {
            return;
        };
        let mut there: BTreeMap<SessionId, Known> = BTreeMap::new();
        for entry in entries.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(id) = id {
                let known = self.sessions.get(&id).copied().unwrap_or(Known::New);
                there.insert(id, known);
            }
        }
        self.sessions = there;
        self.changed = Some(changed);
    }

    fn look(&mut self, session: &SessionId, known: Known) -> Option<Found> {
        let dir = session_dir(&self.state, session);
        // Asked first: what is written until then belongs to its end.
        let is_live = is_live(&dir).unwrap_or(true);
        let bytes = journal_bytes(&dir).ok();
        let started = match known {
            Known::Open(before) => Some(before.started),
            Known::New | Known::Earlier | Known::Ended => started(&dir),
        };
        let Some(started) = started else {
            self.sessions.insert(session.clone(), Known::New);
            return None;
        };
        if started < self.since.0 {
            self.sessions.insert(session.clone(), Known::Earlier);
            return None;
        }
        let here = Here {
            bytes: bytes?,
            is_live,
            started,
        };
        let next = if is_live {
            Known::Open(here)
        } else {
            Known::Ended
        };
        self.sessions.insert(session.clone(), next);
        if known == Known::Open(here) {
            return None;
        }
        let held = match known {
            Known::Open(_) => 0,
            Known::New | Known::Earlier | Known::Ended => self.held(session, &dir),
        };
        Some(Found {
            session: session.clone(),
            here,
            held,
        })
    }

    /// Returns for how many bytes there is a receipt; whatever is wrong with it, the server says itself
    /// what it holds.
    fn held(&self, session: &SessionId, dir: &Path) -> u64 {
        let envelope = receipts::last(dir).ok().flatten();
        let receipt = envelope.and_then(|one| one.open::<Receipt>(&self.servers).ok());
        let receipt = receipt.filter(|receipt| receipt.session == *session);
        receipt.map_or(0, |receipt| receipt.offset)
    }
}

/// Returns when a session started, in milliseconds since the epoch, by its first event.
fn started(dir: &Path) -> Option<u64> {
    let first = read(dir).ok()?.next()?.ok()?;
    Some(first.time_unix_ns / NS_PER_MS)
}
