//! Content of Gemini, as far as Gemini CLI uses it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    MODEL, opening, role,
    script::{Action, Call, Reply, Tool, Turn},
    text_of, with,
};
use crate::http::{EventStream, Response};

fn offers_shell(body: &Value) -> bool {
    let tools = body.get("tools").and_then(Value::as_array);
    let declared = tools.into_iter().flatten().filter_map(|tool| {
        let functions = tool.get("functionDeclarations")?.as_array()?;
        Some(functions.iter())
    });
    let mut names = declared
        .flatten()
        .filter_map(|function| function.get("name")?.as_str());
    names.any(|name| name == "run_shell_command")
}

/// Reads a turn; `None` for a side request, which does not offer the shell.
pub(super) fn turn(body: &Value) -> Option<Turn> {
    let contents = body.get("contents").and_then(Value::as_array)?;
    let parts = contents
        .iter()
        .filter_map(|content| content.get("parts")?.as_array());
    let outputs = parts.flatten().filter_map(|part| {
        let response = part.get("functionResponse")?;
        let id = response.get("id")?.as_str()?.to_owned();
        Some((id, response.get("response")?.to_string()))
    });
    let said = |content: &Value| content.get("parts").map(text_of).unwrap_or_default();
    let entries = contents.iter().map(|entry| (role(entry), said(entry)));
    offers_shell(body).then(|| Turn {
        opening: opening(entries, "model"),
        entries: contents.len(),
        outputs: outputs.collect(),
    })
}

/// Writes the answer to a turn, or to a side request if there is no reply.
pub(super) fn write(out: &mut impl Write, path: &str, reply: Option<&Reply>) -> io::Result<()> {
    let parts = match reply {
        Some(Reply::Calls(calls)) => calls.iter().map(call).collect(),
        Some(Reply::Say(text) | Reply::Searched(text)) => vec![json!({ "text": text })],
        None => vec![json!({ "text": "{}" })],
    };
    let candidate = json!({ "index": 0, "content": { "role": "model", "parts": parts } });
    let answer = json!({
        "responseId": "gen-lab", "modelVersion": MODEL,
        "candidates": [with(candidate, "finishReason", json!("STOP"))],
        "usageMetadata": { "promptTokenCount": 100, "cachedContentTokenCount": 30,
                           "candidatesTokenCount": 10, "totalTokenCount": 110 },
    });
    if !path.ends_with(":streamGenerateContent") {
        return Response::json(200, &answer).write(out);
    }
    let mut events = EventStream::start(out)?;
    events.send("", &answer)?;
    events.finish()
}

fn call(call: &Call) -> Value {
    let (name, arguments) = match &call.action {
        Action::Tool(tool) => arguments(tool),
        // Only Codex leaves a command running and can be asked for the rest of its output.
        Action::Poll(_) => shell("true", false),
    };
    json!({ "functionCall": { "id": call.id, "name": name, "args": arguments } })
}

fn arguments(tool: &Tool) -> (&'static str, Value) {
    match tool {
        Tool::Shell(line) => shell(line, false),
        Tool::Server(line) => shell(line, true),
        Tool::Write { path, text } => ("write_file", json!({ "file_path": path, "content": text })),
        Tool::Edit { path, old, new } => (
            "replace",
            json!({ "file_path": path, "instruction": "Change a line.", "old_string": old,
                    "new_string": new }),
        ),
        Tool::Read(path) => ("read_file", json!({ "file_path": path })),
        Tool::OfServer { name, text } => (*name, json!({ "text": text })),
        Tool::Agent { prompt, .. } => (
            "invoke_agent",
            json!({ "agent_name": "generalist", "prompt": prompt }),
        ),
    }
}

fn shell(line: &str, is_background: bool) -> (&'static str, Value) {
    (
        "run_shell_command",
        json!({ "command": line, "description": "Runs a step", "is_background": is_background }),
    )
}
