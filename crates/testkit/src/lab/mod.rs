//! Servers on loopback that record what reaches them, so that "it saw 0 bytes" can be asserted
//! from outside the boundary.

mod certificate;
mod dns;
mod forge;
mod h2;
mod http;
mod libraries;
mod proxy;
mod registry;
mod smtp;
mod ssh;
mod tcp;
mod tls;

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub(crate) use certificate::Certificate;
pub use dns::{DnsAnswer, DnsQuery, DnsServer};
pub use forge::{Forge, serve as serve_repositories};
pub use h2::{H2Request, H2Server};
pub use http::HttpServer;
pub use libraries::LibraryServer;
pub use proxy::Proxy;
pub use registry::Registry;
pub use smtp::{Letter, Relay, RelayRules};
pub use ssh::{SshServer, make_key, make_key_of};
pub use tcp::{Greeter, TcpEcho};
pub use tls::{TlsHello, TlsServer};

/// Longest silence on one connection: longer than any approval that a test waits for, but finite,
/// so that a thread ends even if its peer never closes.
const CONNECTION_IDLE: Duration = Duration::from_mins(10);

/// What reached a server, counted below every protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections accepted.
    pub connections: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// A listener on loopback whose connections each have a thread; dropping it ends them all.
pub(crate) struct Listener {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on `address` (port 0 takes a free one) and gives every connection to `handle`.
    pub(crate) fn start<H>(address: SocketAddr, handle: H) -> Self
    where
        H: Fn(Connection) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(address)
            .unwrap_or_else(|e| panic!("cannot listen on `{address}`: {e}"));
        let address = listener.local_addr().expect("a listener has an address");
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(Vec::new()));
        let accept = Accept {
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
            open: Arc::clone(&open),
            handle: Arc::new(handle),
        };
        let accepting = Some(thread::spawn(move || accept.run(&listener)));
        Self {
            address,
            counters,
            stop,
            open,
            accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.counters.connections.load(Ordering::SeqCst),
            bytes_in: self.counters.bytes_in.load(Ordering::SeqCst),
            bytes_out: self.counters.bytes_out.load(Ordering::SeqCst),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("traffic", &self.traffic())
            .finish_non_exhaustive()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The accept call has no time limit: a connection of our own wakes it.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.accepting.take() {
            drop(thread.join());
        }
        if let Ok(open) = self.open.lock() {
            for stream in open.iter() {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }
}

struct Accept<H> {
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    handle: Arc<H>,
}

impl<H> Accept<H>
where
    H: Fn(Connection) -> io::Result<()> + Send + Sync + 'static,
{
    fn run(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // If a peer is gone before it is accepted, the test has not failed.
            let Ok(stream) = stream else { continue };
            self.counters.connections.fetch_add(1, Ordering::SeqCst);
            if stream.set_read_timeout(Some(CONNECTION_IDLE)).is_err() {
                continue;
            }
            if let (Ok(mut open), Ok(copy)) = (self.open.lock(), stream.try_clone()) {
                open.push(copy);
            }
            let connection = Connection {
                stream,
                counters: Arc::clone(&self.counters),
            };
            let handle = Arc::clone(&self.handle);
            // The test sees a peer's mistakes in the record, not in a panic here.
            thread::spawn(move || {
                let closing = connection.stream.try_clone();
                drop(handle(connection));
                if let Ok(stream) = closing {
                    drop(stream.shutdown(Shutdown::Both));
                }
            });
        }
    }
}

/// One accepted connection that counts its bytes.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    counters: Arc<Counters>,
}

impl Connection {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            counters: Arc::clone(&self.counters),
        })
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.counters
            .bytes_in
            .fetch_add(count(read), Ordering::SeqCst);
        Ok(read)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.counters
            .bytes_out
            .fetch_add(count(written), Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Returns a free port of 127.0.0.1.
pub fn loopback() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Ends the test unless nothing at all reached the server.
fn assert_untouched(what: &str, address: SocketAddr, traffic: Traffic, seen: &dyn fmt::Debug) {
    assert!(
        traffic == Traffic::default(),
        "expected that nothing reaches the {what} on {address}, saw {traffic:?}: {seen:?}"
    );
}
