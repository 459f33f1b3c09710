//! `tool Bash command="git push"` and `tool mcp:SERVER/TOOL name=value` in one line.

use serde_json::{Map, Value};
use stockade_types::{RawText, Subject};

use super::ToolRequest;
use crate::kinds::{ProbeError, WORKSPACE};

/// Reads a tool and its arguments. Dots lead into members; a name that comes again makes a list.
pub(crate) fn probe(words: &[&str], rest: &[&str]) -> Result<ToolRequest, ProbeError> {
    let shape = || ProbeError::Shape {
        line: words.join(" "),
        example: "tool Bash command=\"git push\"",
    };
    let (name, arguments) = rest.split_first().ok_or_else(shape)?;
    let (server, tool) = match name.strip_prefix("mcp:") {
        Some(rest) => {
            let (server, tool) = rest.split_once('/').ok_or_else(shape)?;
            (Some(server.as_bytes()), tool)
        }
        None => (None, *name),
    };
    if tool.is_empty() || server.is_some_and(<[u8]>::is_empty) {
        return Err(shape());
    }
    let mut all = Map::new();
    for argument in arguments {
        let (path, text) = argument.split_once('=').ok_or_else(shape)?;
        let names: Vec<&str> = path.split('.').collect();
        add(&mut all, &names, text).ok_or_else(shape)?;
    }
    let subject = Subject {
        cwd: RawText::from(WORKSPACE),
        ..Subject::default()
    };
    let json = Value::Object(all).to_string();
    let mut request = ToolRequest::new(tool.as_bytes(), server, json.as_bytes(), subject);
    request.workspace = Some(RawText::from(WORKSPACE));
    Ok(request)
}

fn add(object: &mut Map<String, Value>, names: &[&str], text: &str) -> Option<()> {
    let (first, rest) = names.split_first().filter(|(first, _)| !first.is_empty())?;
    let text = || Value::String(text.to_owned());
    match (object.get_mut(*first), rest) {
        (None, []) => {
            object.insert((*first).to_owned(), text());
        }
        (Some(Value::Array(list)), []) => list.push(text()),
        (Some(Value::Object(_)), []) => return None,
        (Some(other), []) => *other = Value::Array(vec![other.take(), text()]),
        (None, rest) => {
            let mut inner = Map::new();
            add(&mut inner, rest, text().as_str()?)?;
            object.insert((*first).to_owned(), Value::Object(inner));
        }
        (Some(Value::Object(inner)), rest) => add(inner, rest, text().as_str()?)?,
        (Some(_), _) => return None,
    }
    Some(())
}
