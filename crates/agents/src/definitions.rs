//! Tools of servers as a model is to read them: from the body of its request, one after the other.
//!
//! A definition tells a model what to do as much as a prompt does, and its server can change it at any
//! time. Other than the claims of a call, which are for the record, definitions are compared before the
//! request is whole; so this reader takes nothing that it is not sure of, and says what it could not read.

use std::{cell::Cell, collections::HashSet};

use stockade_types::RawText;

use crate::{
    content::{Content, Growing},
    hidden::hides_text,
    json::{Json, Shape},
    limits::{DEFINITION_ROOM, DEFINITIONS_MAX, NAME_BYTES_MAX},
    place::Api,
    tree::{Tree, quote},
};

/// What a model is told of one tool of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The server, by the name that the agent has for it.
    pub server: RawText,
    /// The tool, without the server; empty for what is said of the server itself.
    pub tool: RawText,
    /// Description and schema as JSON without blanks and with sorted members.
    pub content: Content,
    /// It has characters that nobody sees: text can be hidden in them.
    pub is_hiding: bool,
}

/// Why the definitions of a request are not all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unread {
    /// The body is no JSON, or no other reader's.
    NoJson,
    /// There are more of them, or longer ones, than are read.
    TooMuch,
    /// Two have one name: which of them the model's call is for, nobody can say.
    Doubled,
}

impl Unread {
    /// Says it in words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::NoJson => "the request is not JSON that is read in one way",
            Self::TooMuch => "they are more, or larger, than are read",
            Self::Doubled => "two tools have one name",
        }
    }
}

/// The definitions of a request while its body passes.
#[derive(Debug)]
pub struct Definitions {
    api: Api,
    json: Json,
    names: HashSet<(RawText, RawText)>,
    unread: Option<Unread>,
    /// The first byte that is no blank.
    first: Option<u8>,
}

/// Paths of the lists that define tools.
const fn paths(api: Api) -> &'static [&'static [&'static str]] {
    match api {
        Api::Messages => &[&["tools"]],
        // What a search for tools found stands in the conversation.
        Api::Responses => &[&["tools"], &["input", "tools"]],
        Api::Chat => &[&["tools"], &["functions"]],
        Api::Generate => &[
            &["tools"],
            &["tools", "functionDeclarations"],
            &["tools", "function_declarations"],
            &["request", "tools"],
            &["request", "tools", "functionDeclarations"],
            &["request", "tools", "function_declarations"],
        ],
        Api::Converse => &[&["toolConfig", "tools"]],
    }
}

impl Definitions {
    /// Begins with nothing read.
    pub fn new(api: Api) -> Self {
        let paths = paths(api);
        let shape = Shape {
            only: paths,
            taken: paths,
            room: DEFINITION_ROOM,
            ..Shape::ALL
        };
        Self {
            api,
            json: Json::new(shape),
            names: HashSet::new(),
            unread: None,
            first: None,
        }
    }

    /// Reads on, and returns the definitions that have become whole.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Definition> {
        if self.first.is_none() {
            let mut seen = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
            self.first = seen.next().copied();
        }
        self.json.feed(bytes);
        let mut defined = Vec::new();
        for item in self.json.take() {
            self.define(&item, None, &mut defined);
        }
        defined
    }

    /// Tells whether no more can be defined: the JSON has ended, or is none.
    pub fn has_ended(&self) -> bool {
        self.json.ended().is_some()
    }

    /// Says at the end why there may be definitions that were not read. A body that does not even begin
    /// as JSON is not for a model, and one that has not ended is read by none.
    pub fn unread(&self) -> Option<Unread> {
        let extent = self.json.ended().unwrap_or_default();
        if extent.is_cut {
            let begins = matches!(self.first, Some(b'{' | b'['));
            return begins.then_some(Unread::NoJson);
        }
        let too_much = extent.is_truncated.then_some(Unread::TooMuch);
        self.unread.or(too_much)
    }

    /// Takes one item of a list of tools apart.
    fn define(&mut self, item: &Tree, space: Option<&[u8]>, to: &mut Vec<Definition>) {
        let inner = match self.api {
            Api::Chat => item.get("function"),
            Api::Converse => item.get("toolSpec"),
            Api::Messages | Api::Responses | Api::Generate => None,
        };
        let item = inner.filter(|inner| inner.is_object()).unwrap_or(item);
        let is_space = self.api == Api::Responses && item.is("type", "namespace");
        if space.is_none() && is_space {
            let name = item.text_of("name");
            for tool in item.items_of("tools") {
                self.define(tool, name, to);
            }
            if let Some(server) = name.and_then(server_of_space) {
                self.add(server, b"", item, to);
            }
            return;
        }
        let name = match item.get("name") {
            None => return,
            Some(name) => name.text(),
        };
        let Some(name) = name else {
            // It is too long to be one.
            self.unread = Some(Unread::TooMuch);
            return;
        };
        let found = match space.and_then(server_of_space) {
            Some(server) => Some((server, name)),
            None => split(self.api, name),
        };
        if let Some((server, tool)) = found {
            self.add(server, tool, item, to);
        }
    }

    fn add(&mut self, server: &[u8], tool: &[u8], item: &Tree, to: &mut Vec<Definition>) {
        let is_long = server.len().max(tool.len()) > NAME_BYTES_MAX;
        if is_long || self.names.len() >= DEFINITIONS_MAX {
            self.unread = Some(Unread::TooMuch);
            return;
        }
        let (server, tool) = (RawText::from_bytes(server), RawText::from_bytes(tool));
        let (text, is_whole) = text(item, tool.as_bytes().is_empty());
        if !is_whole {
            self.unread = Some(Unread::TooMuch);
        }
        if !self.names.insert((server.clone(), tool.clone())) {
            self.unread = Some(self.unread.unwrap_or(Unread::Doubled));
        }
        let is_hiding = [text.as_slice(), server.as_bytes(), tool.as_bytes()]
            .into_iter()
            .any(hides_text);
        to.push(Definition {
            server,
            tool,
            content: Content::of(&text),
            is_hiding,
        });
    }
}

/// Reads the tools that a server itself says it has.
pub(crate) fn of_server(server: &RawText, tools: &Tree) -> (Vec<Definition>, Option<Unread>) {
    let (mut defined, mut unread) = (Vec::new(), None);
    let mut names = HashSet::new();
    if !matches!(tools, Tree::List(_)) {
        unread = Some(Unread::NoJson);
    }
    for item in tools.items() {
        let name = item
            .text_of("name")
            .filter(|name| name.len() <= NAME_BYTES_MAX);
        let Some(name) = name.filter(|_| names.len() < DEFINITIONS_MAX) else {
            unread = Some(Unread::TooMuch);
            continue;
        };
        let (text, is_whole) = text(item, false);
        if !is_whole {
            unread = Some(Unread::TooMuch);
        }
        if !names.insert(name.to_vec()) {
            unread = unread.or(Some(Unread::Doubled));
        }
        let is_hiding = [text.as_slice(), name].into_iter().any(hides_text);
        defined.push(Definition {
            server: server.clone(),
            tool: RawText::from_bytes(name),
            content: Content::of(&text),
            is_hiding,
        });
    }
    (defined, unread)
}

/// Takes the server out of a name that Codex has for several tools.
fn server_of_space(space: &[u8]) -> Option<&[u8]> {
    let server = space.strip_prefix(b"mcp__")?;
    let server = server.strip_suffix(b"__").unwrap_or(server);
    Some(server).filter(|server| !server.is_empty())
}

/// Splits the name by which a model calls a tool of a server; `None` where it is the agent's own, or
/// nothing in the name says whose it is.
fn split(api: Api, name: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(rest) = name.strip_prefix(b"mcp__") {
        // A server whose name has the mark in it is told apart all the same: by the whole name.
        let at = rest.windows(2).position(|pair| pair == b"__")?;
        return Some((rest.get(..at)?, rest.get(at + 2..)?));
    }
    if api == Api::Generate {
        let rest = name.strip_prefix(b"mcp_")?;
        let at = rest.iter().position(|byte| *byte == b'_')?;
        return Some((rest.get(..at)?, rest.get(at + 1..)?));
    }
    None
}

/// Members that a model reads, with the one name that each has here. Others, such as marks for a cache,
/// move from tool to tool and say nothing to it.
const MEMBERS: [(&str, &str); 9] = [
    ("description", "description"),
    ("format", "format"),
    ("inputSchema", "schema"),
    ("input_examples", "examples"),
    ("input_schema", "schema"),
    ("parameters", "schema"),
    ("parametersJsonSchema", "schema"),
    ("parameters_json_schema", "schema"),
    ("response", "response"),
];

/// Writes what a model reads of a tool, in one form, and says whether all of it is there.
fn text(item: &Tree, is_server: bool) -> (Vec<u8>, bool) {
    let (mut text, mut is_whole) = (vec![b'{'], true);
    for (member, name) in MEMBERS {
        let Some(value) = item.get(member) else {
            continue;
        };
        if is_server && name != "description" {
            continue;
        }
        if text.len() > 1 {
            text.push(b',');
        }
        quote(name.as_bytes(), &mut text);
        text.push(b':');
        is_whole &= value.write_whole(&mut text);
    }
    text.push(b'}');
    (text, is_whole)
}

impl Tree {
    /// Writes a value with digests in the place of texts that are too long to be kept, in a form that no
    /// JSON has; false if there is such a text.
    fn write_whole(&self, to: &mut Vec<u8>) -> bool {
        let is_whole = Cell::new(true);
        let digest = |text: &Growing, to: &mut Vec<u8>| {
            is_whole.set(false);
            let content = text.content();
            let stand_in = format!("#{}:{}", content.bytes(), content.digest());
            to.extend_from_slice(stand_in.as_bytes());
            Some(())
        };
        self.write(to, &digest).is_some() && is_whole.get()
    }
}

#[cfg(test)]
mod tests;
