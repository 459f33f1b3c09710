//! What the walls of a session are made of.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::GuaranteeName;

use crate::{Guarantee, Namespace, Step};

/// Which root directory the processes of a session have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// One of their own: only what the plan shows exists in it.
    Private,
    /// The host's: its names exist inside too, whether or not they can be opened.
    Host,
}

/// Which network the processes of a session are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interfaces {
    /// One of their own, with loopback and nothing else.
    Own,
    /// The host's: its loopback is theirs too.
    Host,
}

/// What ends the processes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// The kernel kills them with the first one, and the first one with the supervisor.
    FirstProcess,
    /// Nothing: one that has left its parents goes on.
    Unbound,
}

/// What holds a protected file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// A mount over what existed at the start, and the supervisor for every name.
    Mounts,
    /// The supervisor alone.
    Calls,
}

/// What the walls of a session are made of: what those who start, follow and end it may build on. A
/// tier states it beside its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boundary {
    /// Its root directory.
    pub root: Root,
    /// Its network.
    pub interfaces: Interfaces,
    /// What ends its processes.
    pub life: Life,
    /// What holds protected files.
    pub protection: Protection,
}

/// A plan says more of its boundary than its steps make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan states {stated}, and {lacks}")]
pub struct Unfounded {
    /// What it states.
    pub stated: &'static str,
    /// What is not there that would make it so.
    pub lacks: &'static str,
}

impl Boundary {
    /// Checks that steps make what this states, and that this gives what guarantees say.
    ///
    /// # Errors
    /// The first statement that nothing stands behind.
    pub fn check(&self, steps: &[Step], guarantees: &[Guarantee]) -> Result<(), Unfounded> {
        let require = |holds: bool, stated, lacks| {
            if holds {
                Ok(())
            } else {
                Err(Unfounded { stated, lacks })
            }
        };
        let has = |wanted: &Step| steps.contains(wanted);
        let makes = |wanted: Namespace| {
            steps.iter().any(|step| {
                matches!(step, Step::EnterNamespaces { namespaces } if namespaces.contains(&wanted))
            })
        };
        if self.root == Root::Private {
            let new = steps.iter().any(|s| matches!(s, Step::NewRoot { .. }));
            let enters = makes(Namespace::Mount) && new && has(&Step::EnterRoot);
            require(enters, "a private root", "no step makes and enters one")?;
        }
        if self.interfaces == Interfaces::Own {
            let made = makes(Namespace::Network);
            require(made, "a network of its own", "no step makes one")?;
        }
        if self.life == Life::FirstProcess {
            let starts = makes(Namespace::Pid) && has(&Step::StartFirstProcess);
            let what = "that everything ends with the first process";
            require(starts, what, "no step starts one in a pid namespace")?;
            let bound = has(&Step::DieWithSupervisor);
            require(bound, what, "it does not end with the supervisor")?;
        }
        if self.protection == Protection::Mounts {
            let cut = makes(Namespace::Mount) && has(&Step::PrivateMounts);
            let lacks = "no step makes mounts that the host does not see";
            require(cut, "that mounts hold protected files", lacks)?;
        }
        let holds = |name| guarantees.iter().any(|g| g.holds && g.name == name);
        if holds(GuaranteeName::Processes) {
            let bound = self.life == Life::FirstProcess;
            let lacks = "nothing ends what has left its parents";
            require(bound, "that `processes` holds", lacks)?;
        }
        if holds(GuaranteeName::Network) {
            let own = self.interfaces == Interfaces::Own;
            let lacks = "the network is the host's";
            require(own, "that `network` holds", lacks)?;
        }
        Ok(())
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match self.root {
            Root::Private => "private root",
            Root::Host => "root of the host",
        };
        let interfaces = match self.interfaces {
            Interfaces::Own => "own network",
            Interfaces::Host => "network of the host",
        };
        let life = match self.life {
            Life::FirstProcess => "ends with its first process",
            Life::Unbound => "ends with none of its processes",
        };
        let protection = match self.protection {
            Protection::Mounts => "mounts and the supervisor hold protected files",
            Protection::Calls => "the supervisor alone holds protected files",
        };
        write!(f, "{root}, {interfaces}, {life}, {protection}")
    }
}
