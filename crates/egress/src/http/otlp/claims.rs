//! Claims of exports as events.

use stockade_agents::{Intent, otlp::Claim, otlp::ModelCall};
use stockade_event::{Event, Listed, ModelUsage};
use stockade_types::{CallEnd, ModelApi, ModelProvider, RawText};

use crate::http::said::Sayings;

/// A claim as it is recorded, and what it names.
pub(super) struct Claimed {
    pub(super) event: Event,
    pub(super) intent: Intent,
}

impl Claimed {
    pub(super) fn of(claim: &Claim, sayings: &Sayings) -> Self {
        match claim {
            Claim::Prompt(prompt) => Self {
                event: sayings.prompted(&prompt.parts, prompt.aside),
                intent: Intent::of_prompts(&prompt.parts),
            },
            Claim::Called(call) => Self {
                event: sayings.called(call),
                intent: call.intent(),
            },
            Claim::Returned(outcome) => Self {
                event: sayings.ended(outcome),
                intent: Intent::default(),
            },
            Claim::Model(call) => Self {
                event: model(call, sayings),
                intent: Intent::default(),
            },
        }
    }
}

fn model(call: &ModelCall, sayings: &Sayings) -> Event {
    let name = |name: &Option<RawText>| name.as_ref().map(|name| sayings.shown(name));
    let (provider, api) = whose(call.provider.as_ref());
    let host = call.host.as_ref().map(|host| sayings.shown(host).display());
    Event::ModelCalled {
        process: sayings.subject.clone(),
        learned_from: sayings.learned_from,
        decision: None,
        host: host.unwrap_or_default(),
        port: call.port.unwrap_or_default(),
        provider,
        api,
        model_asked: name(&call.model_asked),
        model: name(&call.model),
        response_id: name(&call.response_id),
        status: call.status,
        streaming: false,
        usage: ModelUsage {
            input: call.usage.input,
            cached: call.usage.cached,
            cache_written: call.usage.cache_written,
            output: call.usage.output,
            reasoning: call.usage.reasoning,
        },
        finish: name(&call.finish),
        error: name(&call.error),
        hosted_declared: Vec::new(),
        hosted_used: Vec::new(),
        functions: Listed::default(),
        prompts: Listed::default(),
        results: Listed::default(),
        calls: Listed::default(),
        said: None,
        bytes_out: 0,
        bytes_in: 0,
        duration_ms: call.duration_ms.unwrap_or_default(),
        first_byte_ms: None,
        ended: CallEnd::Whole,
        unread: None,
    }
}

/// Returns whose model it is by the agent's word, and the form of the call if there is only one.
fn whose(provider: Option<&RawText>) -> (ModelProvider, ModelApi) {
    match provider.map(RawText::as_bytes) {
        Some(b"anthropic") => (ModelProvider::Anthropic, ModelApi::Messages),
        Some(b"openai" | b"azure.ai.openai") => (ModelProvider::OpenAi, ModelApi::Unsaid),
        Some(b"gemini" | b"gcp.gemini" | b"gcp.gen_ai" | b"gcp.vertex_ai") => {
            (ModelProvider::Gemini, ModelApi::Generate)
        }
        Some(b"aws.bedrock") => (ModelProvider::Bedrock, ModelApi::Unsaid),
        Some(_) | None => (ModelProvider::Other, ModelApi::Unsaid),
    }
}
