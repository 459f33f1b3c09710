//! What a scripted model does, and where it is in its script.

use super::openai;

/// One action of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks the agent for tool calls in one answer; what it returns is in
    /// [`ModelServer::results`](super::ModelServer::results).
    Calls(Vec<Tool>),
    /// Says something and ends its turn; the next step belongs to the next prompt.
    Say(String),
    /// The same, after the provider of the model has searched the web by itself.
    Searched(String),
}

impl Step {
    /// Makes a step that runs one shell command.
    pub fn shell(command: impl Into<String>) -> Self {
        Self::Calls(vec![Tool::Shell(command.into())])
    }

    /// Makes a step that calls a tool of a server.
    pub fn of_server(name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Calls(vec![Tool::OfServer { name, text }])
    }

    /// Makes a step that ends the turn after a search of the provider.
    pub fn searched(text: impl Into<String>) -> Self {
        Self::Searched(text.into())
    }

    /// Makes a step that ends the turn.
    pub fn say(text: impl Into<String>) -> Self {
        Self::Say(text.into())
    }
}

/// A tool of the agent, by what it does: each agent has its own name for it. Where an agent has none,
/// its shell does the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Runs a command line and returns what it says.
    Shell(String),
    /// Runs a command line that goes on after the call has returned.
    Server(String),
    /// Makes a file; the path is absolute.
    Write {
        /// Where.
        path: String,
        /// What is in it.
        text: String,
    },
    /// Changes a file; agents want to have read it before. The path is absolute.
    Edit {
        /// Where.
        path: String,
        /// A line.
        old: String,
        /// What stands there afterwards.
        new: String,
    },
    /// Reads a file; the path is absolute.
    Read(String),
    /// Calls a tool of a server with the argument `text`.
    OfServer {
        /// `mcp__SERVER__TOOL`.
        name: &'static str,
        /// The argument.
        text: String,
    },
    /// Starts a sub-agent, which has a script of its own.
    Agent {
        /// What it is told, by which its conversation is known.
        prompt: String,
        /// What its model does.
        script: Vec<Step>,
    },
}

impl Tool {
    /// Returns what names the call: its command line, path or prompt.
    fn subject(&self) -> &str {
        match self {
            Self::Shell(text)
            | Self::Server(text)
            | Self::Read(text)
            | Self::OfServer { text, .. } => text,
            Self::Write { path, .. } | Self::Edit { path, .. } => path,
            Self::Agent { prompt, .. } => prompt,
        }
    }

    /// Returns the command line that does the same in a shell, with the patch tool of Codex.
    pub(super) fn as_shell(&self) -> String {
        let patch = |body: String| {
            format!("apply_patch <<'EOF'\n*** Begin Patch\n{body}\n*** End Patch\nEOF")
        };
        match self {
            Self::Shell(line) | Self::Server(line) => line.clone(),
            Self::Write { path, text } => {
                let lines: Vec<String> = text.lines().map(|line| format!("+{line}")).collect();
                patch(format!("*** Add File: {path}\n{}", lines.join("\n")))
            }
            Self::Edit { path, old, new } => {
                patch(format!("*** Update File: {path}\n@@\n-{old}\n+{new}"))
            }
            Self::Read(path) => format!("cat '{path}'"),
            Self::OfServer { name, .. } => format!("echo 'no server for: {name}'"),
            Self::Agent { prompt, .. } => format!("echo 'no agent for: {prompt}'"),
        }
    }
}

/// The agent's response to one tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// Id of the call, `call-N` for the N-th step from 0; `call-N-M` for the M-th of several in one
    /// answer; with `sub-K-` in front for those of the K-th sub-agent.
    pub call_id: String,
    /// The command of the call, or its path or prompt.
    pub command: String,
    /// The output as the agent reports it, with the agent's own words around it.
    pub output: String,
}

/// The server's next action in one turn, independent of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Ask for tool calls.
    Calls(Vec<Call>),
    /// Say something and end the turn.
    Say(String),
    /// Say that a search was made by the provider, then something, and end the turn.
    Searched(String),
}

/// A tool call with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) action: Action,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A tool.
    Tool(Tool),
    /// The rest of the output of a command that is still running (Codex gives it a session).
    Poll(u64),
}

/// The contents of one request, independent of the protocol.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// What was said before the model's first words.
    pub(super) opening: String,
    /// Number of entries of the conversation, which distinguishes a repeated request from a new
    /// one.
    pub(super) entries: usize,
    /// Outputs of calls, as id and text.
    pub(super) outputs: Vec<(String, String)>,
}

/// Conversations and where they are in their scripts.
#[derive(Debug)]
pub(super) struct Plays {
    all: Vec<Play>,
    results: Vec<ToolResult>,
}

/// One conversation: the agent's, or that of a sub-agent.
#[derive(Debug)]
struct Play {
    /// What a sub-agent was told.
    prompt: Option<String>,
    /// In front of the ids of its calls.
    prefix: String,
    script: Vec<Step>,
    next: usize,
    pending: Vec<Pending>,
    last: Option<(usize, Reply)>,
}

/// A call that the agent has not returned.
#[derive(Clone, Debug)]
struct Pending {
    /// Id of the result.
    id: String,
    tool: Tool,
    /// Id of the open call: its own, or that of a poll for more output.
    call: String,
    polls: usize,
    so_far: String,
}

impl Plays {
    pub(super) fn new(script: Vec<Step>) -> Self {
        let mut plays = Self {
            all: Vec::new(),
            results: Vec::new(),
        };
        plays.add(None, script);
        plays
    }

    fn add(&mut self, prompt: Option<String>, script: Vec<Step>) {
        let prefix = match self.all.len() {
            0 => String::new(),
            number => format!("sub-{number}-"),
        };
        self.all.push(Play {
            prompt,
            prefix,
            script,
            next: 0,
            pending: Vec::new(),
            last: None,
        });
    }

    pub(super) fn results(&self) -> &[ToolResult] {
        &self.results
    }

    pub(super) fn is_finished(&self) -> bool {
        self.all.iter().all(Play::is_finished)
    }

    /// Says how far each conversation is.
    pub(super) fn progress(&self) -> String {
        let of = |play: &Play| {
            let who = play.prompt.as_deref().unwrap_or("the agent");
            let (next, all, pending) = (play.next, play.script.len(), &play.pending);
            format!("{who}: {next} of {all} steps, waiting for {pending:?}")
        };
        self.all.iter().map(of).collect::<Vec<_>>().join("\n")
    }

    /// Processes a turn: keeps the output in it, and returns the next step. A turn with neither an
    /// awaited output nor a longer conversation is a retry and gets the same answer again. (The
    /// length alone is not enough, because agents shorten what they send.)
    pub(super) fn reply(&mut self, turn: &Turn) -> Reply {
        let is_told = |play: &Play| {
            let prompt = play.prompt.as_deref();
            prompt.is_some_and(|prompt| turn.opening.contains(prompt))
        };
        let at = self.all.iter().position(is_told).unwrap_or_default();
        let Some(play) = self.all.get_mut(at) else {
            return Reply::Say("done".to_owned());
        };
        let reply = play.reply(turn, &mut self.results);
        if let Reply::Calls(calls) = &reply {
            for call in calls {
                if let Action::Tool(Tool::Agent { prompt, script }) = &call.action
                    && !self
                        .all
                        .iter()
                        .any(|play| play.prompt.as_ref() == Some(prompt))
                {
                    self.add(Some(prompt.clone()), script.clone());
                }
            }
        }
        reply
    }
}

impl Play {
    fn is_finished(&self) -> bool {
        self.next >= self.script.len() && self.pending.is_empty()
    }

    fn reply(&mut self, turn: &Turn, results: &mut Vec<ToolResult>) -> Reply {
        let is_there = |pending: &Pending| turn.outputs.iter().any(|(id, _)| *id == pending.call);
        let answered = self.pending.iter().any(is_there);
        if let Some((entries, reply)) = &self.last
            && turn.entries <= *entries
            && !answered
        {
            return reply.clone();
        }
        let reply = self.advance(turn, results);
        self.last = Some((turn.entries, reply.clone()));
        reply
    }

    fn advance(&mut self, turn: &Turn, results: &mut Vec<ToolResult>) -> Reply {
        let mut polls = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let output = turn.outputs.iter().find(|(id, _)| *id == pending.call);
            // A call that the agent never answers (it was interrupted) has an empty result.
            let output = output.map_or("", |(_, text)| text.as_str());
            pending.so_far.push_str(output);
            let running = openai::running_session(output);
            if let Some(session) = running.filter(|_| !matches!(pending.tool, Tool::Server(_))) {
                pending.polls += 1;
                pending.call = format!("{}-poll-{}", pending.id, pending.polls);
                polls.push(Call {
                    id: pending.call.clone(),
                    action: Action::Poll(session),
                });
                self.pending.push(pending);
                continue;
            }
            results.push(ToolResult {
                call_id: pending.id,
                command: pending.tool.subject().to_owned(),
                output: pending.so_far,
            });
        }
        if !polls.is_empty() {
            return Reply::Calls(polls);
        }
        let number = self.next;
        let Some(step) = self.script.get(number).cloned() else {
            return Reply::Say("done".to_owned());
        };
        self.next += 1;
        match step {
            Step::Say(text) => Reply::Say(text),
            Step::Searched(text) => Reply::Searched(text),
            Step::Calls(tools) => Reply::Calls(self.call(number, tools)),
        }
    }

    fn call(&mut self, number: usize, tools: Vec<Tool>) -> Vec<Call> {
        let several = tools.len() > 1;
        let mut calls = Vec::new();
        for (at, tool) in tools.into_iter().enumerate() {
            let end = if several {
                format!("-{at}")
            } else {
                String::new()
            };
            let id = format!("{}call-{number}{end}", self.prefix);
            self.pending.push(Pending {
                id: id.clone(),
                tool: tool.clone(),
                call: id.clone(),
                polls: 0,
                so_far: String::new(),
            });
            let action = Action::Tool(tool);
            calls.push(Call { id, action });
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Call, Plays, Reply, Step, Tool, ToolResult, Turn};

    fn turn(opening: &str, entries: usize, outputs: &[(&str, &str)]) -> Turn {
        let outputs = outputs
            .iter()
            .map(|(id, text)| ((*id).into(), (*text).into()))
            .collect();
        Turn {
            opening: opening.to_owned(),
            entries,
            outputs,
        }
    }

    fn shell(id: &str, line: &str) -> Call {
        Call {
            id: id.into(),
            action: Action::Tool(Tool::Shell(line.into())),
        }
    }

    #[test]
    fn the_script_is_played_in_order_and_results_are_kept() {
        let mut plays = Plays::new(vec![Step::shell("ls"), Step::say("bye")]);
        let call = Reply::Calls(vec![shell("call-0", "ls")]);
        assert_eq!(plays.reply(&turn("", 1, &[])), call);
        let again = plays.reply(&turn("", 1, &[]));
        assert_eq!(again, call, "a retry gets the same answer");
        // A shortened conversation that contains the output is not a retry.
        assert_eq!(
            plays.reply(&turn("", 1, &[("call-0", "a.txt")])),
            Reply::Say("bye".into())
        );
        assert_eq!(plays.reply(&turn("", 5, &[])), Reply::Say("done".into()));
        let result = ToolResult {
            call_id: "call-0".into(),
            command: "ls".into(),
            output: "a.txt".into(),
        };
        assert_eq!(plays.results(), [result]);
    }

    #[test]
    fn a_command_that_still_runs_is_asked_for_its_rest() {
        let mut plays = Plays::new(vec![Step::shell("sleep 60; echo b")]);
        plays.reply(&turn("", 1, &[]));
        let running = "Process running with session ID 4711\nOutput:\na\n";
        let poll = plays.reply(&turn("", 3, &[("call-0", running)]));
        let expected = Call {
            id: "call-0-poll-1".into(),
            action: Action::Poll(4711),
        };
        assert_eq!(poll, Reply::Calls(vec![expected]));
        let both = [("call-0", running), ("call-0-poll-1", "Output:\nb\n")];
        plays.reply(&turn("", 5, &both));
        let output = &plays.results().first().unwrap().output;
        assert!(
            output.contains("\na\n") && output.contains("\nb\n"),
            "{output}"
        );
        assert_eq!(plays.results().len(), 1);
    }

    #[test]
    fn calls_of_one_answer_and_sub_agents_have_their_own_ids() {
        let agent = Tool::Agent {
            prompt: "count them".into(),
            script: vec![Step::shell("wc"), Step::say("three")],
        };
        let mut plays = Plays::new(vec![Step::Calls(vec![Tool::Shell("ls".into()), agent])]);
        let calls = match plays.reply(&turn("hi", 1, &[])) {
            Reply::Calls(calls) => calls,
            Reply::Say(_) | Reply::Searched(_) => Vec::new(),
        };
        let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["call-0-0", "call-0-1"]);
        let sub = plays.reply(&turn("now count them", 1, &[]));
        assert_eq!(sub, Reply::Calls(vec![shell("sub-1-call-0", "wc")]));
        let end = plays.reply(&turn("now count them", 3, &[("sub-1-call-0", "3")]));
        assert_eq!(end, Reply::Say("three".into()));
        assert!(!plays.is_finished());
        let both = [("call-0-0", "a"), ("call-0-1", "three")];
        plays.reply(&turn("hi", 3, &both));
        assert!(plays.is_finished() && plays.results().len() == 3);
    }
}
