//! The one ruleset of a session, as netlink messages: every TCP connection that is not to
//! loopback goes to our port (nf_tables; linux/netfilter/nf_tables.h).

use rustix::net::netlink;

use super::netlink::{ACKNOWLEDGE, APPEND, Batch, CREATE, REQUEST, Socket};
use crate::Outcome;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
/// Both IPv4 and IPv6 in one table.
const FAMILY_INET: u8 = 1;
const HOOK_LOCAL_OUT: u32 = 3;
/// Where destination translation belongs (NF_IP_PRI_NAT_DST).
const PRIORITY_NAT_DESTINATION: i32 = -100;
const TABLE: &[u8] = b"stockade\0";
const CHAIN: &[u8] = b"output\0";
const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const VERDICT_ACCEPT: u32 = 1;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const COMPARE_EQUAL: u32 = 0;
/// The redirect names the whole range, as one port (NF_NAT_RANGE_PROTO_SPECIFIED).
const PORT_SPECIFIED: u32 = 2;

/// Redirects every TCP connection made in the caller's network namespace to `port` on loopback,
/// except those to loopback itself, which belong to the programs inside.
///
/// # Errors
/// EOPNOTSUPP or EPROTONOSUPPORT where the kernel has no nf_tables or no NAT.
pub fn redirect_all_tcp(port: u16) -> Outcome<()> {
    let mut batch = Batch::default();
    batch.message(BATCH_BEGIN, REQUEST, |m| m.raw(&[0, 0, 0, 10]));
    batch.message(NEW_TABLE, REQUEST | ACKNOWLEDGE | CREATE, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.attribute(1, TABLE);
        m.attribute(2, &0_u32.to_be_bytes());
    });
    batch.message(NEW_CHAIN, REQUEST | ACKNOWLEDGE | CREATE, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.attribute(1, TABLE);
        m.attribute(3, CHAIN);
        m.attribute(7, b"nat\0");
        m.attribute(5, &VERDICT_ACCEPT.to_be_bytes());
        m.nest(4, |hook| {
            hook.attribute(1, &HOOK_LOCAL_OUT.to_be_bytes());
            hook.attribute(2, &PRIORITY_NAT_DESTINATION.to_be_bytes());
        });
    });
    rule(&mut batch, |m| {
        compare_meta(m, META_FAMILY, &[libc::AF_INET.to_ne_bytes()[0]]);
        compare_destination(m, 16, &[127]);
        accept(m);
    });
    rule(&mut batch, |m| {
        compare_meta(m, META_FAMILY, &[libc::AF_INET6.to_ne_bytes()[0]]);
        compare_destination(m, 24, &std::net::Ipv6Addr::LOCALHOST.octets());
        accept(m);
    });
    rule(&mut batch, |m| {
        compare_meta(m, META_PROTOCOL, &[libc::IPPROTO_TCP.to_ne_bytes()[0]]);
        redirect(m, port);
    });
    batch.message(BATCH_END, REQUEST, |m| m.raw(&[0, 0, 0, 10]));
    // Table, chain and three rules each acknowledge.
    Socket::open(Some(netlink::NETFILTER))?.request("load nf_tables redirect", &batch, 5)
}

fn rule(batch: &mut Batch, expressions: impl FnOnce(&mut Batch)) {
    batch.message(NEW_RULE, REQUEST | ACKNOWLEDGE | CREATE | APPEND, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.attribute(1, TABLE);
        m.attribute(2, CHAIN);
        m.nest(4, expressions);
    });
}

fn expression(m: &mut Batch, name: &[u8], data: impl FnOnce(&mut Batch)) {
    m.nest(1, |element| {
        element.attribute(1, name);
        element.nest(2, data);
    });
}

fn compare_meta(m: &mut Batch, key: u32, value: &[u8]) {
    expression(m, b"meta\0", |data| {
        data.attribute(2, &key.to_be_bytes());
        data.attribute(1, &REGISTER_1.to_be_bytes());
    });
    compare(m, value);
}

fn compare_destination(m: &mut Batch, offset: u32, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or_default();
    expression(m, b"payload\0", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.attribute(2, &NETWORK_HEADER.to_be_bytes());
        data.attribute(3, &offset.to_be_bytes());
        data.attribute(4, &length.to_be_bytes());
    });
    compare(m, value);
}

fn compare(m: &mut Batch, value: &[u8]) {
    expression(m, b"cmp\0", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.attribute(2, &COMPARE_EQUAL.to_be_bytes());
        data.nest(3, |inner| inner.attribute(1, value));
    });
}

fn accept(m: &mut Batch) {
    expression(m, b"immediate\0", |data| {
        data.attribute(1, &REGISTER_VERDICT.to_be_bytes());
        data.nest(2, |inner| {
            inner.nest(2, |verdict| {
                verdict.attribute(1, &VERDICT_ACCEPT.to_be_bytes());
            });
        });
    });
}

fn redirect(m: &mut Batch, port: u16) {
    expression(m, b"immediate\0", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.nest(2, |inner| inner.attribute(1, &port.to_be_bytes()));
    });
    expression(m, b"redir\0", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.attribute(3, &PORT_SPECIFIED.to_be_bytes());
    });
}
