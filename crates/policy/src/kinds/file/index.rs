//! Paths of rules, by their leading components.

use std::collections::BTreeMap;

use super::FileFeatures;
use crate::{
    candidate::Candidate,
    pattern::{
        PathPattern,
        path::{Component, split},
    },
};

/// All paths of a policy.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    /// By fixed leading components, lower case.
    rooted: Folder,
    /// By their first component, lower case, if that is fixed.
    floating: BTreeMap<Vec<u8>, Vec<Candidate>>,
    other_paths: Vec<Candidate>,
}

/// A trie over path components.
#[derive(Debug, Default)]
struct Folder {
    below: BTreeMap<Vec<u8>, Folder>,
    here: Vec<Candidate>,
}

impl PathIndex {
    pub(crate) fn add(&mut self, path: &PathPattern, candidate: Candidate) {
        let mut fixed = path.components().iter().map_while(fixed_component);
        if path.is_rooted() {
            let folder = fixed.fold(&mut self.rooted, |at, name| {
                at.below.entry(name).or_default()
            });
            folder.here.push(candidate);
        } else if let Some(first) = fixed.next() {
            self.floating.entry(first).or_default().push(candidate);
        } else {
            self.other_paths.push(candidate);
        }
    }

    /// Adds every pattern that could match.
    pub(crate) fn candidates(&self, file: &FileFeatures<'_>, found: &mut Vec<Candidate>) {
        found.extend(&self.other_paths);
        let mut folder = Some(&self.rooted);
        let path = file.request.path.as_bytes().to_ascii_lowercase();
        found.extend(&self.rooted.here);
        for component in split(&path) {
            folder = folder.and_then(|at| at.below.get(component));
            found.extend(folder.map(|at| &at.here).into_iter().flatten());
            found.extend(self.floating.get(component).into_iter().flatten());
        }
        if let Some(relative) = &file.request.workspace_relative {
            for component in split(&relative.as_bytes().to_ascii_lowercase()) {
                found.extend(self.floating.get(component).into_iter().flatten());
            }
        }
    }
}

/// Returns the lower-case text of a component without a star or choice.
fn fixed_component(component: &Component) -> Option<Vec<u8>> {
    match component {
        Component::Many => None,
        Component::One(glob) => match glob.literals()?.as_slice() {
            [one] => Some(one.to_ascii_lowercase()),
            _ => None,
        },
    }
}
