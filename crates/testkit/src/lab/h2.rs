//! A server of HTTP/2 behind TLS, which records each request as it arrived.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, ext::Protocol, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Certificate;

/// Between two events: longer than a busy machine takes to pass one on.
const EVENT_PAUSE: Duration = Duration::from_millis(300);

/// A request that arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct H2Request {
    /// The connection that carried it, counted from zero.
    pub connection: usize,
    /// Its method; `CONNECT` for a WebSocket.
    pub method: String,
    /// The host it names.
    pub authority: String,
    /// Its path with the query.
    pub path: String,
    /// Its header fields, without those that begin with a colon; of several with one name the last.
    pub fields: BTreeMap<String, String>,
    /// The bytes of its body so far.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: BTreeMap<String, String>,
    /// How it ended: `whole`, or why it did not.
    pub ended: Option<String>,
}

/// The server; its thread goes with the test's process.
///
/// It answers `/echo` with the body and the trailers of the request, `/events` with three lines that
/// state when each was sent (microseconds since 1970), 300 ms apart, `/large/N` with N bytes, `/allowed/never`
/// with nothing, `/reset` with a reset, paths that end with `/bye` with an answer after which it takes no more over the
/// connection, and everything else with `lab`. It echoes what WebSockets carry.
#[derive(Debug)]
pub struct H2Server {
    address: SocketAddr,
    certificate_pem: String,
    requests: Record,
}

type Record = Arc<Mutex<Vec<H2Request>>>;

impl H2Server {
    /// Starts a server on a free port of 127.0.0.1 whose certificate is for `names`.
    pub fn start(names: &[&str]) -> Self {
        let certificate = Certificate::new(names);
        let mut config = certificate.server();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        listener
            .set_nonblocking(true)
            .expect("a new socket takes it");
        let address = listener.local_addr().expect("it is bound");
        let requests = Record::default();
        let record = Arc::clone(&requests);
        thread::spawn(move || serve(listener, Arc::new(config), record));
        Self {
            address,
            certificate_pem: certificate.pem().to_owned(),
            requests,
        }
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns its certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns every request so far, in the order in which their heads arrived.
    pub fn requests(&self) -> Vec<H2Request> {
        let requests = self.requests.lock();
        requests
            .expect("no thread panicked with the record")
            .clone()
    }

    /// Returns method and path of every request so far.
    pub fn lines(&self) -> Vec<String> {
        let requests = self.requests().into_iter();
        requests
            .map(|one| format!("{} {}", one.method, one.path))
            .collect()
    }
}

fn serve(listener: std::net::TcpListener, config: Arc<ServerConfig>, record: Record) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime takes a few descriptors");
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener).expect("it does not block");
        let acceptor = TlsAcceptor::from(config);
        for connection in 0.. {
            let Ok((socket, _)) = listener.accept().await else {
                return;
            };
            tokio::spawn(converse(
                socket,
                acceptor.clone(),
                (connection, Arc::clone(&record)),
            ));
        }
    });
}

/// Serves one connection; what fails ends it.
async fn converse(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    (connection, record): (usize, Record),
) -> Option<()> {
    let stream = acceptor.accept(socket).await.ok()?;
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let mut requests = builder.handshake::<_, Bytes>(stream).await.ok()?;
    while let Some(accepted) = requests.accept().await {
        let (request, respond) = accepted.ok()?;
        let at = note(&record, connection, &request);
        if request.uri().path().ends_with("/bye") {
            requests.graceful_shutdown();
        }
        let record = Arc::clone(&record);
        tokio::spawn(async move {
            let ended = answer(request, respond, &record, at).await;
            let ended = ended.err().map_or("whole".to_owned(), |e| e.to_string());
            change(&record, at, |one| one.ended = Some(ended));
        });
    }
    None
}

fn change(record: &Record, at: usize, change: impl FnOnce(&mut H2Request)) {
    let mut all = record.lock().expect("no thread panicked with the record");
    if let Some(one) = all.get_mut(at) {
        change(one);
    }
}

fn note(record: &Record, connection: usize, request: &Request<RecvStream>) -> usize {
    let uri = request.uri();
    let one = H2Request {
        connection,
        method: request.method().to_string(),
        authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
        path: uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        fields: texts(request.headers()),
        ..H2Request::default()
    };
    let mut all = record.lock().expect("no thread panicked with the record");
    all.push(one);
    all.len() - 1
}

fn texts(fields: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = fields.iter();
    fields
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    record: &Record,
    at: usize,
) -> Result<(), h2::Error> {
    let websocket = request.extensions().get::<Protocol>().is_some();
    let path = request.uri().path().to_owned();
    let kind = request.headers().get("content-type").cloned();
    let mut head = Response::new(());
    if let Some(kind) = kind {
        head.headers_mut().insert("content-type", kind);
    }
    let mut body = request.into_body();
    if websocket || path.starts_with("/echo") {
        let mut to = respond.send_response(head, false)?;
        echo(&mut body, &mut to, (record, at)).await?;
        let trailers = body.trailers().await?;
        change(record, at, |one| {
            one.trailers = trailers.as_ref().map(texts).unwrap_or_default();
        });
        return to.send_trailers(trailers.unwrap_or_default());
    }
    match path.as_str() {
        "/allowed/never" => {
            let reset = std::future::poll_fn(|context| respond.poll_reset(context));
            return Err(reset.await?.into());
        }
        "/reset" => {
            respond.send_reset(Reason::ENHANCE_YOUR_CALM);
            return Ok(());
        }
        "/early" => {
            let hints = Response::builder().status(103).header("link", "</a>");
            respond.send_informational(hints.body(()).expect("it is a head"))?;
        }
        "/events" => {
            let mut to = respond.send_response(head, false)?;
            for _ in 0..3 {
                tokio::time::sleep(EVENT_PAUSE).await;
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let sent = now.map_or(0, |now| now.as_micros());
                to.send_data(format!("data: {sent}\n\n").into(), false)?;
            }
            return to.send_data(Bytes::new(), true);
        }
        _ => {}
    }
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        change(record, at, |one| one.body.extend_from_slice(&data));
    }
    let bytes = path.strip_prefix("/large/").and_then(|n| n.parse().ok());
    let text = bytes.map_or_else(|| b"lab\n".to_vec(), |bytes| vec![b'x'; bytes]);
    let mut to = respond.send_response(head, false)?;
    to.send_data(text.into(), true)
}

async fn echo(
    body: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    (record, at): (&Record, usize),
) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        change(record, at, |one| one.body.extend_from_slice(&data));
        to.send_data(data, false)?;
    }
    Ok(())
}
