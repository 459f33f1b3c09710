//! Our own picture of the person's terminal, from which it can be painted again.

use std::num::NonZeroU16;

use super::runs::trailing;

/// Lines kept above the screen: none, since nothing is restored from there.
const SCROLLBACK_LINES: usize = 0;
/// Smallest picture: below it the parser has no room for a character of two columns and a wrap.
const ROWS_MIN: NonZeroU16 = NonZeroU16::MIN.saturating_add(1);
const COLUMNS_MIN: NonZeroU16 = NonZeroU16::MIN.saturating_add(3);
/// Largest picture; a terminal that claims more is wrong, and each cell costs 32 bytes.
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
    /// The size of a terminal that does not report one.
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

    /// Does the same for output of a program that has set no bounds, without drawing the lines that
    /// have left the screen by its end.
    ///
    /// Each line end moves the earlier rows up, and after twice as many line ends as there are rows
    /// no earlier row is left on the screen, wherever the cursor was. So only the end of a long
    /// text counts, from the beginning of a line on; colours and modes do not change, since the
    /// text contains no sequence.
    ///
    /// Returns how many bytes were not drawn.
    pub(crate) fn flow(&mut self, bytes: &[u8]) -> usize {
        let rows = usize::from(self.parser.screen().size().0.get());
        let after_sequences = bytes.len() - trailing(bytes, is_text);
        let text = bytes.get(after_sequences..).unwrap_or_default();
        // The beginning may be the rest of a sequence, which has no line end in it.
        let begin = match after_sequences {
            0 => Some(0),
            _ => text.iter().position(|byte| *byte == b'\n'),
        };
        // It is after a line end, and so after the first one.
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

    /// Returns row and column of the cursor, from zero; the column equals the width if the last
    /// column is written and the next character will wrap.
    pub(crate) fn cursor(&self) -> (u16, u16) {
        self.parser.screen().cursor_position()
    }

    /// Whether there is text below the cursor.
    pub(crate) fn has_text_below(&self) -> bool {
        let (row, _) = self.cursor();
        let columns = self.columns();
        self.parser
            .screen()
            .rows(0, columns)
            .skip(usize::from(row) + 1)
            .any(|r| !r.is_empty())
    }

    /// Returns the bytes that paint all cells, row by row, wherever margins and cursor are.
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

    /// Returns the bytes that restore the cursor, with a pending wrap, and the colours.
    pub(crate) fn place(&self) -> Vec<u8> {
        let mut bytes = self.parser.screen().cursor_state_formatted().into_bytes();
        bytes.extend_from_slice(&self.colours());
        bytes
    }

    /// Returns the bytes that set the colours for the next character.
    pub(crate) fn colours(&self) -> Vec<u8> {
        self.parser.screen().attributes_formatted().into_bytes()
    }

    /// Returns the bytes that write the last cell of the cursor's row again, so that a wrap is
    /// pending.
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

/// Whether a byte belongs to a character or moves the cursor without beginning a sequence.
const fn is_text(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | 0x80..=0xff | b'\n' | b'\r' | b'\t' | 0x08)
}

/// Returns the beginning of the line that at least this many line ends follow.
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
