//! Which parts of the two policies are the same.

use std::collections::{BTreeMap, BTreeSet};

use stockade_types::Verdict;

use super::parts::Part;

/// The parts of both policies, side by side.
#[derive(Debug, Default)]
pub(super) struct Pairs<'p> {
    /// Parts that both have, word for word.
    pub(super) same: Vec<Part<'p>>,
    /// Parts of asks that both have, beside other patterns.
    pub(super) regrouped: Vec<(Part<'p>, Part<'p>)>,
    /// Parts with the same conditions in another layer, on other terms or for other reviewers.
    pub(super) altered: Vec<(Part<'p>, Part<'p>)>,
    /// Parts of the old policy alone.
    pub(super) removed: Vec<Part<'p>>,
    /// Parts of the new policy alone.
    pub(super) added: Vec<Part<'p>>,
}

/// Finds the parts that are the same; each is paired once.
pub(super) fn pair<'p>(old: Vec<Part<'p>>, new: Vec<Part<'p>>) -> Pairs<'p> {
    let mut pairs = Pairs::default();
    let whole = |part: &Part<'_>| format!("{:?} {:?}", part.key(), part.beside);
    let (old, new, same) = matched(old, new, whole);
    pairs.same = same.into_iter().map(|(_, new)| new).collect();
    let (old, new, regrouped) = matched(old, new, |part| format!("{:?}", part.key()));
    pairs.regrouped = regrouped;
    let known: BTreeMap<String, BTreeSet<String>> = pairs
        .same
        .iter()
        .map(|part| (format!("{:?}", part.key()), part.beside.clone()))
        .collect();
    // The same rule once more changes nothing; an ask may only be beside patterns that the other one has.
    let is_again = |part: &Part<'_>| {
        let known = known.get(&format!("{:?}", part.key()));
        known.is_some_and(|beside| part.effect() != Verdict::Ask || part.beside.is_subset(beside))
    };
    let old = old.into_iter().filter(|part| !is_again(part)).collect();
    let new = new.into_iter().filter(|part| !is_again(part)).collect();
    let (old, new, altered) = matched(old, new, |part| {
        format!("{} {}", part.rule.origin, part.conditions)
    });
    pairs.altered = altered;
    let (removed, added, moved) = matched(old, new, |part| part.conditions.clone());
    pairs.altered.extend(moved);
    (pairs.removed, pairs.added) = (removed, added);
    pairs
}

/// What is left of both sides, and the pairs.
type Matched<'p> = (Vec<Part<'p>>, Vec<Part<'p>>, Vec<(Part<'p>, Part<'p>)>);

/// Pairs parts with equal keys, in their order.
fn matched<'p>(
    old: Vec<Part<'p>>,
    new: Vec<Part<'p>>,
    key: impl Fn(&Part<'_>) -> String,
) -> Matched<'p> {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, part) in old.iter().enumerate().rev() {
        places.entry(key(part)).or_default().push(place);
    }
    let mut old: Vec<Option<Part<'p>>> = old.into_iter().map(Some).collect();
    let (mut left, mut pairs) = (Vec::new(), Vec::new());
    for part in new {
        let place = places.get_mut(&key(&part)).and_then(Vec::pop);
        match place.and_then(|place| old.get_mut(place)?.take()) {
            Some(twin) => pairs.push((twin, part)),
            None => left.push(part),
        }
    }
    (old.into_iter().flatten().collect(), left, pairs)
}
