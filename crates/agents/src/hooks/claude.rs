//! Claude Code: `hooks` in its settings; recorded with 2.1.

use super::{Form, Moment, Told, quoted};

/// What it tells, and what it says then; Qwen Code took this over.
pub(super) const MOMENTS: [(&str, Moment); 9] = [
    ("PreToolUse", Moment::Before(Told::Named)),
    (
        "PostToolUse",
        Moment::After(Told::Named, &["tool_response"]),
    ),
    ("PostToolUseFailure", Moment::After(Told::Named, &["error"])),
    ("UserPromptSubmit", Moment::Prompt),
    ("SessionStart", Moment::Other),
    ("SessionEnd", Moment::Other),
    ("SubagentStart", Moment::Other),
    ("SubagentStop", Moment::Other),
    ("Stop", Moment::Other),
];

pub(super) const FORM: Form = Form {
    name: "claude",
    moments: &MOMENTS,
    deny,
};

/// Codex and Qwen Code took this form over.
pub(super) fn deny(moment: &str, reason: &str) -> String {
    format!(
        "{{\"hookSpecificOutput\":{{\"hookEventName\":{},\"permissionDecision\":\"deny\",\
         \"permissionDecisionReason\":{}}}}}\n",
        quoted(moment),
        quoted(reason)
    )
}
