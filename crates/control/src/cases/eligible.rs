//! Whether there are enough people for what a policy asks: a stage that nobody can answer denies everything,
//! and the first to notice would be an agent that waits.

use std::collections::BTreeMap;

use stockade_policy::Policy;
use stockade_trust::{Directory, Review, Stage, Strength, User};

/// A stage, or a way of stages, for which there are too few people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The rule that asks.
    pub rule: String,
    /// The stages: one, or those of a way that together need more different people than there are.
    pub stages: Vec<String>,
    /// How many different people are needed.
    pub need: usize,
    /// How many there are.
    pub have: usize,
    /// How their votes have to be proved.
    pub strength: Strength,
    /// The name of the team for whose machines; `None` for machines without a team.
    pub team: Option<String>,
}

impl std::fmt::Display for Shortfall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stages = self.stages.join("`, then `");
        let (rule, need, have) = (&self.rule, self.need, self.have);
        let strong = match self.strength {
            Strength::Session => "",
            Strength::Key => " with a passkey or an approver key",
            Strength::Passkey => " with a passkey",
        };
        let place = match &self.team {
            Some(team) => format!(" for machines of the team `{team}`"),
            None => String::new(),
        };
        write!(
            f,
            "rule `{rule}`: stage `{stages}` needs {need} different people{strong}{place}, and there are {have}; give \
             the role to more people, or change the stage"
        )
    }
}

/// Returns what a policy asks and these people cannot answer. The roles in `directory` are those that count for
/// the machines in question (`Directory::within`).
///
/// Whose session it is has no vote, so that there may still be too few for sessions of one of them.
pub fn shortfalls(policy: &Policy, directory: &Directory) -> Vec<Shortfall> {
    let mut found = Vec::new();
    for rule in policy.rules() {
        if let Some(review) = &rule.review {
            of_review(&rule.id.to_string(), review, directory, &mut found);
        }
    }
    found
}

fn of_review(rule: &str, review: &Review, directory: &Directory, found: &mut Vec<Shortfall>) {
    let mut known: BTreeMap<&str, bool> = BTreeMap::new();
    for stage in review.stages() {
        if known.contains_key(stage.name.as_str()) {
            continue;
        }
        let have = eligible(stage, directory).count();
        let need = usize::try_from(stage.need).unwrap_or(usize::MAX);
        known.insert(&stage.name, have >= need);
        if have < need {
            found.push(Shortfall {
                rule: rule.to_owned(),
                stages: vec![stage.name.clone()],
                need,
                have,
                strength: stage.strength,
                team: None,
            });
        }
    }
    for path in &review.paths {
        let is_filled = |stage: &Stage| known.get(stage.name.as_str()) == Some(&true);
        let have = distinct(path, directory);
        let need = path
            .iter()
            .map(|stage| usize::try_from(stage.need).unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add);
        if path.iter().all(is_filled) && have < need {
            found.push(Shortfall {
                rule: rule.to_owned(),
                stages: path.iter().map(|stage| stage.name.clone()).collect(),
                need,
                have,
                strength: Strength::Session,
                team: None,
            });
        }
    }
}

/// The people who can answer a stage, at once or when it takes long.
fn eligible<'d>(
    stage: &Stage,
    directory: &'d Directory,
) -> impl Iterator<Item = (usize, &'d User)> {
    let people = directory.people.iter().enumerate();
    let stage = stage.clone();
    people.filter(move |(_, user)| {
        let then = stage.escalation.as_ref();
        let is_asked = user.has(&stage.role) || then.is_some_and(|then| user.has(&then.role));
        let has_passkey = !user.passkeys.is_empty();
        is_asked
            && match stage.strength {
                Strength::Session => true,
                Strength::Key => has_passkey || !user.keys.is_empty(),
                Strength::Passkey => has_passkey,
            }
    })
}

/// How many votes of a way can be given by different people: a matching of votes and people, one vote at a
/// time.
fn distinct(path: &[Stage], directory: &Directory) -> usize {
    let places: Vec<Vec<usize>> = path
        .iter()
        .flat_map(|stage| {
            let people: Vec<usize> = eligible(stage, directory).map(|(index, _)| index).collect();
            let need = usize::try_from(stage.need).unwrap_or_default();
            std::iter::repeat_n(people, need)
        })
        .collect();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let place_all = 0..places.len();
    place_all
        .filter(|place| {
            let mut seen = Vec::new();
            give(*place, &places, &mut taken, &mut seen)
        })
        .count()
}

/// Finds a person for a place, moving others if they have other places to go to. A way has at most 32 places.
fn give(
    place: usize,
    places: &[Vec<usize>],
    taken: &mut BTreeMap<usize, usize>,
    seen: &mut Vec<usize>,
) -> bool {
    for person in places.get(place).into_iter().flatten() {
        if seen.contains(person) {
            continue;
        }
        seen.push(*person);
        let is_free = match taken.get(person).copied() {
            None => true,
            Some(other) => give(other, places, taken, seen),
        };
        if is_free {
            taken.insert(*person, place);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use stockade_policy::{HostSets, Origin, Source, load};
    use stockade_trust::{Role, UserId};
    use stockade_types::UnixMillis;

    use super::*;

    const POLICY: &str = "schema = 1\n\
        [stages.owner]\nwho = \"role:owner\"\n\
        [stages.security]\nwho = \"role:security\"\nneed = 2\nescalate_after = \"1m\"\nescalate_to = \"role:on-call\"\n\
        [[ask]]\nid = \"paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nstages = [\"owner\", \"security\"]\n";

    fn policy(text: &str) -> Policy {
        let source = Source {
            origin: Origin::Organisation,
            name: "organisation.toml".to_owned(),
            text: text.to_owned(),
        };
        load(&[source], &HostSets::default()).unwrap()
    }

    fn directory(people: &[(&str, &[&str])]) -> Directory {
        let user = |(name, roles): &(&str, &[&str])| User {
            id: UserId((*name).to_owned()),
            name: (*name).to_owned(),
            roles: roles.iter().map(|role| Role((*role).to_owned())).collect(),
            passkeys: Vec::new(),
            keys: Vec::new(),
        };
        Directory {
            org: "acme".to_owned(),
            serial: 1,
            not_after: UnixMillis(u64::MAX),
            people: people.iter().map(user).collect(),
        }
    }

    fn said(text: &str, people: &[(&str, &[&str])]) -> Vec<String> {
        let found = shortfalls(&policy(text), &directory(people));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_stage_with_too_few_people_is_named() {
        let few = said(POLICY, &[("ann", &["owner"]), ("bob", &["security"])]);
        assert_eq!(few.len(), 1, "{few:?}");
        assert!(
            few[0].contains("stage `security` needs 2 different people, and there are 1"),
            "{few:?}"
        );
        // The same number of people who can, after a while.
        let enough = [
            ("ann", &["owner"][..]),
            ("bob", &["security"]),
            ("cat", &["on-call"]),
        ];
        assert_eq!(said(POLICY, &enough), Vec::<String>::new());
        assert_eq!(said(POLICY, &[]).len(), 2);
    }

    /// Everyone has one vote: the owner of the code who is also of security fills one place.
    #[test]
    fn one_person_fills_one_place() {
        let shared = [("ann", &["owner", "security"][..]), ("bob", &["security"])];
        let few = said(POLICY, &shared);
        assert_eq!(few.len(), 1, "{few:?}");
        assert!(
            few[0].contains("`owner`, then `security` needs 3 different people, and there are 2"),
            "{few:?}"
        );
        // A person who has two roles is counted where no other can be.
        let three = [
            ("ann", &["owner", "security"][..]),
            ("bob", &["owner", "security"]),
            ("cat", &["security"]),
        ];
        assert_eq!(said(POLICY, &three), Vec::<String>::new());
    }

    #[test]
    fn a_strong_stage_counts_people_who_have_what_it_takes() {
        let keys = POLICY.replace("need = 2\n", "strength = \"key\"\n");
        let strong = POLICY.replace("need = 2\n", "strength = \"passkey\"\n");
        let people = [("ann", &["owner"][..]), ("bob", &["security"])];
        let few = said(&strong, &people);
        assert!(
            few[0].contains("needs 1 different people with a passkey, and there are 0"),
            "{few:?}"
        );
        let few = said(&keys, &people);
        let both = "needs 1 different people with a passkey or an approver key, and there are 0";
        assert!(few[0].contains(both), "{few:?}");
        let mut with_key = directory(&people);
        let key = stockade_trust::SecretKey::from_seed(&[1; 32]);
        with_key.people[1].keys.push(key.public());
        assert_eq!(shortfalls(&policy(&keys), &with_key), Vec::new());
        assert_eq!(shortfalls(&policy(&strong), &with_key).len(), 1);
        let mut spki = vec![
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
        ];
        spki.extend_from_slice(&key.public().to_bytes());
        let passkey = stockade_trust::Passkey::new(b"id", stockade_trust::Algorithm::EdDsa, &spki);
        let mut with_passkey = directory(&people);
        with_passkey.people[1].passkeys.push(passkey.unwrap());
        for text in [&keys, &strong] {
            assert_eq!(shortfalls(&policy(text), &with_passkey), Vec::new());
        }
    }
}
