//! The way out through a proxy, where the machine has no other: after the decision, by name, and
//! with what the proxy wants to know of us. Nothing inside sees any of it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use stockade_policy::{NetRequest, NetworkSettings, ProxyAddress, ProxyExceptions, ProxySetting};
use stockade_types::{Host, Port, Secret};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::PROXY_HEAD_BYTES_MAX;

/// What the caller's variables say, as they stand there.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct ProxyVariables {
    /// For plain HTTP.
    pub http: Option<String>,
    /// For everything else.
    pub https: Option<String>,
    /// Hosts that are reached without.
    pub exceptions: Option<String>,
}

impl std::fmt::Debug for ProxyVariables {
    /// Shows nothing of the addresses: they can hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyVariables").finish_non_exhaustive()
    }
}

/// A proxy and what is said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Where it is.
    pub(crate) address: ProxyAddress,
    /// Value of `Proxy-Authorization`.
    authorization: Option<Secret<String>>,
}

/// Which hosts are reached through which proxy.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: ProxyExceptions,
}

impl Proxies {
    /// Takes what policy says, or else what the variables say. `login` is `user:password` for them.
    pub(crate) fn new(
        settings: &NetworkSettings,
        variables: &ProxyVariables,
        login: Option<&str>,
    ) -> Self {
        let exceptions = variables.exceptions.as_deref().unwrap_or_default();
        let exceptions = ProxyExceptions::parse(exceptions);
        let setting = settings.proxy.as_ref().map(|proxy| &proxy.value);
        match setting {
            Some(ProxySetting::None) => Self::default(),
            Some(ProxySetting::Address(address)) => {
                let proxy = Proxy {
                    address: address.clone(),
                    authorization: login.map(basic),
                };
                Self {
                    http: Some(proxy.clone()),
                    https: Some(proxy),
                    exceptions,
                }
            }
            Some(ProxySetting::Environment) | None => {
                let read = |text: &Option<String>| text.as_deref().and_then(|t| parse(t, login));
                Self {
                    http: read(&variables.http),
                    https: read(&variables.https),
                    exceptions,
                }
            }
        }
    }

    /// Returns the proxy through which a host is reached.
    pub(crate) fn for_host(&self, host: &Host, port: Port, plain: bool) -> Option<&Proxy> {
        let proxy = if plain { &self.http } else { &self.https };
        let proxy = proxy.as_ref()?;
        (!self.exceptions.contain(host, port)).then_some(proxy)
    }
}

/// Reads the address of an HTTP proxy as variables have it, with its login; others are not dialled.
fn parse(text: &str, login: Option<&str>) -> Option<Proxy> {
    let rest = text.trim();
    let (scheme, rest) = rest.split_once("://").unwrap_or(("http", rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let (own, host) = match authority.rsplit_once('@') {
        Some((own, host)) => (Some(decoded(own)), host),
        None => (None, authority),
    };
    Some(Proxy {
        address: format!("{scheme}://{host}").parse().ok()?,
        authorization: own.as_deref().or(login).map(basic),
    })
}

fn basic(login: &str) -> Secret<String> {
    Secret::new(format!("Basic {}", STANDARD.encode(login)))
}

/// Decodes `%xx`, as passwords are written in addresses.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = more
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = hex {
            bytes.push(byte);
            rest = more.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Proxy {
    /// Returns the line that lets us in; none where the proxy wants none.
    pub(crate) fn authorization_line(&self) -> String {
        self.authorization
            .as_ref()
            .map_or_else(String::new, |value| {
                format!("Proxy-Authorization: {}\r\n", value.expose())
            })
    }

    /// Writes the wish for a connection to a host (`CONNECT`).
    pub(crate) fn connect_request(&self, to: &NetRequest) -> String {
        let (host, port) = (&to.host, to.port);
        let target = match host {
            Host::Address(std::net::IpAddr::V6(six)) => format!("[{six}]:{port}"),
            Host::Address(_) | Host::Name(_) => format!("{host}:{port}"),
        };
        let login = self.authorization_line();
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n")
    }
}

/// Reads the status of a proxy's answer and no byte behind its head: a server may speak right there.
///
/// # Errors
/// When it is no HTTP, or ends early.
pub(crate) async fn read_status(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<u16> {
    let head = read_head(stream).await?;
    let mut words = head.split(|byte| *byte == b' ');
    let version = words.next().unwrap_or_default();
    let status = words
        .next()
        .and_then(|status| std::str::from_utf8(status.get(..3)?).ok())
        .and_then(|status| status.parse().ok())
        .filter(|_| version.starts_with(b"HTTP/1."));
    status.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD_BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::{decoded, parse};

    #[test]
    fn addresses_of_variables_and_their_logins() {
        let proxy = parse("http://me:p%40ss@proxy.test:3128/", None).unwrap();
        assert_eq!(proxy.address.to_string(), "http://proxy.test:3128");
        let line = proxy.authorization_line();
        assert_eq!(line, "Proxy-Authorization: Basic bWU6cEBzcw==\r\n");
        assert!(!format!("{proxy:?}").contains("bWU6"), "{proxy:?}");
        let given = parse("proxy.test:3128", Some("a:b")).unwrap();
        assert_eq!(
            given.authorization_line(),
            "Proxy-Authorization: Basic YTpi\r\n"
        );
        for other in [
            "socks5://proxy.test:1080",
            "https://proxy.test:443",
            "http://",
            "",
        ] {
            assert_eq!(parse(other, None), None, "{other}");
        }
        assert_eq!(decoded("100%"), "100%");
    }
}
