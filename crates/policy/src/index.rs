//! The index in front of the rules: which patterns could match a request at all.
//!
//! It only narrows: every candidate is judged again by [`Rule::fit`], so the index can cost time
//! but never change a verdict. A property test compares it with looking at all rules.

use std::{collections::BTreeMap, net::IpAddr};

use indexmap::IndexMap;
use stockade_types::{Host, HostName};

use crate::{
    pattern::{
        HostPattern, PathPattern,
        host::mask,
        path::{Component, split},
    },
    rule::{Body, Rule},
    view::{ExecView, FileView, View},
};

/// One pattern of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) rule: usize,
    pub(crate) pattern: usize,
}

/// Commands by their first argument.
type ByFirst = BTreeMap<Option<Vec<u8>>, Vec<Candidate>>;

/// All patterns of a policy, by what they begin with.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: Labels,
    any_name: Vec<Candidate>,
    addresses: BTreeMap<IpAddr, Vec<Candidate>>,
    /// By prefix length, then by network.
    networks: BTreeMap<u8, BTreeMap<IpAddr, Vec<Candidate>>>,
    /// By name of the program, then by first argument; `None` where that is not fixed.
    commands: BTreeMap<Vec<u8>, ByFirst>,
    /// Commands whose program has a star or is a path.
    other_commands: ByFirst,
    /// By fixed leading components, lower case.
    rooted: Folder,
    /// By their first component, where that is fixed, lower case.
    floating: BTreeMap<Vec<u8>, Vec<Candidate>>,
    other_paths: Vec<Candidate>,
}

/// A trie over the labels of names, from the top-level domain down.
#[derive(Debug, Default)]
struct Labels {
    /// Hashed, since a domain may have thousands of names in rules.
    below: IndexMap<String, Labels>,
    here: Vec<Candidate>,
    one_more: Vec<Candidate>,
    deeper: Vec<Candidate>,
}

/// A trie over path components.
#[derive(Debug, Default)]
struct Folder {
    below: BTreeMap<Vec<u8>, Folder>,
    here: Vec<Candidate>,
}

/// Most places that a search for something near looks at; a hint is not worth more.
const NEAR_MAX: usize = 64;

impl Index {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            for pattern in 0..rule.patterns() {
                index.add(
                    rule,
                    Candidate {
                        rule: number,
                        pattern,
                    },
                );
            }
        }
        index
    }

    fn add(&mut self, rule: &Rule, candidate: Candidate) {
        match &rule.body {
            Body::Net(body) => {
                if let Some(at) = body.hosts.get(candidate.pattern) {
                    self.add_host(&at.pattern, candidate);
                }
            }
            Body::Exec(body) => {
                let Some(command) = body.commands.get(candidate.pattern) else {
                    return;
                };
                let firsts: Vec<Option<Vec<u8>>> = command.first_arguments().map_or_else(
                    || vec![None],
                    |texts| texts.into_iter().map(|text| Some(text.to_vec())).collect(),
                );
                let names = command.program_names().filter(|_| !command.names_path());
                for first in firsts {
                    for name in names.iter().flatten() {
                        let by_first = self.commands.entry(name.to_vec()).or_default();
                        by_first.entry(first.clone()).or_default().push(candidate);
                    }
                    if names.is_none() {
                        self.other_commands
                            .entry(first)
                            .or_default()
                            .push(candidate);
                    }
                }
            }
            Body::File(body) => {
                if let Some(path) = body.paths.get(candidate.pattern) {
                    self.add_path(path, candidate);
                }
            }
            Body::Control => {}
        }
    }

    fn add_host(&mut self, host: &HostPattern, candidate: Candidate) {
        match host {
            HostPattern::Name(name) => self.names.at(name).here.push(candidate),
            HostPattern::OneLabel(name) => self.names.at(name).one_more.push(candidate),
            HostPattern::Below(name) => self.names.at(name).deeper.push(candidate),
            HostPattern::AnyName => self.any_name.push(candidate),
            HostPattern::Address(address) => {
                self.addresses.entry(*address).or_default().push(candidate);
            }
            HostPattern::Network { base, bits } => {
                let networks = self.networks.entry(*bits).or_default();
                networks.entry(*base).or_default().push(candidate);
            }
        }
    }

    fn add_path(&mut self, path: &PathPattern, candidate: Candidate) {
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

    /// Returns every pattern that could match, each once, in order.
    pub(crate) fn candidates(&self, view: &View<'_>) -> Vec<Candidate> {
        let mut found = Vec::new();
        match view {
            View::Net(net) => self.hosts(net.host, &mut found),
            View::Exec(exec) => self.programs(exec, &mut found),
            View::File(file) => self.paths(file, &mut found),
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn hosts(&self, host: &Host, found: &mut Vec<Candidate>) {
        match host {
            Host::Name(name) => {
                found.extend(&self.any_name);
                self.names.collect(name, found);
            }
            Host::Address(address) => {
                found.extend(self.addresses.get(address).into_iter().flatten());
                for (bits, networks) in &self.networks {
                    found.extend(networks.get(&mask(*address, *bits)).into_iter().flatten());
                }
            }
        }
    }

    fn programs(&self, exec: &ExecView<'_>, found: &mut Vec<Candidate>) {
        let mut firsts: Vec<Option<Vec<u8>>> = exec
            .first_arguments()
            .into_iter()
            .map(|first| Some(first.to_vec()))
            .collect();
        firsts.push(None);
        let by_name = exec
            .names()
            .into_iter()
            .filter_map(|name| self.commands.get(name));
        for by_first in by_name.chain([&self.other_commands]) {
            for first in &firsts {
                found.extend(by_first.get(first).into_iter().flatten());
            }
        }
    }

    fn paths(&self, file: &FileView<'_>, found: &mut Vec<Candidate>) {
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

    /// Returns patterns near a name: those of its own domain, at least two labels deep.
    pub(crate) fn near_name(&self, name: &HostName) -> Vec<Candidate> {
        let mut at = &self.names;
        let mut depth = 0;
        for label in name.labels_rev() {
            let Some(next) = at.below.get(label) else {
                break;
            };
            at = next;
            depth += 1;
        }
        let mut found = Vec::new();
        if depth >= 2 {
            at.everything(&mut found);
        }
        found
    }

    /// Returns patterns of the same program, with whatever arguments.
    pub(crate) fn near_program(&self, exec: &ExecView<'_>) -> Vec<Candidate> {
        exec.names()
            .into_iter()
            .filter_map(|name| self.commands.get(name))
            .flat_map(BTreeMap::values)
            .flatten()
            .take(NEAR_MAX)
            .copied()
            .collect()
    }
}

impl Labels {
    fn at(&mut self, name: &HostName) -> &mut Self {
        name.labels_rev().fold(self, |at, label| {
            at.below.entry(label.to_owned()).or_default()
        })
    }

    fn collect(&self, name: &HostName, found: &mut Vec<Candidate>) {
        let labels: Vec<&str> = name.labels_rev().collect();
        let mut at = self;
        for (depth, label) in labels.iter().enumerate() {
            let Some(next) = at.below.get(*label) else {
                return;
            };
            at = next;
            match labels.len() - depth - 1 {
                0 => found.extend(&at.here),
                1 => found.extend(at.one_more.iter().chain(&at.deeper)),
                _ => found.extend(&at.deeper),
            }
        }
    }

    fn everything(&self, found: &mut Vec<Candidate>) {
        found.extend(self.here.iter().chain(&self.one_more).chain(&self.deeper));
        for below in self.below.values() {
            if found.len() >= NEAR_MAX {
                return;
            }
            below.everything(found);
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
