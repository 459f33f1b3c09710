//! Host patterns: names, `*.name`, `**.name`, `**`, addresses and networks.

use std::{fmt, net::IpAddr};

use stockade_types::{Host, HostName};

use super::{PatternError, glob::SAMPLE};

/// An entry of a rule's `hosts`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    /// `good.test`: exactly this name.
    Name(HostName),
    /// `*.good.test`: one label more, not the name itself.
    OneLabel(HostName),
    /// `**.good.test`: one or more labels more, not the name itself.
    Below(HostName),
    /// `**`: every name, but never an address.
    AnyName,
    /// One address.
    Address(IpAddr),
    /// Addresses that share the first bits.
    Network {
        /// The network with all other bits zero.
        base: IpAddr,
        /// Number of bits that must be equal.
        bits: u8,
    },
}

impl HostPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let invalid = |error: &dyn fmt::Display| PatternError::new(error.to_string());
        if text == "**" {
            return Ok(Self::AnyName);
        }
        if text == "*" {
            return Err(PatternError::new(
                "`*` is one label; write `**` for every name, or name the host",
            ));
        }
        if text.contains("://") {
            return Err(PatternError::new(format!(
                "`{text}` is a URL; write the host alone, ports and paths have their own keys"
            )));
        }
        if let Some((base, bits)) = text.split_once('/') {
            return Self::network(text, base, bits);
        }
        let name = |rest: &str| rest.parse::<HostName>().map_err(|e| invalid(&e));
        if let Some(rest) = text.strip_prefix("**.") {
            return name(rest).map(Self::Below);
        }
        if let Some(rest) = text.strip_prefix("*.") {
            return name(rest).map(Self::OneLabel);
        }
        if text.contains('*') {
            return Err(PatternError::new(format!(
                "`{text}`: a star stands for whole labels at the front, `*.name` or `**.name`"
            )));
        }
        match text.parse::<Host>() {
            Ok(Host::Name(name)) => Ok(Self::Name(name)),
            Ok(Host::Address(address)) => Ok(Self::Address(address)),
            Err(_)
                if text
                    .rsplit_once(':')
                    .is_some_and(|(_, p)| p.parse::<u16>().is_ok()) =>
            {
                Err(PatternError::new(format!(
                    "`{text}` has a port; write it in `ports`"
                )))
            }
            Err(error) => Err(invalid(&error)),
        }
    }

    fn network(text: &str, base: &str, bits: &str) -> Result<Self, PatternError> {
        let wrong = || {
            PatternError::new(format!(
                "`{text}` is neither a host nor a network; write for example `192.0.2.0/24`"
            ))
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        if u32::from(bits) > width(base) {
            return Err(wrong());
        }
        let masked = mask(base, bits);
        if masked != base {
            return Err(PatternError::new(format!(
                "`{text}` has bits set after /{bits}; write `{masked}/{bits}`"
            )));
        }
        Ok(Self::Network { base, bits })
    }

    pub(crate) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::AnyName, Host::Name(_)) => true,
            (Self::Name(own), Host::Name(name)) => own == name,
            (Self::OneLabel(own), Host::Name(name)) => {
                below(name, own).is_some_and(|front| !front.contains('.'))
            }
            (Self::Below(own), Host::Name(name)) => below(name, own).is_some(),
            (Self::Address(own), Host::Address(address)) => own == address,
            (Self::Network { base, bits }, Host::Address(address)) => {
                base.is_ipv4() == address.is_ipv4() && mask(*address, *bits) == *base
            }
            _ => false,
        }
    }

    /// Returns whether this pattern matches every host of `inner`.
    pub(crate) fn contains(&self, inner: &Self) -> bool {
        match (self, inner) {
            (a, b) if a == b => true,
            (Self::AnyName, Self::Name(_) | Self::OneLabel(_) | Self::Below(_)) => true,
            (Self::OneLabel(_) | Self::Below(_), Self::Name(name)) => {
                self.matches(&Host::Name(name.clone()))
            }
            // `**.good.test` contains `*.good.test` and everything below `*.a.good.test`.
            (Self::Below(own), Self::OneLabel(name) | Self::Below(name)) => {
                own == name || below(name, own).is_some()
            }
            (Self::Network { .. }, Self::Address(address)) => {
                self.matches(&Host::Address(*address))
            }
            (Self::Network { bits, .. }, Self::Network { base, bits: inner }) => {
                bits <= inner && self.matches(&Host::Address(*base))
            }
            _ => false,
        }
    }

    /// Returns a host that it matches.
    pub(crate) fn sample(&self) -> Option<Host> {
        let below = |name: &HostName| format!("{SAMPLE}.{name}").parse().ok();
        match self {
            Self::Name(name) => Some(Host::Name(name.clone())),
            Self::OneLabel(name) | Self::Below(name) => below(name).map(Host::Name),
            Self::AnyName => format!("{SAMPLE}.test").parse().ok(),
            Self::Address(address) => Some(Host::Address(*address)),
            Self::Network { base, bits } => Some(Host::Address(last_address(*base, *bits))),
        }
    }

    /// Returns whether some host may match both; certainly none if it says no, because two patterns
    /// either lie within each other or have nothing in common.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// Returns the reason why an allow rule may not have this pattern, if there is one.
    pub(crate) fn too_wide_to_allow(&self) -> Option<String> {
        match self {
            Self::AnyName => Some(
                "`**` would allow every host; name the hosts, or use it in an ask or a deny"
                    .to_owned(),
            ),
            Self::OneLabel(name) | Self::Below(name) => is_public_suffix(name).then(|| {
                format!("`{self}` is a public suffix and would match strangers; name the domain")
            }),
            Self::Network { bits, .. } if *bits == 0 => Some(format!(
                "`{self}` would allow every address; name the network"
            )),
            Self::Network { base, bits } if *bits < minimum_bits(*base) => Some(format!(
                "`{self}` would allow more than a provider's block; /{} or narrower",
                minimum_bits(*base)
            )),
            Self::Name(_) | Self::Address(_) | Self::Network { .. } => None,
        }
    }
}

/// Shortest prefix that an allow rule may have: the most that one organisation holds.
const fn minimum_bits(base: IpAddr) -> u8 {
    match base {
        IpAddr::V4(_) => 8,
        IpAddr::V6(_) => 16,
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::OneLabel(name) => write!(f, "*.{name}"),
            Self::Below(name) => write!(f, "**.{name}"),
            Self::AnyName => f.write_str("**"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Network { base, bits } => write!(f, "{base}/{bits}"),
        }
    }
}

/// Returns the labels in front of `suffix`, if `name` is below it.
fn below<'n>(name: &'n HostName, suffix: &HostName) -> Option<&'n str> {
    name.as_str()
        .strip_suffix(suffix.as_str())?
        .strip_suffix('.')
}

/// Returns whether unrelated parties register names directly below `name` (publicsuffix.org, both
/// sections), or whether it is a single label, which has no owner.
fn is_public_suffix(name: &HostName) -> bool {
    let bytes = name.as_str().as_bytes();
    !name.as_str().contains('.')
        || psl::suffix(bytes).is_some_and(|s| s.is_known() && s.as_bytes() == bytes)
}

/// Returns the other one of `good.test` and `www.good.test`: the owner of one has the other, and
/// each leads to the other. None for a name below which unrelated parties register.
pub(crate) fn twin(name: &HostName) -> Option<HostName> {
    let (bare, other) = match name.as_str().strip_prefix("www.") {
        Some(bare) => (bare.parse().ok()?, bare.to_owned()),
        None => (name.clone(), format!("www.{name}")),
    };
    if is_public_suffix(&bare) {
        return None;
    }
    other.parse().ok()
}

const fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Returns the last address of a network.
pub(crate) fn last_address(base: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match base {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() | u32::MAX.checked_shr(bits).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() | u128::MAX.checked_shr(bits).unwrap_or(0)).into())
        }
    }
}

/// Clears all but the first `bits` bits.
pub(crate) fn mask(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX
                .checked_shl(32_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX
                .checked_shl(128_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & keep).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HostPattern;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    fn matches(text: &str, host: &str) -> bool {
        pattern(text).matches(&host.parse().unwrap())
    }

    #[test]
    fn stars_are_labels_and_never_the_apex() {
        assert!(matches("good.test", "GOOD.test."));
        assert!(!matches("good.test", "evilgood.test"));
        assert!(matches("*.good.test", "a.good.test"));
        for host in [
            "good.test",
            "a.b.good.test",
            "evilgood.test",
            "good.test.evil.test",
        ] {
            assert!(!matches("*.good.test", host), "{host}");
        }
        assert!(matches("**.good.test", "a.b.good.test"));
        assert!(!matches("**.good.test", "good.test"));
    }

    #[test]
    fn names_and_addresses_do_not_mix() {
        assert!(matches("**", "x.test"));
        assert!(!matches("**", "192.0.2.1"));
        assert!(matches("192.0.2.0/24", "192.0.2.77"));
        assert!(matches("192.0.2.0/24", "::ffff:192.0.2.77"));
        assert!(!matches("192.0.2.0/24", "192.0.3.1"));
        assert!(!matches("::/0", "192.0.2.1"));
        assert!(matches("0.0.0.0/0", "192.0.2.1"));
    }

    #[test]
    fn a_name_and_its_www_are_twins() {
        for (name, other) in [
            ("good.test", Some("www.good.test")),
            ("www.good.test", Some("good.test")),
            ("a.good.test", Some("www.a.good.test")),
            ("www.a.good.test", Some("a.good.test")),
            ("github.io", None),
            ("www.github.io", None),
            ("www.test", None),
            ("test", None),
            ("wwww.good.test", Some("www.wwww.good.test")),
        ] {
            let found = super::twin(&name.parse().unwrap());
            assert_eq!(
                found.map(|name| name.to_string()).as_deref(),
                other,
                "{name}"
            );
        }
    }

    #[test]
    fn what_would_match_strangers_cannot_be_allowed() {
        for text in [
            "**",
            "*.co.uk",
            "**.com",
            "*.test",
            "0.0.0.0/0",
            "::/0",
            "*.github.io",
        ] {
            assert!(pattern(text).too_wide_to_allow().is_some(), "{text}");
        }
        for text in ["*.good.test", "good.test", "10.0.0.0/8", "192.0.2.1"] {
            assert_eq!(pattern(text).too_wide_to_allow(), None, "{text}");
        }
    }

    #[test]
    fn broken_patterns_name_the_fix() {
        for (text, hint) in [
            ("*", "`**`"),
            ("https://good.test", "URL"),
            ("good.test:443", "ports"),
            ("a*.test", "whole labels"),
            ("192.0.2.1/24", "192.0.2.0/24"),
            ("192.0.2.0/33", "network"),
            ("127.1", "number"),
            ("**.127.1", "number"),
        ] {
            let message = HostPattern::parse(text).unwrap_err().to_string();
            assert!(message.contains(hint), "{text}: {message}");
        }
    }

    #[test]
    fn containment_follows_the_names() {
        for (outer, inner, expected) in [
            ("**", "good.test", true),
            ("**", "192.0.2.1", false),
            ("*.good.test", "a.good.test", true),
            ("*.good.test", "**.good.test", false),
            ("**.good.test", "*.good.test", true),
            ("**.good.test", "*.a.good.test", true),
            ("**.good.test", "good.test", false),
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("good.test", "**", false),
        ] {
            assert_eq!(
                pattern(outer).contains(&pattern(inner)),
                expected,
                "{outer} {inner}"
            );
        }
    }
}
