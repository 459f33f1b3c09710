//! What a server says, read as it passes.

use stockade_types::RawText;

use super::{Answer, Defined, Taken, messages::id};
use crate::{
    content::{Content, Growing},
    definitions,
    events::Events,
    json::{Extent, Json, Shape},
    limits::DEFINITION_ROOM,
    tree::Tree,
};

/// What comes back from a server: JSON, or events with JSON, which its first character says.
#[derive(Debug)]
pub struct Answers {
    server: RawText,
    form: Form,
    taken: Taken,
    /// JSON that stands alone was read.
    is_over: bool,
}

#[derive(Debug)]
enum Form {
    Unknown,
    Json(Box<Json>),
    Events(Box<Events>),
}

const SHAPE: Shape = Shape {
    room: DEFINITION_ROOM,
    ..Shape::ALL
};

impl Answers {
    /// Begins to read what this server says.
    pub fn new(server: RawText) -> Self {
        Self {
            server,
            form: Form::Unknown,
            taken: Taken::default(),
            is_over: false,
        }
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        if let Form::Unknown = &self.form {
            let mut seen = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
            self.form = match seen.next() {
                None => return,
                Some(b'{' | b'[') => Form::Json(Box::new(Json::new(SHAPE))),
                Some(_) => Form::Events(Box::new(Events::new(SHAPE))),
            };
        }
        let (server, taken) = (&self.server, &mut self.taken);
        if self.is_over {
            return;
        }
        match &mut self.form {
            Form::Unknown => {}
            Form::Json(json) => {
                json.feed(bytes);
                if json.ended().is_none() {
                    return;
                }
                self.is_over = true;
                let json = std::mem::replace(&mut **json, Json::new(SHAPE));
                // What stands behind the value is for nobody.
                let (tree, extent) = json.finish();
                if let Some(tree) = tree.filter(|tree| !tree.is_cut()) {
                    take(&tree, extent, server, taken);
                }
            }
            Form::Events(events) => events.feed(bytes, &mut |tree, extent: Extent| {
                if let Some(tree) = tree.filter(|_| !extent.is_cut) {
                    take(&tree, extent, server, taken);
                }
            }),
        }
    }

    /// Returns the answers that have become whole since the last time.
    pub fn take(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.taken).entries().to_vec()
    }
}

fn take(tree: &Tree, extent: Extent, server: &RawText, to: &mut Taken) {
    match tree {
        Tree::List(items) => to.extend(items.iter().filter_map(|one| read(one, extent, server))),
        one => to.extend(read(one, extent, server)),
    }
}

/// Reads an answer; what has a method is none, whatever else it has.
fn read(item: &Tree, extent: Extent, server: &RawText) -> Option<Answer> {
    if item.get("method").is_some() {
        return None;
    }
    let id = item.get("id").and_then(id)?;
    if let Some(error) = item.get("error") {
        return Some(Answer {
            id,
            defined: None,
            bytes: texts(error),
            content: error
                .get("message")
                .and_then(Tree::said)
                .map(Growing::content),
            is_error: true,
        });
    }
    let result = item.get("result")?;
    let defined = result.get("tools").map(|tools| {
        let (tools, unread) = definitions::of_server(server, tools);
        let more = extent.is_truncated.then_some(definitions::Unread::TooMuch);
        Defined {
            tools,
            unread: unread.or(more),
        }
    });
    Some(Answer {
        id,
        defined,
        bytes: texts(result),
        content: content(result),
        is_error: matches!(result.get("isError"), Some(Tree::Flag(true))),
    })
}

/// Returns the texts of a result one after the other; `None` if one was too long.
fn content(result: &Tree) -> Option<Content> {
    let items = result.items_of("content").iter();
    let texts = items.filter_map(|item| item.get("text"));
    let all: Option<Vec<&[u8]>> = texts.map(Tree::text).collect();
    all.filter(|all| !all.is_empty())
        .map(|all| Content::of(&all.concat()))
}

/// Counts the bytes of all texts in a value, but for the words that say of which type they are.
fn texts(value: &Tree) -> u64 {
    match value {
        Tree::Text(text) => text.bytes(),
        Tree::List(items) => items.iter().map(texts).fold(0, u64::saturating_add),
        Tree::Object(members) => {
            let said = members.iter().filter(|(name, _)| name != b"type");
            let all = said.map(|(_, value)| texts(value));
            all.fold(0, u64::saturating_add)
        }
        Tree::Null | Tree::Flag(_) | Tree::Number(_) | Tree::Cut => 0,
    }
}
