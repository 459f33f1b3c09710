//! Which process a connection of the session belongs to.
//!
//! A socket can be inherited and passed on, so it belongs to all its holders. If they do not run
//! the same executable, the connecting program is unknown.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::Duration,
};

use stockade_sys::net::{Protocol, SocketDiagnosis};
use stockade_types::{RawText, Subject};

use crate::{processes::Processes, procfs};

/// Processes that are searched for the holders of a socket.
const PROCESSES_MAX: usize = 20_000;
/// Holders of recent sockets that are remembered: a program that opens many connections is found
/// without a search.
const RECENT_MAX: usize = 16;
/// How often holders of different executables are read again: a new child holds the sockets of its
/// parent until it executes another program, and may do so between two reads.
const LOOKS_MAX: usize = 4;
/// Pause before such a read.
const PAUSE: Duration = Duration::from_millis(3);

/// How far the search for the holders of a socket goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// To all holders: rules depend on the programs that they run.
    All,
    /// To the first holder, which stands for all: only events name it.
    First,
}

/// A connection whose owner is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Number of the request.
    pub id: u64,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its end in the session.
    pub source: SocketAddr,
    /// The other end.
    pub destination: SocketAddr,
}

/// Finds owners.
pub struct Owners {
    /// Finds the socket, in the network namespace of the session.
    pub diagnosis: SocketDiagnosis,
    /// The first process of the session, by its number here.
    pub first_process: u32,
    /// The processes of the session.
    pub processes: Arc<Processes>,
    /// Who may hold it.
    pub search: Search,
    /// Who was found last, nearest first.
    pub recent: Vec<u32>,
}

/// The holders of a socket.
#[derive(Debug, Default)]
struct Holders {
    /// Nearest to the session's first process first: the process that opened a socket comes before
    /// those that inherited it.
    pids: Vec<u32>,
    /// Whether there could be others.
    and_others: bool,
}

impl Owners {
    /// Describes the owners of connections; a subject is empty if its connection is gone already.
    /// Descriptors are read once for all of them. If processes have covers, this finds all holders
    /// of a socket: a connection that another process holds too has no cover.
    pub fn find(&mut self, batch: &[Wanted]) -> Vec<(u64, Subject)> {
        let inode = |wanted: &Wanted| {
            let found = self
                .diagnosis
                .inode(wanted.protocol, wanted.source, wanted.destination);
            found.ok().flatten()
        };
        let inodes: Vec<Option<u32>> = batch.iter().map(inode).collect();
        let mut left: HashSet<u32> = inodes.iter().flatten().copied().collect();
        let search = if self.processes.covers.any() {
            Search::All
        } else {
            self.search
        };
        let mut subjects: HashMap<u32, Subject> = HashMap::new();
        for look in 0..LOOKS_MAX {
            if look > 0 {
                thread::sleep(PAUSE);
            }
            let holders = match search {
                Search::All => self.all_holders(&left),
                Search::First => self.first_holders(&left),
            };
            let mut described = HashMap::new();
            left.retain(|inode| {
                let holders = holders.get(inode);
                let (subject, agreed) = holders.map_or_else(
                    || (Subject::default(), true),
                    |holders| self.subject(holders, &mut described),
                );
                subjects.insert(*inode, subject);
                !agreed
            });
            if left.is_empty() {
                break;
            }
        }
        let subject = |inode: Option<u32>| {
            let found = inode.and_then(|inode| subjects.get(&inode));
            found.cloned().unwrap_or_default()
        };
        let ids = batch.iter().map(|wanted| wanted.id);
        ids.zip(inodes.into_iter().map(subject)).collect()
    }

    /// Describes the holders of a socket, and tells whether all of them run the same executable.
    fn subject(&self, holders: &Holders, described: &mut HashMap<u32, Subject>) -> (Subject, bool) {
        let Some((first, others)) = holders.pids.split_first() else {
            return (Subject::default(), true);
        };
        let subject = described
            .entry(*first)
            .or_insert_with(|| self.processes.subject(*first))
            .clone();
        let covers = &self.processes.covers;
        let cover = covers.of_process(*first);
        let same = |pid: &u32| {
            procfs::link(*pid, "exe") == subject.exe && covers.of_process(*pid) == cover
        };
        if holders.and_others || !others.iter().all(same) {
            let nobody = Subject {
                exe: RawText::default(),
                ..subject
            };
            return (nobody, false);
        }
        (subject, true)
    }

    fn all_holders(&self, wanted: &HashSet<u32>) -> HashMap<u32, Holders> {
        let mut holders: HashMap<u32, Holders> = HashMap::new();
        if wanted.is_empty() {
            return holders;
        }
        let processes = procfs::descendants(self.first_process, PROCESSES_MAX);
        let mut and_others = processes.len() >= PROCESSES_MAX;
        // The session's first process is our own; it has no sockets and forbids inspection.
        for pid in processes.into_iter().skip(1) {
            match procfs::sockets(pid, wanted) {
                Ok(held) => {
                    for inode in held {
                        holders.entry(inode).or_default().pids.push(pid);
                    }
                }
                Err(_) => and_others = true,
            }
        }
        for holders in holders.values_mut() {
            holders.and_others = and_others;
        }
        holders
    }

    fn first_holders(&mut self, wanted: &HashSet<u32>) -> HashMap<u32, Holders> {
        let mut holders = HashMap::new();
        let mut left = wanted.clone();
        let mut look = |pid: u32, left: &mut HashSet<u32>| {
            let held = procfs::sockets(pid, left).unwrap_or_default();
            for inode in &held {
                left.remove(inode);
                let found = Holders {
                    pids: vec![pid],
                    and_others: false,
                };
                holders.insert(*inode, found);
            }
            !held.is_empty()
        };
        let mut found = Vec::new();
        for pid in &self.recent {
            if !left.is_empty() && look(*pid, &mut left) {
                found.push(*pid);
            }
        }
        if !left.is_empty() {
            let processes = procfs::descendants(self.first_process, PROCESSES_MAX);
            for pid in processes.into_iter().rev() {
                if left.is_empty() {
                    break;
                }
                if look(pid, &mut left) {
                    found.push(pid);
                }
            }
        }
        self.recent.retain(|pid| !found.contains(pid));
        self.recent.splice(..0, found);
        self.recent.truncate(RECENT_MAX);
        holders
    }
}
