//! The plan of an agent, in an event and in words.

use serde::{Deserialize, Serialize};
use stockade_types::{PlanChange, RawText, StepState};

use crate::{
    cause::Said,
    model::Listed,
    text::{bytes, first_line, number},
};

/// One step of a plan, as the agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStepSeen {
    /// Its id, if the agent gives it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RawText>,
    /// Its words; none, if only its state is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Said>,
    /// How far it is; none, if only its words are said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StepState>,
}

/// Says a change of a plan in one line: how much is done and what is next, or what became of a step.
pub fn plan_line(change: PlanChange, steps: &Listed<PlanStepSeen>) -> String {
    match change {
        PlanChange::Replaced => whole(steps),
        PlanChange::Added | PlanChange::Updated => {
            let line = steps.first.first().map(step_line);
            format!("{change} {}", line.unwrap_or_default())
        }
    }
}

fn whole(steps: &Listed<PlanStepSeen>) -> String {
    if steps.count == 0 {
        return "no steps".to_owned();
    }
    let is = |state: StepState| move |step: &&PlanStepSeen| step.state == Some(state);
    let done = steps.first.iter().filter(is(StepState::Done)).count();
    let done = number(u64::try_from(done).unwrap_or(u64::MAX));
    let steps_in_all = number(steps.count);
    let mut left = steps.first.iter().filter(is(StepState::Active));
    let next = left
        .next()
        .or_else(|| steps.first.iter().find(is(StepState::Pending)));
    let next = next.map(|step| format!(", {}", step_line(step)));
    format!("{done} of {steps_in_all} done{}", next.unwrap_or_default())
}

/// Says a step in one line: its state, its id and its words, as far as they are said.
pub fn step_line(step: &PlanStepSeen) -> String {
    let state = step.state.map(|state| state.to_string());
    let id = step.id.as_ref().map(|id| format!("#{id}"));
    let words = step.text.as_ref().map(|said| match &said.text {
        Some(text) => first_line(text),
        None => format!("({}, not kept)", bytes(said.bytes)),
    });
    let parts: Vec<String> = [state.map(|state| format!("{state}:")), id, words]
        .into_iter()
        .flatten()
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use stockade_types::{PlanChange, RawText, StepState};

    use super::{PlanStepSeen, plan_line};
    use crate::{cause::Said, model::Listed};

    fn step(text: &str, state: StepState) -> PlanStepSeen {
        PlanStepSeen {
            id: None,
            text: Some(Said {
                bytes: 9,
                digest: None,
                text: Some(RawText::from(text)),
            }),
            state: Some(state),
        }
    }

    fn listed(first: Vec<PlanStepSeen>) -> Listed<PlanStepSeen> {
        Listed {
            count: u64::try_from(first.len()).unwrap(),
            first,
        }
    }

    #[test]
    fn a_plan_is_told_by_what_is_done_and_what_is_next() {
        let (done, now, later) = (
            step("read", StepState::Done),
            step("mend\u{1b}[2J\nrest", StepState::Active),
            step("test", StepState::Pending),
        );
        let line = |steps: &[&PlanStepSeen]| {
            let steps = steps.iter().map(|step| (*step).clone()).collect();
            plan_line(PlanChange::Replaced, &listed(steps))
        };
        assert_eq!(
            line(&[&done, &now, &later]),
            "1 of 3 done, active: mend\\u{1b}[2J"
        );
        assert_eq!(line(&[&done, &later]), "1 of 2 done, pending: test");
        assert_eq!(line(&[&done]), "1 of 1 done");
        assert_eq!(line(&[]), "no steps");
    }

    #[test]
    fn of_one_step_its_state_is_told_and_what_is_not_kept_is_said() {
        let mut one = step("", StepState::Done);
        one.id = Some("2".into());
        one.text = None;
        let line = plan_line(PlanChange::Updated, &listed(vec![one]));
        assert_eq!(line, "updated done: #2");
        let mut unkept = step("", StepState::Pending);
        unkept.text = Some(Said {
            bytes: 40,
            ..Said::default()
        });
        let line = plan_line(PlanChange::Added, &listed(vec![unkept]));
        assert_eq!(line, "added pending: (40 B, not kept)");
    }
}
