//! How values of settings are compared, and what comes of it.

use std::{collections::BTreeMap, fmt::Display};

use Direction::{Both, Loosens, Neither, Tightens};

use crate::{
    Origin, Sourced,
    diff::{At, Change, Direction, Topic},
};

/// The changes so far.
pub(super) struct Found(pub(super) Vec<Change>);

/// A map of settings.
type Map<'m, K, T> = &'m BTreeMap<K, Sourced<T>>;

/// The directions of an entry of a list.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) added: Direction,
    pub(super) removed: Direction,
}

/// An entry more lets more happen.
pub(super) const OPENS: Entry = Entry {
    added: Loosens,
    removed: Tightens,
};
/// An entry more lets less happen.
pub(super) const CLOSES: Entry = Entry {
    added: Tightens,
    removed: Loosens,
};
/// An entry has no part in any verdict or wall.
pub(super) const SAYS: Entry = Entry {
    added: Neither,
    removed: Neither,
};

pub(super) fn at<T>(own: &Sourced<T>) -> At {
    At {
        id: None,
        origin: own.origin,
        source: own.source.clone(),
    }
}

impl Found {
    pub(super) fn add(
        &mut self,
        topic: Topic,
        direction: Direction,
        what: String,
        places: [Option<At>; 2],
    ) {
        let [old, new] = places;
        self.0.push(Change {
            old,
            new,
            ..Change::new(topic, direction, what)
        });
    }

    /// Compares one value.
    pub(super) fn value<T: PartialEq>(
        &mut self,
        key: &str,
        (old, new): (&Sourced<T>, &Sourced<T>),
        text: impl Fn(&T) -> String,
        direction: impl Fn(&T, &T) -> Direction,
    ) {
        self.option(key, (Some(old), Some(new)), text, |old, new| {
            old.zip(new).map_or(Both, |(old, new)| direction(old, new))
        });
    }

    /// Compares one value that may be absent.
    pub(super) fn option<T: PartialEq>(
        &mut self,
        key: &str,
        (old, new): (Option<&Sourced<T>>, Option<&Sourced<T>>),
        text: impl Fn(&T) -> String,
        direction: impl Fn(Option<&T>, Option<&T>) -> Direction,
    ) {
        let (before, after) = (old.map(|own| &own.value), new.map(|own| &own.value));
        if before == after {
            return;
        }
        let none = || "not set".to_owned();
        let what = format!(
            "{key}: {} instead of {}",
            after.map_or_else(none, &text),
            before.map_or_else(none, &text)
        );
        self.add(
            Topic::Settings,
            direction(before, after),
            what,
            [old.map(at), new.map(at)],
        );
    }

    /// Compares a bound: more lets more happen, and none the most.
    pub(super) fn bound<T: PartialOrd + Display>(
        &mut self,
        key: &str,
        old: Option<&Sourced<T>>,
        new: Option<&Sourced<T>>,
    ) {
        self.option(key, (old, new), T::to_string, |old, new| match (old, new) {
            (Some(old), Some(new)) if new < old => Tightens,
            (None, Some(_)) => Tightens,
            (Some(_) | None, _) => Loosens,
        });
    }

    /// Compares what a record keeps: less of it is the loosening.
    pub(super) fn kept<T: PartialOrd + Display>(
        &mut self,
        key: &str,
        old: Option<&Sourced<T>>,
        new: Option<&Sourced<T>>,
    ) {
        // The program's own limits hold without one, and they are not known here.
        self.option(key, (old, new), T::to_string, |old, new| match (old, new) {
            (Some(old), Some(new)) if new < old => Loosens,
            (Some(_), Some(_)) => Tightens,
            (Some(_) | None, _) => Both,
        });
    }

    /// Compares a list as a set. What comes of a preset can be taken back by other layers, so that the same entry
    /// in a layer above counts for more.
    pub(super) fn list<T: PartialEq + Display>(
        &mut self,
        key: &str,
        (old, new): (&[Sourced<T>], &[Sourced<T>]),
        entry: Entry,
    ) {
        let has = |list: &[Sourced<T>], one: &Sourced<T>| {
            list.iter()
                .any(|own| own.value == one.value && is_default(own) == is_default(one))
        };
        for one in new.iter().filter(|one| !has(old, one)) {
            let what = format!("{key}: {} added", one.value);
            self.add(Topic::Settings, entry.added, what, [None, Some(at(one))]);
        }
        for one in old.iter().filter(|one| !has(new, one)) {
            let what = format!("{key}: {} no longer there", one.value);
            self.add(Topic::Settings, entry.removed, what, [Some(at(one)), None]);
        }
    }

    /// Compares a map; another value of an entry can do both.
    pub(super) fn map<K: Ord + Display, T: PartialEq>(
        &mut self,
        key: &str,
        (old, new): (Map<'_, K, T>, Map<'_, K, T>),
        text: impl Fn(&K, &T) -> String,
        entry: Entry,
    ) {
        for (name, one) in new {
            match old.get(name) {
                Some(own) if own.value == one.value => {}
                Some(own) => {
                    let changed = entry.added.and(entry.removed);
                    let (was, is) = (text(name, &own.value), text(name, &one.value));
                    let what = format!("{key}: {is} instead of {was}");
                    self.add(
                        Topic::Settings,
                        changed,
                        what,
                        [Some(at(own)), Some(at(one))],
                    );
                }
                None => {
                    let what = format!("{key}: {} added", text(name, &one.value));
                    self.add(Topic::Settings, entry.added, what, [None, Some(at(one))]);
                }
            }
        }
        for (name, own) in old.iter().filter(|(name, _)| !new.contains_key(name)) {
            let what = format!("{key}: {} no longer there", text(name, &own.value));
            self.add(Topic::Settings, entry.removed, what, [Some(at(own)), None]);
        }
    }
}

fn is_default<T>(own: &Sourced<T>) -> bool {
    own.origin == Origin::Builtin
}

/// Makes the direction of values that are in order from the loosest to the tightest.
pub(super) fn tighter<T: PartialOrd>(old: &T, new: &T) -> Direction {
    Direction::of(Some(new < old))
}
