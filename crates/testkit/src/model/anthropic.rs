//! Anthropic Messages, as far as the agents use it.

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

/// Names of the shell tool: of Claude Code, of opencode and Copilot, of Qwen Code.
const SHELL_TOOLS: [&str; 3] = ["Bash", "bash", "run_shell_command"];

fn has(body: &Value, wanted: &str) -> bool {
    let tools = body.get("tools").and_then(Value::as_array);
    let mut names = tools
        .into_iter()
        .flatten()
        .filter_map(|tool| tool.get("name")?.as_str());
    names.any(|name| name == wanted)
}

fn shell_tool(body: &Value) -> Option<&'static str> {
    SHELL_TOOLS.into_iter().find(|name| has(body, name))
}

/// Reads a turn; `None` for a side request (a title, a topic, a quota), in which the agent does not
/// offer the shell.
pub(super) fn turn(body: &Value) -> Option<Turn> {
    shell_tool(body)?;
    let messages = body.get("messages").and_then(Value::as_array)?;
    let outputs = messages
        .iter()
        .filter_map(|message| message.get("content")?.as_array())
        .flatten()
        .filter(|block| block.get("type").and_then(Value::as_str) == Some("tool_result"))
        .filter_map(|block| {
            let id = block.get("tool_use_id")?.as_str()?.to_owned();
            Some((id, block.get("content").map(text_of).unwrap_or_default()))
        })
        .collect();
    let said = |message: &Value| message.get("content").map(text_of).unwrap_or_default();
    let entries = messages.iter().map(|entry| (role(entry), said(entry)));
    Some(Turn {
        opening: opening(entries, "assistant"),
        entries: messages.len(),
        outputs,
    })
}

/// Writes the answer to a turn, or to a side request if there is no reply.
pub(super) fn write(out: &mut impl Write, body: &Value, reply: Option<&Reply>) -> io::Result<()> {
    let (mut blocks, stop_reason) = match reply {
        Some(Reply::Calls(calls)) => (
            calls.iter().map(|one| call(body, one)).collect(),
            "tool_use",
        ),
        None => (vec![say("lab")], "end_turn"),
        Some(Reply::Say(text) | Reply::Searched(text)) => (vec![say(text)], "end_turn"),
    };
    if let Some(Reply::Searched(_)) = reply {
        blocks.splice(..0, search());
    }
    let message = json!({
        "id": "msg-lab", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": { "input_tokens": 60, "cache_read_input_tokens": 30,
                   "cache_creation_input_tokens": 10, "output_tokens": 1 },
    });
    if body.get("stream").and_then(Value::as_bool) != Some(true) {
        let blocks: Vec<Value> = blocks.into_iter().map(whole).collect();
        let message = with(message, "content", json!(blocks));
        let message = with(message, "stop_reason", json!(stop_reason));
        return Response::json(200, &message).write(out);
    }
    let mut events = EventStream::start(out)?;
    let send = |events: &mut EventStream<'_, _>, kind: &str, data: Value| {
        events.send(kind, &with(data, "type", json!(kind)))
    };
    send(&mut events, "message_start", json!({ "message": message }))?;
    for (index, (block, delta)) in blocks.into_iter().enumerate() {
        let start = json!({ "index": index, "content_block": block });
        send(&mut events, "content_block_start", start)?;
        if let Some(delta) = delta {
            let delta = json!({ "index": index, "delta": delta });
            send(&mut events, "content_block_delta", delta)?;
        }
        send(&mut events, "content_block_stop", json!({ "index": index }))?;
    }
    let end = json!({
        "delta": { "stop_reason": stop_reason, "stop_sequence": null },
        "usage": { "output_tokens": 10 },
    });
    send(&mut events, "message_delta", end)?;
    send(&mut events, "message_stop", json!({}))?;
    events.finish()
}

/// A block of an answer, and the piece that comes after it in a stream.
type Block = (Value, Option<Value>);

/// Returns a block as it is in an answer that is no stream.
fn whole((block, delta): Block) -> Value {
    let Some(delta) = delta else {
        return block;
    };
    let input = delta.get("partial_json").and_then(Value::as_str);
    let input = input.and_then(|text| serde_json::from_str(text).ok());
    match (input, delta.get("text")) {
        (Some(input), _) => with(block, "input", input),
        (None, Some(text)) => with(block, "text", text.clone()),
        (None, None) => block,
    }
}

fn call(body: &Value, call: &Call) -> Block {
    let (name, input) = match &call.action {
        Action::Tool(tool) => tool_input(body, tool),
        // Only Codex leaves a command running and can be asked for the rest of its output.
        Action::Poll(_) => shell(body, "true"),
    };
    let block = json!({ "type": "tool_use", "id": call.id, "name": name, "input": {} });
    let delta = json!({ "type": "input_json_delta", "partial_json": input.to_string() });
    (block, Some(delta))
}

/// Returns the name of the agent's tool, and its arguments; the shell's for agents whose other tools
/// are not known here.
fn tool_input(body: &Value, tool: &Tool) -> (&'static str, Value) {
    if !has(body, "Bash") {
        return shell(body, &tool.as_shell());
    }
    match tool {
        Tool::Shell(line) => shell(body, line),
        Tool::Server(line) => {
            let (name, input) = shell(body, line);
            (name, with(input, "run_in_background", json!(true)))
        }
        Tool::Write { path, text } => ("Write", json!({ "file_path": path, "content": text })),
        Tool::Edit { path, old, new } => (
            "Edit",
            json!({ "file_path": path, "old_string": old, "new_string": new }),
        ),
        Tool::Read(path) => ("Read", json!({ "file_path": path })),
        Tool::OfServer { name, text } => (*name, json!({ "text": text })),
        Tool::Agent { prompt, .. } => (
            "Agent",
            json!({ "description": "A part", "prompt": prompt, "subagent_type": "general-purpose",
                    "run_in_background": false }),
        ),
    }
}

fn shell(body: &Value, line: &str) -> (&'static str, Value) {
    let name = shell_tool(body).unwrap_or("Bash");
    let input = if name == "run_shell_command" {
        json!({ "command": line, "description": "Runs a step", "is_background": false })
    } else {
        json!({ "command": line, "description": "Runs a step", "timeout": TIMEOUT_MS })
    };
    (name, input)
}

/// Returns the blocks of a search that the provider makes, and of what it found.
fn search() -> [Block; 2] {
    let id = "srvtoolu-lab";
    let input = json!({ "query": "weather" });
    let used = json!({ "type": "server_tool_use", "id": id, "name": "web_search", "input": input });
    let found = json!({ "type": "web_search_tool_result", "tool_use_id": id, "content": [] });
    [(used, None), (found, None)]
}

fn say(text: &str) -> Block {
    let block = json!({ "type": "text", "text": "" });
    (block, Some(json!({ "type": "text_delta", "text": text })))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{turn, write};
    use crate::model::script::{Action, Call, Reply, Tool};

    #[test]
    fn a_turn_offers_the_shell_and_brings_results() {
        let blocks = json!([{ "type": "text", "text": "out" }]);
        let result = json!({ "type": "tool_result", "tool_use_id": "call-0", "content": blocks });
        let body = json!({
            "tools": [{ "name": "Bash" }],
            "messages": [{ "role": "user", "content": "hi" },
                         { "role": "user", "content": [result] }],
        });
        let turn = turn(&body).unwrap();
        assert_eq!(
            (turn.entries, turn.outputs),
            (2, vec![("call-0".into(), "out".into())])
        );
        assert!(super::turn(&json!({ "messages": [] })).is_none());
    }

    #[test]
    fn a_call_is_the_same_streamed_or_not() {
        let reply = Reply::Calls(vec![Call {
            id: "call-0".into(),
            action: Action::Tool(Tool::Shell("ls".into())),
        }]);
        let mut out = Vec::new();
        write(&mut out, &json!({ "stream": true }), Some(&reply)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\"stop_reason\":\"tool_use\"") && text.contains("message_stop"));
        let mut out = Vec::new();
        write(&mut out, &json!({}), Some(&reply)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let message: Value = serde_json::from_str(body).unwrap();
        assert_eq!(message["content"][0]["input"]["command"], "ls");
    }
}
