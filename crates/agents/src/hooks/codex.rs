//! Codex: `hooks` in its configuration; recorded with 0.169.

use super::{Form, Moment, Told, claude};

pub(super) const FORM: Form = Form {
    name: "codex",
    moments: &[
        ("PreToolUse", Moment::Before(Told::Named)),
        (
            "PostToolUse",
            Moment::After(Told::Named, &["tool_response"]),
        ),
        ("UserPromptSubmit", Moment::Prompt),
        ("SessionStart", Moment::Other),
        ("SubagentStart", Moment::Other),
        ("SubagentStop", Moment::Other),
        ("Stop", Moment::Other),
    ],
    deny: claude::deny,
};
