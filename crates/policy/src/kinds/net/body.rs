//! What a rule about connections says.

use std::fmt;

use stockade_types::Port;

use super::{Condition, RuleTerms, Topic};
use crate::{
    kinds::join,
    pattern::{HostPattern, PathPattern, ProgramPattern},
};

#[derive(Clone, Debug)]
pub(crate) struct NetBody {
    pub(crate) hosts: Vec<HostAt>,
    pub(crate) ports: Ports,
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) paths: Option<Vec<PathPattern>>,
    pub(crate) programs: Option<Vec<ProgramPattern>>,
    /// What requests must mean.
    pub(crate) meaning: Option<Condition>,
    pub(crate) terms: RuleTerms,
}

/// A host of a rule, with the one port of a member of a host set that has its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostAt {
    pub(crate) pattern: HostPattern,
    /// Takes the place of the rule's ports.
    pub(crate) port: Option<Port>,
}

impl fmt::Display for HostAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.pattern),
            None => self.pattern.fmt(f),
        }
    }
}

/// The ports of a rule about connections.
#[derive(Clone, Debug)]
pub(crate) enum Ports {
    /// Every port: what a deny means that names none.
    Every,
    These(Vec<u16>),
}

impl Ports {
    pub(crate) fn contain(&self, port: u16) -> bool {
        match self {
            Self::Every => true,
            Self::These(ports) => ports.contains(&port),
        }
    }

    /// Returns the ports that are written one by one.
    pub(crate) fn named(&self) -> &[u16] {
        match self {
            Self::Every => &[],
            Self::These(ports) => ports,
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("every port"),
            Self::These(ports) => f.write_str(&join(ports)),
        }
    }
}

impl NetBody {
    pub(crate) const fn has_request_conditions(&self) -> bool {
        self.methods.is_some() || self.paths.is_some() || self.meaning.is_some()
    }

    /// Returns what the meaning of requests must be about.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        self.meaning
            .as_ref()
            .map(Condition::topics)
            .unwrap_or_default()
    }

    /// Returns the ports that are written one by one, for the rule or for one of its hosts.
    pub(crate) fn named_ports(&self) -> impl Iterator<Item = u16> {
        let own = self.hosts.iter().filter_map(|at| at.port.map(Port::get));
        self.ports.named().iter().copied().chain(own)
    }
}

impl fmt::Display for NetBody {
    /// Writes the conditions for people, for example `net good.test on 443, 80; methods GET`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.meaning.as_ref().map_or("net", Condition::what);
        write!(f, "{what} {} on {}", join(&self.hosts), self.ports)?;
        if let Some(meaning) = &self.meaning {
            meaning.fmt(f)?;
        }
        if let Some(methods) = &self.methods {
            write!(f, "; methods {}", join(methods))?;
        }
        if let Some(paths) = &self.paths {
            write!(f, "; paths {}", join(paths.iter().map(PathPattern::text)))?;
        }
        if self.programs.is_some() {
            f.write_str("; certain programs")?;
        }
        self.terms.fmt(f)
    }
}
