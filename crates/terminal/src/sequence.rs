//! Control sequences and escapes: how they are split into parts, and which of them may pass.
//!
//! A sequence that is not on the lists here is dropped. Some of these would hide a question or
//! replace its text in ways that cannot be undone before the question is drawn: other pages, a
//! status line or a printer that takes the text, a second set of colours, double lines, other
//! protocols. Some make the terminal send its screen's content or a text of the agent's choice, as
//! if it was typed: checksums of rectangles (DECRQCRA), titles, saved states (DECRQPSR), settings
//! by name (DECRQSS), the locator.

use std::borrow::Cow;

/// Private modes that pass: keys and keypad (1, 8, 66, 67, 1034 to 1036, 1039), how text is drawn
/// and wraps (4 to 7, 45, 69, 2026, 2027), cursor (12, 25), the alternate screen (47, 1047 to
/// 1049), sixels that scroll (80), mouse, focus and wheel (9, 1000, 1002 to 1007, 1015, 1016),
/// pastes (2004), reports of colours and sizes (2031, 2048), keys of Windows (9001).
///
/// Not on the list: VT52 and Tektronix protocols (2, 38), other widths (3, 40, 95), printing (18,
/// 19), logging to a file (46), pages that are not shown (64), a mouse mode in which the terminal
/// waits for the program (1001), what scrolls, selects and raises windows (1010, 1011, 1040 to
/// 1043), no alternate screen (1046), other codes for function keys (1050 to 1061), lines from
/// right to left (2500, 2501).
const MODES: [u16; 37] = [
    1, 4, 5, 6, 7, 8, 9, 12, 25, 45, 47, 66, 67, 69, 80, 1000, 1002, 1003, 1004, 1005, 1006, 1007,
    1015, 1016, 1034, 1035, 1036, 1039, 1047, 1048, 1049, 2004, 2026, 2027, 2031, 2048, 9001,
];
/// ANSI modes that pass: insertion, line feeds, cursor shapes. Not on the list: a locked keyboard
/// (2), lines from right to left (8), echo by the terminal (12).
const ANSI_MODES: [u16; 4] = [4, 20, 33, 34];

/// The effect of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It draws, or sets a property of the screen.
    Draws,
    /// The terminal answers it, with a text that the agent may know and did not choose.
    Asks,
    /// A question that we answer in the terminal's place.
    AsksUs,
    Dropped,
}

/// A control sequence: `CSI`, private marker, parameters, intermediate, final byte.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(super) marker: Option<u8>,
    pub(super) parameters: Vec<u16>,
    pub(super) intermediate: Option<u8>,
    pub(super) last: u8,
}

impl Sequence {
    /// Parses `ESC [ … final`; `None` if it is not a control sequence.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&last, body) = bytes.strip_prefix(b"\x1b[")?.split_last()?;
        let (marker, body) = match body.split_first() {
            Some((&marker @ b'<'..=b'?', body)) => (Some(marker), body),
            _ => (None, body),
        };
        let digits = body.iter().take_while(|b| matches!(b, b'0'..=b';')).count();
        let (parameters, intermediates) = body.split_at(digits);
        let intermediate = match intermediates {
            [] => None,
            [byte @ 0x20..=0x2f] => Some(*byte),
            _ => return None,
        };
        let parameters = parameters
            .split(|b| *b == b';')
            .map(|text| {
                // Sub-parameters only colour text, which the parser handles.
                let first = text.split(|b| *b == b':').next().unwrap_or_default();
                match std::str::from_utf8(first) {
                    Ok("") | Err(_) => 0,
                    // Only a number that is too large does not parse.
                    Ok(digits) => digits.parse().unwrap_or(u16::MAX),
                }
            })
            .collect();
        Some(Self {
            marker,
            parameters,
            intermediate,
            last,
        })
    }

    pub(super) fn parameter(&self, index: usize) -> u16 {
        self.parameters.get(index).copied().unwrap_or(0)
    }

    /// Returns the effect of the sequence.
    pub(super) fn meaning(&self) -> Meaning {
        if let Some(marker) = self.marker {
            return self.private_meaning(marker);
        }
        let first = self.parameter(0);
        let only = self.parameters.len() == 1;
        let draws = match (self.intermediate, self.last) {
            // The status report confirms to us what is shown; see `super::witness`.
            (None, b'n') if only && first == 5 => return Meaning::AsksUs,
            (None, b'n') if only && first == 6 => return Meaning::Asks,
            (None, b'c') if only && first == 0 => return Meaning::Asks,
            // Sizes of the window, and saving and restoring the title. Others move, resize and hide
            // the window, or send its title.
            (None, b't') if only && matches!(first, 14 | 16 | 18 | 19) => return Meaning::Asks,
            (None, b't') => matches!(first, 22 | 23),
            // With more parameters it begins a mouse mode that waits for the program.
            (None, b'T') => only,
            (None, last) => b"@ABCDEFGHIJKLMPSXZ`abdefghjklmqrsu".contains(&last),
            (Some(b' '), last) => b"@Aq".contains(&last),
            (Some(b'!'), last) => last == b'p',
            (Some(b'"'), last) => last == b'q',
            (Some(b'#'), last) => b"pq{}".contains(&last),
            (Some(b'$'), b'p') => return Meaning::Asks,
            (Some(b'$'), last) => b"rtvxz{".contains(&last),
            (Some(b'\''), last) => b"}~".contains(&last),
            (Some(b'*'), last) => last == b'x',
            (Some(_), _) => false,
        };
        if draws {
            Meaning::Draws
        } else {
            Meaning::Dropped
        }
    }

    fn private_meaning(&self, marker: u8) -> Meaning {
        let first = self.parameter(0);
        let only = self.parameters.len() == 1;
        let draws = match (marker, self.intermediate, self.last) {
            // Cursor, keyboard, colour scheme; settings of keys; how large graphics may be.
            (b'?', None, b'n') if only && matches!(first, 6 | 26 | 996) => return Meaning::Asks,
            (b'?', None, b'S') if matches!(self.parameter(1), 1 | 4) => return Meaning::Asks,
            (b'?', None, b'm' | b'u')
            | (b'?', Some(b'$'), b'p')
            | (b'>', None, b'c' | b'q')
            | (b'=', None, b'c') => return Meaning::Asks,
            // Not saving (`s`) and restoring (`r`) modes: that would change them without our
            // tracking.
            (b'?', None, last) => b"JKWchl".contains(&last),
            // Not the modes of titles (`t`, `T`) and keys (`f`, `n`), which the tracker does not
            // follow.
            (b'>', None, last) => b"mpu".contains(&last),
            (b'<' | b'=', None, last) => last == b'u',
            _ => false,
        };
        if draws {
            Meaning::Draws
        } else {
            Meaning::Dropped
        }
    }

    /// Returns the part of the sequence, which came as `bytes`, that passes: all of it, or a list
    /// of modes without the refused ones; `None` if none is left.
    pub(crate) fn passed<'a>(&mut self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let refused: fn(u16) -> bool = match (self.marker, self.intermediate, self.last) {
            (Some(b'?'), None, b'h' | b'l') => |mode| !MODES.contains(&mode),
            (None, None, b'h' | b'l') => |mode| !ANSI_MODES.contains(&mode),
            _ => return Some(Cow::Borrowed(bytes)),
        };
        if !self.parameters.iter().any(|mode| refused(*mode)) {
            return Some(Cow::Borrowed(bytes));
        }
        self.parameters.retain(|mode| !refused(*mode));
        if self.parameters.is_empty() {
            return None;
        }
        let modes: Vec<String> = self.parameters.iter().map(u16::to_string).collect();
        let marker = if self.marker.is_some() { "?" } else { "" };
        let last = char::from(self.last);
        let kept = format!("\x1b[{marker}{}{last}", modes.join(";"));
        Some(Cow::Owned(kept.into_bytes()))
    }
}

/// Whether an escape may pass that is neither a control sequence nor a string.
///
/// On the list are cursor and scrolling, keypad, reset, tab stops and character sets of 94
/// characters. Not on it: double lines and the test picture (`#`), other encodings (`%`, space),
/// locking shifts to untracked sets, locked lines (`l`, `m`), guarded areas (`V`, `W`).
pub(crate) fn is_escape_allowed(bytes: &[u8]) -> bool {
    match bytes {
        [_, last] => b"6789=>DEHMZ\\cg".contains(last),
        [_, b'(' | b')' | b'*' | b'+', _] => true,
        _ => false,
    }
}
