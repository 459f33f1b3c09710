//! The processes of a session as the supervisor knows them, so that an execution costs three reads
//! of `/proc` and not one for every ancestor.
//!
//! Every execution passes the notifier, so what a process runs is known from there. A process that
//! only forked runs what its parent runs. Start times tell a reused id from the process that had
//! it before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use stockade_types::{ProcessId, RawText, Subject};

use crate::{
    procfs::{self, Identity},
    recorder::lock,
};

/// Processes that are remembered; at the limit all are forgotten and read again as they appear.
const KNOWN_MAX: usize = 50_000;
/// Parents that a subject lists; deeper trees are cut, the nearest matter.
const ANCESTRY_MAX: usize = 12;
/// Bytes of one parent's command line in the ancestry.
const ANCESTOR_BYTES_MAX: usize = 200;

/// What a process runs.
#[derive(Clone, Debug)]
struct Image {
    exe: RawText,
    argv: Arc<Vec<RawText>>,
}

#[derive(Clone, Debug)]
struct Known {
    identity: Identity,
    image: Image,
}

/// The table; shared by the notifier and the network.
#[derive(Debug)]
pub(crate) struct Processes {
    /// The session's first process: parents are listed up to it.
    first: u32,
    known: Mutex<HashMap<u32, Known>>,
}

impl Processes {
    /// Makes an empty table of the session whose first process is `first`.
    pub(crate) fn new(first: u32) -> Self {
        Self {
            first,
            known: Mutex::default(),
        }
    }

    /// Describes the process that thread `tid` belongs to, as far as it can still be told.
    pub(crate) fn subject(&self, tid: u32) -> Subject {
        procfs::identity(tid)
            .map(|identity| self.describe(identity))
            .unwrap_or_default()
    }

    /// Describes a process.
    pub(crate) fn describe(&self, identity: Identity) -> Subject {
        let image = self.image(identity);
        Subject {
            id: Some(identity.id),
            exe: image.exe,
            argv: image.argv.to_vec(),
            cwd: procfs::link(identity.id.pid, "cwd"),
            ancestry: self.ancestry(identity.parent),
        }
    }

    /// Returns what a process runs; one that is new runs what its parent runs.
    fn image(&self, identity: Identity) -> Image {
        if let Some(image) = self.known_image(identity.id) {
            return image;
        }
        let inherited = if identity.parent == self.first {
            None
        } else {
            lock(&self.known)
                .get(&identity.parent)
                .map(|known| known.image.clone())
        };
        let image = inherited.unwrap_or_else(|| Image {
            exe: procfs::link(identity.id.pid, "exe"),
            argv: Arc::new(procfs::command_line(identity.id.pid)),
        });
        self.remember(identity, image.clone());
        image
    }

    fn known_image(&self, id: ProcessId) -> Option<Image> {
        let known = lock(&self.known);
        known
            .get(&id.pid)
            .filter(|known| known.identity.id == id)
            .map(|known| known.image.clone())
    }

    fn remember(&self, identity: Identity, image: Image) {
        let mut known = lock(&self.known);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(identity.id.pid, Known { identity, image });
    }

    /// Notes what a process is about to run.
    pub(crate) fn executes(&self, identity: Identity, exe: RawText, argv: Vec<RawText>) {
        self.remember(
            identity,
            Image {
                exe,
                argv: Arc::new(argv),
            },
        );
    }

    fn ancestry(&self, parent: u32) -> Vec<RawText> {
        let mut lines = Vec::new();
        let mut next = parent;
        while next != self.first && next > 1 && lines.len() < ANCESTRY_MAX {
            let known = lock(&self.known).get(&next).cloned();
            let known = match known {
                Some(known) => known,
                None => match procfs::identity(next) {
                    Ok(identity) => Known {
                        identity,
                        image: self.image(identity),
                    },
                    Err(_) => break,
                },
            };
            lines.push(line(&known.image.argv));
            next = known.identity.parent;
        }
        lines
    }

    /// Returns the parent of a process, if it can be told.
    pub(crate) fn parent(&self, identity: Identity) -> Option<ProcessId> {
        if identity.parent == self.first {
            return None;
        }
        let known = lock(&self.known)
            .get(&identity.parent)
            .map(|known| known.identity.id);
        known.or_else(|| {
            procfs::identity(identity.parent)
                .ok()
                .map(|parent| parent.id)
        })
    }
}

fn line(argv: &[RawText]) -> RawText {
    let mut line = Vec::new();
    for word in argv {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.extend_from_slice(word.as_bytes());
        if line.len() >= ANCESTOR_BYTES_MAX {
            break;
        }
    }
    line.truncate(ANCESTOR_BYTES_MAX);
    RawText::from_bytes(line)
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use super::Processes;
    use crate::procfs;

    #[test]
    fn a_process_is_what_it_was_last_seen_to_execute() {
        let own = std::process::id();
        let processes = Processes::new(1);
        let read = processes.subject(own);
        assert_eq!(read.id.unwrap().pid, own);
        assert!(!read.exe.as_bytes().is_empty());
        let identity = procfs::identity(own).unwrap();
        processes.executes(identity, RawText::from("/bin/x"), vec![RawText::from("x")]);
        assert_eq!(processes.subject(own).exe, RawText::from("/bin/x"));
    }

    #[test]
    fn a_fork_runs_what_its_parent_runs_and_a_reused_id_does_not() {
        let own = std::process::id();
        let identity = procfs::identity(own).unwrap();
        let processes = Processes::new(1);
        let mut parent = identity;
        parent.id.pid = identity.parent;
        processes.executes(
            parent,
            RawText::from("/bin/shell"),
            vec![RawText::from("shell")],
        );
        let child = processes.subject(own);
        assert_eq!(child.exe, RawText::from("/bin/shell"));
        assert_eq!(child.ancestry.first(), Some(&RawText::from("shell")));
        let mut before = identity;
        before.id.start += 1;
        processes.executes(before, RawText::from("/bin/old"), vec![]);
        assert_ne!(processes.subject(own).exe, RawText::from("/bin/old"));
    }
}
