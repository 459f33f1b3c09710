//! Control sequences and escapes: how they are cut into parts, and which of them may pass.
//!
//! What is not on the lists here is dropped. Some of it would hide a question or put another text
//! in its place in ways that cannot be undone before the question is drawn: other pages, a status
//! line or a printer that takes the text, a second set of colours, double lines, other protocols.

use std::borrow::Cow;

/// Private modes that do not pass: VT52 and Tektronix protocols (2, 38), printing (18, 19),
/// logging to a file (46), pages that are not shown (64), no alternate screen (1046), lines from
/// right to left (2500, 2501), and what is no mode at all.
const MODES_REFUSED: [u16; 10] = [2, 18, 19, 38, 46, 64, 1046, 2500, 2501, u16::MAX];
/// ANSI modes that pass: insertion, line feeds, cursor shapes. Not on the list: a locked keyboard
/// (2), lines from right to left (8), echo by the terminal (12).
const ANSI_MODES: [u16; 4] = [4, 20, 33, 34];

/// A control sequence: `CSI`, private marker, parameters, intermediate, final byte.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(super) marker: Option<u8>,
    pub(super) parameters: Vec<u16>,
    pub(super) intermediate: Option<u8>,
    pub(super) last: u8,
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
        let intermediate = match intermediates {
            [] => None,
            [byte @ 0x20..=0x2f] => Some(*byte),
            _ => return None,
        };
        let parameters = parameters
            .split(|b| *b == b';')
            .map(|text| {
                // Sub-parameters only colour text, which is the parser's matter.
                let first = text.split(|b| *b == b':').next().unwrap_or_default();
                match std::str::from_utf8(first) {
                    Ok("") | Err(_) => 0,
                    // Only a number that is too large cannot be read.
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

    /// Returns what passes of the sequence that came as `bytes`: all of it, a list of modes
    /// without those that are refused, or nothing.
    pub(crate) fn passed<'a>(&mut self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let passes = match (self.marker, self.intermediate) {
            (None, None) => b"@ABCDEFGHIJKLMPSTXZ`abcdefghjklmnqrstux".contains(&self.last),
            // Not saving (`s`) and restoring (`r`) modes, which would change them unseen.
            (Some(b'?'), None) => b"JKSWcghlmnu".contains(&self.last),
            (Some(b'>'), None) => b"Tcfmnpqstu".contains(&self.last),
            (Some(b'<'), None) => self.last == b'u',
            (Some(b'='), None) => matches!(self.last, b'c' | b'u'),
            (None, Some(b' ')) => b"@Aq".contains(&self.last),
            (None, Some(b'!')) | (Some(b'?'), Some(b'$')) => self.last == b'p',
            (None, Some(b'"')) => self.last == b'q',
            (None, Some(b'#')) => b"PQRpq{}".contains(&self.last),
            (None, Some(b'$')) => b"prtvwxz{".contains(&self.last),
            (None, Some(b'\'')) => b"wz{|}~".contains(&self.last),
            (None, Some(b'*')) => b"xy".contains(&self.last),
            _ => false,
        };
        if !passes || self.reports_title() {
            return None;
        }
        let refused: fn(u16) -> bool = match (self.marker, self.intermediate, self.last) {
            (Some(b'?'), None, b'h' | b'l') => |mode| MODES_REFUSED.contains(&mode),
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

    /// Tells whether the terminal would answer with a text that the agent can choose (XTWINOPS
    /// 20 and 21 send icon label and title as if they were typed).
    fn reports_title(&self) -> bool {
        self.marker.is_none()
            && self.intermediate.is_none()
            && self.last == b't'
            && matches!(self.parameter(0), 20 | 21)
    }
}

/// Tells whether an escape may pass that is neither a control sequence nor a string.
///
/// On the list are cursor and scrolling, keypad, reset, tab stops and character sets of 94
/// characters. Not on it: double lines and the test picture (`#`), other encodings (`%`, space),
/// locking shifts to sets that nobody follows, locked lines (`l`, `m`), guarded areas (`V`, `W`).
pub(crate) fn is_escape_allowed(bytes: &[u8]) -> bool {
    match bytes {
        [_, last] => b"6789=>DEHMZ\\cg".contains(last),
        [_, b'(' | b')' | b'*' | b'+', _] => true,
        _ => false,
    }
}
