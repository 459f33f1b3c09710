//! One end of a connection, whatever carries its bytes: what is read and written here need not be
//! what goes over a socket.
//!
//! A silent connection holds no buffer: bytes are read into one that all connections of the process
//! share, and are used or copied before anybody waits again.

use std::{
    cell::RefCell,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, Ready},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};
use tokio_rustls::TlsStream;

use crate::{alpn::Http, limits::RELAY_CHUNK_BYTES};

thread_local! {
    /// One buffer for all connections of the process: it is only used between two waits.
    static SCRATCH: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; RELAY_CHUNK_BYTES].into_boxed_slice());
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// The bytes of a socket.
    Plain(TcpStream),
    /// What is inside TLS that ends here. Its halves share one state, and are polled by one task.
    Tls(Box<Mutex<TlsStream<Ahead>>>),
}

/// A socket whose first bytes were read already.
#[derive(Debug)]
pub(crate) struct Ahead {
    read: Vec<u8>,
    socket: TcpStream,
}

impl Ahead {
    /// Puts `read` before what comes next of the socket.
    pub(crate) const fn new(read: Vec<u8>, socket: TcpStream) -> Self {
        Self { read, socket }
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        if own.read.is_empty() {
            return Pin::new(&mut own.socket).poll_read(context, buffer);
        }
        let here = own.read.len().min(buffer.remaining());
        let later = own.read.split_off(here);
        buffer.put_slice(&own.read);
        own.read = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Gives access to the state that the halves share; nobody holds it across a wait.
fn lock(tls: &Mutex<TlsStream<Ahead>>) -> MutexGuard<'_, TlsStream<Ahead>> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one turn of passing bytes on came to.
#[derive(Debug)]
pub(crate) enum Turn<E> {
    /// Bytes were passed on.
    Moved,
    /// The side that sends has ended.
    Ended,
    /// The bytes must not be passed on, and none of them was.
    Refused(E),
    /// The side that sends failed.
    ReadFailed,
    /// The side that receives failed.
    WriteFailed,
}

/// The half of a [`Stream`] that is read.
#[derive(Debug)]
pub(crate) enum Reader<'a> {
    Plain(ReadHalf<'a>),
    Tls(&'a Mutex<TlsStream<Ahead>>),
}

/// The half of a [`Stream`] that is written.
#[derive(Debug)]
pub(crate) enum Writer<'a> {
    Plain(WriteHalf<'a>),
    Tls(&'a Mutex<TlsStream<Ahead>>),
}

impl Stream {
    /// Takes what is inside TLS that was set up on a socket.
    pub(crate) fn tls(stream: impl Into<TlsStream<Ahead>>) -> Self {
        Self::Tls(Box::new(Mutex::new(stream.into())))
    }

    /// Splits it, so that one half can wait while the other one works.
    pub(crate) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Self::Plain(socket) => {
                let (reader, writer) = socket.split();
                (Reader::Plain(reader), Writer::Plain(writer))
            }
            Self::Tls(tls) => (Reader::Tls(tls), Writer::Tls(tls)),
        }
    }

    /// Tells whether its bytes are inside TLS.
    pub(crate) const fn is_sealed(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns the socket, if its bytes are those of the stream.
    pub(crate) fn into_socket(self) -> Option<TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    /// Returns the TLS, if its bytes are inside it.
    pub(crate) fn into_tls(self) -> Option<TlsStream<Ahead>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Returns which HTTP both sides agreed on.
    pub(crate) fn http(&self) -> Http {
        match self {
            Self::Plain(_) => Http::Unsaid,
            Self::Tls(tls) => Http::agreed(lock(tls).get_ref().1.alpn_protocol()),
        }
    }

    /// Waits for the first byte that is not read yet; false at the end.
    pub(crate) async fn speaks(&self) -> io::Result<bool> {
        match self {
            Self::Plain(socket) => socket.peek(&mut [0]).await.map(|bytes| bytes > 0),
            Self::Tls(tls) => {
                let look = |context: &mut Context<'_>| {
                    let mut tls = lock(tls);
                    let seen = ready!(Pin::new(&mut *tls).poll_fill_buf(context))?;
                    Poll::Ready(Ok(!seen.is_empty()))
                };
                std::future::poll_fn(look).await
            }
        }
    }

    /// Appends what can be read to `buffer`, at most `limit` bytes; zero bytes are the end.
    pub(crate) async fn fill(&mut self, buffer: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        self.split().0.fill(buffer, limit).await
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.split().1.write_all(bytes).await
    }

    /// Ends what is written.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.split().1.end().await
    }

    /// Makes the next close send RST, so the other side cannot mistake it for a normal end of stream.
    pub(crate) fn reset(&self) {
        // Where the option cannot be set, the close is an orderly one; no bytes pass either way.
        drop(match self {
            Self::Plain(socket) => socket.set_zero_linger(),
            Self::Tls(tls) => lock(tls).get_ref().0.socket.set_zero_linger(),
        });
    }

    /// Returns the address of the other side's socket.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(socket) => socket.peer_addr(),
            Self::Tls(tls) => lock(tls).get_ref().0.socket.peer_addr(),
        }
    }

    /// Says whether the other side has closed either direction. Never blocks: there is room to write
    /// as long as nothing was written.
    pub(crate) async fn ready(&self) -> io::Result<Ready> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Plain(socket) => socket.ready(both).await,
            Self::Tls(tls) => {
                // What TLS has read is not waited for again.
                let ready = |context: &mut Context<'_>| {
                    let tls = lock(tls);
                    let socket = &tls.get_ref().0.socket;
                    let mut ready = std::pin::pin!(socket.ready(both));
                    ready.as_mut().poll(context)
                };
                std::future::poll_fn(ready).await
            }
        }
    }
}

impl Reader<'_> {
    /// Waits for bytes and gives them to `take`; none are the end. `take` may write them on with the
    /// context, and must not wait.
    pub(crate) async fn with_bytes<R>(
        &mut self,
        mut take: impl FnMut(&mut Context<'_>, &[u8]) -> R,
        limit: usize,
    ) -> io::Result<R> {
        std::future::poll_fn(|context| {
            SCRATCH.with_borrow_mut(|scratch| {
                let room = limit.min(scratch.len());
                let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
                ready!(match self {
                    Self::Plain(half) => Pin::new(half).poll_read(context, &mut buffer),
                    Self::Tls(tls) => Pin::new(&mut *lock(tls)).poll_read(context, &mut buffer),
                })?;
                Poll::Ready(Ok(take(context, buffer.filled())))
            })
        })
        .await
    }

    /// Appends what can be read to `buffer`, at most `limit` bytes; zero bytes are the end.
    pub(crate) async fn fill(&mut self, buffer: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        let append = |_: &mut Context<'_>, bytes: &[u8]| {
            buffer.extend_from_slice(bytes);
            bytes.len()
        };
        self.with_bytes(append, limit).await
    }

    /// Passes on what is there: `accept` says how many bytes are; what is read beyond goes to `rest`.
    pub(crate) async fn pass<E>(
        &mut self,
        to: &mut Writer<'_>,
        rest: &mut Vec<u8>,
        mut accept: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Turn<E> {
        let pass = |context: &mut Context<'_>, bytes: &[u8]| {
            if bytes.is_empty() {
                return Err(Turn::Ended);
            }
            let accepted = accept(bytes).map_err(Turn::Refused)?.min(bytes.len());
            let (ours, beyond) = bytes.split_at(accepted);
            rest.extend_from_slice(beyond);
            let written = to.write_now(context, ours).map_err(|_| Turn::WriteFailed)?;
            Ok(ours.get(written..).unwrap_or_default().to_vec())
        };
        match self.with_bytes(pass, RELAY_CHUNK_BYTES).await {
            Err(_) => Turn::ReadFailed,
            Ok(Err(turn)) => turn,
            Ok(Ok(waiting)) => match to.write_all(&waiting).await {
                Ok(()) => Turn::Moved,
                Err(_) => Turn::WriteFailed,
            },
        }
    }
}

impl Writer<'_> {
    /// Writes as much as is taken without waiting, and returns how much that was.
    pub(crate) fn write_now(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> io::Result<usize> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let wrote = match self {
                Self::Plain(half) => Pin::new(half).poll_write(context, rest),
                Self::Tls(tls) => Pin::new(&mut *lock(tls)).poll_write(context, rest),
            };
            match wrote {
                Poll::Ready(Ok(0)) | Poll::Pending => break,
                Poll::Ready(more) => written += more?,
            }
        }
        Ok(written)
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(half) => half.write_all(bytes).await,
            Self::Tls(tls) => {
                let mut written = 0;
                let write = |context: &mut Context<'_>| {
                    let mut tls = lock(tls);
                    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                        match ready!(Pin::new(&mut *tls).poll_write(context, rest))? {
                            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                            more => written += more,
                        }
                    }
                    // What is encrypted and not sent yet would wait for the next write.
                    Pin::new(&mut *tls).poll_flush(context)
                };
                std::future::poll_fn(write).await
            }
        }
    }

    /// Ends what is written, which the other side reads as the end.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        let ended = match self {
            Self::Plain(half) => half.shutdown().await,
            Self::Tls(tls) => {
                let end =
                    |context: &mut Context<'_>| Pin::new(&mut *lock(tls)).poll_shutdown(context);
                std::future::poll_fn(end).await
            }
        };
        match ended {
            // The other side may have closed in both directions before we could.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    }
}
