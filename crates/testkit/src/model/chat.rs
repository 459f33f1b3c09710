//! Chat Completions of OpenAI, as far as opencode uses them.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    MODEL, opening, role,
    script::{Action, Call, Reply, Tool, Turn},
    text_of, with,
};
use crate::http::{EventStream, Response};

/// Longest time that a command may run: an answer from a person takes a while.
const TIMEOUT_MS: u64 = 120_000;

fn offers_shell(body: &Value) -> bool {
    let tools = body.get("tools").and_then(Value::as_array);
    let mut functions = tools
        .into_iter()
        .flatten()
        .filter_map(|tool| tool.get("function"));
    functions.any(|function| function.get("name").and_then(Value::as_str) == Some("bash"))
}

/// Reads a turn; `None` for a side request, which does not offer the shell.
pub(super) fn turn(body: &Value) -> Option<Turn> {
    let messages = body.get("messages").and_then(Value::as_array)?;
    let said = |message: &Value| message.get("content").map(text_of).unwrap_or_default();
    let outputs = messages.iter().filter(|message| role(message) == "tool");
    let outputs = outputs.filter_map(|message| {
        let id = message.get("tool_call_id")?.as_str()?.to_owned();
        Some((id, said(message)))
    });
    let entries = messages.iter().map(|entry| (role(entry), said(entry)));
    offers_shell(body).then(|| Turn {
        opening: opening(entries, "assistant"),
        entries: messages.len(),
        outputs: outputs.collect(),
    })
}

/// Writes the answer to a turn, or to a side request if there is no reply.
pub(super) fn write(out: &mut impl Write, body: &Value, reply: Option<&Reply>) -> io::Result<()> {
    let (message, finish) = match reply {
        Some(Reply::Calls(calls)) => {
            let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
            (
                json!({ "role": "assistant", "tool_calls": calls }),
                "tool_calls",
            )
        }
        Some(Reply::Say(text) | Reply::Searched(text)) => (say(text), "stop"),
        None => (say("lab"), "stop"),
    };
    let usage = json!({
        "prompt_tokens": 100, "prompt_tokens_details": { "cached_tokens": 30 },
        "completion_tokens": 10, "total_tokens": 110,
    });
    let answer = |kind: &str, name: &str, message: Value, finish: Value| {
        let choice = with(
            json!({ "index": 0, "finish_reason": finish }),
            name,
            message,
        );
        json!({ "id": "chat-lab", "object": kind, "created": 0, "model": MODEL,
                "choices": [choice] })
    };
    if body.get("stream").and_then(Value::as_bool) != Some(true) {
        let whole = answer("chat.completion", "message", message, json!(finish));
        return Response::json(200, &with(whole, "usage", usage)).write(out);
    }
    let kind = "chat.completion.chunk";
    let mut events = EventStream::start(out)?;
    events.send("", &answer(kind, "delta", message, Value::Null))?;
    let last = answer(kind, "delta", json!({}), json!(finish));
    events.send("", &with(last, "usage", usage))?;
    events.finish()
}

fn say(text: &str) -> Value {
    json!({ "role": "assistant", "content": text })
}

fn call((index, call): (usize, &Call)) -> Value {
    let (name, arguments) = match &call.action {
        Action::Tool(tool) => arguments(tool),
        // Only Codex leaves a command running and can be asked for the rest of its output.
        Action::Poll(_) => shell("true"),
    };
    json!({ "index": index, "id": call.id, "type": "function",
            "function": { "name": name, "arguments": arguments.to_string() } })
}

fn arguments(tool: &Tool) -> (&'static str, Value) {
    match tool {
        Tool::Shell(line) => shell(line),
        Tool::Server(line) => shell(&format!("({line}) > /dev/null 2>&1 &")),
        Tool::Write { path, text } => ("write", json!({ "filePath": path, "content": text })),
        Tool::Edit { path, old, new } => (
            "edit",
            json!({ "filePath": path, "oldString": old, "newString": new }),
        ),
        Tool::Read(path) => ("read", json!({ "filePath": path })),
        Tool::OfServer { name, text } => (*name, json!({ "text": text })),
        Tool::Agent { prompt, .. } => (
            "task",
            json!({ "description": "A part", "prompt": prompt, "subagent_type": "general" }),
        ),
    }
}

fn shell(line: &str) -> (&'static str, Value) {
    (
        "bash",
        json!({ "command": line, "description": "Runs a step", "timeout": TIMEOUT_MS }),
    )
}
