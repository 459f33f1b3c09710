//! What stands in the box of a question: the question and how far a person has come with it.

use stockade_policy::Scope;
use stockade_runner::approvals::QuestionView;
use stockade_types::UnixMillis;

/// The counted scope that "narrower" offers.
const USES: u32 = 5;
/// The time scope that "narrower" offers: one piece of work.
const MINUTES: u64 = 10;

/// Which part of the question has the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ask,
    Reason(String),
    Narrow,
    Help,
}

/// One question as it is drawn.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) view: QuestionView,
    pub(super) place: usize,
    pub(super) total: usize,
    pub(super) mode: Mode,
    pub(super) error: Option<String>,
    pub(super) scroll: usize,
    /// The last line was on the screen: from now on it may be allowed.
    pub(super) is_read: bool,
}

impl Card {
    /// Returns the narrower scopes that are offered, with the words for them.
    pub(super) fn narrower(&self, now: UnixMillis) -> Vec<(char, String, Scope)> {
        let end = UnixMillis(now.0.saturating_add(MINUTES * 60_000));
        [
            ('1', format!("for {MINUTES} minutes"), Scope::Until(end)),
            ('2', format!("exactly this, {USES} uses"), Scope::Uses(USES)),
        ]
        .into_iter()
        .filter(|(_, _, scope)| self.view.offers(*scope))
        .collect()
    }

    /// Tells whether there is anything between once and the session.
    pub(super) fn has_narrower(&self) -> bool {
        !self.narrower(self.view.asked).is_empty()
    }
}
