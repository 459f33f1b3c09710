//! How the server begins and ends.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stockade_api::node::Down;
use stockade_types::{UnixMillis, ignored};
use tokio::sync::{RwLock, Semaphore, watch};

use crate::{
    ControlError, Server,
    act::{Act, Action},
    authority::{Authority, ServerCertificate},
    clock::now,
    data::{DataDir, Running},
    evidence::{Evidence, RealDisk},
    following::Following,
    hub::Hub,
    index::Index,
    intake::Intake,
    keys::SigningKeys,
    known::{Senders, Tips},
    listen::{self, Listening},
    machine,
    metrics::Metrics,
    oidc,
    outbound::Outbounds,
    record::Record,
    samples::Samples,
    server::Report,
    state::State,
    stories::Stories,
    summaries::Summaries,
    turns::{Allowance, Turns},
    web,
};

/// How long a server that ends waits for requests that are under way.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Within which time machines connect again after the server has ended.
const RESTART_SPREAD_MS: u64 = 10_000;
/// How often questions are looked at that nobody answers.
const EXPIRY: Duration = Duration::from_secs(1);
/// Enrolments that were refused and are noted in a minute.
const REFUSALS_PER_MINUTE: u32 = 60;
/// Connections that the kernel holds until they are accepted.
const PENDING_MAX: i32 = 4_096;
/// How often machines of jobs are looked at.
const RETIRING: Duration = Duration::from_mins(5);
/// How often certificates are looked at.
const RENEWAL: Duration = Duration::from_hours(1);

/// What differs from the settings.
#[derive(Default)]
pub struct Options {
    /// Where pages are served.
    pub listen: Option<SocketAddr>,
    /// Where machines are served.
    pub node_listen: Option<SocketAddr>,
    /// The certificate for pages and its key, PEM; without it the server's own authority vouches for them.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Takes what fails while the server runs on.
    pub report: Option<Report>,
}

/// Serves the directory `path` until `stop` is ready; calls `ready` once it listens.
///
/// # Errors
/// When there is no server in the directory, another one runs, or an address cannot be listened on.
pub async fn serve(
    path: &Path,
    options: Options,
    ready: impl FnOnce(&Arc<Server>),
    stop: impl Future<Output = ()>,
) -> Result<(), ControlError> {
    let (data, settings) = DataDir::open(path)?;
    let lease = data.lease()?;
    let web = bind(options.listen.unwrap_or(settings.listen))?;
    let node = bind(options.node_listen.unwrap_or(settings.node_listen))?;
    let running = Running {
        web: web.1,
        node: node.1,
    };
    let keys = SigningKeys::load(&data.keys_path())?;
    let authority = Arc::new(Authority::load(&data.keys_path(), &settings.org)?);
    let state = State::open(&data.state_path(), &settings.org).await?;
    let index = Index::open(&data.index_path()).await?;
    let oidc = oidc::open(&data.keys_path()).await?;
    data.note_running(&running)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let server = Arc::new(Server {
        party: settings.party(running.web.port()),
        data,
        settings,
        state,
        index,
        hub: Hub::default(),
        keys,
        authority,
        running,
        gate: Arc::new(Semaphore::new(cores)),
        intake: Arc::new(Intake::new(cores)),
        evidence: Evidence::new(Box::new(RealDisk)),
        tips: Tips::default(),
        senders: Senders::default(),
        following: Following::default(),
        known_directory: RwLock::default(),
        metrics: Metrics::default(),
        turns: Turns::default(),
        summaries: Summaries::default(),
        samples: Samples::default(),
        stories: Stories::default(),
        refusals: Allowance::new(REFUSALS_PER_MINUTE),
        receivers: Outbounds::default(),
        oidc,
        issuers: oidc::Issuers::default(),
        report: options.report,
        over: watch::Sender::new(false),
        _lease: lease,
    });
    server
        .run(web.0, node.0, options.certificate, ready, stop)
        .await
}

impl Server {
    async fn run(
        self: Arc<Self>,
        web: TcpListener,
        node: TcpListener,
        certificate: Option<(PathBuf, PathBuf)>,
        ready: impl FnOnce(&Arc<Self>),
        stop: impl Future<Output = ()>,
    ) -> Result<(), ControlError> {
        self.establish().await?;
        self.begin().await?;
        let own = ServerCertificate::new(Arc::clone(&self.authority), &self.settings.host)?;
        let own = Arc::new(own);
        let node_tls = listen::node_tls(&self.authority, Arc::clone(&own))?;
        let web_tls = listen::web_tls(&self.authority, Arc::clone(&own), certificate)?;
        let machines = Listening::start(node, node_tls, machine::router(Arc::clone(&self)))?;
        let pages = Listening::start(web, web_tls, web::router(Arc::clone(&self)))?;
        let expiry = tokio::spawn(Arc::clone(&self).keep_expiring());
        let rolling = tokio::spawn(Arc::clone(&self).keep_rolling());
        let indexing = tokio::spawn(Arc::clone(&self).keep_index());
        let retiring = tokio::spawn(Arc::clone(&self).keep_retiring());
        let notifying = tokio::spawn(Arc::clone(&self).keep_notifying());
        let renewal = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(RENEWAL);
            loop {
                ticks.tick().await;
                ignored(own.renew(), "the old one is valid for as long again");
            }
        });
        let summaries = tokio::spawn(Arc::clone(&self).keep_summaries());
        let record = self.record(Record::create(&self.data)?).await?;
        let recording = tokio::spawn(Arc::clone(&self).keep_record(record));
        ready(&self);
        let mut over = self.ended();
        tokio::select! {
            () = stop => {}
            _ = over.wait_for(|over| *over) => {}
        }
        self.hub.send_all(&Down::Restarting {
            spread_ms: RESTART_SPREAD_MS,
        });
        for node in self.hub.connected() {
            self.hub.hang_up(&node);
        }
        renewal.abort();
        expiry.abort();
        summaries.abort();
        rolling.abort();
        indexing.abort();
        retiring.abort();
        // What is under way is told again after the next start.
        notifying.abort();
        tokio::join!(machines.end(END_PATIENCE), pages.end(END_PATIENCE));
        self.end();
        let ended = match recording.await {
            Ok(recorded) => recorded.and_then(Record::finish),
            Err(error) => Err(ControlError::Work(error.to_string())),
        };
        ignored(
            indexing.await,
            "the index is made of the journals, and goes on from where it stopped",
        );
        self.index.close().await;
        self.state.close().await;
        ended
    }

    /// Ends questions in time.
    async fn keep_expiring(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(EXPIRY);
        loop {
            ticks.tick().await;
            for done in [
                self.expire().await,
                self.escalate().await,
                self.remind().await,
            ] {
                if let Err(error) = done {
                    self.failed(&error);
                }
            }
        }
    }

    /// Retires machines of jobs that are over.
    async fn keep_retiring(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(RETIRING);
        loop {
            ticks.tick().await;
            if let Err(error) = self.retire_jobs(now()).await {
                self.failed(&error);
            }
        }
    }

    /// Retires machines of jobs whose certificates are over at this time.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn retire_jobs(&self, now: UnixMillis) -> Result<(), ControlError> {
        for node in self.state.jobs_that_are_over(now).await? {
            self.retire(&node, "expiry").await?;
        }
        Ok(())
    }

    /// Notes that it serves.
    async fn begin(&self) -> Result<(), ControlError> {
        let mut writing = self.state.write().await?;
        let act = Act::new(Action::ServerStarted)
            .about(&self.settings.org)
            .detail(format!(
                "pages on {}, machines on {}",
                self.running.web, self.running.node
            ));
        self.state.note(&mut writing, &act, now()).await?;
        self.state.commit(writing).await
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ControlError> {
    let failed = |source| ControlError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // A fleet connects at once after a restart; whom the kernel has no place for waits a second and more.
    rustix::net::listen(&listener, PENDING_MAX).map_err(|error| failed(error.into()))?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
