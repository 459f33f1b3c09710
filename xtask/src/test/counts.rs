//! The totals that a test runner prints at its end.

use std::ops::AddAssign;

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Counts {
    /// Reads a closing line of nextest or of the standard harness; nothing for any other line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let failed = before(rest, "failed")?;
            return Some(Self {
                passed: before(rest, "passed")?,
                failed,
                skipped: before(rest, "ignored")?,
            });
        }
        // With exactly this indent: a test's own output is further to the right.
        let rest = line.strip_prefix("     Summary [")?;
        let run = before(rest, "test run:").or_else(|| before(rest, "tests run:"))?;
        let passed = before(rest, "passed").unwrap_or(0);
        // Failed, timed out, not started: every test that ran and did not pass.
        Some(Self {
            passed,
            failed: run.saturating_sub(passed),
            skipped: before(rest, "skipped").unwrap_or(0),
        })
    }
}

/// Returns the number before a word: `3` in `3 passed`. For `12/15`, a run that was cut short, it
/// is 15.
fn before(text: &str, word: &str) -> Option<usize> {
    let (head, _) = text.split_once(&format!(" {word}"))?;
    let number = head.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    number.parse().ok()
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        for (line, expected) in [
            (
                "     Summary [   0.123s] 10 tests run: 8 passed (1 slow), 1 failed, 1 timed out, 2 skipped",
                Some((8, 2, 2)),
            ),
            (
                "     Summary [   1.0s] 1 test run: 1 passed, 0 skipped",
                Some((1, 0, 0)),
            ),
            (
                "     Summary [   1.0s] 4/9 tests run: 3 passed, 1 failed, 0 skipped",
                Some((3, 6, 0)),
            ),
            (
                "     Summary [   1.0s] 2 tests run: 0 passed, 2 failed, 0 skipped",
                Some((0, 2, 0)),
            ),
            (
                "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 4 filtered out; finished in 0.1s",
                Some((3, 1, 2)),
            ),
            ("        PASS [   0.004s] a tests::b", None),
            ("             Summary [ 1s] 1 test run: 1 passed", None),
            ("    test result: ok. 9 passed; 0 failed; 0 ignored", None),
        ] {
            let expected = expected.map(|(passed, failed, skipped)| Counts {
                passed,
                failed,
                skipped,
            });
            assert_eq!(Counts::parse(line), expected, "{line}");
        }
    }
}
