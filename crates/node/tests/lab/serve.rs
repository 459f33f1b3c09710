//! The listener of the lab's server.

use std::{
    convert::Infallible,
    fs::OpenOptions,
    io::Write as _,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SignatureAlgorithm,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use stockade_api::{
    Problem,
    node::{
        CertificateAnswer, Down, EnrolAnswer, EnrolRequest, ExpiredRequest, Hello, HelloAnswer,
        Position,
    },
    renewal_message,
};
use stockade_trust::{PublicKey, RelyingParty};
use stockade_types::{Digest, SessionId, UnixMillis};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::{Mood, ORG, PEOPLE, POLICY, Shared};

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) digest: Digest,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "lab");
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            der: own.der().clone(),
            pem: own.pem(),
            digest: Digest::of(own.der()),
        }
    }

    fn node(&self, key: &PublicKey) -> String {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = NodeKey(key.to_bytes());
        params.signed_by(&key, &self.issuer).unwrap().pem()
    }

    fn config(&self) -> ServerConfig {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![own.der().clone(), self.der.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let clients = clients.allow_unauthenticated().build().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

struct NodeKey([u8; 32]);

impl PublicKeyData for NodeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// The thread that serves; it ends with this.
pub(crate) struct Served {
    pub(crate) port: u16,
    _end: mpsc::Sender<()>,
}

impl Served {
    pub(crate) fn start(authority: &Authority, shared: Arc<Mutex<Shared>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(authority.config()));
        let (end, mut ended) = mpsc::channel::<()>(1);
        std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        _ = ended.recv() => return,
                    };
                    let (stream, _) = accepted.unwrap();
                    tokio::spawn(connection(acceptor.clone(), stream, shared.clone()));
                }
            });
        });
        Self { port, _end: end }
    }
}

async fn connection(
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
    shared: Arc<Mutex<Shared>>,
) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let is_known = stream.get_ref().1.peer_certificates().is_some();
    let (broken, mut breaks) = mpsc::channel::<()>(1);
    let service = service_fn(move |request| {
        let (shared, broken) = (shared.clone(), broken.clone());
        async move { Ok::<_, Infallible>(answer(request, is_known, &shared, &broken).await) }
    });
    let serve = http2::Builder::new(TokioExecutor::new());
    let serve = serve.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serve => {}
        _ = breaks.recv() => {}
    }
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<Reply> {
    let body = serde_json::to_vec(value).unwrap();
    let response = Response::builder().status(status);
    response.body(Reply::Whole(Some(body.into()))).unwrap()
}

fn problem(status: u16, with: impl FnOnce(&mut Problem)) -> Response<Reply> {
    let mut problem = Problem::new(status, "lab", "no");
    with(&mut problem);
    json(StatusCode::from_u16(status).unwrap(), &problem)
}

async fn answer(
    request: Request<Incoming>,
    is_known: bool,
    shared: &Arc<Mutex<Shared>>,
    broken: &mpsc::Sender<()>,
) -> Response<Reply> {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        bytes.extend(frame.unwrap().into_data().unwrap());
    }
    let path = head.uri.path().to_owned();
    if path == "/node/v1/enrol" {
        return enrolled(&bytes, shared);
    }
    if path == "/node/v1/cert/expired" {
        return expired(&bytes, is_known, shared);
    }
    assert!(is_known, "a machine without its certificate");
    if shared.lock().unwrap().mood == Mood::Retired {
        return problem(410, |_| {});
    }
    match (head.method, path.as_str()) {
        (Method::POST, "/node/v1/hello") => hello(&bytes, shared),
        (Method::POST, "/node/v1/cert") => {
            let mut shared = shared.lock().unwrap();
            shared.renewals += 1;
            let request: EnrolRequest = serde_json::from_str(&shared.enrolments[0]).unwrap();
            let answer = CertificateAnswer {
                certificate: shared.authority.node(&request.key),
                not_after: UnixMillis(86_400_000),
                now: UnixMillis(0),
            };
            json(StatusCode::OK, &answer)
        }
        (Method::POST, "/node/v1/acks") => {
            let ack = serde_json::from_slice(&bytes).unwrap();
            shared.lock().unwrap().acks.push(ack);
            json(StatusCode::OK, &())
        }
        (Method::POST, "/node/v1/leave") => json(StatusCode::OK, &()),
        (Method::GET, "/node/v1/stream") => stream(shared.clone()),
        (Method::POST, journal) => {
            let session = journal.strip_prefix("/node/v1/journals/").unwrap();
            let offset = head.uri.query().unwrap().strip_prefix("offset=").unwrap();
            let (session, offset) = (session.parse().unwrap(), offset.parse().unwrap());
            piece(&session, offset, &bytes, shared, broken)
        }
        other => panic!("{other:?}"),
    }
}

fn enrolled(bytes: &[u8], shared: &Arc<Mutex<Shared>>) -> Response<Reply> {
    let mut shared = shared.lock().unwrap();
    shared
        .enrolments
        .push(String::from_utf8(bytes.to_vec()).unwrap());
    let request: EnrolRequest = serde_json::from_slice(bytes).unwrap();
    let people = if shared.mood == Mood::OtherPeople {
        POLICY
    } else {
        PEOPLE
    };
    let ca = if shared.mood == Mood::OtherAnswer {
        Authority::new().pem
    } else {
        shared.ca.clone()
    };
    let answer = EnrolAnswer {
        org: ORG.to_owned(),
        node: shared.node.clone(),
        certificate: shared.authority.node(&request.key),
        ca,
        root: shared.root(),
        directory: Shared::directory(5, people),
        servers: shared.keys(),
        party: RelyingParty {
            id: "lab.test".to_owned(),
            origin: "https://lab.test".to_owned(),
        },
        owner: None,
        bundle: None,
        pointer: None,
        membership: None,
        now: UnixMillis(0),
    };
    json(StatusCode::OK, &answer)
}

/// Gives a new certificate to the machine whose key has signed the request.
fn expired(bytes: &[u8], is_known: bool, shared: &Arc<Mutex<Shared>>) -> Response<Reply> {
    let mut shared = shared.lock().unwrap();
    let enrolled: EnrolRequest = serde_json::from_str(&shared.enrolments[0]).unwrap();
    let request: ExpiredRequest = serde_json::from_slice(bytes).unwrap();
    let message = renewal_message(ORG, &shared.node, request.at);
    let proof = URL_SAFE_NO_PAD.decode(&request.proof).unwrap();
    if is_known || !enrolled.key.has_signed(&message, &proof) || shared.mood == Mood::Refuses {
        return problem(403, |problem| "renewal-late".clone_into(&mut problem.kind));
    }
    shared.renewals += 1;
    let answer = CertificateAnswer {
        certificate: shared.authority.node(&enrolled.key),
        not_after: UnixMillis(86_400_000),
        now: UnixMillis(0),
    };
    json(StatusCode::OK, &answer)
}

fn hello(bytes: &[u8], shared: &Arc<Mutex<Shared>>) -> Response<Reply> {
    let mut shared = shared.lock().unwrap();
    shared.hellos += 1;
    let hello: Hello = serde_json::from_slice(bytes).unwrap();
    let size = |session: &SessionId| {
        let held = std::fs::metadata(shared.evidence.join(session.as_str()));
        held.map_or(0, |held| held.len())
    };
    let wanted = hello.sessions.iter().map(|here| Position {
        session: here.session.clone(),
        offset: size(&here.session),
    });
    let answer = HelloAnswer {
        wanted: wanted.collect(),
        bundle: None,
        pointer: None,
        directory: None,
        membership: None,
        now: UnixMillis(0),
    };
    json(StatusCode::OK, &answer)
}

fn piece(
    session: &SessionId,
    offset: u64,
    packed: &[u8],
    shared: &Arc<Mutex<Shared>>,
    broken: &mpsc::Sender<()>,
) -> Response<Reply> {
    let mut shared = shared.lock().unwrap();
    shared.pieces += 1;
    match shared.mood {
        Mood::Busy => return problem(429, |problem| problem.retry_ms = Some(100)),
        Mood::Refuses => return problem(422, |_| {}),
        _ => {}
    }
    let path = shared.evidence.join(session.as_str());
    let held = std::fs::metadata(&path).map_or(0, |held| held.len());
    if offset != held {
        return problem(409, |problem| problem.expected = Some(held));
    }
    let lines = zstd::bulk::decompress(packed, 4 << 20).unwrap();
    let mut options = OpenOptions::new();
    let mut file = options.create(true).append(true).open(&path).unwrap();
    file.write_all(&lines).unwrap();
    if shared.mood == Mood::Breaks {
        broken.try_send(()).ok();
    }
    json(StatusCode::OK, &shared.receipt(session))
}

fn stream(shared: Arc<Mutex<Shared>>) -> Response<Reply> {
    let (give, take) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            // What is said now is for the agent that is connected, and not for one that has gone.
            tokio::select! {
                () = give.closed() => return,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            let lines = std::mem::take(&mut shared.lock().unwrap().down);
            let beat = serde_json::to_string(&Down::Heartbeat { at: UnixMillis(0) }).unwrap();
            for line in lines.into_iter().chain([beat]) {
                if give.send(Bytes::from(format!("{line}\n"))).await.is_err() {
                    return;
                }
            }
        }
    });
    Response::new(Reply::Stream(take))
}

enum Reply {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => std::task::Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(lines) => lines
                .poll_recv(context)
                .map(|line| line.map(|l| Ok(Frame::data(l)))),
        }
    }
}
