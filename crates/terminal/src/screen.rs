//! Our own picture of the person's terminal, from which it can be painted again.

use std::num::NonZeroU16;

use super::runs::trailing;

/// Lines kept above the screen: none, since nothing is restored from there.
const SCROLLBACK_LINES: usize = 0;
/// Smallest picture: below it the parser has no room for a character of two columns and a wrap.
const ROWS_MIN: NonZeroU16 = NonZeroU16::MIN.saturating_add(1);
const COLUMNS_MIN: NonZeroU16 = NonZeroU16::MIN.saturating_add(3);
/// Largest picture; a terminal of more says something wrong, and each cell costs 32 bytes.
const ROWS_MAX: u16 = 1000;
const COLUMNS_MAX: u16 = 1000;

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl Size {
    /// What a terminal that does not say its size gets.
    pub const DEFAULT: Self = Self {
        rows: 24,
        columns: 80,
    };

    fn bounded(self) -> (NonZeroU16, NonZeroU16) {
        let bounded = |value: u16, min: NonZeroU16, max: u16| {
            NonZeroU16::new(value.min(max)).map_or(min, |value| value.max(min))
        };
        (
            bounded(self.rows, ROWS_MIN, ROWS_MAX),
            bounded(self.columns, COLUMNS_MIN, COLUMNS_MAX),
        )
    }
}

/// Cells, cursor and colours as the output so far has left them.
pub(crate) struct Screen {
    parser: vt100::Parser,
}

impl Screen {
    pub(crate) fn new(size: Size) -> Self {
        let (rows, columns) = size.bounded();
        Self {
            parser: vt100::Parser::new(rows, columns, SCROLLBACK_LINES),
        }
    }

    /// Takes output that went to the terminal.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
    }

    /// Does the same for output of a program that has set no bounds: lines that have left the screen
    /// again by the end of it are not drawn first.
    ///
    /// Line ends move each row up that was there before, and after twice as many as there are rows
    /// nothing is left of what the screen had, wherever the cursor was. So of a long text only its end
    /// counts, from the beginning of a line on; colours and modes stay as they were, since there is no
    /// sequence in the text.
    ///
    /// Returns how many bytes were not drawn.
    pub(crate) fn flow(&mut self, bytes: &[u8]) -> usize {
        let rows = usize::from(self.parser.screen().size().0.get());
        let after_sequences = bytes.len() - trailing(bytes, is_text);
        let text = bytes.get(after_sequences..).unwrap_or_default();
        // What comes first may be the rest of a sequence, which has no line end in it.
        let begin = match after_sequences {
            0 => Some(0),
            _ => text.iter().position(|byte| *byte == b'\n'),
        };
        // It is behind a line end, and so behind the first one.
        let cut = begin.zip(last_lines(text, rows.saturating_mul(2)));
        let Some((begin, cut)) = cut else {
            self.feed(bytes);
            return 0;
        };
        let drawn = after_sequences + begin;
        self.feed(bytes.get(..drawn).unwrap_or_default());
        self.feed(b"\r");
        self.feed(text.get(cut..).unwrap_or_default());
        cut - begin
    }

    pub(crate) fn resize(&mut self, size: Size) {
        let (rows, columns) = size.bounded();
        self.parser.screen_mut().set_size(rows, columns);
    }

    /// Returns row and column of the cursor, from zero; the column is the width itself where the
    /// last column is written and the next character will wrap.
    pub(crate) fn cursor(&self) -> (u16, u16) {
        self.parser.screen().cursor_position()
    }

    /// Tells whether there is text below the cursor.
    pub(crate) fn has_text_below(&self) -> bool {
        let (row, _) = self.cursor();
        let columns = self.columns();
        self.parser
            .screen()
            .rows(0, columns)
            .skip(usize::from(row) + 1)
            .any(|r| !r.is_empty())
    }

    /// Returns what paints all cells, row by row, wherever margins and cursor are.
    pub(crate) fn paint(&self) -> Vec<u8> {
        let columns = self.columns();
        let mut bytes = Vec::new();
        for (row, cells) in self.parser.screen().rows_formatted(0, columns).enumerate() {
            bytes.extend_from_slice(format!("\x1b[{};1H\x1b[m\x1b[2K", row + 1).as_bytes());
            bytes.extend_from_slice(cells.as_bytes());
        }
        bytes.extend_from_slice(b"\x1b[m");
        bytes
    }

    /// Returns what puts the cursor back, with a wrap that is still to come, and the colours.
    pub(crate) fn place(&self) -> Vec<u8> {
        let mut bytes = self.parser.screen().cursor_state_formatted().into_bytes();
        bytes.extend_from_slice(&self.colours());
        bytes
    }

    /// Returns what sets the colours for the next character.
    pub(crate) fn colours(&self) -> Vec<u8> {
        self.parser.screen().attributes_formatted().into_bytes()
    }

    /// Returns what writes the last cell of the cursor's row again, so that a wrap is to come.
    pub(crate) fn last_cell(&self) -> Vec<u8> {
        let (row, _) = self.cursor();
        let columns = self.columns();
        let mut cells = self
            .parser
            .screen()
            .rows_formatted(columns.saturating_sub(1), 1);
        cells.nth(usize::from(row)).unwrap_or_default().into_bytes()
    }

    fn columns(&self) -> u16 {
        self.parser.screen().size().1.get()
    }

    #[cfg(test)]
    pub(crate) const fn parser(&self) -> &vt100::Parser {
        &self.parser
    }
}

/// Tells whether a byte is of a character or moves the cursor without beginning a sequence.
const fn is_text(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | 0x80..=0xff | b'\n' | b'\r' | b'\t' | 0x08)
}

/// Returns where the line begins after which there are at least so many line ends.
pub(crate) fn last_lines(text: &[u8], ends: usize) -> Option<usize> {
    let mut seen = 0;
    for (index, byte) in text.iter().enumerate().rev() {
        if *byte != b'\n' {
            continue;
        }
        let returns = index.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'\r');
        if seen >= ends && returns {
            return Some(index + 1);
        }
        seen += 1;
    }
    None
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("cursor", &self.cursor())
            .finish_non_exhaustive()
    }
}
