//! Moving bytes between two connections, without a buffer for those that are silent.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use stockade_policy::Decision;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
};

use crate::{
    limits::{RELAY_CHUNK_BYTES, RELAY_IDLE},
    watch::Watch,
};

thread_local! {
    /// One buffer for all connections of the process: it is only used between two waits.
    static SCRATCH: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; RELAY_CHUNK_BYTES].into_boxed_slice());
}

/// Bytes that passed so far, readable while they pass.
#[derive(Debug, Default)]
pub struct Counters {
    out: AtomicU64,
    back: AtomicU64,
}

impl Counters {
    /// Adds bytes from the session to the host.
    pub fn add_out(&self, bytes: u64) {
        self.out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds bytes from the host to the session.
    pub fn add_in(&self, bytes: u64) {
        self.back.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes from the session to the host.
    pub fn bytes_out(&self) -> u64 {
        self.out.load(Ordering::Relaxed)
    }

    fn total(&self) -> u64 {
        self.bytes_out().wrapping_add(self.bytes_in())
    }

    /// Returns the bytes from the host to the session.
    pub fn bytes_in(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }
}

/// Makes the next close send RST, so the client cannot mistake it for a normal end of stream.
pub(crate) fn reset(stream: &TcpStream) {
    // Where the option cannot be set, the close is an orderly one; no bytes pass either way.
    drop(stream.set_zero_linger());
}

/// What a relay is doing until both directions have ended.
pub type Relaying = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Moves bytes both ways between a client and a server.
pub trait Relay: Send + Sync {
    /// Relays until both directions have ended or one fails: the end of one direction is passed
    /// on (half-close), counters are kept up to date, and dropping the future closes both.
    fn relay(&self, client: TcpStream, server: TcpStream, counters: Arc<Counters>) -> Relaying;
}

/// Relays by reading and writing.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyRelay;

impl Relay for CopyRelay {
    fn relay(
        &self,
        mut client: TcpStream,
        mut server: TcpStream,
        counters: Arc<Counters>,
    ) -> Relaying {
        Box::pin(async move {
            let (client_read, client_write) = client.split();
            let (server_read, server_write) = server.split();
            let out = pump(client_read, server_write, &counters, Counters::add_out);
            let back = pump(server_read, client_write, &counters, Counters::add_in);
            let ended = tokio::try_join!(out, back).map(|_| ());
            if ended.is_err() {
                // A failure must not look like the end of the data. Where the option cannot be
                // set there is nothing more to do.
                drop((client.set_zero_linger(), server.set_zero_linger()));
            }
            ended
        })
    }
}

/// Why a watched relay ended early.
#[derive(Debug)]
pub(crate) enum Cut {
    /// A side failed.
    Failed,
    /// The client's last bytes must not pass, and did not.
    Refused(Box<Decision>),
}

impl From<io::Error> for Cut {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// Relays by reading and writing, while `watch` reads what the client sends. Where it fails or is
/// cut, dropping either side resets it.
pub(crate) async fn relay_watched(
    client: &mut TcpStream,
    server: &mut TcpStream,
    counters: &Counters,
    mut watch: Watch,
) -> Result<(), Cut> {
    let (client_read, client_write) = client.split();
    let (server_read, mut server_write) = server.split();
    let out = async {
        while !watch.is_over() {
            let turn = watched_turn(&client_read, &mut server_write, counters, &mut watch);
            match turn.await? {
                0 => return Ok(end(&mut server_write).await?),
                bytes => counters.add_out(bytes),
            }
        }
        Ok(pump(client_read, server_write, counters, Counters::add_out).await?)
    };
    let back = async {
        let pumping = pump(server_read, client_write, counters, Counters::add_in);
        Ok(pumping.await?)
    };
    let ended = tokio::try_join!(out, back).map(|_| ());
    if ended.is_err() {
        drop((client.set_zero_linger(), server.set_zero_linger()));
    }
    ended
}

/// Moves what is there if it may pass; zero bytes are the end.
async fn watched_turn(
    from: &ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    counters: &Counters,
    watch: &mut Watch,
) -> Result<u64, Cut> {
    let mut accept = |bytes: &[u8]| watch.read(bytes).map(|()| bytes.len());
    loop {
        let before = counters.total();
        let mut rest = Vec::new();
        match timeout(RELAY_IDLE, turn_accepted(from, to, &mut rest, &mut accept)).await {
            Ok(Turn::Moved(bytes)) => return Ok(bytes),
            Ok(Turn::Ended) => return Ok(0),
            Ok(Turn::Refused(decision)) => return Err(Cut::Refused(decision)),
            // As in a relay that is not watched.
            Err(_) if counters.total() != before => {}
            Ok(Turn::ReadFailed | Turn::WriteFailed) | Err(_) => return Err(Cut::Failed),
        }
    }
}

/// Moves one direction until its end and passes the end on.
async fn pump(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    counters: &Counters,
    count: impl Fn(&Counters, u64),
) -> io::Result<()> {
    loop {
        let before = counters.total();
        match timeout(RELAY_IDLE, turn(&from, &mut to)).await {
            Ok(Ok(0)) => return end(&mut to).await,
            Ok(Ok(bytes)) => count(counters, bytes),
            Ok(Err(error)) => return Err(error),
            // The other direction was busy, as in a long download.
            Err(_) if counters.total() != before => {}
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn end(to: &mut WriteHalf<'_>) -> io::Result<()> {
    match to.shutdown().await {
        // The other side may have closed in both directions before we could.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        ended => ended,
    }
}

/// Moves what is there; zero bytes are the end.
async fn turn(from: &ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<u64> {
    loop {
        from.readable().await?;
        let moved = SCRATCH.with_borrow_mut(|scratch| {
            let read = match from.try_read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                read => read?,
            };
            let bytes = scratch.get(..read).unwrap_or_default();
            let written = write_now(to, bytes)?;
            Ok::<_, io::Error>(Some((
                read,
                bytes.get(written..).unwrap_or_default().to_vec(),
            )))
        })?;
        let Some((read, rest)) = moved else {
            continue;
        };
        to.write_all(&rest).await?;
        return Ok(u64::try_from(read).unwrap_or(u64::MAX));
    }
}

/// Writes as much as the socket takes without waiting.
fn write_now(to: &WriteHalf<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.try_write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Appends what can be read to `buffer`, at most `limit` bytes; zero bytes are the end.
pub(crate) async fn fill(
    from: &ReadHalf<'_>,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match fill_now(|scratch| from.try_read(scratch), buffer, limit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            filled => return filled,
        }
    }
}

/// Reads once with `read` and appends to `buffer`.
pub(crate) fn fill_now(
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        let room = limit.min(scratch.len());
        let count = read(scratch.get_mut(..room).unwrap_or_default())?;
        buffer.extend_from_slice(scratch.get(..count).unwrap_or_default());
        Ok(count)
    })
}

/// What one turn of a body came to.
#[derive(Debug)]
pub(crate) enum Turn<E> {
    /// So many bytes of the body were moved.
    Moved(u64),
    /// The side that sends has ended.
    Ended,
    /// The bytes are not a body.
    Refused(E),
    /// The side that sends failed.
    ReadFailed,
    /// The side that receives failed.
    WriteFailed,
}

/// Moves what is there and belongs to the body: `accept` says how many bytes do; what is read
/// beyond goes to `rest`.
pub(crate) async fn turn_accepted<E>(
    from: &ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    rest: &mut Vec<u8>,
    accept: &mut (impl FnMut(&[u8]) -> Result<usize, E> + Send),
) -> Turn<E> {
    loop {
        if from.readable().await.is_err() {
            return Turn::ReadFailed;
        }
        let moved = SCRATCH.with_borrow_mut(|scratch| {
            let read = match from.try_read(scratch) {
                Ok(0) => return Err(Some(Turn::Ended)),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(None),
                Err(_) => return Err(Some(Turn::ReadFailed)),
            };
            let bytes = scratch.get(..read).unwrap_or_default();
            let accepted = accept(bytes).map_err(|error| Some(Turn::Refused(error)))?;
            let (ours, beyond) = bytes.split_at(accepted.min(read));
            rest.extend_from_slice(beyond);
            let written = write_now(to, ours).map_err(|_| Some(Turn::WriteFailed))?;
            Ok((ours.len(), ours.get(written..).unwrap_or_default().to_vec()))
        });
        match moved {
            Err(None) => {}
            Err(Some(ended)) => return ended,
            Ok((moved, waiting)) => {
                return match to.write_all(&waiting).await {
                    Ok(()) => Turn::Moved(u64::try_from(moved).unwrap_or(u64::MAX)),
                    Err(_) => Turn::WriteFailed,
                };
            }
        }
    }
}
