//! The path of the agent's output to the person's terminal.
//!
//! It splits the byte stream into characters and complete control sequences (ECMA-48), so that the
//! terminal is always between two sequences when a question is drawn, wherever the reads split the
//! output. It passes the sequences that programs need and drops those with effects beyond the
//! screen: clipboard writes (OSC 52 and similar), terminal remote control, commands that terminals
//! run, file transfers, pass-through to an outer terminal, reports of titles and of the screen's
//! content. It also drops sequences that would hide a question or change its look: colours of the
//! palette, and those that [`super::sequence`] names. Unknown sequences are dropped.

use super::{
    runs::leading,
    sequence::{Meaning, Sequence, is_escape_allowed},
    strings::{self, Text},
    track::Tracker,
    witness,
};

/// Longest operating system or device control string: titles, links and queries are far shorter;
/// longer ones carry files, images or clipboards.
const STRING_BYTES_MAX: usize = 8 << 10;
/// Longest control sequence: 32 parameters of five digits; a longer one is not a sequence.
const SEQUENCE_BYTES_MAX: usize = 256;
/// The replacement for a byte that is not part of a character (U+FFFD).
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;

/// The results for one piece of output.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// For the terminal.
    pub(crate) terminal: Vec<u8>,
    /// For our own picture of the terminal.
    pub(crate) screen: Vec<u8>,
    /// For the agent, as if the terminal had answered.
    pub(crate) answer: Vec<u8>,
    /// Sequences that were dropped for their effects beyond the screen.
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

/// The direction of bytes between a terminal and an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the terminal alone.
    Out,
    /// To the terminal, and its answers back.
    Both,
}

/// Filters output; holds an incomplete sequence until the rest arrives.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    state: State,
    pending: Vec<u8>,
    tracker: Tracker,
    /// The terminal's answers do not go back to the agent.
    is_one_way: bool,
}

impl Filter {
    /// Makes a filter for output to a terminal without a way back: the terminal's answers would be
    /// typed into the next shell.
    pub(crate) fn one_way() -> Self {
        Self {
            is_one_way: true,
            ..Self::default()
        }
    }

    /// Sets whether the terminal's answers go back to the agent from now on.
    pub(crate) fn turn(&mut self, direction: Direction) {
        self.is_one_way = direction == Direction::Out;
    }

    /// Returns the agent's settings of the terminal so far.
    pub(crate) const fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Filters the next bytes of output into `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Forward) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.state == State::Ground {
                let plain = leading(rest, is_plain);
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
            0x00..=0x7f => self.pass(byte, out),
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

    /// Passes a control character: bell, cursor and lines, and the choice of character set. Drops
    /// ENQ, which a terminal answers with a text that its owner chose, and those that start and
    /// stop a device.
    fn pass(&mut self, byte: u8, out: &mut Forward) {
        if !matches!(byte, 0x07..=0x0f) {
            out.dropped += 1;
            return;
        }
        self.tracker.shift(byte);
        out.terminal.push(byte);
        out.screen.push(byte);
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
            0x00..=0x1f => self.pass(byte, out),
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
                let asks = self.pending == b"\x1bZ";
                if !is_escape_allowed(&self.pending) || (asks && self.is_one_way) {
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
            0x00..=0x1f => self.pass(byte, out),
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
        let meaning = sequence.meaning();
        match meaning {
            Meaning::AsksUs if !self.is_one_way => {
                out.answer.extend_from_slice(witness::ANSWER);
                return;
            }
            Meaning::Draws => {}
            Meaning::Asks if !self.is_one_way => {}
            Meaning::Asks | Meaning::AsksUs | Meaning::Dropped => {
                out.dropped += 1;
                return;
            }
        }
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
            // An ESC ends the string unfinished; this byte begins a new sequence.
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
        let meaning = content.map_or(Meaning::Dropped, |text| strings::meaning(kind, text));
        let passes = match meaning {
            Meaning::Draws => true,
            Meaning::Asks => !self.is_one_way,
            Meaning::AsksUs | Meaning::Dropped => false,
        };
        if !passes {
            out.dropped += 1;
            return;
        }
        let introducer: &[u8] = match kind {
            Text::OperatingSystem => b"\x1b]",
            Text::Device => b"\x1bP",
            Text::Other => return,
        };
        if kind == Text::OperatingSystem {
            self.tracker.command(&self.pending);
        }
        out.terminal.extend_from_slice(introducer);
        out.terminal.extend_from_slice(&self.pending);
        out.terminal.extend_from_slice(b"\x1b\\");
    }
}

/// Printable ASCII and the controls that only move the cursor.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\n' | b'\r' | b'\t' | 0x08)
}

fn replace(out: &mut Forward) {
    out.terminal.extend_from_slice(REPLACEMENT);
    out.screen.extend_from_slice(REPLACEMENT);
}
