//! Classes of addresses, in one table: those that a rule may reach, those that it may reach if it
//! says so, and those that no rule reaches. The policy, its tests and the egress process all use
//! this table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stockade_types::HostName;

use crate::pattern::host::mask;

/// The class of an address, from the most to the least reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressClass {
    /// Anything else.
    Public,
    /// Loopback, private or shared: reached only if a rule says `private = true`.
    Private,
    /// Not the address of a host: unspecified, multicast, reserved, documentation, benchmarking, or
    /// a detour through another address. Never reached.
    Unusable,
    /// Cloud metadata and other services of a host for its guests, and all link-local addresses.
    /// Never reached.
    Metadata,
}

impl AddressClass {
    /// Returns whether no rule makes it reachable.
    pub const fn is_never_reached(self) -> bool {
        match self {
            Self::Unusable | Self::Metadata => true,
            Self::Public | Self::Private => false,
        }
    }
}

/// A network and its class; if several contain an address, the longest prefix counts.
type Entry = (IpAddr, u8, AddressClass);

const fn v4(octets: [u8; 4], bits: u8, class: AddressClass) -> Entry {
    let [a, b, c, d] = octets;
    (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits, class)
}

#[expect(
    clippy::many_single_char_names,
    reason = "the groups of an address have no other names"
)]
const fn v6(groups: [u16; 8], bits: u8, class: AddressClass) -> Entry {
    let [a, b, c, d, e, f, g, h] = groups;
    (
        IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)),
        bits,
        class,
    )
}

/// Every special network. Sources: the IANA special-purpose address registries (RFC 6890 and its
/// updates), and for each cloud service the provider's documentation, named beside it.
const SPECIAL: [Entry; 45] = {
    use AddressClass::{Metadata, Private, Public, Unusable};
    [
        // Link-local (RFC 3927), where most clouds have their services: 169.254.169.254 of AWS,
        // Google, Azure, Oracle, IBM, DigitalOcean, Hetzner, Vultr, OpenStack, Exoscale, Akamai,
        // Huawei and others (metadata), 169.254.169.253 and .123 of AWS (names, time: "VPC DNS",
        // "Amazon Time Sync Service"), 169.254.169.249 to .251 of AWS (activation), 169.254.170.2
        // (ECS, "Task IAM role"), 169.254.170.23 (EKS, "Pod Identity Agent"), 169.254.169.252
        // (GKE, "Workload Identity"), 169.254.0.23 and 169.254.10.10 of Tencent ("CVM metadata"),
        // 169.254.42.42 of Scaleway (cloud-init, "Scaleway"), 169.254.20.10 of Kubernetes
        // ("NodeLocal DNSCache").
        v4([169, 254, 0, 0], 16, Metadata),
        // Azure: "What is IP address 168.63.129.16?" (the wire server, names, health).
        v4([168, 63, 129, 16], 32, Metadata),
        // Alibaba Cloud: "Instance metadata"; names at 100.100.2.136 and .138 are private as all
        // of 100.64.0.0/10.
        v4([100, 100, 100, 200], 32, Metadata),
        // Oracle: metadata of Cloud at Customer and of Compute Classic.
        v4([192, 0, 0, 192], 32, Metadata),
        // Link-local (RFC 4291): fe80::a9fe:a9fe of OpenStack ("Metadata service"), Hetzner, Akamai.
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Metadata),
        // AWS: "IPv6 addressing" reserves the block: ::254 (metadata), ::253 (names), ::123 (time),
        // ::23 (EKS Pod Identity), ::240 (activation).
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32, Metadata),
        // Google: "View and query VM metadata", for instances with IPv6 only.
        v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Metadata),
        // Oracle: "Instance metadata service v2", IPv6 endpoint; its DNS and time services are
        // beside it.
        v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0], 112, Metadata),
        // Scaleway: cloud-init, "Scaleway".
        v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128, Metadata),
        // Akamai (Linode): "Metadata service API"; cloud-init, "Akamai".
        v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128, Metadata),
        // Alibaba Cloud: "Instance metadata", IPv6 endpoint.
        v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128, Metadata),
        // Private and shared (RFC 1918, RFC 6598), and loopback.
        v4([10, 0, 0, 0], 8, Private),
        v4([100, 64, 0, 0], 10, Private),
        v4([127, 0, 0, 0], 8, Private),
        v4([172, 16, 0, 0], 12, Private),
        v4([192, 168, 0, 0], 16, Private),
        v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Private),
        // Unique local (RFC 4193) and the former site-local (RFC 3879).
        v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Private),
        v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Private),
        // Not hosts: this network, protocols, documentation, 6to4 relays, benchmarking, multicast,
        // reserved.
        v4([0, 0, 0, 0], 8, Unusable),
        v4([192, 0, 0, 0], 24, Unusable),
        v4([192, 0, 2, 0], 24, Unusable),
        v4([192, 88, 99, 0], 24, Unusable),
        v4([198, 18, 0, 0], 15, Unusable),
        v4([198, 51, 100, 0], 24, Unusable),
        v4([203, 0, 113, 0], 24, Unusable),
        v4([224, 0, 0, 0], 4, Unusable),
        v4([240, 0, 0, 0], 4, Unusable),
        v4([0, 0, 0, 0], 0, Public),
        // In IPv6, only 2000::/3 is assigned (RFC 4291 section 2.4), and within it some blocks for
        // protocols, documentation and benchmarking.
        v6([0, 0, 0, 0, 0, 0, 0, 0], 0, Unusable),
        v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, Public),
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Unusable),
        v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Unusable),
        v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Unusable),
        v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Unusable),
        // Detours through IPv4: an address that leads to a public IPv4 address may be public (NAT64
        // with its well-known prefix, RFC 6052, and 6to4, RFC 3056); `carried` finds that address.
        v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, Public),
        v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Public),
        // NAT64 of one network (RFC 8215), Teredo (RFC 4380), IPv4-compatible and -translated.
        v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Unusable),
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Unusable),
        v6([0, 0, 0, 0, 0, 0, 0, 0], 96, Unusable),
        v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Unusable),
        // Discard-only, and segment routing (RFC 6666, RFC 9602).
        v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Unusable),
        v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Unusable),
        // Multicast.
        v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Unusable),
        v6([0, 0, 0, 0, 0, 0, 0, 0], 128, Unusable),
    ]
};

/// Names of cloud services for guests, each from the provider's documentation; the names below one
/// count as well.
const METADATA_NAMES: [&str; 13] = [
    // Google.
    "metadata.google.internal",
    "metadata.goog",
    // Azure.
    "metadata.azure.internal",
    "metadata.azure.com",
    // AWS.
    "instance-data.ec2.internal",
    "instance-data.amazonaws.com",
    // Equinix Metal, formerly Packet.
    "metadata.packet.net",
    "metadata.platformequinix.com",
    // Tencent.
    "metadata.tencentyun.com",
    // IBM.
    "metadata.cloud.ibm.com",
    // Exoscale.
    "metadata.exoscale.com",
    // Oracle.
    "metadata.oraclecloud.com",
    // Rancher.
    "rancher-metadata.rancher.internal",
];

/// Top-level names that never leave the link, or that have no owner (RFC 6761, RFC 6762, RFC 7686,
/// RFC 9476); they exist only if the policy fixes an address.
const SPECIAL_TOPS: [&str; 5] = ["local", "localhost", "invalid", "onion", "alt"];

/// Domains of reverse look-ups; a synthetic address has no owner to report.
const BACKWARDS: [&str; 2] = ["in-addr", "ip6"];

/// Returns the class of an address. An IPv4 address that an IPv6 address carries or leads to counts
/// too (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP): a service for guests is one
/// in each of these forms, and no detour through IPv4 reaches an address that is not public.
pub fn classify(address: IpAddr) -> AddressClass {
    let own = listed(address);
    let IpAddr::V6(v6) = address else {
        return own;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return listed(v4.into());
    }
    match carried(v6).map(|v4| listed(v4.into())) {
        Some(AddressClass::Metadata) => AddressClass::Metadata,
        Some(AddressClass::Private | AddressClass::Unusable) => own.max(AddressClass::Unusable),
        Some(AddressClass::Public) | None => own,
    }
}

/// Looks the table up.
fn listed(address: IpAddr) -> AddressClass {
    let within = |(base, bits, _): &&Entry| {
        base.is_ipv4() == address.is_ipv4() && mask(address, *bits) == *base
    };
    let longest = SPECIAL
        .iter()
        .filter(within)
        .max_by_key(|(_, bits, _)| *bits);
    // Both families have an entry for every address; without one, an address would not be
    // reachable.
    longest.map_or(AddressClass::Unusable, |(_, _, class)| *class)
}

/// Returns the IPv4 address that an IPv6 address carries or tunnels to.
fn carried(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |shift: u32| {
        let bits = (v6.to_bits() >> shift) & u128::from(u32::MAX);
        Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(0))
    };
    match v6.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible (::/96) and IPv4-translated (::ffff:0:0:0/96, RFC 2765).
        [0, 0, 0, 0, 0 | 0xffff, 0, _, _]
        // NAT64, well-known and local-use (RFC 6052, RFC 8215).
        | [0x64, 0xff9b, ..]
        // ISATAP, under any prefix (RFC 5214 section 6.1).
        | [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => Some(low(0)),
        // 6to4 (RFC 3056).
        [0x2002, ..] => Some(low(80)),
        // Teredo (RFC 4380): the client's address is inverted.
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!low(0).to_bits())),
        _ => None,
    }
}

/// Returns whether a name is that of a metadata service, or is below one.
pub(crate) fn is_metadata_name(name: &HostName) -> bool {
    METADATA_NAMES.iter().any(|own| {
        name.as_str()
            .strip_suffix(own)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
    })
}

/// Returns whether a name is always a machine's own loopback (RFC 6761 section 6.3).
pub(crate) fn is_localhost(name: &HostName) -> bool {
    name.labels_rev().next() == Some("localhost")
}

/// Returns whether a name means something only on one machine or link, or nothing: a single label
/// or a special-use name. Such a name exists in a session only if `[network.hosts]` fixes it.
pub fn is_special_name(name: &HostName) -> bool {
    let mut labels = name.labels_rev();
    let top = labels.next().unwrap_or_default();
    labels.next().is_none_or(|second| {
        SPECIAL_TOPS.contains(&top) || (top == "arpa" && BACKWARDS.contains(&second))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{AddressClass, SPECIAL, classify, is_metadata_name, is_special_name, mask};

    fn class(text: &str) -> AddressClass {
        classify(text.parse().unwrap())
    }

    /// One address of each documented service.
    const SERVICES: [&str; 29] = [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.169.123",
        "169.254.169.253",
        "169.254.169.252",
        "169.254.169.249",
        "169.254.0.23",
        "169.254.10.10",
        "169.254.42.42",
        "169.254.20.10",
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::253",
        "fd00:ec2::123",
        "fd00:ec2::23",
        "fd00:ec2::240",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "fd00:100::100:200",
        "fe80::a9fe:a9fe",
        "fe80::1",
        "fe80::254",
        "febf::1",
    ];

    #[test]
    fn every_service_for_guests_is_closed() {
        for text in SERVICES {
            assert_eq!(class(text), AddressClass::Metadata, "{text}");
        }
    }

    #[test]
    fn they_are_closed_in_every_form() {
        let services = SERVICES.iter().map(|text| text.parse().unwrap());
        for v4 in services.filter_map(|address: IpAddr| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }) {
            let bits = u128::from(v4.to_bits());
            let at = |base: &str, bits: u128| {
                Ipv6Addr::from_bits(base.parse::<Ipv6Addr>().unwrap().to_bits() | bits)
            };
            for form in [
                at("::ffff:0:0", bits),
                at("::", bits),
                at("::ffff:0:0:0", bits),
                at("64:ff9b::", bits),
                at("64:ff9b:1::", bits),
                at("2002::", bits << 80),
                at("2002:0:0:1::5", bits << 80),
                at("2001:0:1:2::", u128::from(!v4.to_bits())),
                at("fe80::5efe:0:0", bits),
                at("2600:1::200:5efe:0:0", bits),
            ] {
                assert_eq!(classify(form.into()), AddressClass::Metadata, "{form}");
            }
        }
    }

    #[test]
    fn private_and_public_are_told_apart() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.201",
            "::1",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fc00::1",
            "fd20:ce::253",
            "fec0::1",
        ] {
            assert_eq!(class(text), AddressClass::Private, "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "168.63.129.17",
            "169.253.0.1",
            "2606:4700::1111",
            "2a01:4f8::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(class(text), AddressClass::Public, "{text}");
        }
    }

    #[test]
    fn what_no_host_has_is_never_reached() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "4000::1",
            "ff02::1",
        ] {
            assert_eq!(class(text), AddressClass::Unusable, "{text}");
        }
    }

    #[test]
    fn no_entry_has_bits_after_its_prefix_or_stands_twice() {
        for (place, (base, bits, _)) in SPECIAL.iter().enumerate() {
            assert_eq!(mask(*base, *bits), *base, "{base}/{bits}");
            let twice = SPECIAL.iter().skip(place + 1);
            let mut twice = twice.filter(|(other, length, _)| (other, length) == (base, bits));
            assert!(twice.next().is_none(), "{base}/{bits}");
        }
        assert_eq!(classify(Ipv4Addr::BROADCAST.into()), AddressClass::Unusable);
    }

    #[test]
    fn metadata_names_are_known() {
        for name in [
            "Metadata.Google.Internal.",
            "x.metadata.goog",
            "metadata.tencentyun.com",
            "api.metadata.cloud.ibm.com",
        ] {
            assert!(is_metadata_name(&name.parse().unwrap()), "{name}");
        }
        assert!(!is_metadata_name(&"notmetadata.goog".parse().unwrap()));
    }

    #[test]
    fn special_names_are_known() {
        for name in [
            "intranet",
            "localhost",
            "a.localhost",
            "nas.local",
            "x.onion",
            "x.invalid",
            "x.alt",
            "1.0.18.198.in-addr.arpa",
            "a.ip6.arpa",
        ] {
            assert!(is_special_name(&name.parse().unwrap()), "{name}");
        }
        for name in ["good.test", "local.good.test", "home.arpa", "x.internal"] {
            assert!(!is_special_name(&name.parse().unwrap()), "{name}");
        }
    }
}
