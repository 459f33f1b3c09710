//! Which socket of the session a connection came from (sock_diag(7)).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::netlink;

use super::netlink::{Batch, DUMP, KIND_DONE, KIND_ERROR, REQUEST, Socket, check, u32_at};
use crate::Outcome;

const BY_FAMILY: u16 = 20;
const ALL_STATES: u32 = u32::MAX;
/// Offset of the socket inode in struct inet_diag_msg.
const INODE_AT: usize = 68;

/// The transport of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Asks about sockets of the network namespace it was opened in, from wherever it is used.
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

    /// Finds the inode of the socket with the local address `source`, connected to `destination`
    /// or not connected at all; `None` when it is gone.
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
        for family in [libc::AF_INET, libc::AF_INET6] {
            let found = self.dump(protocol, family, |entry| {
                let source_fits = entry.source.port() == source.port()
                    && (entry.source.ip().is_unspecified() || entry.source.ip() == source.ip());
                let free = entry.destination.port() == 0;
                source_fits && (free || entry.destination == destination)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn dump(
        &self,
        protocol: Protocol,
        family: i32,
        matches: impl Fn(&Entry) -> bool,
    ) -> Outcome<Option<u32>> {
        let number = match protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        };
        let byte = |value: i32| u8::try_from(value).unwrap_or_default();
        let mut batch = Batch::default();
        batch.message(BY_FAMILY, REQUEST | DUMP, |m| {
            // struct inet_diag_req_v2: family, protocol, ext, pad, states, id (48 bytes).
            m.raw(&[byte(family), byte(number), 0, 0]);
            m.raw(&ALL_STATES.to_ne_bytes());
            m.raw(&[0; 48]);
        });
        self.0.send(&batch)?;
        let mut found = None;
        loop {
            for message in self.0.receive()? {
                match message.kind {
                    KIND_DONE => return Ok(found),
                    KIND_ERROR => check("query sockets", &message.body)?,
                    _ => {
                        if let Some(entry) = Entry::parse(&message.body)
                            && matches(&entry)
                            && found.is_none()
                        {
                            found = Some(entry.inode);
                        }
                    }
                }
            }
        }
    }
}

struct Entry {
    source: SocketAddr,
    destination: SocketAddr,
    inode: u32,
}

impl Entry {
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
