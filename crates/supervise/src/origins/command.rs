//! What the first process of a command executes, as tool calls name it.

use stockade_shown::tool_call::{Meaning, looks_at_shell, meaning};
use stockade_types::RawText;

/// Bytes of a command line that is compared.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// What the first process of a scope executes.
pub(super) enum Command {
    /// A command line for a shell.
    Text(Vec<u8>),
    /// A program with its arguments, in one line.
    Program(Vec<u8>),
    /// The same process executes it next.
    ToCome,
    /// Nothing that a tool call could mean.
    Own,
}

impl Command {
    /// Says what a command line of an agent means.
    pub(super) fn of(argv: &[RawText]) -> Self {
        let cut = |text: &[u8]| {
            let text = text.trim_ascii();
            text.get(..COMMAND_BYTES_MAX).unwrap_or(text).to_vec()
        };
        match meaning(argv) {
            Meaning::ToolToCome => Self::ToCome,
            Meaning::Script(text) if looks_at_shell(&text) => Self::Own,
            Meaning::Tool(text) | Meaning::Script(text) => Self::Text(cut(text.as_bytes())),
            Meaning::Program => {
                let words: Vec<&[u8]> = argv.iter().map(RawText::as_bytes).collect();
                Self::Program(cut(&words.join(&b' ')))
            }
        }
    }
}
