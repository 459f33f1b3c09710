//! Qwen Code: `hooks` in its settings, in the words of Claude Code and with the tools of Gemini CLI;
//! recorded with 0.24.

use super::{Form, claude};

pub(super) const FORM: Form = Form {
    name: "qwen",
    moments: &claude::MOMENTS,
    deny: claude::deny,
};
