//! Acts on a caller's behalf that only a process of the session can do: its first process does
//! them.
//!
//! For a few files of processes (`/proc/PID/mem`, `uid_map`) the kernel checks which process opens
//! them, in which user namespace, and remembers it. If the caller's own call continued, the kernel
//! would read the path again, which can be a different one by then.
//!
//! The caller of bind(2) resolves a path in a socket's address, and the socket's address is then
//! the text itself (unix(7)). So only a process whose root directory is the session's can bind with
//! the same meaning. The first process has the session's root and identity and no capability, and
//! nothing inside can affect it.

use std::{
    ffi::OsStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType},
};
use serde::{Deserialize, Serialize};
use stockade_sys::{Outcome, net, pass};

use crate::message::{receive, send};

/// How long the first process may take; apart from this it only reaps.
const ANSWER_MAX: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// How long a connection on loopback may take to be made or refused.
const CONNECT_MAX: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    number: u64,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Wanted {
    /// The address for a socket. Descriptors, in this order: the socket, the caller's working
    /// directory, and, if the address is a path, the directory in which the path was judged to be.
    Bind {
        address: Vec<u8>,
        mask: u32,
        path: bool,
    },
    /// A connection to a port of the session's own loopback.
    Connect { port: u16 },
    /// A file of a process to open. Descriptor: its directory.
    Open { name: String, flags: u32 },
}

/// The error number of the result; zero for success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// The number of the request.
    number: u64,
    errno: i32,
}

/// The supervisor's half.
#[derive(Debug)]
pub struct Binder {
    channel: OwnedFd,
    /// Requests so far: a late answer must not count for the next request.
    count: u64,
}

/// The meaning of a socket's address for the caller.
#[derive(Clone, Copy, Debug)]
pub struct Meaning<'fd> {
    /// Its working directory.
    pub directory: BorrowedFd<'fd>,
    /// The directory in which the path was judged to be, if the address is a path.
    pub parent: Option<BorrowedFd<'fd>>,
    /// Its file mode creation mask.
    pub mask: u32,
}

impl Binder {
    /// Makes a pair of halves: the supervisor's, and the first process's.
    pub(crate) fn pair() -> Outcome<(Self, OwnedFd)> {
        let (ours, theirs) = pass::packet_pair()?;
        let binder = Self {
            channel: ours,
            count: 0,
        };
        Ok((binder, theirs))
    }

    /// Binds `socket` to `address`, the bytes of a socket address; blocks until that is done.
    ///
    /// # Errors
    /// With the kernel's answer; EACCES when the path leads elsewhere than to the judged directory.
    pub fn bind(
        &mut self,
        socket: BorrowedFd<'_>,
        address: &[u8],
        meaning: Meaning<'_>,
    ) -> io::Result<()> {
        let Meaning {
            directory,
            parent,
            mask,
        } = meaning;
        let wanted = Wanted::Bind {
            address: address.to_vec(),
            mask,
            path: parent.is_some(),
        };
        let fds: Vec<_> = [socket, directory].into_iter().chain(parent).collect();
        self.ask(wanted, &fds).map(drop)
    }

    /// Opens `name`, a file of a process, in `directory`, as the session would: for some of these
    /// files the kernel checks and remembers which process opens them. `flags` are those of
    /// open(2).
    ///
    /// # Errors
    /// With the kernel's answer.
    pub fn open(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &str,
        flags: u32,
    ) -> io::Result<OwnedFd> {
        let name = name.to_owned();
        let opened = self.ask(Wanted::Open { name, flags }, &[directory])?;
        opened.into_iter().next().ok_or(Errno::PROTO.into())
    }

    /// Connects to a port of the session's loopback on which one of its programs listens. The
    /// socket is still non-blocking.
    ///
    /// # Errors
    /// With the kernel's answer; ECONNREFUSED when no program listens.
    pub fn connect(&mut self, port: u16) -> io::Result<OwnedFd> {
        let made = self.ask(Wanted::Connect { port }, &[])?;
        made.into_iter().next().ok_or(Errno::PROTO.into())
    }

    fn ask(&mut self, wanted: Wanted, fds: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
        self.count += 1;
        let number = self.count;
        send(&self.channel, &Request { number, wanted }, fds).map_err(io::Error::other)?;
        loop {
            self.wait()?;
            match receive::<Answer>(&self.channel) {
                Ok(Some((answer, _))) if answer.number != number => {}
                Ok(Some((Answer { errno: 0, .. }, fds))) => return Ok(fds),
                Ok(Some((answer, _))) => return Err(io::Error::from_raw_os_error(answer.errno)),
                Ok(None) => return Err(Errno::PIPE.into()),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Waits for an answer.
    fn wait(&self) -> io::Result<()> {
        let mut ready = [PollFd::new(&self.channel, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut ready, Some(&ANSWER_MAX)) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(0) => return Err(Errno::TIMEDOUT.into()),
                Ok(_) => return Ok(()),
            }
        }
    }
}

/// Answers one request; `false` when the supervisor is gone.
pub(crate) fn serve(channel: impl AsFd) -> bool {
    let Ok(Some((request, fds))) = receive::<Request>(&channel) else {
        return false;
    };
    let done = match &request.wanted {
        Wanted::Bind {
            address,
            mask,
            path,
        } => bind(address, *mask, *path, &fds).map(|()| None),
        Wanted::Connect { port } => connect(*port).map(Some),
        Wanted::Open { name, flags } => open(name, *flags, &fds).map(Some),
    };
    let (errno, file) = match done {
        Ok(file) => (0, file),
        Err(error) => (
            error.raw_os_error().unwrap_or(Errno::ACCESS.raw_os_error()),
            None,
        ),
    };
    // The last copy of a socket must not be closed here, because that can take time.
    drop(fds);
    let number = request.number;
    let file: Vec<_> = file.iter().map(AsFd::as_fd).collect();
    send(channel, &Answer { number, errno }, &file).is_ok()
}

/// Connects to loopback, by IPv4 or otherwise by IPv6, because servers listen on either.
fn connect(port: u16) -> io::Result<OwnedFd> {
    let mut answer = Errno::CONNREFUSED;
    for (family, address) in [
        (AddressFamily::INET, IpAddr::from(Ipv4Addr::LOCALHOST)),
        (AddressFamily::INET6, IpAddr::from(Ipv6Addr::LOCALHOST)),
    ] {
        // A server that does not accept must not block other requests.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Of two errors, the one for IPv4 is more useful.
        let Ok(socket) = rustix::net::socket_with(family, SocketType::STREAM, flags, None) else {
            continue;
        };
        match rustix::net::connect(&socket, &SocketAddr::new(address, port)) {
            Ok(()) => return Ok(socket),
            Err(Errno::INPROGRESS) => match settled(&socket) {
                Ok(()) => return Ok(socket),
                Err(errno) => answer = errno,
            },
            Err(errno) => answer = errno,
        }
    }
    Err(answer.into())
}

/// Waits a moment for the end of a connect: on loopback it comes at once, unless the server does
/// not accept.
fn settled(socket: &OwnedFd) -> Result<(), Errno> {
    let mut ready = [PollFd::new(socket, PollFlags::OUT)];
    rustix::event::poll(&mut ready, Some(&CONNECT_MAX))?;
    rustix::net::sockopt::socket_error(socket)?
}

fn open(name: &str, flags: u32, fds: &[OwnedFd]) -> io::Result<OwnedFd> {
    let [directory, ..] = fds else {
        return Err(Errno::INVAL.into());
    };
    // One of a few names, in a directory that the supervisor found: it cannot lead elsewhere.
    let flags = OFlags::from_bits_retain(flags) | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty());
    Ok(opened?)
}

fn bind(address: &[u8], mask: u32, has_path: bool, fds: &[OwnedFd]) -> io::Result<()> {
    let [socket, directory, rest @ ..] = fds else {
        return Err(Errno::INVAL.into());
    };
    // Only a path is resolved from there; the caller may have no access to its own directory.
    if has_path {
        rustix::process::fchdir(directory)?;
    }
    rustix::process::umask(Mode::from_raw_mode(mask));
    let bound = match rest.first() {
        Some(parent) => is_judged(address, parent),
        None if has_path => Err(Errno::INVAL.into()),
        None => Ok(()),
    }
    .and_then(|()| net::bind(socket.as_fd(), address));
    // Hold nothing of the caller's any longer than this.
    rustix::process::chdir("/")?;
    bound
}

/// Whether the path of an address leads to the judged directory. Links of processes, like
/// `/proc/self/cwd`, mean this process here but another one for the caller.
fn is_judged(address: &[u8], parent: &OwnedFd) -> io::Result<()> {
    let path = address.get(2..).unwrap_or_default();
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |at| at + 1);
    let path = path.get(..end).unwrap_or_default();
    let directory = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => path.get(..=slash).unwrap_or_default(),
        None => b".",
    };
    let directory = OsStr::from_bytes(directory);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(directory, flags, Mode::empty()).map_err(|_| Errno::ACCESS)?;
    let here = rustix::fs::fstat(here)?;
    let judged = rustix::fs::fstat(parent)?;
    if (here.st_dev, here.st_ino) == (judged.st_dev, judged.st_ino) {
        Ok(())
    } else {
        Err(Errno::ACCESS.into())
    }
}
