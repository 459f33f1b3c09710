//! The path of the agent's output to the person's terminal.
//!
//! It cuts the byte stream into characters and complete control sequences (ECMA-48), so that the
//! terminal is always between two sequences when a question is drawn, however the reads fall. It
//! lets through what programs need and drops what reaches past the screen: clipboard writes
//! (OSC 52 and its kin), terminal remote control, file transfers, pass-through to an outer
//! terminal, title reports. It also drops what would hide a question or change its look: colours
//! of the palette, and the sequences that [`super::sequence`] names. What is not known is dropped,
//! not passed.

use super::{
    sequence::{Sequence, is_escape_allowed},
    track::Tracker,
};

/// Longest operating system or device control string: titles, links and queries are far shorter;
/// longer ones carry files, images or clipboards.
const STRING_BYTES_MAX: usize = 8 << 10;
/// Longest control sequence: 32 parameters of five digits; a longer one is no sequence.
const SEQUENCE_BYTES_MAX: usize = 256;
/// What stands for a byte that is no character (U+FFFD).
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;
const ENQ: u8 = 0x05;

/// What one piece of output becomes.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// For the terminal.
    pub(crate) terminal: Vec<u8>,
    /// For our own picture of the terminal.
    pub(crate) screen: Vec<u8>,
    /// Sequences that were dropped because they reach past the screen.
    pub(crate) dropped: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Inside a character of this many bytes.
    Character(usize),
    Escape,
    EscapeIntermediate,
    Control,
    /// Inside a string; `escaped` after an ESC that may begin its end.
    Text {
        kind: Text,
        escaped: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    OperatingSystem,
    Device,
    /// Application program command, privacy message, start of string: never passed.
    Other,
}

/// Filters output; holds an incomplete sequence until the rest comes.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    state: State,
    pending: Vec<u8>,
    tracker: Tracker,
}

impl Filter {
    /// Returns what the agent has set on the terminal so far.
    pub(crate) const fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Filters the next bytes of output into `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Forward) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.state == State::Ground {
                let plain = rest.iter().take_while(|b| is_plain(**b)).count();
                if plain > 0 {
                    let (text, tail) = rest.split_at(plain);
                    out.terminal.extend_from_slice(text);
                    self.tracker.print(text, &mut out.screen);
                    rest = tail;
                    continue;
                }
            }
            if self.step(byte, out) {
                rest = after;
            }
        }
    }

    /// Takes one byte; `false` means that the state changed and the byte must be taken again.
    fn step(&mut self, byte: u8, out: &mut Forward) -> bool {
        match self.state {
            State::Ground => self.ground(byte, out),
            State::Character(length) => return self.character(byte, length, out),
            State::Escape | State::EscapeIntermediate => return self.escape(byte, out),
            State::Control => return self.control(byte, out),
            State::Text { kind, escaped } => return self.text(byte, kind, escaped, out),
        }
        true
    }

    fn ground(&mut self, byte: u8, out: &mut Forward) {
        match byte {
            ESC => self.begin(State::Escape, byte),
            // The terminal would answer with a text that its owner chose, as if it was typed.
            ENQ => out.dropped += 1,
            0x00..=0x7f => {
                out.terminal.push(byte);
                self.tracker.shift(byte);
                out.screen.push(byte);
            }
            0xc2..=0xdf => self.begin(State::Character(2), byte),
            0xe0..=0xef => self.begin(State::Character(3), byte),
            0xf0..=0xf4 => self.begin(State::Character(4), byte),
            // C1 controls as single bytes begin sequences on some terminals.
            0x80..=0x9f => replace(out),
            // Not UTF-8: harmless on every terminal, and right on one of another encoding.
            _ => {
                out.terminal.push(byte);
                out.screen.extend_from_slice(REPLACEMENT);
            }
        }
    }

    fn begin(&mut self, state: State, byte: u8) {
        self.state = state;
        self.pending.clear();
        self.pending.push(byte);
    }

    fn character(&mut self, byte: u8, length: usize, out: &mut Forward) -> bool {
        let continues = (0x80..=0xbf).contains(&byte);
        if continues {
            self.pending.push(byte);
            if self.pending.len() < length {
                return true;
            }
        }
        self.state = State::Ground;
        let whole = std::str::from_utf8(&self.pending)
            .ok()
            .and_then(|text| text.chars().next());
        match whole {
            // C1 controls as characters begin sequences on some terminals, too.
            Some(c) if !c.is_control() => {
                out.terminal.extend_from_slice(&self.pending);
                self.tracker.print(&self.pending, &mut out.screen);
            }
            _ => replace(out),
        }
        continues
    }

    fn escape(&mut self, byte: u8, out: &mut Forward) -> bool {
        let first = self.state == State::Escape;
        match byte {
            CAN | SUB => self.state = State::Ground,
            ESC => self.begin(State::Escape, byte),
            0x00..=0x1f => pass(byte, out),
            0x20..=0x2f if self.pending.len() < SEQUENCE_BYTES_MAX => {
                self.pending.push(byte);
                self.state = State::EscapeIntermediate;
            }
            b'[' if first => {
                self.pending.push(byte);
                self.state = State::Control;
            }
            b']' if first => self.open(Text::OperatingSystem),
            b'P' if first => self.open(Text::Device),
            // `k` is the title string of screen and tmux; other terminals would print it.
            b'X' | b'^' | b'_' | b'k' if first => self.open(Text::Other),
            0x30..=0x7e => {
                self.pending.push(byte);
                self.state = State::Ground;
                if !is_escape_allowed(&self.pending) {
                    out.dropped += 1;
                    return true;
                }
                out.terminal.extend_from_slice(&self.pending);
                self.tracker.escape(&self.pending, &mut out.screen);
            }
            0x7f => {}
            _ => {
                self.state = State::Ground;
                return false;
            }
        }
        true
    }

    /// Begins a string, whose content is kept apart from its introducer.
    fn open(&mut self, kind: Text) {
        self.pending.clear();
        self.state = State::Text {
            kind,
            escaped: false,
        };
    }

    fn control(&mut self, byte: u8, out: &mut Forward) -> bool {
        match byte {
            CAN | SUB => self.state = State::Ground,
            ESC => self.begin(State::Escape, byte),
            0x00..=0x1f => pass(byte, out),
            0x20..=0x3f => {
                // One byte more than fits marks the sequence as too long.
                if self.pending.len() <= SEQUENCE_BYTES_MAX {
                    self.pending.push(byte);
                }
            }
            0x40..=0x7e => {
                self.pending.push(byte);
                self.state = State::Ground;
                self.finish_control(out);
            }
            0x7f => {}
            _ => {
                self.state = State::Ground;
                return false;
            }
        }
        true
    }

    fn finish_control(&mut self, out: &mut Forward) {
        let sequence = (self.pending.len() <= SEQUENCE_BYTES_MAX)
            .then(|| Sequence::parse(&self.pending))
            .flatten();
        let Some(mut sequence) = sequence else {
            out.dropped += 1;
            return;
        };
        if let Some(bytes) = sequence.passed(&self.pending) {
            out.terminal.extend_from_slice(&bytes);
            self.tracker.control(&sequence, &bytes, &mut out.screen);
        } else {
            out.dropped += 1;
        }
    }

    fn text(&mut self, byte: u8, kind: Text, escaped: bool, out: &mut Forward) -> bool {
        let ends_by_bell = byte == BEL && kind == Text::OperatingSystem;
        if escaped && byte != b'\\' {
            // An ESC ends the string unfinished; with this byte it begins something new.
            out.dropped += 1;
            self.begin(State::Escape, ESC);
            return false;
        }
        match byte {
            _ if escaped || ends_by_bell => {
                self.state = State::Ground;
                self.finish_text(kind, out);
            }
            CAN | SUB => {
                self.state = State::Ground;
                out.dropped += 1;
            }
            ESC => {
                self.state = State::Text {
                    kind,
                    escaped: true,
                }
            }
            _ => {
                // One byte more than fits marks the string as too long.
                if self.pending.len() <= STRING_BYTES_MAX {
                    self.pending.push(byte);
                }
            }
        }
        true
    }

    fn finish_text(&mut self, kind: Text, out: &mut Forward) {
        let content = std::str::from_utf8(&self.pending)
            .ok()
            .filter(|text| text.len() <= STRING_BYTES_MAX && !text.chars().any(char::is_control));
        let introducer: &[u8] = match (kind, content) {
            (Text::OperatingSystem, Some(text)) if is_allowed_command(text) => b"\x1b]",
            (Text::Device, Some(text)) if is_allowed_device_string(text) => b"\x1bP",
            _ => {
                out.dropped += 1;
                return;
            }
        };
        out.terminal.extend_from_slice(introducer);
        out.terminal.extend_from_slice(&self.pending);
        out.terminal.extend_from_slice(b"\x1b\\");
    }
}

/// Printable ASCII and the controls that only move the cursor.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\n' | b'\r' | b'\t' | 0x08)
}

fn pass(byte: u8, out: &mut Forward) {
    if byte != ENQ {
        out.terminal.push(byte);
        out.screen.push(byte);
    }
}

fn replace(out: &mut Forward) {
    out.terminal.extend_from_slice(REPLACEMENT);
    out.screen.extend_from_slice(REPLACEMENT);
}

/// Tells whether an operating system command stays on the screen: titles (0 to 2), resets of the
/// palette (104, 105, 110 to 119), working directory (7), links (8), notifications (9, 99, 777),
/// pointer shape (22), prompt marks (133), and colours as [`is_allowed_colour`] says.
///
/// Not on the list: the clipboard (52, 5522), fonts (50), editors' and terminals' own command
/// channels (51, 633, 1337, 5113).
fn is_allowed_command(text: &str) -> bool {
    let (number, rest) = text.split_once(';').unwrap_or((text, ""));
    let plain = number.len() <= 3 && !(number.len() > 1 && number.starts_with('0'));
    plain
        && match number.parse() {
            Ok(number @ (4..=5 | 10..=19 | 21)) => is_allowed_colour(number, rest),
            Ok(0..=2 | 7..=9 | 22 | 99 | 104..=105 | 110..=119 | 133 | 777_u16) => true,
            _ => false,
        }
}

/// Tells whether a command about colours only asks for them, or sets that of the cursor (12),
/// which a question hides. Any other colour could make the words of a question invisible.
fn is_allowed_colour(number: u16, rest: &str) -> bool {
    let mut words = rest.split(';');
    match number {
        // Pairs of an index and a colour.
        4 | 5 => {
            let mut is_colour = false;
            let all = words.all(|word| {
                let good = !is_colour || word == "?";
                is_colour = !is_colour;
                good
            });
            all && !is_colour
        }
        12 if !rest.contains(';') => true,
        21 => words.all(|word| word.ends_with("=?")),
        // Each further word is the colour of the next number.
        _ => words.all(|word| word == "?"),
    }
}

/// Tells whether a device control string only asks about settings (`$q`, `+q`); others carry
/// graphics, keys or bytes for an outer terminal, or hold back what is drawn (`=1s`).
fn is_allowed_device_string(text: &str) -> bool {
    text.starts_with("$q") || text.starts_with("+q")
}
