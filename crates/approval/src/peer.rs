//! Identifies the process at the other end of a control socket, and checks that it is in the same
//! namespaces as we are; a process of any session never is.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixStream},
    },
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::Pid,
    time::Timespec,
};

/// The namespaces that decide which processes, users and files a process sees.
const WORLD: [&str; 3] = ["pid", "user", "mnt"];

/// The process at the other end, as the kernel reports it (unix(7), `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user at the time of connecting.
    pub uid: u32,
    /// Process at the time of connecting; zero if it is in another process namespace.
    pub pid: i32,
}

/// The process that connected, held open so that its id cannot be reused while it is judged.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) peer: Peer,
    descriptor: OwnedFd,
}

impl Held {
    /// Identifies the process that connected.
    ///
    /// # Errors
    /// Why the kernel does not identify it, or that the process is gone.
    pub(super) fn of(stream: &UnixStream) -> Result<Self, String> {
        let unknown =
            |error: &dyn std::fmt::Display| format!("the kernel does not say who you are: {error}");
        let credentials =
            rustix::net::sockopt::socket_peercred(stream).map_err(|error| unknown(&error))?;
        let peer = Peer {
            uid: credentials.uid.as_raw(),
            pid: Pid::as_raw(Some(credentials.pid)),
        };
        // Before Linux 6.5 only the id is known. If the process has ended, another one may have its
        // id by now; that one must then be of the same user and in the same namespaces.
        let descriptor = match stockade_sys::pass::peer(stream).map_err(|error| unknown(&error))? {
            Some(descriptor) => descriptor,
            None => {
                stockade_sys::process::pidfd(credentials.pid).map_err(|error| unknown(&error))?
            }
        };
        Ok(Self { peer, descriptor })
    }

    /// Checks that the process has not ended: until now its id was its own.
    ///
    /// # Errors
    /// That it has.
    pub(super) fn still_there(&self) -> Result<(), String> {
        let mut ready = [PollFd::from_borrowed_fd(
            self.descriptor.as_fd(),
            PollFlags::IN,
        )];
        match poll(&mut ready, Some(&Timespec::default())) {
            Ok(0) => Ok(()),
            _ => Err("the process that connected is gone".to_owned()),
        }
    }
}

/// Checks that `pid` has our process, user and mount namespace and our root directory.
///
/// # Errors
/// What differs, or that the kernel does not say.
pub(super) fn same_world(pid: i32) -> Result<(), String> {
    let of = |pid: &str, name: &str| -> io::Result<(u64, u64)> {
        let metadata = fs::metadata(format!("/proc/{pid}/{name}"))?;
        Ok((metadata.dev(), metadata.ino()))
    };
    let places = WORLD
        .iter()
        .map(|name| (format!("ns/{name}"), *name))
        .chain([("root".to_owned(), "root")]);
    for (place, name) in places {
        let theirs = of(&pid.to_string(), &place).map_err(|error| {
            format!("the kernel does not say where process {pid} lives: {error}")
        })?;
        let ours = of("self", &place)
            .map_err(|error| format!("the kernel does not say where we live: {error}"))?;
        if theirs != ours {
            return Err(match name {
                "root" => "a process with another root directory may not answer".to_owned(),
                name => format!("a process of another {name} namespace may not answer"),
            });
        }
    }
    Ok(())
}
