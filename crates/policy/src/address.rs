//! What sort of address it is: public, private to the machine and its networks, or cloud metadata.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stockade_types::HostName;

use crate::pattern::host::mask;

/// What sort of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressClass {
    /// Anything else.
    Public,
    /// Loopback, private, shared, multicast, reserved or unspecified (RFC 6890 and its updates).
    Private,
    /// Cloud metadata and link-local IPv4: never reachable, whatever a rule says.
    Metadata,
}

/// Networks that hold metadata services: all of link-local IPv4 (AWS, Google, Azure, ECS), the
/// AWS IPv6 address, Alibaba Cloud, and the Azure wire server.
const METADATA: [(IpAddr, u8); 4] = [
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
        128,
    ),
];

/// IPv4 that is not public (IANA special-purpose registry).
const PRIVATE_V4: [(Ipv4Addr, u8); 14] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IPv6 that is not public; whatever is outside `2000::/3` is not public either.
const PRIVATE_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Global unicast (RFC 4291 section 2.4): the only range that is handed out.
const GLOBAL_V6: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), 3);

/// Names by which metadata services are known.
const METADATA_NAMES: [&str; 6] = [
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.azure.com",
    "instance-data.ec2.internal",
    "metadata.packet.net",
];

/// Tells what sort of address it is; an IPv4 address inside an IPv6 one counts as well (mapped,
/// compatible, NAT64, 6to4, Teredo), and the worse of both is the answer.
pub fn classify(address: IpAddr) -> AddressClass {
    let own = classify_plain(address);
    match address {
        IpAddr::V4(_) => own,
        IpAddr::V6(v6) => embedded(v6).map_or(own, |v4| classify_plain(IpAddr::V4(v4)).max(own)),
    }
}

fn classify_plain(address: IpAddr) -> AddressClass {
    let within = |(base, bits): (IpAddr, u8)| {
        base.is_ipv4() == address.is_ipv4() && mask(address, bits) == base
    };
    if METADATA.into_iter().any(within) {
        return AddressClass::Metadata;
    }
    let private = match address {
        IpAddr::V4(_) => PRIVATE_V4
            .into_iter()
            .any(|(base, bits)| within((base.into(), bits))),
        IpAddr::V6(_) => {
            !within(GLOBAL_V6)
                || PRIVATE_V6
                    .into_iter()
                    .any(|(base, bits)| within((base.into(), bits)))
        }
    };
    if private {
        AddressClass::Private
    } else {
        AddressClass::Public
    }
}

/// Returns the IPv4 address that an IPv6 address carries or tunnels to.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |shift: u32| {
        let bits = (v6.to_bits() >> shift) & u128::from(u32::MAX);
        Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(0))
    };
    match v6.segments() {
        // IPv4-compatible (::/96), IPv4-mapped (::ffff:0:0/96), IPv4-translated (::ffff:0:0:0/96).
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _]
        // NAT64, well-known and local-use (RFC 6052, RFC 8215).
        | [0x64, 0xff9b, ..] => Some(low(0)),
        // 6to4 (RFC 3056).
        [0x2002, ..] => Some(low(80)),
        // Teredo (RFC 4380): the client's address is inverted.
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!low(0).to_bits())),
        _ => None,
    }
}

/// Tells whether a name is that of a metadata service, or lies below one.
pub(crate) fn is_metadata_name(name: &HostName) -> bool {
    METADATA_NAMES.iter().any(|own| {
        name.as_str()
            .strip_suffix(own)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::{AddressClass, classify, is_metadata_name};

    fn class(text: &str) -> AddressClass {
        classify(text.parse().unwrap())
    }

    #[test]
    fn metadata_is_found_in_every_encoding() {
        for text in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2001:0:0:0:0:0:5601:5601",
        ] {
            assert_eq!(class(text), AddressClass::Metadata, "{text}");
        }
    }

    #[test]
    fn private_and_public_are_told_apart() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "64:ff9b::10.0.0.1",
            "255.255.255.255",
        ] {
            assert_eq!(class(text), AddressClass::Private, "{text}");
        }
        for text in ["1.1.1.1", "100.128.0.1", "2606:4700::1111", "172.32.0.1"] {
            assert_eq!(class(text), AddressClass::Public, "{text}");
        }
    }

    #[test]
    fn metadata_names_are_known() {
        assert!(is_metadata_name(
            &"Metadata.Google.Internal.".parse().unwrap()
        ));
        assert!(is_metadata_name(&"x.metadata.goog".parse().unwrap()));
        assert!(!is_metadata_name(&"notmetadata.goog".parse().unwrap()));
    }
}
