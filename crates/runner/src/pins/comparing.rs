//! Comparing what a model or an agent is about to read of the tools of servers, and asking about what is
//! another than before.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use stockade_approval::{Asker, Desk, Outcome};
use stockade_egress::wire::{Defined, DefinitionSeen};
use stockade_event::{Durability, Event, Listed, ToolPin};
use stockade_policy::{Approvals, Control, Decision, DefinitionRequest, Policy, Request};
use stockade_supervise::{EGRESS, Recorder, lock};
use stockade_types::{ApprovalId, DecisionId, Digest, RawText, Severity, Verdict, chain};

use super::{Compared, Pins, REFUSED_MAX, Server};

/// Tools that one event names.
const NAMED_MAX: usize = 64;
/// Characters of a definition that a finding shows.
const FOUND_CHARS_MAX: usize = 400;

/// Who compares.
pub(crate) struct Comparing {
    pub(crate) policy: Arc<Policy>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) abort: Arc<dyn Fn(&str) + Send + Sync>,
}

/// What cannot be compared, no model reads.
pub(crate) fn refusal(why: &str) -> Decision {
    let reason = format!("definitions of tools could not be compared: {why}");
    Control::ToolDefinition.denies(reason, "")
}

impl Comparing {
    #[expect(
        clippy::result_large_err,
        reason = "a refusal is as much an answer as none"
    )]
    pub(crate) fn compare(
        &self,
        defined: &Defined,
        number: DecisionId,
        wanted: &AtomicBool,
    ) -> Result<(), Decision> {
        let mut servers: BTreeMap<&RawText, Vec<&DefinitionSeen>> = BTreeMap::new();
        for one in &defined.definitions {
            servers.entry(&one.server).or_default().push(one);
        }
        let arrived = lock(&self.pins.refused).ended;
        for (name, seen) in servers {
            let server = (defined.form.clone(), name.clone());
            let compared = self
                .pins
                .compare(&server, defined, seen)
                .map_err(|why| refusal(&why))?;
            match compared {
                Compared::Same => {}
                Compared::First(seen) => {
                    self.find_hidden(defined, &seen)?;
                    self.pinned((&server, defined), &seen, &BTreeMap::new(), None)?;
                }
                Compared::Other(..) => {
                    self.judge(&server, defined, (number, wanted, arrived))?;
                }
            }
        }
        match &defined.unread {
            Some(why) if !self.pins.is_empty().map_err(|why| refusal(&why))? => {
                let request = unread(defined, why);
                self.ask_about(&request, (number, wanted)).map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Judges what is another than before, and keeps it if it may be read.
    #[expect(
        clippy::result_large_err,
        reason = "a refusal is as much an answer as none"
    )]
    fn judge(
        &self,
        server: &Server,
        defined: &Defined,
        (number, wanted, arrived): (DecisionId, &AtomicBool, u64),
    ) -> Result<(), Decision> {
        let _turn = lock(&self.pins.asking);
        // It may have been answered while this waited for its turn.
        let own = |one: &&DefinitionSeen| one.server == server.1;
        let seen = defined.definitions.iter().filter(own).collect();
        let compared = self
            .pins
            .compare(server, defined, seen)
            .map_err(|why| refusal(&why))?;
        let Compared::Other(request, others) = compared else {
            return Ok(());
        };
        let digest = Request::Definition((*request).clone()).digest();
        if let Some((ended, refused)) = lock(&self.pins.refused).answers.get(&digest)
            && *ended > arrived
        {
            return Err(refused.clone());
        }
        self.find_hidden(defined, &others)?;
        let before = self.pins.before(server);
        match self.ask_about(&request, (number, wanted)) {
            Ok(approval) => {
                self.pins
                    .accept(server, &others)
                    .map_err(|why| refusal(&why))?;
                self.pinned((server, defined), &others, &before, approval)
            }
            Err(refused) => {
                let mut all = lock(&self.pins.refused);
                all.ended += 1;
                if all.answers.len() >= REFUSED_MAX {
                    all.answers.clear();
                }
                let ended = all.ended;
                all.answers.insert(digest, (ended, refused.clone()));
                Err(refused)
            }
        }
    }

    /// Has the policy decide, and a person if it asks.
    #[expect(
        clippy::result_large_err,
        reason = "a refusal is as much an answer as none"
    )]
    fn ask_about(
        &self,
        request: &DefinitionRequest,
        (number, wanted): (DecisionId, &AtomicBool),
    ) -> Result<Option<ApprovalId>, Decision> {
        let request = Request::Definition(request.clone());
        let decide = |approvals: &Approvals| self.policy.decide(&request, approvals);
        let decision = decide(&Approvals::none());
        match decision.verdict {
            Verdict::Allow => return Ok(None),
            Verdict::Deny => return Err(decision),
            Verdict::Ask => {}
        }
        let outcome = self.desk.ask(&Asker {
            request: &request,
            decision: &decision,
            decision_id: number,
            revision: self.recorder.revision(),
            intent: None,
            decide: &decide,
            wanted: &|| wanted.load(Ordering::Acquire),
            covered: None,
            lasting: None,
        });
        match outcome {
            Outcome::Granted { id, .. } => Ok(Some(id)),
            Outcome::Refused { by, reason, .. } => {
                Err(stockade_supervise::refused(&decision, &by, &reason))
            }
        }
    }

    /// Records that a model may read definitions, before it does.
    #[expect(
        clippy::result_large_err,
        reason = "a refusal is as much an answer as none"
    )]
    fn pinned(
        &self,
        ((form, server), defined): (&Server, &Defined),
        seen: &[DefinitionSeen],
        before: &BTreeMap<RawText, Digest>,
        approval: Option<ApprovalId>,
    ) -> Result<(), Decision> {
        let tools = seen.iter().take(NAMED_MAX).map(|one| ToolPin {
            tool: one.tool.clone(),
            digest: one.digest,
            before: before.get(&one.tool).copied(),
        });
        self.write_pins(&Event::ToolsPinned {
            process: defined.process.clone(),
            learned_from: defined.learned_from,
            decision: defined.decision,
            server: server.clone(),
            form: form.clone(),
            tools: Listed {
                count: u64::try_from(seen.len()).unwrap_or(u64::MAX),
                first: tools.collect(),
            },
            approval,
        })
    }

    /// Records what nobody would see, once for the same text.
    #[expect(
        clippy::result_large_err,
        reason = "a refusal is as much an answer as none"
    )]
    fn find_hidden(&self, defined: &Defined, seen: &[DefinitionSeen]) -> Result<(), Decision> {
        let mut hiding = seen.iter().filter(|one| one.is_hiding);
        let Some(first) = hiding.next() else {
            return Ok(());
        };
        let others = hiding.count();
        if !self.pins.is_found(first.digest) {
            return Ok(());
        }
        let text = first.text.as_ref().map(RawText::display);
        let text = text.unwrap_or_default();
        let text: String = text.chars().take(FOUND_CHARS_MAX).collect();
        let more = match others {
            0 => String::new(),
            _ => format!("; {others} more of its tools have such characters"),
        };
        self.write_pins(&Event::FindingRaised {
            severity: Severity::Medium,
            title: "hidden-text: the definition of a tool has characters that nobody sees"
                .to_owned(),
            detail: format!("`{}/{}` of {text}{more}", first.server, first.tool),
            decisions: defined.decision.into_iter().collect(),
        })
    }

    #[expect(
        clippy::result_large_err,
        reason = "a refusal is as much an answer as none"
    )]
    fn write_pins(&self, event: &Event) -> Result<(), Decision> {
        let written = self.recorder.write_from(EGRESS, event, Durability::Written);
        written.map(drop).map_err(|error| {
            (self.abort)(&format!("the journal cannot be written: {error}"));
            refusal(&chain(&error))
        })
    }
}

/// The request about what could not be read.
fn unread(defined: &Defined, why: &str) -> DefinitionRequest {
    DefinitionRequest {
        server: RawText::default(),
        form: defined.form.clone(),
        tools: Vec::new(),
        more: 0,
        digest: Digest::of(why.as_bytes()),
        unread: Some(why.to_owned()),
        subject: defined.process.clone(),
    }
}
