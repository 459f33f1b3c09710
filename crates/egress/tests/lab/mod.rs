//! A laboratory on loopback: an egress process in this process, a supervisor that can be told how
//! to behave, and clients that arrive as if packets had been redirected.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]
#![allow(
    unreachable_pub,
    reason = "the modules of the laboratory share it as a crate would"
)]

pub mod names;
pub mod supervisor;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use stockade_egress::{
    Config, EgressError, ListenerKind, PlainDatagrams, ProxyVariables, Sockets, serve,
};
use stockade_event::Event;
use stockade_policy::{HostSets, Origin, Outside, Source};
use stockade_types::{AskMode, DecisionRecord, RuleId, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::supervisor::Supervisor;

/// Long enough for a loaded machine, short enough to notice a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

type Destinations = Arc<Mutex<HashMap<SocketAddr, SocketAddr>>>;

pub struct Lab {
    pub supervisor: Supervisor,
    pub dns: SocketAddr,
    pub dns_tcp: SocketAddr,
    /// A listener of the kind whose own address is the destination.
    pub direct: SocketAddr,
    entry: SocketAddr,
    destinations: Destinations,
    egress: JoinHandle<Result<(), EgressError>>,
    /// The certificate, in PEM, by which TLS of the session is opened.
    pub certificate: Option<String>,
}

pub struct Host {
    pub resolvers: Vec<SocketAddr>,
    pub hosts_file: Vec<(&'static str, &'static str)>,
}

impl Lab {
    /// Starts an egress process with one policy file.
    pub async fn start(policy: &str) -> Self {
        Self::start_on(
            policy,
            Host {
                resolvers: vec![],
                hosts_file: vec![],
            },
        )
        .await
    }

    pub async fn start_on(policy: &str, host: Host) -> Self {
        Self::start_asking(policy, host, AskMode::Tty, Vec::new()).await
    }

    /// Starts one in a session where nobody can be asked.
    pub async fn start_unasked(policy: &str) -> Self {
        let host = Host {
            resolvers: vec![],
            hosts_file: vec![],
        };
        Self::start_asking(policy, host, AskMode::Deny, Vec::new()).await
    }

    /// Starts one with certificates, in PEM, that vouch for servers.
    pub async fn start_trusting(policy: &str, host: Host, roots: Vec<u8>) -> Self {
        Self::start_asking(policy, host, AskMode::Tty, roots).await
    }

    #[expect(
        clippy::unused_async,
        reason = "it needs the runtime that `async` promises"
    )]
    async fn start_asking(policy: &str, host: Host, ask: AskMode, roots: Vec<u8>) -> Self {
        let source = Source {
            origin: Origin::User,
            name: "test.toml".to_owned(),
            text: format!("schema = 1\n{policy}"),
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let supervisor = Supervisor::start(ours, &source);
        let redirected = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let direct = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let direct_at = direct.local_addr().unwrap();
        let dns_tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dns = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let destinations = Destinations::default();
        let known = Arc::clone(&destinations);
        let original = move |stream: &TcpStream| {
            let peer = stream.peer_addr()?;
            known
                .lock()
                .unwrap()
                .remove(&peer)
                .ok_or(io::ErrorKind::NotFound.into())
        };
        let (entry, dns_tcp_at, dns_at) = (
            redirected.local_addr().unwrap(),
            dns_tcp.local_addr().unwrap(),
            dns.local_addr().unwrap(),
        );
        let config = Config {
            policy_sources: vec![source],
            host_sets: HostSets::default(),
            resolvers: host.resolvers,
            hosts_file: host
                .hosts_file
                .iter()
                .map(|(name, address)| (name.parse().unwrap(), address.parse().unwrap()))
                .collect(),
            proxies: ProxyVariables::default(),
            outside: Outside::default(),
        };
        let sockets = Sockets {
            tcp: vec![
                (redirected, ListenerKind::Redirected),
                (direct, ListenerKind::Direct),
                (dns_tcp, ListenerKind::DnsTcp),
            ],
            udp: vec![Box::new(PlainDatagrams::new(dns).unwrap())],
            control: theirs,
            spool: None,
            original_destination: Box::new(original),
            proxy_login: None,
            ask,
            credentials: Vec::new(),
            withheld: Vec::new(),
            roots,
        };
        let knowledge = config.load().unwrap();
        let certificate = knowledge.certificate().map(str::to_owned);
        let egress = tokio::spawn(serve(knowledge, sockets));
        Self {
            supervisor,
            dns: dns_at,
            dns_tcp: dns_tcp_at,
            direct: direct_at,
            entry,
            destinations,
            egress,
            certificate,
        }
    }

    /// Sets TLS up with `name` as a program inside would that speaks HTTP/2.
    pub async fn secured(&self, name: &str, port: u16) -> TlsStream<TcpStream> {
        let socket = self.connect(name, port).await;
        let mut roots = RootCertStore::empty();
        let pem = self.certificate.as_ref().unwrap().as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket);
        stream.await.unwrap()
    }

    /// Connects to `name` as a program inside would: look it up, connect to the answer.
    pub async fn connect(&self, name: &str, port: u16) -> TcpStream {
        let address = names::lookup(self.dns, name).await.unwrap();
        self.connect_address(address, port).await
    }

    pub async fn connect_address(&self, address: IpAddr, port: u16) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let source = socket.local_addr().unwrap();
        self.destinations
            .lock()
            .unwrap()
            .insert(source, SocketAddr::new(address, port));
        timeout(PATIENCE, socket.connect(self.entry))
            .await
            .unwrap()
            .unwrap()
    }

    /// Sends `request` to `name` and returns all that comes back until the end.
    pub async fn exchange(&self, name: &str, port: u16, request: &[u8]) -> Vec<u8> {
        let mut client = self.connect(name, port).await;
        client.write_all(request).await.unwrap();
        read_all(&mut client).await.unwrap()
    }

    pub fn decisions(&self, verdict: Verdict) -> Vec<DecisionRecord> {
        let events = self.supervisor.events();
        events
            .iter()
            .filter(|event| !matches!(event, Event::ApprovalRequested { .. }))
            .filter_map(Event::decision)
            .filter(|decision| decision.verdict == verdict)
            .cloned()
            .collect()
    }

    /// Asserts that exactly one thing was denied, by `rule`, and returns its record.
    pub fn one_denial(&self, rule: &str) -> DecisionRecord {
        let denied = self.decisions(Verdict::Deny);
        let [decision] = denied.as_slice() else {
            panic!("expected one denial by {rule}, got {denied:#?}");
        };
        assert_eq!(
            decision.rule.as_ref().map(RuleId::as_str),
            Some(rule),
            "{decision:#?}"
        );
        decision.clone()
    }

    /// Ends the session in order and returns how the egress process ended.
    pub async fn finish(&mut self) -> Result<(), EgressError> {
        self.supervisor.finish();
        timeout(PATIENCE, &mut self.egress).await.unwrap().unwrap()
    }

    /// Closes the control connection and returns how the egress process ended.
    pub async fn stop(self) -> Result<(), EgressError> {
        self.supervisor.close();
        timeout(PATIENCE, self.egress).await.unwrap().unwrap()
    }
}

/// Reads until the end; an error is a reset.
pub async fn read_all(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut bytes))
        .await
        .unwrap()?;
    Ok(bytes)
}

/// Asserts that the connection ends with a reset and that nothing came before.
pub async fn assert_reset(mut client: TcpStream) {
    let error = read_all(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

/// A rule and a fixed address for a host on loopback.
pub fn allow(name: &str, port: u16) -> String {
    rule("allow", name, port)
}

pub fn rule(verdict: &str, name: &str, port: u16) -> String {
    format!(
        "[network.hosts]\n\"{name}\" = \"127.0.0.1\"\n[[{verdict}]]\nid = \"lab\"\nwhat = \"net\"\n\
         hosts = [\"{name}\"]\nports = [{port}]\nprivate = true\nreason = \"the laboratory\"\n"
    )
}

/// A server that hands each connection to `serve`, and counts what it saw.
pub struct Server {
    pub port: u16,
    pub seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub connections: usize,
    pub bytes: Vec<u8>,
}

impl Server {
    pub async fn start<F>(serve: impl Fn(TcpStream, Arc<Mutex<Seen>>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", serve).await
    }

    pub async fn start_at<F>(
        address: &str,
        serve: impl Fn(TcpStream, Arc<Mutex<Seen>>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { port, seen }
    }

    /// Echoes all bytes and then the end.
    pub async fn echo() -> Self {
        Self::start(|mut stream, seen| async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let bytes = &buffer[..read];
                remember(&seen, bytes);
                if stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
            drop(stream.shutdown().await);
        })
        .await
    }

    /// Answers each request head with its path; bodies must have a `Content-Length`.
    pub async fn http() -> Self {
        Self::start(|mut stream, seen| async move {
            let mut pending = Vec::new();
            while let Some(head) = http_head(&mut stream, &mut pending, &seen).await {
                let path = head.split(' ').nth(1).unwrap_or("?").to_owned();
                let body = format!("path {path}\n");
                let text = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap().bytes).into_owned()
    }
}

fn remember(seen: &Mutex<Seen>, bytes: &[u8]) {
    let mut seen = seen.lock().unwrap();
    if seen.bytes.len() < 1 << 20 {
        seen.bytes.extend_from_slice(bytes);
    }
}

/// Reads one head and the body that its `Content-Length` states.
pub async fn http_head(
    stream: &mut TcpStream,
    pending: &mut Vec<u8>,
    seen: &Mutex<Seen>,
) -> Option<String> {
    let mut buffer = vec![0; 65_536];
    loop {
        if let Some(at) = pending.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&pending[..at]).into_owned();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |text| text.parse::<usize>().unwrap());
            if pending.len() >= at + 4 + length {
                pending.drain(..at + 4 + length);
                return Some(head);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => {
                pending.extend_from_slice(&buffer[..read]);
                seen.lock()
                    .unwrap()
                    .bytes
                    .extend_from_slice(&buffer[..read]);
            }
            _ => return None,
        }
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            tokio::time::Instant::now() < end,
            "{what} did not come about"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
