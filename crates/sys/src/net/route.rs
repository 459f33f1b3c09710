//! Loopback and the local routes that make every address ours (rtnetlink(7), "AnyIP").

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

/// Brings the loopback device of the caller's network namespace up.
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
    socket.request("bring up loopback", &batch, 1)
}

/// Makes every IPv4 and, where the kernel has it, IPv6 address a local one on loopback; returns
/// whether IPv6 is there.
///
/// # Errors
/// When a route is refused for another reason than missing IPv6.
pub fn route_everything_to_loopback() -> Outcome<bool> {
    let socket = Socket::open(None)?;
    add_default(&socket, libc::AF_INET)?;
    match add_default(&socket, libc::AF_INET6) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(false)
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
