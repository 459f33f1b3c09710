//! Loopback, and the local routes that make every address local to us (rtnetlink(7), "AnyIP").

use super::listen::Families;
use super::netlink::{ACKNOWLEDGE, Batch, CREATE, EXCLUSIVE, REQUEST, Socket};
use crate::Outcome;

const NEW_LINK: u16 = 16;
const NEW_ROUTE: u16 = 24;
/// The loopback device is always the first of a network namespace.
const LOOPBACK_INDEX: u32 = 1;
const TABLE_LOCAL: u8 = 255;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_HOST: u8 = 254;
const TYPE_LOCAL: u8 = 2;
const ATTRIBUTE_OUTPUT_DEVICE: u16 = 4;
const INTERFACE_UP: u32 = 1;
const NEW_ADDRESS: u16 = 20;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
const ATTRIBUTE_TIMES: u16 = 6;

/// A second address of loopback: the C library believes that a machine whose only address is
/// 127.0.0.1 has no IPv4, and then does not resolve names for it (AI_ADDRCONFIG, getaddrinfo(3)).
const OTHER: [u8; 4] = [127, 0, 0, 2];
/// The same for IPv6, from the discard-only prefix (RFC 6666).
const OTHER_SIX: [u8; 16] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Brings the loopback device of the caller's network namespace up, with a second address for each
/// family that the kernel has.
///
/// # Errors
/// Without `CAP_NET_ADMIN` in the namespace's user namespace.
pub fn bring_up_loopback() -> Outcome<()> {
    let socket = Socket::open(None)?;
    let mut batch = Batch::default();
    batch.message(NEW_LINK, REQUEST | ACKNOWLEDGE, |m| {
        // struct ifinfomsg: family, pad, type, index, flags, change mask.
        m.raw(&[0, 0, 0, 0]);
        m.raw(&LOOPBACK_INDEX.to_ne_bytes());
        m.raw(&INTERFACE_UP.to_ne_bytes());
        m.raw(&INTERFACE_UP.to_ne_bytes());
    });
    socket.request("bring up loopback", &batch, 1)?;
    add_address(&socket, libc::AF_INET, &OTHER)?;
    match add_address(&socket, libc::AF_INET6, &OTHER_SIX) {
        // EACCES if an administrator has switched IPv6 off.
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES)
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Adds a host-only address, which no connection uses as its source unless it is told to.
fn add_address(socket: &Socket, family: i32, address: &[u8]) -> Outcome<()> {
    let family = u8::try_from(family).unwrap_or_default();
    let bits = u8::try_from(address.len() * 8).unwrap_or_default();
    let mut batch = Batch::default();
    let flags = REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE;
    batch.message(NEW_ADDRESS, flags, |m| {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        m.raw(&[family, bits, 0, SCOPE_HOST]);
        m.raw(&LOOPBACK_INDEX.to_ne_bytes());
        m.attribute(ATTRIBUTE_ADDRESS, address);
        m.attribute(ATTRIBUTE_LOCAL, address);
        // struct ifa_cacheinfo: preferred for no time, valid for ever, made and updated now.
        let times = [0, u32::MAX, 0, 0].map(u32::to_ne_bytes);
        m.attribute(ATTRIBUTE_TIMES, times.as_flattened());
    });
    socket.request("add loopback address", &batch, 1)
}

/// Makes every IPv4 address, and every IPv6 address if the kernel has IPv6, a local one on
/// loopback; returns the families that the kernel has.
///
/// # Errors
/// When a route is refused for another reason than missing IPv6.
pub fn route_everything_to_loopback() -> Outcome<Families> {
    let socket = Socket::open(None)?;
    add_default(&socket, libc::AF_INET)?;
    match add_default(&socket, libc::AF_INET6) {
        Ok(()) => Ok(Families::Both),
        Err(error) if matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(Families::Four)
        }
        Err(error) => Err(error),
    }
}

fn add_default(socket: &Socket, family: i32) -> Outcome<()> {
    let family = u8::try_from(family).unwrap_or_default();
    let mut batch = Batch::default();
    batch.message(NEW_ROUTE, REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE, |m| {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        m.raw(&[
            family,
            0,
            0,
            0,
            TABLE_LOCAL,
            PROTOCOL_BOOT,
            SCOPE_HOST,
            TYPE_LOCAL,
            0,
            0,
            0,
            0,
        ]);
        m.attribute(ATTRIBUTE_OUTPUT_DEVICE, &LOOPBACK_INDEX.to_ne_bytes());
    });
    socket.request("add local route", &batch, 1)
}
