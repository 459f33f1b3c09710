//! Connections: TLS, whose certificate the other side has, and HTTP above it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use rustls::{
    RootCertStore, ServerConfig,
    server::{ResolvesServerCert, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};
use stockade_types::{Digest, ignored};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use crate::{
    ControlError,
    authority::{Authority, ServerCertificate, from_files},
};

/// Connections of one listener at the same time.
const CONNECTIONS_MAX: usize = 8_192;
/// How long TLS may take to begin.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How long the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Requests at the same time on one connection.
const STREAMS_MAX: u32 = 32;
/// Bytes that one request, and one connection, may send ahead.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of all headers of a request.
const HEADERS_BYTES_MAX: u32 = 32 * 1024;
/// How often a connection without requests is asked whether it is there, and how long that may take.
const PING: Duration = Duration::from_secs(20);
/// After a failure to accept, such as too many open files, how long to wait.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// SHA-256 of the certificate that it showed, DER; TLS has checked that our authority made it and that
    /// the other side has its key.
    pub(crate) certificate: Option<Digest>,
    /// Its address.
    pub(crate) address: std::net::SocketAddr,
}

/// How machines are spoken to: TLS 1.3, HTTP/2; whoever shows a certificate shows one of our authority.
pub(crate) fn node_tls(
    authority: &Authority,
    own: Arc<ServerCertificate>,
) -> Result<Arc<ServerConfig>, ControlError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate().clone())
        .map_err(ControlError::Tls)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), authority.provider())
            // A machine that enrols has none yet. Every other call asks for the machine.
            .allow_unauthenticated()
            .build()
            .map_err(|error| ControlError::Tls(rustls::Error::General(error.to_string())))?;
    let mut config = ServerConfig::builder_with_provider(authority.provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ControlError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// How browsers are spoken to.
pub(crate) fn web_tls(
    authority: &Authority,
    own: Arc<ServerCertificate>,
    certificate: Option<(PathBuf, PathBuf)>,
) -> Result<Arc<ServerConfig>, ControlError> {
    let resolver: Arc<dyn ResolvesServerCert> = match certificate {
        Some((certificate, key)) => {
            let own = from_files(&certificate, &key, &authority.provider())?;
            Arc::new(SingleCertAndKey::from(own))
        }
        None => own,
    };
    let mut config = ServerConfig::builder_with_provider(authority.provider())
        .with_safe_default_protocol_versions()
        .map_err(ControlError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A listener that accepts.
pub(crate) struct Listening {
    accepting: JoinHandle<()>,
    end: watch::Sender<bool>,
    room: Arc<Semaphore>,
}

impl Listening {
    /// Begins to accept.
    pub(crate) fn start(
        listener: std::net::TcpListener,
        tls: Arc<ServerConfig>,
        router: Router,
    ) -> Result<Self, ControlError> {
        let address = listener.local_addr().unwrap_or(([0, 0, 0, 0], 0).into());
        let listener = TcpListener::from_std(listener);
        let listener = listener.map_err(|source| ControlError::Listen { address, source })?;
        let (end, ended) = watch::channel(false);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = tokio::spawn(accept(listener, tls, router, ended, Arc::clone(&room)));
        Ok(Self {
            accepting,
            end,
            room,
        })
    }

    /// Accepts no more, and waits for connections to end by themselves.
    pub(crate) async fn end(self, patience: Duration) {
        self.accepting.abort();
        ignored(
            self.end.send(true),
            "it fails only if no connection is left",
        );
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        ignored(
            timeout(patience, self.room.acquire_many(all)).await,
            "connections that do not end are cut when the process ends",
        );
    }
}

async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    ended: watch::Receiver<bool>,
    room: Arc<Semaphore>,
) {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, address)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (acceptor, router, ended) = (acceptor.clone(), router.clone(), ended.clone());
        tokio::spawn(async move {
            let _place = place;
            connection(stream, address, acceptor, router, ended).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    address: std::net::SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    mut ended: watch::Receiver<bool>,
) {
    ignored(stream.set_nodelay(true), "it is only faster with it");
    let Ok(Ok(stream)) = timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = Peer {
        certificate: certificates
            .and_then(|all| all.first())
            .map(|first| Digest::of(first)),
        address,
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let graceful = GracefulShutdown::new();
    let connection = graceful.watch(connection.into_owned());
    let shutdown = async {
        // `Err` if the listener is gone: then the connection ends too.
        ignored(
            ended.wait_for(|is_over| *is_over).await,
            "both mean the end",
        );
        graceful.shutdown().await;
    };
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => ignored(result, "a connection that breaks concerns its other end"),
        () = shutdown => {}
    }
}
