//! Spans of the AI SDK (its documentation, telemetry), as opencode uses it: `ai.…`, with the names of
//! OpenTelemetry for calls of models beside them.

use super::{Claim, Take, arguments, call, gen_ai, new_messages, outcome, texts};
use crate::{
    claims::{Bounded, Call},
    otlp::{ModelCall, Prompt, record::Record},
};

pub(super) fn claims(operation: &[u8], record: &Record<'_>, take: Take<'_>) {
    if operation == b"ai.toolCall" {
        let id = record.name("ai.toolCall.id").unwrap_or_default();
        take(Claim::Called(Call {
            id: id.clone(),
            name: record.name("ai.toolCall.name").unwrap_or_default(),
            arguments: arguments(record.text("ai.toolCall.args")),
        }));
        return take(outcome(id, record.text("ai.toolCall.result")));
    }
    // The span around it says the same once more.
    if !operation.ends_with(b".doStream") && !operation.ends_with(b".doGenerate") {
        return;
    }
    let mut parts = Bounded::default();
    if let Some(messages) = record.json("ai.prompt.messages") {
        let new = new_messages(&messages).iter();
        for message in new.filter(|message| message.is("role", "user")) {
            texts(message.get("content"), &["text"], &mut parts);
        }
    }
    if parts.count() > 0 {
        take(Claim::Prompt(Prompt {
            parts,
            aside: !record.has("ai.prompt.tools"),
        }));
    }
    if let Some(calls) = record.json("ai.response.toolCalls") {
        for one in calls.items() {
            let input = one.get("input").or_else(|| one.get("args"));
            take(call(one.get("toolCallId"), one.get("toolName"), input));
        }
    }
    take(Claim::Model(Box::new(ModelCall {
        duration_ms: record.number("ai.response.msToFinish").or(record.span_ms()),
        ..gen_ai::model(record)
    })));
}
