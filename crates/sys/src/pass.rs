//! Messages with descriptors over a Unix socket (SCM_RIGHTS, unix(7)).

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::{Outcome, SysError};

/// Most descriptors in one message; our largest message (listeners) has far fewer.
pub const DESCRIPTORS_MAX: usize = 16;
/// Largest message; launch messages are short, an error chain with paths is the longest.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Makes a connected pair of sockets that keep message boundaries, closed on exec.
///
/// # Errors
/// When descriptors run out.
pub fn packet_pair() -> Outcome<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| SysError::new("socketpair", e))
}

/// Makes a connected pair of byte streams, closed on exec.
///
/// # Errors
/// When descriptors run out.
pub fn stream_pair() -> Outcome<(UnixStream, UnixStream)> {
    UnixStream::pair().map_err(|e| SysError::new("socketpair", e))
}

/// Returns a pidfd of the process that connected a socket (`SO_PEERPIDFD`), or nothing if the
/// kernel offers none (before Linux 6.5).
///
/// # Errors
/// When the process was reaped already, or the socket has no such peer.
pub fn peer(socket: impl AsFd) -> Outcome<Option<OwnedFd>> {
    let mut descriptor: libc::c_int = -1;
    let mut length: libc::socklen_t = size_of::<libc::c_int>().try_into().unwrap_or_default();
    // SAFETY: the descriptor is open for the call; `descriptor` and `length` are exclusively
    // borrowed for it, and `length` is the size of `descriptor`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOPROTOOPT) => Ok(None),
            _ => Err(SysError::new("getsockopt(SO_PEERPIDFD)", error)),
        };
    }
    // SAFETY: the kernel just returned this descriptor to us alone.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Sends one message with descriptors.
///
/// # Errors
/// When the peer is gone or the message is too large. A closed peer is EPIPE, not a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Outcome<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(SysError::new(
            "sendmsg",
            std::io::Error::other("too many descriptors"),
        ));
    }
    let sent = rustix::net::sendmsg(
        &socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map_err(|e| SysError::new("sendmsg", e))?;
    if sent == bytes.len() {
        return Ok(());
    }
    Err(SysError::new(
        "sendmsg",
        std::io::Error::other("the message was cut"),
    ))
}

/// Receives one message; an empty message without descriptors means that the peer is gone.
///
/// # Errors
/// When the socket fails, or the message or its descriptors were cut.
pub fn receive(socket: impl AsFd) -> Outcome<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(&socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.map_err(|e| SysError::new("recvmsg", e))?,
        }
    };
    let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if message.flags.intersects(cut) {
        return Err(SysError::new(
            "recvmsg",
            std::io::Error::other("the message was cut"),
        ));
    }
    let mut fds = Vec::new();
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = ancillary {
            fds.extend(received);
        }
    }
    bytes.truncate(message.bytes);
    Ok((bytes, fds))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::fd::AsFd};

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (left, right) = super::packet_pair().unwrap();
        let file = crate::fd::sealed_memory("t", b"hello").unwrap();
        super::send(&left, b"one", &[file.as_fd()]).unwrap();
        super::send(&left, b"two", &[]).unwrap();
        let (bytes, mut fds) = super::receive(&right).unwrap();
        assert_eq!((bytes.as_slice(), fds.len()), (b"one".as_slice(), 1));
        let mut text = String::new();
        File::from(fds.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(super::receive(&right).unwrap().0, b"two");
        drop(left);
        assert!(super::receive(&right).unwrap().0.is_empty());
    }
}
