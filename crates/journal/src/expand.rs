//! The reading of a record: its references are resolved (see [`crate::compact`]).

use std::collections::HashMap;

use stockade_event::{Cause, Envelope, SCHEMA_VERSION, Truncated};
use stockade_types::{
    DecisionRecord, Digest, ProcessId, RawText, SessionId, Subject, UnixMillis, Words,
};

use crate::{
    compact::{NANOS_PER_MILLI, Part, Place, USUAL_SOURCE},
    record::{Decision, Description, Grounds, Listed, Process, Reason, Record, Stays},
};

/// The journal's content so far, as its readers know it.
#[derive(Default)]
pub(super) struct Expander {
    processes: HashMap<ProcessId, Known>,
    lists: HashMap<Place, List>,
    grounds: HashMap<u64, Grounds>,
    revision: Option<Digest>,
    /// The last event.
    seq: u64,
}

struct Known {
    exe: RawText,
    cwd: RawText,
    argv: List,
    ancestry: List,
    scope: Option<String>,
    cause: Option<Cause>,
}

/// A list and its cuts; their fields are relative to the list.
#[derive(Clone)]
struct List {
    words: Words,
    cuts: Vec<Truncated>,
}

impl Expander {
    /// Reads the record of an event of `session`.
    pub(super) fn expand(&mut self, body: &[u8], session: &SessionId) -> Result<Envelope, String> {
        let record: Record = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if record.fresh {
            *self = Self::default();
        }
        let (seq, cuts) = (record.seq, record.truncated);
        if seq != self.seq + 1 {
            // The effect of an unreadable line in between is not known; the content of other lines
            // is.
            self.processes.clear();
            self.revision = None;
        }
        self.seq = seq;
        let mut truncated = cuts.clone();
        let (process, scope, cause) = match record.process {
            None => (None, record.scope.after(None), record.cause.after(None)),
            Some(process) => {
                let origin = (record.scope, record.cause);
                let (subject, scope, cause) =
                    self.process(seq, process, (&cuts, &mut truncated), origin);
                (Some(subject), scope, cause)
            }
        };
        let decision = record.decision.map(|decision| {
            let at = (seq, record.at.0);
            self.decision(
                at,
                decision,
                process.as_ref(),
                session,
                &cuts,
                &mut truncated,
            )
        });
        let mut event = record.event;
        if !event.put_beside(process.as_ref(), decision) {
            return Err("the decision that it is about is missing".to_owned());
        }
        Ok(Envelope {
            v: SCHEMA_VERSION,
            session: session.clone(),
            seq,
            time_unix_ns: record.at.0,
            mono_ns: record.at.1,
            source: record.source.unwrap_or_else(|| USUAL_SOURCE.to_owned()),
            process,
            scope,
            cause,
            truncated,
            event,
        })
    }

    /// Returns the process of a record and its origin, with the cuts of its lists among `truncated`.
    fn process(
        &mut self,
        seq: u64,
        process: Process,
        (cuts, truncated): (&[Truncated], &mut Vec<Truncated>),
        origin: (Stays<String>, Stays<Cause>),
    ) -> (Subject, Option<String>, Option<Cause>) {
        let (id, description) = match process {
            Process::Known(id) => (Some(id), None),
            Process::Described(one) => (one.id, Some(one)),
        };
        // Removed from the map, so that the lists can be read meanwhile.
        let known = id.and_then(|id| self.processes.remove(&id));
        let mut known = known.unwrap_or_else(Known::lost);
        if let Some(Description {
            exe,
            cwd,
            argv,
            ancestry,
            ..
        }) = description
        {
            known.exe = exe.unwrap_or(known.exe);
            known.cwd = cwd.unwrap_or(known.cwd);
            if let Some(argv) = argv {
                known.argv = self.list((seq, Part::Argv), argv, cuts);
            }
            if let Some(ancestry) = ancestry {
                known.ancestry = self.list((seq, Part::Ancestry), ancestry, cuts);
            }
        }
        known.scope = origin.0.after(known.scope);
        known.cause = origin.1.after(known.cause);
        for (part, list) in [(Part::Argv, &known.argv), (Part::Ancestry, &known.ancestry)] {
            list.tell(part, truncated);
        }
        let subject = Subject {
            id,
            exe: known.exe.clone(),
            argv: known.argv.words.clone(),
            cwd: known.cwd.clone(),
            ancestry: known.ancestry.words.clone(),
        };
        let (scope, cause) = (known.scope.clone(), known.cause);
        if let Some(id) = id {
            self.processes.insert(id, known);
        }
        (subject, scope, cause)
    }

    fn list(&mut self, place: Place, listed: Listed, cuts: &[Truncated]) -> List {
        let list = match listed {
            Listed::Whole(words) => List {
                words: words.into(),
                cuts: own_cuts(place.1, cuts),
            },
            Listed::Like(like) => return self.at(like),
            Listed::Behind(first, then) => {
                let rest = self.at(then);
                List {
                    words: std::iter::once(first)
                        .chain(rest.words.iter().cloned())
                        .collect(),
                    cuts: Vec::new(),
                }
            }
        };
        self.lists.insert(place, list.clone());
        list
    }

    fn at(&self, place: Place) -> List {
        self.lists.get(&place).cloned().unwrap_or_else(List::lost)
    }

    fn decision(
        &mut self,
        (seq, time_unix_ns): (u64, u64),
        decision: Decision,
        process: Option<&Subject>,
        session: &SessionId,
        cuts: &[Truncated],
        truncated: &mut Vec<Truncated>,
    ) -> DecisionRecord {
        let mut target = decision.target.target;
        if let Some(listed) = decision.target.argv {
            let list = self.list((seq, Part::Target), listed, cuts);
            list.tell(Part::Target, truncated);
            target.argv = list.words.to_vec();
        }
        let grounds = match decision.grounds {
            Reason::As(first) => self
                .grounds
                .get(&first)
                .cloned()
                .unwrap_or_else(|| Grounds {
                    rule: None,
                    answered: None,
                    reason: LOST.to_owned(),
                    failed_condition: None,
                    nearest_allow: None,
                    remedy: String::new(),
                }),
            Reason::Given(grounds) => {
                self.grounds.insert(seq, grounds.clone());
                grounds
            }
        };
        self.revision = decision.revision.or(self.revision);
        DecisionRecord {
            decision: decision.id,
            verdict: decision.verdict,
            kind: decision.kind,
            subject: decision
                .subject
                .or_else(|| process.cloned())
                .unwrap_or_default(),
            target,
            rule: grounds.rule,
            answered: grounds.answered,
            reason: grounds.reason,
            failed_condition: grounds.failed_condition,
            nearest_allow: grounds.nearest_allow,
            remedy: grounds.remedy,
            policy_revision: self.revision.unwrap_or(Digest::from_bytes([0; 32])),
            session: decision.session.unwrap_or_else(|| session.clone()),
            time: decision
                .time
                .unwrap_or(UnixMillis(time_unix_ns / NANOS_PER_MILLI)),
        }
    }
}

/// The text for content of an earlier line that could not be read.
const LOST: &str = "(in a line that cannot be read)";

impl Known {
    fn lost() -> Self {
        Self {
            exe: RawText::from(LOST),
            cwd: RawText::from(LOST),
            argv: List::lost(),
            ancestry: List::lost(),
            scope: None,
            cause: None,
        }
    }
}

impl List {
    fn lost() -> Self {
        Self {
            words: vec![RawText::from(LOST)].into(),
            cuts: Vec::new(),
        }
    }

    /// Adds the cuts from when the list was first written to those of a record.
    fn tell(&self, part: Part, truncated: &mut Vec<Truncated>) {
        for cut in &self.cuts {
            let field = format!("{}{}", part.field(), cut.field);
            if !truncated.iter().any(|told| told.field == field) {
                truncated.push(Truncated {
                    field,
                    ..cut.clone()
                });
            }
        }
    }
}

fn own_cuts(part: Part, cuts: &[Truncated]) -> Vec<Truncated> {
    let own = |cut: &Truncated| {
        let field = cut.field.strip_prefix(part.field())?;
        (field.is_empty() || field.starts_with('.')).then(|| Truncated {
            field: field.to_owned(),
            ..cut.clone()
        })
    };
    cuts.iter().filter_map(own).collect()
}
