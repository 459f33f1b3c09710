//! One end of a connection, whatever carries its bytes: what is read and written here need not be
//! what goes over a socket.
//!
//! A silent connection holds no buffer: bytes are read into one that all connections of the process
//! share, and are used or copied before anybody waits again.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, Ready},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use crate::limits::RELAY_CHUNK_BYTES;

thread_local! {
    /// One buffer for all connections of the process: it is only used between two waits.
    static SCRATCH: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; RELAY_CHUNK_BYTES].into_boxed_slice());
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
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
pub(crate) struct Reader<'a>(ReadHalf<'a>);

/// The half of a [`Stream`] that is written.
#[derive(Debug)]
pub(crate) struct Writer<'a>(WriteHalf<'a>);

impl Stream {
    /// Takes a connected socket; its bytes are those of the stream.
    pub(crate) const fn plain(socket: TcpStream) -> Self {
        Self { socket }
    }

    /// Splits it, so that one half can wait while the other one works.
    pub(crate) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let (reader, writer) = self.socket.split();
        (Reader(reader), Writer(writer))
    }

    /// Waits for the first byte that is not read yet; false at the end.
    pub(crate) async fn speaks(&self) -> io::Result<bool> {
        self.socket.peek(&mut [0]).await.map(|bytes| bytes > 0)
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
        drop(self.socket.set_zero_linger());
    }

    /// Returns the address of the other side's socket.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Says whether the other side has closed either direction. Never blocks: there is room to write
    /// as long as nothing was written.
    pub(crate) async fn ready(&self) -> io::Result<Ready> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.socket.ready(both).await
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
                ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
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
            match Pin::new(&mut self.0).poll_write(context, rest) {
                Poll::Ready(Ok(0)) | Poll::Pending => break,
                Poll::Ready(more) => written += more?,
            }
        }
        Ok(written)
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Ends what is written, which the other side reads as the end.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        match self.0.shutdown().await {
            // The other side may have closed in both directions before we could.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    }
}
