//! Reaching a host that policy allowed: resolve once, check, connect to exactly that address.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use stockade_policy::{AddressClass, NetRequest, Permitted, Request, classify};
use stockade_types::{Host, Port};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    addresses::is_own,
    dns::{Resolver, Unresolved},
    limits::{ADDRESSES_MAX, DIAL_ATTEMPT, DIAL_TOTAL},
};

/// Why a host that policy allowed is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    /// The name has no address.
    #[error("`{host}` was not resolved")]
    Name {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: Unresolved,
    },
    /// All its addresses are of this machine or its networks.
    #[error("`{host}` has only private addresses, and the rule does not say `private = true`")]
    Private {
        /// The host.
        host: String,
    },
    /// All its addresses are metadata services or no addresses of hosts at all.
    #[error("`{host}` has only addresses that are never reached")]
    Never {
        /// The host.
        host: String,
    },
    /// Nothing accepted the connection.
    #[error("`{host}` did not accept a connection: {reason}")]
    Refused {
        /// The host.
        host: String,
        /// What the last attempt ended with.
        reason: String,
    },
    /// The request is not about a connection.
    #[error("this request does not open a connection")]
    NotANetRequest,
}

impl Unreachable {
    /// Tells whether policy, not the network, is the cause.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Private { .. } | Self::Never { .. })
    }

    /// Tells whether the host does not exist, as its name servers say.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::Name {
                source: Unresolved::Absent | Unresolved::Empty,
                ..
            }
        )
    }

    /// Returns the message with its cause.
    pub(crate) fn full(&self) -> String {
        match self {
            Self::Name { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// Addresses that were checked, with the proof that they may be dialled.
#[derive(Debug)]
pub(crate) struct Route<'a> {
    permitted: &'a Permitted<Request>,
    port: Port,
    addresses: Vec<IpAddr>,
}

impl<'a> Route<'a> {
    /// Resolves the host of a permitted request and keeps the addresses that may be dialled.
    /// `private` is whether the rule lets the host have addresses of this machine's networks.
    pub(crate) async fn find(
        permitted: &'a Permitted<Request>,
        resolver: &Resolver,
        private: bool,
    ) -> Result<Self, Unreachable> {
        let Request::Net(request) = permitted.get() else {
            return Err(Unreachable::NotANetRequest);
        };
        let host = request.host.to_string();
        let found = match &request.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                resolver
                    .resolve(name)
                    .await
                    .map_err(|source| Unreachable::Name {
                        host: host.clone(),
                        source,
                    })?
            }
        };
        let addresses = checked(&host, found, private, is_own)?;
        Ok(Self {
            permitted,
            port: request.port,
            addresses,
        })
    }

    /// Returns the address that is tried first.
    pub(crate) fn first(&self) -> Option<IpAddr> {
        self.addresses.first().copied()
    }

    /// Connects to the first address that accepts.
    pub(crate) async fn dial(self) -> Result<TcpStream, Unreachable> {
        let deadline = Instant::now() + DIAL_TOTAL;
        let mut reason = "it took too long".to_owned();
        for address in &self.addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            let target = SocketAddr::new(*address, self.port.get());
            match timeout(left.min(DIAL_ATTEMPT), TcpStream::connect(target)).await {
                Ok(Ok(stream)) => {
                    // Interactive protocols suffer without it; where it fails they are only slow.
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => "it took too long".clone_into(&mut reason),
            }
        }
        let host = self.permitted.get().target().host.unwrap_or_default();
        Err(Unreachable::Refused { host, reason })
    }
}

/// Returns why a host cannot be reached, where its addresses are known without a question to anybody.
pub(crate) fn known(
    request: &NetRequest,
    resolver: &Resolver,
    private: bool,
) -> Option<Unreachable> {
    let found = match &request.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolver.known(name)?,
    };
    checked(&request.host.to_string(), found, private, is_own).err()
}

/// Keeps what may be dialled. An address of this machine is private whatever its range: who allows
/// a zone of names does not mean the services of the machine that a name of it may lead to.
fn checked(
    host: &str,
    found: Vec<IpAddr>,
    private: bool,
    is_own: impl Fn(IpAddr) -> bool,
) -> Result<Vec<IpAddr>, Unreachable> {
    let class = |address: IpAddr| match classify(address) {
        AddressClass::Public if is_own(address) => AddressClass::Private,
        class => class,
    };
    let any_private = found
        .iter()
        .any(|address| class(*address) == AddressClass::Private);
    let usable = |address: &IpAddr| match class(*address) {
        AddressClass::Public => true,
        AddressClass::Private => private,
        AddressClass::Metadata | AddressClass::Unusable => false,
    };
    let mut kept: Vec<IpAddr> = found.into_iter().filter(usable).collect();
    kept.truncate(ADDRESSES_MAX);
    if !kept.is_empty() {
        return Ok(kept);
    }
    let host = host.to_owned();
    Err(if any_private {
        Unreachable::Private { host }
    } else {
        Unreachable::Never { host }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_policy::{HostSets, Origin, Policy, Probe, Source, load};
    use stockade_types::Verdict;

    use super::*;

    fn kept(list: &[&str], private: bool) -> Result<Vec<String>, Unreachable> {
        let found = list.iter().map(|text| text.parse().unwrap()).collect();
        let own: IpAddr = "93.184.216.1".parse().unwrap();
        checked("good.test", found, private, |address| address == own)
            .map(|kept| kept.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_what_may_be_dialled_is_kept() {
        let mixed = ["10.0.0.1", "93.184.216.34", "169.254.169.254", "::1"];
        assert_eq!(kept(&mixed, false).unwrap(), ["93.184.216.34"]);
        assert_eq!(
            kept(&mixed, true).unwrap(),
            ["10.0.0.1", "93.184.216.34", "::1"]
        );
        let host = "good.test".to_owned();
        assert_eq!(
            kept(&["127.0.0.1"], false),
            Err(Unreachable::Private { host: host.clone() })
        );
        assert_eq!(
            kept(&["93.184.216.1"], false),
            Err(Unreachable::Private { host: host.clone() })
        );
        assert_eq!(kept(&["93.184.216.1"], true).unwrap(), ["93.184.216.1"]);
        for never in [
            "169.254.169.254",
            "0.0.0.0",
            "198.18.0.1",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert_eq!(
                kept(&[never], true),
                Err(Unreachable::Never { host: host.clone() })
            );
        }
    }

    /// Addresses near those that mean something, in every form that carries another one.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let networks = [
            "169.254.169.254",
            "169.254.0.0",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "10.0.0.0",
            "127.0.0.1",
            "198.18.0.0",
            "224.0.0.0",
            "8.8.8.8",
        ];
        let v4 = (prop::sample::select(networks.to_vec()), 0_u32..4)
            .prop_map(|(text, more)| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits() ^ more);
        let forms = [
            ("::", 0),
            ("::ffff:0:0", 0),
            ("::ffff:0:0:0", 0),
            ("64:ff9b::", 0),
            ("64:ff9b:1::", 0),
            ("2002::", 80),
            ("2001:0:1::", 0),
            ("2600:1::5efe:0:0", 0),
        ];
        let services = [
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "fe80::a9fe:a9fe",
            "2606:4700::1111",
            "ff02::1",
        ];
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        prop_oneof![
            v4.clone()
                .prop_map(|bits| std::net::Ipv4Addr::from_bits(bits).into()),
            (v4, prop::sample::select(forms.to_vec())).prop_map(move |(bits, (base, shift))| {
                let inverted = if base.starts_with("2001") {
                    !bits
                } else {
                    bits
                };
                let bits = v6(base) | (u128::from(inverted) << shift);
                std::net::Ipv6Addr::from_bits(bits).into()
            }),
            (prop::sample::select(services.to_vec()), 0_u128..4).prop_map(move |(text, more)| {
                std::net::Ipv6Addr::from_bits(v6(text) ^ more).into()
            }),
            any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from_bits(bits).into()),
        ]
    }

    /// The policy that lets everything be reached that a policy can.
    fn greedy(address: IpAddr) -> Policy {
        let source = Source {
            origin: Origin::User,
            name: "greedy.toml".to_owned(),
            text: format!(
                "schema = 1\n[[allow]]\nid = \"greedy\"\nwhat = \"net\"\nhosts = [\"{address}\"]\n\
                 ports = [80]\nprivate = true\n"
            ),
        };
        load(&[source], &HostSets::default()).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_never_dialled_is_what_policy_test_denies(address in addresses()) {
            let address = address.to_canonical();
            let dialled = checked("good.test", vec![address], true, |_| false).is_ok();
            let probe = Probe::parse(&format!("net {}", SocketAddr::new(address, 80)));
            let (_, decision) = greedy(address).rehearse(&probe.unwrap());
            prop_assert_eq!(dialled, decision.verdict == Verdict::Allow, "{}", address);
        }
    }
}
