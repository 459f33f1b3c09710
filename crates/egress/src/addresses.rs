//! The machine's own addresses, and the synthetic ones that stand for names. What an address means
//! to everybody is [`stockade_policy::classify`].

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use stockade_types::HostName;

use crate::limits::SYNTHETIC_NAMES_MAX;

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
