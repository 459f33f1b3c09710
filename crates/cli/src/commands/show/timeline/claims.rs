//! What agents said, as lines of the timeline.

use stockade_event::{
    Envelope, Event, Listed, PlanStepSeen,
    tree::{
        said::{about, prompt},
        words::steps,
    },
};

use super::{
    super::lines::{Line, Mark},
    Entry, Run, TITLE_CHARS_MAX, Timeline,
};
use crate::human::cut;

impl Timeline {
    /// Adds what an agent said: a prompt, a tool call, or which call a command is for.
    pub(super) fn claimed(&mut self, envelope: &Envelope) {
        let time = envelope.time_unix_ns;
        let event = &envelope.event;
        if let Event::PromptSubmitted {
            aside: false,
            parts,
            ..
        } = event
        {
            let text = format!("prompt  {}", prompt(parts));
            self.push(Entry::Line(Line {
                unwanted: self.unwanted,
                ..Line::new(time, Mark::Prompt, text)
            }));
        } else if let Event::ToolCalled {
            name, arguments, ..
        } = event
        {
            let about = about(arguments.as_ref());
            let run = Run {
                tool: true,
                name: Some(cut(&name.display(), TITLE_CHARS_MAX)),
                titled: about.is_some(),
                unwanted: self.unwanted,
                ..Run::new(time, about.unwrap_or_default())
            };
            if let Some(index) = self.push(Entry::Run(run)) {
                self.calls.insert(envelope.seq, index);
            }
        } else if let Event::ScopeBound { scope, call, .. } = event
            && let Some(index) = self.calls.get(call).copied()
        {
            let before = self.runs.insert(scope.clone(), index);
            self.merge(before, index);
        }
    }

    /// Adds a change of the agent's plan to the block of its call.
    pub(super) fn planned(&mut self, envelope: &Envelope, plan: &Listed<PlanStepSeen>) {
        let call = envelope.cause.and_then(|cause| cause.call);
        let run = call.and_then(|call| self.calls.get(&call)).copied();
        let text = format!("plan  {}", envelope.event.line());
        let steps = steps(plan).join("  ");
        let line = Line {
            detail: (plan.count > 1).then_some(steps),
            ..Line::new(envelope.time_unix_ns, Mark::Plan, text)
        };
        self.line(run, line);
    }

    /// Moves what a block has into that of the call that it turned out to be for.
    fn merge(&mut self, from: Option<usize>, to: usize) {
        let Some(Entry::Run(run)) = from
            .filter(|from| *from != to)
            .and_then(|from| self.entries.get_mut(from))
        else {
            return;
        };
        let moved = std::mem::replace(run, Run::new(run.time_unix_ns, String::new()));
        if let Some(Entry::Run(into)) = self.entries.get_mut(to) {
            into.processes += moved.processes;
            into.more += moved.more;
            into.end = into.end.or(moved.end);
            into.lines.extend(moved.lines);
        }
    }

    /// Returns the block of what an agent does itself for a call.
    pub(super) fn of_call(&self, envelope: &Envelope) -> Option<usize> {
        let call = envelope.cause?.call.filter(|_| envelope.scope.is_none())?;
        self.calls.get(&call).copied()
    }
}

/// Tells whether an event is only about what was said, so that no block is made for it.
pub(super) const fn is_claim(event: &Event) -> bool {
    matches!(
        event,
        Event::PromptSubmitted { .. }
            | Event::ToolCalled { .. }
            | Event::ToolReturned { .. }
            | Event::PlanChanged { .. }
            | Event::AgentStarted { .. }
            | Event::AgentEnded { .. }
            | Event::ScopeBound { .. }
    )
}
