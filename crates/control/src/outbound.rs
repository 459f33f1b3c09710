//! Requests of the server to addresses that somebody has configured: HTTPS alone, no redirect, bounded bytes
//! and time. A name that leads into a private network is refused unless that was allowed, so that an address
//! in a setting, or in a document of a provider, does not open what only the server can reach.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::Arc,
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
    /// A form; without one it is a GET.
    pub(crate) form: Option<String>,
}

impl<'a> Asking<'a> {
    /// Asks for what is there.
    pub(crate) const fn get(url: &'a str) -> Self {
        Self {
            url,
            authorization: None,
            form: None,
        }
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
            let body = to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
            let body = body.map_err(|_| answer(format!("more than {ANSWER_BYTES_MAX} bytes")))?;
            Ok((status, body.to_vec()))
        }
        .await;
        driver.abort();
        result
    }

    async fn connect(&self, url: &Url) -> Result<TlsStream<TcpStream>, OutboundError> {
        let name = url.host_str().unwrap_or_default();
        let failed = |source| OutboundError::Connect {
            host: name.to_owned(),
            source,
        };
        let addresses = self.addresses(url).await?;
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            // The address that was looked at is the one that is dialled: the name is not asked again.
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let bare = name
                        .trim_start_matches('[')
                        .trim_end_matches(']')
                        .to_owned();
                    let server = ServerName::try_from(bare)
                        .map_err(|error| failed(std::io::Error::other(error)))?;
                    let connector = TlsConnector::from(Arc::clone(&self.tls));
                    return connector.connect(server, stream).await.map_err(failed);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, OutboundError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let name = url.host_str().unwrap_or_default();
        let none = || OutboundError::Name {
            host: name.to_owned(),
        };
        let found: Vec<SocketAddr> = match url.host().ok_or_else(none)? {
            Host::Ipv4(address) => vec![SocketAddr::from((address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((address, port))],
            Host::Domain(name) => {
                let found = lookup_host((name, port)).await.map_err(|_| none())?;
                found.take(ADDRESSES_MAX).collect()
            }
        };
        if found.is_empty() {
            return Err(none());
        }
        for address in &found {
            let address = address.ip().to_canonical();
            let what = match classify(address) {
                AddressClass::Public => continue,
                AddressClass::Private if self.private => continue,
                AddressClass::Private => "in a private network; allow it with `--private`",
                AddressClass::Metadata => "for services of a host, and never asked",
                AddressClass::Unusable => "not the address of a host",
            };
            return Err(OutboundError::Place {
                host: name.to_owned(),
                address,
                what,
            });
        }
        Ok(found)
    }
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
    match asking.form {
        None => builder.method(Method::GET).body(Body::empty()),
        Some(form) => builder
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form)),
    }
}

#[cfg(test)]
mod tests;
