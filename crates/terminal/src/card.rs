//! The content of a question's box: the question and the progress of a person's answer.

use stockade_approval::QuestionView;
use stockade_policy::Scope;
use stockade_types::UnixMillis;

/// The counted scope that "narrower" offers.
const USES: u32 = 5;
/// The time scope that "narrower" offers: one piece of work.
const MINUTES: u64 = 10;

/// The part of the question that has the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The question itself.
    Ask,
    /// The reason of a denial, as typed so far.
    Reason(String),
    /// The narrower scopes.
    Narrow,
    /// The scope that Enter allows, and the digits repeated so far if the box asks for them.
    Picked {
        /// How far the answer reaches.
        scope: Scope,
        /// The digits.
        repeated: String,
        /// A rule keeps the answer for later sessions.
        keeps: bool,
    },
    /// An explanation of the keys.
    Help,
}

/// The keys that count now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    /// None: the box may not be shown yet, or a person is typing.
    Nothing,
    /// The keys that allow nothing.
    Some,
    All,
}

/// One question as it is drawn.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) view: QuestionView,
    pub(super) place: usize,
    pub(super) total: usize,
    pub(super) mode: Mode,
    pub(super) hears: Hears,
    /// The terminal does not confirm what it shows: to allow, a person must repeat digits from the
    /// box.
    pub(super) must_repeat: bool,
    pub(super) error: Option<String>,
    pub(super) scroll: usize,
    /// The last line was on the screen: from now on a person may allow it.
    pub(super) is_read: bool,
}

impl Card {
    /// Returns the narrower scopes on offer, with their words.
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

    /// Returns the digits that only a person who sees the box can know.
    pub(super) fn code(&self) -> String {
        // FNV-1a of an id that was drawn at random.
        let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = self.view.id.as_str().bytes().fold(0x811c_9dc5, step);
        format!("{:04}", hash % 10_000)
    }

    /// Whether Enter allows the picked scope.
    pub(super) fn confirms(&self) -> bool {
        match &self.mode {
            Mode::Picked { repeated, .. } if self.must_repeat => *repeated == self.code(),
            Mode::Picked { .. } => self.hears == Hears::All,
            Mode::Ask | Mode::Reason(_) | Mode::Narrow | Mode::Help => false,
        }
    }

    /// Describes a scope on offer.
    pub(super) fn words(&self, scope: Scope, now: UnixMillis) -> String {
        match scope {
            Scope::Once => "once".to_owned(),
            Scope::Session => "this session".to_owned(),
            Scope::Paths => match &self.view.paths {
                Some(paths) => format!("this session: {paths}"),
                None => scope.to_string(),
            },
            Scope::Uses(_) | Scope::Until(_) => self
                .narrower(now)
                .into_iter()
                .find(|(_, _, offered)| {
                    std::mem::discriminant(offered) == std::mem::discriminant(&scope)
                })
                .map_or_else(|| scope.to_string(), |(_, words, _)| words),
        }
    }

    /// Whether there is a scope between once and the session.
    pub(super) fn has_narrower(&self) -> bool {
        !self.narrower(self.view.asked).is_empty()
    }
}
