//! Events of Codex (its configuration, `[otel]`): `codex.…`.

use super::{Claim, Take, arguments, outcome, prompt, usage};
use crate::{
    claims::{Call, Usage},
    otlp::{ModelCall, record::Record},
};

pub(super) fn claims(event: &[u8], record: &Record<'_>, take: Take<'_>) {
    match event {
        b"user_prompt" => prompt(record.content("prompt")).into_iter().for_each(take),
        b"tool_decision" if !record.is("decision", "approved") => take(called(record)),
        b"tool_result" => {
            take(called(record));
            let call = record.name("call_id").unwrap_or_default();
            take(outcome(call, record.text("output")));
        }
        b"sse_event" if record.has("input_token_count") => {
            let names = [
                "input_token_count",
                "cached_token_count",
                "output_token_count",
                "reasoning_token_count",
            ];
            take(Claim::Model(Box::new(ModelCall {
                usage: Usage {
                    cache_written: record.number("cache_write_token_count"),
                    ..usage(record, names)
                },
                ..model(record)
            })));
        }
        b"api_request" if failed(record) => take(Claim::Model(Box::new(ModelCall {
            status: status(record),
            error: record
                .name("error.message")
                .or_else(|| Some("error".into())),
            duration_ms: record.number("duration_ms"),
            ..model(record)
        }))),
        _ => {}
    }
}

fn called(record: &Record<'_>) -> Claim {
    Claim::Called(Call {
        id: record.name("call_id").unwrap_or_default(),
        name: record.name("tool_name").unwrap_or_default(),
        arguments: arguments(record.text("arguments")),
    })
}

fn status(record: &Record<'_>) -> Option<u16> {
    let status = record.number("http.response.status_code");
    status.and_then(|status| u16::try_from(status).ok())
}

/// Tells whether a request did not get an answer; of others the answer itself is told of.
fn failed(record: &Record<'_>) -> bool {
    record.has("error.message") || status(record).is_some_and(|status| status >= 400)
}

fn model(record: &Record<'_>) -> ModelCall {
    ModelCall {
        provider: Some("openai".into()),
        model_asked: record.name("model"),
        ..ModelCall::default()
    }
}
