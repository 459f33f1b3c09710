//! Ports on which programs of the session listen: a person is asked whether to publish one on this
//! machine's loopback.
//!
//! No call of the session waits for the answer: the server listens at once, and the question is
//! asked in parallel. A port opens only after a yes. The end of the session lists the ports without
//! an answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use stockade_event::Durability;
use stockade_plan::{LaunchPlan, Step};
use stockade_policy::{Approvals, Policy, PortRequest, Request, SERVER_PORTS};
use stockade_types::{Answerer, ApprovalId, Circumstance, Port, Subject, Verdict, chain};

use crate::publish::{self, Doors, Gate};
use stockade_approval::{Asker, Desk, Outcome};
use stockade_supervise::{Processes, Recorder, descendants, lock, sockets};
use stockade_types::AskMode;

/// Checks, one second apart, in which a server must be present: one that ends at once is of no use
/// to a person.
const LOOKS_MIN: u32 = 2;
/// Ports of one session about which a person is asked: a front end, its back end, and one more. A
/// program that listens on more is not serving a person, and may be trying to wear one down.
const ASKED_MAX: usize = 3;
/// Ports that are listed.
const NAMED_MAX: usize = 4;
/// Ports that are remembered; any more come from a flood.
const SEEN_MAX: usize = 1024;
/// Processes that are searched for the listening one.
const PROCESSES_MAX: usize = 20_000;
/// The state of a listening socket (linux/tcp_states.h), as proc(5) writes it.
const LISTENS: &str = "0A";

/// Returns whether a question that opened nothing had an answer: a port that had one is not listed
/// again.
const fn has_answered(by: &Answerer) -> bool {
    match by {
        Answerer::Person(_) | Answerer::People(_) | Answerer::Approval(_) | Answerer::Rule(_) => {
            true
        }
        Answerer::Circumstance(circumstance) => match circumstance {
            Circumstance::Timeout
            | Circumstance::Withdrawn
            | Circumstance::SessionEnd
            | Circumstance::Desk => false,
            Circumstance::NoOne
            | Circumstance::DeniedBefore
            | Circumstance::Journal
            | Circumstance::Policy
            | Circumstance::Reviewer => true,
        },
    }
}

/// The ports seen so far.
pub(crate) struct Listening {
    /// Ports that are the boundary's own, or already open outside.
    known: BTreeSet<u16>,
    seen: BTreeMap<u16, Seen>,
    asked: usize,
    opening: Arc<Opening>,
}

/// The facts about one port.
#[derive(Debug, Default)]
struct Seen {
    looks: u32,
    is_asked: bool,
    is_there: Arc<AtomicBool>,
}

/// The means to ask about a port, and to open it.
pub(crate) struct Opening {
    pub(crate) policy: Arc<Policy>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) doors: Doors,
    pub(crate) told: Mutex<Told>,
}

/// The facts for the end of the session.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Ports that have an answer.
    answered: BTreeSet<u16>,
    notes: Vec<String>,
    /// Ports that are open because of an answer.
    opened: Vec<(ApprovalId, Arc<Gate>)>,
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    port: u16,
    inode: u32,
}

impl Listening {
    pub(crate) fn new(plan: &LaunchPlan, opening: Opening) -> Self {
        let own = plan.steps.iter().filter_map(|step| match step {
            Step::Listen { ports, local } => Some(ports.iter().chain(local)),
            _ => None,
        });
        let network = &opening.policy.settings().network;
        let published = network.publish.iter().map(|at| at.value.inside.get());
        Self {
            known: own.flatten().copied().chain(published).collect(),
            seen: BTreeMap::new(),
            asked: 0,
            opening: Arc::new(opening),
        }
    }

    /// Checks the ports once; asks about a port that has had a server for some time.
    pub(crate) fn look(&mut self) {
        self.opening.close_revoked();
        let sockets = listening_sockets(self.opening.processes.first());
        let there: BTreeMap<u16, u32> = sockets.map(|one| (one.port, one.inode)).collect();
        for (port, seen) in &mut self.seen {
            seen.is_there
                .store(there.contains_key(port), Ordering::Release);
        }
        for (port, inode) in there {
            if SERVER_PORTS.contains(&port) && !self.known.contains(&port) {
                self.note(port, inode);
            }
        }
    }

    fn note(&mut self, port: u16, inode: u32) {
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&port) {
            return;
        }
        let seen = self.seen.entry(port).or_default();
        seen.looks = seen.looks.saturating_add(1);
        seen.is_there.store(true, Ordering::Release);
        let is_new =
            seen.looks >= LOOKS_MIN && !mem::replace(&mut seen.is_asked, seen.looks >= LOOKS_MIN);
        let Some(number) = Port::new(port).filter(|_| is_new) else {
            return;
        };
        let network = &self.opening.policy.settings().network;
        let mut kept = network.publish_listening.iter();
        let is_kept = kept.any(|at| at.value == number);
        // A port that another program of the machine uses cannot be opened.
        if (self.asked >= ASKED_MAX && !is_kept) || !publish::is_free(port) {
            return;
        }
        self.asked += usize::from(!is_kept);
        let (opening, is_there) = (Arc::clone(&self.opening), Arc::clone(&seen.is_there));
        let asked = thread::Builder::new()
            .name("ask".to_owned())
            .spawn(move || opening.ask(number, inode, &is_there));
        // If no thread can be started, the port is listed at the end.
        drop(asked);
    }

    /// Returns the problems with ports, and how to reach the ports without an answer; nothing if no
    /// person is at a terminal.
    pub(crate) fn told(self) -> Vec<String> {
        if self.opening.desk.mode() != AskMode::Tty {
            return Vec::new();
        }
        let Told {
            answered, notes, ..
        } = mem::take(&mut *lock(&self.opening.told));
        let stayed = self.seen.iter().filter(|(_, seen)| seen.looks >= LOOKS_MIN);
        let stayed = stayed.map(|(port, _)| *port);
        let silent: Vec<u16> = stayed.filter(|port| !answered.contains(port)).collect();
        notes.into_iter().chain(named(&silent)).collect()
    }
}

impl Opening {
    /// Asks about a port and opens it if the answer allows that; waits for the answer.
    fn ask(&self, port: Port, inode: u32, is_there: &AtomicBool) {
        let wanted = PortRequest {
            port,
            subject: self.holder(inode),
        };
        let request = Request::Port(wanted.clone());
        let decide = |approvals: &Approvals| self.policy.decide(&request, approvals);
        let decision = decide(&Approvals::none());
        match decision.verdict {
            Verdict::Deny => return,
            Verdict::Allow => return self.open_kept(wanted),
            Verdict::Ask => {}
        }
        let outcome = self.desk.ask(&Asker {
            request: &request,
            decision: &decision,
            decision_id: self.recorder.new_decision(),
            revision: self.recorder.revision(),
            intent: None,
            decide: &decide,
            wanted: &|| is_there.load(Ordering::Acquire),
            covered: None,
            lasting: self.policy.lasting(&request, &decision),
        });
        let (approvals, id) = match outcome {
            Outcome::Granted { approvals, id } => (approvals, id),
            Outcome::Refused { by, .. } => {
                if has_answered(&by) {
                    lock(&self.told).answered.insert(port.get());
                }
                return;
            }
        };
        let opened = self.open(wanted, &approvals, format!("approval {id}"));
        let mut told = lock(&self.told);
        told.answered.insert(port.get());
        match opened {
            Ok(gate) => told.opened.push((id, gate)),
            Err(error) => told.notes.push(error),
        }
    }

    /// Opens a port that policy opens as soon as it has a server.
    fn open_kept(&self, wanted: PortRequest) {
        let port = wanted.port;
        let network = &self.policy.settings().network;
        let mut kept = network.publish_listening.iter();
        let Some(at) = kept.find(|at| at.value == port) else {
            return;
        };
        let opened = self.open(wanted, &Approvals::none(), at.source.clone());
        let mut told = lock(&self.told);
        told.answered.insert(port.get());
        // No revocable answer opened it.
        told.notes.extend(opened.err());
    }

    /// Closes ports whose answer was revoked.
    fn close_revoked(&self) {
        lock(&self.told).opened.retain(|(id, gate)| {
            let holds = self.desk.holds(id);
            if !holds {
                gate.close();
            }
            holds
        });
    }

    /// Opens a permitted port; an error says why it is not open.
    fn open(
        &self,
        wanted: PortRequest,
        approvals: &Approvals,
        by: String,
    ) -> Result<Arc<Gate>, String> {
        let permitted = self.policy.permit(wanted, approvals);
        let (permitted, _) = permitted.map_err(|decision| decision.reason)?;
        let taken = publish::take_opened(&permitted, by).map_err(|error| chain(&error))?;
        // A client that connects now waits to be accepted, and is refused if the port is not
        // served.
        self.recorder
            .write(&taken.event(), Durability::Synced)
            .map_err(|error| format!("a port was not opened: {}", chain(&error)))?;
        let port = permitted.get().port;
        let served = taken.serve(&self.doors);
        served.map_err(|error| format!("port {port} was not opened: {error}"))
    }

    /// Describes the listening program; unknown if it is gone. If several hold the socket, it is
    /// the one that has held it longest: the nearest to the session's first process.
    fn holder(&self, inode: u32) -> Subject {
        let wanted = HashSet::from([inode]);
        let processes = descendants(self.processes.first(), PROCESSES_MAX);
        // The session's first process is our own.
        let mut others = processes.into_iter().skip(1);
        let holds = |pid: &u32| sockets(*pid, &wanted).is_ok_and(|held| !held.is_empty());
        let found = others.find(holds);
        found.map_or_else(Subject::default, |pid| self.processes.subject(pid))
    }
}

/// Says how to reach ports from this machine.
fn named(ports: &[u16]) -> Option<String> {
    let first = ports.first()?;
    let named = ports.iter().take(NAMED_MAX).map(u16::to_string);
    let named: Vec<String> = named.collect();
    let more = if ports.len() > NAMED_MAX { ", …" } else { "" };
    Some(format!(
        "programs inside listened on {}{more}; `run --publish {first}` opens that port on this \
         machine's loopback",
        named.join(", ")
    ))
}

/// Lists the listening sockets in the network of a process; none if it ends.
fn listening_sockets(pid: u32) -> impl Iterator<Item = Socket> {
    let tables = ["tcp", "tcp6"].into_iter();
    let texts = tables.map(move |family| fs::read_to_string(format!("/proc/{pid}/net/{family}")));
    texts.flat_map(|text| {
        let text = text.unwrap_or_default();
        text.lines().filter_map(socket).collect::<Vec<_>>()
    })
}

/// Reads a line of `/proc/PID/net/tcp` (proc(5)) whose socket is listening.
fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == LISTENS).then_some(Socket {
        port: u16::from_str_radix(port, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Socket, named, socket};

    #[test]
    fn listeners_are_read_as_the_kernel_writes_them() {
        let line = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                    1000        0 36351 1 0000000000000000 100 0 0 10 0";
        let read = |port, inode| Some(Socket { port, inode });
        assert_eq!(socket(line), read(3000, 36_351));
        let six = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 \
                   0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0 100 0 0 10 0";
        assert_eq!(socket(six), read(8080, 9));
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(socket(&connected), None);
        assert_eq!(socket("  sl  local_address rem_address   st"), None);
        assert_eq!(socket(""), None);
    }

    #[test]
    fn ports_are_named_with_the_way_to_the_first() {
        assert_eq!(named(&[]), None);
        let told = named(&[3000, 5432]).unwrap();
        assert!(
            told.contains("listened on 3000, 5432; `run --publish 3000`"),
            "{told}"
        );
        let many = named(&[1, 2, 3, 4, 5]).unwrap();
        assert!(many.contains("1, 2, 3, 4, …;"), "{many}");
    }
}
