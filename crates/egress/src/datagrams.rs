//! Datagram sockets that tell and keep the address the client asked.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

use tokio::{io::ReadBuf, net::UdpSocket};

/// One datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes of it that are in the buffer.
    pub bytes: usize,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent to, from which the answer must come.
    pub local: SocketAddr,
}

/// A datagram socket on which every address is local (`IP_PKTINFO`, ip(7)).
pub trait Datagrams: Send + Sync {
    /// Receives one datagram into `buffer`; never blocks.
    ///
    /// # Errors
    /// Of the socket; the caller pauses and tries again.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Datagram>>;

    /// Sends one datagram from `local` to `peer`; never blocks.
    ///
    /// # Errors
    /// Of the socket, among them that it would block.
    fn try_send(&self, bytes: &[u8], peer: SocketAddr, local: SocketAddr) -> io::Result<()>;
}

/// A socket that is bound to one address, which is then what clients asked.
#[derive(Debug)]
pub struct PlainDatagrams {
    socket: UdpSocket,
    local: SocketAddr,
}

impl PlainDatagrams {
    /// Takes over a bound socket; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be registered or has no address.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            local,
        })
    }
}

impl Datagrams for PlainDatagrams {
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Datagram>> {
        let mut buffer = ReadBuf::new(buffer);
        self.socket
            .poll_recv_from(context, &mut buffer)
            .map_ok(|peer| Datagram {
                bytes: buffer.filled().len(),
                peer,
                local: self.local,
            })
    }

    fn try_send(&self, bytes: &[u8], peer: SocketAddr, _local: SocketAddr) -> io::Result<()> {
        self.socket.try_send_to(bytes, peer).map(|_| ())
    }
}
