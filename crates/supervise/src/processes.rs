//! The processes of a session as the supervisor knows them, so that an execution needs only a few
//! reads of `/proc`, not several for every ancestor.
//!
//! The kernel is always asked which program a process runs. The arguments come from the last
//! execution, since every execution passes the notifier; but the notifier sees it before it
//! happens, and it can fail. So the arguments of a permitted execution count only once the stack
//! has moved; if more than one was permitted, or none is known, the arguments are read. The start
//! time distinguishes a reused id from the process that had it before.

use std::{collections::HashMap, sync::Mutex};

use stockade_approval::CoveredBy;
use stockade_policy::{HttpRequest, Request};
use stockade_secrets::hide_words;
use stockade_types::{ProcessId, RawText, Subject, Words};

use crate::{
    covers::Covers,
    procfs::{self, Identity},
    recorder::lock,
};

/// Processes that are remembered; at the limit all are forgotten and read again as they appear.
const KNOWN_MAX: usize = 50_000;
/// Parents that a subject lists; deeper trees are cut, since the nearest matter most.
const ANCESTRY_MAX: usize = 12;
/// Bytes of one parent's command line in the ancestry.
const ANCESTOR_BYTES_MAX: usize = 200;

#[derive(Clone, Debug)]
struct Known {
    /// The identity with which it was seen to run these arguments; the stack shows a change.
    identity: Identity,
    argv: Words,
    next: Next,
    /// The parents as last found.
    ancestry: Option<Ancestry>,
}

/// The parents of a process, and the facts that they were derived from.
#[derive(Clone, Debug)]
struct Ancestry {
    of: Vec<Words>,
    lines: Words,
}

/// The executions that were permitted since.
#[derive(Clone, Debug)]
enum Next {
    Nothing,
    One(Words),
    /// Executions by several threads at once, or failures: it is unknown which one happens.
    Several,
}

impl Known {
    const fn new(identity: Identity, argv: Words) -> Self {
        Self {
            identity,
            argv,
            next: Next::Nothing,
            ancestry: None,
        }
    }

    /// Returns the current arguments of the process; `None` if they must be read.
    fn settle(&mut self, now: Identity) -> Option<Words> {
        let moved = self.identity.stack != now.stack;
        self.argv = match (&self.next, moved) {
            (Next::Nothing, false) => self.argv.clone(),
            (Next::One(argv), true) => argv.clone(),
            (Next::One(_) | Next::Several, false) | (Next::Nothing | Next::Several, true) => {
                return None;
            }
        };
        self.identity = now;
        self.next = Next::Nothing;
        Some(self.argv.clone())
    }
}

/// The table; shared by the notifier and the network.
#[derive(Debug)]
pub struct Processes {
    /// The session's first process: the list of parents ends there.
    first: u32,
    known: Mutex<HashMap<u32, Known>>,
    /// The covers of commands that a person was asked about.
    pub(crate) covers: Covers,
}

impl Processes {
    /// Makes an empty table of the session whose first process is `first`.
    pub fn new(first: u32) -> Self {
        Self {
            first,
            known: Mutex::default(),
            covers: Covers::new(first),
        }
    }

    /// Returns the session's first process.
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// Describes the process of thread `tid`, as far as it is still known.
    pub fn subject(&self, tid: u32) -> Subject {
        procfs::identity(tid)
            .map(|identity| self.describe(identity))
            .unwrap_or_default()
    }

    /// Returns the cover of a connection, by an answer to a command or by a rule about it.
    pub fn cover_of_connection(&self, request: &Request) -> Option<CoveredBy> {
        self.covers.of_connection(request)
    }

    /// Returns the answer to a push that a request is a part of.
    pub fn cover_of_request(&self, request: &HttpRequest) -> Option<CoveredBy> {
        self.covers.of_request(request)
    }

    /// Describes a process whose identity has just been read.
    pub(crate) fn describe(&self, identity: Identity) -> Subject {
        Subject {
            id: Some(identity.id),
            exe: procfs::link(identity.id.pid, "exe"),
            argv: self.arguments(identity),
            cwd: procfs::link(identity.id.pid, "cwd"),
            ancestry: self.ancestry(identity),
        }
    }

    fn arguments(&self, identity: Identity) -> Words {
        let pid = identity.id.pid;
        let mut known = lock(&self.known);
        let own = known.get_mut(&pid).filter(|k| k.identity.id == identity.id);
        let (settled, pending) = match own {
            Some(known) => (
                known.settle(identity),
                !matches!(known.next, Next::Nothing) && known.identity.stack == identity.stack,
            ),
            None => (None, false),
        };
        drop(known);
        settled.unwrap_or_else(|| {
            let argv = shown(&procfs::command_line(pid));
            // What is read now must not replace an execution that is still pending.
            if !pending {
                self.remember(Known::new(identity, argv.clone()));
            }
            argv
        })
    }

    fn remember(&self, process: Known) {
        let mut known = lock(&self.known);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(process.identity.id.pid, process);
    }

    /// Notes the arguments of a permitted execution, of a process that was described with
    /// `identity`.
    pub(crate) fn executes(&self, identity: Identity, argv: &[RawText]) {
        let mut known = lock(&self.known);
        let Some(known) = known.get_mut(&identity.id.pid) else {
            return;
        };
        // If the entry no longer matches what was read, another thread of the process was faster.
        let same = known.identity.id == identity.id && known.identity.stack == identity.stack;
        known.next = match known.next {
            Next::Nothing if same => Next::One(shown(&procfs::cut_command_line(argv))),
            Next::Nothing | Next::One(_) | Next::Several => Next::Several,
        };
    }

    /// Lists the parents. They rarely change between events of a process, so the list is made once
    /// and shared until one of them executes a program.
    fn ancestry(&self, identity: Identity) -> Words {
        let mut of = Vec::with_capacity(ANCESTRY_MAX);
        let mut next = identity.parent;
        while next != self.first && next > 1 && of.len() < ANCESTRY_MAX {
            let known = lock(&self.known)
                .get(&next)
                .filter(|known| matches!(known.next, Next::Nothing))
                .map(|known| (known.argv.clone(), known.identity.parent));
            let (argv, parent) = match known {
                Some(known) => known,
                None => match procfs::of_process(next) {
                    Ok(identity) => (self.arguments(identity), identity.parent),
                    Err(_) => break,
                },
            };
            of.push(argv);
            next = parent;
        }
        let mut known = lock(&self.known);
        let own = known
            .get_mut(&identity.id.pid)
            .filter(|known| known.identity.id == identity.id);
        let made = own.as_ref().and_then(|own| own.ancestry.as_ref());
        if let Some(made) = made.filter(|made| is_same(&made.of, &of)) {
            return made.lines.clone();
        }
        let lines: Words = of.iter().map(|argv| line(argv)).collect();
        if let Some(own) = own {
            own.ancestry = Some(Ancestry {
                of,
                lines: lines.clone(),
            });
        }
        lines
    }

    /// Returns the parent of a process, if it is known.
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

/// Returns the words of a command as people and records see them.
pub fn shown_words(argv: &[RawText]) -> Vec<RawText> {
    hide_words(argv).unwrap_or_else(|| argv.to_vec())
}

/// The same, to be shared.
pub(crate) fn shown(argv: &[RawText]) -> Words {
    Words::from(shown_words(argv))
}

fn is_same(before: &[Words], now: &[Words]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(a, b)| a.is_shared_with(b))
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
    // A character that was cut in half would be shown as bytes that the program never wrote.
    if let Err(error) = std::str::from_utf8(&line)
        && error.error_len().is_none()
    {
        line.truncate(error.valid_up_to());
    }
    RawText::from_bytes(line)
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use super::Processes;
    use crate::procfs;

    fn words(text: &str) -> Vec<RawText> {
        text.split(' ').map(RawText::from).collect()
    }

    #[test]
    fn an_execution_counts_once_it_has_happened() {
        let own = std::process::id();
        let processes = Processes::new(1);
        let read = processes.subject(own);
        assert_eq!(read.id.unwrap().pid, own);
        assert!(!read.exe.as_bytes().is_empty());
        let now = procfs::identity(own).unwrap();
        processes.executes(now, &words("curl now"));
        assert_eq!(
            processes.subject(own),
            read,
            "it failed, or is still to come"
        );
        // As it was before an execution: another stack.
        let mut before = now;
        before.stack += 16;
        let processes = Processes::new(1);
        processes.describe(before);
        processes.executes(before, &words("curl now"));
        let after = processes.subject(own);
        assert_eq!(
            (after.exe, after.argv),
            (read.exe.clone(), words("curl now").into())
        );
        // Of two it cannot be told which one happened.
        let processes = Processes::new(1);
        processes.describe(before);
        processes.executes(before, &words("curl now"));
        processes.executes(before, &words("wget now"));
        assert_eq!(processes.subject(own), read);
        assert_eq!(processes.subject(own), read);
    }

    #[test]
    fn neither_a_parent_nor_an_older_process_lends_its_name() {
        let own = std::process::id();
        let identity = procfs::identity(own).unwrap();
        let read = Processes::new(1).subject(own);
        let processes = Processes::new(1);
        let mut parent = procfs::of_process(identity.parent).unwrap();
        parent.stack += 16;
        processes.describe(parent);
        processes.executes(parent, &words("shell -c"));
        let child = processes.subject(own);
        assert_eq!((&child.exe, &child.argv), (&read.exe, &read.argv));
        assert_eq!(child.ancestry.first(), Some(&RawText::from("shell -c")));
        let mut before = identity;
        before.id.start += 1;
        processes.describe(before);
        processes.executes(before, &words("old"));
        assert_eq!(processes.subject(own).argv, read.argv);
    }

    #[test]
    fn a_parent_s_line_is_cut_between_letters() {
        let shown = |text: &str| super::line(&[RawText::from(text)]);
        for letters in 95..105 {
            let line = shown(&format!("{}{}", "x".repeat(letters), "漢".repeat(100)));
            assert!(!line.has_hidden(), "{line:?}");
        }
        let bytes = super::line(&[RawText::from_bytes(b"x\xff".to_vec())]);
        assert!(bytes.has_hidden(), "what somebody wrote stays");
    }

    #[test]
    fn long_arguments_are_cut() {
        let processes = Processes::new(1);
        let mut before = procfs::identity(std::process::id()).unwrap();
        before.stack += 16;
        let long = "x".repeat(10_000);
        let argv = vec![RawText::from(long.as_str()); 200];
        processes.describe(before);
        processes.executes(before, &argv);
        let kept = processes.subject(before.id.pid).argv;
        assert!(procfs::same_command_line(&kept, &argv));
        assert_eq!(kept.len(), 2);
    }
}
