//! OpenAI Responses, as far as Codex uses it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    MODEL, opening, role,
    script::{Action, Call, Reply, Tool, Turn},
    text_of, with,
};
use crate::http::{EventStream, Response};

/// Longest time that a command may run before its first output is sent back; it is the most that
/// the agent allows, because an answer from a person takes a while.
const YIELD_MS: u64 = 30_000;
/// The same for a command that is meant to go on.
const SERVER_MS: u64 = 1_000;

/// Reads a turn; `None` for a side request, which has no tools.
pub(super) fn turn(body: &Value) -> Option<Turn> {
    shell_tool(body)?;
    let input = body.get("input").and_then(Value::as_array)?;
    let outputs = input
        .iter()
        .filter(|item| {
            let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
            kind.ends_with("_call_output")
        })
        .filter_map(|item| {
            let id = item.get("call_id")?.as_str()?.to_owned();
            Some((id, text_of(item.get("output")?)))
        })
        .collect();
    let said = |item: &Value| item.get("content").map(text_of).unwrap_or_default();
    // Calls of tools have no role, and are the model's words.
    let speaker = |item| match role(item) {
        "" => "assistant",
        other => other,
    };
    Some(Turn {
        opening: opening(
            input.iter().map(|item| (speaker(item), said(item))),
            "assistant",
        ),
        entries: input.len(),
        outputs,
    })
}

/// Returns the session of a command that is still running, from the message of the agent's tool.
pub(super) fn running_session(output: &str) -> Option<u64> {
    let (_, rest) = output.split_once("Process running with session ID ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Writes the answer to a turn, or to a side request if there is no reply.
pub(super) fn write(out: &mut impl Write, body: &Value, reply: Option<&Reply>) -> io::Result<()> {
    let mut items = Vec::new();
    if let Some(Reply::Searched(_)) = reply {
        items.push(json!({
            "type": "web_search_call", "id": "ws-lab", "status": "completed",
            "action": { "type": "search", "query": "weather" },
        }));
    }
    match reply {
        Some(Reply::Calls(calls)) => items.extend(calls.iter().map(|call| call_item(body, call))),
        Some(Reply::Say(text) | Reply::Searched(text)) => items.push(message_item(text)),
        None => items.push(message_item("lab")),
    }
    let response = json!({
        "id": "resp-lab", "object": "response", "model": MODEL, "status": "in_progress",
        "output": [],
    });
    let usage = json!({
        "input_tokens": 100, "input_tokens_details": { "cached_tokens": 30 },
        "output_tokens": 10, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": 110,
    });
    let completed = json!({
        "id": "resp-lab", "object": "response", "model": MODEL, "status": "completed",
        "output": items, "usage": usage,
    });
    if body.get("stream").and_then(Value::as_bool) != Some(true) {
        return Response::json(200, &completed).write(out);
    }
    let mut events = EventStream::start(out)?;
    let send = |events: &mut EventStream<'_, _>, kind: &str, data: Value| {
        events.send(kind, &with(data, "type", json!(kind)))
    };
    send(
        &mut events,
        "response.created",
        json!({ "response": response }),
    )?;
    for (index, item) in items.iter().enumerate() {
        let added = json!({ "output_index": index, "item": item });
        send(&mut events, "response.output_item.added", added.clone())?;
        send(&mut events, "response.output_item.done", added)?;
    }
    send(
        &mut events,
        "response.completed",
        json!({ "response": completed }),
    )?;
    events.finish()
}

/// Names of the tool that runs shell commands, newest first.
const SHELL_TOOLS: [&str; 4] = ["exec_command", "shell_command", "shell", "local_shell"];

fn shell_tool(body: &Value) -> Option<&'static str> {
    let tools = body.get("tools").and_then(Value::as_array)?;
    let offered = |name: &str| {
        tools
            .iter()
            .any(|tool| tool.get("name").and_then(Value::as_str) == Some(name))
    };
    SHELL_TOOLS.into_iter().find(|name| offered(name))
}

fn call_item(body: &Value, call: &Call) -> Value {
    let tool = match &call.action {
        Action::Poll(session) => {
            let arguments =
                json!({ "session_id": session, "chars": "", "yield_time_ms": YIELD_MS });
            return function_call(&call.id, "write_stdin", &arguments);
        }
        Action::Tool(tool) => tool,
    };
    if let Tool::Agent { prompt, .. } = tool {
        let item = function_call(&call.id, "spawn_agent", &json!({ "message": prompt }));
        return with(item, "namespace", json!("multi_agent_v1"));
    }
    if let Tool::OfServer { name, text } = tool {
        let (space, name) = name.rsplit_once("__").unwrap_or_default();
        let item = function_call(&call.id, name, &json!({ "text": text }));
        return with(item, "namespace", json!(space));
    }
    let (command, wait_ms) = (
        tool.as_shell(),
        match tool {
            Tool::Server(_) => SERVER_MS,
            _ => YIELD_MS,
        },
    );
    let name = shell_tool(body).unwrap_or("exec_command");
    let arguments = match name {
        "exec_command" => json!({ "cmd": command, "yield_time_ms": wait_ms }),
        "shell_command" => json!({ "command": command, "timeout_ms": wait_ms }),
        _ => json!({ "command": ["sh", "-c", command], "timeout_ms": wait_ms }),
    };
    function_call(&call.id, name, &arguments)
}

fn function_call(id: &str, name: &str, arguments: &Value) -> Value {
    json!({
        "type": "function_call", "id": format!("fc-{id}"), "call_id": id, "name": name,
        "arguments": arguments.to_string(), "status": "completed",
    })
}

fn message_item(text: &str) -> Value {
    json!({
        "type": "message", "id": "msg-lab", "role": "assistant", "status": "completed",
        "content": [{ "type": "output_text", "text": text, "annotations": [] }],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{turn, write};
    use crate::model::script::{Action, Call, Reply, Tool};

    #[test]
    fn a_turn_has_tools_and_brings_outputs() {
        let tools = json!([{ "type": "function", "name": "exec_command" }]);
        let output = json!({ "type": "function_call_output", "call_id": "call-0", "output": "x" });
        let body = json!({ "tools": tools, "input": [{ "type": "message" }, output] });
        let turn = turn(&body).unwrap();
        assert_eq!(
            (turn.entries, turn.outputs),
            (2, vec![("call-0".into(), "x".into())])
        );
        assert!(super::turn(&json!({ "tools": [], "input": [] })).is_none());
    }

    #[test]
    fn a_call_is_streamed_for_the_tool_that_is_offered() {
        let body = json!({ "stream": true, "tools": [{ "name": "shell_command" }] });
        let reply = Reply::Calls(vec![Call {
            id: "call-0".into(),
            action: Action::Tool(Tool::Shell("ls".into())),
        }]);
        let mut out = Vec::new();
        write(&mut out, &body, Some(&reply)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let order = [
            "response.created",
            "\"shell_command\"",
            "response.completed",
        ];
        let places: Vec<usize> = order.iter().map(|part| text.find(part).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
