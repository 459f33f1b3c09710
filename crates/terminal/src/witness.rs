//! What the terminal itself says about what it has shown.
//!
//! A write that succeeds proves nothing: the kernel takes 18 kB for a pseudo-terminal that nobody
//! reads, and says that its output queue (TIOCOUTQ) is empty. So the terminal is asked for its
//! status behind what was drawn; it answers in order, when it has come to that place. The status
//! report is ours alone: the filter answers it to the agent itself, so that no other answer can be
//! taken for this one, and there is one question at a time, so that an early answer is never taken
//! for a late one.

use std::time::{Duration, Instant};

/// Asks the terminal for its status (DSR 5, ECMA-48 8.3.35).
pub(super) const QUESTION: &[u8] = b"\x1b[5n";
/// What it answers: ready (DSR 0).
pub(super) const ANSWER: &[u8] = b"\x1b[0n";
/// How long an answer may take before the terminal counts as one that gives none. A slow line
/// takes a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a question its answer is kept from the agent.
const LATE_MAX: Duration = Duration::from_secs(10);

/// Whether what was drawn last is known to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is not, yet.
    No,
    /// The terminal said so, at that time.
    Told(Instant),
    /// It was written at that time, to a terminal that says nothing: only a person who repeats
    /// what is shown proves that it is.
    Unknown(Instant),
}

/// Follows what was drawn and what the terminal answered.
#[derive(Debug)]
pub struct Witness {
    /// Whether this terminal may be asked.
    speaks: bool,
    /// Number of what was drawn last.
    drawn: u64,
    /// The drawing that the open question stands behind, and when it was put.
    asked: Option<(u64, Instant)>,
    told: Option<(u64, Instant)>,
    /// When all of the last drawing was written.
    written: Option<Instant>,
    /// It let its patience run out: until it answers, nobody waits for it again.
    is_silent: bool,
    /// Bytes of an answer that may go on in the next read.
    begun: usize,
}

impl Witness {
    /// Makes one for a terminal that may be asked (`speaks`), or for one that knows no sequences.
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

    /// Notes that something new was drawn, and asks behind it.
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

    /// Notes an answer of the terminal; asks again where something was drawn since its question.
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

    /// Begins anew on a terminal that was somebody else's for a while.
    pub const fn forget(&mut self) {
        self.asked = None;
        self.begun = 0;
    }

    /// Tells whether an answer may come among the keys of the agent.
    pub fn is_awaited(&self, now: Instant) -> bool {
        self.asked
            .is_some_and(|(_, at)| now.duration_since(at) < LATE_MAX)
    }

    /// Tells whether an answer will come, as far as is known of this terminal.
    pub const fn is_expected(&self) -> bool {
        self.asked.is_some() && !self.is_silent
    }

    /// Takes the answer out of input that is the agent's, also where two reads cut it.
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

    /// Gives back the beginning of an answer that did not go on.
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
        // However long it takes until the last byte is written.
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
        // An answer that nobody asked for is none.
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
        // The next time nobody waits; a late answer is not that of the new drawing.
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
