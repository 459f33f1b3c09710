//! The form of a written record: content that the journal already has is not repeated.
//!
//! A session has thousands of events of few processes, and a command line can have kilobytes. So a
//! record names a process by its id once the process is described, and refers to a list or the
//! grounds of a decision by the event that had them first; [`crate::expand`] restores them. Nothing
//! is lost.
//!
//! ```text
//! {"seq":7,"at":[WALL_NS,MONO_NS],"process":{"id":"71.9","exe":…,"argv":[…],"cwd":…,"ancestry":[…]},
//!  "scope":"c-1","decision":{"id":"d-3","verdict":"allow",…,"grounds":{…}},"kind":"exec.decided","data":{}}
//! {"seq":8,"at":[…],"process":"71.9","kind":"file.changed","data":{"path":…,"access":"create"}}
//! ```

use std::{
    collections::HashMap,
    io::{self, Write as _},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use stockade_event::{Cause, Event, FieldWriter, Stamp, Truncated};
use stockade_types::{
    DecisionRecord, Digest, ProcessId, RawText, SessionId, Subject, Target, Words,
};

use crate::bound::{RECORD_BYTES_MAX, cut_point, shrink};

/// The source that is omitted.
pub(super) const USUAL_SOURCE: &str = "supervisor";
/// Limits of what is remembered, in bytes and in processes; beyond either, all is forgotten, by the
/// readers too.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;
const PROCESSES_MAX: usize = 20_000;
/// Bytes of a list, as written in JSON: far more than a person reads of a command line.
const LIST_BYTES_MAX: usize = 16 * 1024;
/// A list of at most this many bytes is not longer than a reference to it.
const LIST_BYTES_SHORT: usize = 32;
/// Bytes of a process other than its texts.
const PROCESS_BYTES: usize = 256;
pub(super) const NANOS_PER_MILLI: u64 = 1_000_000;

/// A list within an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// The arguments of its process.
    Argv,
    /// The parents of its process.
    Ancestry,
    /// The arguments that its decision is about.
    Target,
}

impl Part {
    /// The path of the list within the record.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Argv => "process.argv",
            Self::Ancestry => "process.ancestry",
            Self::Target => "decision.target.argv",
        }
    }
}

/// A list that an event has.
pub(super) type Place = (u64, Part);

/// One event to append.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The process it is about, if the event itself does not name one.
    pub process: Option<&'a Subject>,
    /// The first-level command to which it belongs.
    pub scope: Option<&'a str>,
    /// What it came of.
    pub cause: Option<Cause>,
    /// What happened.
    pub event: &'a Event,
}

/// The journal's content so far, as its writer knows it.
pub(super) struct Compactor {
    processes: HashMap<ProcessId, Described>,
    lists: HashMap<Box<[u8]>, Place>,
    /// Grounds of decisions, by the event that had them first.
    grounds: HashMap<Box<[u8]>, u64>,
    revision: Option<Digest>,
    /// Bytes of all that is remembered.
    bytes: usize,
    /// Whether the next record makes the readers forget everything.
    fresh: bool,
    key: Vec<u8>,
    cuts: Vec<Truncated>,
}

struct Described {
    subject: Subject,
    scope: Option<Box<str>>,
    cause: Option<Cause>,
}

/// Why a record cannot be written.
#[derive(Debug)]
pub(super) enum Unwritable {
    Json(serde_json::Error),
    TooLarge,
}

impl From<serde_json::Error> for Unwritable {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<io::Error> for Unwritable {
    fn from(error: io::Error) -> Self {
        Self::Json(serde_json::Error::io(error))
    }
}

/// The place and time of a record.
#[derive(Clone, Copy)]
pub(super) struct Position<'a> {
    pub(super) session: &'a SessionId,
    pub(super) seq: u64,
    pub(super) stamp: Stamp,
    pub(super) source: &'a str,
}

impl Compactor {
    pub(super) fn new() -> Self {
        Self {
            processes: HashMap::new(),
            lists: HashMap::new(),
            grounds: HashMap::new(),
            revision: None,
            bytes: 0,
            fresh: false,
            key: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// Writes the record of `entry` into `body`, which is cleared first.
    pub(super) fn encode(
        &mut self,
        body: &mut Vec<u8>,
        at: Position<'_>,
        entry: Entry<'_>,
    ) -> Result<(), Unwritable> {
        if self.bytes > REMEMBERED_BYTES_MAX || self.processes.len() >= PROCESSES_MAX {
            self.forget();
        }
        body.clear();
        self.cuts.clear();
        let Stamp {
            time_unix_ns,
            mono_ns,
        } = at.stamp;
        write!(
            body,
            "{{\"seq\":{},\"at\":[{time_unix_ns},{mono_ns}]",
            at.seq
        )?;
        if std::mem::take(&mut self.fresh) {
            body.extend_from_slice(b",\"fresh\":true");
        }
        if at.source != USUAL_SOURCE {
            put(body, "source", at.source)?;
        }
        let subject = entry.event.subject().or(entry.process);
        if let Some(subject) = subject {
            self.process(body, at.seq, subject)?;
        }
        self.origin(body, subject.and_then(|subject| subject.id), entry)?;
        if let Some(decision) = entry.event.decision() {
            self.decision(body, at, subject, decision)?;
        }
        if !self.cuts.is_empty() {
            put(body, "truncated", &self.cuts)?;
        }
        put(body, "kind", entry.event.kind())?;
        body.extend_from_slice(b",\"data\":{");
        entry.event.own_fields(&mut Fields { body, first: true })?;
        body.extend_from_slice(b"}}");
        if body.len() > RECORD_BYTES_MAX {
            // A cut list must not later represent the whole one.
            self.forget();
            *body = shrink(body)?.ok_or(Unwritable::TooLarge)?;
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.processes.clear();
        self.lists.clear();
        self.grounds.clear();
        self.revision = None;
        self.bytes = 0;
        self.fresh = true;
    }

    /// Writes the process: only what has changed since its last event.
    fn process(
        &mut self,
        body: &mut Vec<u8>,
        seq: u64,
        subject: &Subject,
    ) -> Result<(), Unwritable> {
        body.extend_from_slice(b",\"process\":");
        // Removed from the map, so that the lists can be written meanwhile.
        let known = subject.id.and_then(|id| self.processes.remove(&id));
        let changed = Changed::between(known.as_ref().map(|known| &known.subject), subject);
        match subject.id {
            Some(id) if !changed.any() => write!(body, "\"{}.{}\"", id.pid, id.start)?,
            _ => self.description(body, seq, subject, changed)?,
        }
        if let Some(id) = subject.id {
            let described = match known {
                Some(known) if !changed.any() => known,
                known => {
                    let texts = subject.exe.as_bytes().len() + subject.cwd.as_bytes().len();
                    self.bytes += PROCESS_BYTES + texts;
                    Described {
                        subject: subject.clone(),
                        cause: known.as_ref().and_then(|known| known.cause),
                        scope: known.and_then(|known| known.scope),
                    }
                }
            };
            self.processes.insert(id, described);
        }
        Ok(())
    }

    fn description(
        &mut self,
        body: &mut Vec<u8>,
        seq: u64,
        subject: &Subject,
        changed: Changed,
    ) -> Result<(), Unwritable> {
        body.push(b'{');
        let mut fields = Fields { body, first: true };
        if let Some(id) = subject.id {
            fields.field("id", &format_args!("{}.{}", id.pid, id.start))?;
        }
        if changed.exe {
            fields.field("exe", &subject.exe)?;
        }
        if changed.cwd {
            fields.field("cwd", &subject.cwd)?;
        }
        if changed.argv {
            fields.name("argv");
            self.list(fields.body, (seq, Part::Argv), &subject.argv)?;
        }
        if changed.ancestry {
            fields.name("ancestry");
            self.list(fields.body, (seq, Part::Ancestry), &subject.ancestry)?;
        }
        body.push(b'}');
        Ok(())
    }

    /// Writes the first-level command and the cause, each if it differs from the known one of the
    /// process.
    fn origin(
        &mut self,
        body: &mut Vec<u8>,
        process: Option<ProcessId>,
        entry: Entry<'_>,
    ) -> Result<(), Unwritable> {
        let mut described = process.and_then(|id| self.processes.get_mut(&id));
        let known = described.as_ref().and_then(|known| known.scope.as_deref());
        if known != entry.scope {
            put(body, "scope", &entry.scope)?;
            if let Some(described) = &mut described {
                described.scope = entry.scope.map(Box::from);
            }
        }
        let known = described.as_ref().and_then(|known| known.cause);
        if known != entry.cause {
            put(body, "cause", &entry.cause)?;
            if let Some(described) = described {
                described.cause = entry.cause;
            }
        }
        Ok(())
    }

    fn decision(
        &mut self,
        body: &mut Vec<u8>,
        at: Position<'_>,
        subject: Option<&Subject>,
        decision: &DecisionRecord,
    ) -> Result<(), Unwritable> {
        body.extend_from_slice(b",\"decision\":{");
        let mut fields = Fields { body, first: true };
        fields.field("id", &decision.decision)?;
        fields.field("verdict", &decision.verdict)?;
        fields.field("kind", &decision.kind)?;
        if subject != Some(&decision.subject) {
            fields.field("subject", &decision.subject)?;
        }
        if self.revision != Some(decision.policy_revision) {
            self.revision = Some(decision.policy_revision);
            fields.field("revision", &decision.policy_revision)?;
        }
        if decision.session != *at.session {
            fields.field("session", &decision.session)?;
        }
        if decision.time.0 != at.stamp.time_unix_ns / NANOS_PER_MILLI {
            fields.field("time", &decision.time)?;
        }
        fields.name("target");
        self.target(fields.body, at.seq, &decision.target)?;
        fields.name("grounds");
        self.grounds(fields.body, at.seq, decision)?;
        body.push(b'}');
        Ok(())
    }

    fn target(&mut self, body: &mut Vec<u8>, seq: u64, target: &Target) -> Result<(), Unwritable> {
        let Target {
            host,
            port,
            method,
            path,
            raw_path,
            argv,
            cwd,
            access,
            meaning,
            meant,
            call,
            tool,
            server,
        } = target;
        body.push(b'{');
        let mut fields = Fields { body, first: true };
        fields.field("host", host)?;
        fields.field("port", port)?;
        fields.field("method", method)?;
        fields.field("path", path)?;
        fields.field("raw_path", raw_path)?;
        fields.field("cwd", cwd)?;
        fields.field("access", access)?;
        fields.field("call", call)?;
        fields.field("tool", tool)?;
        fields.field("server", server)?;
        if !meaning.is_empty() {
            fields.field("meaning", meaning)?;
        }
        if !meant.is_empty() {
            fields.field("meant", meant)?;
        }
        if !argv.is_empty() {
            fields.name("argv");
            self.list(fields.body, (seq, Part::Target), argv)?;
        }
        body.push(b'}');
        Ok(())
    }

    /// Writes the grounds of the decision, or the event that has the same ones.
    fn grounds(
        &mut self,
        body: &mut Vec<u8>,
        seq: u64,
        decision: &DecisionRecord,
    ) -> Result<(), Unwritable> {
        let start = body.len();
        body.push(b'{');
        let mut fields = Fields { body, first: true };
        fields.field("rule", &decision.rule)?;
        fields.field("answered", &decision.answered)?;
        fields.field("reason", &decision.reason)?;
        fields.field("failed_condition", &decision.failed_condition)?;
        fields.field("nearest_allow", &decision.nearest_allow)?;
        fields.field("remedy", &decision.remedy)?;
        body.push(b'}');
        let text = body.get(start..).unwrap_or_default();
        if let Some(first) = self.grounds.get(text).copied() {
            body.truncate(start);
            write!(body, "{first}")?;
        } else {
            self.bytes += text.len();
            self.grounds.insert(text.into(), seq);
        }
        Ok(())
    }

    /// Writes a list, or its place.
    fn list(
        &mut self,
        body: &mut Vec<u8>,
        place: Place,
        words: &[RawText],
    ) -> Result<(), Unwritable> {
        key_of(&mut self.key, words);
        if let Some(first) = self.lists.get(self.key.as_slice()) {
            put_object(body, "like", first)?;
            return Ok(());
        }
        let key: Box<[u8]> = self.key.as_slice().into();
        let start = body.len();
        // The ancestry of a child ends with that of its parent.
        let rest = match (place.1, words.split_first()) {
            (Part::Ancestry, Some((first, rest))) if !rest.is_empty() => {
                key_of(&mut self.key, rest);
                self.lists.get(self.key.as_slice()).map(|at| (first, at))
            }
            _ => None,
        };
        match rest {
            Some((first, at)) => {
                body.push(b'{');
                let mut fields = Fields { body, first: true };
                fields.field("first", first)?;
                fields.field("then", at)?;
                body.push(b'}');
            }
            None => words_within(body, &mut self.cuts, place.1.field(), words)?,
        }
        if body.len() - start > LIST_BYTES_SHORT {
            self.bytes += key.len();
            self.lists.insert(key, place);
        }
        Ok(())
    }
}

/// The parts that differ from the last description of a process; all of them if there was none.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "one for each part")]
struct Changed {
    exe: bool,
    cwd: bool,
    argv: bool,
    ancestry: bool,
}

impl Changed {
    fn between(before: Option<&Subject>, now: &Subject) -> Self {
        let same = |a: &Words, b: &Words| a.is_shared_with(b) || a == b;
        Self {
            exe: before.is_none_or(|before| before.exe != now.exe),
            cwd: before.is_none_or(|before| before.cwd != now.cwd),
            argv: before.is_none_or(|before| !same(&before.argv, &now.argv)),
            ancestry: before.is_none_or(|before| !same(&before.ancestry, &now.ancestry)),
        }
    }

    const fn any(self) -> bool {
        self.exe || self.cwd || self.argv || self.ancestry
    }
}

/// Writes the fields of one object; omits those that are `None`.
struct Fields<'a> {
    body: &'a mut Vec<u8>,
    first: bool,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.body.push(b',');
        }
        self.body.push(b'"');
        self.body.extend_from_slice(name.as_bytes());
        self.body.extend_from_slice(b"\":");
    }
}

impl FieldWriter for Fields<'_> {
    type Error = serde_json::Error;

    fn field(&mut self, name: &str, value: &impl Serialize) -> Result<(), serde_json::Error> {
        let (start, first) = (self.body.len(), self.first);
        self.name(name);
        let begin = self.body.len();
        serde_json::to_writer(&mut *self.body, value)?;
        if self.body.get(begin..) == Some(b"null") {
            self.body.truncate(start);
            self.first = first;
        }
        Ok(())
    }
}

/// Writes one more field of an object that has some.
fn put(
    body: &mut Vec<u8>,
    name: &str,
    value: &(impl Serialize + ?Sized),
) -> Result<(), serde_json::Error> {
    Fields { body, first: false }.name(name);
    serde_json::to_writer(body, value)
}

/// Writes an object of one field.
fn put_object(
    body: &mut Vec<u8>,
    name: &str,
    value: &impl Serialize,
) -> Result<(), serde_json::Error> {
    body.push(b'{');
    Fields { body, first: true }.field(name, value)?;
    body.push(b'}');
    Ok(())
}

/// Makes a key that is equal for two lists only if they are the same: their words with their
/// lengths, or for a long list the number of words and a digest.
fn key_of(key: &mut Vec<u8>, words: &[RawText]) {
    key.clear();
    let bytes: usize = words.iter().map(|word| word.as_bytes().len() + 8).sum();
    if bytes > LIST_BYTES_MAX {
        key.extend_from_slice(&words.len().to_le_bytes());
        key.extend_from_slice(digest_of(words).as_bytes());
        return;
    }
    for word in words {
        key.extend_from_slice(&word.as_bytes().len().to_le_bytes());
        key.extend_from_slice(word.as_bytes());
    }
}

/// The digest of a list: of its words, each followed by a NUL.
fn digest_of(words: &[RawText]) -> Digest {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    Digest::from_bytes(hash.finalize().into())
}

/// Writes the words of a list up to its limit, and records what was cut.
fn words_within(
    body: &mut Vec<u8>,
    cuts: &mut Vec<Truncated>,
    field: &str,
    words: &[RawText],
) -> Result<(), serde_json::Error> {
    let size = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let end = body.len() + LIST_BYTES_MAX;
    body.push(b'[');
    for (index, word) in words.iter().enumerate() {
        let left = end.saturating_sub(body.len());
        if left == 0 {
            cuts.push(Truncated {
                field: field.to_owned(),
                size: size(words.len()),
                digest: digest_of(words),
            });
            break;
        }
        if index > 0 {
            body.push(b',');
        }
        // Never render more than is kept.
        let bytes = word.as_bytes();
        let Some(begin) = bytes.get(..left).filter(|_| bytes.len() > left) else {
            let start = body.len();
            serde_json::to_writer(&mut *body, word)?;
            if body.len() - start <= left + 2 {
                continue;
            }
            body.truncate(start);
            cut_word(body, word, left)?;
            cuts.push(cut_note(field, index, word));
            continue;
        };
        cut_word(body, &RawText::from_bytes(begin), left)?;
        cuts.push(cut_note(field, index, word));
    }
    body.push(b']');
    Ok(())
}

fn cut_note(field: &str, index: usize, word: &RawText) -> Truncated {
    Truncated {
        field: format!("{field}.{index}"),
        size: u64::try_from(word.as_bytes().len()).unwrap_or(u64::MAX),
        digest: Digest::of(word.as_bytes()),
    }
}

fn cut_word(body: &mut Vec<u8>, word: &RawText, left: usize) -> Result<(), serde_json::Error> {
    let serde_json::Value::String(text) = serde_json::to_value(word)? else {
        return Ok(());
    };
    let kept = text.get(..cut_point(&text, left)).unwrap_or_default();
    serde_json::to_writer(body, kept)
}
