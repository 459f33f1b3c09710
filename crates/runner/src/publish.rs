//! Ports of the session on this machine's loopback: a client that connects there reaches the
//! program that listens on the port inside, and nothing else.
//!
//! Policy names them, or a person opens one while its server runs (the module `listening`). The
//! first process of the session makes each connection to the program, because only a process in the
//! session's network can; this module passes the bytes on.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use stockade_types::ignored;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use stockade_event::Event;
use stockade_policy::{LOOPBACK, NetworkSettings, Permitted, PortRequest, Publish};
use stockade_sandbox::Binder;

use crate::RunError;
use stockade_supervise::lock;

/// The access to a session's network, and the number of connections that use it now.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) binder: Arc<Mutex<Binder>>,
    open: Arc<AtomicUsize>,
}

impl Doors {
    pub(crate) fn new(binder: Binder) -> Self {
        Self {
            binder: Arc::new(Mutex::new(binder)),
            open: Arc::default(),
        }
    }
}

/// Connections to published ports of one session at a time, each with two threads: a browser opens
/// six to a server, and tests a few dozen.
const CONNECTIONS_MAX: usize = 128;
/// Pause after `accept` fails because there are no descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Stack of a thread that only copies.
const STACK_BYTES: usize = 128 * 1024;

/// A published port: it is bound, but not served yet.
#[derive(Debug)]
pub(crate) struct Published {
    publish: Publish,
    by: String,
    listeners: Vec<TcpListener>,
}

/// Binds the ports that policy publishes.
///
/// # Errors
/// When another program uses one.
pub(crate) fn take(settings: &NetworkSettings) -> Result<Vec<Published>, RunError> {
    let named = settings.publish.iter();
    named
        .map(|at| take_one(at.value, at.source.clone()))
        .collect()
}

/// Binds a port that a person opened, under its own number; `by` says which answer opened it.
///
/// # Errors
/// When another program uses it.
pub(crate) fn take_opened(
    permitted: &Permitted<PortRequest>,
    by: String,
) -> Result<Published, RunError> {
    let port = permitted.get().port;
    let publish = Publish {
        inside: port,
        outside: port,
    };
    take_one(publish, by)
}

/// Returns whether a port of the machine's loopback could be bound now. The check accepts no
/// connections.
pub(crate) fn is_free(port: u16) -> bool {
    let can_bind = |address: &IpAddr| {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let bound = socket.and_then(|socket| {
            // As for listeners of the standard library: ended connections do not block the port.
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &SocketAddr::new(*address, port))
        });
        bound.map_or_else(|error| is_missing(*address, &error.into()), |()| true)
    };
    LOOPBACK.iter().all(can_bind)
}

fn take_one(publish: Publish, by: String) -> Result<Published, RunError> {
    let outside = publish.outside.get();
    let mut listeners = Vec::new();
    for address in LOOPBACK {
        match TcpListener::bind(SocketAddr::new(address, outside)) {
            Ok(listener) => listeners.push(listener),
            // A machine may lack the other family.
            Err(error) if is_missing(address, &error) => {}
            Err(source) => {
                return Err(RunError::Publish {
                    port: outside,
                    source,
                });
            }
        }
    }
    Ok(Published {
        publish,
        by,
        listeners,
    })
}

fn is_missing(address: IpAddr, error: &io::Error) -> bool {
    let unsupported = Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    address.is_ipv6()
        && (error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == unsupported)
}

impl Published {
    /// Returns the event for it.
    pub(crate) fn event(&self) -> Event {
        Event::PortPublished {
            port: self.publish.inside.get(),
            outside: self.publish.outside.get(),
            by: self.by.clone(),
        }
    }

    /// Serves clients until the port is closed or this process ends.
    pub(crate) fn serve(self, doors: &Doors) -> io::Result<Arc<Gate>> {
        let gate = Arc::new(Gate {
            is_closed: AtomicBool::new(false),
            listeners: self.listeners,
            streams: Mutex::default(),
            next: AtomicU64::new(0),
        });
        for index in 0..gate.listeners.len() {
            let (own, doors) = (Arc::clone(&gate), doors.clone());
            let port = self.publish.inside.get();
            thread::Builder::new()
                .name("publish".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || accept(&own, index, port, &doors))?;
        }
        Ok(gate)
    }
}

/// A port that is being served.
#[derive(Debug)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
    listeners: Vec<TcpListener>,
    /// Both sides of each connection.
    streams: Mutex<BTreeMap<u64, [TcpStream; 2]>>,
    next: AtomicU64,
}

impl Gate {
    /// Closes the port and its connections.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for listener in &self.listeners {
            // `accept` then returns. Shutting down a listener twice does no harm.
            ignored(
                rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
                "it may be closed already",
            );
        }
        for stream in lock(&self.streams).values().flatten() {
            ignored(
                stream.shutdown(Shutdown::Both),
                "the other side may already be closed",
            );
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Records a connection; an error means that the port was closed meanwhile.
    fn enter(&self, sides: [&TcpStream; 2]) -> io::Result<u64> {
        let [outer, inner] = sides;
        let sides = [outer.try_clone()?, inner.try_clone()?];
        let mut streams = lock(&self.streams);
        if self.is_closed() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        streams.insert(number, sides);
        Ok(number)
    }
}

fn accept(gate: &Arc<Gate>, index: usize, port: u16, doors: &Doors) {
    let Some(listener) = gate.listeners.get(index) else {
        return;
    };
    let Doors { binder, open } = doors;
    while !gate.is_closed() {
        let Ok((outer, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (gate, binder, count) = (Arc::clone(gate), Arc::clone(binder), Arc::clone(open));
        let served = thread::Builder::new()
            .name("published".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                ignored(
                    pass(&gate, &outer, port, &binder),
                    "a reason would help neither side",
                );
                count.fetch_sub(1, Ordering::AcqRel);
            });
        if served.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Passes bytes both ways until both directions have ended.
fn pass(gate: &Gate, outer: &TcpStream, port: u16, binder: &Mutex<Binder>) -> io::Result<()> {
    let inner = lock(binder).connect(port)?;
    let inner = TcpStream::from(inner);
    inner.set_nonblocking(false)?;
    let number = gate.enter([outer, &inner])?;
    for stream in [outer, &inner] {
        ignored(
            stream.set_nodelay(true),
            "without it interactive protocols are only slow",
        );
    }
    let passed = thread::scope(|scope| {
        let back = thread::Builder::new()
            .name("published".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || copy(&inner, outer))?;
        copy(outer, &inner);
        ignored(back.join(), "a thread that panics aborts the whole process");
        Ok(())
    });
    lock(&gate.streams).remove(&number);
    passed
}

/// Copies until the end of the stream and passes the end on; a failure ends both directions.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let how = match io::copy(&mut from, &mut to) {
        Ok(_) => Shutdown::Write,
        Err(_) => Shutdown::Both,
    };
    ignored(to.shutdown(how), "the other side may already be closed");
    if how == Shutdown::Both {
        ignored(from.shutdown(how), "the other side may already be closed");
    }
}
