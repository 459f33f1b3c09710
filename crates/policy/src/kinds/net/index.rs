//! Hosts of rules, by name and by network.

use std::{collections::BTreeMap, net::IpAddr};

use indexmap::IndexMap;
use stockade_types::{Host, HostName};

use crate::{
    candidate::{Candidate, NEAR_MAX},
    pattern::{HostPattern, host::mask},
};

/// All hosts of a policy.
#[derive(Debug, Default)]
pub(crate) struct HostIndex {
    names: Labels,
    any_name: Vec<Candidate>,
    addresses: BTreeMap<IpAddr, Vec<Candidate>>,
    /// By prefix length, then by network.
    networks: BTreeMap<u8, BTreeMap<IpAddr, Vec<Candidate>>>,
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

impl HostIndex {
    pub(crate) fn add(&mut self, host: &HostPattern, candidate: Candidate) {
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

    /// Adds every pattern that could match `host`.
    pub(crate) fn candidates(&self, host: &Host, found: &mut Vec<Candidate>) {
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

    /// Returns patterns near a name: those of its own domain, at least two labels deep.
    pub(crate) fn near(&self, name: &HostName) -> Vec<Candidate> {
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
