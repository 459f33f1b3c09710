//! The one ruleset of a session, as netlink messages: it redirects every TCP connection that is not
//! to loopback to our port (nf_tables; linux/netfilter/nf_tables.h).

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
/// The place of destination translation (NF_IP_PRI_NAT_DST).
const PRIORITY_NAT_DESTINATION: i32 = -100;
const TABLE: &[u8] = b"stockade\0";
const CHAIN: &[u8] = b"output\0";
/// The chains that hold and answer first packets: both come before the redirect.
const HOLD_CHAIN: &[u8] = b"hold\0";
const ANSWER_CHAIN: &[u8] = b"answer\0";
const PRIORITY_HOLD: i32 = -152;
const PRIORITY_ANSWER: i32 = -151;
const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const VERDICT_ACCEPT: u32 = 1;
const META_MARK: u32 = 3;
const TRANSPORT_HEADER: u32 = 2;
/// Offset and bits of the flags in a TCP header (RFC 9293 section 3.1): in a first packet, SYN is
/// the only one of FIN, SYN, RST and ACK that is set.
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
/// The redirect gives a whole range, which is one port (NF_NAT_RANGE_PROTO_SPECIFIED).
const PORT_SPECIFIED: u32 = 2;

/// Attributes of each kind of message and expression (linux/netfilter/nf_tables.h). Each kind
/// numbers its own from 1.
mod attribute {
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const META_DESTINATION: u16 = 1;
    pub(super) const META_KEY: u16 = 2;
    pub(super) const PAYLOAD_DESTINATION: u16 = 1;
    pub(super) const PAYLOAD_BASE: u16 = 2;
    pub(super) const PAYLOAD_OFFSET: u16 = 3;
    pub(super) const PAYLOAD_LENGTH: u16 = 4;
    pub(super) const BITWISE_SOURCE: u16 = 1;
    pub(super) const BITWISE_DESTINATION: u16 = 2;
    pub(super) const BITWISE_LENGTH: u16 = 3;
    pub(super) const BITWISE_MASK: u16 = 4;
    pub(super) const BITWISE_XOR: u16 = 5;
    pub(super) const QUEUE_NUMBER: u16 = 1;
    pub(super) const QUEUE_TOTAL: u16 = 2;
    pub(super) const TARGET_NAME: u16 = 1;
    pub(super) const TARGET_REVISION: u16 = 2;
    pub(super) const TARGET_INFO: u16 = 3;
    pub(super) const REJECT_KIND: u16 = 1;
    pub(super) const REJECT_CODE: u16 = 2;
    pub(super) const COMPARE_SOURCE: u16 = 1;
    pub(super) const COMPARE_OPERATION: u16 = 2;
    pub(super) const COMPARE_DATA: u16 = 3;
    pub(super) const IMMEDIATE_DESTINATION: u16 = 1;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
    pub(super) const REDIRECT_PORT_FIRST: u16 = 1;
    pub(super) const REDIRECT_FLAGS: u16 = 3;
}

/// Redirects every TCP connection made in the caller's network namespace to `port` on loopback,
/// except connections to loopback itself, which belong to the programs inside.
///
/// # Errors
/// EOPNOTSUPP or EPROTONOSUPPORT if the kernel has no nf_tables or no NAT.
pub fn redirect_all_tcp(port: u16) -> Outcome<()> {
    let mut batch = Batch::default();
    batch.message(BATCH_BEGIN, REQUEST, |m| m.raw(&[0, 0, 0, 10]));
    batch.message(NEW_TABLE, REQUEST | ACKNOWLEDGE | CREATE, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.attribute(attribute::TABLE_NAME, TABLE);
        m.attribute(attribute::TABLE_FLAGS, &0_u32.to_be_bytes());
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

/// Holds first packets until [`super::HeldConnections::answer`], and gives the answers. It holds
/// those of every TCP connection that [`redirect_all_tcp`] redirects, except connections for DNS,
/// and those of connections to the ports `local` of loopback.
///
/// # Errors
/// As [`redirect_all_tcp`]; ENOENT if the kernel cannot hold or cannot answer.
pub fn hold_all_tcp(local: &[u16]) -> Outcome<()> {
    // There are two interfaces to one queue, and a kernel has either or both. The target comes
    // first because more kernels have it, and because a kernel needs 12 ms (a grace period of RCU)
    // to take back rules that it cannot load.
    match hold_with(queue_target, local) {
        Err(error) if error.errno() == Some(libc::ENOENT) => hold_with(queue, local),
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
    // A service's own answer goes to loopback too, but comes from the service's port.
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
    // Two chains, four rules of one, three of the other, and one for each port: all acknowledge.
    let acknowledged = 9 + local.len();
    Socket::open(Some(netlink::NETFILTER))?.request("load nf_tables hold", &batch, acknowledged)
}

fn chain(batch: &mut Batch, name: &[u8], kind: &[u8], priority: i32) {
    batch.message(NEW_CHAIN, REQUEST | ACKNOWLEDGE | CREATE, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.attribute(attribute::CHAIN_TABLE, TABLE);
        m.attribute(attribute::CHAIN_NAME, name);
        m.attribute(attribute::CHAIN_TYPE, kind);
        m.attribute(attribute::CHAIN_POLICY, &VERDICT_ACCEPT.to_be_bytes());
        m.nest(attribute::CHAIN_HOOK, |hook| {
            hook.attribute(attribute::HOOK_NUMBER, &HOOK_LOCAL_OUT.to_be_bytes());
            hook.attribute(attribute::HOOK_PRIORITY, &priority.to_be_bytes());
        });
    });
}

/// Skips packets to loopback.
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
        m.attribute(attribute::RULE_TABLE, TABLE);
        m.attribute(attribute::RULE_CHAIN, chain);
        m.nest(attribute::RULE_EXPRESSIONS, expressions);
    });
}

fn expression(m: &mut Batch, name: &[u8], data: impl FnOnce(&mut Batch)) {
    m.nest(attribute::LIST_ELEMENT, |element| {
        element.attribute(attribute::EXPRESSION_NAME, name);
        element.nest(attribute::EXPRESSION_DATA, data);
    });
}

fn compare_meta(m: &mut Batch, key: u32, value: &[u8]) {
    expression(m, b"meta\0", |data| {
        data.attribute(attribute::META_KEY, &key.to_be_bytes());
        data.attribute(attribute::META_DESTINATION, &REGISTER_1.to_be_bytes());
    });
    compare(m, value);
}

fn load_payload(m: &mut Batch, header: u32, offset: u32, length: u32) {
    expression(m, b"payload\0", |data| {
        data.attribute(attribute::PAYLOAD_DESTINATION, &REGISTER_1.to_be_bytes());
        data.attribute(attribute::PAYLOAD_BASE, &header.to_be_bytes());
        data.attribute(attribute::PAYLOAD_OFFSET, &offset.to_be_bytes());
        data.attribute(attribute::PAYLOAD_LENGTH, &length.to_be_bytes());
    });
}

/// Clears all other bits of the one byte that was loaded.
fn keep_bits(m: &mut Batch, bits: u8) {
    expression(m, b"bitwise\0", |data| {
        data.attribute(attribute::BITWISE_SOURCE, &REGISTER_1.to_be_bytes());
        data.attribute(attribute::BITWISE_DESTINATION, &REGISTER_1.to_be_bytes());
        data.attribute(attribute::BITWISE_LENGTH, &1_u32.to_be_bytes());
        data.nest(attribute::BITWISE_MASK, |inner| {
            inner.attribute(attribute::DATA_VALUE, &[bits]);
        });
        data.nest(attribute::BITWISE_XOR, |inner| {
            inner.attribute(attribute::DATA_VALUE, &[0]);
        });
    });
}

/// Gives the packet to queue 0; if no process reads that queue, the kernel drops the packet.
fn queue(m: &mut Batch) {
    expression(m, b"queue\0", |data| {
        data.attribute(attribute::QUEUE_NUMBER, &0_u16.to_be_bytes());
        data.attribute(attribute::QUEUE_TOTAL, &1_u16.to_be_bytes());
    });
}

/// The same through the target of iptables (linux/netfilter/xt_NFQUEUE.h), which most kernels have.
fn queue_target(m: &mut Batch) {
    expression(m, b"target\0", |data| {
        data.attribute(attribute::TARGET_NAME, b"NFQUEUE\0");
        data.attribute(attribute::TARGET_REVISION, &0_u32.to_be_bytes());
        data.attribute(attribute::TARGET_INFO, &[0; 8]);
    });
}

fn reject(m: &mut Batch, kind: u32, code: u8) {
    expression(m, b"reject\0", |data| {
        data.attribute(attribute::REJECT_KIND, &kind.to_be_bytes());
        data.attribute(attribute::REJECT_CODE, &[code]);
    });
}

fn compare(m: &mut Batch, value: &[u8]) {
    expression(m, b"cmp\0", |data| {
        data.attribute(attribute::COMPARE_SOURCE, &REGISTER_1.to_be_bytes());
        data.attribute(attribute::COMPARE_OPERATION, &COMPARE_EQUAL.to_be_bytes());
        data.nest(attribute::COMPARE_DATA, |inner| {
            inner.attribute(attribute::DATA_VALUE, value);
        });
    });
}

fn accept(m: &mut Batch) {
    expression(m, b"immediate\0", |data| {
        data.attribute(
            attribute::IMMEDIATE_DESTINATION,
            &REGISTER_VERDICT.to_be_bytes(),
        );
        data.nest(attribute::IMMEDIATE_DATA, |inner| {
            inner.nest(attribute::DATA_VERDICT, |verdict| {
                verdict.attribute(attribute::VERDICT_CODE, &VERDICT_ACCEPT.to_be_bytes());
            });
        });
    });
}

fn redirect(m: &mut Batch, port: u16) {
    expression(m, b"immediate\0", |data| {
        data.attribute(attribute::IMMEDIATE_DESTINATION, &REGISTER_1.to_be_bytes());
        data.nest(attribute::IMMEDIATE_DATA, |inner| {
            inner.attribute(attribute::DATA_VALUE, &port.to_be_bytes());
        });
    });
    expression(m, b"redir\0", |data| {
        data.attribute(attribute::REDIRECT_PORT_FIRST, &REGISTER_1.to_be_bytes());
        data.attribute(attribute::REDIRECT_FLAGS, &PORT_SPECIFIED.to_be_bytes());
    });
}
