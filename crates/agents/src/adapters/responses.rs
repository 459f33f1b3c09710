//! OpenAI Responses.

use super::{
    Adapter, Gathering, arguments, count, declared, is_instruction, named, new_items, prompted,
    returned,
};
use crate::{
    claims::{Asked, host_of},
    content::Content,
    hosted::{RunBy, run_by},
    json::Shape,
    tree::Tree,
};

/// The protocol.
#[derive(Debug, Default)]
pub(super) struct Responses {
    /// Items came by themselves; the answer as a whole has them again.
    has_items: bool,
}

/// What came of a call is the agent's; the call, and thoughts about it, are the model's.
fn is_models(item: &Tree) -> bool {
    let sort = item.text_of("type").unwrap_or_default();
    item.is("role", "assistant") || sort == b"reasoning" || sort.ends_with(b"_call")
}

impl Adapter for Responses {
    fn request(&self) -> Shape {
        Shape {
            conversations: &["input"],
            is_models,
            unread: &[
                ("tools", "parameters"),
                ("tools", "format"),
                ("", "instructions"),
            ],
            ..Shape::ALL
        }
    }

    fn response(&self) -> Shape {
        // An answer repeats what the request has said.
        Shape {
            conversations: &[],
            is_models,
            unread: &[
                ("", "instructions"),
                ("", "tools"),
                ("", "encrypted_content"),
            ],
            ..Shape::ALL
        }
    }

    fn ask(&self, body: &Tree, asked: &mut Asked) {
        asked.is_call = body.get("input").is_some() || body.get("prompt").is_some();
        asked.model = named(body.get("model"));
        asked.streaming = matches!(body.get("stream"), Some(Tree::Flag(true)));
        for tool in body.items_of("tools") {
            let server = tool.text_of("server_url").and_then(host_of);
            let server = server.or_else(|| named(tool.get("connector_id")));
            let server = server.or_else(|| named(tool.get("server_label")));
            declared(tool, server, asked);
        }
        if let Some(text) = body.get("input").and_then(Tree::said) {
            asked.prompts.push(text.content());
        }
        for item in new_items(body.items_of("input"), is_models) {
            let sort = item.text_of("type").unwrap_or_default();
            if sort.ends_with(b"_call_output") {
                returned(item.get("call_id"), item.get("output"), asked);
            } else if !is_instruction(item) {
                prompted(item.get("content"), asked);
            }
        }
    }

    fn whole(&mut self, body: &Tree, to: &mut Gathering) {
        if body.get("object").is_none() && body.get("error").is_some_and(Tree::is_object) {
            to.answered.error = named(body.at(&["error", "type"])).or(Some("error".into()));
            to.answered.is_answer = true;
            to.has_ended = true;
            return;
        }
        self.response_of(body, to);
        to.has_ended = to.answered.is_answer;
    }

    fn piece(&mut self, piece: &Tree, to: &mut Gathering) {
        match piece.text_of("type") {
            Some(b"response.output_item.done") => {
                self.has_items = true;
                if let Some(done) = piece.get("item") {
                    item(done, to);
                }
            }
            Some(b"response.output_text.delta") => to.say(piece.get("delta")),
            Some(b"response.completed" | b"response.incomplete" | b"response.failed") => {
                if let Some(response) = piece.get("response") {
                    self.response_of(response, to);
                }
                to.has_ended = true;
            }
            Some(b"error") => {
                to.answered.error = named(piece.get("code")).or(Some("error".into()));
                to.has_ended = true;
            }
            Some(_) | None => {
                if let Some(response) = piece.get("response") {
                    about(response, to);
                }
            }
        }
    }
}

impl Responses {
    fn response_of(&self, body: &Tree, to: &mut Gathering) {
        about(body, to);
        let status = named(body.get("status"));
        to.answered.finish = named(body.at(&["incomplete_details", "reason"])).or(status);
        let error = body.get("error");
        let error = error.and_then(|error| named(error.get("code")).or(named(error.get("type"))));
        to.answered.error = error;
        if !self.has_items {
            for done in body.items_of("output") {
                if !done.is_cut() {
                    item(done, to);
                }
                for part in done.items_of("content") {
                    to.say(part.get("text"));
                }
            }
        }
        let Some(usage) = body.get("usage") else {
            return;
        };
        let tokens = &mut to.answered.usage;
        count(usage.number_of("input_tokens"), &mut tokens.input);
        count(usage.number_of("output_tokens"), &mut tokens.output);
        let details = |path: [&str; 2]| usage.at(&path).and_then(Tree::number);
        count(
            details(["input_tokens_details", "cached_tokens"]),
            &mut tokens.cached,
        );
        count(
            details(["output_tokens_details", "reasoning_tokens"]),
            &mut tokens.reasoning,
        );
    }
}

/// Reads what an answer says of itself.
fn about(response: &Tree, to: &mut Gathering) {
    to.answered.is_answer |= response.is("object", "response") || response.get("output").is_some();
    if let Some(id) = named(response.get("id")) {
        to.answered.id = Some(id);
    }
    if let Some(model) = named(response.get("model")) {
        to.answered.model = Some(model);
    }
}

/// Reads an item of the output that is whole.
fn item(item: &Tree, to: &mut Gathering) {
    let sort = named(item.get("type")).unwrap_or_default().display();
    let Some(kind) = sort.strip_suffix("_call") else {
        return;
    };
    let text = item.get("arguments").or_else(|| item.get("input"));
    let sent: Option<Content> = match text.and_then(Tree::said) {
        Some(text) => Some(arguments(text)),
        None => item.get("action").and_then(Tree::arguments),
    };
    let id = named(item.get("call_id")).unwrap_or_default();
    match (kind, run_by(kind)) {
        ("function" | "custom_tool" | "tool_search", _) => {
            to.called(
                id,
                named(item.get("name")).unwrap_or_else(|| kind.into()),
                sent,
            );
        }
        (_, RunBy::Program) | ("computer" | "shell", _) => to.called(id, kind.into(), sent),
        (_, RunBy::Provider(general)) => {
            to.used(general.into(), named(item.get("server_label")));
        }
        (_, RunBy::Unknown) => to.used(kind.into(), None),
    }
}
