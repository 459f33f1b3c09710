//! The one ruleset of a session, as netlink messages: every TCP connection that is not to
//! loopback goes to our port (nf_tables; linux/netfilter/nf_tables.h).

use rustix::net::netlink;

use super::{
    hold::Word,
    netlink::{ACKNOWLEDGE, APPEND, Batch, CREATE, REQUEST, Socket},
};
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
/// Where first packets are held, and where they are answered: both before the redirect.
const HOLD_CHAIN: &[u8] = b"hold\0";
const ANSWER_CHAIN: &[u8] = b"answer\0";
const PRIORITY_HOLD: i32 = -152;
const PRIORITY_ANSWER: i32 = -151;
const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const VERDICT_ACCEPT: u32 = 1;
const META_MARK: u32 = 3;
const TRANSPORT_HEADER: u32 = 2;
/// Offset and bits of the flags in a TCP header (RFC 9293 section 3.1): of FIN, SYN, RST and ACK only
/// SYN is set in a first packet.
const TCP_FLAGS_AT: u32 = 13;
const TCP_FLAGS: u8 = 0x17;
const TCP_SYN: u8 = 0x02;
const NAME_PORT: u16 = 53;
/// Kinds of answers (linux/netfilter/nf_tables.h: NFT_REJECT_TCP_RST, NFT_REJECT_ICMPX_UNREACH).
const REJECT_RESET: u32 = 1;
const REJECT_UNREACHABLE: u32 = 2;
/// NFT_REJECT_ICMPX_NO_ROUTE, NFT_REJECT_ICMPX_HOST_UNREACH.
const NO_ROUTE: u8 = 0;
const NO_HOST: u8 = 2;
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
    chain(&mut batch, CHAIN, b"nat\0", PRIORITY_NAT_DESTINATION);
    except_loopback(&mut batch, CHAIN);
    rule(&mut batch, CHAIN, |m| {
        compare_meta(m, META_PROTOCOL, &[libc::IPPROTO_TCP.to_ne_bytes()[0]]);
        redirect(m, port);
    });
    batch.message(BATCH_END, REQUEST, |m| m.raw(&[0, 0, 0, 10]));
    // Table, chain and three rules each acknowledge.
    Socket::open(Some(netlink::NETFILTER))?.request("load nf_tables redirect", &batch, 5)
}

/// Holds the first packet of every TCP connection that [`redirect_all_tcp`] redirects, but for those
/// that ask for names, and of those to the ports `local` of loopback, until [`super::HeldConnections::answer`]; and gives the answers.
///
/// # Errors
/// As [`redirect_all_tcp`]; ENOENT where the kernel has no way to hold or to answer.
pub fn hold_all_tcp(local: &[u16]) -> Outcome<()> {
    match hold_with(queue, local) {
        // The same queue behind another door: kernels have either or both.
        Err(error) if error.errno() == Some(libc::ENOENT) => hold_with(queue_target, local),
        other => other,
    }
}

fn hold_with(queue: fn(&mut Batch), local: &[u16]) -> Outcome<()> {
    let mut batch = Batch::default();
    batch.message(BATCH_BEGIN, REQUEST, |m| m.raw(&[0, 0, 0, 10]));
    chain(&mut batch, HOLD_CHAIN, b"filter\0", PRIORITY_HOLD);
    let first_packet = |m: &mut Batch| {
        load_payload(m, TRANSPORT_HEADER, TCP_FLAGS_AT, 1);
        keep_bits(m, TCP_FLAGS);
        compare(m, &[TCP_SYN]);
    };
    // An answer of a service goes to loopback too, but comes from its port.
    for port in local {
        rule(&mut batch, HOLD_CHAIN, |m| {
            compare_meta(m, META_PROTOCOL, &[libc::IPPROTO_TCP.to_ne_bytes()[0]]);
            load_payload(m, TRANSPORT_HEADER, 2, 2);
            compare(m, &port.to_be_bytes());
            first_packet(m);
            queue(m);
        });
    }
    except_loopback(&mut batch, HOLD_CHAIN);
    rule(&mut batch, HOLD_CHAIN, |m| {
        compare_meta(m, META_PROTOCOL, &[libc::IPPROTO_TCP.to_ne_bytes()[0]]);
        load_payload(m, TRANSPORT_HEADER, 2, 2);
        compare(m, &NAME_PORT.to_be_bytes());
        accept(m);
    });
    rule(&mut batch, HOLD_CHAIN, |m| {
        compare_meta(m, META_PROTOCOL, &[libc::IPPROTO_TCP.to_ne_bytes()[0]]);
        first_packet(m);
        queue(m);
    });
    chain(&mut batch, ANSWER_CHAIN, b"filter\0", PRIORITY_ANSWER);
    let answers = [
        (Word::Refused, REJECT_RESET, 0),
        (Word::NoHost, REJECT_UNREACHABLE, NO_HOST),
        (Word::NoNetwork, REJECT_UNREACHABLE, NO_ROUTE),
    ];
    for (word, kind, code) in answers {
        rule(&mut batch, ANSWER_CHAIN, |m| {
            compare_meta(m, META_PROTOCOL, &[libc::IPPROTO_TCP.to_ne_bytes()[0]]);
            compare_meta(m, META_MARK, &word.mark().to_ne_bytes());
            reject(m, kind, code);
        });
    }
    batch.message(BATCH_END, REQUEST, |m| m.raw(&[0, 0, 0, 10]));
    // Two chains, four rules of the one and three of the other, and one for each port acknowledge.
    let acknowledged = 9 + local.len();
    Socket::open(Some(netlink::NETFILTER))?.request("load nf_tables hold", &batch, acknowledged)
}

fn chain(batch: &mut Batch, name: &[u8], kind: &[u8], priority: i32) {
    batch.message(NEW_CHAIN, REQUEST | ACKNOWLEDGE | CREATE, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.attribute(1, TABLE);
        m.attribute(3, name);
        m.attribute(7, kind);
        m.attribute(5, &VERDICT_ACCEPT.to_be_bytes());
        m.nest(4, |hook| {
            hook.attribute(1, &HOOK_LOCAL_OUT.to_be_bytes());
            hook.attribute(2, &priority.to_be_bytes());
        });
    });
}

/// Passes over what goes to loopback.
fn except_loopback(batch: &mut Batch, chain: &[u8]) {
    rule(batch, chain, |m| {
        compare_meta(m, META_FAMILY, &[libc::AF_INET.to_ne_bytes()[0]]);
        load_payload(m, NETWORK_HEADER, 16, 1);
        compare(m, &[127]);
        accept(m);
    });
    rule(batch, chain, |m| {
        compare_meta(m, META_FAMILY, &[libc::AF_INET6.to_ne_bytes()[0]]);
        load_payload(m, NETWORK_HEADER, 24, 16);
        compare(m, &std::net::Ipv6Addr::LOCALHOST.octets());
        accept(m);
    });
}

fn rule(batch: &mut Batch, chain: &[u8], expressions: impl FnOnce(&mut Batch)) {
    batch.message(NEW_RULE, REQUEST | ACKNOWLEDGE | CREATE | APPEND, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.attribute(1, TABLE);
        m.attribute(2, chain);
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

fn load_payload(m: &mut Batch, header: u32, offset: u32, length: u32) {
    expression(m, b"payload\0", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.attribute(2, &header.to_be_bytes());
        data.attribute(3, &offset.to_be_bytes());
        data.attribute(4, &length.to_be_bytes());
    });
}

/// Clears all other bits of the one byte that was loaded.
fn keep_bits(m: &mut Batch, bits: u8) {
    expression(m, b"bitwise\0", |data| {
        data.attribute(1, &REGISTER_1.to_be_bytes());
        data.attribute(2, &REGISTER_1.to_be_bytes());
        data.attribute(3, &1_u32.to_be_bytes());
        data.nest(4, |inner| inner.attribute(1, &[bits]));
        data.nest(5, |inner| inner.attribute(1, &[0]));
    });
}

/// Gives the packet to queue 0; without anybody who takes from it, it is dropped.
fn queue(m: &mut Batch) {
    expression(m, b"queue\0", |data| {
        data.attribute(1, &0_u16.to_be_bytes());
        data.attribute(2, &1_u16.to_be_bytes());
    });
}

/// The same by the target that iptables has (linux/netfilter/xt_NFQUEUE.h).
fn queue_target(m: &mut Batch) {
    expression(m, b"target\0", |data| {
        data.attribute(1, b"NFQUEUE\0");
        data.attribute(2, &0_u32.to_be_bytes());
        data.attribute(3, &[0; 8]);
    });
}

fn reject(m: &mut Batch, kind: u32, code: u8) {
    expression(m, b"reject\0", |data| {
        data.attribute(1, &kind.to_be_bytes());
        data.attribute(2, &[code]);
    });
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
