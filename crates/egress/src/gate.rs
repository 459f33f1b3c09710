//! The gate: the one way by which bytes reach a server.
//!
//! Sockets to servers are made here and never leave this file: everybody else holds a [`Server`],
//! which can be waited for, reset and opened. Opening it takes the proof that policy permits what is
//! about to be sent, and gives an [`Incoming`] to read from and an [`Outgoing`] to write to. An
//! outgoing byte is read by the watch, taken from what may leave and counted before it is written;
//! what is refused was not written. `crates/egress/tests/fence.rs` holds the rest of the crate to this.

mod streams;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Context,
};

use rustls::{ClientConfig, pki_types::ServerName};
use stockade_policy::{BytesMax, Control, Decision, NetRequest, Permitted, RuleName};
use stockade_types::{ByteSize, Host};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsConnector;

use crate::{
    alpn::Http,
    judge::Allowed,
    proxies::{Proxy, read_status},
    stream::{Ahead, Reader, Stream, Turn, Writer},
    watch::Watch,
};

pub(crate) use streams::{Answering, Driver, Ends, Said, StreamOut, Streams, size, write};

/// Bytes that passed so far, readable while they pass.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    out: AtomicU64,
    back: AtomicU64,
}

impl Counters {
    /// Returns the bytes from the session to the host. They are counted before they are written, so of
    /// a connection that fails some of them may not have left.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.out.load(Ordering::Relaxed)
    }

    /// Returns the bytes from the host to the session.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }

    /// Returns a number that changes with every byte.
    pub(crate) fn total(&self) -> u64 {
        self.bytes_out().wrapping_add(self.bytes_in())
    }

    fn add_out(&self, bytes: usize) {
        self.out.fetch_add(count(bytes), Ordering::Relaxed);
    }

    fn add_in(&self, bytes: usize) {
        self.back.fetch_add(count(bytes), Ordering::Relaxed);
    }
}

/// Returns a number of bytes as it is counted.
pub(crate) fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What has left by each rule with `bytes_max`, in the whole session.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<BTreeMap<RuleName, u64>>);

impl Budgets {
    /// Takes `bytes` from what may leave by all of `limits`, or from none of them.
    fn take(&self, limits: &[BytesMax], bytes: usize) -> Result<(), Box<Decision>> {
        if limits.is_empty() {
            return Ok(());
        }
        let bytes = count(bytes);
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        check(&left, limits, bytes)?;
        for limit in limits {
            let gone = left.entry(limit.rule.clone()).or_default();
            *gone = gone.saturating_add(bytes);
        }
        Ok(())
    }

    /// Says whether `bytes` could leave now, without taking them.
    pub(crate) fn look(&self, limits: &[BytesMax], bytes: u64) -> Result<(), Box<Decision>> {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        check(&left, limits, bytes)
    }
}

/// Finds the limit with the least room, which `bytes` must not pass.
fn check(
    left: &BTreeMap<RuleName, u64>,
    limits: &[BytesMax],
    bytes: u64,
) -> Result<(), Box<Decision>> {
    let gone = |limit: &BytesMax| left.get(&limit.rule).copied().unwrap_or_default();
    let room = |limit: &&BytesMax| limit.bytes.bytes().saturating_sub(gone(limit));
    let Some(limit) = limits.iter().min_by_key(room) else {
        return Ok(());
    };
    if bytes <= room(&limit) {
        return Ok(());
    }
    let BytesMax { rule, bytes: most } = limit;
    let id = &rule.id;
    let (gone, more) = (
        ByteSize::from_bytes(gone(limit)),
        ByteSize::from_bytes(bytes),
    );
    let reason = format!(
        "at most {most} may leave by the rule `{id}` in a session; {gone} have left, and this is {more}"
    );
    let remedy = format!("send less, or raise `bytes_max` of the rule `{id}`");
    let mut refused = Control::BytesMax.denies(reason, &remedy);
    refused.rules.push(rule.clone());
    Err(Box::new(refused))
}

/// A connection to an address that was checked, before anything of a session is sent to it.
#[derive(Debug)]
pub(crate) struct Connected(Stream);

/// Connects to an address; [`crate::dial::Route`] holds the proof that it may be dialled.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<Connected> {
    let socket = TcpStream::connect(address).await?;
    // Interactive protocols suffer without it; where it fails they are only slow.
    drop(socket.set_nodelay(true));
    Ok(Connected(Stream::Plain(socket)))
}

impl Connected {
    /// Has the proxy at the other end connect to the permitted host; returns the status of its answer,
    /// 200 where it did.
    ///
    /// # Errors
    /// When it does not answer as HTTP, or goes.
    pub(crate) async fn tunnel(
        &mut self,
        permitted: &Permitted<NetRequest>,
        proxy: &Proxy,
    ) -> io::Result<u16> {
        let Stream::Plain(socket) = &mut self.0 else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let request = proxy.connect_request(permitted.get());
        socket.write_all(request.as_bytes()).await?;
        read_status(socket).await
    }

    /// Sets TLS up with the permitted host, which must show a certificate for its name.
    ///
    /// # Errors
    /// When it does not, or goes.
    pub(crate) async fn secure(
        self,
        permitted: &Permitted<NetRequest>,
        config: Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let socket = self.0.into_socket().ok_or(io::ErrorKind::Unsupported)?;
        let name = match &permitted.get().host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
                .map_err(|error| io::Error::other(error.to_string()))?,
        };
        let ahead = Ahead::new(Vec::new(), socket);
        let secured = TlsConnector::from(config).connect(name, ahead).await?;
        Ok(Self(Stream::tls(secured)))
    }

    /// Returns which HTTP was agreed on with the host.
    pub(crate) fn http(&self) -> Http {
        self.0.http()
    }

    /// Makes it a server, whose bytes are counted by `counters` and taken from `budgets`.
    pub(crate) fn into_server(self, counters: Arc<Counters>, budgets: Arc<Budgets>) -> Server {
        Server {
            stream: self.0,
            counters,
            budgets,
        }
    }
}

/// The end of a connection at which a server is.
#[derive(Debug)]
pub(crate) struct Server {
    stream: Stream,
    counters: Arc<Counters>,
    budgets: Arc<Budgets>,
}

impl Server {
    /// Waits until it says something or ends.
    pub(crate) async fn speaks(&self) {
        // Which of them it was, or a failure, shows when it is read.
        drop(self.stream.speaks().await);
    }

    /// Makes the next close send RST.
    pub(crate) fn reset(&self) {
        self.stream.reset();
    }

    /// Returns the bytes that passed, to be read while more do.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Opens it for what `allowed` stands for. `watch` reads all that is sent, before it is.
    pub(crate) fn open<'a, T>(
        &'a mut self,
        allowed: &'a Allowed<T>,
        watch: Watch,
    ) -> (Incoming<'a>, Outgoing<'a, T>) {
        let counters = &*self.counters;
        let (from, to) = self.stream.split();
        let toll = Toll {
            watch,
            counters,
            budgets: &self.budgets,
            limits: &allowed.decision.terms.bytes_max,
        };
        let permitted = &allowed.permitted;
        (
            Incoming { from, counters },
            Outgoing {
                permitted,
                to,
                toll,
            },
        )
    }
}

/// Why bytes were not sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The server's side failed.
    Failed,
    /// They must not leave; none of them did.
    Refused(Box<Decision>),
}

/// Why bytes of a body were not sent on; none of them was.
#[derive(Debug)]
pub(crate) enum Held<E> {
    /// They are not what the body must be.
    Unfit(E),
    /// They must not leave.
    Refused(Box<Decision>),
}

/// The way to a server, open for what was permitted.
#[derive(Debug)]
pub(crate) struct Outgoing<'a, T> {
    permitted: &'a Permitted<T>,
    to: Writer<'a>,
    toll: Toll<'a>,
}

/// What bytes pass before they are written.
#[derive(Debug)]
struct Toll<'a> {
    watch: Watch,
    counters: &'a Counters,
    budgets: &'a Budgets,
    limits: &'a [BytesMax],
}

impl Toll<'_> {
    /// Lets bytes leave, which counts them, or says why not.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), Box<Decision>> {
        self.watch.read(bytes)?;
        self.take(bytes.len())
    }

    /// Lets so many bytes leave, of which nothing is left to read.
    fn take(&mut self, bytes: usize) -> Result<(), Box<Decision>> {
        self.budgets.take(self.limits, bytes)?;
        self.counters.add_out(bytes);
        Ok(())
    }
}

impl<'a, T> Outgoing<'a, T> {
    /// Returns what may be sent.
    pub(crate) const fn permitted(&self) -> &'a Permitted<T> {
        self.permitted
    }

    /// Says that so many bytes are to be sent in all, so that what cannot be whole is not begun.
    pub(crate) fn announce(&self, bytes: u64) -> Result<(), Unsent> {
        let looked = self.toll.budgets.look(self.toll.limits, bytes);
        looked.map_err(Unsent::Refused)
    }

    /// Sends all of `bytes`, or none of them where they must not leave.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Unsent> {
        self.toll.pass(bytes).map_err(Unsent::Refused)?;
        let written = self.to.write_all(bytes).await;
        written.map_err(|_| Unsent::Failed)
    }

    /// Sends what a client says next: `fit` says how many of the bytes are part of what is sent; those
    /// beyond go to `rest`.
    pub(crate) async fn pass<E>(
        &mut self,
        from: &mut Reader<'_>,
        rest: &mut Vec<u8>,
        mut fit: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Turn<Held<E>> {
        let toll = &mut self.toll;
        let accept = |bytes: &[u8]| {
            let fitting = fit(bytes).map_err(Held::Unfit)?.min(bytes.len());
            let ours = bytes.get(..fitting).unwrap_or_default();
            toll.pass(ours).map_err(Held::Refused)?;
            Ok(fitting)
        };
        from.pass(&mut self.to, rest, accept).await
    }

    /// Tells the server that no more comes.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.to.end().await
    }
}

/// What a server says; it is counted as it is read.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    from: Reader<'a>,
    counters: &'a Counters,
}

impl Incoming<'_> {
    /// Appends what can be read to `buffer`, at most `limit` bytes; zero bytes are the end.
    pub(crate) async fn fill(&mut self, buffer: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        let counters = self.counters;
        let append = |_: &mut Context<'_>, bytes: &[u8]| {
            counters.add_in(bytes.len());
            buffer.extend_from_slice(bytes);
            bytes.len()
        };
        self.from.with_bytes(append, limit).await
    }

    /// Passes on what is there: `fit` says how many of the bytes are part of what is passed on; those
    /// beyond go to `rest`.
    pub(crate) async fn pass<E>(
        &mut self,
        to: &mut Writer<'_>,
        rest: &mut Vec<u8>,
        mut fit: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Turn<E> {
        let counters = self.counters;
        let accept = |bytes: &[u8]| {
            counters.add_in(bytes.len());
            fit(bytes)
        };
        self.from.pass(to, rest, accept).await
    }
}
