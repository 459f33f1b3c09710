//! Netlink messages: a builder, and requests that wait for the kernel's acknowledgement
//! (netlink(7)).

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::{Outcome, SysError};

pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACKNOWLEDGE: u16 = 0x4;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const DUMP: u16 = 0x300;
/// Flag of attribute types that contain attributes.
const NESTED: u16 = 0x8000;

pub(super) const KIND_ERROR: u16 = 2;
pub(super) const KIND_DONE: u16 = 3;
const HEADER_BYTES: usize = 16;
/// The kernel's own largest dump part (NLMSG_GOODSIZE upper bound).
const RECEIVE_BYTES_MAX: usize = 32 * 1024;

/// Messages being built; lengths are filled in when a message or nest is closed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    /// Appends a message; `body` writes what follows its header.
    pub(super) fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.sequence += 1;
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// Appends raw bytes of a fixed header.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Appends one attribute, padded to four bytes.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.attribute_with(kind, |batch| batch.bytes.extend(value));
    }

    /// Appends an attribute that contains attributes.
    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute_with(kind | NESTED, body);
    }

    fn attribute_with(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend(0_u16.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(slot) = self.bytes.get_mut(at..at + value.len()) {
            slot.copy_from_slice(value);
        }
    }
}

/// One received message: its type and the bytes behind its header.
pub(super) struct Received {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A netlink socket of one protocol, bound to the network namespace it was made in.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open(protocol: Option<Protocol>) -> Outcome<Self> {
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map(Self)
            .map_err(|e| SysError::new("socket(AF_NETLINK)", e))
    }

    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.0
    }

    pub(super) fn send(&self, batch: &Batch) -> Outcome<()> {
        let sent = rustix::net::send(&self.0, &batch.bytes, SendFlags::empty())
            .map_err(|e| SysError::new("send netlink", e))?;
        if sent == batch.bytes.len() {
            Ok(())
        } else {
            Err(short("send netlink"))
        }
    }

    /// Receives the messages of one datagram.
    pub(super) fn receive(&self) -> Outcome<Vec<Received>> {
        let mut buffer = vec![0_u8; RECEIVE_BYTES_MAX];
        let (count, _) = loop {
            match rustix::net::recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.map_err(|e| SysError::new("receive netlink", e))?,
            }
        };
        buffer.truncate(count);
        let mut messages = Vec::new();
        let mut rest = buffer.as_slice();
        while let Some(header) = rest.get(..HEADER_BYTES) {
            let length = u32_at(header, 0)
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(0);
            let body = rest
                .get(HEADER_BYTES..length)
                .ok_or_else(|| short("receive netlink"))?;
            messages.push(Received {
                kind: u16_at(header, 4).unwrap_or(0),
                body: body.to_vec(),
            });
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }

    /// Sends `batch` and waits until `acknowledgements` of its messages were answered.
    pub(super) fn request(
        &self,
        operation: &'static str,
        batch: &Batch,
        acknowledgements: usize,
    ) -> Outcome<()> {
        self.send(batch)?;
        let mut seen = 0;
        while seen < acknowledgements {
            for message in self.receive()? {
                if message.kind == KIND_ERROR {
                    check(operation, &message.body)?;
                    seen += 1;
                }
            }
        }
        Ok(())
    }
}

/// Reads an error message: zero is an acknowledgement.
pub(super) fn check(operation: &'static str, body: &[u8]) -> Outcome<()> {
    let code = body
        .first_chunk()
        .map_or(-libc::EPROTO, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return Ok(());
    }
    Err(SysError::new(
        operation,
        std::io::Error::from_raw_os_error(code.saturating_neg()),
    ))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u16::from_ne_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_ne_bytes(*b))
}

fn short(operation: &'static str) -> SysError {
    SysError::new(
        operation,
        std::io::Error::from(std::io::ErrorKind::UnexpectedEof),
    )
}
