//! One connection to the server: HTTP/2 over TLS 1.3, JSON, every body and every wait bounded.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body, Frame, Incoming},
    client::conn::http2,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Serialize, de::DeserializeOwned};
use stockade_api::{Problem, limits};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;

/// How long a name, a connection and TLS may take together.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// How long the server may take for an answer: it syncs before it says what it holds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Windows of flow control, in bytes: answers are small, and the largest, a bundle, may take its time.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Port if the address names none: of machines, and of pages.
const PORT: u16 = 7443;
const HTTPS_PORT: u16 = 443;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("`{url}` is no address of a server; expected `https://HOST:PORT`")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nothing can be sent.
    #[error("cannot connect to {server}")]
    Connect {
        /// Host and port.
        server: String,
        /// What the system, or TLS, said.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{server} did not answer within {} seconds", .patience.as_secs())]
    Late {
        /// Host and port.
        server: String,
        /// How long.
        patience: Duration,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// The stream down ended.
    #[error("the server ended the stream")]
    Ended,
    /// The server refused.
    #[error("{}{}", .0.title, remedy(.0))]
    Refused(Box<Problem>),
    /// It is not what was to be expected.
    #[error("the answer of the server cannot be read: {0}")]
    Answer(String),
}

fn remedy(problem: &Problem) -> String {
    let remedy = problem.remedy.as_ref();
    remedy.map_or_else(String::new, |remedy| format!("; {remedy}"))
}

impl HttpError {
    /// Returns the refusal, if it is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Url { .. }
            | Self::Connect { .. }
            | Self::Late { .. }
            | Self::Broken(_)
            | Self::Ended
            | Self::Answer(_) => None,
        }
    }
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// Reads `https://HOST:PORT`.
    pub(crate) fn parse(url: &str) -> Result<Self, HttpError> {
        Self::parse_with(url, PORT)
    }

    /// Reads the address of pages, which has the port of HTTPS if it names none.
    pub(crate) fn parse_pages(url: &str) -> Result<Self, HttpError> {
        Self::parse_with(url, HTTPS_PORT)
    }

    /// Returns the origin of its pages, as browsers write it.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.authority())
    }

    fn parse_with(url: &str, port: u16) -> Result<Self, HttpError> {
        let wrong = || HttpError::Url {
            url: url.chars().take(200).collect(),
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_bare = matches!(
            uri.path_and_query().map(ToString::to_string).as_deref(),
            None | Some("/")
        );
        if uri.scheme_str() != Some("https") || !is_bare || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
        })
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match self.port {
            HTTPS_PORT => host,
            port => format!("{host}:{port}"),
        }
    }
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Connection {
    server: String,
    sender: http2::SendRequest<Whole>,
    /// Ends with the last clone.
    _driver: Arc<Driver>,
}

/// The task that moves the bytes.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects, with the authority and the certificate that `tls` has.
    pub(crate) async fn open(server: &Server, tls: Arc<ClientConfig>) -> Result<Self, HttpError> {
        let name = server.authority();
        let late = || HttpError::Late {
            server: name.clone(),
            patience: CONNECT_PATIENCE,
        };
        let opened = timeout(CONNECT_PATIENCE, dial(server, tls)).await;
        let stream = opened.map_err(|_| late())?;
        let stream = stream.map_err(|source| HttpError::Connect {
            server: name.clone(),
            source,
        })?;
        let builder = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream));
        let opened = timeout(CONNECT_PATIENCE, builder).await;
        let (sender, driver) = opened.map_err(|_| late())?.map_err(HttpError::Broken)?;
        let driver = tokio::spawn(async move {
            // Each request has its own error.
            stockade_types::ignored(driver.await, "the requests fail with it");
        });
        Ok(Self {
            server: name,
            sender,
            _driver: Arc::new(Driver(driver)),
        })
    }

    /// Sends a value and returns the answer's.
    pub(crate) async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &Q,
    ) -> Result<A, HttpError> {
        let answer = self.say(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| HttpError::Answer(error.to_string()))
    }

    /// Sends a value; the answer says nothing more than that it was taken.
    pub(crate) async fn say<Q: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: &Q,
    ) -> Result<Bytes, HttpError> {
        let body = serde_json::to_vec(body);
        let body = body.map_err(|error| HttpError::Answer(error.to_string()))?;
        let request = self
            .request(method, path)
            .header(CONTENT_TYPE, "application/json");
        self.send(request.body(Whole(Some(body.into())))).await
    }

    /// Sends a piece of a journal, compressed. Returns also how long the server wants running sessions to
    /// collect lines before the next one, in milliseconds.
    pub(crate) async fn piece<A: DeserializeOwned>(
        &self,
        path: &str,
        packed: Vec<u8>,
    ) -> Result<(A, Option<u64>), HttpError> {
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(CONTENT_ENCODING, "zstd");
        let response = self
            .answer(request.body(Whole(Some(packed.into()))))
            .await?;
        let pace = response.headers().get(limits::PACE_HEADER);
        let pace = pace.and_then(|pace| pace.to_str().ok()?.parse().ok());
        let answer = self.whole(response).await?;
        let answer = serde_json::from_slice(&answer);
        let answer = answer.map_err(|error| HttpError::Answer(error.to_string()))?;
        Ok((answer, pace))
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Result<Bytes, HttpError> {
        let request = self.request(method, path);
        self.send(request.body(Whole(None))).await
    }

    /// Asks what a person's terminal asks: with its token; before it has one, as a page of the server would,
    /// since the server refuses what pages of others send.
    pub(crate) async fn of_person(
        &self,
        path: &str,
        form: Option<String>,
        token: Option<&str>,
    ) -> Result<Bytes, HttpError> {
        let method = if form.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let request = self.request(method, path);
        let request = match token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request
                .header(ORIGIN, format!("https://{}", self.server))
                .header("sec-fetch-site", "same-origin"),
        };
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Whole(form.map(Bytes::from)))).await
    }

    /// Opens the stream down.
    pub(crate) async fn stream(&self, path: &str) -> Result<Lines, HttpError> {
        let request = self.request(Method::GET, path).body(Whole(None));
        let response = self.answer(request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        Ok(Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        })
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let builder = Request::builder().method(method);
        builder.uri(format!("https://{}{path}", self.server))
    }

    async fn send(&self, request: hyper::http::Result<Request<Whole>>) -> Result<Bytes, HttpError> {
        let response = self.answer(request).await?;
        self.whole(response).await
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, HttpError> {
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = read(response.into_body(), limits::ANSWER_BYTES_MAX);
        let read = timeout(ANSWER_PATIENCE, body).await;
        read.map_err(|_| self.late())?
    }

    async fn answer(
        &self,
        request: hyper::http::Result<Request<Whole>>,
    ) -> Result<Response<Incoming>, HttpError> {
        let request = request.map_err(|error| HttpError::Answer(error.to_string()))?;
        let mut sender = self.sender.clone();
        let sent = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let sent = timeout(ANSWER_PATIENCE, sent).await;
        sent.map_err(|_| self.late())?.map_err(HttpError::Broken)
    }

    async fn refusal(&self, response: Response<Incoming>) -> HttpError {
        let status = response.status();
        let body = timeout(
            ANSWER_PATIENCE,
            read(response.into_body(), REFUSAL_BYTES_MAX),
        )
        .await;
        let problem = match body {
            Ok(Ok(bytes)) => serde_json::from_slice::<Problem>(&bytes).ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        let plain = || {
            Problem::new(
                status.as_u16(),
                "status",
                format!("the server said {status}"),
            )
        };
        HttpError::Refused(Box::new(problem.map_or_else(plain, |mut problem| {
            // What counts is the status that HTTP has.
            problem.status = status.as_u16();
            problem
        })))
    }

    fn late(&self) -> HttpError {
        HttpError::Late {
            server: self.server.clone(),
            patience: ANSWER_PATIENCE,
        }
    }
}

/// Bytes of a refusal: a title and a remedy.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

async fn dial(
    server: &Server,
    tls: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("it does not speak HTTP/2"));
    }
    Ok(stream)
}

async fn read(mut body: Incoming, bytes_max: usize) -> Result<Bytes, HttpError> {
    let mut all = Vec::new();
    while let Some(data) = data(&mut body).await? {
        if all.len() + data.len() > bytes_max {
            return Err(HttpError::Answer(format!(
                "it is longer than {bytes_max} bytes"
            )));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}

/// Returns the next bytes of a body.
async fn data(body: &mut Incoming) -> Result<Option<Bytes>, HttpError> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(HttpError::Broken(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The stream down, line by line.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// Returns the next line. A server that says nothing for [`limits::SILENCE_MS`] is gone.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, HttpError> {
        let patience = Duration::from_millis(limits::SILENCE_MS);
        let line = timeout(patience, self.line()).await;
        let line = line.map_err(|_| HttpError::Late {
            server: "the stream of the server".to_owned(),
            patience,
        })??;
        serde_json::from_slice(&line).map_err(|error| HttpError::Answer(error.to_string()))
    }

    async fn line(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut searched = 0;
        loop {
            let unseen = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched > limits::ANSWER_BYTES_MAX {
                let what = format!("a line is longer than {} bytes", limits::ANSWER_BYTES_MAX);
                return Err(HttpError::Answer(what));
            }
            match data(&mut self.body).await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => return Err(HttpError::Ended),
            }
        }
    }
}

/// A body in one piece, or none.
pub(crate) struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn addresses_are_hosts_with_ports() {
        let parsed = |url: &str| Server::parse(url).map(|server| server.authority()).ok();
        assert_eq!(parsed("https://a.test:9").as_deref(), Some("a.test:9"));
        assert_eq!(parsed("https://a.test/").as_deref(), Some("a.test:7443"));
        assert_eq!(parsed("https://[::1]:9").as_deref(), Some("[::1]:9"));
        for wrong in [
            "http://a.test",
            "a.test:9",
            "https://",
            "https://u@a.test",
            "https://a.test/x",
            "",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
