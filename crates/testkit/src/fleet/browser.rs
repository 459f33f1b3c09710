//! A person, or a program, at the pages of a server: HTTP/2 over TLS, with the headers and the cookie of a
//! browser.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{self, SendRequest},
};
use http::{HeaderMap, Method, Request, StatusCode, header};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::PASSWORD;

/// Bytes that a stream, and the connection, may receive ahead.
const WINDOW: u32 = 16 << 20;

/// What is behind each event of a stream.
const END: &str = "\n\n";

/// A browser.
#[derive(Clone)]
pub struct Browser {
    sender: SendRequest<Bytes>,
    origin: String,
    /// The cookie, or the header of a program.
    as_whom: Option<(header::HeaderName, String)>,
    /// What every form has to send.
    token: String,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: RecvStream,
}

impl Browser {
    /// Connects to the pages on a port of this machine.
    pub(super) async fn open(port: u16, ca: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca).expect("a certificate");
        roots.add(ca).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let mut builder = client::Builder::new();
        builder.initial_window_size(WINDOW);
        builder.initial_connection_window_size(WINDOW);
        let opened = builder.handshake(stream.await.expect("TLS")).await;
        let (sender, connection) = opened.expect("HTTP/2");
        tokio::spawn(async move {
            stockade_types::ignored(connection.await, "the requests fail with it");
        });
        Self {
            sender,
            origin: format!("https://localhost:{port}"),
            as_whom: None,
            token: String::new(),
        }
    }

    /// Makes it a program with a token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.as_whom = Some((header::AUTHORIZATION, format!("Bearer {token}")));
        self
    }

    pub(super) fn with_session_of(mut self, other: &Self) -> Self {
        self.as_whom.clone_from(&other.as_whom);
        self.token.clone_from(&other.token);
        self
    }

    async fn send(&self, method: Method, path: &str, form: Option<&[(&str, &str)]>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin));
        if let Some((name, value)) = &self.as_whom {
            request = request.header(name, value);
        }
        let mut body = None;
        if let Some(form) = form {
            request = request
                .header(header::ORIGIN, &self.origin)
                .header("sec-fetch-site", "same-origin")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(form);
            body = Some(Bytes::from(text.finish()));
        }
        let request = request.body(()).expect("a request");
        let mut sender = self.sender.clone().ready().await.expect("a connection");
        let sent = sender.send_request(request, body.is_none());
        let (response, mut stream) = sent.expect("a request");
        if let Some(body) = body {
            stream.send_data(body, true).expect("a body");
        }
        let (parts, body) = response.await.expect("an answer").into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Returns the text at a path, and its status.
    pub async fn fetch(&self, path: &str) -> (u16, String) {
        let answer = self.send(Method::GET, path, None).await;
        (answer.status.as_u16(), text(answer.body).await)
    }

    /// Returns the text at a path, which is there.
    pub async fn get(&self, path: &str) -> String {
        let (status, text) = self.fetch(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    /// Returns data.
    pub async fn data(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await).expect("JSON")
    }

    /// Sends a form; its token is added. Returns the text of the answer.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> String {
        let mut form = form.to_vec();
        form.push(("token", &self.token));
        let answer = self.send(Method::POST, path, Some(&form)).await;
        let status = answer.status;
        let text = text(answer.body).await;
        let is_done = status.is_success() || status.is_redirection();
        assert!(is_done, "{path}: {status} {text}");
        text
    }

    /// Uses a link that works once, and is that person from then on.
    pub async fn redeem(&mut self, link: &str, name: &str) {
        let form = [("link", link), ("name", name), ("password", PASSWORD)];
        let answer = self.send(Method::POST, "/setup", Some(&form)).await;
        let cookie = answer.headers.get(header::SET_COOKIE).cloned();
        let Some(cookie) = cookie else {
            panic!("{}: {}", answer.status, text(answer.body).await);
        };
        let cookie = cookie.to_str().expect("text");
        let cookie = cookie.split(';').next().expect("a cookie").to_owned();
        self.as_whom = Some((header::COOKIE, cookie));
        let page = self.get("/me").await;
        let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a form");
        rest.split('"')
            .next()
            .expect("a token")
            .clone_into(&mut self.token);
    }

    /// Invites a person with a role; returns the link.
    pub async fn invite(&self, name: &str, role: &str) -> String {
        let form = [("name", name), ("others", role)];
        let page = self.post("/people/invite", &form).await;
        let (_, link) = page.split_once("/setup?token=").expect("a link");
        link.split('<').next().expect("a link").to_owned()
    }

    /// Publishes a policy, after the one with this serial.
    pub async fn publish(&self, text: &str, after: u64) {
        let after = after.to_string();
        let form = [
            ("text", text),
            ("after", &after),
            ("message", "for a test"),
            ("do", "publish"),
        ];
        self.post("/policy", &form).await;
    }

    /// Follows a topic.
    pub async fn follow(&self, topic: &str) -> Event {
        let path = format!("/api/v1/stream?topic={topic}");
        let answer = self.send(Method::GET, &path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        Event {
            body: answer.body,
            waiting: VecDeque::new(),
            rest: String::new(),
        }
    }
}

/// The events of a stream.
pub struct Event {
    body: RecvStream,
    waiting: VecDeque<Instant>,
    rest: String,
}

impl Event {
    /// Waits for the next event that says that something has changed; returns when it came. `None` if the
    /// stream has ended.
    pub async fn next(&mut self) -> Option<Instant> {
        loop {
            if let Some(at) = self.waiting.pop_front() {
                return Some(at);
            }
            let data = self.body.data().await?.ok()?;
            let at = Instant::now();
            let released = self.body.flow_control().release_capacity(data.len());
            released.expect("a window");
            self.rest.push_str(&String::from_utf8_lossy(&data));
            while let Some(end) = self.rest.find(END) {
                let event: String = self.rest.drain(..end + END.len()).collect();
                if event.starts_with("event: changed") {
                    self.waiting.push_back(at);
                }
            }
        }
    }
}

async fn text(mut body: RecvStream) -> String {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("a body");
        let released = body.flow_control().release_capacity(data.len());
        released.expect("a window");
        all.extend_from_slice(&data);
    }
    String::from_utf8(all).expect("text")
}
