//! JSON that is read while it passes, of which only what matters is kept.
//!
//! The reader never looks back, holds a bounded part of a text of any size, and takes what is not quite
//! JSON as far as it goes: what it reads was sent to somebody else, and decides nothing.

use memchr::memchr2;

use crate::{
    content::Growing,
    limits::{
        KEY_BYTES_MAX, NUMBER_BYTES_MAX, OUTER_VALUES_MAX, PATH_MAX, Room, TEXT_BYTES_MAX,
        TEXTS_BYTES_MAX,
    },
    tree::Tree,
};

/// What of a text is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Names of lists that are conversations: what stands before the model's last entry is not kept.
    pub(crate) conversations: &'static [&'static str],
    /// Tells whether an entry of a conversation is the model's.
    pub(crate) is_models: fn(&Tree) -> bool,
    /// Members that are not kept: their names, below a member of another name, or of none.
    pub(crate) unread: &'static [(&'static str, &'static str)],
    /// Paths of members outside of which nothing is kept; none if all is. Lists are no part of a path.
    pub(crate) only: &'static [&'static [&'static str]],
    /// Paths of lists whose items are handed out as they end, rather than kept.
    pub(crate) taken: &'static [&'static [&'static str]],
    /// How much is kept.
    pub(crate) room: Room,
}

impl Shape {
    /// Everything is kept.
    pub(crate) const ALL: Self = Self {
        conversations: &[],
        is_models: |_| false,
        unread: &[],
        only: &[],
        taken: &[],
        room: Room::CALLS,
    };
}

/// How much of a text was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// It did not end as JSON does, or is none.
    pub(crate) is_cut: bool,
    /// More was said than is kept.
    pub(crate) is_truncated: bool,
}

/// A text while it is read.
#[derive(Debug)]
pub(crate) struct Json {
    shape: Shape,
    state: State,
    open: Vec<Open>,
    root: Option<Tree>,
    /// Items that are handed out next.
    taken: Vec<Tree>,
    /// Values that are kept.
    values: usize,
    /// Bytes of longer texts that there is still room for.
    room: usize,
    /// Bytes up to which one text is kept.
    text_bytes_max: usize,
    /// The text, number or word that is being read.
    text: Growing,
    key: Vec<u8>,
    is_key: bool,
    /// The value that is being read is not kept.
    is_unread: bool,
    /// The first half of a character beyond the first plane.
    surrogate: Option<u16>,
    is_truncated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come.
    Value,
    /// A value, or the end of the list.
    FirstValue,
    /// A name, or the end of the object.
    FirstKey,
    /// A name must come.
    Key,
    Colon,
    /// A comma, or the end of what is open.
    Next,
    Text,
    Escape,
    /// So many digits of an escape, and what they are so far.
    Unit(u8, u16),
    /// A number, or one of the words.
    Word,
    /// Inside of what is not kept, so deep.
    Skip(u64),
    SkipText(u64),
    SkipEscape(u64),
    Done,
    Broken,
}

/// A list or an object that has not ended.
#[derive(Debug)]
enum Open {
    List(Vec<Tree>),
    Object(Vec<(Vec<u8>, Tree)>, Vec<u8>),
}

impl Json {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            state: State::Value,
            open: Vec::new(),
            root: None,
            taken: Vec::new(),
            values: 0,
            room: TEXTS_BYTES_MAX,
            text_bytes_max: TEXT_BYTES_MAX,
            text: Growing::default(),
            key: Vec::new(),
            is_key: false,
            is_unread: false,
            surrogate: None,
            is_truncated: false,
        }
    }

    /// Keeps also one text that fills the room for all.
    pub(crate) const fn with_long_texts(mut self) -> Self {
        self.text_bytes_max = TEXTS_BYTES_MAX;
        self
    }

    /// Reads on.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::Text => {
                    let plain = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                    let (plain, after) = bytes.split_at(plain);
                    self.say(plain);
                    let Some((&mark, rest)) = after.split_first() else {
                        return;
                    };
                    bytes = rest;
                    if mark == b'"' {
                        self.end_text();
                    } else {
                        self.state = State::Escape;
                    }
                }
                State::SkipText(depth) => {
                    let plain = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                    let Some((&mark, rest)) = bytes.split_at(plain).1.split_first() else {
                        return;
                    };
                    bytes = rest;
                    self.state = if mark == b'\\' {
                        State::SkipEscape(depth)
                    } else if depth == 0 {
                        State::Next
                    } else {
                        State::Skip(depth)
                    };
                }
                State::Word if !is_in_word(byte) => self.end_word(),
                State::Broken => return,
                _ => {
                    bytes = rest;
                    self.step(byte);
                }
            }
        }
    }

    /// Returns the items that have ended since the last time.
    pub(crate) fn take(&mut self) -> Vec<Tree> {
        std::mem::take(&mut self.taken)
    }

    /// Says how far it has come; `None` while more must come.
    pub(crate) fn ended(&self) -> Option<Extent> {
        let is_cut = match self.state {
            State::Done => false,
            State::Broken => true,
            State::Value
            | State::FirstValue
            | State::FirstKey
            | State::Key
            | State::Colon
            | State::Next
            | State::Text
            | State::Escape
            | State::Unit(..)
            | State::Word
            | State::Skip(_)
            | State::SkipText(_)
            | State::SkipEscape(_) => return None,
        };
        Some(Extent {
            is_cut,
            is_truncated: self.is_truncated,
        })
    }

    /// Tells whether nothing but blanks was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Value && self.open.is_empty() && self.root.is_none()
    }

    /// Returns the value once it is whole; from then on it is only known whether something follows.
    pub(crate) fn take_whole(&mut self) -> Option<Tree> {
        (self.state == State::Done).then(|| self.root.take())?
    }

    /// Says what was read; what had not ended is kept as far as it was whole.
    pub(crate) fn finish(mut self) -> (Option<Tree>, Extent) {
        if self.state == State::Word && self.open.is_empty() {
            self.end_word();
        }
        let is_cut = self.state != State::Done;
        while let Some(open) = self.open.pop() {
            let tree = match open {
                Open::List(mut items) => {
                    items.push(Tree::Cut);
                    Tree::List(items)
                }
                Open::Object(mut members, key) => {
                    members.push((key, Tree::Cut));
                    Tree::Object(members)
                }
            };
            self.put(tree);
        }
        let extent = Extent {
            is_cut,
            is_truncated: self.is_truncated,
        };
        (self.root, extent)
    }

    /// Takes one byte where it is not in the middle of a text.
    fn step(&mut self, byte: u8) {
        match self.state {
            State::Word => self.text.push(&[byte], &mut self.room),
            State::Escape => self.escape(byte),
            State::Unit(digits, value) => self.unit(byte, digits, value),
            State::Skip(depth) => self.skip(byte, depth),
            State::SkipEscape(depth) => self.state = State::SkipText(depth),
            State::Value
            | State::FirstValue
            | State::FirstKey
            | State::Key
            | State::Colon
            | State::Next
            | State::Done
                if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
            State::FirstValue if byte == b']' => self.close(),
            State::Value | State::FirstValue => self.begin(byte),
            State::FirstKey if byte == b'}' => self.close(),
            State::FirstKey | State::Key if byte == b'"' => {
                self.is_key = true;
                self.key = Vec::new();
                self.state = State::Text;
            }
            State::Colon if byte == b':' => self.state = State::Value,
            State::Next => self.next(byte),
            State::FirstKey
            | State::Key
            | State::Colon
            | State::Done
            | State::Text
            | State::SkipText(_)
            | State::Broken => self.state = State::Broken,
        }
    }

    fn next(&mut self, byte: u8) {
        self.state = match (byte, self.open.last()) {
            (b',', Some(Open::List(_))) => State::Value,
            (b',', Some(Open::Object(..))) => State::Key,
            (b']', Some(Open::List(_))) | (b'}', Some(Open::Object(..))) => return self.close(),
            _ => State::Broken,
        };
    }

    /// Begins a value.
    fn begin(&mut self, byte: u8) {
        self.is_unread = !self.keeps();
        self.state = match byte {
            b'{' | b'[' if self.is_unread => State::Skip(1),
            b'{' => {
                self.open.push(Open::Object(Vec::new(), Vec::new()));
                State::FirstKey
            }
            b'[' => {
                self.open.push(Open::List(Vec::new()));
                State::FirstValue
            }
            b'"' if self.is_unread => State::SkipText(0),
            b'"' => {
                self.is_key = false;
                self.text = Growing::up_to(self.text_bytes_max);
                State::Text
            }
            byte if is_in_word(byte) => {
                self.text = Growing::default();
                self.text.push(&[byte], &mut self.room);
                State::Word
            }
            _ => State::Broken,
        };
    }

    /// Tells whether the next value is kept.
    fn keeps(&mut self) -> bool {
        let outer = if self.open.len() <= 1 {
            OUTER_VALUES_MAX
        } else {
            0
        };
        if !self.shape.only.is_empty() && !self.is_on_path() {
            return false;
        }
        let Room { values, depth } = self.shape.room;
        if self.open.len() >= depth || self.values >= values + outer {
            self.is_truncated = true;
            return false;
        }
        let Some(Open::Object(_, key)) = self.open.last() else {
            return true;
        };
        let is_below = |name: &str| {
            let mut above = self.open.iter();
            above.any(|open| matches!(open, Open::Object(_, key) if key == name.as_bytes()))
        };
        let mut unread = self.shape.unread.iter();
        !unread.any(|(above, name)| key == name.as_bytes() && (above.is_empty() || is_below(above)))
    }

    /// Returns the names of the members that lead here, the first ones.
    fn path(&self) -> ([&[u8]; PATH_MAX], usize) {
        let (mut path, mut length) = ([&[] as &[u8]; PATH_MAX], 0);
        for open in &self.open {
            if let Open::Object(_, key) = open {
                let Some(place) = path.get_mut(length) else {
                    break;
                };
                *place = key;
                length += 1;
            }
        }
        (path, length)
    }

    /// Tells whether the next value leads to one that is kept, or is within one.
    fn is_on_path(&self) -> bool {
        let (path, length) = self.path();
        let path = path.get(..length).unwrap_or_default();
        let mut kept = self.shape.only.iter();
        kept.any(|kept| {
            path.iter()
                .zip(*kept)
                .all(|(own, name)| *own == name.as_bytes())
        })
    }

    /// Tells whether an item of the innermost list is handed out.
    fn is_taken(&self) -> bool {
        if self.shape.taken.is_empty() || !matches!(self.open.last(), Some(Open::List(_))) {
            return false;
        }
        let (path, length) = self.path();
        let path = path.get(..length).unwrap_or_default();
        let mut taken = self.shape.taken.iter();
        taken.any(|taken| {
            let is_same = |(own, name): (&&[u8], &&str)| *own == name.as_bytes();
            taken.len() == length && path.iter().zip(*taken).all(is_same)
        })
    }

    /// Adds to a text or a name.
    fn say(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.surrogate.take().is_some() {
            self.add("\u{fffd}".as_bytes());
        }
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        if !self.is_key {
            return self.text.push(bytes, &mut self.room);
        }
        let room = (KEY_BYTES_MAX + 1).saturating_sub(self.key.len());
        let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.key.extend_from_slice(part);
    }

    fn end_text(&mut self) {
        if self.surrogate.take().is_some() {
            self.add("\u{fffd}".as_bytes());
        }
        if self.is_key {
            let name = std::mem::take(&mut self.key);
            if let Some(Open::Object(_, key)) = self.open.last_mut() {
                *key = name;
            }
            self.state = State::Colon;
        } else {
            let text = std::mem::take(&mut self.text);
            self.put(Tree::Text(text));
        }
    }

    fn escape(&mut self, byte: u8) {
        self.state = State::Text;
        let plain = match byte {
            b'u' => {
                self.state = State::Unit(0, 0);
                return;
            }
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'"' | b'\\' | b'/' => byte,
            _ => {
                self.state = State::Broken;
                return;
            }
        };
        self.say(&[plain]);
    }

    /// Takes a digit of an escape; two of them can make one character.
    fn unit(&mut self, byte: u8, digits: u8, value: u16) {
        let Some(digit) = char::from(byte).to_digit(16) else {
            self.state = State::Broken;
            return;
        };
        let value = (value << 4) | u16::try_from(digit).unwrap_or_default();
        if digits < 3 {
            self.state = State::Unit(digits + 1, value);
            return;
        }
        self.state = State::Text;
        let pair = self.surrogate.take();
        let both = pair.and_then(|first| {
            let mut read = char::decode_utf16([first, value]);
            read.next()?.ok()
        });
        if let Some(both) = both {
            return self.add(both.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if pair.is_some() {
            self.add("\u{fffd}".as_bytes());
        }
        if (0xd800..0xdc00).contains(&value) {
            self.surrogate = Some(value);
            return;
        }
        let said = char::from_u32(u32::from(value)).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.add(said.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.text);
        let text = word.text().filter(|text| text.len() <= NUMBER_BYTES_MAX);
        let tree = match text {
            Some(b"true") => Tree::Flag(true),
            Some(b"false") => Tree::Flag(false),
            Some(b"null") => Tree::Null,
            Some([b'-' | b'0'..=b'9', ..]) => Tree::Number(
                text.unwrap_or_default()
                    .iter()
                    .map(|byte| char::from(*byte))
                    .collect(),
            ),
            Some(_) | None => {
                self.state = State::Broken;
                return;
            }
        };
        if self.is_unread {
            self.state = self.after();
        } else {
            self.put(tree);
        }
    }

    /// Follows what is not kept to its end.
    fn skip(&mut self, byte: u8, depth: u64) {
        self.state = match byte {
            b'"' => State::SkipText(depth),
            b'{' | b'[' => State::Skip(depth.saturating_add(1)),
            b'}' | b']' if depth <= 1 => self.after(),
            b'}' | b']' => State::Skip(depth - 1),
            _ => return,
        };
    }

    /// Ends a list or an object.
    fn close(&mut self) {
        match self.open.pop() {
            Some(Open::List(items)) => self.put(Tree::List(items)),
            Some(Open::Object(members, _)) => self.put(Tree::Object(members)),
            None => self.state = State::Broken,
        }
    }

    /// Puts a value that has ended where it belongs.
    fn put(&mut self, tree: Tree) {
        self.values += 1;
        if self.is_taken() {
            let (values, text) = tree.weight();
            self.values = self.values.saturating_sub(values);
            self.room = self.room.saturating_add(text);
            self.taken.push(tree);
            self.state = self.after();
            return;
        }
        let is_conversation = self.is_conversation();
        match self.open.last_mut() {
            None => self.root = Some(tree),
            Some(Open::Object(members, key)) => {
                let name = std::mem::take(key);
                members.push((name, tree));
            }
            Some(Open::List(items)) => {
                // What was said before the model's last words was new in an earlier request.
                if is_conversation && (self.shape.is_models)(&tree) {
                    for old in items.drain(..) {
                        let (values, text) = old.weight();
                        self.values = self.values.saturating_sub(values);
                        self.room = self.room.saturating_add(text);
                    }
                }
                items.push(tree);
            }
        }
        self.state = self.after();
    }

    /// Tells whether the innermost list is a conversation.
    fn is_conversation(&self) -> bool {
        let mut open = self.open.iter().rev();
        let (Some(Open::List(_)), Some(Open::Object(_, key))) = (open.next(), open.next()) else {
            return false;
        };
        let mut names = self.shape.conversations.iter();
        self.open.len() <= 3 && names.any(|name| key == name.as_bytes())
    }

    const fn after(&self) -> State {
        if self.open.is_empty() {
            State::Done
        } else {
            State::Next
        }
    }
}

/// Characters of numbers and of the three words.
const fn is_in_word(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'E')
}

#[cfg(test)]
mod tests;
