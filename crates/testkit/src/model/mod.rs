//! A scripted model: the real agents talk to it and do what the script says.
//!
//! It speaks the protocols that the agents use, streaming each: Responses of OpenAI (`POST
//! …/v1/responses`), Chat Completions (`POST …/v1/chat/completions`), Messages of Anthropic (`POST
//! …/v1/messages`) and Content of Gemini (`POST …:streamGenerateContent`). An agent's side requests (a
//! title, a token count, a list of models) are answered without using up the script.

mod anthropic;
mod chat;
mod gemini;
mod openai;
mod script;

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

use script::{Plays, Reply, Turn};
pub use script::{Step, Tool, ToolResult};

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
        self.state().plays.results().to_vec()
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
        self.state().plays.is_finished()
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
            state.plays.is_finished(),
            "expected that the agent goes through all steps, saw {}\nand these results: {:#?}\n\
             requests that were not understood: {:?}",
            state.plays.progress(),
            state.plays.results(),
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

#[derive(Debug)]
struct State {
    plays: Plays,
    bodies: Vec<Value>,
    heads: Vec<Vec<(String, String)>>,
    unknown: Vec<Unknown>,
}

impl State {
    fn new(script: Vec<Step>) -> Self {
        Self {
            plays: Plays::new(script),
            bodies: Vec::new(),
            heads: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Keeps a request, and returns the next step, if it is a turn.
    fn reply(&mut self, request: &Request, body: &Value, turn: Option<Turn>) -> Option<Reply> {
        self.bodies.push(body.clone());
        self.heads.push(request.headers.clone());
        turn.map(|turn| self.plays.reply(&turn))
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
            let reply = locked.reply(request, &body, openai::turn(&body));
            drop(locked);
            openai::write(out, &body, reply.as_ref())
        }
        "POST" if path.ends_with("/chat/completions") => {
            let reply = locked.reply(request, &body, chat::turn(&body));
            drop(locked);
            chat::write(out, &body, reply.as_ref())
        }
        "POST" if path.ends_with("enerateContent") => {
            let reply = locked.reply(request, &body, gemini::turn(&body));
            drop(locked);
            gemini::write(out, path, reply.as_ref())
        }
        "POST" if path.ends_with(":countTokens") => {
            drop(locked);
            Response::json(200, &json!({ "totalTokens": 100 })).write(out)
        }
        "POST" if path.ends_with("/messages/count_tokens") => {
            drop(locked);
            Response::json(200, &json!({ "input_tokens": 100 })).write(out)
        }
        "POST" if path.ends_with("/messages") => {
            let reply = locked.reply(request, &body, anthropic::turn(&body));
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

/// Returns the texts of a conversation's entries as long as a person, or the agent for them, speaks.
fn opening<'e>(entries: impl Iterator<Item = (&'e str, String)>, model: &str) -> String {
    let before = entries.take_while(|(role, _)| *role != model);
    let own = before.filter(|(role, _)| *role == "user");
    own.map(|(_, text)| text).collect::<Vec<_>>().join("\n")
}

/// Returns a text: a string, or a list of parts that each have a text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text")?.as_str())
            .collect(),
        other => other.to_string(),
    }
}

/// Returns the role of an entry.
fn role(entry: &Value) -> &str {
    entry
        .get("role")
        .and_then(Value::as_str)
        .unwrap_or_default()
}
