//! The policy proxy of one session: its DNS, its connections and its requests.
//!
//! One process per session runs [`serve`] outside the session's network namespace. It holds the
//! listeners that were made inside, so every connection of the session ends here. It sends bytes on
//! only for a [`stockade_policy::Permitted`] request, to an address that it checked, after the
//! decision is in the journal. The supervisor owns the journal, the grants and the questions; this
//! process reaches it over one control connection ([`wire`]), and passes nothing without it.
//!
//! `connection.rs` has the table of a connection's stages. Two walls divide the crate: `stream.rs`
//! knows what carries bytes, and `gate.rs` alone sends them to servers.
#![forbid(unsafe_code)]

mod addresses;
mod alpn;
mod authority;
mod choice;
mod closings;
mod connection;
mod datagrams;
mod destination;
mod dial;
mod dns;
mod farewell;
mod first_line;
mod gate;
mod grammar;
mod hold;
mod http;
mod inside_proxy;
mod inspection;
mod judge;
mod limits;
mod listen;
mod pkt_line;
mod proxies;
mod rates;
mod relay;
mod scrub;
mod sniff;
mod ssh;
mod stream;
mod tighten;
mod tls;
mod unreached;
mod upstream;
mod watch;
pub mod wire;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream as StdUnixStream,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use stockade_policy::{
    Endpoint, HostSets, NetworkSettings, Outside, Policy, Problems, Source, SshKey,
};
use stockade_secrets::Own;
use stockade_types::{AskMode, Digest, HostName, Secret};
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};

use crate::limits::FINISH_WAIT;

pub use datagrams::{Datagram, Datagrams, PlainDatagrams};
pub use http::{CredentialsError, HeldCredential};
pub use proxies::ProxyVariables;

/// What the egress process needs to know; it reads no file itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The layers of the policy, as the supervisor loaded them.
    pub policy_sources: Vec<Source>,
    /// The host sets of the policy.
    pub host_sets: HostSets,
    /// Name servers of the machine, in order.
    pub resolvers: Vec<SocketAddr>,
    /// The machine's `/etc/hosts`.
    pub hosts_file: Vec<(HostName, IpAddr)>,
    /// What the caller's variables say of proxies.
    pub proxies: ProxyVariables,
    /// Which of the caller's variables there are, for credentials from them.
    pub outside: Outside,
}

/// A configuration whose policy is loaded.
#[derive(Debug)]
pub struct Knowledge {
    policy: Policy,
    resolvers: Vec<SocketAddr>,
    hosts_file: Vec<(HostName, IpAddr)>,
    proxies: ProxyVariables,
    authority: Option<authority::Authority>,
}

impl Knowledge {
    /// Returns the certificate, in PEM, of the authority by which TLS of this session is opened; none
    /// where none is.
    pub fn certificate(&self) -> Option<&str> {
        self.authority.as_ref().map(authority::Authority::pem)
    }

    /// Returns the revision of the policy.
    pub const fn revision(&self) -> Digest {
        self.policy.revision()
    }
}

impl Config {
    /// Loads the policy.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn load(self) -> Result<Knowledge, EgressError> {
        let mut policy = stockade_policy::load(&self.policy_sources, &self.host_sets)
            .map_err(EgressError::Policy)?;
        // The supervisor tells the owner.
        drop(policy.settle_credentials(&self.outside));
        let authority = policy.inspects().then(authority::Authority::new);
        Ok(Knowledge {
            authority: authority.transpose().map_err(EgressError::Authority)?,
            policy,
            resolvers: self.resolvers,
            hosts_file: self.hosts_file,
            proxies: self.proxies,
        })
    }
}

/// How a listener's connections tell where they wanted to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerKind {
    /// Packets are redirected; the kernel knows the original destination (`SO_ORIGINAL_DST`).
    Redirected,
    /// Every address is local; the socket's own address is the original destination.
    Direct,
    /// DNS over TCP.
    DnsTcp,
}

/// Returns where an accepted connection of a redirecting listener wanted to go.
pub type OriginalDestination = Box<dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync>;

/// The descriptors of the egress process and what only `sys` can do with them.
pub struct Sockets {
    /// Listeners made inside the session's network namespace.
    pub tcp: Vec<(std::net::TcpListener, ListenerKind)>,
    /// DNS sockets made there.
    pub udp: Vec<Box<dyn Datagrams>>,
    /// Connection to the supervisor.
    pub control: StdUnixStream,
    /// The end of the session's spool to which decisions are appended, where there is one.
    pub spool: Option<File>,
    /// Asks the kernel for original destinations.
    pub original_destination: OriginalDestination,
    /// `user:password` for the proxy, where a file holds it.
    pub proxy_login: Option<Secret<String>>,
    /// Certificates, in PEM, of the authorities that vouch for servers whose TLS is opened.
    pub roots: Vec<u8>,
    /// Who can be asked in this session.
    pub ask: AskMode,
    /// The credentials of the policy with their values.
    pub credentials: Vec<HeldCredential>,
    /// Further secrets of the caller that programs inside do not have.
    pub withheld: Vec<Withheld>,
}

/// A secret of the caller that programs inside do not have.
pub struct Withheld {
    /// Where it is, for the record, for example ``variable `DB_PASSWORD` ``.
    pub kind: String,
    /// Its value.
    pub value: Secret<String>,
}

/// Why the egress process cannot work.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The policy is not valid; it was when the supervisor loaded it.
    #[error("the policy cannot be loaded")]
    Policy(#[source] Problems),
    /// TLS cannot be opened, and the policy wants it to be.
    #[error("the authority of the session cannot be made")]
    Authority(#[source] authority::AuthorityError),
    /// The credentials are not those of the policy.
    #[error("the credentials cannot be used")]
    Credentials(#[source] CredentialsError),
    /// A descriptor cannot be used.
    #[error("the {which} cannot be used")]
    Descriptor {
        /// Which one.
        which: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The supervisor said something that is no message.
    #[error("the control connection failed")]
    Control(#[source] wire::WireError),
}

/// What all connections share.
pub(crate) struct Proxy {
    pub(crate) judge: Arc<judge::Judge>,
    pub(crate) supervisor: Arc<wire::Client>,
    pub(crate) resolver: dns::Resolver,
    pub(crate) synthetic: Mutex<addresses::Synthetic>,
    pub(crate) names: dns::Names,
    pub(crate) unreached: unreached::Unreached,
    pub(crate) closings: closings::Closings,
    pub(crate) made: hold::Made,
    pub(crate) refused: hold::RefusedNames,
    pub(crate) budgets: Arc<gate::Budgets>,
    pub(crate) rates: rates::Rates,
    pub(crate) contents: Arc<http::Contents>,
    pub(crate) known: Arc<http::Known>,
    pub(crate) proxies: proxies::Proxies,
    pub(crate) inspection: Option<inspection::Inspection>,
    pub(crate) credentials: http::Credentials,
    pub(crate) ages: http::Ages,
    pub(crate) ssh_keys: Vec<SshKey>,
    pub(crate) receiver: Option<http::otlp::Receiver>,
    original_destination: OriginalDestination,
}

/// Serves one session until the supervisor ends it or the control connection closes; all
/// connections end with it. In the first case their ends are still recorded, for a bounded time.
///
/// Must run within a tokio runtime with IO and time.
///
/// # Errors
/// When a descriptor is not usable, or the supervisor sends what is not a message.
pub async fn serve(knowledge: Knowledge, sockets: Sockets) -> Result<(), EgressError> {
    let Knowledge {
        policy,
        resolvers,
        hosts_file,
        proxies,
        authority,
    } = knowledge;
    let inspection = authority.map(|own| inspection::Inspection::new(own, &sockets.roots));
    let inspection = inspection.transpose().map_err(EgressError::Authority)?;
    let own = own_texts(&policy, &sockets);
    let credentials = http::Credentials::new(policy.credentials(), sockets.credentials)
        .map_err(EgressError::Credentials)?;
    let control = unix_stream(sockets.control).map_err(|source| EgressError::Descriptor {
        which: "control connection",
        source,
    })?;
    let (client, frames, connecting, published) = wire::Client::new(control, sockets.spool);
    let supervisor = Arc::new(client);
    let network = &policy.settings().network;
    let login = sockets.proxy_login.as_ref();
    let login = login.map(|login| login.expose().as_str());
    let proxies = proxies::Proxies::new(network, &proxies, login);
    let contents = Arc::new(http::Contents::new(own));
    let (closings, receiver, recording) = queues(&policy, &supervisor, &contents);
    let proxy = Arc::new(Proxy {
        ssh_keys: policy.ssh_keys().to_vec(),
        resolver: dns::Resolver::new(fixed_names(network), hosts_file, resolvers),
        judge: judge::Judge::new(policy, Arc::clone(&supervisor), sockets.ask).into(),
        supervisor: Arc::clone(&supervisor),
        synthetic: Mutex::default(),
        names: dns::Names::default(),
        unreached: unreached::Unreached::default(),
        closings,
        made: hold::Made::default(),
        refused: hold::RefusedNames::default(),
        budgets: Arc::default(),
        rates: rates::Rates::default(),
        contents,
        known: Arc::new(http::Known::new(Arc::clone(&supervisor))),
        proxies,
        inspection,
        credentials,
        ages: http::Ages::default(),
        receiver,
        original_destination: sockets.original_destination,
    });
    let mut listening = listen::start(&proxy, sockets.tcp, sockets.udp)?;
    listening.spawn(hold::serve(Arc::clone(&proxy), connecting));
    listening.spawn(tighten::serve(Arc::clone(&proxy), published));
    // The queues of closing events and claims end with their last sender: with the last connection.
    drop(proxy);
    tokio::pin!(frames);
    tokio::select! {
        ended = &mut frames => return ended.map_err(EgressError::Control),
        // None of the loops ends by itself; if one did, part of the session would be deaf.
        _ = listening.join_next() => return Err(EgressError::Descriptor {
            which: "listener",
            source: io::ErrorKind::Other.into(),
        }),
        () = supervisor.finish_asked() => {}
    }
    listening.shutdown().await;
    // At once, where nothing was open.
    let recorded = timeout(FINISH_WAIT, recording.join_all());
    tokio::select! {
        ended = frames => ended.map_err(EgressError::Control),
        _ = recorded => Ok(()),
    }
}

/// Makes the ways of closing events and of what agents export, with the tasks that have them recorded.
fn queues(
    policy: &Policy,
    supervisor: &Arc<wire::Client>,
    contents: &Arc<http::Contents>,
) -> (
    closings::Closings,
    Option<http::otlp::Receiver>,
    JoinSet<()>,
) {
    let (closings, record_closings) = closings::Closings::new(Arc::clone(supervisor));
    let mut recording = JoinSet::new();
    recording.spawn(record_closings);
    let receiver = policy.settings().record.otlp.value.then(|| {
        let kept = policy.record_content();
        let (supervisor, contents) = (Arc::clone(supervisor), Arc::clone(contents));
        let (receiver, record_claims) = http::otlp::Receiver::new(supervisor, contents, kept);
        recording.spawn(record_claims);
        receiver
    });
    (closings, receiver, recording)
}

/// Returns what names mean, and where ports of the machine lead, by policy.
fn fixed_names(
    network: &NetworkSettings,
) -> (BTreeMap<HostName, IpAddr>, BTreeMap<Endpoint, SocketAddr>) {
    let hosts = network.hosts.iter();
    let hosts = hosts.map(|(name, to)| (name.clone(), to.value)).collect();
    let services = network.services.iter();
    let services = services.map(|(name, to)| (name.clone(), to.value));
    (hosts, services.collect())
}

/// Returns the texts that the session must not send.
fn own_texts(policy: &Policy, sockets: &Sockets) -> Vec<Own> {
    let own = |kind: String, text: &str| Own {
        kind,
        text: text.as_bytes().to_vec(),
    };
    let proxy = sockets.proxy_login.as_ref();
    let password = proxy.and_then(|login| login.expose().split_once(':'));
    let password = password.map(|(_, password)| own("proxy-password".to_owned(), password));
    let credentials = sockets.credentials.iter().flat_map(|one| {
        let mut known = policy.credentials().iter();
        let kind = known.find(|own| own.id == one.id).map(|own| &own.kind);
        let secrets = kind.map(|kind| kind.secrets(one.value.expose()));
        let named = |secret: &str| own(format!("credential `{}`", one.id), secret);
        secrets
            .unwrap_or_default()
            .into_iter()
            .map(named)
            .collect::<Vec<_>>()
    });
    let withheld = sockets.withheld.iter();
    let withheld = withheld.map(|one| own(one.kind.clone(), one.value.expose()));
    password
        .into_iter()
        .chain(credentials)
        .chain(withheld)
        .collect()
}

fn unix_stream(stream: StdUnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
