//! Opening TLS: what programs of the session are shown, and what servers must show.

use std::{io, sync::Arc};

use rustls::{AlertDescription, CertificateError, ClientConfig, server::Acceptor};
use stockade_policy::{Control, Decision, NetRequest};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::LazyConfigAcceptor;

use crate::{
    alpn::{Http, Spoken},
    authority::{Authority, AuthorityError},
    limits::HANDSHAKE_WAIT,
    stream::{Ahead, Stream},
};

/// What opening TLS takes.
#[derive(Debug)]
pub(crate) struct Inspection {
    authority: Authority,
    /// How servers are spoken to that are offered HTTP/1.
    one: Arc<ClientConfig>,
    /// The same for those that are offered HTTP/2 too.
    two: Arc<ClientConfig>,
    /// The same for those that are offered nothing.
    none: Arc<ClientConfig>,
    /// What servers spoke.
    pub(crate) spoken: Spoken,
}

impl Inspection {
    /// Begins with the certificates, in PEM, of those that vouch for servers.
    pub(crate) fn new(authority: Authority, roots: &[u8]) -> Result<Self, AuthorityError> {
        let client = authority.client(roots)?;
        let with = |http: Http| {
            let mut config = client.clone();
            config.alpn_protocols = http.offer();
            Arc::new(config)
        };
        Ok(Self {
            authority,
            one: with(Http::One),
            two: with(Http::Two),
            none: with(Http::Unsaid),
            spoken: Spoken::default(),
        })
    }

    /// Returns how servers are spoken to with `best`, if they agree.
    pub(crate) fn client(&self, best: Http) -> Arc<ClientConfig> {
        Arc::clone(match best {
            Http::One => &self.one,
            Http::Two => &self.two,
            Http::Unsaid => &self.none,
        })
    }

    /// Opens the TLS of a client that said `head` so far and makes `request`. The error is the refusal
    /// of its connection, which is closed.
    pub(crate) async fn open(
        &self,
        socket: TcpStream,
        head: Vec<u8>,
        request: &NetRequest,
    ) -> Result<Stream, Box<Decision>> {
        let best = self.spoken.best(&request.host, request.port);
        let accept = async {
            let ahead = Ahead::new(head, socket);
            let greeted = LazyConfigAcceptor::new(Acceptor::default(), ahead).await?;
            let offered = greeted.client_hello().alpn();
            let http = Http::with(offered.into_iter().flatten(), best);
            let config = self.authority.server(&request.host, http);
            greeted.into_stream(config.map_err(io::Error::other)?).await
        };
        match timeout(HANDSHAKE_WAIT, accept).await {
            Ok(Ok(opened)) => Ok(Stream::tls(opened)),
            Ok(Err(error)) => Err(untrusted(&said(&error))),
            Err(_) => Err(untrusted("the handshake took too long")),
        }
    }
}

fn untrusted(why: &str) -> Box<Decision> {
    let reason = format!("TLS to this host is opened, and the program did not go along: {why}");
    let remedy = "have the program trust the certificates in `/run/stockade/ca-bundle.pem`; if it \
                  cannot, have a rule without `methods` and `paths` allow the host, with `tls = \
                  \"splice\"`";
    Box::new(Control::TlsUntrusted.denies(reason, remedy))
}

/// Says how a handshake with a client ended.
fn said(error: &io::Error) -> String {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate,
        )) => "it does not trust the authority of the session".to_owned(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection during the handshake".to_owned()
        }
        None => error.to_string(),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why there is no TLS with a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsecured {
    /// Its certificate is not one for it.
    #[error("its certificate is not valid: {0}")]
    Certificate(String),
    /// It does not go along.
    #[error("no TLS: {0}")]
    Broken(String),
}

impl Unsecured {
    /// Reads what a handshake ended with.
    pub(crate) fn of(error: &io::Error) -> Self {
        let Some(rustls::Error::InvalidCertificate(invalid)) = tls_error(error) else {
            return Self::Broken(error.to_string());
        };
        Self::Certificate(match invalid {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "it has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "no authority that is trusted has signed it".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it is for another host".to_owned()
            }
            CertificateError::BadSignature => {
                "its signature does not hold, or its key is too short".to_owned()
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
                "it is signed in a way that is too weak, as with SHA-1".to_owned()
            }
            // The library has no word of its own for what `openssl req -x509` makes.
            CertificateError::Other(other)
                if format!("{other:?}").contains("CaUsedAsEndEntity") =>
            {
                "it is the one of an authority, and none for a server".to_owned()
            }
            other => other.to_string(),
        })
    }
}
