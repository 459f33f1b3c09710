//! The agent's settings of the terminal beyond those that the screen parser knows.
//!
//! The parser keeps cells, cursor and colours. This keeps the modes that determine what keys send
//! and where text goes, so that a question can suspend and restore them, and it rewrites for the
//! parser the sequences that the parser does not know.

use super::sequence::Sequence;

/// Private modes that change what the terminal sends: mouse, focus, keys, resize and colour
/// reports. They are off while a question is shown.
const INPUT_MODES: [u16; 14] = [
    1, 9, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2031, 2048, 9001,
];
/// Private modes that are kept apart: reverse video, origin, wrapping, cursor, left and right
/// margins, bracketed paste.
const REVERSE: u16 = 5;
const ORIGIN: u16 = 6;
const WRAP: u16 = 7;
const CURSOR: u16 = 25;
const SIDE_MARGINS: u16 = 69;
const PASTE: u16 = 2004;
/// Most repetitions of one character that the picture takes (REP): more than a screen holds has the
/// same effect and costs time.
const REPEATS_MAX: u16 = 4096;
/// Keyboard levels that an agent pushes without popping them; a program pushes one.
const KEYBOARD_LEVELS_MAX: u16 = 64;

/// Resets region and margins, and keeps the cursor's position. The saved cursor is lost.
pub(crate) const WHOLE_SCREEN: &[u8] = b"\x1b7\x1b[?69l\x1b[r\x1b8";

/// Ends a link (OSC 8).
const LINK_END: &[u8] = b"\x1b]8;;\x1b\\";

/// A character set of G0 or G1, by the final byte of its designation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Charset(u8);

impl Charset {
    const ASCII: Self = Self(b'B');
    const LINES: Self = Self(b'0');
}

/// The part of the screen that scrolls and holds the cursor. Text for the whole screen must not be
/// drawn while such bounds are set: a region of three rows shows the last three of its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    /// First and last row of the scroll region (DECSTBM), from one; the last is zero if it is that
    /// of the screen.
    rows: Option<(u16, u16)>,
    /// Rows and columns are counted from the region (DECOM).
    origin: bool,
    /// Left and right margins may be set (DECLRMM).
    sides: bool,
    /// Left and right margin (DECSLRM), like the rows.
    columns: Option<(u16, u16)>,
}

impl Bounds {
    fn is_set(self) -> bool {
        self != Self::default()
    }
}

/// Reads the two ends of a region; `None` for the whole screen, `Err` if terminals ignore it.
fn ends(sequence: &Sequence) -> Result<Option<(u16, u16)>, ()> {
    match (sequence.parameter(0).max(1), sequence.parameter(1)) {
        (1, 0) => Ok(None),
        (first, last) if last != 0 && last <= first => Err(()),
        ends => Ok(Some(ends)),
    }
}

/// The agent's settings.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one mode of the terminal by itself"
)]
pub(crate) struct Tracker {
    input_modes: Vec<u16>,
    paste: bool,
    reverse: bool,
    wraps: bool,
    cursor_hidden: bool,
    insert: bool,
    newline: bool,
    keypad: bool,
    alternate: bool,
    addressed: bool,
    bounds: Bounds,
    /// Bounds were set at some time: terminals differ in when they reset them.
    was_bounded: bool,
    charsets: [Charset; 2],
    shifted: bool,
    keyboard_levels: u16,
    keyboard_used: bool,
    other_keys: u16,
    /// The command that opened the current link; empty if there is none.
    link: Vec<u8>,
    last_character: Vec<u8>,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            input_modes: Vec::new(),
            paste: false,
            reverse: false,
            wraps: true,
            cursor_hidden: false,
            insert: false,
            newline: false,
            keypad: false,
            alternate: false,
            addressed: false,
            bounds: Bounds::default(),
            was_bounded: false,
            charsets: [Charset::ASCII; 2],
            shifted: false,
            keyboard_levels: 0,
            keyboard_used: false,
            other_keys: 0,
            link: Vec::new(),
            last_character: Vec::new(),
        }
    }
}

impl Tracker {
    /// Whether the agent is on the alternate screen.
    pub(crate) const fn is_alternate(&self) -> bool {
        self.alternate
    }

    /// Whether the agent has placed the cursor by row: then its picture must not move.
    pub(crate) const fn is_addressed(&self) -> bool {
        self.addressed
    }

    /// Whether the agent has set bounds at any time: then text in the flow of the output may not
    /// stay on the screen.
    pub(crate) const fn was_bounded(&self) -> bool {
        self.was_bounded
    }

    /// Notes printed text and rewrites it for the parser, which has one character set.
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
                // A control character cannot be repeated.
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

    /// Notes an operating system command that passed: an open link would continue in a question.
    pub(crate) fn command(&mut self, content: &[u8]) {
        if content.starts_with(b"8;") {
            self.link.clear();
            if !content.ends_with(b";") {
                self.link.extend_from_slice(content);
            }
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
            (None, None, b'h' | b'l') => {
                let on = sequence.last == b'h';
                for mode in &sequence.parameters {
                    match mode {
                        4 => self.insert = on,
                        20 => self.newline = on,
                        _ => {}
                    }
                }
            }
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
            (None, None, b'r') => return self.set_region(sequence, bytes, screen),
            (None, None, b's') if self.bounds.sides => {
                self.bounds.columns = ends(sequence).unwrap_or(self.bounds.columns);
                return screen.extend_from_slice(b"\x1b[H");
            }
            // Sequences that the parser does not know, rewritten as ones that it knows.
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

    fn set_region(&mut self, sequence: &Sequence, bytes: &[u8], screen: &mut Vec<u8>) {
        let Ok(rows) = ends(sequence) else {
            return;
        };
        self.bounds.rows = rows;
        self.was_bounded |= rows.is_some();
        self.addressed = true;
        screen.extend_from_slice(bytes);
        if !self.bounds.origin {
            // The parser puts the cursor into the region; terminals put it at the top.
            screen.extend_from_slice(b"\x1b[H");
        }
    }

    fn set(&mut self, sequence: &Sequence, on: bool, screen: &mut Vec<u8>) {
        let last = char::from(sequence.last);
        for mode in &sequence.parameters {
            let mut known = *mode;
            match *mode {
                ORIGIN => {
                    self.bounds.origin = on;
                    self.was_bounded |= on;
                }
                SIDE_MARGINS => {
                    self.bounds.sides = on;
                    self.bounds.columns = None;
                    self.was_bounded |= on;
                }
                REVERSE => self.reverse = on,
                WRAP => self.wraps = on,
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

    /// DECSTR: resets the settings that the VT510 manual lists.
    fn soft_reset(&mut self) {
        self.cursor_hidden = false;
        self.insert = false;
        self.keypad = false;
        self.bounds = Bounds::default();
        self.charsets = [Charset::ASCII; 2];
        self.shifted = false;
        self.input_modes.retain(|mode| *mode != 1);
    }

    /// Returns the bytes that suspend the agent's modes, so that plain text can be drawn and plain
    /// keys be read; pastes come bracketed. The cursor stays; [`Self::unbound`] suspends the
    /// bounds.
    pub(crate) fn aside(&self) -> Vec<u8> {
        // End a synchronised redraw that would hide the question, any colours, insertion, and any
        // character set but ASCII.
        let mut bytes = b"\x1b[?2026l\x1b[m\x1b[?25l\x1b[4l\x1b(B\x0f".to_vec();
        if !self.link.is_empty() {
            bytes.extend_from_slice(LINK_END);
        }
        if self.newline {
            bytes.extend_from_slice(b"\x1b[20l");
        }
        if self.reverse {
            bytes.extend_from_slice(b"\x1b[?5l");
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

    /// Returns the bytes that give the whole screen to the next drawing; the cursor goes home.
    pub(crate) const fn unbound() -> &'static [u8] {
        b"\x1b[?6l\x1b[?69l\x1b[r"
    }

    /// Returns the bytes that restore the agent's bounds after [`Self::unbound`], and the cursor,
    /// which they send home; empty if there are no bounds.
    ///
    /// `place` restores the cursor to `cursor`.
    pub(crate) fn bound(&self, cursor: (u16, u16), place: &[u8]) -> Vec<u8> {
        let bounds = self.bounds;
        if !bounds.is_set() {
            return Vec::new();
        }
        // The switch back from the alternate screen can have restored the origin with the cursor.
        let mut bytes = b"\x1b[?6l".to_vec();
        let pair = |(first, last): (u16, u16), end: char| match last {
            0 => format!("\x1b[{first};{end}"),
            last => format!("\x1b[{first};{last}{end}"),
        };
        if let Some(rows) = bounds.rows {
            bytes.extend_from_slice(pair(rows, 'r').as_bytes());
        }
        if bounds.sides {
            bytes.extend_from_slice(b"\x1b[?69h");
        }
        if let Some(columns) = bounds.columns {
            bytes.extend_from_slice(pair(columns, 's').as_bytes());
        }
        // Restoring a pending wrap writes a cell, in the colours of that cell.
        bytes.extend_from_slice(b"\x1b[m");
        bytes.extend_from_slice(place);
        if bounds.origin {
            let from = |end: Option<(u16, u16)>| end.map_or(1, |(first, _)| first);
            let (row, column) = cursor;
            let place = format!(
                "\x1b[?6h\x1b[{};{}H",
                (row + 2).saturating_sub(from(bounds.rows)),
                (column + 2).saturating_sub(from(bounds.columns)),
            );
            bytes.extend_from_slice(place.as_bytes());
        }
        bytes
    }

    /// Returns the bytes that restore the agent's modes after [`Self::aside`], except bounds,
    /// cursor position and colours.
    pub(crate) fn again(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.link.is_empty() {
            bytes.extend_from_slice(b"\x1b]");
            bytes.extend_from_slice(&self.link);
            bytes.extend_from_slice(b"\x1b\\");
        }
        if self.charsets[0] != Charset::ASCII {
            bytes.extend_from_slice(&[0x1b, b'(', self.charsets[0].0]);
        }
        if self.shifted {
            bytes.push(0x0e);
        }
        if self.insert {
            bytes.extend_from_slice(b"\x1b[4h");
        }
        if self.newline {
            bytes.extend_from_slice(b"\x1b[20h");
        }
        if self.reverse {
            bytes.extend_from_slice(b"\x1b[?5h");
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

    /// Returns the bytes that give the terminal the state that a shell expects, whatever the agent
    /// left, with the cursor at its position `cursor`.
    pub(crate) fn reset(&self, cursor: (u16, u16)) -> Vec<u8> {
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
        let sets: [(bool, &[u8]); 10] = [
            (!self.link.is_empty(), LINK_END),
            (self.paste, b"\x1b[?2004l"),
            (self.keypad, b"\x1b>"),
            (self.insert, b"\x1b[4l"),
            (self.newline, b"\x1b[20l"),
            (self.reverse, b"\x1b[?5l"),
            (!self.wraps, b"\x1b[?7h"),
            (self.shifted, b"\x0f"),
            (self.charsets[0] != Charset::ASCII, b"\x1b(B"),
            (self.alternate, b"\x1b[?1049l"),
        ];
        for (is_set, undo) in sets {
            if is_set {
                bytes.extend_from_slice(undo);
            }
        }
        if self.bounds.origin && !self.alternate {
            // A saved cursor would restore the origin.
            let (row, column) = cursor;
            bytes.extend_from_slice(Self::unbound());
            bytes.extend_from_slice(format!("\x1b[{};{}H", row + 1, column + 1).as_bytes());
        } else if self.was_bounded {
            bytes.extend_from_slice(WHOLE_SCREEN);
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
