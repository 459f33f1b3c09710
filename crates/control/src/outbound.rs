//! Requests of the server to addresses that somebody has configured: HTTPS alone, no redirect, bounded bytes
//! and time. A name that leads into a private network is refused unless that was allowed, so that an address
//! in a setting, or in a document of a provider, does not open what only the server can reach.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use stockade_policy::{AddressClass, classify};
use stockade_types::ignored;
use tokio::{
    net::{TcpStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

/// How long a name, a connection, a request and its answer may take together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Sets of authorities that are remembered.
const OUTBOUNDS_MAX: usize = 32;
/// Where distributions keep the authorities that the machine trusts; the first that exists counts.
const SYSTEM_AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Why a request was not made, or has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// The address is none that is asked.
    #[error("`{url}`: expected `https://HOST/…` without a user name")]
    Url {
        /// What was given.
        url: String,
    },
    /// The name has no address.
    #[error("`{host}` has no address")]
    Name {
        /// Which.
        host: String,
    },
    /// The name leads where no request may go.
    #[error("`{host}` leads to {address}, which is {what}")]
    Place {
        /// The name.
        host: String,
        /// Its address.
        address: IpAddr,
        /// What that is, and what would allow it.
        what: &'static str,
    },
    /// No connection, or TLS does not know the server.
    #[error("cannot connect to `{host}`")]
    Connect {
        /// The name.
        host: String,
        /// What the system, or TLS, said.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`{host}` did not answer within {} seconds", PATIENCE.as_secs())]
    Late {
        /// The name.
        host: String,
    },
    /// The answer is no answer.
    #[error("`{host}` answered {why}")]
    Answer {
        /// The name.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// There are no authorities to know the other side by.
    #[error("no authorities to know `{0}` by; give a file with them")]
    Authorities(String),
}

/// Makes requests to servers that certain authorities vouch for.
#[derive(Clone)]
pub(crate) struct Outbound {
    tls: Arc<ClientConfig>,
    /// Whether private networks may be reached.
    private: bool,
}

/// A request.
pub(crate) struct Asking<'a> {
    pub(crate) url: &'a str,
    /// The value of `Authorization`.
    pub(crate) authorization: Option<String>,
    pub(crate) body: Said,
}

/// What a request brings.
pub(crate) enum Said {
    /// Nothing: it is a GET.
    Nothing,
    /// A form.
    Form(String),
    /// JSON, with headers of its own. Of the answer only the status is read.
    Json {
        text: String,
        headers: Vec<(&'static str, String)>,
    },
}

impl<'a> Asking<'a> {
    /// Asks for what is there.
    pub(crate) const fn get(url: &'a str) -> Self {
        Self {
            url,
            authorization: None,
            body: Said::Nothing,
        }
    }
}

/// Those that were made lately, by the authorities that they know and whether they reach private networks.
#[derive(Default)]
pub(crate) struct Outbounds(Mutex<HashMap<(Option<String>, bool), Outbound>>);

impl Outbounds {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Option<String>, bool), Outbound>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what knows servers by the authorities of `pem`, or of the system.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub(crate) async fn known_by(
        &self,
        pem: Option<&String>,
        private: bool,
    ) -> Result<Outbound, OutboundError> {
        let key = (pem.cloned(), private);
        if let Some(known) = self.lock().get(&key) {
            return Ok(known.clone());
        }
        let pem = pem.cloned();
        let made = spawn_blocking(move || Outbound::new(pem.as_deref(), private)).await;
        let failed = |_| OutboundError::Authorities("servers outside".to_owned());
        let made = made.map_err(failed)??;
        let mut known = self.lock();
        if known.len() >= OUTBOUNDS_MAX {
            known.clear();
        }
        known.insert(key, made.clone());
        Ok(made)
    }
}

impl Outbound {
    /// Makes one that knows servers by the authorities of `pem`, or of the system. Reads files.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub(crate) fn new(pem: Option<&str>, private: bool) -> Result<Self, OutboundError> {
        let what = || OutboundError::Authorities("servers outside".to_owned());
        let certificates = match pem {
            Some(pem) => of_pem(pem.as_bytes()),
            None => system_authorities().ok_or_else(what)?,
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(what());
        }
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| what())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(config),
            private,
        })
    }

    /// Makes a request; returns the status and the body of its answer.
    ///
    /// # Errors
    /// When it was not made, or has no answer in time. A redirect is no answer.
    pub(crate) async fn ask(
        &self,
        asking: Asking<'_>,
    ) -> Result<(StatusCode, Vec<u8>), OutboundError> {
        let url = checked(asking.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let answer = timeout(PATIENCE, self.exchange(&url, asking)).await;
        answer.map_err(|_| OutboundError::Late { host })?
    }

    async fn exchange(
        &self,
        url: &Url,
        asking: Asking<'_>,
    ) -> Result<(StatusCode, Vec<u8>), OutboundError> {
        let host = url.host_str().unwrap_or_default();
        let answer = |why: String| OutboundError::Answer {
            host: host.to_owned(),
            why,
        };
        let reads_body = !matches!(asking.body, Said::Json { .. });
        let stream = self.connect(url).await?;
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, driver) = opened.map_err(|error| answer(error.to_string()))?;
        let driver = tokio::spawn(async move {
            ignored(driver.await, "the request has the error");
        });
        let request = request(url, asking).map_err(|error| answer(error.to_string()))?;
        let response = sender.send_request(request).await;
        let result = async {
            let response = response.map_err(|error| answer(error.to_string()))?;
            let status = response.status();
            if status.is_redirection() {
                let why = format!("{status}: it wants another address; none is followed");
                return Err(answer(why));
            }
            if !reads_body {
                return Ok((status, Vec::new()));
            }
            let body = to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
            let body = body.map_err(|_| answer(format!("more than {ANSWER_BYTES_MAX} bytes")))?;
            Ok((status, body.to_vec()))
        }
        .await;
        driver.abort();
        result
    }

    async fn connect(&self, url: &Url) -> Result<TlsStream<TcpStream>, OutboundError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let host = url.host().ok_or_else(|| OutboundError::Name {
            host: String::new(),
        })?;
        let host = host.to_owned();
        let stream = self.dial(&host, port).await?;
        self.secure(&host, stream).await
    }

    /// Connects to a host. The address that was looked at is the one that is dialled: the name is not asked
    /// again.
    ///
    /// # Errors
    /// When it leads where no request may go, or nowhere.
    pub(crate) async fn dial(
        &self,
        host: &Host<String>,
        port: u16,
    ) -> Result<TcpStream, OutboundError> {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in addresses(host, port, self.private).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(OutboundError::Connect {
            host: host.to_string(),
            source: last,
        })
    }

    /// Opens TLS on a connection to a host.
    ///
    /// # Errors
    /// When it is not the host.
    pub(crate) async fn secure(
        &self,
        host: &Host<String>,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, OutboundError> {
        let failed = |source| OutboundError::Connect {
            host: host.to_string(),
            source,
        };
        let bare = match host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let server =
            ServerName::try_from(bare).map_err(|error| failed(std::io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(server, stream).await.map_err(failed)
    }

    /// Looks where an address leads, and sends nothing.
    ///
    /// # Errors
    /// When it is none that is asked, or leads where no request may go.
    pub(crate) async fn look(url: &str, private: bool) -> Result<(), OutboundError> {
        let url = checked(url)?;
        let name = || url.host_str().unwrap_or_default().to_owned();
        let host = url
            .host()
            .ok_or_else(|| OutboundError::Name { host: name() })?;
        let host = host.to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let found = timeout(PATIENCE, addresses(&host, port, private)).await;
        let found = found.map_err(|_| OutboundError::Late { host: name() })?;
        found.map(drop)
    }
}

/// Returns the addresses of a host, if all of them may be reached.
async fn addresses(
    host: &Host<String>,
    port: u16,
    private: bool,
) -> Result<Vec<SocketAddr>, OutboundError> {
    let none = || OutboundError::Name {
        host: host.to_string(),
    };
    let found: Vec<SocketAddr> = match host {
        Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
        Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
        Host::Domain(name) => {
            let found = lookup_host((name.as_str(), port)).await;
            found.map_err(|_| none())?.take(ADDRESSES_MAX).collect()
        }
    };
    if found.is_empty() {
        return Err(none());
    }
    for address in &found {
        let address = address.ip().to_canonical();
        let what = match classify(address) {
            AddressClass::Public => continue,
            AddressClass::Private if private => continue,
            AddressClass::Private => "in a private network; allow it with `--private`",
            AddressClass::Metadata => "for services of a host, and never asked",
            AddressClass::Unusable => "not the address of a host",
        };
        return Err(OutboundError::Place {
            host: host.to_string(),
            address,
            what,
        });
    }
    Ok(found)
}

/// Returns the authorities that the system trusts; `None` if it has no file of them.
pub(crate) fn system_authorities() -> Option<Vec<CertificateDer<'static>>> {
    let bytes = SYSTEM_AUTHORITIES
        .iter()
        .find_map(|path| fs::read(path).ok());
    bytes.map(|bytes| of_pem(&bytes))
}

fn of_pem(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .collect()
}

/// Reads an address that may be asked.
///
/// # Errors
/// When it is not one of HTTPS, or has a user name.
pub(crate) fn checked(url: &str) -> Result<Url, OutboundError> {
    let wrong = || OutboundError::Url {
        url: url.chars().take(200).collect(),
    };
    let url = Url::parse(url).map_err(|_| wrong())?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if url.scheme() == "https" && is_plain && url.host().is_some() {
        return Ok(url);
    }
    Err(wrong())
}

fn request(url: &Url, asking: Asking<'_>) -> hyper::http::Result<Request<Body>> {
    let host = url.host_str().unwrap_or_default();
    let host = url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut builder = Request::builder()
        .uri(target)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close");
    if let Some(value) = asking.authorization {
        builder = builder.header(header::AUTHORIZATION, value);
    }
    match asking.body {
        Said::Nothing => builder.method(Method::GET).body(Body::empty()),
        Said::Form(form) => builder
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form)),
        Said::Json { text, headers } => {
            for (name, value) in headers {
                builder = builder.header(name, value);
            }
            builder
                .method(Method::POST)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(text))
        }
    }
}

#[cfg(test)]
mod tests;
