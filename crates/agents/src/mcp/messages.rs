//! What is said to a server, read as it passes.

use memchr::memmem;
use stockade_types::RawText;

use super::{Id, Message, ToolCall};
use crate::{
    content::name,
    hooks::Arguments,
    json::{Json, Shape},
    limits::{DEFINITION_ROOM, ENTRIES_MAX, NAME_BYTES_MAX},
    tree::Tree,
};

/// The method that calls a tool.
const CALL: &[u8] = b"tools/call";
/// What calls a tool if it is read otherwise than here: the method as it is, or anything with an escape.
const MENTIONS: [&[u8]; 2] = [CALL, b"\\u"];
/// Members that give a message its meaning.
const MEMBERS: [&str; 3] = ["id", "method", "params"];
/// Members of a call that do.
const PARAMETERS: [&str; 2] = ["arguments", "name"];
/// How a text in UTF-8 can begin.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// One text with a message, or with several in a list.
#[derive(Debug)]
pub struct Messages {
    json: Json,
    /// The first bytes, as long as they tell nothing.
    first: Vec<u8>,
    begins: Begins,
    /// The last bytes, in which something that is looked for can begin.
    tail: Vec<u8>,
    mentions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Unknown,
    /// As an object or a list.
    AsJson,
    /// As one in an encoding that is not UTF-8, which some servers read.
    Otherwise,
    /// As something else.
    Not,
}

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The messages.
    pub messages: Vec<Message>,
    /// They came in a list.
    pub is_batch: bool,
    /// Why there may be calls that were not read, or that others read otherwise.
    pub problem: Option<&'static str>,
}

impl Default for Messages {
    fn default() -> Self {
        let shape = Shape {
            room: DEFINITION_ROOM,
            ..Shape::ALL
        };
        Self {
            json: Json::new(shape).with_long_texts(),
            first: Vec::new(),
            begins: Begins::Unknown,
            tail: Vec::new(),
            mentions: false,
        }
    }
}

impl Messages {
    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.begins == Begins::Unknown {
            self.begin(bytes);
        } else if self.begins == Begins::AsJson {
            self.read(bytes);
        }
    }

    /// Tells whether this can be a message: false once it begins as something else.
    pub fn can_be(&self) -> bool {
        self.begins != Begins::Not
    }

    /// Tells whether it begins as a message does.
    pub fn is_begun(&self) -> bool {
        matches!(self.begins, Begins::AsJson | Begins::Otherwise)
    }

    /// Tells whether nothing can come any more that changes what it says.
    pub fn has_ended(&self) -> bool {
        match self.begins {
            Begins::Unknown => false,
            Begins::AsJson => self.json.ended().is_some(),
            Begins::Otherwise | Begins::Not => true,
        }
    }

    /// Says what was said, once it has ended. What is not whole is read by nobody.
    pub fn finish(self) -> Read {
        match self.begins {
            Begins::AsJson => {}
            Begins::Otherwise => {
                return Read {
                    problem: Some("it is JSON in another encoding than UTF-8"),
                    ..Read::default()
                };
            }
            Begins::Unknown | Begins::Not => return Read::default(),
        }
        let mentions = self.mentions;
        let mut json = self.json;
        // Of what stands behind the first value nobody takes a call.
        let (tree, extent) = match json.take_whole() {
            Some(tree) => (Some(tree), json.ended().unwrap_or_default()),
            None => json.finish(),
        };
        let mut read = Read {
            is_batch: matches!(tree, Some(Tree::List(_))),
            ..Read::default()
        };
        match &tree {
            Some(Tree::List(items)) => {
                for item in items.iter().filter(|item| !matches!(item, Tree::Cut)) {
                    read.add(item);
                }
            }
            Some(one) => read.add(one),
            None => {}
        }
        let is_broken = tree.as_ref().is_none_or(Tree::is_cut);
        if mentions && is_broken {
            let more = Some("it is no JSON that is read in one way");
            read.problem = read.problem.or(more);
        } else if mentions && extent.is_truncated && !read.are_known() {
            read.problem = read.problem.or(Some("it is more than is read"));
        }
        read
    }

    fn begin(&mut self, bytes: &[u8]) {
        self.first.extend_from_slice(bytes);
        let text = self.first.strip_prefix(MARK).unwrap_or(&self.first);
        let is_part_of_mark = text.len() < MARK.len() && MARK.starts_with(text);
        let begin = text.trim_ascii_start();
        let is_open = |byte: &u8| matches!(byte, b'{' | b'[');
        self.begins = match begin {
            _ if is_part_of_mark => return,
            [] => return self.first.clear(),
            [b'{' | b'[', 0, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Begins::Otherwise,
            // The bytes that follow tell the encoding.
            [b'{' | b'[' | 0xff | 0xfe | 0] | [0, 0] | [0, 0, 0] => return,
            [b'{' | b'[', ..] => Begins::AsJson,
            [0, one, ..] if is_open(one) => Begins::Otherwise,
            // The length of a message of gRPC looks so too, as far as this.
            [0, 0, 0, one, 0, 0, 0, _, ..] if is_open(one) => Begins::Otherwise,
            [0, 0, 0, one, ..] if is_open(one) && begin.len() < 8 => return,
            _ => Begins::Not,
        };
        let text = text.to_vec();
        self.first = Vec::new();
        if self.begins == Begins::AsJson {
            self.read(&text);
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        self.json.feed(bytes);
        if self.mentions {
            return;
        }
        self.tail.extend_from_slice(bytes);
        let mut all = MENTIONS.iter();
        self.mentions = all.any(|one| memmem::find(&self.tail, one).is_some());
        let kept = self.tail.len().saturating_sub(CALL.len());
        self.tail.drain(..kept);
    }
}

impl Read {
    fn are_known(&self) -> bool {
        !self.messages.is_empty() && !self.is_batch
    }

    fn add(&mut self, item: &Tree) {
        if !item.is_object() {
            return;
        }
        let says_call =
            |(own, value): (&[u8], &Tree)| is_like(own, "method") && value.text() == Some(CALL);
        let calls = members(item).any(says_call);
        if self.messages.len() >= ENTRIES_MAX {
            let more = calls.then_some("it has more messages than are read");
            self.problem = self.problem.or(more);
            return;
        }
        if calls && !is_plain(item, &MEMBERS) {
            self.problem = Some("a member has two values, or a name that some read as another");
        }
        let id = item.get("id").and_then(id);
        let message = match item.text_of("method") {
            Some(CALL) => return self.call(item, id),
            Some(b"tools/list") => Message::List { id },
            Some(b"notifications/cancelled") => {
                let of = item.at(&["params", "requestId"]).and_then(self::id);
                of.map_or(Message::Other { id: None }, |of| Message::Cancel { of })
            }
            Some(_) => Message::Other { id },
            None => return,
        };
        self.messages.push(message);
    }

    fn call(&mut self, item: &Tree, id: Option<Id>) {
        let parameters = item.get("params").filter(|all| all.is_object());
        let tool = parameters.and_then(|all| all.text_of("name"));
        let tool = tool.filter(|tool| !tool.is_empty() && tool.len() <= NAME_BYTES_MAX);
        let (Some(parameters), Some(tool)) = (parameters, tool) else {
            self.problem = Some("a call names no tool");
            self.messages.push(Message::Other { id });
            return;
        };
        if !is_plain(parameters, &PARAMETERS) {
            self.problem = Some("a member has two values, or a name that some read as another");
        }
        let arguments = Arguments::of_call(parameters.get("arguments"));
        let Ok(arguments) = arguments else {
            self.problem = Some("a text is no UTF-8");
            self.messages.push(Message::Other { id });
            return;
        };
        // Claude Code says it so.
        let use_id = parameters.at(&["_meta", "claudecode/toolUseId"]);
        self.messages.push(Message::Call(ToolCall {
            id,
            tool: RawText::from_bytes(tool),
            arguments,
            use_id: use_id.and_then(Tree::text).map(name),
        }));
    }
}

/// Returns an id as JSON; `None` for what is none.
pub(super) fn id(value: &Tree) -> Option<Id> {
    let is_id = matches!(value, Tree::Text(_) | Tree::Number(_));
    let mut text = Vec::new();
    value.write(&mut text, &|_, _| None)?;
    // It is written into an answer as it is.
    let is_json = serde_json::from_slice::<serde_json::Value>(&text).is_ok();
    (is_id && is_json && text.len() <= ID_BYTES_MAX).then(|| RawText::from_bytes(text))
}

/// Bytes of an id; clients count, or write a UUID.
const ID_BYTES_MAX: usize = 1024;

fn members(object: &Tree) -> impl Iterator<Item = (&[u8], &Tree)> {
    let members = match object {
        Tree::Object(members) => members.as_slice(),
        Tree::Null
        | Tree::Flag(_)
        | Tree::Number(_)
        | Tree::Text(_)
        | Tree::List(_)
        | Tree::Cut => &[],
    };
    members.iter().map(|(name, value)| (name.as_slice(), value))
}

/// Tells whether each of these members is there once at most, and nothing that a reader could take for
/// it: readers in Go take any letter case, and two letters beyond ASCII.
fn is_plain(object: &Tree, names: &[&str]) -> bool {
    names.iter().all(|name| {
        let mut alike = object.names().filter(|own| is_like(own, name));
        let first = alike.next();
        first.is_none_or(|own| own == name.as_bytes()) && alike.next().is_none()
    })
}

fn is_like(own: &[u8], name: &str) -> bool {
    if own.is_ascii() {
        return own.eq_ignore_ascii_case(name.as_bytes());
    }
    let Ok(own) = std::str::from_utf8(own) else {
        return false;
    };
    let plain = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    own.chars().map(plain).eq(name.chars())
}
