//! Qwen Code: `hooks` in its settings, in the words of Claude Code and with the tools of Gemini CLI;
//! recorded with 0.24.

use super::{Form, Moment, Told, claude};

pub(super) const FORM: Form = Form {
    name: "qwen",
    moments: &[
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
    ],
    deny: claude::deny,
};
