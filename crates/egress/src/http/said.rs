//! What was said in a call of a model, as events: as much of the texts as policy lets into the record.

use std::sync::Arc;

use stockade_agents::{
    Asked, Bounded, Call, Content, PlanStep, Returned, mcp::ToolCall, otlp::Outcome,
};
use stockade_event::{Event, Listed, PlanStepSeen, Said};
use stockade_policy::RecordContent;
use stockade_types::{ClaimSource, DecisionId, RawText, Subject};

use super::Contents;
use crate::limits::{PLAN_STEP_BYTES_MAX, PLAN_STEPS_MAX, SAID_BYTES_MAX, SAID_PARTS_MAX};

/// Makes the events about what one program says.
pub(super) struct Sayings {
    pub(super) contents: Arc<Contents>,
    pub(super) kept: RecordContent,
    pub(super) subject: Subject,
    pub(super) learned_from: ClaimSource,
    /// The decision that allowed the request which carried it, if there was one.
    pub(super) decision: Option<DecisionId>,
}

impl Sayings {
    /// Says what the model was told, and what came of tool calls, in this order.
    pub(super) fn of_request(&self, asked: &Asked) -> Vec<Event> {
        let mut events: Vec<Event> = asked
            .results
            .entries()
            .iter()
            .map(|result| self.returned(result))
            .collect();
        if asked.prompts.count() > 0 {
            events.push(self.prompted(&asked.prompts, asked.functions.count() == 0));
        }
        events
    }

    /// Says what a model was told; `aside` if it was offered no tools.
    pub(super) fn prompted(&self, prompts: &Bounded<Content>, aside: bool) -> Event {
        Event::PromptSubmitted {
            process: self.subject.clone(),
            learned_from: self.learned_from,
            decision: self.decision,
            aside,
            parts: self.parts(prompts),
        }
    }

    /// Says which tool the model asks for.
    pub(super) fn called(&self, call: &Call) -> Event {
        Event::ToolCalled {
            process: self.subject.clone(),
            learned_from: self.learned_from,
            decision: self.decision,
            id: self.shown(&call.id),
            name: self.shown(&call.name),
            arguments: call.arguments.as_ref().map(|content| self.said(content)),
        }
    }

    /// Says how a tool call changes the agent's plan, if it does.
    pub(super) fn planned(&self, call: &Call) -> Option<Event> {
        let plan = call.plan()?;
        let steps = plan.steps.entries().iter().take(PLAN_STEPS_MAX);
        Some(Event::PlanChanged {
            process: self.subject.clone(),
            learned_from: self.learned_from,
            decision: self.decision,
            id: self.shown(&call.id),
            call: None,
            change: plan.change,
            steps: Listed {
                count: plan.steps.count(),
                first: steps.map(|step| self.step(step)).collect(),
            },
        })
    }

    fn step(&self, step: &PlanStep) -> PlanStepSeen {
        let text = step.text.as_ref();
        PlanStepSeen {
            id: step.id.as_ref().map(|id| self.shown(id)),
            text: text.map(|text| self.said_within(text, PLAN_STEP_BYTES_MAX)),
            state: step.state,
        }
    }

    fn returned(&self, result: &Returned) -> Event {
        self.came_to(&result.call, self.said(&result.content))
    }

    /// Says what came of a tool call, of which perhaps only the length is known.
    pub(super) fn ended(&self, outcome: &Outcome) -> Event {
        let text = outcome.content.as_ref().map(|content| self.said(content));
        let text = text.unwrap_or_else(|| Said {
            bytes: outcome.bytes,
            ..Said::default()
        });
        self.came_to(&outcome.call, text)
    }

    /// Says which tool a server of tools is asked for.
    pub(super) fn passed(&self, call: &ToolCall, (id, server): (&RawText, &RawText)) -> Event {
        Event::ToolCalled {
            process: self.subject.clone(),
            learned_from: self.learned_from,
            decision: self.decision,
            id: self.shown(id),
            name: self.shown(&call.name(server)),
            arguments: call.arguments.content().map(|content| self.said(&content)),
        }
    }

    /// Says what a server of tools answered.
    pub(super) fn came_back(&self, id: &RawText, text: Said, is_error: bool) -> Event {
        Event::ToolReturned {
            process: self.subject.clone(),
            learned_from: self.learned_from,
            decision: self.decision,
            id: self.shown(id),
            call: None,
            text,
            is_error: Some(is_error),
        }
    }

    /// Returns a text as the record has it.
    pub(super) fn text(&self, content: &Content) -> Said {
        self.said(content)
    }

    fn came_to(&self, call: &RawText, text: Said) -> Event {
        Event::ToolReturned {
            process: self.subject.clone(),
            learned_from: self.learned_from,
            decision: self.decision,
            id: self.shown(call),
            call: None,
            text,
            is_error: None,
        }
    }

    /// The last parts are kept: agents put their own texts in front of the person's.
    fn parts(&self, prompts: &Bounded<Content>) -> Listed<Said> {
        let entries = prompts.entries();
        let start = entries.len().saturating_sub(SAID_PARTS_MAX);
        let kept = entries.iter().skip(start);
        Listed {
            count: prompts.count(),
            first: kept.map(|content| self.said(content)).collect(),
        }
    }

    /// Returns a text with what was found secret replaced: a service may send a credential back in any
    /// place.
    pub(super) fn shown(&self, text: &RawText) -> RawText {
        self.contents.hide(text).unwrap_or_else(|| text.clone())
    }

    fn said(&self, content: &Content) -> Said {
        self.said_within(content, SAID_BYTES_MAX)
    }

    /// Returns the first `bytes_max` bytes of a text, as far as policy lets them into the record.
    fn said_within(&self, content: &Content, bytes_max: usize) -> Said {
        let text = content.text().map(|text| {
            let text = text.get(..bytes_max).unwrap_or(text);
            match self.kept {
                RecordContent::Full => Some(RawText::from_bytes(text)),
                RecordContent::Redacted => Some(self.shown(&RawText::from_bytes(text))),
                RecordContent::Digest | RecordContent::None => None,
            }
        });
        Said {
            bytes: content.bytes(),
            digest: (self.kept < RecordContent::None).then(|| content.digest()),
            text: text.flatten(),
        }
    }
}
