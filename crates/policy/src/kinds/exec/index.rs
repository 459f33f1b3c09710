//! Commands of rules, by program and first argument.

use std::collections::BTreeMap;

use super::ExecFeatures;
use crate::{
    candidate::{Candidate, NEAR_MAX},
    pattern::CommandPattern,
};

/// Commands by their first argument.
type ByFirst = BTreeMap<Option<Vec<u8>>, Vec<Candidate>>;

/// All commands of a policy.
#[derive(Debug, Default)]
pub(crate) struct CommandIndex {
    /// By name of the program, then by first argument; `None` if that is not fixed.
    commands: BTreeMap<Vec<u8>, ByFirst>,
    /// Commands whose program contains a star or is a path.
    other_commands: ByFirst,
}

impl CommandIndex {
    pub(crate) fn add(&mut self, command: &CommandPattern, candidate: Candidate) {
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

    /// Adds every pattern that could match.
    pub(crate) fn candidates(&self, exec: &ExecFeatures<'_>, found: &mut Vec<Candidate>) {
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

    /// Returns patterns of the same program, with any arguments.
    pub(crate) fn near(&self, exec: &ExecFeatures<'_>) -> Vec<Candidate> {
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
