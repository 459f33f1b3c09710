//! Anthropic Messages, also as Vertex and Bedrock carry them.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    Adapter, Gathering, count, declared, is_instruction, named, new_items, offered, prompted,
    returned,
};
use crate::{
    claims::{Asked, host_of},
    hosted::{RunBy, run_by},
    json::{Json, Shape},
    tree::Tree,
};

/// The protocol.
#[derive(Debug)]
pub(super) struct Messages;

fn is_models(message: &Tree) -> bool {
    message.is("role", "assistant")
}

impl Adapter for Messages {
    fn request(&self) -> Shape {
        Shape {
            conversations: &["messages"],
            is_models,
            unread: &[("tools", "input_schema"), ("", "system")],
            ..Shape::ALL
        }
    }

    fn response(&self) -> Shape {
        Shape::ALL
    }

    fn ask(&self, body: &Tree, asked: &mut Asked) {
        asked.is_call = body.get("messages").is_some();
        asked.model = named(body.get("model"));
        asked.streaming = matches!(body.get("stream"), Some(Tree::Flag(true)));
        for tool in body.items_of("tools") {
            if tool.get("type").is_some() {
                declared(tool, None, asked);
            } else if let Some(name) = named(tool.get("name")) {
                asked.functions.push(name);
            }
        }
        for server in body.items_of("mcp_servers") {
            let host = server.text_of("url").and_then(host_of);
            let host = host.or_else(|| named(server.get("name")));
            offered("mcp".into(), host, asked);
        }
        for message in new_items(body.items_of("messages"), is_models) {
            let content = message.get("content");
            let is_said = !is_instruction(message);
            if is_said && content.is_some_and(|content| content.said().is_some()) {
                prompted(content, asked);
            }
            for block in content.map_or(&[][..], Tree::items) {
                if block.is("type", "tool_result") {
                    returned(block.get("tool_use_id"), block.get("content"), asked);
                } else if let Some(text) = block.get("text").and_then(Tree::said)
                    && is_said
                {
                    asked.prompts.push(text.content());
                }
            }
        }
    }

    fn whole(&mut self, body: &Tree, to: &mut Gathering) {
        if body.is("type", "error") || body.get("error").is_some() {
            return error(body, to);
        }
        message(body, to);
        for (block, index) in body.items_of("content").iter().zip(0..) {
            if !block.is_cut() {
                begin(block, (0, index), to);
                to.end((0, index));
            }
            to.say(block.get("text"));
        }
        stop(body, to);
        to.has_ended = to.answered.is_answer;
    }

    fn piece(&mut self, piece: &Tree, to: &mut Gathering) {
        // Bedrock carries each event as text in a frame of its own.
        if let Some(text) = piece.at(&["chunk", "bytes"]) {
            let text = text
                .text()
                .and_then(|text| BASE64_STANDARD.decode(text).ok());
            let mut json = Json::new(Shape::ALL);
            json.feed(&text.unwrap_or_default());
            match json.finish() {
                (Some(inner), extent) if !extent.is_cut => self.piece(&inner, to),
                _ => to.answered.is_truncated = true,
            }
            return;
        }
        let key = (0, piece.number_of("index").unwrap_or_default());
        match piece.text_of("type") {
            Some(b"message_start") => {
                if let Some(start) = piece.get("message") {
                    message(start, to);
                }
            }
            Some(b"content_block_start") => {
                if let Some(block) = piece.get("content_block") {
                    begin(block, key, to);
                    to.say(block.get("text"));
                }
            }
            Some(b"content_block_delta") => {
                to.say(piece.at(&["delta", "text"]));
                to.more(key, piece.at(&["delta", "partial_json"]));
            }
            Some(b"content_block_stop") => to.end(key),
            Some(b"message_delta") => {
                if let Some(delta) = piece.get("delta") {
                    stop(delta, to);
                }
                usage(piece, to);
            }
            Some(b"message_stop") => to.has_ended = true,
            Some(b"error") => error(piece, to),
            Some(_) | None => {}
        }
    }
}

fn error(body: &Tree, to: &mut Gathering) {
    to.answered.error = named(body.at(&["error", "type"])).or_else(|| Some("error".into()));
    to.answered.is_answer = true;
    to.has_ended = true;
}

/// Reads what a message says of itself.
fn message(body: &Tree, to: &mut Gathering) {
    to.answered.is_answer |= body.is("type", "message");
    to.answered.id = named(body.get("id"));
    to.answered.model = named(body.get("model"));
    usage(body, to);
}

fn stop(body: &Tree, to: &mut Gathering) {
    if let Some(reason) = named(body.get("stop_reason")) {
        to.answered.finish = Some(reason);
    }
}

/// The provider counts what came from a cache, and went into it, apart from other input.
fn usage(body: &Tree, to: &mut Gathering) {
    let Some(usage) = body.get("usage") else {
        return;
    };
    let tokens = &mut to.answered.usage;
    let before = (tokens.cached, tokens.cache_written);
    count(
        usage.number_of("cache_read_input_tokens"),
        &mut tokens.cached,
    );
    count(
        usage.number_of("cache_creation_input_tokens"),
        &mut tokens.cache_written,
    );
    count(usage.number_of("output_tokens"), &mut tokens.output);
    if let Some(plain) = usage.number_of("input_tokens") {
        let cache = tokens
            .cached
            .unwrap_or(0)
            .saturating_add(tokens.cache_written.unwrap_or(0));
        tokens.input = Some(plain.saturating_add(cache));
    } else if before != (tokens.cached, tokens.cache_written) {
        // Without the part that it is added to it says nothing of the whole.
        (tokens.cached, tokens.cache_written) = before;
    }
}

/// Begins a block: a call for the agent, or the use of a tool of the provider.
fn begin(block: &Tree, key: (u64, u64), to: &mut Gathering) {
    match block.text_of("type") {
        Some(b"tool_use") => to.begin(key, block, "id"),
        Some(b"mcp_tool_use") => {
            to.used("mcp".into(), named(block.get("server_name")));
        }
        Some(b"server_tool_use") => {
            let name = named(block.get("name")).unwrap_or_default();
            let general = match run_by(&name.display()) {
                RunBy::Provider(general) => general.into(),
                // The provider says itself that it ran it.
                RunBy::Program | RunBy::Unknown => name,
            };
            to.used(general, None);
        }
        Some(_) | None => {}
    }
}
