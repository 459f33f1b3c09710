//! Tools of rules, by name.

use std::collections::BTreeMap;

use super::ToolFeatures;
use crate::{candidate::Candidate, pattern::Glob};

/// All names of tools of a policy.
#[derive(Debug, Default)]
pub(crate) struct ToolIndex {
    /// By name, lower case, if that is fixed.
    names: BTreeMap<Vec<u8>, Vec<Candidate>>,
    others: Vec<Candidate>,
}

impl ToolIndex {
    pub(crate) fn add(&mut self, tool: &Glob, candidate: Candidate) {
        match tool.literals() {
            Some(names) => {
                for name in names {
                    let all = self.names.entry(name.to_ascii_lowercase()).or_default();
                    all.push(candidate);
                }
            }
            None => self.others.push(candidate),
        }
    }

    /// Adds every pattern that could match.
    pub(crate) fn candidates(&self, tool: &ToolFeatures<'_>, found: &mut Vec<Candidate>) {
        found.extend(&self.others);
        match tool.index_names() {
            Some(names) => {
                for name in names {
                    let all = self.names.get(&name.to_ascii_lowercase());
                    found.extend(all.into_iter().flatten());
                }
            }
            None => found.extend(self.names.values().flatten()),
        }
    }
}
