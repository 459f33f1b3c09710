//! Reaching a host that policy allowed: resolve once, check, connect to exactly that address.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use stockade_policy::{AddressClass, Decision, NetRequest, Permitted, classify};
use stockade_types::Host;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    addresses::{is_own, is_synthetic_space},
    alpn::Http,
    dns::{Resolver, Unresolved},
    gate::{self, Connected},
    judge::Judge,
    limits::{ADDRESSES_MAX, DIAL_ATTEMPT, DIAL_NEXT, DIAL_TOTAL},
    proxies::{Proxies, Proxy},
    wire::Word,
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
        /// They are of the range that resolvers with made-up addresses use.
        fake: bool,
    },
    /// A rule denies all its addresses, as far as they could be dialled.
    #[error("`{host}` leads to `{address}`, which a rule denies")]
    Denied {
        /// The host.
        host: String,
        /// The first of them.
        address: IpAddr,
        /// The deny.
        by: Box<Decision>,
    },
    /// Nothing accepted the connection.
    #[error("`{host}` was not reached: {how}")]
    Refused {
        /// The host.
        host: String,
        /// What its address that said most ended with.
        how: Silent,
    },
}

/// How an attempt to connect ended, from what says least to what says most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Silent {
    /// Nothing came back.
    #[error("timed out")]
    TimedOut,
    /// This machine knows no way to that network.
    #[error("network is unreachable")]
    NoNetwork,
    /// There is no such host, or no way to it.
    #[error("no route to host")]
    NoHost,
    /// The proxy did not connect.
    #[error("the proxy answered {0}")]
    Proxy(u16),
    /// Something else, in the kernel's words.
    #[error("{0}")]
    Other(String),
    /// Nobody listens on that port.
    #[error("connection refused")]
    Refused,
}

impl Silent {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable => Self::NoHost,
            io::ErrorKind::NetworkUnreachable => Self::NoNetwork,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Other(error.to_string()),
        }
    }

    /// Returns what the program is told.
    pub(crate) const fn word(&self) -> Word {
        match self {
            Self::TimedOut => Word::Silence,
            Self::NoNetwork => Word::NoNetwork,
            Self::NoHost | Self::Proxy(500..) => Word::NoHost,
            Self::Proxy(_) | Self::Other(_) | Self::Refused => Word::Refused,
        }
    }
}

impl Unreachable {
    /// Tells whether policy, not the network, is the cause.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Private { .. } | Self::Never { .. } | Self::Denied { .. }
        )
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

    /// Returns the cause without the host.
    pub(crate) fn outcome(&self) -> String {
        match self {
            Self::Name { source, .. } => source.to_string(),
            Self::Refused { how, .. } => how.to_string(),
            Self::Private { .. } | Self::Never { .. } | Self::Denied { .. } => self.to_string(),
        }
    }

    /// Returns the message with its cause.
    pub(crate) fn full(&self) -> String {
        match self {
            Self::Name { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// How a proxy is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// It connects, and then passes everything on.
    Yes,
    /// It is sent requests, and makes them itself.
    No,
}

/// What goes through a connection, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Requests of plain HTTP, which proxies take as such.
    Requests,
    /// Requests inside TLS that was opened; the server is offered this and what is older.
    Sealed(Http),
    /// Anything else.
    Bytes,
}

/// Addresses that were checked, with the proof that they may be dialled.
#[derive(Debug)]
pub(crate) struct Route<'a> {
    permitted: &'a Permitted<NetRequest>,
    /// The proxy that the addresses are of, and whether it is to connect to the host (`CONNECT`).
    proxy: Option<(&'a Proxy, Tunnel)>,
    port: u16,
    addresses: Vec<IpAddr>,
    carries: Carries,
}

impl<'a> Route<'a> {
    /// Resolves the host of a permitted request and keeps the addresses that may be dialled.
    /// `private` is whether the rule lets the host have addresses of this machine's networks. Where
    /// the machine leaves its network through a proxy, it is that whose addresses are found: names are
    /// then resolved there.
    pub(crate) async fn find(
        permitted: &'a Permitted<NetRequest>,
        (resolver, proxies, judge): (&Resolver, &'a Proxies, &Judge),
        private: bool,
        carries: Carries,
    ) -> Result<Self, Unreachable> {
        let request = permitted.get();
        let host = request.host.to_string();
        let service = resolver.service(&request.host, request.port);
        if let Some(error) = known(request, resolver, private) {
            return Err(error);
        }
        let is_plain = carries == Carries::Requests;
        let proxy = proxies
            .for_host(&request.host, request.port, is_plain)
            // Policy itself says where these are.
            .filter(|_| service.is_none() && !is_fixed(request, resolver));
        if let Some(proxy) = proxy {
            return Self::to_proxy(permitted, resolver, proxy, carries).await;
        }
        let found = match (&request.host, service) {
            (_, Some(service)) => vec![service.ip()],
            (Host::Address(address), None) => vec![*address],
            (Host::Name(name), None) => {
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
        let addresses = match service {
            Some(_) => addresses,
            None => open(request, addresses, judge)?,
        };
        Ok(Self {
            permitted,
            proxy: None,
            port: service.map_or(request.port.get(), |service| service.port()),
            addresses,
            carries,
        })
    }

    async fn to_proxy(
        permitted: &'a Permitted<NetRequest>,
        resolver: &Resolver,
        proxy: &'a Proxy,
        carries: Carries,
    ) -> Result<Self, Unreachable> {
        let found = match &proxy.address.host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => resolver.resolve(name).await,
        };
        let host = format!("the proxy {}", proxy.address);
        let named = host.clone();
        let found = found.map_err(|source| Unreachable::Name { host, source })?;
        // Its owner put it where it is; only what nobody reaches stays out of reach.
        let addresses = checked(&named, found, true, is_own)?;
        let tunnel = match carries {
            Carries::Requests => Tunnel::No,
            Carries::Bytes | Carries::Sealed(_) => Tunnel::Yes,
        };
        Ok(Self {
            permitted,
            proxy: Some((proxy, tunnel)),
            port: proxy.address.port.get(),
            addresses,
            carries,
        })
    }

    /// Returns what it is the way for.
    pub(crate) const fn permitted(&self) -> &'a Permitted<NetRequest> {
        self.permitted
    }

    /// Returns what goes through it.
    pub(crate) const fn carries(&self) -> Carries {
        self.carries
    }

    /// Returns the proxy to which requests are sent as they are for the host.
    pub(crate) fn forwards(&self) -> Option<&'a Proxy> {
        let (proxy, tunnel) = self.proxy?;
        (tunnel == Tunnel::No).then_some(proxy)
    }

    /// Says which proxy it leads through.
    pub(crate) fn through(&self) -> Option<String> {
        let (proxy, _) = self.proxy?;
        Some(format!("through the proxy {}", proxy.address))
    }

    /// Returns the address that is tried first.
    pub(crate) fn first(&self) -> Option<IpAddr> {
        self.addresses.first().copied()
    }

    /// Connects to the address that accepts first. They are begun one after the other, a short time
    /// apart, IPv6 and IPv4 by turns (RFC 8305), so that one that does not answer costs no seconds.
    pub(crate) async fn dial(self) -> Result<Connected, Unreachable> {
        let mut waiting = by_turns(&self.addresses).into_iter();
        let mut attempts = JoinSet::new();
        let mut said = None;
        let all = async {
            loop {
                if let Some(address) = waiting.next() {
                    let target = SocketAddr::new(address, self.port);
                    attempts.spawn(timeout(DIAL_ATTEMPT, gate::connect(target)));
                }
                let pause = if waiting.len() == 0 {
                    DIAL_ATTEMPT
                } else {
                    DIAL_NEXT
                };
                match timeout(pause, attempts.join_next()).await {
                    Ok(None) if waiting.len() == 0 => return None,
                    Ok(Some(Ok(Ok(Ok(connected))))) => return Some(connected),
                    Ok(Some(Ok(Ok(Err(error))))) => {
                        said = said.take().max(Some(Silent::of(&error)));
                    }
                    // It took too long, or it is time for the next one.
                    Ok(None | Some(Ok(Err(_)) | Err(_))) | Err(_) => {}
                }
            }
        };
        let made = timeout(DIAL_TOTAL, all).await.ok().flatten();
        if let Some(mut connected) = made {
            self.tunnelled(&mut connected).await?;
            return Ok(connected);
        }
        let host = self.permitted.get().host.to_string();
        let how = said.unwrap_or(Silent::TimedOut);
        Err(Unreachable::Refused { host, how })
    }
}

impl Route<'_> {
    /// Has the proxy connect to the host, where there is one that is to.
    async fn tunnelled(&self, connected: &mut Connected) -> Result<(), Unreachable> {
        let Some((proxy, Tunnel::Yes)) = self.proxy else {
            return Ok(());
        };
        let asked = connected.tunnel(self.permitted, proxy);
        let how = match timeout(DIAL_TOTAL, asked).await {
            Ok(Ok(200..=299)) => return Ok(()),
            Ok(Ok(status)) => Silent::Proxy(status),
            Ok(Err(error)) => Silent::Other(format!("the proxy gave no answer: {error}")),
            Err(_) => Silent::TimedOut,
        };
        Err(Unreachable::Refused {
            host: self.permitted.get().host.to_string(),
            how,
        })
    }
}

/// Tells whether policy itself gives a host its address.
fn is_fixed(request: &NetRequest, resolver: &Resolver) -> bool {
    match &request.host {
        Host::Name(name) => resolver.is_fixed(name),
        Host::Address(_) => false,
    }
}

/// Returns the addresses with the families by turns; the first one stays the first.
fn by_turns(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let six_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let of = |six: bool| {
        addresses
            .iter()
            .copied()
            .filter(move |a| a.is_ipv6() == six)
    };
    let (mut first, mut second) = (of(six_first), of(!six_first));
    let mut turns = Vec::with_capacity(addresses.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

/// Returns why a host cannot be reached, where its addresses are known without a question to anybody.
pub(crate) fn known(
    request: &NetRequest,
    resolver: &Resolver,
    private: bool,
) -> Option<Unreachable> {
    if resolver.service(&request.host, request.port).is_some() {
        return None;
    }
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
    let fake = found.iter().copied().any(is_synthetic_space);
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
        Unreachable::Never { host, fake }
    })
}

/// Keeps the addresses that no rule denies: a name is no way around it.
fn open(
    request: &NetRequest,
    addresses: Vec<IpAddr>,
    judge: &Judge,
) -> Result<Vec<IpAddr>, Unreachable> {
    let mut denied = None;
    let mut kept = Vec::new();
    for address in addresses {
        match judge.denied_address(request, address) {
            Some(by) => denied = denied.or(Some((address, by))),
            None => kept.push(address),
        }
    }
    match denied {
        Some((address, by)) if kept.is_empty() => Err(Unreachable::Denied {
            host: request.host.to_string(),
            address,
            by: Box::new(by),
        }),
        _ => Ok(kept),
    }
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
                Err(Unreachable::Never {
                    host: host.clone(),
                    fake: never.starts_with("198.18"),
                })
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
            // A rule about loopback does not load.
            prop_assume!(!address.is_loopback());
            let dialled = checked("good.test", vec![address], true, |_| false).is_ok();
            let probe = Probe::parse(&format!("net {}", SocketAddr::new(address, 80)));
            let (_, decision) = greedy(address).rehearse(&probe.unwrap());
            prop_assert_eq!(dialled, decision.verdict == Verdict::Allow, "{}", address);
        }
    }
}
