//! Converse of Bedrock, whose streams are frames: a piece is an object with its kind as the only member.

use super::{Adapter, Gathering, count, named, new_items, prompted, returned};
use crate::{claims::Asked, json::Shape, tree::Tree};

/// The protocol.
#[derive(Debug)]
pub(super) struct Converse;

fn is_models(message: &Tree) -> bool {
    message.is("role", "assistant")
}

impl Adapter for Converse {
    fn request(&self) -> Shape {
        Shape {
            conversations: &["messages"],
            is_models,
            unread: &[("toolConfig", "inputSchema"), ("", "system")],
            ..Shape::ALL
        }
    }

    fn response(&self) -> Shape {
        Shape::ALL
    }

    fn ask(&self, body: &Tree, asked: &mut Asked) {
        asked.is_call = body.get("messages").is_some();
        let tools = body.at(&["toolConfig", "tools"]);
        for tool in tools.map_or(&[][..], Tree::items) {
            if let Some(name) = named(tool.at(&["toolSpec", "name"])) {
                asked.functions.push(name);
            }
        }
        for message in new_items(body.items_of("messages"), is_models) {
            for block in message.items_of("content") {
                match block.get("toolResult") {
                    Some(result) => {
                        returned(result.get("toolUseId"), result.get("content"), asked);
                    }
                    None => prompted(block.get("text"), asked),
                }
            }
        }
    }

    fn whole(&mut self, body: &Tree, to: &mut Gathering) {
        to.answered.is_answer = body.get("output").is_some();
        let content = body.at(&["output", "message", "content"]);
        for block in content.map_or(&[][..], Tree::items) {
            to.say(block.get("text"));
            if let Some(tool) = block.get("toolUse").filter(|_| !block.is_cut()) {
                let id = named(tool.get("toolUseId")).unwrap_or_default();
                let name = named(tool.get("name")).unwrap_or_default();
                to.called(id, name, tool.get("input").and_then(Tree::arguments));
            }
        }
        to.answered.finish = named(body.get("stopReason"));
        usage(body, to);
        to.has_ended = to.answered.is_answer;
    }

    fn piece(&mut self, piece: &Tree, to: &mut Gathering) {
        let Tree::Object(members) = piece else { return };
        let Some((kind, event)) = members.first() else {
            return;
        };
        let key = (0, event.number_of("contentBlockIndex").unwrap_or_default());
        match kind.as_slice() {
            b"messageStart" => to.answered.is_answer = true,
            b"contentBlockStart" => {
                if let Some(tool) = event.at(&["start", "toolUse"]) {
                    to.begin(key, tool, "toolUseId");
                }
            }
            b"contentBlockDelta" => {
                to.say(event.at(&["delta", "text"]));
                to.more(key, event.at(&["delta", "toolUse", "input"]));
            }
            b"contentBlockStop" => to.end(key),
            b"messageStop" => {
                to.answered.finish = named(event.get("stopReason"));
                to.has_ended = true;
            }
            b"metadata" => usage(event, to),
            other if other.ends_with(b"Exception") => {
                to.answered.error = Some(crate::content::name(other));
                to.has_ended = true;
            }
            _ => {}
        }
    }
}

/// What came from a cache, and went into it, is counted apart from other input.
fn usage(body: &Tree, to: &mut Gathering) {
    let Some(usage) = body.get("usage") else {
        return;
    };
    let tokens = &mut to.answered.usage;
    count(usage.number_of("cacheReadInputTokens"), &mut tokens.cached);
    count(
        usage.number_of("cacheWriteInputTokens"),
        &mut tokens.cache_written,
    );
    count(usage.number_of("outputTokens"), &mut tokens.output);
    if let Some(plain) = usage.number_of("inputTokens") {
        let cache = tokens
            .cached
            .unwrap_or(0)
            .saturating_add(tokens.cache_written.unwrap_or(0));
        tokens.input = Some(plain.saturating_add(cache));
    }
}
