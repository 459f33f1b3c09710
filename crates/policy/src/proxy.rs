//! The proxy through which a machine must leave its network, and the hosts that need no proxy.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use stockade_types::{Host, Port};

use crate::{
    address::{AddressClass, classify},
    pattern::host::mask,
};

/// Port of a proxy whose address does not name one.
const PORT: u16 = 80;

/// `network.proxy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ProxySetting {
    /// The proxy in the caller's variables.
    Environment,
    /// Every host is dialled directly.
    None,
    /// This proxy, regardless of the variables.
    Address(ProxyAddress),
}

impl FromStr for ProxySetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "environment" => Ok(Self::Environment),
            "none" => Ok(Self::None),
            address => address.parse().map(Self::Address),
        }
    }
}

impl fmt::Display for ProxySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::None => f.write_str("none"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl From<ProxySetting> for String {
    fn from(setting: ProxySetting) -> Self {
        setting.to_string()
    }
}

impl TryFrom<String> for ProxySetting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The address of a proxy: `http://host:port`. Its credentials are elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyAddress {
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: Port,
}

impl FromStr for ProxyAddress {
    type Err = String;

    /// Reads an address without user and password.
    fn from_str(text: &str) -> Result<Self, String> {
        const WANTED: &str = "expected `environment`, `none` or the address of an HTTP proxy, for \
                              example `http://proxy.good.test:3128`";
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!(
                "`{scheme}` is not offered; {WANTED}; programs inside need no proxy of their own"
            ));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(
                "a password has no place in a policy; name the file that holds `user:password` \
                        in `network.proxy_auth_file`"
                    .to_owned(),
            );
        }
        let after = authority.rfind(']').map_or(0, |at| at + 1);
        let colon = authority.get(after..).and_then(|tail| tail.find(':'));
        let (host, port) = match colon {
            Some(at) => {
                let (host, port) = authority.split_at(after + at);
                let port = port.get(1..).unwrap_or_default();
                (host, port.parse().ok().and_then(Port::new).ok_or(WANTED)?)
            }
            None => (authority, Port::new(PORT).ok_or(WANTED)?),
        };
        let host = host.parse().map_err(|_| WANTED.to_owned())?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Address(IpAddr::V6(six)) => write!(f, "http://[{six}]:{}", self.port),
            _ => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

/// Hosts that are reached without the proxy, as `NO_PROXY` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyExceptions {
    entries: Vec<String>,
}

impl ProxyExceptions {
    /// Reads a comma-separated list, as curl and others do: a name includes all names below it.
    pub fn parse(text: &str) -> Self {
        let entries = text
            .split([',', ' '])
            .map(|entry| entry.trim().to_ascii_lowercase())
            .filter(|entry| !entry.is_empty())
            .collect();
        Self { entries }
    }

    /// Returns whether a host is dialled directly. Addresses of this machine always are.
    pub fn contain(&self, host: &Host, port: Port) -> bool {
        if let Host::Address(address) = host
            && (address.is_loopback() || classify(*address) == AddressClass::Metadata)
        {
            return true;
        }
        self.entries.iter().any(|entry| matches(entry, host, port))
    }
}

fn matches(entry: &str, host: &Host, port: Port) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Some((base, bits)), Host::Address(address)) = (entry.split_once('/'), host) {
        return in_network(base, bits, *address);
    }
    let after = entry.rfind(']').map_or(0, |at| at + 1);
    let (name, wanted) = match entry.get(after..).and_then(|tail| tail.rfind(':')) {
        // An IPv6 address without brackets has colons of its own.
        Some(at) if entry.matches(':').count() == 1 || after > 0 => {
            let (name, port) = entry.split_at(after + at);
            (
                name,
                port.get(1..).and_then(|port| port.parse::<u16>().ok()),
            )
        }
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted != port.get()) {
        return false;
    }
    let name = name.trim_start_matches("*.").trim_start_matches('.');
    match host {
        Host::Address(address) => {
            let own = name.trim_matches(['[', ']']).parse::<IpAddr>();
            own.is_ok_and(|own| own == *address)
        }
        Host::Name(host) => host
            .as_str()
            .strip_suffix(name)
            .is_some_and(|front| !name.is_empty() && (front.is_empty() || front.ends_with('.'))),
    }
}

fn in_network(base: &str, bits: &str, address: IpAddr) -> bool {
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u8>()) else {
        return false;
    };
    let most = if base.is_ipv4() { 32 } else { 128 };
    base.is_ipv4() == address.is_ipv4() && bits <= most && mask(base, bits) == mask(address, bits)
}

#[cfg(test)]
mod tests {
    use stockade_types::Port;

    use super::{ProxyExceptions, ProxySetting};

    #[test]
    fn exceptions_are_read_as_clients_read_them() {
        let list = ProxyExceptions::parse(
            "good.test,.inner.test, *.star.test,10.0.0.0/8,[fd00::1],192.168.1.7:8080,lab.test:81",
        );
        for (host, port, direct) in [
            ("good.test", 443, true),
            ("a.good.test", 443, true),
            ("notgood.test", 443, false),
            ("x.inner.test", 80, true),
            ("a.star.test", 80, true),
            ("10.1.2.3", 80, true),
            ("11.1.2.3", 80, false),
            ("fd00::1", 80, true),
            ("192.168.1.7", 8080, true),
            ("192.168.1.7", 80, false),
            ("lab.test", 81, true),
            ("lab.test", 82, false),
            ("127.0.0.1", 5432, true),
        ] {
            let found = list.contain(&host.parse().unwrap(), Port::new(port).unwrap());
            assert_eq!(found, direct, "{host}:{port}");
        }
        assert!(
            ProxyExceptions::parse("*")
                .contain(&"any.test".parse().unwrap(), Port::new(1).unwrap())
        );
    }

    #[test]
    fn addresses_of_proxies() {
        for (text, shown) in [
            ("http://proxy.test:3128", "http://proxy.test:3128"),
            ("proxy.test:3128/", "http://proxy.test:3128"),
            ("http://[fd00::1]:81", "http://[fd00::1]:81"),
            ("http://proxy.test", "http://proxy.test:80"),
            ("none", "none"),
            ("environment", "environment"),
        ] {
            assert_eq!(text.parse::<ProxySetting>().unwrap().to_string(), shown);
        }
        for text in [
            "socks5://proxy.test:1080",
            "http://u:p@proxy.test:3128",
            "http://proxy.test:0",
            "",
        ] {
            text.parse::<ProxySetting>().unwrap_err();
        }
    }
}
