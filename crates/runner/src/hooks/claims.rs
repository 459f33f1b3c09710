//! What agents tell their hooks, as claims: as much of the texts as policy lets into the record.

use stockade_agents::{Content, HookMessage, HookResult, Intent, ToolUse};
use stockade_event::{Event, Listed, Said};
use stockade_policy::RecordContent;
use stockade_secrets::hide;
use stockade_types::{ClaimSource, RawText, Subject};

use super::limits::SAID_BYTES_MAX;

/// Makes the claim of a message, with what it names; nothing of a message that tells nothing.
pub(crate) fn claim(
    message: &HookMessage,
    process: &Subject,
    kept: RecordContent,
) -> Option<(Event, Intent)> {
    let process = process.clone();
    let learned_from = ClaimSource::Hook;
    match message {
        HookMessage::Before { tool, .. } => {
            let event = Event::ToolCalled {
                process,
                learned_from,
                decision: None,
                id: id(tool),
                name: shown(&tool.tool),
                arguments: tool.arguments.content().map(|all| said(&all, kept)),
            };
            Some((event, tool.intent()))
        }
        HookMessage::After { tool, result } => {
            let event = Event::ToolReturned {
                process,
                learned_from,
                decision: None,
                id: id(tool),
                call: None,
                text: returned(result, kept),
                is_error: None,
            };
            Some((event, Intent::default()))
        }
        HookMessage::Prompt(prompt) => {
            let event = Event::PromptSubmitted {
                process,
                learned_from,
                decision: None,
                aside: false,
                parts: Listed {
                    count: 1,
                    first: vec![said(prompt, kept)],
                },
            };
            Some((event, Intent::default()))
        }
        HookMessage::Other => None,
    }
}

fn id(tool: &ToolUse) -> RawText {
    tool.id.as_ref().map_or_else(|| RawText::from(""), shown)
}

fn returned(result: &HookResult, kept: RecordContent) -> Said {
    match &result.content {
        Some(content) => Said {
            bytes: result.bytes,
            ..said(content, kept)
        },
        None => Said {
            bytes: result.bytes,
            digest: None,
            text: None,
        },
    }
}

/// Returns a text without what looks like a secret.
pub(crate) fn shown(text: &RawText) -> RawText {
    hide(text).unwrap_or_else(|| text.clone())
}

pub(crate) fn said(content: &Content, kept: RecordContent) -> Said {
    let text = content.text().map(|text| {
        let text = text.get(..SAID_BYTES_MAX).unwrap_or(text);
        RawText::from_bytes(text)
    });
    Said {
        bytes: content.bytes(),
        digest: (kept < RecordContent::None).then(|| content.digest()),
        text: match kept {
            RecordContent::Full => text,
            RecordContent::Redacted => text.as_ref().map(shown),
            RecordContent::Digest | RecordContent::None => None,
        },
    }
}
