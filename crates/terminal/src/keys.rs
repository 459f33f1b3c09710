//! The keys of a person, separated from all other input of a terminal.
//!
//! Replies of the terminal (reports, colours, settings) and mouse events are removed completely,
//! and pastes are marked as text, so that no letter inside them counts as an answer.

use std::time::{Duration, Instant};

/// How long an ESC waits for the rest of a sequence before it is the key. Terminals send a
/// sequence at once; a slow line delays it by a round trip.
pub(super) const ESCAPE_WAIT: Duration = Duration::from_millis(150);
/// Silence before a key that stands for itself. Hands are slower than this between two keys;
/// programs and unbracketed pastes are faster.
const QUIET: Duration = Duration::from_millis(80);
/// Longest sequence that is kept for parsing; a longer one is still removed.
const SEQUENCE_BYTES_MAX: usize = 64;

/// Bytes of the longest character (UTF-8, RFC 3629).
const CHARACTER_BYTES_MAX: usize = 4;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Character(char),
    /// A printable character of a paste; a line break is a space.
    Pasted(char),
    /// The return key.
    Enter,
    /// The escape key, by itself.
    Escape,
    /// The key that takes the last character back.
    Backspace,
    /// Ctrl-C.
    Interrupt,
    /// The arrow up.
    Up,
    /// The arrow down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the beginning.
    Home,
}

impl Key {
    /// Whether it only moves in the text.
    pub(super) const fn is_move(self) -> bool {
        matches!(
            self,
            Self::Character(' ')
                | Self::PageDown
                | Self::PageUp
                | Self::Down
                | Self::Up
                | Self::Home
        )
    }
}

/// The content of one read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The keys, in their order.
    pub strokes: Vec<Stroke>,
    /// Answers of the terminal to [`super::witness`].
    pub answers: usize,
    /// Whether there was any other input than such answers.
    pub is_input: bool,
    /// A sequence continues in the next read.
    pub is_cut: bool,
}

/// A key and the way it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// Which key.
    pub key: Key,
    /// It came by itself: nothing else in the same read, and nothing shortly before.
    pub is_single: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Control,
    /// After `ESC O`: one more byte.
    Single,
    /// Inside a string reply; `escaped` after the ESC that may end it.
    Text {
        escaped: bool,
    },
    /// Inside a bracketed paste.
    Paste,
    PasteEscape,
    Character(usize),
}

/// Reads keys.
#[derive(Debug, Default)]
pub struct Keys {
    state: State,
    pending: Vec<u8>,
    last_input: Option<Instant>,
    answers: usize,
}

impl Keys {
    /// Reads the bytes of one read.
    pub fn push(&mut self, bytes: &[u8], now: Instant) -> Heard {
        if bytes.is_empty() {
            return Heard::default();
        }
        let quiet = self
            .last_input
            .is_none_or(|last| now.duration_since(last) >= QUIET);
        let fresh = self.state == State::Ground;
        self.last_input = Some(now);
        let mut keys = Vec::new();
        // A key that takes several bytes is one event, and so is a reply that gives no key.
        let mut events = 0_usize;
        for byte in bytes {
            self.step(*byte, &mut keys);
            events += usize::from(self.state == State::Ground);
        }
        let answers = std::mem::take(&mut self.answers);
        let is_cut = self.state != State::Ground;
        let is_single = quiet && fresh && events == 1 && keys.len() == 1;
        Heard {
            strokes: keys
                .into_iter()
                .map(|key| Stroke { key, is_single })
                .collect(),
            answers,
            is_input: events > answers || is_cut,
            is_cut,
        }
    }

    /// Returns the escape key once no sequence can follow it any more.
    pub fn tick(&mut self, now: Instant) -> Option<Stroke> {
        let waited = self
            .last_input
            .is_some_and(|last| now.duration_since(last) >= ESCAPE_WAIT);
        if self.state == State::Escape && waited {
            self.state = State::Ground;
            return Some(Stroke {
                key: Key::Escape,
                is_single: true,
            });
        }
        None
    }

    fn step(&mut self, byte: u8, keys: &mut Vec<Key>) {
        match self.state {
            State::Ground => self.ground(byte, keys),
            State::Escape => self.escape(byte),
            State::Control => self.control(byte, keys),
            State::Single => {
                self.state = State::Ground;
                keys.extend(arrow(byte));
            }
            State::Text { escaped } => self.text(byte, escaped),
            State::Paste => self.paste(byte, keys),
            State::PasteEscape => self.paste_escape(byte),
            State::Character(length) => self.character(byte, length, keys),
        }
    }

    fn ground(&mut self, byte: u8, keys: &mut Vec<Key>) {
        self.pending.clear();
        match byte {
            0x1b => self.state = State::Escape,
            b'\r' | b'\n' => keys.push(Key::Enter),
            0x08 | 0x7f => keys.push(Key::Backspace),
            0x03 => keys.push(Key::Interrupt),
            0x20..=0x7e => keys.push(Key::Character(char::from(byte))),
            0xc2..=0xf4 => {
                self.pending.push(byte);
                self.state = State::Character(match byte {
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    _ => 4,
                });
            }
            _ => {}
        }
    }

    fn character(&mut self, byte: u8, length: usize, keys: &mut Vec<Key>) {
        self.pending.push(byte);
        if self.pending.len() < length && (0x80..=0xbf).contains(&byte) {
            return;
        }
        self.state = State::Ground;
        let text = std::str::from_utf8(&self.pending).ok();
        keys.extend(text.and_then(|t| t.chars().next()).map(Key::Character));
    }

    fn escape(&mut self, byte: u8) {
        self.pending.clear();
        self.state = match byte {
            0x1b => State::Escape,
            b'[' => State::Control,
            b'O' => State::Single,
            b']' | b'P' | b'X' | b'^' | b'_' => State::Text { escaped: false },
            // A letter held with Alt is not an answer.
            _ => State::Ground,
        };
    }

    fn control(&mut self, byte: u8, keys: &mut Vec<Key>) {
        match byte {
            0x1b => self.state = State::Escape,
            0x20..=0x3f => {
                if self.pending.len() < SEQUENCE_BYTES_MAX {
                    self.pending.push(byte);
                }
            }
            _ => {
                self.state = State::Ground;
                match (self.pending.as_slice(), byte) {
                    (b"200", b'~') => {
                        self.pending.clear();
                        self.state = State::Paste;
                    }
                    (b"" | b"1;1" | b"1;1:1" | b"1;1:2", _) => keys.extend(arrow(byte)),
                    (b"5", b'~') => keys.push(Key::PageUp),
                    (b"6", b'~') => keys.push(Key::PageDown),
                    (b"0", b'n') => self.answers += 1,
                    (parameters, b'u') => keys.extend(reported(parameters)),
                    _ => {}
                }
            }
        }
    }

    fn text(&mut self, byte: u8, escaped: bool) {
        self.state = match byte {
            b'\\' if escaped => State::Ground,
            0x07 | 0x18 | 0x1a => State::Ground,
            0x1b => State::Text { escaped: true },
            _ => State::Text { escaped: false },
        };
    }

    fn paste(&mut self, byte: u8, keys: &mut Vec<Key>) {
        match byte {
            0x1b => {
                self.pending.clear();
                self.state = State::PasteEscape;
            }
            b'\r' | b'\n' | b'\t' => {
                self.pending.clear();
                keys.push(Key::Pasted(' '));
            }
            0x00..=0x1f | 0x7f => self.pending.clear(),
            0x20..=0x7e => {
                self.pending.clear();
                keys.push(Key::Pasted(char::from(byte)));
            }
            // A character of several bytes; invalid bytes never become text.
            0x80..=0xff => {
                if byte >= 0xc0 || self.pending.len() >= CHARACTER_BYTES_MAX {
                    self.pending.clear();
                }
                self.pending.push(byte);
                let text = std::str::from_utf8(&self.pending).ok();
                let character = text.and_then(|t| t.chars().next());
                if let Some(c) = character.filter(|c| !c.is_control()) {
                    keys.push(Key::Pasted(c));
                    self.pending.clear();
                }
            }
        }
    }

    fn paste_escape(&mut self, byte: u8) {
        self.pending.push(byte);
        if self.pending == b"[201~" {
            self.pending.clear();
            self.state = State::Ground;
        } else if !b"[201~".starts_with(&self.pending) {
            self.state = if byte == 0x1b {
                State::PasteEscape
            } else {
                State::Paste
            };
            self.pending.clear();
        }
    }
}

fn arrow(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'H' => Some(Key::Home),
        b'M' => Some(Key::Enter),
        _ => None,
    }
}

/// Reads a key that the terminal reports by number (`CSI code ; modifiers : event u`); only a
/// press without modifiers counts.
fn reported(parameters: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(parameters).ok()?;
    let mut parts = text.split(';');
    let code: u32 = parts.next()?.split(':').next()?.parse().ok()?;
    if !matches!(parts.next(), None | Some("" | "1" | "1:1")) {
        return None;
    }
    match char::from_u32(code)? {
        '\r' => Some(Key::Enter),
        '\u{1b}' => Some(Key::Escape),
        '\u{7f}' | '\u{8}' => Some(Key::Backspace),
        c if c.is_control() => None,
        c => Some(Key::Character(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<Stroke> {
        let mut keys = Keys::default();
        let mut now = Instant::now();
        let mut strokes = Vec::new();
        for chunk in chunks {
            now += Duration::from_secs(1);
            strokes.extend(keys.push(chunk, now).strokes);
        }
        strokes
    }

    fn single(key: Key) -> Vec<Stroke> {
        vec![Stroke {
            key,
            is_single: true,
        }]
    }

    #[test]
    fn keys_are_read() {
        assert_eq!(read(&[b"o"]), single(Key::Character('o')));
        assert_eq!(read(&[b"\r"]), single(Key::Enter));
        assert_eq!(read(&[b"\x1b[A"]), single(Key::Up));
        assert_eq!(read(&[b"\x1bOB"]), single(Key::Down));
        assert_eq!(read(&[b"\x1b[111u"]), single(Key::Character('o')));
        assert_eq!(read(&["ü".as_bytes()]), single(Key::Character('ü')));
    }

    #[test]
    fn keys_with_modifiers_are_no_answers() {
        for bytes in [&b"\x1bo"[..], b"\x1b[111;5u", b"\x1b[111;1:3u", b"\x0f"] {
            assert_eq!(read(&[bytes]), [], "{bytes:?}");
        }
    }

    #[test]
    fn replies_give_no_keys_however_they_are_cut() {
        let foreign: [&[u8]; 7] = [
            b"\x1b]11;rgb:ooss/0000/0000\x1b\\",
            b"\x1b]11;rgb:ooss/0000/0000\x07",
            b"\x1bP1$r0;so\x1b\\",
            b"\x1b[?1;2c",
            b"\x1b[12;40R",
            b"\x1b[<0;10;10M",
            b"\x1b[I",
        ];
        for bytes in foreign {
            assert_eq!(read(&[bytes]), [], "{bytes:?}");
            for cut in 1..bytes.len() {
                let (a, b) = bytes.split_at(cut);
                assert_eq!(read(&[a, b]), [], "{bytes:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_paste_is_text_and_no_key_however_it_is_cut() {
        let text = |strokes: Vec<Stroke>| -> String {
            let pasted = |stroke: Stroke| match stroke.key {
                Key::Pasted(c) => c,
                key => panic!("a paste gave {key:?}"),
            };
            strokes.into_iter().map(pasted).collect()
        };
        let cases: [(&[u8], &str); 4] = [
            (b"\x1b[200~oso\ro\x1b[201~", "oso o"),
            (b"\x1b[200~a\x03\x7f\tb\x1b[201\x1b[200c\x1b[201~", "a bc"),
            ("\x1b[200~ä漢\u{1f980}\x1b[201~".as_bytes(), "ä漢\u{1f980}"),
            (b"\x1b[200~x\xff\xc3\xc3\xa4\x9by\x1b[201~", "xäy"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(text(read(&[bytes])), expected, "{bytes:?}");
            for cut in 1..bytes.len() {
                let (a, b) = bytes.split_at(cut);
                assert_eq!(text(read(&[a, b])), expected, "{bytes:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn several_keys_at_once_are_not_single() {
        assert!(read(&[b"oo"]).iter().all(|stroke| !stroke.is_single));
        assert!(
            read(&[b"\x1b[?1;2co"])
                .iter()
                .all(|stroke| !stroke.is_single)
        );
        let mut keys = Keys::default();
        let now = Instant::now();
        let single = |heard: Heard| heard.strokes.iter().all(|stroke| stroke.is_single);
        assert!(single(keys.push(b"x", now)));
        assert!(!single(keys.push(b"o", now + QUIET / 2)));
    }

    #[test]
    fn an_answer_of_the_terminal_is_no_input() {
        let mut keys = Keys::default();
        let now = Instant::now();
        let expected = Heard {
            answers: 1,
            ..Heard::default()
        };
        assert_eq!(keys.push(b"\x1b[0n", now), expected);
        let with_a_key = keys.push(b"\x1b[0no", now + Duration::from_secs(1));
        assert!(with_a_key.is_input && !with_a_key.strokes[0].is_single);
        for other in [&b"\x1b[3n"[..], b"\x1b[?0n", b"\x1b[0;0n", b"\x1b[00n"] {
            let heard = keys.push(other, now);
            assert!(heard.answers == 0 && heard.is_input, "{other:?}");
        }
        // If it is split, its beginning may be a key and counts as input.
        assert!(keys.push(b"\x1b[", now).is_input);
        assert_eq!(keys.push(b"0n", now).answers, 1);
    }

    #[test]
    fn an_escape_by_itself_is_a_key_after_a_while() {
        let mut keys = Keys::default();
        let now = Instant::now();
        let heard = keys.push(b"\x1b", now);
        assert!(heard.strokes.is_empty() && heard.is_input && heard.is_cut);
        assert_eq!(keys.tick(now), None);
        assert_eq!(
            keys.tick(now + ESCAPE_WAIT).map(|stroke| stroke.key),
            Some(Key::Escape)
        );
    }
}
