//! Events of Claude Code (code.claude.com, monitoring): `claude_code.…`.

use super::{Claim, Take, arguments, prompt};
use crate::{
    claims::{Call, Usage},
    content::{Content, Growing, name},
    otlp::{ModelCall, Outcome, record::Record},
    tree::Tree,
};

/// What it calls every tool of a server, whose own name is beside it.
const SERVERS_TOOL: &str = "mcp_tool";

pub(super) fn claims(event: &[u8], record: &Record<'_>, take: Take<'_>) {
    match event {
        b"user_prompt" => prompt(record.content("prompt")).into_iter().for_each(take),
        b"tool_decision" => decided(record, take),
        b"tool_result" => {
            take(called(record));
            take(Claim::Returned(Outcome {
                call: record.name("tool_use_id").unwrap_or_default(),
                bytes: record.number("tool_result_size_bytes").unwrap_or_default(),
                content: None,
            }));
        }
        b"api_request" | b"api_error" => take(Claim::Model(Box::new(model(record)))),
        _ => {}
    }
}

/// Takes a call before it runs, if its command is told then, or if it never runs.
fn decided(record: &Record<'_>, take: Take<'_>) {
    let parameters = record.json("tool_parameters");
    let has_command = parameters.is_some_and(|all| all.get("full_command").is_some());
    if has_command || record.is("decision", "reject") {
        take(called(record));
    }
}

fn called(record: &Record<'_>) -> Claim {
    let parameters = record.json("tool_parameters");
    let of_server = || {
        let all = parameters.as_ref()?;
        let server = all.text_of("mcp_server_name")?;
        let tool = all.text_of("mcp_tool_name")?;
        Some(name(&[b"mcp__", server, b"__", tool].concat()))
    };
    let own = record.name("tool_name").unwrap_or_default();
    let is_of_server = own.as_bytes() == SERVERS_TOOL.as_bytes();
    Claim::Called(Call {
        id: record.name("tool_use_id").unwrap_or_default(),
        name: is_of_server.then(of_server).flatten().unwrap_or(own),
        arguments: arguments(record.text("tool_input"))
            .or_else(|| shell_arguments(parameters.as_ref()?)),
    })
}

/// Returns the arguments of a command, from what is told of it.
fn shell_arguments(parameters: &Tree) -> Option<Content> {
    let member = |from: &str, to: &str| {
        let text = parameters.get(from)?.said()?;
        Some((to.as_bytes().to_vec(), Tree::Text(Growing::clone(text))))
    };
    let command = member("full_command", "command")?;
    let description = member("description", "description");
    Tree::Object([command].into_iter().chain(description).collect()).arguments()
}

fn model(record: &Record<'_>) -> ModelCall {
    let (cached, written) = (
        record.number("cache_read_tokens"),
        record.number("cache_creation_tokens"),
    );
    let input = record.number("input_tokens").map(|input| {
        // It counts those beside the cache.
        let beside = [cached, written].into_iter().flatten();
        beside.fold(input, u64::saturating_add)
    });
    ModelCall {
        provider: Some("anthropic".into()),
        model_asked: record.name("model"),
        status: record
            .number("status_code")
            .and_then(|code| u16::try_from(code).ok()),
        usage: Usage {
            input,
            cached,
            cache_written: written,
            output: record.number("output_tokens"),
            reasoning: None,
        },
        error: record.name("error"),
        duration_ms: record.number("duration_ms"),
        ..ModelCall::default()
    }
}
