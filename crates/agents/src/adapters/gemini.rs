//! Content of Gemini: `generateContent` and `streamGenerateContent`, also inside the envelope of Code
//! Assist.

use super::{Adapter, Gathering, count, joined, named, new_items, offered, prompted};
use crate::{
    claims::{Asked, Returned},
    content::Content,
    hosted::{RunBy, run_by},
    json::Shape,
    tree::Tree,
};

/// The protocol.
#[derive(Debug)]
pub(super) struct Generate;

fn is_models(content: &Tree) -> bool {
    content.is("role", "model")
}

impl Adapter for Generate {
    fn request(&self) -> Shape {
        Shape {
            conversations: &["contents"],
            is_models,
            unread: &[
                ("tools", "parameters"),
                ("tools", "parametersJsonSchema"),
                ("tools", "response"),
                ("", "systemInstruction"),
                ("", "system_instruction"),
            ],
            ..Shape::ALL
        }
    }

    fn response(&self) -> Shape {
        Shape::ALL
    }

    fn ask(&self, body: &Tree, asked: &mut Asked) {
        asked.model = named(body.get("model"));
        let body = body.get("request").unwrap_or(body);
        asked.is_call = body.get("contents").is_some();
        let own = body.get("tools").filter(|tools| tools.is_object());
        for tool in own.into_iter().chain(body.items_of("tools")) {
            for name in tool.names() {
                declare(tool, &String::from_utf8_lossy(name), asked);
            }
        }
        let contents = body.get("contents");
        let text = contents.and_then(Tree::said);
        asked.prompts.extend(text.map(super::Growing::content));
        for content in new_items(contents.map_or(&[][..], Tree::items), is_models) {
            let own = content.get("parts").filter(|parts| parts.is_object());
            for part in own.into_iter().chain(content.items_of("parts")) {
                if let Some(result) = part.get("functionResponse") {
                    let call = named(result.get("id")).or_else(|| named(result.get("name")));
                    let content = result.get("response").and_then(Tree::arguments);
                    let content = content.unwrap_or_else(|| joined(std::iter::empty(), asked));
                    let call = call.unwrap_or_default();
                    asked.results.push(Returned { call, content });
                } else {
                    prompted(part.get("text"), asked);
                }
            }
        }
    }

    fn whole(&mut self, body: &Tree, to: &mut Gathering) {
        // A stream that is not one of events is a list of its pieces.
        let pieces = body.items().iter();
        let own = (!matches!(body, Tree::List(_))).then_some(body);
        own.into_iter()
            .chain(pieces)
            .for_each(|piece| self.piece(piece, to));
    }

    fn piece(&mut self, piece: &Tree, to: &mut Gathering) {
        let piece = piece.get("response").unwrap_or(piece);
        if let Some(error) = piece.get("error").filter(|error| error.is_object()) {
            to.answered.error = named(error.get("status")).or(Some("error".into()));
            to.answered.is_answer = true;
            to.has_ended = true;
            return;
        }
        to.answered.is_answer |=
            piece.get("candidates").is_some() || piece.get("usageMetadata").is_some();
        if let Some(id) = named(piece.get("responseId")) {
            to.answered.id = Some(id);
        }
        if let Some(model) = named(piece.get("modelVersion")) {
            to.answered.model = Some(model);
        }
        usage(piece, to);
        for candidate in piece.items_of("candidates") {
            let content = candidate.get("content");
            for part in content.map_or(&[][..], |content| content.items_of("parts")) {
                said(part, to);
            }
            if candidate
                .at(&["groundingMetadata", "webSearchQueries"])
                .is_some()
            {
                to.used("web_search".into(), None);
            }
            if candidate.get("urlContextMetadata").is_some() {
                to.used("web_fetch".into(), None);
            }
            if let Some(reason) = named(candidate.get("finishReason")) {
                to.answered.finish = Some(reason);
                to.has_ended = true;
            }
        }
        if let Some(blocked) = named(piece.at(&["promptFeedback", "blockReason"])) {
            to.answered.finish = Some(blocked);
            to.has_ended = true;
        }
    }
}

/// Adds what a member of a tool declares: functions, or a tool of the provider.
fn declare(tool: &Tree, name: &str, asked: &mut Asked) {
    match run_by(name) {
        RunBy::Program => {
            for function in tool.items_of(name) {
                if let Some(own) = named(function.get("name")) {
                    asked.functions.push(own);
                }
            }
        }
        RunBy::Provider(general) => offered(general.into(), None, asked),
        RunBy::Unknown => offered(crate::content::name(name.as_bytes()), None, asked),
    }
}

fn said(part: &Tree, to: &mut Gathering) {
    if part.is_cut() {
        to.say(part.get("text"));
    } else if let Some(call) = part.get("functionCall") {
        let name = named(call.get("name")).unwrap_or_default();
        // Older services give no id.
        let id = named(call.get("id")).unwrap_or_default();
        let arguments = call.get("args").and_then(Tree::arguments);
        to.called(id, name, arguments.or_else(|| Some(Content::of(b"{}"))));
    } else if part.get("executableCode").is_some() {
        to.used("code_execution".into(), None);
    } else if !matches!(part.get("thought"), Some(Tree::Flag(true))) {
        to.say(part.get("text"));
    }
}

fn usage(piece: &Tree, to: &mut Gathering) {
    let Some(usage) = piece.get("usageMetadata") else {
        return;
    };
    let tokens = &mut to.answered.usage;
    let of = |name: &str| usage.number_of(name);
    let prompt = of("promptTokenCount");
    let tools = of("toolUsePromptTokenCount").unwrap_or(0);
    count(
        prompt.map(|own| own.saturating_add(tools)),
        &mut tokens.input,
    );
    count(of("cachedContentTokenCount"), &mut tokens.cached);
    let thoughts = of("thoughtsTokenCount");
    count(thoughts, &mut tokens.reasoning);
    let answer = of("candidatesTokenCount");
    if answer.is_some() || thoughts.is_some() {
        let all = answer.unwrap_or(0).saturating_add(thoughts.unwrap_or(0));
        tokens.output = Some(all);
    }
}
