//! The index in front of the rules: the patterns that could match a request at all.
//!
//! It only narrows: [`Body::fit`] compares every candidate again, so a wrong index could cost time
//! but never change a verdict. A property test compares it with a search of all rules.

use stockade_types::Host;

use super::{Body, Features, exec::CommandIndex, file::PathIndex, net::HostIndex, tool::ToolIndex};
use crate::candidate::Candidate;

/// All patterns of a policy, by their beginnings.
#[derive(Debug, Default)]
pub(crate) struct Index {
    hosts: HostIndex,
    commands: CommandIndex,
    paths: PathIndex,
    tools: ToolIndex,
}

impl Index {
    pub(crate) fn new<'b>(bodies: impl IntoIterator<Item = &'b Body>) -> Self {
        let mut index = Self::default();
        for (rule, body) in bodies.into_iter().enumerate() {
            for pattern in 0..body.patterns() {
                index.add(body, Candidate { rule, pattern });
            }
        }
        index
    }

    fn add(&mut self, body: &Body, candidate: Candidate) {
        match body {
            Body::Net(body) => {
                if let Some(at) = body.hosts.get(candidate.pattern) {
                    self.hosts.add(&at.pattern, candidate);
                }
            }
            Body::Exec(body) => {
                if let Some(command) = body.commands.get(candidate.pattern) {
                    self.commands.add(command, candidate);
                }
            }
            Body::File(body) => {
                if let Some(path) = body.paths.get(candidate.pattern) {
                    self.paths.add(path, candidate);
                }
            }
            Body::Tool(body) => {
                if let Some(tool) = body.tools.get(candidate.pattern) {
                    self.tools.add(tool, candidate);
                }
            }
            // Cedar evaluates all of its rules at once.
            Body::Cedar(_) | Body::Control => {}
        }
    }

    /// Returns every pattern that could match, each once, in order.
    pub(crate) fn candidates(&self, features: &Features<'_>) -> Vec<Candidate> {
        let mut found = Vec::new();
        match features {
            Features::Net(net) => self.hosts.candidates(net.host, &mut found),
            Features::Exec(exec) => self.commands.candidates(exec, &mut found),
            Features::File(file) => self.paths.candidates(file, &mut found),
            Features::Tool(tool) => self.tools.candidates(tool, &mut found),
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the candidates, and patterns nearby: those of the same domain or program.
    pub(crate) fn near(&self, features: &Features<'_>) -> Vec<Candidate> {
        let mut found = self.candidates(features);
        match features {
            Features::Net(net) => {
                if let Host::Name(name) = net.host {
                    found.extend(self.hosts.near(name));
                }
            }
            Features::Exec(exec) => found.extend(self.commands.near(exec)),
            Features::File(_) | Features::Tool(_) => {}
        }
        found
    }
}
