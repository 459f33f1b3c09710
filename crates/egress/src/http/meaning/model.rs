//! Calls of models: the model and the tools that the provider runs, from the JSON of the request.

use stockade_agents::{RunBy, run_by};
use stockade_policy::{HostedTool, Meaning, Model, Provider};

use super::json::{Doubled, Tree, members};
use crate::{http::head::Head, limits::OTHER_JSON_BYTES_MAX};

/// The members of a call that say which model, and what it may use.
const MEMBERS: [&str; 7] = [
    "model",
    "stream",
    "tools",
    "mcp_servers",
    "web_search_options",
    "container",
    "requests",
];

/// The type of a name for several tools.
const NAMESPACE: &str = "namespace";
/// How deep names for several tools are looked into; no client puts one into another.
const NAMESPACES_MAX: usize = 2;

/// A request to open a WebSocket says later what it calls, where nobody reads it.
pub(super) fn look_at_fields(meaning: &mut Vec<Meaning>, head: &Head, is_looked_for: bool) {
    let name = |field: super::Field<'_>| field.name.to_ascii_lowercase();
    let mut fields = head.fields.iter();
    let opens = fields.any(|field| name(field).starts_with(b"sec-websocket"));
    if opens && is_looked_for {
        meaning.retain(|one| !matches!(one, Meaning::Model(_)));
        meaning.push(Meaning::Model(Model::unclear()));
    }
}

/// Adds what the whole body says of a call.
pub(super) fn complete(model: &mut Model, body: &[u8]) {
    let read = if model.provider.is_some() {
        call(model.provider, body)
    } else {
        anything(body)
    };
    let Some(Ok(read)) = read else { return };
    if model.provider != Some(Provider::Gemini) {
        model.model = read.model;
        model.streaming = Some(read.streaming);
    }
    model.hosted_tools = Some(read.tools);
}

/// What a body says.
#[derive(Debug, Default)]
struct Said {
    model: Option<String>,
    streaming: bool,
    tools: Vec<HostedTool>,
}

/// Reads a call in one of the known protocols.
fn call(provider: Option<Provider>, body: &[u8]) -> Option<Result<Said, Doubled>> {
    let tree = members(body, &MEMBERS)?;
    let said = said(&tree);
    // Where the model is in the body and is missing, the server may know a default.
    Some(said.map(|said| Said {
        model: said.model.filter(|_| provider != Some(Provider::Gemini)),
        ..said
    }))
}

fn said(tree: &Tree) -> Result<Said, Doubled> {
    let model = tree.member("model")?.and_then(Tree::text);
    let mut tools = Vec::new();
    match tree.member("tools")? {
        None | Some(Tree::Other) => {}
        Some(Tree::List(list)) => {
            for tool in list {
                look(tool, 0, &mut tools)?;
            }
        }
        Some(_) => return Err(Doubled),
    }
    for (member, name) in [
        ("mcp_servers", "mcp"),
        ("web_search_options", "web_search"),
        ("container", "code_execution"),
    ] {
        let is_empty = |tree: &Tree| matches!(tree, Tree::Other) || *tree == Tree::List(Vec::new());
        if tree.member(member)?.is_some_and(|tree| !is_empty(tree)) {
            tools.push(known(name));
        }
    }
    tools.sort();
    tools.dedup();
    Ok(Said {
        model: model.map(str::to_owned),
        streaming: tree.member("stream")? == Some(&Tree::Flag(true)),
        tools,
    })
}

/// Looks at one tool: by its type, or, where it has none, by what it is described with.
fn look(tool: &Tree, depth: usize, tools: &mut Vec<HostedTool>) -> Result<(), Doubled> {
    let Tree::Object(parts) = tool else {
        return Err(Doubled);
    };
    if let Some(sort) = tool.member("type")? {
        let sort = sort.text().ok_or(Doubled)?;
        // A name for several tools, each with a type of its own.
        if sort == NAMESPACE && depth < NAMESPACES_MAX {
            let Some(Tree::List(list)) = tool.member("tools")? else {
                return Err(Doubled);
            };
            return list
                .iter()
                .try_for_each(|tool| look(tool, depth + 1, tools));
        }
        tools.extend(hosted(sort));
        return Ok(());
    }
    // A tool of Anthropic that the program runs has a schema and no type; those of Gemini are named by
    // their members.
    if tool.member("input_schema")?.is_some() {
        return Ok(());
    }
    tools.extend(parts.iter().filter_map(|(name, _)| hosted(name)));
    Ok(())
}

fn hosted(sort: &str) -> Option<HostedTool> {
    match run_by(sort) {
        RunBy::Program => None,
        RunBy::Provider(name) => Some(known(name)),
        RunBy::Unknown => Some(HostedTool {
            name: sort.to_owned(),
            is_known: false,
        }),
    }
}

fn known(name: &str) -> HostedTool {
    HostedTool {
        name: name.to_owned(),
        is_known: true,
    }
}

/// Looks for calls anywhere in a body that was sent to another address of a service: batches have them
/// in lists.
fn anything(body: &[u8]) -> Option<Result<Said, Doubled>> {
    if body.len() > OTHER_JSON_BYTES_MAX {
        return None;
    }
    let tree = Tree::read(body)?;
    let mut all = Said::default();
    Some(gather(&tree, &mut all).map(|()| all))
}

fn gather(tree: &Tree, all: &mut Said) -> Result<(), Doubled> {
    match tree {
        Tree::Object(members) => {
            let own = said(tree)?;
            if all.model.is_some() && own.model.is_some() && all.model != own.model {
                // The words name one model, and rules are about each.
                return Err(Doubled);
            }
            all.model = all.model.take().or(own.model);
            all.tools.extend(own.tools);
            members.iter().try_for_each(|(_, value)| gather(value, all))
        }
        Tree::List(items) => items.iter().try_for_each(|item| gather(item, all)),
        Tree::Text(_) | Tree::Flag(_) | Tree::Other => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::complete;
    use stockade_policy::{Model, Provider};

    /// Model and tools of a call; `?` where they are not known, `~` before an unknown tool.
    fn said(provider: Option<Provider>, body: &str) -> String {
        let mut model = Model::unclear();
        model.provider = provider;
        complete(&mut model, body.as_bytes());
        let tools = model.hosted_tools.map_or_else(
            || "?".to_owned(),
            |tools| {
                let name = |tool: &stockade_policy::HostedTool| {
                    let mark = if tool.is_known { "" } else { "~" };
                    format!("{mark}{}", tool.name)
                };
                tools.iter().map(name).collect::<Vec<_>>().join("+")
            },
        );
        format!("{} {tools}", model.model.unwrap_or_else(|| "?".to_owned()))
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of data")]
    fn tools_of_the_provider_are_told_from_those_of_the_program() {
        let (anthropic, openai) = (Some(Provider::Anthropic), Some(Provider::OpenAi));
        for (provider, body, expected) in [
            (
                anthropic,
                r#"{"model":"m","messages":[{"model":"x","tools":[]}]}"#,
                "m ",
            ),
            (
                anthropic,
                r#"{"model":"m","tools":[{"name":"Read","input_schema":{}}]}"#,
                "m ",
            ),
            (
                anthropic,
                r#"{"model":"m","tools":[{"type":"bash_20250124","name":"bash"}]}"#,
                "m ",
            ),
            (
                anthropic,
                r#"{"model":"m","tools":[{"type":"web_search_20250305"},{"type":"custom"}],"mcp_servers":[{}]}"#,
                "m mcp+web_search",
            ),
            (
                anthropic,
                r#"{"model":"m","tools":[{"type":"brand_new_1"}]}"#,
                "m ~brand_new_1",
            ),
            (
                openai,
                r#"{"model":"m","tools":[{"type":"function"},{"type":"mcp","server_url":"x"}]}"#,
                "m mcp",
            ),
            (
                openai,
                r#"{"model":"m","tools":[{"type":"namespace","name":"n","tools":[{"type":"function"}]}]}"#,
                "m ",
            ),
            (
                openai,
                r#"{"model":"m","tools":[{"type":"namespace","tools":[{"type":"web_search"},{"type":"x"}]}]}"#,
                "m web_search+~x",
            ),
            (
                openai,
                r#"{"model":"m","tools":[{"type":"namespace"}]}"#,
                "? ?",
            ),
            (
                openai,
                r#"{"model":"m","web_search_options":{}}"#,
                "m web_search",
            ),
            (
                Some(Provider::Gemini),
                r#"{"tools":[{"functionDeclarations":[]},{"googleSearch":{}}]}"#,
                "? web_search",
            ),
            // Two members, another letter case, an escaped name, another type, no JSON at all.
            (anthropic, r#"{"model":"m","model":"n"}"#, "? ?"),
            (
                anthropic,
                r#"{"model":"m","Tools":[{"type":"web_search"}]}"#,
                "? ?",
            ),
            (
                anthropic,
                r#"{"model":"m","\u0074ools":[{"type":"web_search"}]}"#,
                "m web_search",
            ),
            (
                anthropic,
                r#"{"model":"m","tools":[{"type":"function","type":"mcp"}]}"#,
                "? ?",
            ),
            (anthropic, r#"{"model":"m","tools":{"type":"mcp"}}"#, "? ?"),
            (anthropic, "{\"model\":\"m\"} x", "? ?"),
            (anthropic, "[]", "? ?"),
            (None, r#"[{"model":"m"},{"model":"n"}]"#, "? ?"),
            // Other addresses: batches, counts, what has nothing to do with it.
            (
                None,
                r#"{"requests":[{"params":{"model":"m","tools":[{"type":"web_fetch"}]}}]}"#,
                "m web_fetch",
            ),
            (None, r#"{"events":[{"name":"start"}]}"#, "? "),
            (None, "name=x", "? ?"),
        ] {
            assert_eq!(said(provider, body), expected, "{body}");
        }
    }
}
