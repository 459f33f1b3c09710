//! Whom a question asks: the reference asks each rule by itself.

use std::collections::BTreeSet;

use stockade_policy::{Decision, Review, Scope};

use super::draft::{Asks, Draft, STAGES};

/// All sets of stages that can be complete.
fn sets() -> impl Iterator<Item = BTreeSet<&'static str>> {
    let all = 1_u32 << STAGES.len();
    (0..all).map(|set| {
        let numbered = STAGES.into_iter().enumerate();
        let inside = numbered.filter(|(number, _)| set >> number & 1 == 1);
        inside.map(|(_, name)| name).collect()
    })
}

fn is_answered(asks: &Asks, complete: &BTreeSet<&str>) -> bool {
    let mut paths = asks.paths.iter();
    paths.any(|path| path.iter().all(|name| complete.contains(name)))
}

fn is_complete(review: &Review, complete: &BTreeSet<&str>) -> bool {
    let mut paths = review.paths.iter();
    paths.any(|path| {
        path.iter()
            .all(|stage| complete.contains(stage.name.as_str()))
    })
}

/// Compares whom a decision asks with whom the rules ask whose question is open.
pub(crate) fn compare(decision: &Decision, rules: &[Draft], open: &[String]) -> Result<(), String> {
    let open = rules.iter().filter(|rule| open.contains(&rule.id));
    let asks: Vec<&Asks> = open.filter_map(|rule| rule.asks.as_ref()).collect();
    let Some(review) = decision.review() else {
        return match asks.as_slice() {
            [] => Ok(()),
            some => Err(format!("asks nobody, and should {some:?}")),
        };
    };
    if asks.is_empty() {
        return Err(format!("asks {}, and should nobody", review.in_words()));
    }
    for complete in sets() {
        let wanted = asks.iter().all(|asks| is_answered(asks, &complete));
        if is_complete(review, &complete) != wanted {
            return Err(format!(
                "{complete:?} answer {review:?}: wanted {wanted} for {asks:?}"
            ));
        }
    }
    let once = asks.iter().any(|asks| asks.once);
    let scope = if once { Scope::Once } else { Scope::Session };
    let widest = decision.stage.as_ref().map(|stage| stage.scope_max);
    let same = review.scope_max == scope && widest == Some(scope);
    let reason = asks.iter().any(|asks| asks.reason);
    if same && review.reason_required == reason {
        return Ok(());
    }
    Err(format!("{review:?} for {asks:?}"))
}

/// Tells whether whoever answers a question has answered what `above` asks.
pub(crate) fn is_as_strict(asked: Option<&Review>, above: &Review) -> bool {
    let answers = |review: &Review| {
        let mut sets = sets().filter(|set| is_complete(review, set));
        sets.all(|set| is_complete(above, &set))
    };
    asked.is_some_and(answers)
}
