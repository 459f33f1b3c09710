//! Gemini CLI: `hooks` in its settings, by its documentation.

use super::{Form, Moment, Told, quoted};

pub(super) const FORM: Form = Form {
    name: "gemini",
    moments: &[
        ("BeforeTool", Moment::Before(Told::Named)),
        ("AfterTool", Moment::After(Told::Named, &["tool_response"])),
        ("BeforeAgent", Moment::Prompt),
        ("SessionStart", Moment::Other),
        ("SessionEnd", Moment::Other),
        ("AfterAgent", Moment::Other),
        ("Notification", Moment::Other),
        ("PreCompress", Moment::Other),
    ],
    deny: |_, reason| {
        let reason = quoted(reason);
        format!("{{\"decision\":\"deny\",\"reason\":{reason}}}\n")
    },
};
