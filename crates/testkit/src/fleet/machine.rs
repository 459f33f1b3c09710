//! Machines: enrolled with tokens of the server, each with a state directory, all in one process.

use std::{
    collections::HashMap,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use stockade_api::{
    EnrolToken,
    node::{Ack, AckState, Answered, BundleHere, Down, Facts, Hello, Install},
};
use stockade_journal::{SigningKey, layout};
use stockade_node::{Connected, DownStream, Enrol, Member, enrol};
use stockade_trust::Grant;
use stockade_types::ApprovalId;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::Times;

/// Threads that enrol machines: each waits for the server.
const ENROLLING: usize = 8;

/// Machines of an organisation.
pub struct Fleet {
    /// They.
    pub machines: Vec<Arc<Machine>>,
    _dir: TempDir,
}

/// A machine.
pub struct Machine {
    state: PathBuf,
    member: Mutex<Member>,
    live: Mutex<Option<Live>>,
}

struct Live {
    connected: Connected,
    reading: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// What machines have heard.
#[derive(Debug, Default)]
pub struct Seen {
    /// When the answer to a question came; a grant is one that the server has signed for that question.
    answers: Mutex<HashMap<ApprovalId, Instant>>,
    /// When a machine had stored a bundle and said so, since the time that [`Seen::expect_bundle`] was told.
    bundles: Times,
    since: Mutex<Option<Instant>>,
    /// What machines did not believe.
    refused: Mutex<Vec<String>>,
}

impl Fleet {
    /// Enrols machines, below a directory in memory if there is one.
    pub fn enrol(tokens: &[EnrolToken]) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let dir = dir.expect("a directory");
        let each = tokens.len().div_ceil(ENROLLING).max(1);
        let root = dir.path();
        let machines = thread::scope(|scope| {
            let threads = tokens.chunks(each).enumerate().map(|(part, tokens)| {
                scope.spawn(move || {
                    let numbered = tokens.iter().enumerate();
                    let made = numbered.map(|(number, token)| {
                        Arc::new(Machine::enrol(
                            &root.join(format!("{part}-{number}")),
                            token,
                        ))
                    });
                    made.collect::<Vec<_>>()
                })
            });
            let threads: Vec<_> = threads.collect();
            let made = threads.into_iter().map(|one| one.join().expect("machines"));
            made.flatten().collect()
        });
        Self {
            machines,
            _dir: dir,
        }
    }

    /// Ends all connections.
    pub fn disconnect(&self) {
        for machine in &self.machines {
            *lock(&machine.live) = None;
        }
    }
}

impl Machine {
    /// Enrols a machine whose state directory is made.
    pub fn enrol(state: &Path, token: &EnrolToken) -> Self {
        private(&state.join(layout::SESSIONS_DIR));
        let key = SigningKey::load_or_create(&state.join(layout::KEY_FILE)).expect("a key");
        let enrolled = enrol(Enrol {
            state,
            token,
            url: None,
            name: state.file_name().map_or_else(String::new, |name| {
                format!("machine-{}", name.to_string_lossy())
            }),
            facts: facts(),
            journal_key: key.verifying_key().to_string(),
            install: Install::User,
        });
        if let Err(error) = enrolled {
            panic!("{}", stockade_types::chain(&error));
        }
        Self {
            member: Mutex::new(Member::open(state).expect("it is enrolled")),
            state: state.to_owned(),
            live: Mutex::new(None),
        }
    }

    /// Returns its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Asks what it has pinned.
    pub(super) fn member<T>(&self, ask: impl FnOnce(&mut Member) -> T) -> T {
        ask(&mut lock(&self.member))
    }

    /// Returns which machine it is, for the server.
    pub fn node(&self) -> stockade_api::NodeId {
        self.member(|member| member.enrolment().node.clone())
    }

    /// Returns the time, as it says it.
    pub fn now(&self) -> stockade_types::UnixMillis {
        self.member(|member| member.now())
    }

    /// Returns its connection.
    pub fn connected(&self) -> Connected {
        let live = lock(&self.live);
        live.as_ref().expect("it is connected").connected.clone()
    }

    /// Connects, says what is here, takes the bundle and acknowledges it, and opens the stream, as the agent
    /// does.
    ///
    /// # Errors
    /// When one of these is refused.
    pub async fn connect(self: &Arc<Self>, seen: &Arc<Seen>) -> Result<(), String> {
        let failed = |error: &dyn std::error::Error| error.to_string();
        // A copy of its own, which it does not have to hold while it waits.
        let member = Member::open(&self.state).map_err(|error| failed(&error))?;
        let connected = member.connect().await;
        let connected = connected.map_err(|error| stockade_types::chain(&error))?;
        let (bundle, directory_serial) = member.has();
        let hello = Hello {
            facts: facts(),
            sessions: Vec::new(),
            bundle,
            directory_serial,
            now: member.now(),
        };
        let answer = connected
            .hello(&hello)
            .await
            .map_err(|error| failed(&error))?;
        if let Some(directory) = &answer.directory {
            let taken = self.member(|member| member.take_directory(directory));
            taken.map_err(|error| failed(&error))?;
        }
        if let Some(bundle) = &answer.bundle {
            let taken = self.member(|member| member.take_bundle(bundle));
            let taken = taken.map_err(|error| failed(&error))?;
            let said = connected.acknowledge(&stored(taken)).await;
            said.map_err(|error| failed(&error))?;
        }
        let down = connected.stream().await.map_err(|error| failed(&error))?;
        let reading = Arc::clone(self).read(down, connected.clone(), Arc::clone(seen));
        let reading = tokio::spawn(reading);
        *lock(&self.live) = Some(Live { connected, reading });
        Ok(())
    }

    /// Does what the server says.
    async fn read(self: Arc<Self>, mut down: DownStream, connected: Connected, seen: Arc<Seen>) {
        while let Ok(message) = down.next().await {
            match message {
                Down::Bundle { envelope } => {
                    let taken = self.member(|member| member.take_bundle(&envelope));
                    match taken {
                        Ok(here) => {
                            if connected.acknowledge(&stored(here)).await.is_ok() {
                                seen.stored();
                            }
                        }
                        Err(error) => seen.refuse(&error),
                    }
                }
                Down::Directory { envelope } => {
                    let taken = self.member(|member| member.take_directory(&envelope));
                    if let Err(error) = taken {
                        seen.refuse(&error);
                    }
                }
                Down::Answer {
                    approval, answer, ..
                } => self.answered(approval, &answer, &seen),
                Down::Heartbeat { .. }
                | Down::Case { .. }
                | Down::Order { .. }
                | Down::Resync { .. }
                | Down::Restarting { .. }
                | Down::Pointer { .. }
                | Down::Membership { .. }
                | Down::Unknown
                | Down::Retired => {}
            }
        }
    }

    fn answered(&self, approval: ApprovalId, answer: &Answered, seen: &Seen) {
        if let Answered::Granted { envelope } = answer {
            let servers = self.member(|member| member.enrolment().servers.clone());
            match envelope.open::<Grant>(&servers) {
                Ok(grant) if grant.approval == approval => {}
                Ok(_) => seen.refuse(&"a grant for another question"),
                Err(error) => seen.refuse(&error),
            }
        }
        lock(&seen.answers).insert(approval, Instant::now());
    }
}

impl Seen {
    /// Returns when the answer to a question came.
    pub fn answer(&self, approval: &ApprovalId) -> Option<Instant> {
        lock(&self.answers).get(approval).copied()
    }

    /// Counts bundles from now on.
    pub fn expect_bundle(&self) {
        *lock(&self.since) = Some(Instant::now());
    }

    /// Returns how long bundles took to be stored.
    pub const fn bundles(&self) -> &Times {
        &self.bundles
    }

    /// Returns what machines did not believe.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.refused).clone()
    }

    fn stored(&self) {
        if let Some(since) = *lock(&self.since) {
            self.bundles.add(since.elapsed());
        }
    }

    fn refuse(&self, why: &dyn std::fmt::Display) {
        lock(&self.refused).push(why.to_string());
    }
}

fn stored(here: BundleHere) -> Ack {
    Ack {
        channel: here.channel,
        serial: here.serial,
        state: AckState::Stored,
        error: None,
        session: None,
        rollout: None,
    }
}

fn facts() -> Facts {
    Facts {
        version: "0.1.0".to_owned(),
        kernel: "6.18".to_owned(),
        hostname: "machine".to_owned(),
        tiers: vec!["native".to_owned()],
        guarantees_missing: Vec::new(),
    }
}

/// Makes a directory, and those above it, for its owner alone.
pub(super) fn private(dir: &Path) {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.expect("a directory");
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
