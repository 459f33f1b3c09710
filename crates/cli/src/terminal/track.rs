//! What the agent has set on the terminal beyond what the screen parser knows.
//!
//! The parser keeps cells, cursor and colours. This keeps the modes that decide what keys send
//! and where text goes, so that a question can put them aside and set them again, and it words
//! for the parser what the parser does not know.

/// Private modes that change what the terminal sends: mouse, focus, keys, resize and colour
/// reports. While a question is shown they are off.
const INPUT_MODES: [u16; 15] = [
    1, 9, 66, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2031, 2048, 9001,
];
/// Private modes that are kept apart: origin, cursor, bracketed paste.
const ORIGIN: u16 = 6;
const CURSOR: u16 = 25;
const PASTE: u16 = 2004;
/// Most repetitions of one character that the picture takes (REP): more than a screen holds has
/// the same effect and costs time.
const REPEATS_MAX: u16 = 4096;
/// Keyboard levels that an agent pushes without taking them back; a program pushes one.
const KEYBOARD_LEVELS_MAX: u16 = 64;

/// A control sequence: `CSI`, private marker, parameters, intermediates, final byte.
#[derive(Debug)]
pub(crate) struct Sequence {
    marker: Option<u8>,
    parameters: Vec<u16>,
    intermediate: Option<u8>,
    last: u8,
}

impl Sequence {
    /// Parses `ESC [ … final`; `None` where it is no control sequence.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&last, body) = bytes.strip_prefix(b"\x1b[")?.split_last()?;
        let (marker, body) = match body.split_first() {
            Some((&marker @ b'<'..=b'?', body)) => (Some(marker), body),
            _ => (None, body),
        };
        let digits = body.iter().take_while(|b| matches!(b, b'0'..=b';')).count();
        let (parameters, intermediates) = body.split_at(digits);
        if intermediates.iter().any(|b| !(0x20..=0x2f).contains(b)) {
            return None;
        }
        let parameters = parameters
            .split(|b| *b == b';')
            .map(|text| {
                // Sub-parameters only colour text, which is the parser's matter.
                let first = text.split(|b| *b == b':').next().unwrap_or_default();
                std::str::from_utf8(first)
                    .ok()
                    .and_then(|t| t.parse().ok())
                    .unwrap_or(0)
            })
            .collect();
        Some(Self {
            marker,
            parameters,
            intermediate: intermediates.first().copied(),
            last,
        })
    }

    fn parameter(&self, index: usize) -> u16 {
        self.parameters.get(index).copied().unwrap_or(0)
    }

    fn is(&self, marker: Option<u8>, last: u8) -> bool {
        self.marker == marker && self.intermediate.is_none() && self.last == last
    }

    /// Tells whether the terminal would answer with a text that the agent can choose (XTWINOPS
    /// 20 and 21 send icon label and title as if they were typed).
    pub(crate) fn reports_title(&self) -> bool {
        self.is(None, b't') && matches!(self.parameter(0), 20 | 21)
    }
}

/// A character set of G0 or G1, by the final byte of its designation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Charset(u8);

impl Charset {
    const ASCII: Self = Self(b'B');
    const LINES: Self = Self(b'0');
}

/// What the agent has set.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one mode of the terminal by itself"
)]
pub(crate) struct Tracker {
    input_modes: Vec<u16>,
    paste: bool,
    origin: bool,
    cursor_hidden: bool,
    insert: bool,
    keypad: bool,
    alternate: bool,
    addressed: bool,
    region_top: u16,
    charsets: [Charset; 2],
    shifted: bool,
    keyboard_levels: u16,
    keyboard_used: bool,
    other_keys: u16,
    last_character: Vec<u8>,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            input_modes: Vec::new(),
            paste: false,
            origin: false,
            cursor_hidden: false,
            insert: false,
            keypad: false,
            alternate: false,
            addressed: false,
            region_top: 0,
            charsets: [Charset::ASCII; 2],
            shifted: false,
            keyboard_levels: 0,
            keyboard_used: false,
            other_keys: 0,
            last_character: Vec::new(),
        }
    }
}

impl Tracker {
    /// Tells whether the agent is on the alternate screen.
    pub(crate) const fn is_alternate(&self) -> bool {
        self.alternate
    }

    /// Tells whether the agent has placed the cursor by row: then its picture must not move.
    pub(crate) const fn is_addressed(&self) -> bool {
        self.addressed
    }

    /// Returns the first row of the scroll region where rows are counted from it.
    pub(crate) fn origin_row(&self) -> Option<u16> {
        self.origin.then_some(self.region_top)
    }

    /// Notes printed text and words it for the parser, which has one character set.
    pub(crate) fn print(&mut self, text: &[u8], screen: &mut Vec<u8>) {
        let charset = if self.shifted {
            self.charsets[1]
        } else {
            self.charsets[0]
        };
        let is_ascii = text.is_ascii();
        if charset != Charset::LINES || !is_ascii {
            screen.extend_from_slice(text);
            let last = if is_ascii {
                text.get(text.len().saturating_sub(1)..)
            } else {
                Some(text)
            };
            match last {
                // A control character is nothing to repeat.
                Some([0..=0x1f, ..]) | None => {}
                Some(character) => character.clone_into(&mut self.last_character),
            }
            return;
        }
        for byte in text {
            let mut encoded = [0; 4];
            let shown = match line_character(*byte) {
                Some(c) => c.encode_utf8(&mut encoded).as_bytes(),
                None => std::slice::from_ref(byte),
            };
            screen.extend_from_slice(shown);
            if *byte >= 0x20 {
                shown.clone_into(&mut self.last_character);
            }
        }
    }

    /// Notes a control character: SO and SI choose the character set.
    pub(crate) const fn shift(&mut self, byte: u8) {
        match byte {
            0x0e => self.shifted = true,
            0x0f => self.shifted = false,
            _ => {}
        }
    }

    /// Notes a complete escape sequence.
    pub(crate) fn escape(&mut self, bytes: &[u8], screen: &mut Vec<u8>) {
        match bytes {
            [_, b'(', set] => self.charsets[0] = Charset(*set),
            [_, b')', set] => self.charsets[1] = Charset(*set),
            [_, b'='] => self.keypad = true,
            [_, b'>'] => self.keypad = false,
            [_, b'c'] => *self = Self::default(),
            // Index and next line, which the parser knows only as control characters.
            [_, b'D'] => return screen.extend_from_slice(b"\n"),
            [_, b'E'] => return screen.extend_from_slice(b"\r\n"),
            _ => {}
        }
        screen.extend_from_slice(bytes);
    }

    /// Notes a complete control sequence.
    pub(crate) fn control(&mut self, sequence: &Sequence, bytes: &[u8], screen: &mut Vec<u8>) {
        let first = sequence.parameter(0);
        match (sequence.marker, sequence.intermediate, sequence.last) {
            (Some(b'?'), None, b'h') => return self.set(sequence, true, screen),
            (Some(b'?'), None, b'l') => return self.set(sequence, false, screen),
            (None, None, b'h' | b'l') if first == 4 => self.insert = sequence.last == b'h',
            (Some(b'>'), None, b'u') => {
                self.keyboard_used = true;
                self.keyboard_levels = (self.keyboard_levels + 1).min(KEYBOARD_LEVELS_MAX);
            }
            (Some(b'<'), None, b'u') => {
                self.keyboard_levels = self.keyboard_levels.saturating_sub(first.max(1));
            }
            (Some(b'='), None, b'u') => self.keyboard_used = true,
            (Some(b'>'), None, b'm') if first == 4 => self.other_keys = sequence.parameter(1),
            (None, Some(b'!'), b'p') => self.soft_reset(),
            (None, None, b'H' | b'f' | b'd') => {
                self.addressed = true;
                if sequence.last == b'f' {
                    return reworded(bytes, b'H', screen);
                }
            }
            (None, None, b'r') => self.region_top = first.saturating_sub(1),
            // Words that the parser does not know, said in words that it knows.
            (None, None, b'`') => return reworded(bytes, b'G', screen),
            (None, None, b'a') => return reworded(bytes, b'C', screen),
            (None, None, b'e') => return reworded(bytes, b'B', screen),
            (None, None, b's') if sequence.parameters.len() <= 1 => {
                return screen.extend_from_slice(b"\x1b7");
            }
            (None, None, b'u') => return screen.extend_from_slice(b"\x1b8"),
            (None, None, b'b') => {
                for _ in 0..first.clamp(1, REPEATS_MAX) {
                    screen.extend_from_slice(&self.last_character);
                }
                return;
            }
            _ => {}
        }
        screen.extend_from_slice(bytes);
    }

    fn set(&mut self, sequence: &Sequence, on: bool, screen: &mut Vec<u8>) {
        let last = char::from(sequence.last);
        for mode in &sequence.parameters {
            let mut known = *mode;
            match *mode {
                ORIGIN => self.origin = on,
                CURSOR => self.cursor_hidden = !on,
                PASTE => self.paste = on,
                47 | 1047 | 1049 => {
                    self.alternate = on;
                    // The parser knows 47 and 1049.
                    known = if *mode == 1047 { 47 } else { *mode };
                }
                1048 => {
                    screen.extend_from_slice(if on { b"\x1b7" } else { b"\x1b8" });
                    continue;
                }
                mode if INPUT_MODES.contains(&mode) => {
                    self.input_modes.retain(|m| *m != mode);
                    if on {
                        self.input_modes.push(mode);
                    }
                }
                _ => {}
            }
            screen.extend_from_slice(format!("\x1b[?{known}{last}").as_bytes());
        }
    }

    /// DECSTR: what it resets, by the VT510 manual.
    fn soft_reset(&mut self) {
        self.cursor_hidden = false;
        self.insert = false;
        self.origin = false;
        self.keypad = false;
        self.region_top = 0;
        self.charsets = [Charset::ASCII; 2];
        self.shifted = false;
        self.input_modes.retain(|mode| *mode != 1);
    }

    /// Returns what puts the agent's modes aside, so that plain text can be drawn and plain keys
    /// be read; pastes come bracketed.
    pub(crate) fn aside(&self) -> Vec<u8> {
        // End a synchronised redraw that would hide the question, and any insertion mode.
        let mut bytes = b"\x1b[?2026l\x1b[m\x1b[?25l".to_vec();
        if self.charsets[0] != Charset::ASCII {
            bytes.extend_from_slice(b"\x1b(B");
        }
        if self.shifted {
            bytes.push(0x0f);
        }
        if self.insert {
            bytes.extend_from_slice(b"\x1b[4l");
        }
        if self.origin {
            bytes.extend_from_slice(b"\x1b[?6l");
        }
        if self.keypad {
            bytes.extend_from_slice(b"\x1b>");
        }
        for mode in &self.input_modes {
            bytes.extend_from_slice(format!("\x1b[?{mode}l").as_bytes());
        }
        if self.keyboard_used {
            bytes.extend_from_slice(b"\x1b[>0u");
        }
        if self.other_keys != 0 {
            bytes.extend_from_slice(b"\x1b[>4;0m");
        }
        bytes.extend_from_slice(b"\x1b[?2004h");
        bytes
    }

    /// Returns what sets the agent's modes again after [`Self::aside`], but for cursor position
    /// and colours.
    pub(crate) fn again(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.charsets[0] != Charset::ASCII {
            bytes.extend_from_slice(&[0x1b, b'(', self.charsets[0].0]);
        }
        if self.shifted {
            bytes.push(0x0e);
        }
        if self.insert {
            bytes.extend_from_slice(b"\x1b[4h");
        }
        if self.keypad {
            bytes.extend_from_slice(b"\x1b=");
        }
        for mode in &self.input_modes {
            bytes.extend_from_slice(format!("\x1b[?{mode}h").as_bytes());
        }
        if self.keyboard_used {
            bytes.extend_from_slice(b"\x1b[<1u");
        }
        if self.other_keys != 0 {
            bytes.extend_from_slice(format!("\x1b[>4;{}m", self.other_keys).as_bytes());
        }
        if !self.paste {
            bytes.extend_from_slice(b"\x1b[?2004l");
        }
        bytes.extend_from_slice(if self.cursor_hidden {
            b"\x1b[?25l"
        } else {
            b"\x1b[?25h"
        });
        bytes
    }

    /// Returns what leaves the terminal as a shell expects it, whatever the agent left behind.
    pub(crate) fn reset(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for mode in &self.input_modes {
            bytes.extend_from_slice(format!("\x1b[?{mode}l").as_bytes());
        }
        if self.keyboard_levels > 0 {
            bytes.extend_from_slice(format!("\x1b[<{}u", self.keyboard_levels).as_bytes());
        }
        if self.keyboard_used {
            bytes.extend_from_slice(b"\x1b[=0u");
        }
        if self.other_keys != 0 {
            bytes.extend_from_slice(b"\x1b[>4;0m");
        }
        let sets: [(bool, &[u8]); 7] = [
            (self.paste, b"\x1b[?2004l"),
            (self.keypad, b"\x1b>"),
            (self.insert, b"\x1b[4l"),
            (self.origin, b"\x1b[?6l"),
            (self.shifted, b"\x0f"),
            (self.charsets[0] != Charset::ASCII, b"\x1b(B"),
            (self.alternate, b"\x1b[?1049l"),
        ];
        for (is_set, undo) in sets {
            if is_set {
                bytes.extend_from_slice(undo);
            }
        }
        bytes.extend_from_slice(b"\x1b[?2026l\x1b[m\x1b[?25h");
        bytes
    }
}

/// Gives the parser the same parameters with another final byte.
fn reworded(bytes: &[u8], last: u8, screen: &mut Vec<u8>) {
    if let Some((_, head)) = bytes.split_last() {
        screen.extend_from_slice(head);
        screen.push(last);
    }
}

/// Maps DEC special graphics (VT100 user guide, table 3-9) to Unicode.
const fn line_character(byte: u8) -> Option<char> {
    Some(match byte {
        b'`' => '◆',
        b'a' => '▒',
        b'f' => '°',
        b'g' => '±',
        b'j' => '┘',
        b'k' => '┐',
        b'l' => '┌',
        b'm' => '└',
        b'n' => '┼',
        b'o' => '⎺',
        b'p' => '⎻',
        b'q' => '─',
        b'r' => '⎼',
        b's' => '⎽',
        b't' => '├',
        b'u' => '┤',
        b'v' => '┴',
        b'w' => '┬',
        b'x' => '│',
        b'y' => '≤',
        b'z' => '≥',
        b'{' => 'π',
        b'|' => '≠',
        b'}' => '£',
        b'~' => '·',
        _ => return None,
    })
}
