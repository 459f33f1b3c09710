//! A scripted model: the real agents talk to it and do what the script says.
//!
//! It speaks the two protocols that the agents use, streaming both: OpenAI Responses (`POST
//! …/v1/responses`) and Anthropic Messages (`POST …/v1/messages`). An agent's side requests (a
//! title, a token count, a list of models) are answered without using up the script.

mod anthropic;
mod openai;

use std::{
    io::{self, BufReader, Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::{
    http::{self, Request, Response},
    lab::{Certificate, Listener, Traffic, loopback},
    wait,
};

/// Name of the model that both agents are configured to use.
pub const MODEL: &str = "lab-model";

/// One action of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks the agent to run a shell command; the agent's answer is in [`ModelServer::results`].
    Shell(String),
    /// Says something and ends its turn; the next step belongs to the next prompt.
    Say(String),
    /// The same, after the provider of the model has searched the web by itself.
    Searched(String),
}

impl Step {
    /// Makes a shell step.
    pub fn shell(command: impl Into<String>) -> Self {
        Self::Shell(command.into())
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

/// The agent's response to one shell step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// Id of the call, `call-N` for the N-th step from 0.
    pub call_id: String,
    /// The command of the step.
    pub command: String,
    /// The output as the agent reports it, with the agent's own words around it.
    pub output: String,
}

/// A request that does not belong to any protocol of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
}

/// The scripted model on a free port of 127.0.0.1; dropping it closes every connection.
#[derive(Debug)]
pub struct ModelServer {
    listener: Listener,
    state: Arc<Mutex<State>>,
    certificate: Option<Certificate>,
}

impl ModelServer {
    /// Starts a server that plays `script`; after its end every turn is answered with `done`.
    pub fn start(script: Vec<Step>) -> Self {
        let state = Arc::new(Mutex::new(State::new(script)));
        let shared = Arc::clone(&state);
        let listener = Listener::start(loopback(), move |connection| converse(connection, &shared));
        Self {
            listener,
            state,
            certificate: None,
        }
    }

    /// The same behind TLS, with a certificate for `name`.
    pub fn start_tls(name: &str, script: Vec<Step>) -> Self {
        let state = Arc::new(Mutex::new(State::new(script)));
        let certificate = Certificate::new(&[name]);
        let (shared, config) = (Arc::clone(&state), Arc::new(certificate.server()));
        let listener = Listener::start(loopback(), move |connection| {
            let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            converse(StreamOwned::new(session, connection), &shared)
        });
        Self {
            listener,
            state,
            certificate: Some(certificate),
        }
    }

    /// Returns its certificate, which a client must trust; none without TLS.
    pub fn certificate_pem(&self) -> Option<&str> {
        self.certificate.as_ref().map(Certificate::pem)
    }

    /// Returns the head fields of every request that was a turn or a side request.
    pub fn heads(&self) -> Vec<Vec<(String, String)>> {
        self.state().heads.clone()
    }

    /// Forgets everything and plays `script`, for the next conversation.
    pub fn play(&self, script: Vec<Step>) {
        *self.state() = State::new(script);
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Returns the URL under which an agent on this host reaches it, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns the URL for reaching it by the name `host`, without a path.
    pub fn url_as(&self, host: &str) -> String {
        let scheme = if self.certificate.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{host}:{}", self.port())
    }

    /// Returns the agent's responses to each shell step so far.
    pub fn results(&self) -> Vec<ToolResult> {
        self.state().results.clone()
    }

    /// Returns the body of every request that was a turn or a side request, as JSON.
    pub fn bodies(&self) -> Vec<Value> {
        self.state().bodies.clone()
    }

    /// Returns the requests that were answered with 404.
    pub fn unknown(&self) -> Vec<Unknown> {
        self.state().unknown.clone()
    }

    /// Returns whether the agent has completed the whole script.
    pub fn is_finished(&self) -> bool {
        let state = self.state();
        state.next >= state.script.len() && state.pending.is_none()
    }

    /// Waits until `count` shell steps have been answered and returns all of them.
    pub fn wait_for_results(&self, count: usize, timeout: Duration) -> Vec<ToolResult> {
        wait::until(timeout, || {
            Some(self.results()).filter(|seen| seen.len() >= count)
        })
        .unwrap_or_else(|| panic!("expected {count} results, saw {:#?}", self.results()))
    }

    /// Ends the test unless the agent has completed the whole script.
    pub fn assert_finished(&self) {
        let state = self.state();
        assert!(
            state.next >= state.script.len() && state.pending.is_none(),
            "expected that the agent goes through all {} steps, saw {} and these results: {:#?}\n\
             requests that were not understood: {:?}",
            state.script.len(),
            state.next,
            state.results,
            state.unknown,
        );
    }

    /// Returns connections and bytes.
    pub fn traffic(&self) -> Traffic {
        self.listener.traffic()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread panicked with the script")
    }
}

/// The server's next action in one turn, independent of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    /// Ask for a shell command.
    Call { id: String, command: String },
    /// Ask for the rest of the output of a command that is still running (Codex gives it a
    /// session).
    Poll { id: String, session: u64 },
    /// Say something and end the turn.
    Say(String),
    /// Say that a search was made by the provider, then something, and end the turn.
    Searched(String),
}

/// The contents of one request, independent of the protocol.
struct Turn {
    /// Number of entries of the conversation, which distinguishes a repeated request from a new
    /// one.
    entries: usize,
    /// Outputs of calls, as id and text.
    outputs: Vec<(String, String)>,
}

#[derive(Debug)]
struct State {
    script: Vec<Step>,
    next: usize,
    pending: Option<Pending>,
    last: Option<(usize, Reply)>,
    results: Vec<ToolResult>,
    bodies: Vec<Value>,
    heads: Vec<Vec<(String, String)>>,
    unknown: Vec<Unknown>,
}

#[derive(Clone, Debug)]
struct Pending {
    /// Id of the step, which is the id of the result.
    step: String,
    command: String,
    /// Id of the open call: the step's own, or that of a poll for more output.
    call: String,
    polls: usize,
    so_far: String,
}

impl State {
    fn new(script: Vec<Step>) -> Self {
        Self {
            script,
            next: 0,
            pending: None,
            last: None,
            results: Vec::new(),
            bodies: Vec::new(),
            heads: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Processes a turn: keeps the output in it, and returns the next step. A turn with neither the
    /// awaited output nor a longer conversation is a retry and gets the same answer again. (The
    /// length alone is not enough, because agents shorten what they send.)
    fn reply(&mut self, turn: &Turn) -> Reply {
        let answered = self
            .pending
            .as_ref()
            .is_some_and(|pending| turn.outputs.iter().any(|(id, _)| *id == pending.call));
        if let Some((entries, reply)) = &self.last
            && turn.entries <= *entries
            && !answered
        {
            return reply.clone();
        }
        let reply = self.advance(turn);
        self.last = Some((turn.entries, reply.clone()));
        reply
    }

    fn advance(&mut self, turn: &Turn) -> Reply {
        if let Some(mut pending) = self.pending.take() {
            let output = turn.outputs.iter().find(|(id, _)| *id == pending.call);
            // A call that the agent never answers (it was interrupted) has an empty result.
            pending
                .so_far
                .push_str(output.map_or("", |(_, text)| text.as_str()));
            if let Some(session) = output.and_then(|(_, text)| openai::running_session(text)) {
                pending.polls += 1;
                pending.call = format!("{}-poll-{}", pending.step, pending.polls);
                let id = pending.call.clone();
                self.pending = Some(pending);
                return Reply::Poll { id, session };
            }
            self.results.push(ToolResult {
                call_id: pending.step,
                command: pending.command,
                output: pending.so_far,
            });
        }
        let number = self.next;
        let Some(step) = self.script.get(number).cloned() else {
            return Reply::Say("done".to_owned());
        };
        self.next += 1;
        match step {
            Step::Say(text) => Reply::Say(text),
            Step::Searched(text) => Reply::Searched(text),
            Step::Shell(command) => {
                let id = format!("call-{number}");
                self.pending = Some(Pending {
                    step: id.clone(),
                    command: command.clone(),
                    call: id.clone(),
                    polls: 0,
                    so_far: String::new(),
                });
                Reply::Call { id, command }
            }
        }
    }
}

/// Returns the JSON object `object` with one field set.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    object
}

fn converse(stream: impl Read + Write, state: &Mutex<State>) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    // No agent waits for an interim answer.
    while let Some(request) = http::read(&mut input, &mut io::sink())? {
        answer(&request, input.get_mut(), state)?;
    }
    Ok(())
}

fn answer(request: &Request, out: &mut impl Write, state: &Mutex<State>) -> io::Result<()> {
    let body = request.json();
    let mut locked = state.lock().expect("no thread panicked with the script");
    let path = request.path().trim_end_matches('/');
    match request.method.as_str() {
        "POST" if path.ends_with("/responses") => {
            locked.bodies.push(body.clone());
            locked.heads.push(request.headers.clone());
            let reply = openai::turn(&body).map(|turn| locked.reply(&turn));
            drop(locked);
            openai::write(out, &body, reply.as_ref())
        }
        "POST" if path.ends_with("/messages/count_tokens") => {
            drop(locked);
            Response::json(200, &json!({ "input_tokens": 100 })).write(out)
        }
        "POST" if path.ends_with("/messages") => {
            locked.bodies.push(body.clone());
            locked.heads.push(request.headers.clone());
            let reply = anthropic::turn(&body).map(|turn| locked.reply(&turn));
            drop(locked);
            anthropic::write(out, &body, reply.as_ref())
        }
        "GET" if path.ends_with("/models") => {
            drop(locked);
            let model = json!({ "id": MODEL, "object": "model", "owned_by": "lab" });
            Response::json(200, &json!({ "object": "list", "data": [model] })).write(out)
        }
        // An agent checks whether the server is there.
        "HEAD" if path.is_empty() => {
            drop(locked);
            Response::text(200, "").write(out)
        }
        _ => {
            let (method, target) = (request.method.clone(), request.target.clone());
            let text = format!("the laboratory has no `{method} {target}`");
            locked.unknown.push(Unknown { method, target });
            drop(locked);
            let error = json!({ "type": "not_found_error", "message": text });
            Response::json(404, &json!({ "type": "error", "error": error })).write(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reply, State, Step, ToolResult, Turn};

    fn turn(entries: usize, outputs: &[(&str, &str)]) -> Turn {
        let outputs = outputs
            .iter()
            .map(|(id, text)| ((*id).into(), (*text).into()))
            .collect();
        Turn { entries, outputs }
    }

    #[test]
    fn the_script_is_played_in_order_and_results_are_kept() {
        let mut state = State::new(vec![Step::shell("ls"), Step::say("bye")]);
        let call = Reply::Call {
            id: "call-0".into(),
            command: "ls".into(),
        };
        assert_eq!(state.reply(&turn(1, &[])), call);
        assert_eq!(
            state.reply(&turn(1, &[])),
            call,
            "a retry gets the same answer"
        );
        // A shortened conversation that contains the output is not a retry.
        assert_eq!(
            state.reply(&turn(1, &[("call-0", "a.txt")])),
            Reply::Say("bye".into())
        );
        assert_eq!(state.reply(&turn(5, &[])), Reply::Say("done".into()));
        let result = ToolResult {
            call_id: "call-0".into(),
            command: "ls".into(),
            output: "a.txt".into(),
        };
        assert_eq!(state.results, [result]);
    }

    #[test]
    fn a_command_that_still_runs_is_asked_for_its_rest() {
        let mut state = State::new(vec![Step::shell("sleep 60; echo b")]);
        state.reply(&turn(1, &[]));
        let running = "Process running with session ID 4711\nOutput:\na\n";
        let poll = state.reply(&turn(3, &[("call-0", running)]));
        assert_eq!(
            poll,
            Reply::Poll {
                id: "call-0-poll-1".into(),
                session: 4711
            }
        );
        state.reply(&turn(
            5,
            &[("call-0", running), ("call-0-poll-1", "Output:\nb\n")],
        ));
        let output = &state.results.first().unwrap().output;
        assert!(
            output.contains("\na\n") && output.contains("\nb\n"),
            "{output}"
        );
        assert_eq!(state.results.len(), 1);
    }
}
