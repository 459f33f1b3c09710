//! A rule with the same conditions: its layer, its terms and its reviewers.

use super::{Direction, parts::Part};
use crate::{AskStage, Review, Reviewer, Stage};
use stockade_types::Risk;
use stockade_types::Verdict;

/// Differences in words, and what they come to together.
#[derive(Debug)]
pub(super) struct Altered {
    pub(super) words: Vec<String>,
    pub(super) direction: Direction,
    /// Verdicts can differ, not only who answers.
    pub(super) judges: bool,
}

impl Altered {
    fn say(&mut self, words: String, direction: Direction) {
        self.words.push(words);
        self.direction = self.direction.and(direction);
    }
}

impl Direction {
    /// Combines two changes.
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Neither, one) | (one, Self::Neither) => one,
            (Self::Loosens, Self::Loosens) => Self::Loosens,
            (Self::Tightens, Self::Tightens) => Self::Tightens,
            (Self::Both, _)
            | (_, Self::Both)
            | (Self::Loosens, Self::Tightens)
            | (Self::Tightens, Self::Loosens) => Self::Both,
        }
    }

    pub(super) const fn of(loosens: Option<bool>) -> Self {
        match loosens {
            Some(true) => Self::Loosens,
            Some(false) => Self::Tightens,
            None => Self::Both,
        }
    }
}

/// Compares two parts with the same conditions.
pub(super) fn compare(old: &Part<'_>, new: &Part<'_>) -> Altered {
    let mut found = Altered {
        words: Vec::new(),
        direction: Direction::Neither,
        judges: false,
    };
    layer(old, new, &mut found);
    if let (Some(own), Some(other)) = (old.rule.net(), new.rule.net()) {
        for (key, words, loosens) in own.terms.differences(&other.terms) {
            found.judges |= key == "private";
            found.say(format!("{key} {words}"), Direction::of(loosens));
        }
        if own.terms == other.terms && old.terms != new.terms {
            let words = "its bounds are shared with other hosts".to_owned();
            found.say(words, Direction::Both);
        }
    }
    match (&old.rule.stage, &new.rule.stage) {
        (Some(old), Some(new)) if old != new => stage(old, new, &mut found),
        (None, None | Some(_)) | (Some(_), _) => {}
    }
    match (old.rule.quiet, new.rule.quiet) {
        (false, true) => found.say(
            "its refusals are only counted".to_owned(),
            Direction::Neither,
        ),
        (true, false) => found.say("each refusal is reported".to_owned(), Direction::Neither),
        (true, true) | (false, false) => {}
    }
    found
}

/// A higher layer answers more questions, is answered by fewer, and is changed by fewer.
fn layer(old: &Part<'_>, new: &Part<'_>, found: &mut Altered) {
    let (before, after) = (old.rule.origin, new.rule.origin);
    if before == after {
        return;
    }
    let rises = after.authority() > before.authority();
    let mut direction = match old.effect() {
        Verdict::Allow => Direction::of(Some(rises)),
        Verdict::Ask | Verdict::Deny => Direction::of(Some(!rises)),
    };
    let about_tls = |part: &Part<'_>| {
        part.rule
            .net()
            .is_some_and(|body| body.terms.is_about_tls())
    };
    if about_tls(old) || about_tls(new) {
        direction = Direction::Both;
    }
    found.judges |= old.effect() != Verdict::Deny;
    found.say(
        format!("in the {after} layer instead of the {before} layer"),
        direction,
    );
}

fn stage(old: &AskStage, new: &AskStage, found: &mut Altered) {
    if old.reviewer != new.reviewer {
        let direction = match (old.reviewer, new.reviewer) {
            (Reviewer::Human, _) => Direction::Loosens,
            (_, Reviewer::Human) => Direction::Tightens,
            (Reviewer::Bot | Reviewer::BotThenHuman, _) => Direction::Both,
        };
        let words = format!("asks {} instead of {}", new.reviewer, old.reviewer);
        found.say(words, direction);
    }
    if old.reviewer_allows != new.reviewer_allows {
        let up_to = |risk: Option<Risk>| risk.map_or("nothing".to_owned(), |risk| risk.to_string());
        let (before, after) = (up_to(old.reviewer_allows), up_to(new.reviewer_allows));
        let words = format!("the automatic reviewer allows {after} instead of {before}");
        let direction = if new.reviewer_allows > old.reviewer_allows {
            Direction::Loosens
        } else {
            Direction::Tightens
        };
        found.say(words, direction);
    }
    if old.expires != new.expires {
        let words = format!(
            "a question is open for {} instead of {}",
            new.expires, old.expires
        );
        // Unanswered it is a deny either way.
        found.say(words, Direction::Neither);
    }
    if old.scope_max != new.scope_max {
        let words = format!(
            "answers reach {} instead of {}",
            new.scope_max, old.scope_max
        );
        let direction = match (
            new.scope_max.is_within(old.scope_max),
            old.scope_max.is_within(new.scope_max),
        ) {
            (true, false) => Direction::Tightens,
            (false, true) => Direction::Loosens,
            (true, true) | (false, false) => Direction::Both,
        };
        found.say(words, direction);
    }
    match (&old.review, &new.review) {
        (None, Some(new)) => {
            let words = format!("asks {} instead of whoever is there", new.in_words());
            found.say(words, Direction::Tightens);
        }
        (Some(old), None) => {
            let words = format!("asks whoever is there instead of {}", old.in_words());
            found.say(words, Direction::Loosens);
        }
        (Some(old), Some(new)) if old != new => review(old, new, found),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn review(old: &Review, new: &Review, found: &mut Altered) {
    let direction = match (is_at_least(new, old), is_at_least(old, new)) {
        // More or fewer ways can make a question that no longer fits, or fits again, with those of other rules.
        _ if old.paths.len() != new.paths.len() => Direction::Both,
        (true, true) => Direction::Neither,
        (true, false) => Direction::Tightens,
        (false, true) => Direction::Loosens,
        (false, false) => Direction::Both,
    };
    let mut words = Vec::new();
    if old.in_words() != new.in_words() {
        words.push(format!(
            "asks {} instead of {}",
            new.in_words(),
            old.in_words()
        ));
    }
    if old.reason_required != new.reason_required {
        let is = if new.reason_required { "a" } else { "no" };
        words.push(format!("{is} reason is required"));
    }
    let glass = |review: &Review| {
        let glass = review.break_glass.as_ref();
        glass.map(|glass| format!("{} for {}", glass.role.0, glass.max()))
    };
    if old.break_glass != new.break_glass {
        let none = || "nobody".to_owned();
        words.push(format!(
            "break-glass by {} instead of {}",
            glass(new).unwrap_or_else(none),
            glass(old).unwrap_or_else(none)
        ));
    }
    if words.is_empty() {
        words.push("its stages are others: votes, vetoes or how they are proved".to_owned());
    }
    found.say(words.join("; "), direction);
}

/// Tells whether whoever has answered a review has, by as many and as well proved votes, answered the other
/// one too.
fn is_at_least(one: &Review, other: &Review) -> bool {
    let stage = |own: &Stage, wanted: &Stage| {
        own.name == wanted.name
            && own.role == wanted.role
            && own.need >= wanted.need
            && own.veto <= wanted.veto
            && own.strength >= wanted.strength
            && own.wait_ms >= wanted.wait_ms
            && (own.escalation.is_none() || own.escalation == wanted.escalation)
    };
    let goes_through = |path: &Vec<Stage>, inner: &Vec<Stage>| {
        inner
            .iter()
            .all(|wanted| path.iter().any(|own| stage(own, wanted)))
    };
    let is_enough = |path| other.paths.iter().any(|inner| goes_through(path, inner));
    let glass = match (&one.break_glass, &other.break_glass) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(own), Some(wanted)) => {
            own.role == wanted.role
                && own.strength >= wanted.strength
                && own.max_ms <= wanted.max_ms
        }
    };
    glass
        && one.paths.iter().all(is_enough)
        && (one.reason_required || !other.reason_required)
        && one.scope_max.is_within(other.scope_max)
}
