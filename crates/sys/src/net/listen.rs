//! Listeners of the session's network namespace, and facts that only raw socket calls report: the
//! destination before a redirect, and the address to which a datagram was sent.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::{Outcome, SysError};

/// Connections that may wait to be accepted: a burst of a package manager's parallel downloads.
const BACKLOG: i32 = 1024;
/// `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST` (linux/netfilter_ipv4.h and _ipv6.h).
const ORIGINAL_DESTINATION: libc::c_int = 80;

/// The families of addresses that a network namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone: the kernel has no IPv6.
    Four,
    /// Both; a socket of IPv6 serves IPv4 too.
    Both,
}

fn socket(kind: SocketType, families: Families) -> Outcome<OwnedFd> {
    let family = match families {
        Families::Four => AddressFamily::INET,
        Families::Both => AddressFamily::INET6,
    };
    let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(|e| SysError::new("socket", e))?;
    if families == Families::Both {
        sockopt::set_ipv6_v6only(&fd, false).map_err(|e| SysError::new("IPV6_V6ONLY", e))?;
    }
    Ok(fd)
}

fn any(port: u16, families: Families) -> SocketAddr {
    let address = match families {
        Families::Four => Ipv4Addr::UNSPECIFIED.into(),
        Families::Both => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(address, port)
}

/// Listens for TCP on `port` of every address of `families`.
///
/// # Errors
/// EADDRINUSE, or EACCES for a low port without `CAP_NET_BIND_SERVICE`.
pub fn listen(port: u16, families: Families) -> Outcome<OwnedFd> {
    let fd = socket(SocketType::STREAM, families)?;
    sockopt::set_socket_reuseaddr(&fd, true).map_err(|e| SysError::new("SO_REUSEADDR", e))?;
    rustix::net::bind(&fd, &any(port, families))
        .map_err(|e| SysError::on("bind tcp port", port, e))?;
    rustix::net::listen(&fd, BACKLOG).map_err(|e| SysError::on("listen on port", port, e))?;
    Ok(fd)
}

/// Listens for TCP on `port` of loopback, once for each family that exists.
///
/// # Errors
/// As [`listen`].
pub fn listen_local(port: u16, families: Families) -> Outcome<Vec<OwnedFd>> {
    let each: &[Families] = match families {
        Families::Four => &[Families::Four],
        Families::Both => &[Families::Four, Families::Both],
    };
    let one = |families: &Families| {
        let fd = socket(SocketType::STREAM, *families)?;
        let address = match families {
            Families::Four => Ipv4Addr::LOCALHOST.into(),
            Families::Both => Ipv6Addr::LOCALHOST.into(),
        };
        let address = SocketAddr::new(address, port);
        sockopt::set_socket_reuseaddr(&fd, true).map_err(|e| SysError::new("SO_REUSEADDR", e))?;
        rustix::net::bind(&fd, &address).map_err(|e| SysError::on("bind tcp port", port, e))?;
        rustix::net::listen(&fd, BACKLOG).map_err(|e| SysError::on("listen on port", port, e))?;
        Ok(fd)
    };
    each.iter().map(one).collect()
}

/// Binds the UDP port 53 of every address, so that we answer whichever resolver a program asks.
///
/// # Errors
/// As [`listen`].
pub fn dns_socket(families: Families) -> Outcome<OwnedFd> {
    let fd = socket(SocketType::DGRAM, families)?;
    set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO)?;
    if families == Families::Both {
        set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
    }
    rustix::net::bind(&fd, &any(53, families)).map_err(|e| SysError::on("bind udp port", 53, e))?;
    Ok(fd)
}

fn set_option(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> Outcome<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the option value is an int that lives through the call, with its size.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(SysError::last("setsockopt"))
    }
}

/// Returns where an accepted connection was going before it was redirected.
///
/// # Errors
/// ENOENT for a connection that was not redirected.
pub fn original_destination(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let peer = rustix::net::getpeername(fd)?
        .and_then(|address| SocketAddr::try_from(address).ok())
        .ok_or(io::ErrorKind::Unsupported)?;
    if peer.ip().to_canonical().is_ipv4() {
        let mut raw = MaybeUninit::<libc::sockaddr_in>::zeroed();
        read_option(fd, libc::SOL_IP, &mut raw)?;
        // SAFETY: zeroed at first and then filled by the kernel; any bytes are a valid sockaddr_in.
        let raw = unsafe { raw.assume_init() };
        let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
        return Ok(SocketAddr::new(address.into(), u16::from_be(raw.sin_port)));
    }
    let mut raw = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    read_option(fd, libc::SOL_IPV6, &mut raw)?;
    // SAFETY: zeroed at first and then filled by the kernel; any bytes are a valid sockaddr_in6.
    let raw = unsafe { raw.assume_init() };
    let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
    Ok(SocketAddr::new(
        IpAddr::V6(address).to_canonical(),
        u16::from_be(raw.sin6_port),
    ))
}

fn read_option<T>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    value: &mut MaybeUninit<T>,
) -> io::Result<()> {
    let mut length =
        libc::socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` is writable for `length` bytes and both live through the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            ORIGINAL_DESTINATION,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// One datagram's addresses and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes received.
    pub length: usize,
    /// The sender.
    pub peer: SocketAddr,
    /// The address it was sent to; the answer must come from there.
    pub local: IpAddr,
}

/// Bytes of control messages: for an IPv4 sender, a dual socket with both options set receives
/// `in6_pktinfo` (40 bytes with its header) and `in_pktinfo` (32), and the kernel cuts what does
/// not fit.
const CONTROL_BYTES: usize = 128;

/// Room for control messages, with the alignment they need.
#[repr(align(8))]
struct ControlSpace([u8; CONTROL_BYTES]);

/// Binds a socket to the bytes of an address as bind(2) takes them.
///
/// # Errors
/// With the kernel's answer.
pub fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> std::io::Result<()> {
    let length = libc::socklen_t::try_from(address.len())
        .map_err(|_| std::io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the pointer and the length describe the borrowed `address`, from which the kernel
    // copies; it interprets the bytes only there.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Receives one datagram of a socket made by [`dns_socket`] without waiting.
///
/// # Errors
/// `WouldBlock` when there is none; `InvalidData` when the kernel reported no destination or cut
/// it.
pub fn receive_datagram(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = ControlSpace([0; CONTROL_BYTES]);
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = empty_message();
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0);
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: name, buffer and control are writable for the lengths given and live on.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: zeroed at first and then filled by the kernel; any bytes are valid.
    let name = unsafe { name.assume_init() };
    let peer = socket_address(&name).ok_or(io::ErrorKind::InvalidData)?;
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let local = packet_info(&message).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Datagram {
        length,
        peer,
        local,
    })
}

fn empty_message() -> libc::msghdr {
    // SAFETY: an all-zero msghdr has null pointers and zero lengths, which is valid.
    unsafe { std::mem::zeroed() }
}

fn socket_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in, which is smaller and
            // less strictly aligned than the storage.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above for sockaddr_in6.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(address, u16::from_be(raw.sin6_port), 0, 0).into())
        }
        _ => None,
    }
}

fn packet_info(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the header describes the control buffer that the kernel just filled.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !at.is_null() {
        // SAFETY: `at` is a control header within that buffer.
        let header = unsafe { *at };
        // SAFETY: the data of a control message directly follows its header.
        let data = unsafe { libc::CMSG_DATA(at) };
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds::<libc::in_pktinfo>(&header) => {
                // SAFETY: this message's data is an in_pktinfo, perhaps unaligned, and its length
                // was checked.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if holds::<libc::in6_pktinfo>(&header) => {
                // SAFETY: this message's data is an in6_pktinfo, perhaps unaligned, and its length
                // was checked.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            // SAFETY: both pointers belong to the same control buffer.
            _ => at = unsafe { libc::CMSG_NXTHDR(message, at) },
        }
    }
    None
}

/// Returns whether a control message is long enough for a `T`.
fn holds<T>(header: &libc::cmsghdr) -> bool {
    let Ok(length) = libc::c_uint::try_from(size_of::<T>()) else {
        return false;
    };
    // SAFETY: CMSG_LEN only computes.
    let needed = unsafe { libc::CMSG_LEN(length) };
    usize::try_from(needed).is_ok_and(|needed| header.cmsg_len >= needed)
}

/// Sends `bytes` to `peer` from the address `local`, without waiting. Pass the addresses as
/// [`receive_datagram`] gave them, so that an IPv4 peer of a dual socket keeps its mapped form.
///
/// # Errors
/// `WouldBlock` when the socket's buffer is full; otherwise the kernel's error.
pub fn send_datagram(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    peer: SocketAddr,
    local: IpAddr,
) -> io::Result<()> {
    let mut slice = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = ControlSpace([0; CONTROL_BYTES]);
    let mut message = empty_message();
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = put_packet_info(&mut control, local);
    let (mut four, mut six);
    match peer {
        SocketAddr::V4(address) => {
            four = libc::sockaddr_in {
                sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*address.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            message.msg_name = (&raw mut four).cast();
            message.msg_namelen = libc::socklen_t::try_from(size_of_val(&four)).unwrap_or(0);
        }
        SocketAddr::V6(address) => {
            six = libc::sockaddr_in6 {
                sin6_family: libc::sa_family_t::try_from(libc::AF_INET6).unwrap_or_default(),
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: 0,
            };
            message.msg_name = (&raw mut six).cast();
            message.msg_namelen = libc::socklen_t::try_from(size_of_val(&six)).unwrap_or(0);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: name, bytes and control are readable for the lengths given and live on; sendmsg does
    // not write through them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    match usize::try_from(sent) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Writes one packet-info message that names `local` as the source; returns its length.
fn put_packet_info(control: &mut ControlSpace, local: IpAddr) -> usize {
    let (level, kind, data) = match local {
        IpAddr::V4(address) => {
            // struct in_pktinfo: interface index, address to send from, header destination.
            let mut data = vec![0; 4];
            data.extend(address.octets());
            data.extend([0; 4]);
            (libc::IPPROTO_IP, libc::IP_PKTINFO, data)
        }
        IpAddr::V6(address) => {
            // struct in6_pktinfo: address, interface index.
            let mut data = address.octets().to_vec();
            data.extend([0; 4]);
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data)
        }
    };
    // A control header is its length, level and type, then the data, padded to eight bytes.
    let length = 16 + data.len();
    let mut bytes = Vec::with_capacity(64);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(length.next_multiple_of(8), 0);
    if let Some(space) = control.0.get_mut(..bytes.len()) {
        space.copy_from_slice(&bytes);
    }
    bytes.len()
}
