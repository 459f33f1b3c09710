//! Shipping against a simulated server, with kills at every step.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stockade_api::node::Backlog;
use stockade_node::{Answered, BATCH_BYTES_MAX, Here, Next, Shipping};
use stockade_types::{SessionId, UnixMillis};

/// One line of a simulated journal: its number makes the bytes of each line unlike all others.
fn line(session: u8, number: usize) -> Vec<u8> {
    format!("{session}:{number}:{}\n", "x".repeat(number % 37)).into_bytes()
}

/// A journal on this machine.
#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    lines: usize,
    is_closed: bool,
    /// The beginning of a line is at its end.
    is_torn: bool,
}

/// What the server holds of a journal.
#[derive(Default)]
struct Held {
    /// On its disk.
    synced: Vec<u8>,
    /// The bytes that its receipts name.
    receipted: usize,
}

/// What goes wrong with one batch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fine,
    /// The server is killed before it has written anything.
    ServerBefore,
    /// It is killed once the bytes are on its disk, before its receipt is sent.
    ServerAfter,
    /// The agent is killed before it sends.
    AgentBefore,
    /// It is killed after the receipt came, before it is kept.
    AgentAfter,
    Busy,
}

#[derive(Clone, Debug)]
enum Step {
    Lines { session: u8, count: usize },
    Tear { session: u8 },
    Close { session: u8 },
    Ship(Fate),
    Wait(u16),
    Grows(usize),
}

/// The whole: journals and receipts survive the agent, evidence survives the server.
#[derive(Default)]
struct World {
    files: BTreeMap<u8, File>,
    receipts: BTreeMap<u8, u64>,
    server: BTreeMap<u8, Held>,
    agent: Shipping,
    is_connected: bool,
    now: u64,
    sent: usize,
    /// Lines that are written between a look at a journal and its reading.
    grows: usize,
}

fn id(session: u8) -> SessionId {
    SessionId::from_random(u64::from(session))
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}

impl World {
    fn scan(&mut self) {
        for (session, file) in &self.files {
            let here = Here {
                bytes: size(&file.bytes),
                is_live: !file.is_closed,
                started: u64::from(*session),
            };
            let held = self.receipts.get(session).copied().unwrap_or_default();
            assert!(self.agent.found(&id(*session), here, held));
        }
    }

    fn connect(&mut self) {
        if !self.is_connected {
            for session in self.files.keys() {
                let held = self
                    .server
                    .get(session)
                    .map_or(0, |held| size(&held.synced));
                self.agent.expected(&id(*session), held);
            }
            self.is_connected = true;
        }
    }

    fn kill_agent(&mut self) {
        self.agent = Shipping::default();
        self.is_connected = false;
    }

    fn kill_server(&mut self) {
        self.agent.disconnected();
        self.is_connected = false;
    }

    /// Does what is next; returns whether anything was.
    fn ship(&mut self, fate: Fate) -> bool {
        self.scan();
        self.connect();
        let (session, from, lacks_receipt) = match self.agent.next(self.now) {
            Next::Send {
                session,
                from,
                lacks_receipt,
            } => (session, from, lacks_receipt),
            Next::At(at) => {
                assert!(at > self.now, "it would spin");
                self.now = at;
                return true;
            }
            Next::Idle => return false,
        };
        let number = *self
            .files
            .keys()
            .find(|number| id(**number) == session)
            .unwrap();
        let start = usize::try_from(from).unwrap();
        // It grows after it was looked at, before it is read.
        if let Some(file) = self.files.get_mut(&number)
            && !file.is_closed
            && !file.is_torn
        {
            for _ in 0..self.grows {
                file.bytes.extend(line(number, file.lines));
                file.lines += 1;
            }
        }
        let rest = &self.files[&number].bytes[start..];
        let here = size(&self.files[&number].bytes);
        let whole = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let batch = rest[..whole].to_vec();
        if batch.is_empty() && !lacks_receipt {
            self.agent.answered(&session, Answered::Nothing, self.now);
            return true;
        }
        assert!(size(&batch) <= BATCH_BYTES_MAX);
        self.agent.seen(&session, here);
        match fate {
            Fate::AgentBefore => self.kill_agent(),
            Fate::ServerBefore => self.kill_server(),
            Fate::Busy => self.agent.answered(&session, Answered::Busy(500), self.now),
            Fate::Fine | Fate::ServerAfter | Fate::AgentAfter => {
                self.take(number, &session, start, &batch, fate);
            }
        }
        true
    }

    fn take(&mut self, number: u8, session: &SessionId, start: usize, batch: &[u8], fate: Fate) {
        let held = self.server.entry(number).or_default();
        if start != held.synced.len() {
            let expected = Answered::Expected(size(&held.synced));
            self.agent.answered(session, expected, self.now);
            return;
        }
        held.synced.extend_from_slice(batch);
        self.sent += batch.len();
        let offset = size(&held.synced);
        match fate {
            Fate::ServerAfter => self.kill_server(),
            Fate::AgentAfter => {
                held.receipted = held.synced.len();
                self.kill_agent();
            }
            _ => {
                held.receipted = held.synced.len();
                self.receipts.insert(number, offset);
                self.agent
                    .answered(session, Answered::Held(offset), self.now);
            }
        }
    }

    /// What must hold at every moment.
    fn check(&self) {
        for (session, held) in &self.server {
            let file = &self.files[session];
            assert!(file.bytes.starts_with(&held.synced), "a gap or a duplicate");
            assert!(
                held.receipted <= held.synced.len(),
                "a receipt before the sync"
            );
            let receipt = self.receipts.get(session).copied().unwrap_or_default();
            assert!(usize::try_from(receipt).unwrap() <= held.synced.len());
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Lines { session, count } => {
                let file = self.files.entry(*session).or_default();
                if file.is_closed || file.is_torn {
                    return;
                }
                for _ in 0..*count {
                    file.bytes.extend(line(*session, file.lines));
                    file.lines += 1;
                }
            }
            Step::Tear { session } => {
                let file = self.files.entry(*session).or_default();
                if !file.is_closed && !file.is_torn {
                    file.bytes.extend_from_slice(b"{\"torn");
                    file.is_torn = true;
                }
            }
            Step::Close { session } => {
                self.files.entry(*session).or_default().is_closed = true;
            }
            Step::Ship(fate) => {
                self.ship(*fate);
            }
            Step::Wait(ms) => self.now += u64::from(*ms),
            Step::Grows(lines) => self.grows = *lines,
        }
        self.check();
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = 0..5_u8;
    let fate = prop_oneof![
        4 => Just(Fate::Fine),
        1 => Just(Fate::ServerBefore),
        1 => Just(Fate::ServerAfter),
        1 => Just(Fate::AgentBefore),
        1 => Just(Fate::AgentAfter),
        1 => Just(Fate::Busy),
    ];
    let step = prop_oneof![
        4 => (session.clone(), 1..20_usize)
            .prop_map(|(session, count)| Step::Lines { session, count }),
        1 => session.clone().prop_map(|session| Step::Tear { session }),
        1 => session.prop_map(|session| Step::Close { session }),
        8 => fate.prop_map(Step::Ship),
        1 => (0..2_000_u16).prop_map(Step::Wait),
        1 => (0..4_usize).prop_map(Step::Grows),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_kill_loses_doubles_or_reorders_a_line(steps in steps()) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        world.grows = 0;
        let mut steps_left = 1_000;
        while world.ship(Fate::Fine) {
            world.check();
            steps_left -= 1;
            prop_assert!(steps_left > 0, "it never comes to an end");
        }
        for (session, file) in &world.files {
            let whole = file.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let held = world.server.get(session).map_or(&[][..], |held| &held.synced);
            prop_assert_eq!(held, &file.bytes[..whole]);
        }
        // No byte went twice into the record of the server, and none was written that is not there.
        let all: usize = world.server.values().map(|held| held.synced.len()).sum();
        prop_assert_eq!(world.sent, all);
        prop_assert_eq!(world.agent.stopped().count(), 0);
        // For all that the server holds there is a receipt here.
        for (session, held) in &world.server {
            let receipt = world.receipts.get(session).copied().unwrap_or_default();
            prop_assert_eq!(receipt, size(&held.synced));
        }
    }
}

fn here(bytes: u64, is_live: bool, started: u64) -> Here {
    Here {
        bytes,
        is_live,
        started,
    }
}

fn send(session: u8, from: u64) -> Next {
    Next::Send {
        session: id(session),
        from,
        lacks_receipt: false,
    }
}

#[test]
fn a_backlog_keeps_no_running_session_waiting() {
    let mut shipping = Shipping::default();
    for old in 1..=3 {
        shipping.found(&id(old), here(9_000_000, false, u64::from(old)), 0);
    }
    shipping.found(&id(9), here(500, true, 100), 0);
    assert_eq!(shipping.next(1_000), send(9, 0));
    // One place is for the backlog, its oldest first; the other is left for what runs.
    assert_eq!(shipping.next(1_000), send(1, 0));
    shipping.answered(&id(9), Answered::Held(500), 1_010);
    assert_eq!(shipping.next(1_010), Next::Idle);
    shipping.found(&id(9), here(700, true, 100), 0);
    assert_eq!(shipping.next(1_020), Next::At(1_200), "lines are collected");
    shipping.found(&id(9), here(700_000, true, 100), 0);
    assert_eq!(shipping.next(1_020), send(9, 500), "but not for long");
}

#[test]
fn a_server_has_running_sessions_collect_lines_for_longer_within_bounds() {
    let mut shipping = Shipping::default();
    shipping.found(&id(1), here(100, true, 0), 0);
    let mut now = 1_000_000;
    let mut held = 100;
    for (asked, waits) in [(0, 200), (700, 700), (u64::MAX, 2_000)] {
        assert_eq!(shipping.next(now), send(1, held - 100));
        shipping.pace(asked);
        shipping.answered(&id(1), Answered::Held(held), now);
        held += 100;
        shipping.found(&id(1), here(held, true, 0), 0);
        assert_eq!(shipping.next(now + 1), Next::At(now + waits), "{asked}");
        now += waits;
    }
}

#[test]
fn what_the_server_lacks_has_an_age() {
    let mut shipping = Shipping::default();
    assert_eq!(shipping.backlog(1_000), Backlog::default());
    shipping.found(&id(1), here(400, true, 0), 0);
    shipping.found(&id(2), here(90, false, 0), 40);
    let first = shipping.backlog(1_000);
    assert_eq!((first.bytes, first.oldest), (450, Some(UnixMillis(1_000))));
    assert_eq!(
        shipping.backlog(5_000),
        first,
        "it waits for as long as it waits"
    );
    assert!(matches!(shipping.next(5_000), Next::Send { .. }));
    assert!(matches!(shipping.next(5_000), Next::Send { .. }));
    shipping.answered(&id(1), Answered::Held(400), 5_100);
    shipping.found(&id(1), here(410, true, 0), 0);
    shipping.answered(&id(2), Answered::Unknown, 5_100);
    let then = shipping.backlog(6_000);
    assert_eq!((then.bytes, then.oldest), (60, Some(UnixMillis(1_000))));
    shipping.answered(&id(2), Answered::Held(90), 6_100);
    assert_eq!(shipping.backlog(7_000).oldest, Some(UnixMillis(6_000)));
}

#[test]
fn a_journal_that_is_shorter_than_what_the_server_holds_is_not_continued() {
    let mut shipping = Shipping::default();
    shipping.found(&id(1), here(400, true, 0), 0);
    shipping.expected(&id(1), 900);
    assert_eq!(shipping.next(0), Next::Idle);
    assert_eq!(shipping.stopped().count(), 1);
    // It grows past that place: it is still another journal than the one that the server holds.
    shipping.found(&id(1), here(1_400, true, 0), 0);
    assert_eq!(shipping.next(10_000), Next::Idle);
    // The others go on.
    shipping.found(&id(2), here(400, true, 0), 0);
    assert_eq!(shipping.next(10_000), send(2, 0));
}

#[test]
fn a_refusal_stops_one_journal_and_a_restored_server_gets_all_again() {
    let mut shipping = Shipping::default();
    shipping.found(&id(1), here(400, true, 0), 0);
    shipping.found(&id(2), here(400, false, 0), 0);
    assert_eq!(shipping.next(1_000), send(1, 0));
    shipping.answered(
        &id(1),
        Answered::Refused("line 3: changed".to_owned()),
        1_000,
    );
    assert_eq!(shipping.next(1_000), send(2, 0));
    shipping.answered(&id(2), Answered::Expected(100), 1_000);
    assert_eq!(
        shipping.next(1_000),
        Next::At(1_200),
        "a server that changes its mind makes no loop"
    );
    let lacks_receipt = Next::Send {
        session: id(2),
        from: 100,
        lacks_receipt: true,
    };
    assert_eq!(shipping.next(1_200), lacks_receipt);
    shipping.answered(&id(2), Answered::Held(400), 1_200);
    assert_eq!(shipping.next(90_000), Next::Idle);
    shipping.expected(&id(1), 0);
    assert_eq!(shipping.next(90_000), send(1, 0));
    // The server lost what it had given a receipt for.
    shipping.found(&id(3), here(400, true, 0), 0);
    assert_eq!(shipping.next(90_000), send(3, 0));
    shipping.answered(&id(3), Answered::Held(400), 90_000);
    shipping.expected(&id(3), 100);
    shipping.found(&id(3), here(400, false, 0), 0);
    assert_eq!(shipping.next(95_000), send(3, 100));
}

#[test]
fn a_server_cannot_put_off_for_longer_than_a_minute() {
    let mut shipping = Shipping::default();
    shipping.found(&id(1), here(400, false, 0), 0);
    assert_eq!(shipping.next(0), send(1, 0));
    shipping.answered(&id(1), Answered::Busy(u64::MAX), 1_000);
    assert_eq!(shipping.next(1_000), Next::At(61_000));
    assert_eq!(shipping.next(61_000), send(1, 0));
}
