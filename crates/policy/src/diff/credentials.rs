//! Changes of credentials and of keys of ssh.

use super::{At, Change, Direction, Topic};
use crate::{Credential, Origin, Policy, SshKey, kinds::Body};

/// One of them, as far as it is compared.
struct Own {
    at: At,
    /// What it is, without where it is for and where it stands.
    sort: String,
    words: String,
    plain: bool,
    bounds: Body,
}

impl Own {
    fn credential(own: &Credential) -> Self {
        let Credential {
            id,
            kind,
            source,
            variable,
            origin,
            place,
            plain,
            ..
        } = own;
        Self {
            at: At {
                id: Some(id.clone()),
                origin: *origin,
                source: place.clone(),
            },
            sort: format!("{kind:?} {source} {variable:?} {:?}", own.limits()),
            words: format!("{} from {source}, for {}", kind.as_str(), own.conditions()),
            plain: *plain,
            bounds: Body::Net(own.bounds().clone()),
        }
    }

    fn key(own: &SshKey) -> Self {
        let SshKey {
            id,
            source,
            users,
            origin,
            place,
            ..
        } = own;
        Self {
            at: At {
                id: Some(id.clone()),
                origin: *origin,
                source: place.clone(),
            },
            sort: format!("ssh-key {source} {users:?}"),
            words: format!("ssh-key from {source}, for {}", own.conditions()),
            plain: false,
            bounds: Body::Net(own.bounds().clone()),
        }
    }

    fn name(&self) -> (Origin, String) {
        let id = self.at.id.as_ref();
        let id = id.map(ToString::to_string).unwrap_or_default();
        (self.at.origin, id)
    }
}

/// Lists the changes of credentials between two policies.
pub(super) fn changes(old: &Policy, new: &Policy) -> Vec<Change> {
    let all = |policy: &Policy| -> Vec<Own> {
        let keys = policy.ssh_keys().iter().map(Own::key);
        let credentials = policy.credentials().iter().map(Own::credential);
        credentials.chain(keys).collect()
    };
    let (old, new) = (all(old), all(new));
    let mut changes = Vec::new();
    for own in &new {
        match old.iter().find(|other| other.name() == own.name()) {
            None => {
                let what = format!("{} added", own.words);
                changes.push(change(Direction::Loosens, what, [None, Some(own)]));
            }
            Some(was) => changes.extend(compare(was, own)),
        }
    }
    for was in &old {
        if !new.iter().any(|own| own.name() == was.name()) {
            let what = format!("{} no longer there", was.words);
            changes.push(change(Direction::Tightens, what, [Some(was), None]));
        }
    }
    changes
}

fn compare(was: &Own, own: &Own) -> Option<Change> {
    let mut direction = Direction::Neither;
    let same = |one: &Body, other: &Body| one.is_covered_by(other);
    if format!("{:?}", was.bounds) != format!("{:?}", own.bounds) {
        let wider = !same(&own.bounds, &was.bounds);
        let narrower = !same(&was.bounds, &own.bounds);
        direction = direction.and(match (wider, narrower) {
            (false, false) => Direction::Neither,
            (true, false) => Direction::Loosens,
            (false, true) => Direction::Tightens,
            (true, true) => Direction::Both,
        });
    }
    if was.sort != own.sort {
        direction = direction.and(Direction::Both);
    }
    if was.plain != own.plain {
        direction = direction.and(Direction::of(Some(own.plain)));
    }
    if direction == Direction::Neither {
        return None;
    }
    let plain = |own: &Own| if own.plain { ", without TLS too" } else { "" };
    let what = format!(
        "{}{} instead of {}{}",
        own.words,
        plain(own),
        was.words,
        plain(was)
    );
    Some(change(direction, what, [Some(was), Some(own)]))
}

fn change(direction: Direction, what: String, places: [Option<&Own>; 2]) -> Change {
    let [old, new] = places.map(|own| own.map(|own| own.at.clone()));
    Change {
        old,
        new,
        ..Change::new(Topic::Credentials, direction, what)
    }
}
