//! The protocols of models, each in a file of the same shape: what is kept of its bodies, what a
//! request asks, and what an answer says, whole or in pieces.

mod anthropic;
mod chat;
mod converse;
mod gemini;
mod responses;

use stockade_types::RawText;

use crate::{
    claims::{Answered, Asked, Call, HostedTool, Returned},
    content::{Content, Growing, name},
    hosted::{RunBy, run_by},
    json::{Json, Shape},
    limits::{OPEN_CALLS_MAX, TEXTS_BYTES_MAX},
    place::Api,
    tree::Tree,
};

/// One protocol.
pub(crate) trait Adapter: Send {
    /// Says what of a request is kept.
    fn request(&self) -> Shape;

    /// Says what of an answer, or of a piece of one, is kept.
    fn response(&self) -> Shape;

    /// Reads a request.
    fn ask(&self, body: &Tree, asked: &mut Asked);

    /// Reads an answer that is one text.
    fn whole(&mut self, body: &Tree, to: &mut Gathering);

    /// Reads a piece of an answer.
    fn piece(&mut self, piece: &Tree, to: &mut Gathering);
}

/// Returns the adapter of a protocol.
pub(crate) fn of(api: Api) -> Box<dyn Adapter> {
    match api {
        Api::Messages => Box::new(anthropic::Messages),
        Api::Responses => Box::new(responses::Responses::default()),
        Api::Chat => Box::new(chat::Chat::default()),
        Api::Generate => Box::new(gemini::Generate),
        Api::Converse => Box::new(converse::Converse),
    }
}

/// An answer while its pieces come.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    pub(crate) answered: Answered,
    /// It has ended as answers of its protocol do.
    pub(crate) has_ended: bool,
    open: Vec<OpenCall>,
    said: Growing,
    /// Bytes of longer texts that are kept of it.
    taken: usize,
    /// Tool calls that were told of.
    told: usize,
}

/// A call whose arguments still come.
#[derive(Debug)]
struct OpenCall {
    key: (u64, u64),
    id: RawText,
    name: RawText,
    /// What there was of them at the beginning.
    first: Option<Content>,
    arguments: Growing,
}

impl Gathering {
    /// Begins a call whose arguments come in pieces; `key` is its place in the answer.
    pub(crate) fn begin(&mut self, key: (u64, u64), tool: &Tree, id: &str) {
        if self.open.len() >= OPEN_CALLS_MAX {
            self.answered.is_truncated = true;
            return;
        }
        self.open.push(OpenCall {
            key,
            id: named(tool.get(id)).unwrap_or_default(),
            name: named(tool.get("name")).unwrap_or_default(),
            first: tool.get("input").and_then(Tree::arguments),
            arguments: Growing::default(),
        });
    }

    /// Says which call it is that has begun.
    pub(crate) fn identify(&mut self, key: (u64, u64), id: RawText) {
        let mut calls = self.open.iter_mut();
        if let Some(call) = calls.find(|call| call.key == key) {
            call.id = id;
        }
    }

    /// Tells whether a call has begun and not ended.
    pub(crate) fn is_open(&self, key: (u64, u64)) -> bool {
        self.open.iter().any(|call| call.key == key)
    }

    /// Adds a piece of the arguments of a call.
    pub(crate) fn more(&mut self, key: (u64, u64), piece: Option<&Tree>) {
        let Some(piece) = piece.and_then(Tree::said) else {
            return;
        };
        let mut calls = self.open.iter_mut();
        let Some(call) = calls.find(|call| call.key == key) else {
            return;
        };
        add(
            piece,
            &mut call.arguments,
            &mut self.taken,
            &mut self.answered,
        );
    }

    /// Ends a call: it was whole.
    pub(crate) fn end(&mut self, key: (u64, u64)) {
        let Some(at) = self.open.iter().position(|call| call.key == key) else {
            return;
        };
        let call = self.open.remove(at);
        self.taken = self.taken.saturating_sub(call.arguments.charged());
        let arguments = if call.arguments.bytes() > 0 {
            Some(arguments(&call.arguments))
        } else {
            call.first
        };
        self.called(call.id, call.name, arguments);
    }

    /// Ends all calls.
    pub(crate) fn end_all(&mut self) {
        while let Some(key) = self.open.first().map(|call| call.key) {
            self.end(key);
        }
    }

    /// Adds a call that is whole.
    pub(crate) fn called(&mut self, id: RawText, name: RawText, arguments: Option<Content>) {
        let call = Call {
            id,
            name,
            arguments,
        };
        self.answered.calls.push(call);
    }

    /// Counts a use of a tool of the provider.
    pub(crate) fn used(&mut self, name: RawText, server: Option<RawText>) {
        let mut known = self.answered.hosted.entries_mut().iter_mut();
        let is_same = |tool: &&mut HostedTool| tool.name == name && tool.server == server;
        if let Some(tool) = known.find(is_same) {
            tool.count = tool.count.saturating_add(1);
            return;
        }
        self.answered.hosted.push(HostedTool {
            name,
            server,
            count: 1,
        });
    }

    /// Adds to what the model says in text.
    pub(crate) fn say(&mut self, piece: Option<&Tree>) {
        if let Some(piece) = piece.and_then(Tree::said) {
            add(piece, &mut self.said, &mut self.taken, &mut self.answered);
        }
    }

    /// Returns the calls that were not told of yet.
    pub(crate) fn new_calls(&mut self) -> Vec<Call> {
        let calls = self.answered.calls.entries();
        let new = calls.get(self.told..).unwrap_or_default().to_vec();
        self.told = calls.len();
        new
    }

    /// Says what was answered.
    pub(crate) fn finish(self) -> Answered {
        Answered {
            said: (self.said.bytes() > 0).then(|| self.said.content()),
            is_cut: !self.has_ended,
            ..self.answered
        }
    }
}

/// Adds a piece to a text, as far as there is room.
fn add(piece: &Growing, to: &mut Growing, taken: &mut usize, answered: &mut Answered) {
    let Some(text) = piece.text() else {
        answered.is_truncated = true;
        return;
    };
    let before = to.charged();
    let mut room = TEXTS_BYTES_MAX.saturating_sub(*taken);
    to.push(text, &mut room);
    *taken = taken.saturating_sub(before).saturating_add(to.charged());
}

/// Says what the arguments of a call are that were sent as a text.
fn arguments(text: &Growing) -> Content {
    let as_json = || {
        let mut json = Json::new(Shape::ALL);
        json.feed(text.text()?);
        let (tree, extent) = json.finish();
        if extent.is_cut || extent.is_truncated {
            return None;
        }
        tree?.arguments()
    };
    as_json().unwrap_or_else(|| text.content())
}

/// Makes a name of a text, if it is one and was kept.
fn named(tree: Option<&Tree>) -> Option<RawText> {
    tree?.text().map(name)
}

/// Joins the texts of what came of a tool call.
fn joined<'t>(parts: impl Iterator<Item = &'t Tree>, asked: &mut Asked) -> Content {
    let said: Vec<&Growing> = parts.filter_map(Tree::said).collect();
    if let [one] = said.as_slice() {
        return one.content();
    }
    let (mut all, mut room) = (Growing::default(), usize::MAX / 2);
    for part in said {
        match part.text() {
            Some(text) => all.push(text, &mut room),
            None => asked.is_truncated = true,
        }
    }
    all.content()
}

/// Adds what came of a tool call: a text, or a list of parts that each have one.
fn returned(call: Option<&Tree>, output: Option<&Tree>, asked: &mut Asked) {
    let parts = output.map_or(&[][..], Tree::items);
    let own = output.filter(|output| output.said().is_some());
    let texts = parts.iter().filter_map(|part| part.get("text"));
    let content = joined(own.into_iter().chain(texts), asked);
    let call = named(call).unwrap_or_default();
    asked.results.push(Returned { call, content });
}

/// Tells whether a message is what the agent's maker says, not the person.
fn is_instruction(message: &Tree) -> bool {
    message.is("role", "system") || message.is("role", "developer")
}

/// Adds texts that are new: one text, or a list of parts that each have one.
fn prompted(content: Option<&Tree>, asked: &mut Asked) {
    let Some(content) = content else { return };
    if let Some(text) = content.said() {
        return asked.prompts.push(text.content());
    }
    for part in content.items() {
        let text = part.get("text").or(Some(part)).and_then(Tree::said);
        if let Some(text) = text {
            asked.prompts.push(text.content());
        }
    }
}

/// Adds a tool that a request declares by a type.
fn declared(tool: &Tree, server: Option<RawText>, asked: &mut Asked) {
    let Some(sort) = named(tool.get("type")) else {
        return;
    };
    // A name for several tools, each with a type of its own.
    if sort.as_bytes() == b"namespace" && tool.get("tools").is_some() {
        let tools = tool.items_of("tools").iter();
        return tools.for_each(|tool| declared(tool, None, asked));
    }
    let text = sort.display();
    let name = match run_by(&text) {
        RunBy::Program => {
            let own = named(tool.get("name")).or_else(|| named(tool.at(&["function", "name"])));
            return asked.functions.push(own.unwrap_or(sort));
        }
        RunBy::Provider(general) => RawText::from(general),
        RunBy::Unknown => sort,
    };
    offered(name, server, asked);
}

/// Adds a tool of the provider, once.
fn offered(name: RawText, server: Option<RawText>, asked: &mut Asked) {
    let mut known = asked.hosted.entries().iter();
    if !known.any(|tool| tool.name == name && tool.server == server) {
        asked.hosted.push(HostedTool {
            name,
            server,
            count: 1,
        });
    }
}

/// Returns the items behind the last one that the model said.
fn new_items(items: &[Tree], is_models: fn(&Tree) -> bool) -> &[Tree] {
    let last = items.iter().rposition(is_models);
    let start = last.map_or(0, |at| at + 1);
    items.get(start..).unwrap_or_default()
}

/// Takes a number over, where there is one.
fn count(from: Option<u64>, to: &mut Option<u64>) {
    if from.is_some() {
        *to = from;
    }
}
