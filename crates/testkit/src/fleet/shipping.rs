//! Sessions of machines that write their journals at a rate and ship them, in the order and at the pace of
//! the real agent.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use stockade_api::limits::PIECE_BYTES_MAX;
use stockade_event::{Durability, Event};
use stockade_journal::{Entry, Journal, SigningKey, journal_bytes, layout, lines, now};
use stockade_node::{Answered, Here, HttpError, Next, Shipping};
use stockade_types::SessionId;
use tokio::task::{JoinSet, spawn_blocking};

use super::{
    Machine, Times,
    figures::Usage,
    machine::{lock, private},
    story::story,
};

/// How often a session writes.
const TICK: Duration = Duration::from_millis(50);
/// How often it signs.
const SIGNED: Duration = Duration::from_secs(1);
/// The level of compression, as the agent's.
const LEVEL: i32 = 1;
/// How long after its last event a session may take to be shipped whole.
const PATIENCE: Duration = Duration::from_mins(3);

/// What is counted while journals are shipped.
#[derive(Debug, Default)]
pub struct Meter {
    /// From sending a piece to its receipt, which holds.
    pub acks: Times,
    /// Events that were written.
    pub written: AtomicU64,
    /// Bytes that were written.
    pub bytes: AtomicU64,
    /// Bytes that were sent.
    pub sent: AtomicU64,
    /// Events for which there are receipts.
    pub held: AtomicU64,
    /// Pieces for which the server had no room.
    pub busy: AtomicU64,
    /// What went wrong.
    pub faults: std::sync::Mutex<Vec<String>>,
}

/// How a session writes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Events in a second.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
    /// After which the first one comes: sessions of a fleet do not begin together.
    pub after: Duration,
}

/// A session that runs.
struct Session {
    id: SessionId,
    dir: PathBuf,
    journal: Option<Journal>,
    story: Arc<Vec<Event>>,
    written: u64,
    _lock: File,
}

impl Session {
    fn begin(machine: &Machine, number: u64, story: Arc<Vec<Event>>) -> Self {
        let id = SessionId::from_random(number);
        let dir = layout::session_dir(machine.state(), &id);
        private(&dir);
        let lock = File::create(dir.join(layout::LOCK_FILE)).expect("a lock");
        lock.lock().expect("a lock");
        let key = SigningKey::load_or_create(&machine.state().join(layout::KEY_FILE));
        let journal = Journal::create(&dir, id.clone(), key.expect("a key"));
        Self {
            journal: Some(journal.expect("a journal")),
            id,
            dir,
            story,
            written: 0,
            _lock: lock,
        }
    }

    fn write(&mut self, events: u64) {
        let journal = self.journal.as_mut().expect("it has not ended");
        for _ in 0..events {
            let index = usize::try_from(self.written).expect("few") % self.story.len();
            let event = self.story.get(index).expect("a story");
            let entry = Entry {
                process: None,
                scope: None,
                cause: None,
                event,
            };
            let written = journal.append_all(now(), "supervisor", &[entry], Durability::Written);
            written.expect("the disk has room");
            self.written += 1;
        }
    }

    fn sign(&mut self) {
        let journal = self.journal.as_mut().expect("it has not ended");
        journal.checkpoint(now()).expect("the disk has room");
    }

    fn finish(&mut self) {
        let journal = self.journal.take().expect("it has not ended");
        journal.finish(now()).expect("the disk has room");
    }

    fn bytes(&self) -> u64 {
        journal_bytes(&self.dir).expect("a journal")
    }
}

/// Runs a session on a machine and ships its journal, until the server has all of it. Returns which one, and
/// where it is.
pub async fn ship(
    machine: Arc<Machine>,
    number: u64,
    plan: Plan,
    meter: Arc<Meter>,
) -> (SessionId, PathBuf) {
    tokio::time::sleep(plan.after).await;
    let mut session = Session::begin(&machine, number, Arc::new(story()));
    let begun = Instant::now();
    let (mut signed, mut due) = (begun, 0_u64);
    let mut shipper = Shipper::new(&machine, &session, &meter);
    loop {
        let lasted = begun.elapsed().min(plan.lasts);
        if session.journal.is_some() {
            let until = events(plan.rate, lasted);
            session.write(until.saturating_sub(due));
            due = until;
            if signed.elapsed() >= SIGNED {
                session.sign();
                signed = Instant::now();
            }
            if begun.elapsed() >= plan.lasts {
                session.finish();
                meter.written.fetch_add(session.written, Ordering::Relaxed);
                meter.bytes.fetch_add(session.bytes(), Ordering::Relaxed);
            }
        }
        let is_live = session.journal.is_some();
        shipper.go(session.bytes(), is_live);
        if !is_live && shipper.is_done() {
            break;
        }
        if begun.elapsed() > plan.lasts + PATIENCE {
            lock(&meter.faults).push(format!("{} was not shipped in time", session.id));
            break;
        }
        shipper.wait(TICK).await;
    }
    (session.id, session.dir)
}

/// Runs a session on each of some machines, numbered from `first` on; returns each with its machine's index.
pub async fn ship_all(
    machines: &[Arc<Machine>],
    first: u64,
    plan: Plan,
    meter: &Arc<Meter>,
) -> Vec<(usize, SessionId, PathBuf)> {
    let mut all = JoinSet::new();
    for (number, (index, machine)) in (first..).zip(machines.iter().enumerate()) {
        let shipped = ship(Arc::clone(machine), number, plan, Arc::clone(meter));
        all.spawn(async move {
            let (id, dir) = shipped.await;
            (index, id, dir)
        });
    }
    all.join_all().await
}

/// Writes a journal whole, and returns its session: what a machine has that was offline.
pub fn backlog(machine: &Machine, number: u64, events: u64, meter: &Meter) -> (SessionId, PathBuf) {
    let mut session = Session::begin(machine, number, Arc::new(story()));
    let mut left = events;
    while left > 0 {
        let some = left.min(500);
        session.write(some);
        session.sign();
        left -= some;
    }
    session.finish();
    meter.written.fetch_add(events, Ordering::Relaxed);
    meter.bytes.fetch_add(session.bytes(), Ordering::Relaxed);
    (session.id, session.dir)
}

/// Ships journals of a machine that have ended, until the server has all of them.
pub async fn ship_ended(
    machine: Arc<Machine>,
    ended: Vec<(SessionId, PathBuf)>,
    meter: Arc<Meter>,
) {
    let begun = Instant::now();
    let mut shipper = Shipper {
        machine,
        meter: Arc::clone(&meter),
        shipping: Shipping::default(),
        pieces: JoinSet::new(),
        sessions: ended,
        held: 0,
        held_bytes: 0,
    };
    for (id, dir) in shipper.sessions.clone() {
        let bytes = journal_bytes(&dir).expect("a journal");
        shipper.found(&id, bytes, false);
    }
    loop {
        shipper.send();
        if shipper.is_done() {
            return;
        }
        if begun.elapsed() > PATIENCE {
            lock(&meter.faults).push("a backlog was not shipped in time".to_owned());
            return;
        }
        shipper.wait(Duration::from_millis(500)).await;
    }
}

fn events(rate: f64, lasted: Duration) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and a run short"
    )]
    let events = (rate * lasted.as_secs_f64()) as u64;
    events
}

fn ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sends what the agent would send.
struct Shipper {
    machine: Arc<Machine>,
    meter: Arc<Meter>,
    shipping: Shipping,
    pieces: JoinSet<(SessionId, Came)>,
    sessions: Vec<(SessionId, PathBuf)>,
    /// The number of the last event for which there is a receipt, and up to which byte that is.
    held: u64,
    held_bytes: u64,
}

/// What came of a piece.
struct Came {
    answered: Answered,
    pace: Option<Duration>,
    events: u64,
}

impl Shipper {
    fn new(machine: &Arc<Machine>, session: &Session, meter: &Arc<Meter>) -> Self {
        Self {
            machine: Arc::clone(machine),
            meter: Arc::clone(meter),
            shipping: Shipping::default(),
            pieces: JoinSet::new(),
            sessions: vec![(session.id.clone(), session.dir.clone())],
            held: 0,
            held_bytes: 0,
        }
    }

    fn found(&mut self, id: &SessionId, bytes: u64, is_live: bool) {
        let here = Here {
            bytes,
            is_live,
            started: 0,
        };
        self.shipping.found(id, here, self.held_bytes);
    }

    fn go(&mut self, bytes: u64, is_live: bool) {
        if let Some((id, _)) = self.sessions.first().cloned() {
            self.found(&id, bytes, is_live);
        }
        self.send();
    }

    fn is_done(&self) -> bool {
        self.shipping.here().next().is_none() && self.pieces.is_empty()
    }

    fn send(&mut self) {
        while let Next::Send { session, from, .. } = self.shipping.next(ms()) {
            let dir = self.sessions.iter().find(|(id, _)| *id == session);
            let (_, dir) = dir.cloned().expect("a session of ours");
            let piece = piece(
                Arc::clone(&self.machine),
                session.clone(),
                dir,
                from,
                Arc::clone(&self.meter),
            );
            self.pieces.spawn(async move { (session, piece.await) });
        }
    }

    /// Waits for what comes, for as long.
    async fn wait(&mut self, patience: Duration) {
        let pause = tokio::time::sleep(patience);
        tokio::select! {
            Some(done) = self.pieces.join_next() => {
                let (session, came) = done.expect("a piece");
                if let Some(pace) = came.pace {
                    self.shipping.pace(u64::try_from(pace.as_millis()).unwrap_or(u64::MAX));
                }
                let new = came.events.saturating_sub(self.held);
                self.held = self.held.max(came.events);
                if self.sessions.len() == 1 {
                    if let Answered::Held(bytes) = came.answered {
                        self.held_bytes = self.held_bytes.max(bytes);
                    }
                    self.meter.held.fetch_add(new, Ordering::Relaxed);
                }
                if matches!(came.answered, Answered::Busy(_)) {
                    self.meter.busy.fetch_add(1, Ordering::Relaxed);
                }
                if let Answered::Refused(why) = &came.answered {
                    lock(&self.meter.faults).push(why.clone());
                }
                self.shipping.answered(&session, came.answered, ms());
            }
            () = pause => {}
        }
    }
}

/// Sends one piece, and checks its receipt.
async fn piece(
    machine: Arc<Machine>,
    session: SessionId,
    dir: PathBuf,
    from: u64,
    meter: Arc<Meter>,
) -> Came {
    let place = dir.clone();
    let packed = spawn_blocking(move || {
        let most = u64::try_from(PIECE_BYTES_MAX).unwrap_or(u64::MAX);
        let lines = lines(&place, from, most)?;
        if lines.bytes.is_empty() {
            return Ok(None);
        }
        zstd::bulk::compress(&lines.bytes, LEVEL).map(Some)
    });
    let nothing = |answered| Came {
        answered,
        pace: None,
        events: 0,
    };
    let packed: std::io::Result<Option<Vec<u8>>> = packed.await.expect("it reads");
    let Some(packed) = packed.expect("a journal") else {
        return nothing(Answered::Nothing);
    };
    let length = u64::try_from(packed.len()).unwrap_or(u64::MAX);
    let begun = Instant::now();
    match machine.connected().piece(&session, from, packed).await {
        Ok((envelope, pace)) => {
            let checked = machine.member(|member| member.check_receipt(&envelope, &session, &dir));
            match checked {
                Ok(receipt) => {
                    meter.acks.add(begun.elapsed());
                    meter.sent.fetch_add(length, Ordering::Relaxed);
                    Came {
                        answered: Answered::Held(receipt.offset),
                        pace,
                        events: receipt.events,
                    }
                }
                Err(error) => nothing(Answered::Refused(error.to_string())),
            }
        }
        Err(error) => nothing(refused(&error)),
    }
}

/// Says what a refusal means, as the agent does.
fn refused(error: &HttpError) -> Answered {
    let Some(problem) = error.problem() else {
        return Answered::Unknown;
    };
    match (problem.status, problem.expected) {
        (409, Some(expected)) => Answered::Expected(expected),
        (422, _) => Answered::Refused(error.to_string()),
        (429 | 503, _) => Answered::Busy(problem.retry_ms.unwrap_or(1_000)),
        _ => Answered::Unknown,
    }
}

/// Tells whether a journal and its copy are the same bytes.
pub fn is_same(own: &Path, copy: &Path) -> bool {
    let own = fs::read(own.join(layout::JOURNAL_FILE)).expect("a journal");
    fs::read(copy).is_ok_and(|copy| copy == own)
}

/// Returns what this process has used.
pub fn own_usage() -> Usage {
    Usage::of(std::process::id())
}
