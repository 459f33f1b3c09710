//! A server and the agent of a machine, each a process, and `kill -9` of both at any time.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use stockade_api::Receipt;
use stockade_event::{Durability, Event};
use stockade_journal::{Journal, SigningKey, layout, now};
use stockade_node::RECEIPT_FILE;
use stockade_trust::{Envelope, Keys};
use stockade_types::SessionId;

use super::{Machine, Site, machine::private};
use crate::wait;

/// How long anything may take that has to come in the end.
const PATIENCE: Duration = Duration::from_mins(2);
/// Events between two signatures.
const SIGNED: u64 = 20;
/// How long the session waits after each event, so that it goes on through all rounds.
const PAUSE: Duration = Duration::from_millis(2);
/// The longest time between two kills.
const ROUND_MS_MAX: u64 = 400;
/// Rounds for which a session lasts: sessions end and begin among the kills.
const ROUNDS_OF_SESSION: u32 = 50;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Of the server.
    pub servers: u32,
    /// Of the agent.
    pub agents: u32,
    /// Sessions that were recorded meanwhile.
    pub sessions: u32,
    /// Events of them.
    pub events: u64,
    /// Receipts that were compared with what was on the disk of the server at a kill.
    pub receipts: u32,
}

/// The agent of a machine.
struct Agent {
    program: PathBuf,
    state: PathBuf,
    process: Child,
}

impl Agent {
    fn start(program: &Path, state: &Path) -> Self {
        let log = File::create(log(state)).expect("a log");
        let process = Command::new(program)
            .args(["node", "run"])
            .env("STOCKADE_STATE_DIR", state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Self {
            program: program.to_owned(),
            state: state.to_owned(),
            process: process.expect("the program starts"),
        }
    }

    fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }

    fn restart(&mut self) {
        self.kill();
        *self = Self::start(&self.program.clone(), &self.state.clone());
    }
}

/// What the agent of a state directory says since it was started.
fn log(state: &Path) -> PathBuf {
    state.with_extension("log")
}

impl Drop for Agent {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        stockade_types::ignored(ended, "it has ended by itself");
    }
}

/// A session that writes in a thread of its own.
struct Writer {
    id: SessionId,
    end: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Writer {
    fn start(state: &Path, number: u64) -> Self {
        let id = SessionId::from_random(number);
        let dir = layout::session_dir(state, &id);
        private(&dir);
        let lock = File::create(dir.join(layout::LOCK_FILE)).expect("a lock");
        lock.lock().expect("a lock");
        let key = SigningKey::load_or_create(&state.join(layout::KEY_FILE)).expect("a key");
        let mut journal = Journal::create(&dir, id.clone(), key).expect("a journal");
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let mut events = 0;
            while !ended.load(Ordering::Relaxed) {
                let event = Event::OperatorActed {
                    action: "note".to_owned(),
                    by: "test".to_owned(),
                    detail: events.to_string(),
                };
                let how = Durability::Written;
                let written = journal.append(now(), "supervisor", None, None, &event, how);
                written.expect("the disk has room");
                events += 1;
                if events % SIGNED == 0 {
                    journal.checkpoint(now()).expect("the disk has room");
                }
                sleep(PAUSE);
            }
            journal.finish(now()).expect("the disk has room");
            drop(lock);
            events
        });
        Self { id, end, thread }
    }

    fn finish(self) -> (SessionId, u64) {
        self.end.store(true, Ordering::Relaxed);
        (self.id, self.thread.join().expect("it writes"))
    }
}

/// Numbers that are the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// Kills server and agent so many times, at times that the seed gives, while sessions write.
///
/// # Panics
/// When a receipt is for bytes that the server does not have, an event is missing, or the records of both
/// sides are not the same.
pub fn kill_at_random(program: &Path, rounds: u32, seed: u64) -> Kills {
    let mut site = Site::new(program);
    let home = tempfile::tempdir().expect("a directory");
    let state = home.path().join("state");
    let token = site.tokens(1, None).remove(0);
    let machine = Machine::enrol(&state, &token);
    let node = machine.node();
    let servers = machine.member(|member| member.enrolment().servers.clone());
    let mut agent = Agent::start(program, &state);
    let (mut kills, mut numbers) = (Kills::default(), Numbers(seed));
    let mut sessions = Vec::new();
    let mut writer = Writer::start(&state, 1);
    for round in 0..rounds {
        sleep(Duration::from_millis(20 + numbers.next(ROUND_MS_MAX)));
        let (kills_server, kills_agent) = match numbers.next(5) {
            0 | 1 => (true, false),
            2 | 3 => (false, true),
            _ => (true, true),
        };
        if kills_server {
            site.kill();
            kills.servers += 1;
            // What the machine believes now is on the disk of a server that has no memory any more.
            let copy = |id: &SessionId| site.copy(&node, id);
            let all = sessions.iter().map(|(id, _)| id).chain([&writer.id]);
            for id in all {
                kills.receipts += u32::from(is_held(&state, id, &copy(id), &servers));
            }
        }
        if kills_agent {
            agent.restart();
            kills.agents += 1;
        }
        if kills_server {
            site.start();
        }
        // The last session goes on to the end: one that began now would have nothing to send.
        if round % ROUNDS_OF_SESSION == ROUNDS_OF_SESSION - 1 && round + 1 < rounds {
            sessions.push(writer.finish());
            writer = Writer::start(&state, u64::from(round) + 2);
        }
    }
    sessions.push(writer.finish());
    for (id, events) in &sessions {
        arrives(&site, &machine, id, *events);
        kills.sessions += 1;
        kills.events += events;
    }
    verifies(&site, &state, &site.node_dir(&node));
    kills
}

/// Checks that what the receipt beside a journal is for is in the copy. Returns `false` if there is none yet.
fn is_held(state: &Path, id: &SessionId, copy: &Path, servers: &Keys) -> bool {
    let dir = layout::session_dir(state, id);
    let Ok(text) = fs::read(dir.join(RECEIPT_FILE)) else {
        return false;
    };
    let envelope: Envelope = serde_json::from_slice(&text).expect("a receipt is written whole");
    let receipt: Receipt = envelope.open(servers).expect("the server has signed it");
    let held = usize::try_from(receipt.offset).expect("a length");
    let own = fs::read(dir.join(layout::JOURNAL_FILE)).expect("a journal");
    let copy = fs::read(copy).expect("the server has a copy of what it has receipted");
    let (first, second) = (copy.get(..held), own.get(..held));
    assert!(
        first.is_some() && first == second,
        "a receipt for {held} bytes of {id}; the server has {} bytes, the machine {}",
        copy.len(),
        own.len()
    );
    true
}

/// Waits until the server has all of a journal, and has said so.
fn arrives(site: &Site, machine: &Machine, id: &SessionId, events: u64) {
    let dir = layout::session_dir(machine.state(), id);
    let servers = machine.member(|member| member.enrolment().servers.clone());
    let last = || -> Option<Receipt> {
        let text = fs::read(dir.join(RECEIPT_FILE)).ok()?;
        let envelope: Envelope = serde_json::from_slice(&text).ok()?;
        envelope.open(&servers).ok()
    };
    let is_closed = || last().is_some_and(|receipt| receipt.closed);
    assert!(
        wait::until_true(PATIENCE, is_closed),
        "{id}: {:?}\n{}\n{}",
        last(),
        fs::read_to_string(log(machine.state())).unwrap_or_default(),
        site.said()
    );
    let receipt = last().expect("a receipt");
    assert_eq!(receipt.events, events, "{id}");
    let own = fs::read(dir.join(layout::JOURNAL_FILE)).expect("a journal");
    let copy = fs::read(site.copy(&machine.node(), id)).expect("a copy");
    assert!(
        own == copy,
        "{id}: {} bytes, and a copy of {}",
        own.len(),
        copy.len()
    );
}

/// Verifies all records on both sides, with the public key of the machine.
fn verifies(site: &Site, own: &Path, copy: &Path) {
    let key = SigningKey::load(&own.join(layout::KEY_FILE)).expect("a key");
    let key = key.verifying_key().to_string();
    let verify = |state: &Path| {
        let run = Command::new(site.program())
            .args(["log", "verify", "--all", "--key", &key])
            .env("STOCKADE_STATE_DIR", state)
            .output();
        let output = run.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // The receipts are beside the journals of the machine alone.
        let verdicts = said.lines().filter(|line| !line.starts_with(' '));
        let mut verdicts: Vec<String> = verdicts.map(str::to_owned).collect();
        verdicts.sort();
        (output.status.code(), verdicts)
    };
    let begun = Instant::now();
    let (here, there) = (verify(own), verify(copy));
    assert_eq!(here.0, Some(0), "{here:?} after {:?}", begun.elapsed());
    assert_eq!(here, there, "both sides say the same");
}
