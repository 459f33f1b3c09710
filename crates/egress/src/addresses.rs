//! Which addresses mean something special, and the synthetic ones that stand for names.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use stockade_types::HostName;

use crate::limits::SYNTHETIC_NAMES_MAX;

/// What an address is, as far as dialing it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Globally reachable.
    Public,
    /// Loopback, private or shared space, or this machine itself: dialed only where a rule says `private = true`.
    Private,
    /// Cloud metadata and link-local space: never dialed.
    Metadata,
    /// Unspecified, multicast, reserved, documentation, benchmarking: never dialed.
    Unusable,
}

/// Says what `address` is (IANA special-purpose address registries, RFC 6890 and updates).
///
/// Addresses that carry an IPv4 address (mapped, compatible, NAT64, 6to4) are what that one is;
/// Teredo hides its own and is unusable.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let bits = u32::from(address);
    let within = |network: [u8; 4], length: u32| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        bits & mask == u32::from_be_bytes(network) & mask
    };
    // 168.63.129.16 is Azure's wire server, 100.100.100.200 Alibaba's metadata service.
    let metadata: [([u8; 4], u32); 3] = [
        ([169, 254, 0, 0], 16),
        ([168, 63, 129, 16], 32),
        ([100, 100, 100, 200], 32),
    ];
    let private: [([u8; 4], u32); 5] = [
        ([127, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        ([100, 64, 0, 0], 10),
    ];
    let unusable: [([u8; 4], u32); 9] = [
        ([0, 0, 0, 0], 8),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    let any = |list: &[([u8; 4], u32)]| list.iter().any(|(net, length)| within(*net, *length));
    if any(&metadata) {
        Reach::Metadata
    } else if any(&private) {
        Reach::Private
    } else if any(&unusable) {
        Reach::Unusable
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let bits = address.to_bits();
    let within = |network: &[u16], length: u32| {
        let start = network
            .iter()
            .fold(0_u128, |bits, group| (bits << 16) | u128::from(*group));
        let groups = u32::try_from(network.len()).unwrap_or(8);
        let network = start.checked_shl(128 - 16 * groups).unwrap_or(0);
        (bits ^ network).checked_shr(128 - length).unwrap_or(0) == 0
    };
    let [_, _, _, _, _, _, _, _, _, _, _, _, low @ ..] = address.octets();
    let [_, _, six_to_four @ .., _, _, _, _, _, _, _, _, _, _] = address.octets();
    if address == Ipv6Addr::LOCALHOST {
        return Reach::Private;
    }
    // fd00:ec2::254 and fd20:ce::254 are the metadata services of two clouds.
    let services = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    if services.contains(&address) || within(&[0xfe80], 10) {
        return Reach::Metadata;
    }
    if within(&[0xfc00], 7) || within(&[0xfec0], 10) {
        return Reach::Private;
    }
    let compatible = within(&[0; 6], 96) && address != Ipv6Addr::UNSPECIFIED;
    if compatible || within(&[0x64, 0xff9b, 0, 0, 0, 0], 96) {
        return carried(Ipv4Addr::from(low));
    }
    if within(&[0x2002], 16) {
        return carried(Ipv4Addr::from(six_to_four));
    }
    // Only 2000::/3 is allocated; within it Teredo and other protocols, and documentation.
    let global = within(&[0x2000], 3);
    let protocols = within(&[0x2001, 0], 23);
    let documentation = within(&[0x2001, 0xdb8], 32) || within(&[0x3fff, 0], 20);
    if !global || protocols || documentation {
        return Reach::Unusable;
    }
    Reach::Public
}

/// Addresses that no machine has (RFC 1112 section 4, RFC 6666).
const STRANGERS: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1),
);

/// Tells whether `address` is one of this machine's own, whatever its range. Sends nothing.
///
/// Two ways, since neither knows all: the kernel gives most of its addresses as the source towards
/// themselves, and it lets sockets be bound to its addresses only (unless
/// `net.ipv4.ip_nonlocal_bind` is set, which a stranger's address shows).
pub(crate) fn is_own(address: IpAddr) -> bool {
    let (any, stranger) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), STRANGERS.0.into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), STRANGERS.1.into()),
    };
    let bound = |to: IpAddr| UdpSocket::bind(SocketAddr::new(to, 0));
    let Ok(socket) = bound(any) else {
        // Without a socket nothing is known, and without IPv6 nothing is dialled.
        return true;
    };
    // Any port will do: connecting a datagram socket only looks the route up (ip(7)).
    let towards = socket.connect(SocketAddr::new(address, 9));
    let source = towards.and_then(|()| socket.local_addr());
    source.is_ok_and(|source| source.ip() == address)
        || (bound(address).is_ok() && bound(stranger).is_err())
}

/// A transition address is never better than the IPv4 address inside it.
fn carried(address: Ipv4Addr) -> Reach {
    match reach_v4(address) {
        Reach::Public => Reach::Public,
        Reach::Metadata => Reach::Metadata,
        Reach::Private | Reach::Unusable => Reach::Unusable,
    }
}

/// First address of 198.18.0.0/15 (RFC 2544 benchmarking space: never routed).
const SYNTHETIC_V4: u32 = 0xC612_0000;
/// First of the synthetic IPv6 addresses: a unique local /64 (RFC 4193) that spells `stockade`.
const SYNTHETIC_V6: u128 = 0xfd73_746f_636b_6164 << 64;

/// The synthetic address table: one address pair per name, stable for the whole session.
#[derive(Debug, Default)]
pub(crate) struct Synthetic {
    by_name: HashMap<HostName, u32>,
    names: Vec<HostName>,
}

/// The table of synthetic addresses is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableFull;

impl Synthetic {
    /// Returns the addresses that stand for `name`, allocating them at its first use.
    pub(crate) fn assign(&mut self, name: &HostName) -> Result<(Ipv4Addr, Ipv6Addr), TableFull> {
        if let Some(index) = self.by_name.get(name) {
            return Ok(pair(*index));
        }
        if self.names.len() >= SYNTHETIC_NAMES_MAX {
            return Err(TableFull);
        }
        // Index 0 would be the network's own address, so numbering starts at one.
        let index = u32::try_from(self.names.len() + 1).map_err(|_| TableFull)?;
        self.names.push(name.clone());
        self.by_name.insert(name.clone(), index);
        Ok(pair(index))
    }

    /// Returns the name that `address` stands for.
    pub(crate) fn name(&self, address: IpAddr) -> Option<&HostName> {
        let index = match address.to_canonical() {
            IpAddr::V4(v4) => u32::from(v4).checked_sub(SYNTHETIC_V4)?,
            IpAddr::V6(v6) => {
                let offset = v6.to_bits().checked_sub(SYNTHETIC_V6)?;
                u32::try_from(offset).ok()?
            }
        };
        let slot = usize::try_from(index.checked_sub(1)?).ok()?;
        self.names.get(slot)
    }
}

/// Tells whether `address` lies where synthetic addresses are made, assigned or not.
pub(crate) fn is_synthetic_space(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => u32::from(v4) >> 17 == SYNTHETIC_V4 >> 17,
        IpAddr::V6(v6) => v6.to_bits() >> 64 == SYNTHETIC_V6 >> 64,
    }
}

fn pair(index: u32) -> (Ipv4Addr, Ipv6Addr) {
    let v6 = Ipv6Addr::from_bits(SYNTHETIC_V6 | u128::from(index));
    (Ipv4Addr::from_bits(SYNTHETIC_V4 | index), v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_known() {
        let table = [
            ("8.8.8.8", Reach::Public),
            ("2606:4700::1", Reach::Public),
            ("172.15.0.1", Reach::Public),
            ("172.32.0.1", Reach::Public),
            ("100.128.0.1", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("::1", Reach::Private),
            ("::ffff:127.0.0.1", Reach::Private),
            ("10.1.2.3", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("192.168.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("fd12::1", Reach::Private),
            ("169.254.169.254", Reach::Metadata),
            ("::ffff:169.254.169.254", Reach::Metadata),
            ("64:ff9b::a9fe:a9fe", Reach::Metadata),
            ("2002:a9fe:a9fe::", Reach::Metadata),
            ("169.254.170.2", Reach::Metadata),
            ("168.63.129.16", Reach::Metadata),
            ("100.100.100.200", Reach::Metadata),
            ("fd00:ec2::254", Reach::Metadata),
            ("fe80::1", Reach::Metadata),
            ("0.0.0.0", Reach::Unusable),
            ("0.1.2.3", Reach::Unusable),
            ("::", Reach::Unusable),
            ("::127.0.0.1", Reach::Unusable),
            ("64:ff9b::7f00:1", Reach::Unusable),
            ("64:ff9b:1::1", Reach::Unusable),
            ("2002:7f00:1::", Reach::Unusable),
            ("2001::1", Reach::Unusable),
            ("2001:db8::1", Reach::Unusable),
            ("198.18.0.1", Reach::Unusable),
            ("224.0.0.1", Reach::Unusable),
            ("255.255.255.255", Reach::Unusable),
            ("ff02::1", Reach::Unusable),
        ];
        for (text, expected) in table {
            assert_eq!(reach(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn own_addresses_are_known() {
        for own in ["127.0.0.1", "127.200.3.4", "::1"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["8.8.8.8", "192.0.2.77", "2606:4700::1"] {
            assert!(!is_own(other.parse().unwrap()), "{other}");
        }
        for stranger in [STRANGERS.0.into(), IpAddr::from(STRANGERS.1)] {
            assert!(!is_own(stranger), "{stranger}");
        }
    }

    #[test]
    fn synthetic_addresses_are_stable_and_come_back() {
        let mut table = Synthetic::default();
        let name: HostName = "good.test".parse().unwrap();
        let (v4, v6) = table.assign(&name).unwrap();
        assert_eq!(v4, Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(table.assign(&name), Ok((v4, v6)));
        for address in [
            IpAddr::from(v4),
            IpAddr::from(v6),
            IpAddr::from(v4.to_ipv6_mapped()),
        ] {
            assert_eq!(table.name(address), Some(&name), "{address}");
            assert!(is_synthetic_space(address));
        }
        for text in [
            "198.18.0.0",
            "198.18.0.2",
            "198.17.255.255",
            "127.0.0.1",
            "fd73::1",
        ] {
            assert_eq!(table.name(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn a_full_table_refuses_new_names_and_keeps_old_ones() {
        let mut table = Synthetic::default();
        for i in 0..SYNTHETIC_NAMES_MAX {
            let name: HostName = format!("n{i}.test").parse().unwrap();
            let (v4, _) = table.assign(&name).unwrap();
            assert_eq!(table.name(v4.into()), Some(&name));
        }
        assert_eq!(
            table.assign(&"one-more.test".parse().unwrap()),
            Err(TableFull)
        );
        assert!(table.assign(&"n7.test".parse().unwrap()).is_ok());
    }
}
