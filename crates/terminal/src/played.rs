//! Output that was recorded, on its way to a terminal: what the relay would not pass does not pass here
//! either, whoever wrote the recording.

use super::filter::{Filter, Forward};

/// Passes recorded output on.
#[derive(Debug)]
pub struct Played(Filter);

impl Default for Played {
    fn default() -> Self {
        // The answers of the terminal are for nobody.
        Self(Filter::one_way())
    }
}

impl Played {
    /// Returns what of `bytes` passes; the rest of an unfinished sequence is kept.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut forward = Forward::default();
        self.0.push(bytes, &mut forward);
        forward.terminal
    }

    /// Returns what sets a terminal of so many rows back, with the cursor on the last of them.
    pub fn reset(&self, rows: u16) -> Vec<u8> {
        self.0.tracker().reset((rows.saturating_sub(1), 0))
    }
}
