//! New connections that wait for a decision before their program learns anything: the first packet
//! is held (nfnetlink_queue; linux/netfilter/nfnetlink_queue.h) until it is known whether the
//! server can be reached.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::netlink;

use super::netlink::{ACKNOWLEDGE, Batch, REQUEST, Received, Socket};
use crate::Outcome;

const SUBSYSTEM: u16 = 3 << 8;
const PACKET: u16 = SUBSYSTEM;
const VERDICT: u16 = SUBSYSTEM | 1;
const CONFIGURE: u16 = SUBSYSTEM | 2;
const COMMAND_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// Enough for the addresses and ports behind each header that Linux sends with a first packet.
const PACKET_BYTES: u32 = 128;
/// First packets that wait at a time; the kernel drops any more, and their senders repeat them.
const WAITING_MAX: u32 = 1024;
/// Attributes of a packet and of a verdict.
const HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const MARK: u16 = 3;
const PAYLOAD: u16 = 10;
const ACCEPT: u32 = 1;
const DROP: u32 = 0;
const TCP: u8 = 6;

/// A first packet that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Number of the packet.
    pub packet: u32,
    /// Address of the socket that connects.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
}

/// The fate of a held connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It proceeds.
    Go,
    /// `ECONNREFUSED`.
    Refused,
    /// `EHOSTUNREACH`.
    NoHost,
    /// `ENETUNREACH`.
    NoNetwork,
    /// No answer, as from a host that does not exist: the program runs into its own timeout.
    Silence,
}

impl Word {
    /// The mark by which the rules of the session's network know the answer; an unmarked packet
    /// proceeds.
    pub(super) const fn mark(self) -> u32 {
        match self {
            Self::Go | Self::Silence => 0,
            Self::Refused => 1,
            Self::NoHost => 2,
            Self::NoNetwork => 3,
        }
    }
}

/// Receives held connections of the network namespace it was opened in, from whichever namespace it
/// is used.
#[derive(Debug)]
pub struct HeldConnections(Socket);

impl HeldConnections {
    /// Opens the queue in the caller's network namespace.
    ///
    /// # Errors
    /// EINVAL if the kernel has no nfnetlink_queue.
    pub fn open() -> Outcome<Self> {
        let socket = Socket::open(Some(netlink::NETFILTER))?;
        let mut batch = Batch::default();
        batch.message(CONFIGURE, REQUEST | ACKNOWLEDGE, |m| {
            m.raw(&[0; 4]);
            m.attribute(1, &[COMMAND_BIND, 0, 0, 0]);
        });
        batch.message(CONFIGURE, REQUEST | ACKNOWLEDGE, |m| {
            m.raw(&[0; 4]);
            let mut parameters = PACKET_BYTES.to_be_bytes().to_vec();
            parameters.push(COPY_PACKET);
            m.attribute(2, &parameters);
        });
        batch.message(CONFIGURE, REQUEST | ACKNOWLEDGE, |m| {
            m.raw(&[0; 4]);
            m.attribute(3, &WAITING_MAX.to_be_bytes());
        });
        socket.request("hold connections", &batch, 3)?;
        Ok(Self(socket))
    }

    /// Wraps a queue that was passed from another process.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(Socket::from_fd(fd))
    }

    /// Gives up the descriptor, to pass it on.
    pub fn into_fd(self) -> OwnedFd {
        self.0.into_fd()
    }

    /// Waits for connections. What cannot be read is dropped by the kernel's own bound in time.
    ///
    /// # Errors
    /// When the queue fails; ENOBUFS when so many came that some were lost, which their senders
    /// repeat.
    pub fn receive(&self) -> Outcome<Vec<Held>> {
        let messages = self.0.receive()?;
        Ok(messages.iter().filter_map(held).collect())
    }

    /// Decides the fate of a held connection.
    ///
    /// # Errors
    /// EPERM if the caller does not own the session's network.
    pub fn answer(&self, packet: u32, word: Word) -> Outcome<()> {
        let mut batch = Batch::default();
        let verdict = match word {
            Word::Silence => DROP,
            Word::Go | Word::Refused | Word::NoHost | Word::NoNetwork => ACCEPT,
        };
        batch.message(VERDICT, REQUEST, |m| {
            m.raw(&[0; 4]);
            let mut header = verdict.to_be_bytes().to_vec();
            header.extend(packet.to_be_bytes());
            m.attribute(VERDICT_HEADER, &header);
            m.attribute(MARK, &word.mark().to_be_bytes());
        });
        self.0.send(&batch)
    }
}

fn held(message: &Received) -> Option<Held> {
    if message.kind != PACKET {
        return None;
    }
    let mut rest = message.body.get(4..)?;
    let (mut packet, mut addresses) = (None, None);
    while let Some(&[a, b, c, d]) = rest.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        match u16::from_ne_bytes([c, d]) & 0x3FFF {
            HEADER => packet = value.first_chunk().map(|id| u32::from_be_bytes(*id)),
            PAYLOAD => addresses = parse(value),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let (source, destination) = addresses?;
    Some(Held {
        packet: packet?,
        source,
        destination,
    })
}

/// Reads the addresses and ports of a TCP packet (RFC 791, RFC 8200, RFC 9293).
fn parse(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let first = *bytes.first()?;
    let (source, destination, transport): (IpAddr, IpAddr, usize) = match first >> 4 {
        4 if *bytes.get(9)? == TCP => {
            let at = |at: usize| bytes.get(at..)?.first_chunk::<4>().copied();
            let four = |at_: usize| at(at_).map(|b| IpAddr::from(Ipv4Addr::from(b)));
            (four(12)?, four(16)?, usize::from(first & 0xF) * 4)
        }
        // Linux puts no extension header in front of its own first packets.
        6 if *bytes.get(6)? == TCP => {
            let at = |at: usize| bytes.get(at..)?.first_chunk::<16>().copied();
            let six = |at_: usize| at(at_).map(|b| IpAddr::from(Ipv6Addr::from(b)));
            (six(8)?, six(24)?, 40)
        }
        _ => return None,
    };
    let ports = bytes.get(transport..)?.first_chunk::<4>()?;
    let [a, b, c, d] = *ports;
    Some((
        SocketAddr::new(source, u16::from_be_bytes([a, b])),
        SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    ))
}
