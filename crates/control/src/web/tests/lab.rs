//! A server with people, and a client that says exactly what a test wants.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use stockade_api::NodeId;
use stockade_testkit::browser::key_digest;
use stockade_trust::{TeamId, UserId};
use stockade_types::UnixMillis;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use crate::{
    DataDir, OidcSettings, Options, Server, Settings, now, random, serve,
    state::{Change, LinkKind, LinkRow, State, WebSessionRow},
};

/// A server on loopback; it ends with the test.
pub(super) struct Lab {
    pub(super) server: Arc<Server>,
    pub(super) state: State,
    pub(super) origin: String,
    address: SocketAddr,
    tls: TlsConnector,
    _stop: oneshot::Sender<()>,
    _serving: JoinHandle<()>,
    _dir: TempDir,
}

/// A person in a browser.
#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) cookie: String,
    pub(super) token: String,
}

/// What the server answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value)
    }

    /// Asserts the status, and shows the answer if it is another one.
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Lab {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts one at which people sign in at a provider, too.
    pub(super) async fn start_with(oidc: Option<OidcSettings>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings {
            org: "acme".to_owned(),
            host: "localhost".to_owned(),
            listen: any,
            node_listen: any,
        };
        DataDir::init(&path, &settings).unwrap();
        if let Some(oidc) = oidc {
            oidc.write(&path.join("keys")).unwrap();
        }
        let (told, ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let data = path.clone();
        let serving = tokio::spawn(async move {
            let tell = |server: &Arc<Server>| {
                told.send(Arc::clone(server)).ok();
            };
            let end = async { stopped.await.unwrap_or(()) };
            // The directory may be gone before the server ends.
            let served = serve(&data, Options::default(), tell, end).await;
            stockade_types::ignored(
                served,
                "a server that does not start tells no test that it is ready",
            );
        });
        let server = ready.await.unwrap();
        let authority = std::fs::read(path.join("keys/authority.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&authority).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            state: server.state.clone(),
            origin: server.party.origin.clone(),
            address: server.running.web,
            server,
            tls: TlsConnector::from(Arc::new(config)),
            _stop: stop,
            _serving: serving,
            _dir: dir,
        }
    }

    /// Sends exactly these bytes as one request, and reads the answer.
    pub(super) async fn raw(&self, request: &str) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = self.tls.connect(name, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A server that closes without a goodbye of TLS has answered all the same.
        stream.read_to_end(&mut bytes).await.ok();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        };
        Answer {
            status: status.unwrap_or_default(),
            headers: lines.filter_map(pair).collect(),
            body: body.to_owned(),
        }
    }

    /// Returns SHA-256 of the server's public key as browsers name it: in base64, of its
    /// SubjectPublicKeyInfo.
    pub(super) async fn key(&self) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = self.tls.connect(name, stream).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        key_digest(&chain[0])
    }

    pub(super) fn host(&self) -> &str {
        self.origin.trim_start_matches("https://")
    }

    /// Sends a request with these headers beside the host.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.host()
        );
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() || method == "POST" {
            write!(request, "content-length: {}\r\n", body.len()).unwrap();
        }
        request.push_str("\r\n");
        request.push_str(body);
        self.raw(&request).await
    }

    pub(super) async fn get(&self, person: &Person, path: &str) -> Answer {
        self.send("GET", path, &[("cookie", &person.cookie)], "")
            .await
    }

    /// Sends a form as a page of ours does.
    pub(super) async fn post(
        &self,
        person: &Person,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let token = [("token", person.token.as_str())];
        let body = form(&[&token[..], fields].concat());
        let headers = self.own_headers(&person.cookie);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (*a, b.as_str())).collect();
        self.send("POST", path, &headers, &body).await
    }

    /// Returns the headers of a form of our own page.
    pub(super) fn own_headers(&self, cookie: &str) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("origin", self.origin.clone()),
            ("sec-fetch-site", "same-origin".to_owned()),
            (
                "content-type",
                "application/x-www-form-urlencoded".to_owned(),
            ),
        ];
        if !cookie.is_empty() {
            headers.push(("cookie", cookie.to_owned()));
        }
        headers
    }

    /// Makes a person with roles who has just signed in.
    pub(super) async fn person(&self, name: &str, roles: &[&str]) -> Person {
        let person = self.somebody(name, roles).await;
        self.signed_in(&person, now()).await
    }

    /// Makes a link that works once, and returns its secret.
    pub(super) async fn link(
        &self,
        kind: LinkKind,
        name: &str,
        roles: &[&str],
        expires: UnixMillis,
    ) -> String {
        let secret = random::secret().unwrap();
        let row = LinkRow {
            kind,
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            created_by: String::new(),
            expires,
        };
        self.state
            .add_link(&random::hash(&secret), &row, UnixMillis(0))
            .await
            .unwrap();
        secret
    }

    /// Runs a statement in the state, for what no page does.
    pub(super) async fn sql(&self, statement: String) {
        let mut writing = self.state.write().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut *writing)
            .await
            .unwrap();
        self.state.commit(writing).await.unwrap();
    }

    /// Makes a team.
    pub(super) async fn team(&self, name: &str) -> TeamId {
        let id = TeamId(random::name("tm-").unwrap());
        let made = self.state.add_team(&id, name, "", now()).await.unwrap();
        assert_eq!(made, Change::Done);
        id
    }

    /// Gives a machine to a team.
    pub(super) async fn give(&self, node: &NodeId, team: &TeamId) {
        let given = self.server.give_to_team(node, (None, Some(team)), "");
        assert_eq!(given.await.unwrap(), Change::Done);
    }

    /// Returns the version of a person, as the form to change the person's roles has it.
    pub(super) async fn version(&self, person: &Person) -> String {
        let user = self.state.user(&UserId(person.id.clone())).await.unwrap();
        user.unwrap().version.to_string()
    }

    async fn somebody(&self, name: &str, roles: &[&str]) -> UserId {
        let secret = self.link(LinkKind::Invite, name, roles, later()).await;
        let id = UserId(random::name("u-").unwrap());
        let made = self
            .state
            .redeem_link(&random::hash(&secret), &id, name, now())
            .await;
        made.unwrap().expect("the link works").id
    }

    /// Signs a person in at a time.
    pub(super) async fn signed_in(&self, id: &UserId, at: UnixMillis) -> Person {
        let (secret, csrf) = (random::secret().unwrap(), random::secret().unwrap());
        let row = WebSessionRow {
            hash: random::hash(&secret),
            user: id.clone(),
            csrf: csrf.clone(),
            method: "passkey".to_owned(),
            signed_in: at,
            expires: later(),
        };
        self.state.sign_in(&row, now()).await.unwrap();
        Person {
            id: id.0.clone(),
            cookie: format!("__Host-stockade={secret}"),
            token: csrf,
        }
    }
}

/// An hour from now.
pub(super) fn later() -> UnixMillis {
    UnixMillis(now().0 + 3_600_000)
}

/// Writes a form.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}
