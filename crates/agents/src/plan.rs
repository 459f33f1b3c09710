//! Plans: the lists of steps that agents keep with a tool of their own.
//!
//! | agent | tool | what a call says |
//! |---|---|---|
//! | Claude Code | `TodoWrite`; `TaskCreate`, `TaskUpdate` | the whole plan; one step |
//! | Codex | `update_plan` | the whole plan |
//! | Gemini CLI | `write_todos` | the whole plan |
//! | opencode | `todowrite` | the whole plan |

use stockade_types::{PlanChange, RawText, StepState};

use crate::{
    claims::{Bounded, Call},
    content::{Content, Growing, name},
    json::{Json, Shape},
    tree::Tree,
};

/// Members that hold the steps, by agent.
const LISTS: [&str; 2] = ["todos", "plan"];
/// Members that hold the words of a step.
const WORDS: [&str; 4] = ["content", "step", "description", "title"];

/// What a tool call says of the agent's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether the steps are the whole plan.
    pub change: PlanChange,
    /// The steps, in their order.
    pub steps: Bounded<PlanStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// Its id, if the agent gives it one.
    pub id: Option<RawText>,
    /// Its words; none, if only its state is said.
    pub text: Option<Content>,
    /// How far it is; none, if only its words are said.
    pub state: Option<StepState>,
}

impl Call {
    /// Says how the call changes the agent's plan; `None` if its tool is not for that, or if its arguments
    /// are not those of such a tool.
    pub fn plan(&self) -> Option<Plan> {
        let read: fn(&Tree) -> Option<Plan> = match self.name.as_bytes() {
            b"TodoWrite" | b"todowrite" | b"update_plan" | b"write_todos" => whole,
            b"TaskCreate" => created,
            b"TaskUpdate" => updated,
            _ => return None,
        };
        let mut json = Json::new(Shape::ALL);
        json.feed(self.arguments.as_ref()?.text()?);
        let (tree, extent) = json.finish();
        let tree = tree.filter(|_| !extent.is_cut && !extent.is_truncated)?;
        read(&tree)
    }
}

/// Reads a list that replaces the one before.
fn whole(arguments: &Tree) -> Option<Plan> {
    let list = LISTS.iter().find_map(|name| arguments.get(name))?;
    let Tree::List(items) = list else {
        return None;
    };
    let mut steps = Bounded::default();
    steps.extend(items.iter().filter(|item| item.is_object()).map(|item| {
        let words = WORDS.iter().find_map(|name| item.get(name)?.said());
        PlanStep {
            id: id(item, "id"),
            text: words.map(Growing::content),
            state: state(item),
        }
    }));
    Some(Plan {
        change: PlanChange::Replaced,
        steps,
    })
}

/// Reads a step that is added; its id is only in what is returned.
fn created(arguments: &Tree) -> Option<Plan> {
    let words = arguments.get("subject")?.said()?;
    Some(one(
        PlanChange::Added,
        PlanStep {
            id: None,
            text: Some(Growing::content(words)),
            state: Some(StepState::Pending),
        },
    ))
}

/// Reads a step that is changed.
fn updated(arguments: &Tree) -> Option<Plan> {
    let step = PlanStep {
        id: Some(id(arguments, "taskId")?),
        text: (arguments.get("subject").and_then(Tree::said)).map(Growing::content),
        state: state(arguments),
    };
    // Who a step is for, and what it waits for, is no news of the plan.
    let is_news = step.text.is_some() || step.state.is_some();
    is_news.then(|| one(PlanChange::Updated, step))
}

fn one(change: PlanChange, step: PlanStep) -> Plan {
    let mut steps = Bounded::default();
    steps.push(step);
    Plan { change, steps }
}

fn id(step: &Tree, member: &str) -> Option<RawText> {
    match step.get(member)? {
        Tree::Text(text) => text.text().map(name),
        Tree::Number(digits) => Some(name(digits.as_bytes())),
        Tree::Null | Tree::Flag(_) | Tree::List(_) | Tree::Object(_) | Tree::Cut => None,
    }
}

fn state(step: &Tree) -> Option<StepState> {
    Some(match step.text_of("status")? {
        b"pending" => StepState::Pending,
        b"in_progress" => StepState::Active,
        b"completed" => StepState::Done,
        b"cancelled" => StepState::Cancelled,
        b"deleted" => StepState::Removed,
        b"blocked" => StepState::Blocked,
        _ => StepState::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use stockade_types::{PlanChange, RawText, StepState};

    use super::{Call, Content};
    use crate::limits::ENTRIES_MAX;

    fn call(tool: &str, arguments: &str) -> Call {
        Call {
            id: "call_1".into(),
            name: tool.into(),
            arguments: Some(Content::of(arguments.as_bytes())),
        }
    }

    /// Writes a plan in one line: change, then id, words and state of each step.
    fn told(tool: &str, arguments: &str) -> Option<String> {
        let plan = call(tool, arguments).plan()?;
        let mut text = plan.change.to_string();
        for step in plan.steps.entries() {
            let id = step.id.as_ref().map_or("-".to_owned(), RawText::display);
            let words = step.text.as_ref().and_then(Content::text);
            let words = words.map(String::from_utf8_lossy).unwrap_or_default();
            let state = step.state.map(|state| state.to_string());
            text = format!("{text} | {id} `{words}` {}", state.unwrap_or_default());
        }
        Some(text)
    }

    /// The forms in which the agents write their plans.
    #[test]
    fn plans_are_read_as_each_agent_writes_them() {
        for (tool, arguments, expected) in [
            (
                "TodoWrite",
                r#"{"todos":[{"content":"Read it","status":"completed","activeForm":"Reading it"},
                   {"content":"Mend it","status":"in_progress","activeForm":"Mending it"}]}"#,
                "replaced | - `Read it` done | - `Mend it` active",
            ),
            (
                "todowrite",
                r#"{"todos":[{"id":"1","content":"Read it","status":"cancelled","priority":"low"}]}"#,
                "replaced | 1 `Read it` cancelled",
            ),
            (
                "update_plan",
                r#"{"explanation":"x","plan":[{"step":"Read it","status":"pending"}]}"#,
                "replaced | - `Read it` pending",
            ),
            (
                "write_todos",
                r#"{"todos":[{"description":"Read it","status":"blocked"}]}"#,
                "replaced | - `Read it` blocked",
            ),
            ("write_todos", r#"{"todos":[]}"#, "replaced"),
            (
                "TaskCreate",
                r#"{"subject":"Read it","description":"All of it","activeForm":"Reading"}"#,
                "added | - `Read it` pending",
            ),
            (
                "TaskUpdate",
                r#"{"taskId":"2","status":"in_progress"}"#,
                "updated | 2 `` active",
            ),
            (
                "TaskUpdate",
                r#"{"taskId":2,"subject":"Read all","status":"deleted"}"#,
                "updated | 2 `Read all` removed",
            ),
            (
                "TaskUpdate",
                r#"{"taskId":"2","status":"on hold"}"#,
                "updated | 2 `` unknown",
            ),
        ] {
            assert_eq!(told(tool, arguments).as_deref(), Some(expected), "{tool}");
        }
    }

    #[test]
    fn what_is_no_plan_is_none() {
        for (tool, arguments) in [
            ("Bash", r#"{"todos":[{"content":"x","status":"pending"}]}"#),
            ("TodoWrite", r#"{"todos":"x"}"#),
            ("TodoWrite", r#"{"todos":[{"content":"x""#),
            ("TodoWrite", "[]"),
            ("TaskCreate", r#"{"subject":7}"#),
            ("TaskUpdate", r#"{"status":"completed"}"#),
            ("TaskUpdate", r#"{"taskId":"2","owner":"x"}"#),
            ("TaskUpdate", r#"{"taskId":["2"],"status":"completed"}"#),
        ] {
            assert_eq!(told(tool, arguments), None, "{tool} {arguments}");
        }
        let without = Call {
            arguments: None,
            ..call("TodoWrite", "")
        };
        assert_eq!(without.plan(), None);
    }

    #[test]
    fn a_plan_of_many_steps_is_cut_and_counted() {
        let step = r#"{"step":"x","status":"pending"}"#;
        let steps = vec![step; ENTRIES_MAX + 3].join(",");
        let plan = call("update_plan", &format!(r#"{{"plan":[{steps}]}}"#));
        let plan = plan.plan().unwrap();
        assert_eq!(plan.change, PlanChange::Replaced);
        assert_eq!(plan.steps.entries().len(), ENTRIES_MAX);
        assert_eq!(plan.steps.count(), u64::try_from(ENTRIES_MAX).unwrap() + 3);
        assert_eq!(plan.steps.entries()[0].state, Some(StepState::Pending));
    }
}
