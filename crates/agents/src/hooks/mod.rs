//! What agents tell the programs that they start before and after a tool call (their *hooks*), and what
//! they read from them.
//!
//! Each agent has a file with its own words, all of the same shape; here they become one neutral form.
//! What an agent gives a hook is read as it comes, and a bounded part of it is kept.

mod claude;
mod codex;
mod cursor;
mod gemini;
mod message;
mod qwen;

use std::fmt;

pub use message::{Arguments, HookError, Message, Reader, Result, ToolUse};

/// An agent whose hooks are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAgent {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
    /// Cursor, by its documentation.
    Cursor,
    /// Gemini CLI, by its documentation.
    Gemini,
    /// Qwen Code.
    Qwen,
}

/// What an agent is told about a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    /// The hook has nothing against it.
    GoOn,
    /// It does not happen, and the model reads why.
    Deny {
        /// Why.
        reason: String,
    },
}

/// What the hook's program writes and ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// The exit code.
    pub code: u8,
}

/// The program inside that agents are told to start.
pub const HOOK_PROGRAM: &str = "/run/stockade/hook";

/// The words of an agent.
struct Form {
    /// Its name, which is the argument of the hook's program.
    name: &'static str,
    /// Its names of moments, and what each of them is.
    moments: &'static [(&'static str, Moment)],
    /// Writes a denial of a tool call at the moment of this name.
    deny: fn(moment: &str, reason: &str) -> String,
}

/// When an agent starts a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before a tool call.
    Before(Told),
    /// After one, with what came of it in the first of these members that is there.
    After(Told, &'static [&'static str]),
    /// A person has said something.
    Prompt,
    /// Anything else: there is nothing to say about it.
    Other,
}

/// How an agent tells of a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// `tool_name`, `tool_input` and mostly `tool_use_id`.
    Named,
    /// The arguments are members of the message itself: these, of this tool.
    Flat(&'static str, &'static [&'static str]),
}

impl HookAgent {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Claude,
        Self::Codex,
        Self::Cursor,
        Self::Gemini,
        Self::Qwen,
    ];

    const fn form(self) -> &'static Form {
        match self {
            Self::Claude => &claude::FORM,
            Self::Codex => &codex::FORM,
            Self::Cursor => &cursor::FORM,
            Self::Gemini => &gemini::FORM,
            Self::Qwen => &qwen::FORM,
        }
    }

    /// Finds an agent by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|agent| agent.name() == name)
    }

    /// Returns its name, which is the argument of the hook's program.
    pub const fn name(self) -> &'static str {
        self.form().name
    }

    /// Returns the words with which `sh -c` starts the hook: whatever keeps the program from answering
    /// denies.
    pub fn command(self) -> String {
        format!(
            "{HOOK_PROGRAM} {} || {{ echo '{CRASHED}' >&2; exit 2; }}",
            self.name()
        )
    }

    /// Tells whether a script is one with which [`command`](Self::command) starts the hook.
    pub fn is_command(script: &str) -> bool {
        let script = script.trim();
        Self::ALL
            .iter()
            .any(|agent| agent.command() == script || agent.plain_command() == script)
    }

    /// Returns the words that start the hook where nothing can be denied any more.
    pub fn plain_command(self) -> String {
        format!("{HOOK_PROGRAM} {}", self.name())
    }

    /// Writes an answer as this agent reads it.
    pub fn output(self, message: Option<&Message>, answer: &HookAnswer) -> Output {
        let quiet = |stdout: String| Output {
            stdout,
            stderr: String::new(),
            code: 0,
        };
        match (answer, message) {
            (HookAnswer::Deny { reason }, Some(Message::Before { moment, .. })) => {
                quiet((self.form().deny)(moment, reason))
            }
            // Nothing is left to deny after a call, and a prompt is the person's own.
            (HookAnswer::GoOn, _)
            | (
                HookAnswer::Deny { .. },
                Some(Message::After { .. } | Message::Prompt(_) | Message::Other),
            ) => quiet(String::new()),
            // All agents take this for a denial, whatever they had told of.
            (HookAnswer::Deny { reason }, None) => Output {
                stdout: String::new(),
                stderr: reason.clone(),
                code: 2,
            },
        }
    }
}

/// What an agent says to its model if the hook's program cannot even run.
const CRASHED: &str = "the hook of this boundary failed, so the tool call is denied";

impl fmt::Display for HookAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Writes a text as JSON does.
fn quoted(text: &str) -> String {
    let mut bytes = Vec::new();
    crate::tree::quote(text.as_bytes(), &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{HookAgent, HookAnswer, Message, Reader};

    #[test]
    fn every_agent_has_its_moments_once() {
        for agent in HookAgent::ALL {
            let form = agent.form();
            let moments: Vec<&str> = form.moments.iter().map(|(name, _)| *name).collect();
            let mut once = moments.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), moments.len(), "{agent}: {moments:?}");
            assert_eq!(HookAgent::named(agent.name()), Some(agent));
            assert!(HookAgent::is_command(&agent.command()));
            assert!(HookAgent::is_command(&agent.plain_command()));
        }
        assert_eq!(HookAgent::named("vi"), None);
    }

    /// Nobody hides a command behind the words that start the hook.
    #[test]
    fn no_other_script_starts_the_hook() {
        for script in [
            "/run/stockade/hook claude; curl evil.test",
            "/run/stockade/hook claude || curl evil.test",
            "/run/stockade/hook $(curl evil.test)",
            "/run/stockade/hook vi",
            "/run/stockade/hook",
            "hook claude",
            "",
        ] {
            assert!(!HookAgent::is_command(script), "{script}");
        }
    }

    /// Each agent reads a denial of a call, also with a reason that would end its text.
    #[test]
    fn a_denial_is_what_the_agent_reads() {
        let reason = "no \"pushes\"\n\u{1b}[31m{} here";
        let deny = HookAnswer::Deny {
            reason: reason.to_owned(),
        };
        for (agent, moment, at) in [
            (
                HookAgent::Claude,
                "PreToolUse",
                "/hookSpecificOutput/permissionDecisionReason",
            ),
            (
                HookAgent::Codex,
                "PreToolUse",
                "/hookSpecificOutput/permissionDecisionReason",
            ),
            (
                HookAgent::Qwen,
                "PreToolUse",
                "/hookSpecificOutput/permissionDecisionReason",
            ),
            (HookAgent::Gemini, "BeforeTool", "/reason"),
            (HookAgent::Cursor, "preToolUse", "/agent_message"),
        ] {
            let text =
                format!(r#"{{"hook_event_name":"{moment}","tool_name":"Bash","tool_input":{{}}}}"#);
            let mut reader = Reader::new(agent);
            reader.feed(text.as_bytes()).unwrap();
            let message = reader.finish().unwrap();
            let output = agent.output(Some(&message), &deny);
            assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{agent}");
            let read: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
            assert_eq!(read.pointer(at).unwrap(), reason, "{agent}");
            let goes_on = agent.output(Some(&message), &HookAnswer::GoOn);
            assert_eq!((goes_on.code, goes_on.stdout.as_str()), (0, ""), "{agent}");
            // After a call nothing is left to deny.
            let late = agent.output(Some(&Message::Other), &deny);
            assert_eq!((late.code, late.stdout.as_str()), (0, ""));
            // Whatever it was: the exit code denies it, and the reason is there.
            let broken = agent.output(None, &deny);
            assert_eq!((broken.code, broken.stderr.as_str()), (2, reason));
        }
    }
}
