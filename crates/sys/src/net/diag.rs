//! Finds the socket of the session that a connection came from (sock_diag(7)).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::netlink;

use super::netlink::{Batch, DUMP, KIND_DONE, KIND_ERROR, REQUEST, Socket, check, u32_at};
use crate::{Outcome, SysError};

const BY_FAMILY: u16 = 20;
const ALL_STATES: u32 = u32::MAX;
/// Offset of the socket inode in struct inet_diag_msg.
const INODE_AT: usize = 68;
/// Bytes of struct inet_diag_sockid.
const ID_BYTES: usize = 48;
/// Bytes of its last field; all ones match any socket (`INET_DIAG_NOCOOKIE`).
const COOKIE_BYTES: usize = 8;
/// Interface of loopback, the only one of a session; sockets that are bound to it are found too.
const LOOPBACK_INDEX: u32 = 1;

/// The transport of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Queries sockets of the network namespace it was opened in, from whichever namespace it is used.
#[derive(Debug)]
pub struct SocketDiagnosis(Socket);

impl SocketDiagnosis {
    /// Opens the query socket in the caller's network namespace.
    ///
    /// # Errors
    /// When the kernel has no sock_diag.
    pub fn open() -> Outcome<Self> {
        Socket::open(Some(netlink::SOCK_DIAG)).map(Self)
    }

    /// Wraps a query socket that was passed from another process.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(Socket::from_fd(fd))
    }

    /// Gives up the descriptor, to pass it on.
    pub fn into_fd(self) -> OwnedFd {
        self.0.into_fd()
    }

    /// Finds the inode of the socket with the local address `source` that is connected to
    /// `destination`; `None` when it is gone. A datagram socket need not be connected, nor bound to
    /// more than the port of `source`.
    ///
    /// # Errors
    /// When the kernel refuses the query.
    pub fn inode(
        &self,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Outcome<Option<u32>> {
        // A dual listener sees IPv4 peers in their mapped form.
        let plain =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (source, destination) = (plain(source), plain(destination));
        let found = match protocol {
            Protocol::Tcp => self.connected(source, destination)?,
            Protocol::Udp => self.datagrams(source, destination)?,
        };
        // The remains of a connection whose socket was closed have no inode.
        Ok(found.filter(|inode| *inode != 0))
    }

    /// Looks a connection up. The kernel lists IPv6 sockets with mapped addresses among the IPv4
    /// ones.
    fn connected(&self, source: SocketAddr, destination: SocketAddr) -> Outcome<Option<u32>> {
        let family = family_of(source);
        let mut batch = Batch::default();
        batch.message(BY_FAMILY, REQUEST, |m| {
            request(m, family, libc::IPPROTO_TCP, |m| {
                m.raw(&source.port().to_be_bytes());
                m.raw(&destination.port().to_be_bytes());
                m.raw(&address_bytes(source));
                m.raw(&address_bytes(destination));
                m.raw(&LOOPBACK_INDEX.to_ne_bytes());
                m.raw(&[0xFF; COOKIE_BYTES]);
            });
        });
        self.0.send(&batch)?;
        for message in self.0.receive()? {
            if message.kind == KIND_ERROR {
                let gone = |error: &SysError| error.errno() == Some(libc::ENOENT);
                return match check("query socket", &message.body) {
                    Err(error) if !gone(&error) => Err(error),
                    Ok(()) | Err(_) => Ok(None),
                };
            }
            // If there is no such connection, the kernel answers with the listener on its port.
            let same = |entry: &Entry| entry.source == source && entry.destination == destination;
            if let Some(entry) = Entry::parse(&message.body).filter(same) {
                return Ok(Some(entry.inode));
            }
        }
        Ok(None)
    }

    /// Looks for the datagram socket that fits best.
    fn datagrams(&self, source: SocketAddr, destination: SocketAddr) -> Outcome<Option<u32>> {
        // An IPv6 socket can send to both families, an IPv4 socket cannot.
        let families: &[i32] = if source.is_ipv4() {
            &[libc::AF_INET, libc::AF_INET6]
        } else {
            &[libc::AF_INET6]
        };
        let mut best: Option<(Fit, u32)> = None;
        for family in families {
            self.dump(*family, |entry| {
                let fit = entry.fit(source, destination);
                if let Some(fit) = fit
                    && best.is_none_or(|(so_far, _)| fit < so_far)
                {
                    best = Some((fit, entry.inode));
                }
            })?;
        }
        Ok(best.map(|(_, inode)| inode))
    }

    fn dump(&self, family: i32, mut see: impl FnMut(&Entry)) -> Outcome<()> {
        let mut batch = Batch::default();
        batch.message(BY_FAMILY, REQUEST | DUMP, |m| {
            request(m, family, libc::IPPROTO_UDP, |m| m.raw(&[0; ID_BYTES]));
        });
        self.0.send(&batch)?;
        loop {
            for message in self.0.receive()? {
                match message.kind {
                    KIND_DONE => return Ok(()),
                    KIND_ERROR => check("query sockets", &message.body)?,
                    _ => {
                        if let Some(entry) = Entry::parse(&message.body) {
                            see(&entry);
                        }
                    }
                }
            }
        }
    }
}

/// Writes struct inet_diag_req_v2; `id` writes its last field, struct inet_diag_sockid.
fn request(m: &mut Batch, family: i32, protocol: i32, id: impl FnOnce(&mut Batch)) {
    let byte = |value: i32| u8::try_from(value).unwrap_or_default();
    m.raw(&[byte(family), byte(protocol), 0, 0]);
    m.raw(&ALL_STATES.to_ne_bytes());
    id(m);
}

const fn family_of(address: SocketAddr) -> i32 {
    match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    }
}

/// Returns an address as the four words of struct inet_diag_sockid.
fn address_bytes(address: SocketAddr) -> [u8; 16] {
    match address.ip() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// How well a datagram socket fits what was received, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It is connected.
    Connected,
    /// It is bound to the address.
    Bound,
    /// It is bound to all addresses of the family.
    Unspecified,
    /// It is bound to all addresses of both families.
    Dual,
}

struct Entry {
    source: SocketAddr,
    destination: SocketAddr,
    inode: u32,
}

impl Entry {
    /// Tells how well a datagram socket fits what `source` sent to `destination`.
    fn fit(&self, source: SocketAddr, destination: SocketAddr) -> Option<Fit> {
        let free = self.destination.port() == 0;
        if self.source.port() != source.port() || !(free || self.destination == destination) {
            return None;
        }
        let own = self.source.ip();
        match (own == source.ip(), own.is_unspecified()) {
            (true, _) if free => Some(Fit::Bound),
            (true, _) => Some(Fit::Connected),
            (false, true) if own.is_ipv4() == source.is_ipv4() => Some(Fit::Unspecified),
            (false, true) if own.is_ipv6() => Some(Fit::Dual),
            (false, _) => None,
        }
    }

    /// Reads struct inet_diag_msg.
    fn parse(body: &[u8]) -> Option<Self> {
        let family = i32::from(*body.first()?);
        let port = |at: usize| Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?));
        let address = |at: usize| -> Option<IpAddr> {
            let bytes: [u8; 16] = *body.get(at..)?.first_chunk()?;
            Some(if family == libc::AF_INET {
                IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?))
            } else {
                IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
            })
        };
        Some(Self {
            source: SocketAddr::new(address(8)?, port(4)?),
            destination: SocketAddr::new(address(24)?, port(6)?),
            inode: u32_at(body, INODE_AT)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
        os::fd::AsFd,
    };

    use super::{Entry, Fit, Protocol, SocketDiagnosis};

    fn inode(socket: &impl AsFd) -> Option<u32> {
        let stat = rustix::fs::fstat(socket).unwrap();
        u32::try_from(stat.st_ino).ok()
    }

    #[test]
    fn a_connection_is_found_and_not_who_listens_on_its_port() {
        let diagnosis = SocketDiagnosis::open().unwrap();
        for there in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ] {
            let server = TcpListener::bind(there).unwrap();
            let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
            let (source, destination) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found =
                |source, destination| diagnosis.inode(Protocol::Tcp, source, destination).unwrap();
            assert_eq!(found(source, destination), inode(&client));
            // No connection comes from there; the server listens here.
            assert_eq!(
                found(destination, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))),
                None
            );
            assert_eq!(found(destination, destination), None);
            drop(client);
            assert_eq!(found(source, destination), None);
        }
    }

    #[test]
    fn a_mapped_address_is_one_of_the_other_family() {
        let diagnosis = SocketDiagnosis::open().unwrap();
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)).unwrap();
        assert!(client.local_addr().unwrap().is_ipv6());
        let (_, peer) = server.accept().unwrap();
        let destination = server.local_addr().unwrap();
        assert_eq!(
            diagnosis.inode(Protocol::Tcp, peer, destination).unwrap(),
            inode(&client)
        );
    }

    #[test]
    fn of_datagram_sockets_the_one_that_fits_best_is_found() {
        let diagnosis = SocketDiagnosis::open().unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let there = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 53), 53));
        let found = || diagnosis.inode(Protocol::Udp, source, there).unwrap();
        assert_eq!(found(), inode(&socket));
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let of_six = diagnosis.inode(Protocol::Udp, six, there).unwrap();
        assert_ne!(
            of_six,
            inode(&socket),
            "a socket of IPv4 sends nothing from IPv6"
        );
    }

    #[test]
    fn an_exact_fit_goes_before_one_that_could_be() {
        let fit = |own: &str, to: &str, source: &str| {
            let entry = Entry {
                source: own.parse().unwrap(),
                destination: to.parse().unwrap(),
                inode: 1,
            };
            entry.fit(source.parse().unwrap(), "127.0.0.53:53".parse().unwrap())
        };
        let free = "0.0.0.0:0";
        let four = "127.0.0.1:9";
        assert_eq!(fit(four, "127.0.0.53:53", four), Some(Fit::Connected));
        assert_eq!(fit(four, free, four), Some(Fit::Bound));
        assert_eq!(fit("0.0.0.0:9", free, four), Some(Fit::Unspecified));
        assert_eq!(fit("[::]:9", free, four), Some(Fit::Dual));
        assert_eq!(fit("[::]:9", free, "[::1]:9"), Some(Fit::Unspecified));
        assert_eq!(fit("0.0.0.0:9", free, "[::1]:9"), None);
        assert_eq!(fit(four, "127.0.0.54:53", four), None);
        assert_eq!(fit("127.0.0.2:9", free, four), None);
        assert_eq!(fit("127.0.0.1:8", free, four), None);
    }
}
