//! The state of a verification: what the next line must be.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, SessionId};

use crate::{
    VerifyingKey,
    format::{
        ChainText, Header, Line, SignedLine, checkpoint_chain, event_chain, genesis, parse,
        parse_signed, signed_message,
    },
    recording::{Recorded, RecordingState},
    report::{Fault, FaultKind, Verification, VerificationVerdict},
};

/// How many faults are listed; no person reads a journal with more of them line by line.
const FAULTS_MAX: usize = 64;

/// Folds the lines of a journal.
///
/// After a fault it continues from the file's own claims, so that one change causes one fault and
/// not another in every line after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    session: SessionId,
    key: VerifyingKey,
    /// Version of its format, once a line shows it.
    version: Option<u32>,
    faults: Vec<Fault>,
    gaps: Vec<Gap>,
    more: u64,
    /// Chain value of the last line that counted.
    chain: Digest,
    /// Largest event number so far.
    seq: u64,
    /// An event with an unexpected number: the line after it shows what that means.
    pending: Option<Pending>,
    /// Unreadable lines since the last event; each may have been an event.
    unreadable: u64,
    events: u64,
    signed: u64,
    signed_time_unix_ns: Option<u64>,
    closed: bool,
    torn_bytes: u64,
    /// Decisions beside the journal that it does not have.
    left_events: u64,
    /// Set once a foreign key was reported, so that its other signatures are not reported too.
    foreign_key: bool,
    /// Lines after the signed end; together they are one fault.
    after_end: bool,
    lines: u64,
    /// What it says of the recording of the terminal.
    #[serde(default)]
    recorded: Option<Recorded>,
}

/// An event whose number is not the next one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    line: u64,
    seq: u64,
    chain: Digest,
}

/// Events that were missing from their place before `line`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gap {
    line: u64,
    first: u64,
    last: u64,
}

/// What the lines so far came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// How many events there were.
    pub events: u64,
    /// Largest number of an event.
    pub seq: u64,
    /// The last event that a good signature covers.
    pub signed: u64,
    /// Chain value of the last line that counted.
    pub chain: Digest,
    /// Whether the signed end was there.
    pub is_closed: bool,
}

/// The content of a record's fixed beginning.
enum Begin {
    Seq(u64),
    OtherSession(String),
    Unreadable,
}

impl Check {
    pub(super) fn new(session: SessionId, key: VerifyingKey) -> Self {
        Self {
            session,
            key,
            version: None,
            faults: Vec::new(),
            gaps: Vec::new(),
            more: 0,
            chain: Digest::from_bytes([0; 32]),
            seq: 0,
            pending: None,
            unreadable: 0,
            events: 0,
            signed: 0,
            signed_time_unix_ns: None,
            closed: false,
            torn_bytes: 0,
            left_events: 0,
            foreign_key: false,
            after_end: false,
            lines: 0,
            recorded: None,
        }
    }

    /// Checks the first line.
    pub(super) fn header(&mut self, line: &[u8]) {
        self.lines = 1;
        match serde_json::from_slice::<Header>(line) {
            Ok(found) => {
                self.chain = genesis(line);
                if found.is_known() {
                    self.version = Some(found.journal);
                }
                let expected = Header::of_version(found.journal, &self.session, &self.key);
                // Compare the exact bytes, not only their meaning: the chain starts from them.
                if found.is_known() && expected.line().is_ok_and(|bytes| bytes == line) {
                    return;
                }
                if !self.foreign(1, None, &found.session, &found.key) {
                    let detail = "the first line was edited".to_owned();
                    self.fault(1, None, FaultKind::Changed, detail);
                    self.unreadable = 1;
                }
            }
            Err(_) if parse(line).is_some() => {
                let detail = "the first line of the journal is gone".to_owned();
                self.fault(1, None, FaultKind::Missing, detail);
                self.unreadable = 1;
                self.line(1, line);
            }
            Err(_) => {
                let detail = "the first line is not a journal header".to_owned();
                self.fault(1, None, FaultKind::Changed, detail);
                self.unreadable = 1;
            }
        }
    }

    /// Checks any later line.
    pub(super) fn line(&mut self, number: u64, line: &[u8]) {
        self.lines = number;
        if self.closed {
            self.after_end(number);
            return;
        }
        match (parse(line), parse_signed(line)) {
            (Some(Line::Event { chain, body }), _) => self.event(number, chain, body),
            (Some(Line::Checkpoint { .. }), Some(signed)) => self.checkpoint(number, &signed),
            _ => self.foreign_line(number),
        }
    }

    /// Records a line that is not one of ours.
    pub(super) fn foreign_line(&mut self, number: u64) {
        self.lines = number;
        if self.closed {
            self.after_end(number);
            return;
        }
        self.settle(None);
        self.unreadable += 1;
        let detail = format!("this is not a journal line; after event {}", self.seq);
        self.fault(number, None, FaultKind::Changed, detail);
    }

    /// Returns what the journal says of the recording of the terminal.
    pub(super) const fn recorded(&self) -> Option<&Recorded> {
        self.recorded.as_ref()
    }

    /// Records what that recording is.
    pub(super) fn recording(&mut self, state: RecordingState) {
        let recorded = self.recorded.as_ref();
        if let Some((what, detail)) = state.fault(recorded, self.closed) {
            let (line, seq) = recorded.map_or((self.lines, None), Recorded::place);
            self.fault(line, seq, what, detail);
        }
    }

    /// Records how many decisions are beside the journal that it does not have.
    pub(super) fn left(&mut self, count: usize) {
        self.left_events = u64::try_from(count).unwrap_or(u64::MAX);
    }

    /// Records a last line without an end.
    pub(super) fn torn(&mut self, number: u64, bytes: u64) {
        self.lines = number;
        self.torn_bytes = bytes;
        if self.closed {
            let detail = format!("{bytes} bytes of an unfinished line follow the signed end");
            self.fault(number, None, FaultKind::TornTail, detail);
        }
    }

    /// Records that the rest cannot be read, because the compressed file was changed.
    pub(super) fn not_unpacked(&mut self, detail: &str) {
        self.settle(None);
        let line = self.lines.saturating_add(1);
        self.fault(line, None, FaultKind::Changed, detail.to_owned());
    }

    fn after_end(&mut self, number: u64) {
        if !self.after_end {
            self.after_end = true;
            let detail = format!("lines follow the signed end, which is event {}", self.seq);
            self.fault(number, None, FaultKind::UnsignedTail, detail);
        }
    }

    fn event(&mut self, number: u64, claimed: ChainText<'_>, body: &[u8]) {
        self.events += 1;
        if let Some(recorded) = Recorded::read(number, body) {
            self.recorded = Some(recorded);
        }
        let version = self.version(claimed);
        let begin = self.begin(version, body);
        self.settle(match begin {
            Begin::Seq(seq) => Some(seq),
            Begin::OtherSession(_) | Begin::Unreadable => None,
        });
        let expected = self.seq.saturating_add(1);
        let computed = event_chain(&self.chain, body);
        let chained = claimed.is(&computed, version);
        let chain = if chained {
            computed
        } else {
            claimed.digest(version).unwrap_or(computed)
        };
        let wrong = match begin {
            Begin::OtherSession(name) => {
                // It is not one of our events, so our numbers continue after it.
                let detail = format!("the record is one of session `{name}`");
                self.fault(number, None, FaultKind::WrongSession, detail);
                return;
            }
            Begin::Seq(seq) if seq != expected => {
                self.pending = Some(Pending {
                    line: number,
                    seq,
                    chain,
                });
                return;
            }
            Begin::Seq(_) => !chained && self.unreadable == 0,
            Begin::Unreadable => true,
        };
        if wrong {
            let detail =
                format!("event {expected} is not as written, or a signature before it is gone");
            self.fault(number, Some(expected), FaultKind::Changed, detail);
        }
        self.seq = expected;
        self.chain = chain;
        self.unreadable = 0;
    }

    /// Decides what an event with an unexpected number was, when the next number is known.
    fn settle(&mut self, next: Option<u64>) {
        let Some(Pending { line, seq, chain }) = self.pending.take() else {
            return;
        };
        let expected = self.seq.saturating_add(1);
        if next == Some(expected.saturating_add(1)) {
            let detail = format!("event {expected} is not as written: it says {seq}");
            self.fault(line, Some(expected), FaultKind::Changed, detail);
            self.seq = expected;
            self.chain = chain;
        } else if seq > expected {
            self.missing(line, expected, seq.saturating_sub(1));
            self.seq = seq;
            self.chain = chain;
        } else {
            self.reordered(line, seq);
        }
        self.unreadable = 0;
    }

    /// Returns the version of the format; if the first line does not show it, the first chain value
    /// does.
    fn version(&mut self, chain: ChainText<'_>) -> u32 {
        *self.version.get_or_insert_with(|| chain.version())
    }

    /// Reads the fixed beginning of a record.
    fn begin(&self, version: u32, body: &[u8]) -> Begin {
        let opening: &[u8] = match version {
            1 => b"{\"v\":1,\"session\":\"",
            _ => b"{\"seq\":",
        };
        let Some(mut rest) = body.strip_prefix(opening) else {
            return Begin::Unreadable;
        };
        if version == 1 {
            let split = rest.split_first_chunk::<16>();
            let Some((session, number)) = split
                .and_then(|(session, rest)| Some((session, rest.strip_prefix(b"\",\"seq\":")?)))
            else {
                return Begin::Unreadable;
            };
            if session.as_slice() != self.session.as_str().as_bytes() {
                return Begin::OtherSession(session.escape_ascii().to_string());
            }
            rest = number;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = rest
            .get(..digits)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        text.and_then(|text| text.parse().ok())
            .map_or(Begin::Unreadable, Begin::Seq)
    }

    fn checkpoint(&mut self, number: u64, signed: &SignedLine<'_>) {
        let until = signed.checkpoint.seq;
        self.settle(Some(until.saturating_add(1)));
        let computed = checkpoint_chain(&self.chain, signed.body);
        let version = self.version(signed.chain);
        let chained = signed.chain.is(&computed, version);
        let chain = if chained {
            computed
        } else {
            signed.chain.digest(version).unwrap_or(computed)
        };
        if !self.genuine(number, &chain, signed) {
            // Its content does not count; only the lines after it continue from it.
            self.chain = chain;
            return;
        }
        if until < self.seq {
            let detail = format!(
                "the signature of event {until} stands after event {}",
                self.seq
            );
            self.fault(number, Some(until), FaultKind::Reordered, detail);
            return;
        }
        if until > self.seq {
            self.missing(number, self.seq.saturating_add(1), until);
        } else if !chained && self.unreadable == 0 && self.faults.is_empty() {
            let detail = format!(
                "what stands between event {} and this signature is not what was signed",
                self.signed
            );
            self.fault(number, Some(until), FaultKind::Changed, detail);
        }
        self.seq = until;
        self.chain = chain;
        self.unreadable = 0;
        self.signed = until;
        self.signed_time_unix_ns = Some(signed.checkpoint.time_unix_ns);
        self.closed = signed.checkpoint.closed;
    }

    /// Returns whether a signed line is by our key and of our session; otherwise reports it.
    fn genuine(&mut self, number: u64, chain: &Digest, signed: &SignedLine<'_>) -> bool {
        let checkpoint = &signed.checkpoint;
        let seq = Some(checkpoint.seq);
        if self.foreign(number, seq, &checkpoint.session, &checkpoint.key) {
            return false;
        }
        let version = self.version(signed.chain);
        let holds = signed.chain.is(chain, version)
            && self
                .key
                .verifies(&signed_message(chain, signed.body), &signed.signature);
        if !holds {
            let detail = format!("the signature of event {} does not hold", checkpoint.seq);
            self.fault(number, seq, FaultKind::BadSignature, detail);
        }
        holds
    }

    /// Reports another session or another key; returns whether it is one.
    fn foreign(&mut self, line: u64, seq: Option<u64>, session: &SessionId, key: &str) -> bool {
        let other_session = *session != self.session;
        if other_session {
            let detail = format!("it belongs to session {session}");
            self.fault(line, seq, FaultKind::WrongSession, detail);
        }
        let other_key = key != self.key.to_string();
        if other_key && !self.foreign_key {
            self.foreign_key = true;
            let shown: String = key.chars().take(64).flat_map(char::escape_debug).collect();
            let detail = format!("it names the key {shown}, not {}", self.key);
            self.fault(line, seq, FaultKind::WrongKey, detail);
        }
        other_session || other_key
    }

    /// Compares with the signed end in its separate file.
    pub(super) fn head_file(&mut self, bytes: &[u8]) {
        self.settle(None);
        let signed = bytes
            .strip_suffix(b"\n")
            .and_then(parse_signed)
            .and_then(|signed| Some((signed.chain.digest(self.version(signed.chain))?, signed)))
            .filter(|(_, signed)| signed.checkpoint.closed);
        let Some((chain, signed)) = signed else {
            let detail = "it is not a signed end".to_owned();
            self.fault(0, None, FaultKind::Changed, detail);
            return;
        };
        if !self.genuine(0, &chain, &signed) {
            return;
        }
        let until = signed.checkpoint.seq;
        if !self.closed {
            let lost = until.saturating_sub(self.seq);
            let detail = format!(
                "the journal was closed at event {until}; its end is gone, with {lost} events"
            );
            let first = (lost > 0).then(|| self.seq.saturating_add(1));
            self.fault(
                self.lines.saturating_add(1),
                first,
                FaultKind::Missing,
                detail,
            );
        } else if chain != self.chain && self.faults.is_empty() {
            let detail = "it is the end of another version of this journal".to_owned();
            self.fault(0, Some(until), FaultKind::Changed, detail);
        }
    }

    /// Records a gap, unless unreadable lines are in the place of the events.
    fn missing(&mut self, line: u64, first: u64, last: u64) {
        if last.saturating_sub(first) < self.unreadable {
            return;
        }
        self.add_gap(Gap { line, first, last });
    }

    fn add_gap(&mut self, gap: Gap) {
        if self.gaps.len() < FAULTS_MAX {
            self.gaps.push(gap);
        } else {
            self.more += 1;
        }
    }

    /// Reports an event whose number came before. If it was counted as missing it is only in the
    /// wrong place, so it is removed from its gap.
    fn reordered(&mut self, line: u64, seq: u64) {
        let gap = self
            .gaps
            .iter()
            .position(|gap| (gap.first..=gap.last).contains(&seq));
        if let Some(index) = gap {
            let Gap { line, first, last } = self.gaps.remove(index);
            if first < seq {
                self.add_gap(Gap {
                    line,
                    first,
                    last: seq - 1,
                });
            }
            if seq < last {
                self.add_gap(Gap {
                    line,
                    first: seq + 1,
                    last,
                });
            }
        }
        let detail = format!("event {seq} stands after event {}", self.seq);
        self.fault(line, Some(seq), FaultKind::Reordered, detail);
    }

    fn fault(&mut self, line: u64, seq: Option<u64>, what: FaultKind, detail: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault {
                line,
                seq,
                what,
                detail,
            });
        } else {
            self.more += 1;
        }
    }

    /// Returns what the lines so far came to.
    pub(super) const fn so_far(&self) -> Checked {
        Checked {
            events: self.events,
            seq: self.seq,
            signed: self.signed,
            chain: self.chain,
            is_closed: self.closed,
        }
    }

    /// Returns the faults so far; missing events are among them only at the end, because they may still
    /// come in another place.
    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Returns whether any fault or gap was found so far.
    pub(super) fn is_broken(&self) -> bool {
        !self.faults.is_empty() || !self.gaps.is_empty()
    }

    /// Determines the result.
    pub(super) fn finish(mut self) -> Verification {
        self.settle(None);
        for Gap { line, first, last } in std::mem::take(&mut self.gaps) {
            let detail = if first == last {
                format!("event {first} is gone")
            } else {
                format!("events {first} to {last} are gone")
            };
            self.faults.push(Fault {
                line,
                seq: Some(first),
                what: FaultKind::Missing,
                detail,
            });
        }
        // In the order of the file; the head file, line 0, comes after it.
        self.faults
            .sort_by_key(|fault| (fault.line == 0, fault.line));
        let verdict = if !self.faults.is_empty() {
            VerificationVerdict::Broken {
                faults: self.faults,
                more: self.more,
            }
        } else if self.closed {
            VerificationVerdict::Intact
        } else {
            VerificationVerdict::Unfinished {
                unsigned_events: self.seq.saturating_sub(self.signed),
                torn_bytes: self.torn_bytes,
                left_events: self.left_events,
            }
        };
        Verification {
            session: self.session,
            verdict,
            events: self.events,
            signed_events: self.signed,
            signed_time_unix_ns: self.signed_time_unix_ns,
            head: self.chain,
            key: self.key.to_string(),
        }
    }
}
