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
use stockade_types::{ClaimSource, DecisionId, Digest, ModelApi, RawText, Subject};

use crate::{
    limits::{DEFINITION_TEXTS_BYTES_MAX, KNOWN_DEFINITIONS_MAX},
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
    learned_from: ClaimSource,
    /// The name under which the server is known, if it is not the one that its tools come with.
    place: Option<RawText>,
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
            learned_from: ClaimSource::Traffic,
            place: None,
        }
    }

    /// Says where the definitions are learned.
    pub(super) fn learned_from(self, learned_from: ClaimSource) -> Self {
        Self {
            learned_from,
            ..self
        }
    }

    /// Says where the server of all definitions is.
    pub(super) fn of_place(self, place: RawText) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }

    /// Adds definitions, those that are not known.
    pub(super) fn add(&mut self, defined: Vec<Definition>) {
        for mut one in defined {
            if let Some(place) = &self.place {
                one.server.clone_from(place);
            }
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
            learned_from: self.learned_from,
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
    learned_from: ClaimSource,
    seen: Vec<DefinitionSeen>,
    unread: Option<String>,
}

impl Comparison {
    /// Waits until it is known whether all of it may be read; the error is the refusal.
    pub(crate) async fn done(self) -> Result<(), Box<Decision>> {
        let parts = DefinitionSeen::in_parts(self.seen);
        let last = parts.len().saturating_sub(1);
        for (at, part) in parts.into_iter().enumerate() {
            let defined = Defined {
                form: self.form.clone(),
                process: self.subject.clone(),
                decision: Some(self.decision),
                learned_from: self.learned_from,
                visit: self.decision,
                definitions: part.clone(),
                unread: self.unread.clone().filter(|_| at == last),
            };
            match self.known.supervisor.compare(defined).await {
                Ok(None) => self.known.add(&self.form, &part),
                Ok(Some(refusal)) => return Err(refusal),
                Err(error) => return Err(Box::new(uncompared(&error))),
            }
        }
        Ok(())
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
