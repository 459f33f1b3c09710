//! Cursor: `hooks.json` in its directory, by its documentation.

use super::{Form, Moment, Told, quoted};

/// What the moments for single tools tell of.
const SHELL: Told = Told::Flat("Shell", &["command", "cwd"]);
const READ: Told = Told::Flat("Read", &["file_path"]);
const EDIT: Told = Told::Flat("Write", &["file_path", "edits"]);

pub(super) const FORM: Form = Form {
    name: "cursor",
    moments: &[
        ("preToolUse", Moment::Before(Told::Named)),
        ("postToolUse", Moment::After(Told::Named, &["tool_output"])),
        (
            "postToolUseFailure",
            Moment::After(Told::Named, &["error_message"]),
        ),
        ("beforeShellExecution", Moment::Before(SHELL)),
        ("afterShellExecution", Moment::After(SHELL, &["output"])),
        ("beforeMCPExecution", Moment::Before(Told::Named)),
        (
            "afterMCPExecution",
            Moment::After(Told::Named, &["result_json"]),
        ),
        ("beforeReadFile", Moment::Before(READ)),
        ("afterFileEdit", Moment::After(EDIT, &[])),
        ("beforeSubmitPrompt", Moment::Prompt),
        ("sessionStart", Moment::Other),
        ("sessionEnd", Moment::Other),
        ("subagentStart", Moment::Other),
        ("subagentStop", Moment::Other),
        ("stop", Moment::Other),
    ],
    deny: |_, reason| {
        let reason = quoted(reason);
        format!(
            "{{\"permission\":\"deny\",\"user_message\":{reason},\"agent_message\":{reason}}}\n"
        )
    },
};
