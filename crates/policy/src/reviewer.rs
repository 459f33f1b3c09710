//! The model that the automatic reviewer asks, and its bounds.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use stockade_types::{HostName, Risk, Span};

/// The model that the automatic reviewer asks.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ReviewerSettings {
    /// Where it is asked.
    pub endpoint: ModelEndpoint,
    /// Its name there.
    pub model: String,
    /// The file with the key, on the machine.
    pub key_file: Option<String>,
    /// The variable of the caller with the key.
    pub key_variable: Option<String>,
    /// How long an answer may take.
    pub timeout: Span,
    /// How many questions a session may put to it.
    pub budget: u32,
    /// The highest risk that it may allow, whatever a rule says.
    pub max_risk: Risk,
}

/// The base of an API like that of OpenAI, for example `https://models.example.org/v1`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub struct ModelEndpoint {
    /// Inside TLS.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, without a slash at its end.
    pub path: String,
}

impl fmt::Display for ModelEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            Ok(IpAddr::V4(_)) | Err(_) => self.host.clone(),
        };
        write!(f, "{scheme}://{host}:{}{}", self.port, self.path)
    }
}

impl From<ModelEndpoint> for String {
    fn from(endpoint: ModelEndpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for ModelEndpoint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for ModelEndpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "expected a URL such as https://models.example.org/v1";
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(WANTED),
        };
        let (place, path) = rest
            .find('/')
            .map_or((rest, ""), |slash| rest.split_at(slash));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        if !path.bytes().all(is_plain) || path.contains("..") {
            return Err("the path of the URL has only letters, digits and / - _ . ~");
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(WANTED)?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or(WANTED)?),
                };
                (host, port)
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port: u16 = match port {
            None => 443 - 363 * u16::from(!tls),
            Some(port) => port.parse().map_err(|_| WANTED)?,
        };
        let address = host.parse::<IpAddr>().ok();
        if address.is_none() && host.parse::<HostName>().is_err() {
            return Err(WANTED);
        }
        let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        if !tls && !is_here {
            return Err(
                "without TLS only this machine is asked: write https://, or a loopback address",
            );
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ModelEndpoint;

    #[test]
    fn an_endpoint_is_a_plain_url_inside_tls_or_on_this_machine() {
        for (text, written) in [
            ("https://models.test/v1", "https://models.test:443/v1"),
            (
                "https://models.test:8443/v1/",
                "https://models.test:8443/v1",
            ),
            ("https://10.0.0.7", "https://10.0.0.7:443"),
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
            ("http://localhost", "http://localhost:80"),
            ("http://[::1]:81/x", "http://[::1]:81/x"),
        ] {
            let endpoint: ModelEndpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), written);
            assert_eq!(written.parse(), Ok(endpoint));
        }
        for text in [
            "",
            "models.test",
            "ftp://models.test",
            "http://models.test/v1",
            "http://10.0.0.7/v1",
            "https://user:pass@models.test/v1",
            "https://models.test/v1?key=1",
            "https://models.test/../v1",
            "https://models.test/v1\r\nx: y",
            "https://models.test:99999/",
            "https://[::1/",
        ] {
            assert!(text.parse::<ModelEndpoint>().is_err(), "{text}");
        }
    }
}
