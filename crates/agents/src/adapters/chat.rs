//! Chat completions of OpenAI, which many others offer too.

use super::{
    Adapter, Gathering, arguments, count, declared, named, new_items, offered, prompted, returned,
};
use crate::{claims::Asked, json::Shape, tree::Tree};

/// The protocol.
#[derive(Debug, Default)]
pub(super) struct Chat {
    /// Answers have cited pages: that is all that they say of a search.
    has_cited: bool,
}

fn is_models(message: &Tree) -> bool {
    message.is("role", "assistant")
}

impl Adapter for Chat {
    fn request(&self) -> Shape {
        Shape {
            conversations: &["messages"],
            is_models,
            unread: &[("tools", "parameters"), ("functions", "parameters")],
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
            declared(tool, None, asked);
        }
        for function in body.items_of("functions") {
            if let Some(name) = named(function.get("name")) {
                asked.functions.push(name);
            }
        }
        if body.get("web_search_options").is_some_and(Tree::is_object) {
            offered("web_search".into(), None, asked);
        }
        for message in new_items(body.items_of("messages"), is_models) {
            if message.is("role", "tool") || message.is("role", "function") {
                returned(message.get("tool_call_id"), message.get("content"), asked);
            } else if !message.is("role", "system") && !message.is("role", "developer") {
                prompted(message.get("content"), asked);
            }
        }
    }

    fn whole(&mut self, body: &Tree, to: &mut Gathering) {
        if self.fails(body, to) {
            return;
        }
        about(body, to);
        for choice in body.items_of("choices") {
            if let Some(message) = choice.get("message") {
                to.say(message.get("content"));
                self.cites(message, to);
                let calls = message.items_of("tool_calls").iter();
                for call in calls.filter(|call| !call.is_cut()) {
                    let function = call.get("function");
                    let name = function.and_then(|function| named(function.get("name")));
                    let text = call.at(&["function", "arguments"]).and_then(Tree::said);
                    let id = named(call.get("id")).unwrap_or_default();
                    to.called(id, name.unwrap_or_default(), text.map(arguments));
                }
            }
            stop(choice, to);
        }
        to.has_ended = to.answered.is_answer;
    }

    fn piece(&mut self, piece: &Tree, to: &mut Gathering) {
        if self.fails(piece, to) {
            return;
        }
        about(piece, to);
        for choice in piece.items_of("choices") {
            let index = choice.number_of("index").unwrap_or_default();
            if let Some(delta) = choice.get("delta") {
                to.say(delta.get("content"));
                self.cites(delta, to);
                for call in delta.items_of("tool_calls") {
                    part(call, index, to);
                }
            }
            if stop(choice, to) {
                to.end_all();
                to.has_ended = true;
            }
        }
    }
}

impl Chat {
    #[expect(
        clippy::unused_self,
        reason = "it is one of the questions to a protocol"
    )]
    fn fails(&self, body: &Tree, to: &mut Gathering) -> bool {
        let Some(error) = body.get("error").filter(|error| error.is_object()) else {
            return false;
        };
        let kind = named(error.get("type")).or_else(|| named(error.get("code")));
        to.answered.error = kind.or(Some("error".into()));
        to.answered.is_answer = true;
        to.has_ended = true;
        true
    }

    fn cites(&mut self, message: &Tree, to: &mut Gathering) {
        let mut notes = message.items_of("annotations").iter();
        if notes.any(|note| note.is("type", "url_citation")) && !self.has_cited {
            self.has_cited = true;
            to.used("web_search".into(), None);
        }
    }
}

/// Reads what an answer, or a piece of it, says of itself.
fn about(body: &Tree, to: &mut Gathering) {
    to.answered.is_answer |= body.get("choices").is_some();
    if let Some(id) = named(body.get("id")) {
        to.answered.id = Some(id);
    }
    if let Some(model) = named(body.get("model")) {
        to.answered.model = Some(model);
    }
    let Some(usage) = body.get("usage").filter(|usage| usage.is_object()) else {
        return;
    };
    let tokens = &mut to.answered.usage;
    count(usage.number_of("prompt_tokens"), &mut tokens.input);
    count(usage.number_of("completion_tokens"), &mut tokens.output);
    let details = |path: [&str; 2]| usage.at(&path).and_then(Tree::number);
    count(
        details(["prompt_tokens_details", "cached_tokens"]),
        &mut tokens.cached,
    );
    count(
        details(["completion_tokens_details", "reasoning_tokens"]),
        &mut tokens.reasoning,
    );
}

/// Reads a piece of a call: the first one has its id and its name.
fn part(call: &Tree, choice: u64, to: &mut Gathering) {
    let key = (choice, call.number_of("index").unwrap_or_default());
    if let Some(function) = call.get("function") {
        if !to.is_open(key) {
            to.begin(key, function, "");
            to.identify(key, named(call.get("id")).unwrap_or_default());
        }
        to.more(key, function.get("arguments"));
    }
}

fn stop(choice: &Tree, to: &mut Gathering) -> bool {
    let reason = named(choice.get("finish_reason"));
    let is_there = reason.is_some();
    if is_there {
        to.answered.finish = reason;
    }
    is_there
}
