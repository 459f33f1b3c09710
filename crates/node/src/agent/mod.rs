//! The running agent: one connection to the server, and everything that goes over it.

mod connected;
mod flush;
mod orders;
mod pieces;
mod questions;
mod statements;
mod status;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use stockade_api::node::{Backlog, Facts};
use stockade_types::{SessionId, UnixMillis, chain};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use crate::{
    backoff::{Backoff, within},
    clock::now,
    connecting::connection,
    files::{self, FileError},
    http::{HttpError, Server},
    identity::{Certificate, Enrolment, NodeKey, Places},
    runtime::block_on,
    scan::Scanner,
    shipping::Shipping,
    tls::TlsError,
    trust::{Trust, TrustError},
};

use connected::Lost;
pub use flush::flush;
use questions::Questions;
pub use status::{Link, Status, status};

/// How often the sessions of the user are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long an agent may take to end.
const STOP_PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Why the agent does not run, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The machine is not enrolled.
    #[error("this machine belongs to no organisation; enrol it by `stockade enrol TOKEN`")]
    NotEnrolled,
    /// Another agent runs.
    #[error("an agent of this machine runs; `stockade node stop` ends it")]
    Running,
    /// The agent that runs could not be ended.
    #[error("the agent has not ended: {0}")]
    NotEnded(String),
    /// The server does not know the machine any more.
    #[error(
        "this machine does not belong to `{0}` any more: an administrator has retired it; `stockade node leave` removes what is left here"
    )]
    Retired(String),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is pinned here cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The runtime of the agent could not be started.
    #[error("cannot start the agent")]
    Runtime(#[source] io::Error),
    /// The address of the server is none.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// What the agent tells the person who has started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It is connected.
    Connected {
        /// Where.
        url: String,
        /// Under which name.
        name: String,
    },
    /// It is not, and tries again.
    Lost {
        /// Why.
        why: String,
        /// After how long.
        again: Duration,
    },
    /// A journal is not sent any more.
    Stopped {
        /// Whose.
        session: SessionId,
        /// Why.
        why: String,
    },
    /// A session was ended by an order.
    Ordered {
        /// Which.
        session: SessionId,
        /// Who gave it.
        by: String,
    },
    /// A bundle of policy is here; sessions from now on run under it.
    Bundle {
        /// Its channel.
        channel: String,
        /// Its serial.
        serial: u64,
    },
    /// Something that the server said is not done.
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// What is told of what happens.
pub type Tell = Arc<dyn Fn(&Note) + Send + Sync>;

/// How the agent runs.
pub struct Options {
    /// The state directory.
    pub state: PathBuf,
    /// What the machine says about itself.
    pub facts: Facts,
    /// Told what happens.
    pub tell: Tell,
}

/// The agent.
pub(crate) struct Agent {
    places: Places,
    enrolment: Enrolment,
    key: NodeKey,
    certificate: Certificate,
    facts: Facts,
    tell: Tell,
    scanner: Scanner,
    shipping: Shipping,
    /// What the server was told that it does not hold yet.
    backlog_told: Backlog,
    orders: orders::Orders,
    questions: Questions,
    trust: Trust,
    status: Status,
    _lock: File,
}

/// Runs the agent until a signal ends it (`SIGINT`, `SIGTERM`, `SIGHUP`). Blocks.
///
/// # Errors
/// When the machine is not enrolled, was retired, or another agent runs. What is wrong with the connection
/// is told, and tried again.
pub fn run(options: Options) -> Result<(), AgentError> {
    run_until(options, signalled())
}

/// Runs the agent until `end` is ready, as [`run`] does. Blocks.
///
/// # Errors
/// As [`run`], and the error of `end`.
pub fn run_until(
    options: Options,
    end: impl Future<Output = io::Result<()>>,
) -> Result<(), AgentError> {
    let agent = Agent::open(options)?;
    let ended = async {
        tokio::select! {
            ended = agent.run() => ended,
            ended = end => ended.map_err(AgentError::Runtime),
        }
    };
    block_on(ended).map_err(AgentError::Runtime)?
}

/// Waits for a signal that ends the agent.
async fn signalled() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

impl Agent {
    /// Connects again and again.
    async fn run(mut self) -> Result<(), AgentError> {
        let mut backoff = Backoff::default();
        loop {
            let lost = self.connect(&mut backoff).await;
            self.shipping.disconnected();
            self.questions.disconnected();
            let again = match lost {
                Lost::Retired => return Err(AgentError::Retired(self.enrolment.org)),
                Lost::File(error) => return Err(error.into()),
                Lost::Restarting(spread_ms) => within(spread_ms, random()),
                Lost::Tls(_) | Lost::Http(_) => backoff.next(random()),
            };
            self.told_lost(&lost, again)?;
            sleep(again).await;
        }
    }
}

impl Agent {
    fn open(options: Options) -> Result<Self, AgentError> {
        let places = Places::new(&options.state);
        let enrolment = Enrolment::read(&places)?.ok_or(AgentError::NotEnrolled)?;
        let lock = files::lock(&places.lock())?.ok_or(AgentError::Running)?;
        let key = NodeKey::read(&places)?.ok_or(AgentError::NotEnrolled)?;
        let certificate: Option<Certificate> = files::read_json(&places.certificate())?;
        let trust = Trust::read(&places)?;
        Ok(Self {
            scanner: Scanner::new(&options.state, enrolment.since, enrolment.servers.clone()),
            certificate: certificate.ok_or(AgentError::NotEnrolled)?,
            status: Status::new(&enrolment, now()),
            places,
            enrolment,
            key,
            facts: options.facts,
            tell: options.tell,
            shipping: Shipping::default(),
            backlog_told: Backlog::default(),
            orders: orders::Orders::default(),
            questions: Questions::new(),
            trust,
            _lock: lock,
        })
    }

    /// Connects, and stays connected as long as that goes.
    async fn connect(&mut self, backoff: &mut Backoff) -> Lost {
        let opened = async {
            if self.certificate.is_over(now()) {
                let server = Server::parse(&self.enrolment.url)?;
                self.renew_expired(&server).await?;
            }
            connection(&self.enrolment, &self.certificate, &self.key).await
        };
        match opened.await {
            Ok(connection) => match self.connected(&connection, backoff).await {
                Ok(never) => match never {},
                Err(lost) => lost,
            },
            Err(lost) => lost,
        }
    }

    fn told_lost(&mut self, lost: &Lost, again: Duration) -> Result<(), FileError> {
        let why = lost.in_words();
        (self.tell)(&Note::Lost {
            why: why.clone(),
            again,
        });
        self.status.link = Link::Lost {
            since: self.lost_since(),
            why,
        };
        self.status.write(&self.places, &self.shipping, now())
    }

    /// Returns since when there is no connection.
    fn lost_since(&self) -> UnixMillis {
        match &self.status.link {
            Link::Lost { since, .. } => *since,
            Link::Connected { .. } | Link::Starting => now(),
        }
    }

    fn session_dir(&self, session: &SessionId) -> PathBuf {
        stockade_journal::layout::session_dir(self.places.state(), session)
    }

    fn refused(&self, what: &'static str, why: impl Into<String>) {
        let why = why.into();
        (self.tell)(&Note::Refused { what, why });
    }
}

/// Ends the agent that runs. Returns whether there was one. Blocks until it has ended.
///
/// # Errors
/// When it cannot be found, or does not end.
pub fn stop(state: &Path) -> Result<bool, AgentError> {
    let lock = Places::new(state).lock();
    let Some(process) = files::locked_by(&lock)? else {
        return Ok(false);
    };
    let ended = |error: Errno| AgentError::NotEnded(error.to_string());
    let agent = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(agent) => agent,
        Err(Errno::SRCH) => return Ok(true),
        Err(error) => return Err(ended(error)),
    };
    // Held open, the id is its own; with the lock it is still the agent's.
    if files::locked_by(&lock)? != Some(process) {
        return Ok(true);
    }
    match pidfd_send_signal(&agent, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(ended(error)),
    }
    let mut over = [PollFd::new(&agent, PollFlags::IN)];
    match poll(&mut over, Some(&STOP_PATIENCE)) {
        Ok(0) => Err(AgentError::NotEnded(format!(
            "process {} has had 10 seconds",
            process.as_raw_nonzero()
        ))),
        Ok(_) => Ok(true),
        Err(error) => Err(ended(error)),
    }
}

/// Returns any number; a clock is random enough to spread machines if the kernel gives none.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| now().0)
}

/// Removes what the machine has pinned, and its key.
///
/// # Errors
/// When an agent runs, or a file cannot be removed.
fn forget(state: &Path) -> Result<(), AgentError> {
    let places = Places::new(state);
    if Enrolment::read(&places)?.is_none() {
        return Err(AgentError::NotEnrolled);
    }
    let _lock = files::lock(&places.lock())?.ok_or(AgentError::Running)?;
    Trust::forget(&places)?;
    // Then the enrolment: without it nothing else counts.
    files::remove(&places.enrolment())?;
    files::remove(&places.certificate())?;
    files::remove(&places.key())?;
    Ok(files::remove(&places.status())?)
}

/// Tells the server that the machine leaves, and removes what it has pinned. Returns why the server was
/// not told, if it was not. Blocks.
///
/// # Errors
/// As [`forget`].
pub fn leave(state: &Path) -> Result<Option<String>, AgentError> {
    let places = Places::new(state);
    let enrolment = Enrolment::read(&places)?.ok_or(AgentError::NotEnrolled)?;
    if files::is_locked(&places.lock()) {
        return Err(AgentError::Running);
    }
    let told = async {
        let key = NodeKey::read(&places)?.ok_or(AgentError::NotEnrolled)?;
        let certificate: Option<Certificate> = files::read_json(&places.certificate())?;
        let certificate = certificate.ok_or(AgentError::NotEnrolled)?;
        let connection: Result<_, AgentError> = connection(&enrolment, &certificate, &key).await;
        let connection = connection?;
        connection
            .ask(hyper::Method::POST, "/node/v1/leave")
            .await?;
        Ok::<(), AgentError>(())
    };
    let told = block_on(told).map_err(AgentError::Runtime)?;
    let not_told = told.err().map(|error| chain(&error));
    forget(state)?;
    Ok(not_told)
}
