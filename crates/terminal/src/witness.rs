//! The terminal's own confirmation of what it has shown.
//!
//! A write that succeeds proves nothing: the kernel takes 18 kB for a pseudo-terminal without a
//! reader, and reports that its output queue (TIOCOUTQ) is empty. So a status request follows each
//! drawing; the terminal answers in order, when it has reached that place. The status report is
//! ours alone: the filter answers the agent's own requests, so that no other answer can be mistaken
//! for this one, and only one request is open at a time, so that an early answer is never taken for
//! a late one.

use std::time::{Duration, Instant};

/// Asks the terminal for its status (DSR 5, ECMA-48 8.3.35).
pub(super) const QUESTION: &[u8] = b"\x1b[5n";
/// The terminal's answer: ready (DSR 0).
pub(super) const ANSWER: &[u8] = b"\x1b[0n";
/// How long an answer may take before the terminal counts as one without answers. A slow line takes
/// a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a request its answer is kept from the agent.
const LATE_MAX: Duration = Duration::from_secs(10);

/// Whether the last drawing is known to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is not, yet.
    No,
    /// The terminal confirmed it, at that time.
    Told(Instant),
    /// It was written at that time, to a terminal without answers: only a person who repeats the
    /// shown digits proves that it is.
    Unknown(Instant),
}

/// Tracks the drawings and the terminal's answers.
#[derive(Debug)]
pub struct Witness {
    /// Whether this terminal may be asked.
    speaks: bool,
    /// Number of the last drawing.
    drawn: u64,
    /// The drawing that the open request follows, and the time of the request.
    asked: Option<(u64, Instant)>,
    told: Option<(u64, Instant)>,
    /// The time at which the last drawing was written completely.
    written: Option<Instant>,
    /// It exceeded its patience: until it answers, we do not wait for it again.
    is_silent: bool,
    /// Bytes of an answer that may continue in the next read.
    begun: usize,
}

impl Witness {
    /// Makes one for a terminal that may be asked (`speaks`), or for one that supports no
    /// sequences.
    pub const fn new(speaks: bool) -> Self {
        Self {
            speaks,
            drawn: 0,
            asked: None,
            told: None,
            written: None,
            is_silent: false,
            begun: 0,
        }
    }

    /// Notes a new drawing, and asks after it.
    pub fn draw(&mut self, out: &mut Vec<u8>, now: Instant) {
        self.drawn += 1;
        self.written = None;
        self.ask(out, now);
    }

    fn ask(&mut self, out: &mut Vec<u8>, now: Instant) {
        if self.speaks && self.asked.is_none() {
            self.asked = Some((self.drawn, now));
            self.written = None;
            out.extend_from_slice(QUESTION);
        }
    }

    /// Notes that nothing waits to be written.
    pub fn write(&mut self, now: Instant) {
        self.written.get_or_insert(now);
    }

    /// Notes an answer of the terminal; asks again if there was a drawing since its request.
    pub fn answer(&mut self, out: &mut Vec<u8>, now: Instant) {
        let Some((drawn, _)) = self.asked.take() else {
            return;
        };
        self.is_silent = false;
        if drawn == self.drawn {
            self.told = Some((drawn, now));
        } else {
            self.ask(out, now);
        }
    }

    /// Returns whether the last drawing is shown.
    pub fn sight(&mut self, now: Instant) -> Sight {
        if let Some((drawn, at)) = self.told
            && drawn == self.drawn
        {
            return Sight::Told(at);
        }
        let Some(written) = self.written else {
            return Sight::No;
        };
        if !self.speaks || self.is_silent {
            return Sight::Unknown(written);
        }
        if now.duration_since(written) < PATIENCE {
            return Sight::No;
        }
        self.is_silent = true;
        Sight::Unknown(written + PATIENCE)
    }

    /// Starts again on a terminal that another program used for a while.
    pub const fn forget(&mut self) {
        self.asked = None;
        self.begun = 0;
    }

    /// Whether an answer may come among the keys of the agent.
    pub fn is_awaited(&self, now: Instant) -> bool {
        self.asked
            .is_some_and(|(_, at)| now.duration_since(at) < LATE_MAX)
    }

    /// Whether an answer will come, as far as is known of this terminal.
    pub const fn is_expected(&self) -> bool {
        self.asked.is_some() && !self.is_silent
    }

    /// Removes the answer from the agent's input, also if two reads split it.
    pub fn strain(&mut self, bytes: &[u8], out: &mut Vec<u8>, now: Instant) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if !self.is_awaited(now) {
                kept.extend(self.release());
                kept.push(*byte);
                continue;
            }
            if ANSWER.get(self.begun) != Some(byte) {
                kept.extend(self.release());
            }
            if ANSWER.get(self.begun) == Some(byte) {
                self.begun += 1;
            } else {
                kept.push(*byte);
            }
            if self.begun == ANSWER.len() {
                self.begun = 0;
                self.answer(out, now);
            }
        }
        kept
    }

    /// Returns the beginning of an answer that did not continue.
    pub fn release(&mut self) -> Vec<u8> {
        let begun = std::mem::take(&mut self.begun);
        ANSWER.get(..begun).unwrap_or_default().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn drawn(speaks: bool) -> (Witness, Vec<u8>, Instant) {
        let (mut witness, mut out, now) = (Witness::new(speaks), Vec::new(), Instant::now());
        witness.draw(&mut out, now);
        (witness, out, now)
    }

    #[test]
    fn what_is_queued_or_written_is_not_shown_yet() {
        let (mut witness, mut out, now) = drawn(true);
        assert_eq!(out, QUESTION);
        // No matter how long it takes until the last byte is written.
        assert_eq!(witness.sight(now + 60 * SECOND), Sight::No);
        witness.write(now + 60 * SECOND);
        assert_eq!(witness.sight(now + 61 * SECOND), Sight::No);
        witness.answer(&mut out, now + 61 * SECOND);
        let told = Sight::Told(now + 61 * SECOND);
        assert_eq!(witness.sight(now + 70 * SECOND), told);
    }

    #[test]
    fn an_answer_stands_for_what_was_drawn_before_its_question() {
        let (mut witness, mut out, now) = drawn(true);
        witness.draw(&mut out, now);
        assert_eq!(out, QUESTION, "one question at a time");
        witness.answer(&mut out, now);
        assert_eq!(witness.sight(now), Sight::No, "the second drawing is newer");
        assert_eq!(out, [QUESTION, QUESTION].concat());
        witness.answer(&mut out, now + SECOND);
        assert_eq!(witness.sight(now + SECOND), Sight::Told(now + SECOND));
        // An unrequested answer does not count.
        let mut late = Vec::new();
        witness.draw(&mut late, now);
        witness.answer(&mut late, now);
        witness.answer(&mut late, now);
        assert_eq!(late, QUESTION);
    }

    #[test]
    fn a_terminal_that_says_nothing_never_counts_as_told() {
        let (mut witness, mut out, now) = drawn(true);
        witness.write(now);
        assert_eq!(witness.sight(now + SECOND), Sight::No);
        let patience = now + PATIENCE;
        assert_eq!(witness.sight(patience), Sight::Unknown(patience));
        // The next time we do not wait; a late answer does not count for the new drawing.
        let later = now + 10 * SECOND;
        witness.draw(&mut out, later);
        assert_eq!(witness.sight(later), Sight::No);
        witness.write(later);
        assert_eq!(witness.sight(later), Sight::Unknown(later));
        witness.answer(&mut out, later);
        assert_eq!(witness.sight(later), Sight::No);
        witness.answer(&mut out, later);
        assert_eq!(witness.sight(later), Sight::Told(later));
        let (mut dumb, out, now) = drawn(false);
        assert_eq!(out, b"");
        dumb.write(now);
        assert_eq!(dumb.sight(now), Sight::Unknown(now));
    }

    #[test]
    fn an_answer_is_no_input_of_the_agent_however_it_is_cut() {
        let input = b"\x1b\x1b[A\x1b[0x\x1b[0n[0n\x1b[0;";
        for cut in 0..=input.len() {
            let (mut witness, mut out, now) = drawn(true);
            let mut kept = witness.strain(&input[..cut], &mut out, now);
            kept.extend(witness.strain(&input[cut..], &mut out, now));
            kept.extend(witness.release());
            assert_eq!(kept, b"\x1b\x1b[A\x1b[0x[0n\x1b[0;", "cut at {cut}");
            assert_eq!(witness.sight(now), Sight::Told(now));
        }
        let (mut witness, mut out, now) = drawn(true);
        let late = now + LATE_MAX;
        assert_eq!(witness.strain(ANSWER, &mut out, late), ANSWER);
    }
}
