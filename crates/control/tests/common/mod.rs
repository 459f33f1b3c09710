//! A server in a directory of its own, and machines that speak to it over its own connections.

use std::{path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http2::SendRequest, header::CONTENT_ENCODING};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use stockade_api::{
    EnrolToken, NodeId, Problem, Receipt,
    node::{EnrolAnswer, EnrolRequest, Facts, Install},
    proof_message,
};
use stockade_control::{DataDir, Options, Server, Settings, admin, serve};
use stockade_event::{Durability, Event};
use stockade_journal::{Journal, SigningKey};
use stockade_trust::{Envelope, Keys, SecretKey};
use stockade_types::SessionId;
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// DER of a private key of Ed25519 before its seed (RFC 8410, section 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

pub(crate) fn settings() -> Settings {
    Settings {
        org: "acme".to_owned(),
        host: "localhost".to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        node_listen: ([127, 0, 0, 1], 0).into(),
    }
}

/// A server that runs.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) server: Arc<Server>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        DataDir::init(&dir.path().join("data"), &settings()).unwrap();
        Self::start(dir).await
    }

    /// Starts the server of a directory.
    pub(crate) async fn start(dir: TempDir) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let data = dir.path().join("data");
        let running = tokio::spawn(async move {
            let stop = async {
                drop(stopped.await);
            };
            let ready = |server: &Arc<Server>| assert!(ready.send(Arc::clone(server)).is_ok());
            serve(&data, Options::default(), ready, stop).await.unwrap();
        });
        Self {
            dir,
            server: is_ready.await.unwrap(),
            stop: Some(stop),
            running,
        }
    }

    /// Ends the server in order, and returns its directory.
    pub(crate) async fn end(mut self) -> TempDir {
        drop(self.stop.take());
        drop(self.server);
        self.running.await.unwrap();
        self.dir
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Makes a token for enrolment.
    pub(crate) async fn token(&self, owner: Option<&str>) -> EnrolToken {
        let data = self.data();
        let enrolling = admin::Enrolling {
            owner: owner.map(str::to_owned),
            team: None,
            minutes: 5,
            url: None,
            count: 1,
        };
        let made = tokio::task::spawn_blocking(move || admin::enrol_tokens(&data, &enrolling));
        made.await.unwrap().unwrap().remove(0)
    }

    /// Connects a machine without a certificate.
    pub(crate) async fn stranger(&self) -> Client {
        Client::connect(self, None).await.unwrap()
    }

    /// Enrols a machine.
    pub(crate) async fn machine(&self, owner: Option<&str>) -> Machine {
        let token = self.token(owner).await;
        let seed = seed();
        let (status, answer) = self
            .enrol(&token, &request(&token, &seed, self.dir.path()))
            .await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        let answer: EnrolAnswer = serde_json::from_slice(&answer).unwrap();
        let client = Client::connect(self, Some((&answer.certificate, &seed)));
        Machine {
            client: client.await.unwrap(),
            id: answer.node.clone(),
            answer,
            seed,
        }
    }

    pub(crate) async fn enrol(&self, _: &EnrolToken, request: &EnrolRequest) -> (u16, Vec<u8>) {
        let mut stranger = self.stranger().await;
        stranger.json(Method::POST, "/node/v1/enrol", request).await
    }
}

pub(crate) fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    seed
}

/// Returns the request of a machine that enrols; the key of its journals is in `dir`.
pub(crate) fn request(token: &EnrolToken, seed: &[u8; 32], dir: &Path) -> EnrolRequest {
    let key = SecretKey::from_seed(seed);
    let journal = SigningKey::load_or_create(&dir.join("journal-key")).unwrap();
    EnrolRequest {
        secret: token.secret.clone(),
        name: "laptop".to_owned(),
        proof: URL_SAFE_NO_PAD.encode(key.sign(&proof_message(&token.secret))),
        key: key.public(),
        facts: facts(),
        journal_key: journal.verifying_key().to_string(),
        install: Install::User,
    }
}

pub(crate) fn facts() -> Facts {
    Facts {
        version: "0.1.0".to_owned(),
        kernel: "6.18".to_owned(),
        hostname: "laptop".to_owned(),
        tiers: vec!["native".to_owned()],
        guarantees_missing: Vec::new(),
    }
}

/// A machine that belongs to the organisation.
pub(crate) struct Machine {
    pub(crate) client: Client,
    pub(crate) id: NodeId,
    pub(crate) answer: EnrolAnswer,
    pub(crate) seed: [u8; 32],
}

impl Machine {
    /// Sends a piece of a journal.
    pub(crate) async fn send(
        &mut self,
        session: &SessionId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Receipt, Problem> {
        let path = format!("/node/v1/journals/{session}?offset={offset}");
        let sent = zstd::encode_all(bytes, 1).unwrap();
        let request = Request::builder()
            .method(Method::POST)
            .header(CONTENT_ENCODING, "zstd");
        let (status, body) = self.client.send(request, &path, sent).await;
        if status != 200 {
            return Err(serde_json::from_slice(&body).unwrap());
        }
        let envelope: Envelope = serde_json::from_slice(&body).unwrap();
        Ok(envelope.open(&self.answer.servers).unwrap())
    }

    pub(crate) fn servers(&self) -> &Keys {
        &self.answer.servers
    }
}

/// Opens TLS to the port for machines.
pub(crate) async fn tls(
    lab: &Lab,
    own: Option<(&str, &[u8; 32])>,
) -> Result<TlsStream<TcpStream>, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    let pem = lab.server.authority.pem().as_bytes().to_vec();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((pem, seed)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            let key = [PKCS8.as_slice(), seed].concat();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
            builder.with_client_auth_cert(chain?, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(lab.server.running.node).await?;
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    Ok(stream)
}

/// One connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects, with a certificate and its key if there is one.
    pub(crate) async fn connect(
        lab: &Lab,
        own: Option<(&str, &[u8; 32])>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let io = TokioIo::new(tls(lab, own).await?);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }
    pub(crate) async fn json(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> (u16, Vec<u8>) {
        let request = Request::builder().method(method);
        self.send(request, path, serde_json::to_vec(body).unwrap())
            .await
    }

    /// Sends a request; status 0 if the connection was ended.
    pub(crate) async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        path: &str,
        body: Vec<u8>,
    ) -> (u16, Vec<u8>) {
        let request = request
            .uri(format!("https://localhost{path}"))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        if self.sender.ready().await.is_err() {
            return (0, Vec::new());
        }
        let Ok(response) = self.sender.send_request(request).await else {
            return (0, Vec::new());
        };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        (
            status,
            body.map(|body| body.to_bytes().to_vec())
                .unwrap_or_default(),
        )
    }

    /// Opens the stream down.
    pub(crate) async fn stream(&mut self) -> Down {
        let request = Request::builder()
            .uri("https://localhost/node/v1/stream")
            .body(Full::new(Bytes::new()))
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Down {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}

/// What comes down to a machine.
pub(crate) struct Down {
    body: hyper::body::Incoming,
    rest: Vec<u8>,
}

impl Down {
    /// Returns the next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<stockade_api::node::Down> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend_from_slice(frame.data_ref()?);
        }
    }

    /// Returns the next message that is no heartbeat.
    pub(crate) async fn news(&mut self) -> Option<stockade_api::node::Down> {
        loop {
            match self.next().await? {
                stockade_api::node::Down::Heartbeat { .. } => {}
                other => return Some(other),
            }
        }
    }
}

/// Reads an answer.
pub(crate) fn read<T: DeserializeOwned>(answer: &(u16, Vec<u8>)) -> T {
    serde_json::from_slice(&answer.1)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&answer.1)))
}

/// A journal as a machine writes it, by the key of [`request`].
pub(crate) struct Written {
    pub(crate) session: SessionId,
    pub(crate) journal: Journal,
    path: std::path::PathBuf,
}

impl Written {
    pub(crate) fn new(dir: &Path, number: u64) -> Self {
        let session = SessionId::from_random(number);
        let home = dir.join(format!("session-{number}"));
        std::fs::create_dir(&home).unwrap();
        let key = SigningKey::load_or_create(&dir.join("journal-key")).unwrap();
        let journal = Journal::create(&home, session.clone(), key).unwrap();
        Self {
            session,
            journal,
            path: home.join("journal.jsonl"),
        }
    }

    pub(crate) fn write(&mut self, count: usize) {
        for _ in 0..count {
            let event = Event::OperatorActed {
                action: "note".to_owned(),
                by: "test".to_owned(),
                detail: "x".repeat(50),
            };
            let now = stockade_journal::now();
            let done = self
                .journal
                .append(now, "test", None, None, &event, Durability::Written);
            done.unwrap();
        }
        self.journal.checkpoint(stockade_journal::now()).unwrap();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}
