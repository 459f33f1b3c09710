//! What of the journals is sent next. Sizes and answers in, one batch at a time out; no IO and no clock.
//!
//! The journal is the only queue: a batch is named by its place in it, and a place moves only when the
//! server has said that it holds the bytes before it. So nothing is lost or sent into a gap, whoever is
//! killed, and what is sent twice is the same bytes in the same place.

use std::collections::BTreeMap;

use stockade_api::{
    limits::{PACE_MS_MAX, PACE_MS_MIN},
    node::Backlog,
};
use stockade_types::{SessionId, UnixMillis};

/// Most bytes of a batch, unpacked; the server takes no more at once.
pub const BATCH_BYTES_MAX: u64 = 4 << 20;
/// Batches that wait for their answers at the same time.
const FLYING_MAX: usize = 2;
/// Of these, batches of sessions that have ended: a backlog never keeps a running session waiting.
const FLYING_ENDED_MAX: usize = 1;
/// Bytes that are enough for a batch before that time.
const PACE_BYTES: u64 = 256 << 10;
/// How long after a batch whose answer is not known the same one is sent again, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// Longest wait that a server can ask for, in milliseconds.
const BUSY_MS_MAX: u64 = 60_000;
/// Journals that are sent in one run of the agent; further ones come once these are done.
pub const JOURNALS_MAX: usize = 4_096;

/// The journals that the server does not hold yet.
#[derive(Debug)]
pub struct Shipping {
    journals: BTreeMap<SessionId, Journal>,
    /// Until when the server wants no batch, in milliseconds.
    busy_until: u64,
    /// How long a running session collects lines before the next batch, in milliseconds.
    pace_ms: u64,
}

impl Default for Shipping {
    fn default() -> Self {
        Self {
            journals: BTreeMap::new(),
            busy_until: 0,
            pace_ms: PACE_MS_MIN,
        }
    }
}

/// One journal of this machine.
#[derive(Debug)]
struct Journal {
    /// Its bytes here, as last seen.
    bytes: u64,
    /// Whether its session runs.
    is_live: bool,
    /// When its session started, in milliseconds since the epoch: the oldest is sent first.
    started: u64,
    /// The bytes that the server holds, by its own words.
    held: u64,
    /// The bytes for which there is a receipt. Fewer than it holds if a receipt was lost on its way.
    receipted: u64,
    /// When its last batch was sent, in milliseconds.
    sent: u64,
    /// When its next batch may be sent at the earliest, in milliseconds.
    not_before: u64,
    /// Since when the server lacks a byte of it, as last looked at, in milliseconds.
    behind_since: Option<u64>,
    is_flying: bool,
    /// The size at which no line was whole after what the server holds.
    torn: Option<u64>,
    /// Why no more of it is sent.
    stopped: Option<Stopped>,
}

/// Why a journal is not sent any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The server found it changed.
    #[error("the server refused it: {0}")]
    Refused(String),
    /// There is less of it than the server holds.
    #[error("the server holds {held} bytes of it, and only {here} are here")]
    Shortened {
        /// What the server holds.
        held: u64,
        /// What is here.
        here: u64,
    },
}

/// What is known of a journal here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here {
    /// Its bytes.
    pub bytes: u64,
    /// Whether its session runs.
    pub is_live: bool,
    /// When the session started, in milliseconds since the epoch.
    pub started: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read whole lines of the journal from a byte on, at most [`BATCH_BYTES_MAX`], and send them. If
    /// there are none and `lacks_receipt`, send no byte: the answer is the receipt that was lost.
    Send {
        /// Its session.
        session: SessionId,
        /// The first byte.
        from: u64,
        /// Whether the server holds more than there is a receipt for.
        lacks_receipt: bool,
    },
    /// Nothing before this time, in milliseconds.
    At(u64),
    /// Nothing until something is new.
    Idle,
}

/// What came of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The server holds the journal up to this byte.
    Held(u64),
    /// It wants the bytes from another place on.
    Expected(u64),
    /// It does not take what was sent.
    Refused(String),
    /// It takes nothing for this many milliseconds.
    Busy(u64),
    /// No answer came: it is not known whether the server holds the bytes.
    Unknown,
    /// Nothing was sent: no line had an end yet.
    Nothing,
}

impl Shipping {
    /// Takes in a journal, or what has become of it. `held` is what the server holds by the last
    /// receipt, and counts only for a journal that is new here. Returns whether there is room for it.
    pub fn found(&mut self, session: &SessionId, here: Here, held: u64) -> bool {
        if let Some(journal) = self.journals.get_mut(session) {
            journal.bytes = here.bytes;
            journal.is_live = here.is_live;
            journal.compare();
            self.forget_if_done(session);
            return true;
        }
        if here.bytes == held && !here.is_live {
            return true;
        }
        if self.journals.len() >= JOURNALS_MAX {
            return false;
        }
        let mut journal = Journal {
            bytes: here.bytes,
            is_live: here.is_live,
            started: here.started,
            held,
            receipted: held,
            sent: 0,
            not_before: 0,
            behind_since: None,
            is_flying: false,
            torn: None,
            stopped: None,
        };
        journal.compare();
        self.journals.insert(session.clone(), journal);
        true
    }

    /// Takes in that the server wants a journal from another place on. It says so when a connection
    /// begins, or when it has lost what it held.
    pub fn expected(&mut self, session: &SessionId, bytes: u64) {
        if let Some(journal) = self.journals.get_mut(session) {
            journal.held = bytes;
            // A refusal was about what the server held then.
            journal.stopped = None;
            journal.compare();
            self.forget_if_done(session);
        }
    }

    /// Takes in how long the server wants running sessions to collect lines, in milliseconds: a server with
    /// many machines wants fewer and larger batches. It counts within bounds.
    pub fn pace(&mut self, ms: u64) {
        self.pace_ms = ms.clamp(PACE_MS_MIN, PACE_MS_MAX);
    }

    /// Returns what the server does not hold yet at `now`, in milliseconds. Since when is known as exactly as
    /// this is asked often.
    pub fn backlog(&mut self, now: u64) -> Backlog {
        for journal in self.journals.values_mut() {
            let is_behind = journal.held < journal.bytes && journal.torn != Some(journal.bytes);
            journal.behind_since = is_behind.then(|| journal.behind_since.unwrap_or(now));
        }
        let oldest = self.journals.values().filter_map(|one| one.behind_since);
        Backlog {
            oldest: oldest.min().map(UnixMillis),
            bytes: self.unshipped_bytes(),
        }
    }

    /// Takes in that the connection is gone: no answer comes to any batch.
    pub fn disconnected(&mut self) {
        for journal in self.journals.values_mut() {
            journal.is_flying = false;
            journal.not_before = 0;
        }
        self.busy_until = 0;
    }

    /// Returns what to do at `now`, in milliseconds; what is to be sent counts as sent.
    pub fn next(&mut self, now: u64) -> Next {
        let flying = self.journals.values().filter(|one| one.is_flying);
        let (all, ended) = flying.fold((0, 0), |(all, ended), one| {
            (all + 1, ended + usize::from(!one.is_live))
        });
        if all >= FLYING_MAX {
            return Next::Idle;
        }
        let candidates = self.journals.iter();
        let candidates = candidates
            .filter(|(_, one)| one.has_more() && (one.is_live || ended < FLYING_ENDED_MAX))
            .map(|(session, one)| (one.due_at(self.pace_ms).max(self.busy_until), one, session));
        // Of those that may be sent: running ones first, among them the one that has waited longest;
        // then the oldest.
        let best = candidates.min_by_key(|(at, one, session)| {
            let rank = if one.is_live { one.sent } else { one.started };
            ((*at).max(now), !one.is_live, rank, (*session).clone())
        });
        match best {
            None => Next::Idle,
            Some((at, ..)) if at > now => Next::At(at),
            Some((_, one, session)) => {
                let (session, from) = (session.clone(), one.held);
                let lacks_receipt = one.held > one.receipted;
                if let Some(journal) = self.journals.get_mut(&session) {
                    journal.is_flying = true;
                    journal.sent = now;
                }
                Next::Send {
                    session,
                    from,
                    lacks_receipt,
                }
            }
        }
    }

    /// Takes in how long a journal was when a batch of it was sent: it may have grown since it was last
    /// looked at, and the server may hold that much.
    pub fn seen(&mut self, session: &SessionId, bytes: u64) {
        if let Some(journal) = self.journals.get_mut(session) {
            journal.bytes = journal.bytes.max(bytes);
        }
    }

    /// Takes in what came of a batch, at `now` in milliseconds.
    pub fn answered(&mut self, session: &SessionId, answered: Answered, now: u64) {
        let Some(journal) = self.journals.get_mut(session) else {
            return;
        };
        journal.is_flying = false;
        match answered {
            Answered::Held(bytes) => {
                (journal.held, journal.receipted) = (bytes, bytes);
                // What is left came later than what was sent.
                journal.behind_since = None;
            }
            Answered::Expected(bytes) => {
                journal.held = bytes;
                journal.not_before = now.saturating_add(PACE_MS_MIN);
            }
            Answered::Unknown => journal.not_before = now.saturating_add(AGAIN_MS),
            Answered::Refused(why) => journal.stopped = Some(Stopped::Refused(why)),
            Answered::Busy(ms) => self.busy_until = now.saturating_add(ms.min(BUSY_MS_MAX)),
            Answered::Nothing => journal.torn = Some(journal.bytes),
        }
        journal.compare();
        self.forget_if_done(session);
    }

    /// Returns the journals that are not sent any more, and why.
    pub fn stopped(&self) -> impl Iterator<Item = (&SessionId, &Stopped)> {
        let journals = self.journals.iter();
        journals.filter_map(|(session, one)| Some((session, one.stopped.as_ref()?)))
    }

    /// Returns how many bytes the server does not hold yet.
    pub fn unshipped_bytes(&self) -> u64 {
        let journals = self.journals.values();
        let whole = journals.filter(|one| one.torn != Some(one.bytes));
        whole.fold(0, |sum: u64, one| {
            sum.saturating_add(one.bytes.saturating_sub(one.held))
        })
    }

    /// Returns the journals that are here, with the bytes of each and whether its session runs.
    pub fn here(&self) -> impl Iterator<Item = (&SessionId, u64, bool)> {
        let journals = self.journals.iter();
        journals.map(|(session, one)| (session, one.bytes, one.is_live))
    }

    fn forget_if_done(&mut self, session: &SessionId) {
        let is_done = |one: &Journal| {
            let is_held = one.bytes == one.held && one.bytes == one.receipted;
            is_held && !one.is_live && !one.is_flying
        };
        if self.journals.get(session).is_some_and(is_done) {
            self.journals.remove(session);
        }
    }
}

impl Journal {
    fn has_more(&self) -> bool {
        let has_lines = self.bytes > self.held && self.torn != Some(self.bytes);
        let lacks_receipt = self.held > self.receipted;
        self.stopped.is_none() && !self.is_flying && (has_lines || lacks_receipt)
    }

    /// Returns when the next batch may be sent.
    fn due_at(&self, pace_ms: u64) -> u64 {
        let is_small = self.bytes.saturating_sub(self.held) < PACE_BYTES;
        let paced = if self.is_live && is_small {
            self.sent.saturating_add(pace_ms)
        } else {
            0
        };
        self.not_before.max(paced)
    }

    /// Stops if there is less here than the server holds: what it holds is not the beginning of this.
    fn compare(&mut self) {
        if self.held > self.bytes && self.stopped.is_none() {
            self.stopped = Some(Stopped::Shortened {
                held: self.held,
                here: self.bytes,
            });
        }
    }
}
