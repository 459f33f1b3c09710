//! Tools of servers in requests to models, compared with what is known of them before the request is
//! whole.
//!
//! No model reads a request of which the end is missing. So a request passes as it comes, and the piece
//! with which its JSON ends waits until the supervisor has compared the definitions that this process has
//! not seen compared yet.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use stockade_agents::{Definition, Unread};
use stockade_policy::{Control, Decision};
use stockade_types::{DecisionId, Digest, ModelApi, RawText, Subject};

use crate::{
    limits::{DEFINED_BYTES_MAX, DEFINED_MAX, DEFINITION_TEXTS_BYTES_MAX, KNOWN_DEFINITIONS_MAX},
    wire::{Client, Defined, DefinitionSeen, Unanswered},
};

/// A tool, by the form in which it was read, its server and its name.
type Name = (String, RawText, RawText);

/// Definitions that were compared and may be read.
#[derive(Debug)]
pub(crate) struct Known {
    supervisor: Arc<Client>,
    compared: Mutex<HashMap<Name, Digest>>,
}

impl Known {
    pub(crate) fn new(supervisor: Arc<Client>) -> Self {
        Self {
            supervisor,
            compared: Mutex::default(),
        }
    }

    fn knows(&self, form: &str, definition: &Definition) -> bool {
        let compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (
            form.to_owned(),
            definition.server.clone(),
            definition.tool.clone(),
        );
        compared.get(&name) == Some(&definition.content.digest())
    }

    fn add(&self, form: &str, seen: &[DefinitionSeen]) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if compared.len() + seen.len() > KNOWN_DEFINITIONS_MAX {
            // They are compared once more.
            compared.clear();
        }
        for one in seen {
            let name = (form.to_owned(), one.server.clone(), one.tool.clone());
            compared.insert(name, one.digest);
        }
    }
}

/// What of one request is to be compared.
pub(super) struct Fresh {
    known: Arc<Known>,
    form: String,
    subject: Subject,
    decision: DecisionId,
    seen: Vec<DefinitionSeen>,
    /// Bytes of the texts of these.
    bytes: usize,
    /// The JSON has ended, and all of it was compared.
    is_over: bool,
    /// That some of it could not be read was told.
    is_told: bool,
}

impl Fresh {
    pub(super) fn new(
        known: Arc<Known>,
        form: String,
        (subject, decision): (Subject, DecisionId),
    ) -> Self {
        Self {
            known,
            form,
            subject,
            decision,
            seen: Vec::new(),
            bytes: 0,
            is_over: false,
            is_told: false,
        }
    }

    /// Adds definitions, those that are not known.
    pub(super) fn add(&mut self, defined: Vec<Definition>) {
        for one in defined {
            if self.known.knows(&self.form, &one) {
                continue;
            }
            let text = one.content.text().filter(|text| {
                self.bytes = self.bytes.saturating_add(text.len());
                self.bytes <= DEFINITION_TEXTS_BYTES_MAX
            });
            self.seen.push(DefinitionSeen {
                digest: one.content.digest(),
                text: text.map(RawText::from_bytes),
                is_hiding: one.is_hiding,
                server: one.server,
                tool: one.tool,
            });
        }
    }

    /// Returns what has to be compared now: all of it once, and why some of it is not known once, which can
    /// show later: behind the end nothing may stand.
    pub(super) fn end(&mut self, unread: Option<String>) -> Option<Comparison> {
        let unread = unread.filter(|_| !self.is_told);
        self.is_told |= unread.is_some();
        self.is_over = true;
        if self.seen.is_empty() && unread.is_none() {
            return None;
        }
        Some(Comparison {
            known: Arc::clone(&self.known),
            form: self.form.clone(),
            subject: self.subject.clone(),
            decision: self.decision,
            seen: mem::take(&mut self.seen),
            unread,
        })
    }

    /// Tells whether all of it was compared that there can be.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over && self.is_told
    }
}

/// A comparison that the end of a request waits for.
pub(crate) struct Comparison {
    known: Arc<Known>,
    form: String,
    subject: Subject,
    decision: DecisionId,
    seen: Vec<DefinitionSeen>,
    unread: Option<String>,
}

impl Comparison {
    /// Waits until it is known whether all of it may be read; the error is the refusal.
    pub(crate) async fn done(mut self) -> Result<(), Box<Decision>> {
        loop {
            let part = self.part();
            let is_last = self.seen.is_empty();
            let defined = Defined {
                form: self.form.clone(),
                process: self.subject.clone(),
                decision: self.decision,
                definitions: part,
                unread: self.unread.take_if(|_| is_last),
            };
            let seen = defined.definitions.clone();
            match self.known.supervisor.compare(defined).await {
                Ok(None) => self.known.add(&self.form, &seen),
                Ok(Some(refusal)) => return Err(refusal),
                Err(error) => return Err(Box::new(uncompared(&error))),
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes as many as one message has room for.
    fn part(&mut self) -> Vec<DefinitionSeen> {
        let (mut bytes, mut length) = (0, 0);
        for one in self.seen.iter().take(DEFINED_MAX) {
            let more = one.text.as_ref().map_or(0, |text| text.as_bytes().len());
            if length > 0 && bytes + more > DEFINED_BYTES_MAX {
                break;
            }
            bytes += more;
            length += 1;
        }
        let rest = self.seen.split_off(length);
        mem::replace(&mut self.seen, rest)
    }
}

/// What is not compared, no model reads.
fn uncompared(error: &Unanswered) -> Decision {
    let reason = format!("definitions of tools could not be compared: {error}");
    Control::ToolDefinition.denies(reason, "try again")
}

/// Returns the word for the form of a call.
pub(super) fn form(api: ModelApi) -> String {
    api.as_str().to_owned()
}

/// Says why definitions are not known.
pub(super) fn unread(why: Unread) -> String {
    why.in_words().to_owned()
}
