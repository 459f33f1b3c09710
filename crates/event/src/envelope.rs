//! The fields that every event has.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stockade_types::{DecisionRecord, Digest, SessionId, Subject};

use crate::{catalogue::cli_name, cause::Cause, event::Event};

/// When something happened, by the clock of its observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// Nanoseconds of the monotonic clock of this boot.
    pub mono_ns: u64,
}

/// A field that was too large for one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// Path of the field within the record, for example `process.argv.3`.
    pub field: String,
    /// Size of the whole field: bytes of a text, items of a list.
    pub size: u64,
    /// SHA-256 of the whole field: for a text, of its form in JSON (without the JSON escapes); for
    /// a list, of its JSON. For a list of arguments it is the digest of their bytes, with a NUL
    /// behind each argument as in `/proc/PID/cmdline`, and for one argument that of its bytes; in a
    /// journal of version 1 these are digested as other lists and texts.
    pub digest: Digest,
}

/// One event, with its session, time, number and observer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Version of the schema, [`crate::SCHEMA_VERSION`].
    pub v: u32,
    /// The session.
    pub session: SessionId,
    /// Number of the event within the session, from 1, without gaps.
    pub seq: u64,
    /// Nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// Nanoseconds of the monotonic clock.
    pub mono_ns: u64,
    /// Its observer: `supervisor`, `egress`, …
    pub source: String,
    /// The process it is about, if the event itself does not name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Subject>,
    /// The first-level command it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What it came of, if that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Fields that were cut because the record would have been too large.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<Truncated>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Envelope {
    /// Returns the time as RFC 3339 text in UTC, with nanoseconds.
    pub fn time(&self) -> String {
        rfc3339(self.time_unix_ns)
    }

    /// Renders the event for `stockade events --json`: all fields on one level, `time` for people,
    /// and `target`, `verdict`, `rule` and `decision` lifted out of the decision.
    pub fn to_cli_json(&self) -> Value {
        let mut top = Map::new();
        let mut put = |name: &str, value: Value| top.insert(name.to_owned(), value);
        put("v", self.v.into());
        put("session", self.session.as_str().into());
        put("seq", self.seq.into());
        put("time", self.time().into());
        put("time_unix_ns", self.time_unix_ns.into());
        put("mono_ns", self.mono_ns.into());
        put("source", self.source.as_str().into());
        put("kind", self.event.kind().into());
        if let Some(scope) = &self.scope {
            put("scope", scope.as_str().into());
        }
        if let Some(cause) = &self.cause {
            put("cause", plain(cause));
        }
        if !self.truncated.is_empty() {
            put("truncated", plain(&self.truncated));
        }
        if let Some(subject) = self.event.subject().or(self.process.as_ref()) {
            put("process", process_json(subject));
        }
        if let Value::Object(mut event) = plain(&self.event)
            && let Some(Value::Object(data)) = event.remove("data")
        {
            for (name, value) in data {
                let shown = cli_name(self.event.kind(), &name);
                // The process and the decision are written in their own form, above and below.
                let lifted = matches!(shown, "process" | "by") && value.is_object()
                    || shown == "decision" && value.is_object();
                if !lifted {
                    put(shown, value);
                }
            }
        }
        if let Some(decision) = self.event.decision() {
            for (name, value) in decision_fields(decision) {
                put(name, value);
            }
        }
        if let Some(target) = self.event.own_target() {
            put("target", plain(&target));
        }
        Value::Object(top)
    }
}

/// Serialises one of our values. That cannot fail: they have no float and no map with non-text
/// keys.
fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn decision_fields(decision: &DecisionRecord) -> [(&'static str, Value); 10] {
    [
        ("decision", plain(&decision.decision)),
        ("verdict", plain(&decision.verdict)),
        // `kind` already names the kind of the event.
        ("request", plain(&decision.kind)),
        ("target", plain(&decision.target)),
        ("rule", plain(&decision.rule)),
        ("reason", plain(&decision.reason)),
        ("failed_condition", plain(&decision.failed_condition)),
        ("nearest_allow", plain(&decision.nearest_allow)),
        ("remedy", plain(&decision.remedy)),
        ("policy_revision", plain(&decision.policy_revision)),
    ]
}

fn process_json(subject: &Subject) -> Value {
    let mut process = Map::new();
    let id = subject
        .id
        .map_or(Value::Null, |id| format!("{}.{}", id.pid, id.start).into());
    process.insert("id".to_owned(), id);
    process.insert(
        "pid".to_owned(),
        subject.id.map_or(Value::Null, |id| id.pid.into()),
    );
    process.insert("exe".to_owned(), plain(&subject.exe));
    process.insert("argv".to_owned(), plain(&subject.argv));
    process.insert("cwd".to_owned(), plain(&subject.cwd));
    process.insert("parent".to_owned(), plain(&subject.ancestry.first()));
    process.insert("ancestry".to_owned(), plain(&subject.ancestry));
    Value::Object(process)
}

/// Writes nanoseconds since the epoch as RFC 3339 in UTC; a time beyond the year 9999 as a number.
pub fn rfc3339(time_unix_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time_unix_ns))
        .map_or_else(|_| time_unix_ns.to_string(), |time| format!("{time:.9}"))
}
