//! Changes of rules.

use std::collections::{BTreeMap, BTreeSet};

use stockade_types::Verdict;

use super::{
    At, Change, Direction, Effect, Pattern, Side, Topic, digest,
    limits::{DECIDED_MAX, FITS_MAX, TRIED_MAX},
    pair::{Pairs, pair},
    parts::{Part, could_judge, parts},
    proof::{Proof, may_meet},
    sample::{line, samples},
    terms,
};
use crate::{Approvals, Policy, Request, kinds::Body};

/// Lists the changes of rules between two policies.
pub(super) fn changes(old: &Policy, new: &Policy) -> Vec<Change> {
    let pairs = pair(parts(old), parts(new));
    let proof = Proof::new(&pairs);
    let mut trial = Trial::new((old, new), &pairs);
    let mut changes = Vec::new();
    for (side, parts) in [(Side::Old, &pairs.removed), (Side::New, &pairs.added)] {
        let shown = parts.iter().filter(|part| !proof.is_harmless(part));
        let mut rules: BTreeMap<(usize, Topic), Vec<&Part<'_>>> = BTreeMap::new();
        for part in shown {
            let rule = rules.entry((part.number, part.topic())).or_default();
            rule.push(part);
        }
        changes.extend(
            rules
                .into_values()
                .map(|parts| one_sided(side, &parts, &proof, &mut trial)),
        );
    }
    changes.extend(altered(&pairs, &mut trial));
    changes.extend(regrouped(&pairs, &proof, &mut trial));
    changes
}

/// Makes the change of a rule, or of some of its patterns, that only one policy has.
fn one_sided(
    side: Side,
    parts: &[&Part<'_>],
    proof: &Proof<'_, '_>,
    trial: &mut Trial<'_>,
) -> Change {
    let mut possible: Vec<(Verdict, Verdict)> = Vec::new();
    for part in parts {
        for (before, after) in of_added(part, proof) {
            let pair = match side {
                Side::New => (before, after),
                Side::Old => (after, before),
            };
            if !possible.contains(&pair) {
                possible.push(pair);
            }
        }
    }
    let first = parts.first();
    let words = in_words(parts);
    let effect = first.map_or(Verdict::Deny, |part| part.effect());
    let what = match side {
        Side::New => format!("{effect} {words}"),
        Side::Old => format!("no longer {effect} {words}"),
    };
    let topic = first.map_or(Topic::Cedar, |part| part.topic());
    let about = patterns(side, parts);
    let effects = trial.effects(&about, &possible);
    let at = first.map(|part| At::from(part.rule));
    let (old, new) = match side {
        Side::Old => (at, None),
        Side::New => (None, at),
    };
    Change {
        digest: digest(topic, &what, key(parts).as_bytes()),
        direction: direction(&possible),
        effects,
        old,
        new,
        about,
        ..Change::new(topic, Direction::Neither, what)
    }
}

/// Returns which verdicts a rule can turn into which ones where it comes in addition.
fn of_added(part: &Part<'_>, proof: &Proof<'_, '_>) -> Vec<(Verdict, Verdict)> {
    use Verdict::{Allow, Ask, Deny};
    let (private, requests) = part.rule.net().map_or((false, false), |body| {
        (body.terms.private, body.has_request_conditions())
    });
    let mut possible = Vec::new();
    match part.effect() {
        Allow => {
            possible.push((Deny, Allow));
            // It lifts the control on private addresses for the other rules too.
            possible.extend(private.then_some((Deny, Ask)));
            possible.extend(proof.could_answer(part).then_some((Ask, Allow)));
        }
        Ask => {
            possible.push((Allow, Ask));
            if !proof.is_allowed_otherwise(part) {
                possible.push((Deny, Ask));
                // A connection is opened for requests that can be asked about.
                possible.extend((requests || private).then_some((Deny, Allow)));
            }
        }
        Deny => possible.extend([(Allow, Deny), (Ask, Deny)]),
    }
    possible
}

fn direction(possible: &[(Verdict, Verdict)]) -> Direction {
    let one = |(before, after): &(Verdict, Verdict)| Direction::of(Some(after < before));
    let all = possible.iter().map(one);
    all.fold(Direction::Neither, Direction::and)
}

/// Makes the changes of rules with the same conditions, one for each pair of rules.
fn altered(pairs: &Pairs<'_>, trial: &mut Trial<'_>) -> Vec<Change> {
    type Both<'a, 'p> = (Vec<&'a Part<'p>>, Vec<&'a Part<'p>>, terms::Altered);
    let mut rules: BTreeMap<(usize, usize, String), Both<'_, '_>> = BTreeMap::new();
    for (old, new) in &pairs.altered {
        let found = terms::compare(old, new);
        let key = (old.number, new.number, found.words.join("; "));
        let rule = rules.entry(key).or_insert((Vec::new(), Vec::new(), found));
        rule.0.push(old);
        rule.1.push(new);
    }
    let change = |((_, _, words), (old, new, found)): ((usize, usize, String), Both<'_, '_>)| {
        let (first, last) = (old.first()?, new.first()?);
        let what = format!("{} {}: {words}", first.effect(), in_words(&new));
        let about = [patterns(Side::Old, &old), patterns(Side::New, &new)].concat();
        let possible = if found.judges {
            judged(found.direction)
        } else {
            Vec::new()
        };
        let topic = last.topic();
        Some(Change {
            digest: digest(topic, &what, key(&new).as_bytes()),
            effects: trial.effects(&about, &possible),
            old: Some(At::from(first.rule)),
            new: Some(At::from(last.rule)),
            about,
            ..Change::new(topic, found.direction, what)
        })
    };
    rules.into_iter().filter_map(change).collect()
}

/// Returns the effects that are possible in a direction.
fn judged(direction: Direction) -> Vec<(Verdict, Verdict)> {
    use Verdict::{Allow, Ask, Deny};
    let loosens = [(Ask, Allow), (Deny, Allow), (Deny, Ask)];
    let tightens = loosens.map(|(before, after)| (after, before));
    match direction {
        Direction::Loosens => loosens.to_vec(),
        Direction::Tightens => tightens.to_vec(),
        Direction::Both => [loosens, tightens].concat(),
        Direction::Neither => Vec::new(),
    }
}

/// Makes the changes of asks whose patterns stand beside others now: an exception to an ask must lie within
/// all of its patterns that match a request.
fn regrouped(pairs: &Pairs<'_>, proof: &Proof<'_, '_>, trial: &mut Trial<'_>) -> Vec<Change> {
    let sides = [&pairs.removed, &pairs.added];
    let gone: Vec<BTreeSet<&str>> = sides
        .iter()
        .map(|parts| parts.iter().map(|part| part.conditions.as_str()).collect())
        .collect();
    let all: BTreeMap<&str, &Part<'_>> = pairs
        .same
        .iter()
        .chain(pairs.regrouped.iter().flat_map(|(old, new)| [old, new]))
        .chain(pairs.altered.iter().flat_map(|(old, new)| [old, new]))
        .map(|part| (part.conditions.as_str(), part))
        .collect();
    let mut changes: Vec<Change> = Vec::new();
    let moved = pairs.regrouped.iter().chain(&pairs.altered);
    for (old, new) in moved.filter(|(old, new)| old.beside != new.beside) {
        // A pattern that only one policy has is a change by itself.
        let meets = |conditions: &&String| {
            let is_own = gone.iter().any(|gone| gone.contains(conditions.as_str()));
            let other = all.get(conditions.as_str());
            !is_own && other.is_none_or(|other| may_meet(new, other))
        };
        let loses = old.beside.difference(&new.beside).any(|one| meets(&one));
        let gains = new.beside.difference(&old.beside).any(|one| meets(&one));
        if !(loses || gains) || !proof.could_be_answered(new) {
            continue;
        }
        let mut possible = Vec::new();
        possible.extend(loses.then_some((Verdict::Ask, Verdict::Allow)));
        possible.extend(gains.then_some((Verdict::Allow, Verdict::Ask)));
        let what = format!(
            "ask {}: its rule names other patterns beside it, which exceptions must lie within too",
            new.words()
        );
        let about = [patterns(Side::Old, &[old]), patterns(Side::New, &[new])].concat();
        changes.push(Change {
            digest: digest(new.topic(), &what, new.conditions.as_bytes()),
            effects: trial.effects(&about, &possible),
            old: Some(At::from(old.rule)),
            new: Some(At::from(new.rule)),
            about,
            ..Change::new(new.topic(), direction(&possible), what)
        });
    }
    changes
}

fn patterns(side: Side, parts: &[&Part<'_>]) -> Vec<Pattern> {
    let pattern = |part: &&Part<'_>| Pattern {
        side,
        rule: part.number,
        number: part.pattern,
    };
    parts.iter().map(pattern).collect()
}

/// Writes what parts of one rule are about, without the names and places of rules.
fn key(parts: &[&Part<'_>]) -> String {
    let mut keys: Vec<String> = parts
        .iter()
        .map(|part| format!("{:?} {:?}", part.key(), part.beside))
        .collect();
    keys.sort_unstable();
    keys.join("\n")
}

/// Says what parts of one rule are about, in one line.
fn in_words(parts: &[&Part<'_>]) -> String {
    let Some((first, rest)) = parts.split_first() else {
        return String::new();
    };
    let mut body = first.body.clone();
    for part in rest {
        match (&mut body, &part.body) {
            (Body::Net(all), Body::Net(one)) => all.hosts.extend(one.hosts.iter().cloned()),
            (Body::Exec(all), Body::Exec(one)) => all.commands.extend(one.commands.iter().cloned()),
            (Body::File(all), Body::File(one)) => all.paths.extend(one.paths.iter().cloned()),
            (Body::Tool(all), Body::Tool(one)) => all.tools.extend(one.tools.iter().cloned()),
            (
                Body::Net(_)
                | Body::Exec(_)
                | Body::File(_)
                | Body::Tool(_)
                | Body::Cedar(_)
                | Body::Control,
                _,
            ) => {}
        }
    }
    body.to_string()
}

/// Sample requests that both policies decide.
struct Trial<'p> {
    old: &'p Policy,
    new: &'p Policy,
    samples: Vec<Sample>,
    /// Comparisons and decisions that may still be made.
    fits: usize,
    decisions: usize,
}

struct Sample {
    request: Request,
    verdicts: Option<(Verdict, Verdict)>,
}

impl<'p> Trial<'p> {
    fn new((old, new): (&'p Policy, &'p Policy), pairs: &Pairs<'_>) -> Self {
        let both = pairs.altered.iter().chain(&pairs.regrouped);
        let changed = pairs.removed.iter().chain(&pairs.added);
        let parts = changed
            .chain(both.flat_map(|(old, new)| [old, new]))
            .chain(&pairs.same);
        let sample = |request| Sample {
            request,
            verdicts: None,
        };
        Self {
            old,
            new,
            samples: samples(parts).into_iter().map(sample).collect(),
            fits: FITS_MAX,
            decisions: DECIDED_MAX,
        }
    }

    /// Finds out which effects a change has: those of `possible`, each with an example where a sample shows it.
    fn effects(&mut self, about: &[Pattern], possible: &[(Verdict, Verdict)]) -> Vec<Effect> {
        let mut effects: Vec<Effect> = possible
            .iter()
            .map(|(before, after)| Effect {
                before: *before,
                after: *after,
                example: None,
            })
            .collect();
        let (old, new) = (self.old, self.new);
        let mut tried = 0;
        for sample in &mut self.samples {
            if effects.iter().all(|effect| effect.example.is_some()) || tried >= TRIED_MAX {
                break;
            }
            let Some(left) = self.fits.checked_sub(about.len()) else {
                break;
            };
            self.fits = left;
            let is_about = about.iter().any(|at| {
                let policy = match at.side {
                    Side::Old => old,
                    Side::New => new,
                };
                let rule = policy.rule_list().get(at.rule);
                rule.is_some_and(|rule| could_judge(rule, at.number, &sample.request))
            });
            if !is_about {
                continue;
            }
            tried += 1;
            if sample.verdicts.is_none() {
                let Some(left) = self.decisions.checked_sub(1) else {
                    break;
                };
                self.decisions = left;
                let decide =
                    |policy: &Policy| policy.decide(&sample.request, &Approvals::none()).verdict;
                sample.verdicts = Some((decide(old), decide(new)));
            }
            let shown = effects.iter_mut().find(|effect| {
                effect.example.is_none() && sample.verdicts == Some((effect.before, effect.after))
            });
            if let Some(effect) = shown {
                effect.example = Some(line(&sample.request));
            }
        }
        effects.sort_by_key(|effect| effect.example.is_none());
        effects
    }
}
