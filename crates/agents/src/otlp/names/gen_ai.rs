//! The names that OpenTelemetry has for agents of any kind (semantic conventions, `gen_ai.…`), as Copilot
//! CLI uses them.

use super::{Claim, Take, arguments, call, new_messages, outcome, texts, usage};
use crate::{
    claims::{Bounded, Call},
    content::name,
    otlp::{ModelCall, Prompt, record::Record},
    tree::Tree,
};

const TOKENS: [&str; 4] = [
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.reasoning.output_tokens",
];

pub(super) fn claims(operation: &[u8], record: &Record<'_>, take: Take<'_>) {
    match operation {
        b"execute_tool" => {
            let id = record.name("gen_ai.tool.call.id").unwrap_or_default();
            take(Claim::Called(Call {
                id: id.clone(),
                name: record.name("gen_ai.tool.name").unwrap_or_default(),
                arguments: arguments(record.text("gen_ai.tool.call.arguments")),
            }));
            take(outcome(id, record.text("gen_ai.tool.call.result")));
        }
        b"chat" | b"generate_content" | b"text_completion" => {
            if let Some(messages) = record.json("gen_ai.input.messages") {
                told(&messages, take);
            }
            if let Some(messages) = record.json("gen_ai.output.messages") {
                asks(&messages, take);
            }
            take(Claim::Model(Box::new(model(record))));
        }
        _ => {}
    }
}

/// Takes what the model was told since its last words.
fn told(messages: &Tree, take: Take<'_>) {
    let mut parts = Bounded::default();
    for message in new_messages(messages) {
        if message.is("role", "user") {
            texts(message.get("parts"), &["content"], &mut parts);
        }
        let returned = message.items_of("parts").iter();
        for part in returned.filter(|part| part.is("type", "tool_call_response")) {
            let id = part.text_of("id").map(name).unwrap_or_default();
            take(outcome(
                id,
                part.text_of("response").or_else(|| part.text_of("result")),
            ));
        }
    }
    if parts.count() > 0 {
        take(Claim::Prompt(Prompt {
            parts,
            aside: false,
        }));
    }
}

/// Takes the tool calls that the model asks for.
fn asks(messages: &Tree, take: Take<'_>) {
    for message in messages.items() {
        let parts = message.items_of("parts").iter();
        for part in parts.filter(|part| part.is("type", "tool_call")) {
            take(call(
                part.get("id"),
                part.get("name"),
                part.get("arguments"),
            ));
        }
    }
}

pub(super) fn model(record: &Record<'_>) -> ModelCall {
    let port = record.number("server.port");
    ModelCall {
        provider: record
            .name("gen_ai.provider.name")
            .or_else(|| record.name("gen_ai.system")),
        model_asked: record.name("gen_ai.request.model"),
        model: record.name("gen_ai.response.model"),
        response_id: record.name("gen_ai.response.id"),
        host: record.name("server.address"),
        port: port.and_then(|port| u16::try_from(port).ok()),
        status: None,
        usage: usage(record, TOKENS),
        finish: record.name("gen_ai.response.finish_reasons"),
        error: record.name("error.type"),
        duration_ms: record.span_ms(),
    }
}
