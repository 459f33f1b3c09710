//! Events of Gemini CLI (its documentation, telemetry) and of Qwen Code, which comes of it:
//! `gemini_cli.…`, `qwen-code.…`. They give no ids of calls.

use super::{Claim, Take, arguments, prompt, usage};
use crate::{
    claims::Call,
    otlp::{ModelCall, Outcome, record::Record},
};

const TOKENS: [&str; 4] = [
    "input_token_count",
    "cached_content_token_count",
    "output_token_count",
    "thoughts_token_count",
];

pub(super) fn claims(event: &[u8], record: &Record<'_>, take: Take<'_>) {
    match event {
        b"user_prompt" => prompt(record.content("prompt")).into_iter().for_each(take),
        b"tool_call" => {
            let id = record.name("call_id").unwrap_or_default();
            take(Claim::Called(Call {
                id: id.clone(),
                name: record.name("function_name").unwrap_or_default(),
                arguments: arguments(record.text("function_args")),
            }));
            take(Claim::Returned(Outcome {
                call: id,
                bytes: record.number("content_length").unwrap_or_default(),
                content: None,
            }));
        }
        b"api_response" | b"api_error" => {
            let status = record.number("status_code");
            take(Claim::Model(Box::new(ModelCall {
                provider: Some("gemini".into()),
                model: record.name("model"),
                status: status.and_then(|status| u16::try_from(status).ok()),
                usage: usage(record, TOKENS),
                finish: record.name("finish_reasons"),
                error: record.name("error_type").or_else(|| record.name("error")),
                duration_ms: record.number("duration_ms"),
                ..ModelCall::default()
            })));
        }
        _ => {}
    }
}
