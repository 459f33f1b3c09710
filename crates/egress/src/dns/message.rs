//! DNS messages: reading a query strictly, writing its answer.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
};
use stockade_types::{HostName, RawText};

use crate::{
    limits::{DNS_PAYLOAD_BYTES, DNS_PLAIN_BYTES, DNS_TTL_SECONDS, RECORDS_BYTES_MAX},
    wire::Protocol,
};

/// A query that can be answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The name, or the bytes that are not one, escaped.
    pub(crate) name: Result<HostName, String>,
    /// The type of record.
    pub(crate) kind: RecordType,
    query: Query,
    id: u16,
    recursion: bool,
    edns: bool,
}

/// What a client sent.
#[derive(Clone, Debug)]
pub(crate) enum Received {
    /// A query.
    Query(Box<Asked>),
    /// Something that is answered with an error at once.
    Error(Vec<u8>),
    /// Something that is not answered, since answers to answers would never end.
    Nothing,
}

/// Reads a query.
pub(crate) fn read(bytes: &[u8]) -> Received {
    let Some(&[high, low, flags, _]) = bytes.first_chunk::<4>() else {
        return Received::Nothing;
    };
    if flags & 0x80 != 0 || bytes.len() < 12 {
        return Received::Nothing;
    }
    let id = u16::from_be_bytes([high, low]);
    let error = |op, code| {
        Message::error_msg(id, op, code)
            .to_vec()
            .map_or(Received::Nothing, Received::Error)
    };
    let Ok(message) = Message::from_vec(bytes) else {
        return error(OpCode::Query, ResponseCode::FormErr);
    };
    if message.metadata.op_code != OpCode::Query {
        return error(message.metadata.op_code, ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else {
        return error(OpCode::Query, ResponseCode::FormErr);
    };
    if query.query_class() != DNSClass::IN {
        return error(OpCode::Query, ResponseCode::Refused);
    }
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return error(OpCode::Query, ResponseCode::Refused);
    }
    Received::Query(Box::new(Asked {
        name: host_name(query.name()),
        kind: query.query_type(),
        query: query.clone(),
        id,
        recursion: message.metadata.recursion_desired,
        edns: message.edns.is_some(),
    }))
}

/// Reads a name of the wire as a canonical host name; otherwise returns it escaped.
pub(crate) fn host_name(name: &Name) -> Result<HostName, String> {
    let bytes = name.iter().collect::<Vec<_>>().join(&b'.');
    let plain = name
        .iter()
        .flatten()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let parsed = std::str::from_utf8(&bytes)
        .ok()
        .filter(|_| plain)
        .and_then(|t| t.parse().ok());
    parsed.ok_or_else(|| RawText::from_bytes(bytes).display())
}

/// What a query is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The name stands for these addresses.
    Addresses(Ipv4Addr, Ipv6Addr),
    /// The name has these records of the type that was asked for.
    Records(Vec<RData>),
    /// The name does not exist.
    Absent,
    /// It could not be decided; to be asked again later.
    Failed,
}

/// Writes the answer to a query; one that is too long for `protocol` asks for the other, or failed.
pub(crate) fn answer(asked: &Asked, reply: Reply, protocol: Protocol) -> Option<Vec<u8>> {
    let bytes = write(asked, reply)?;
    let bytes_max = match protocol {
        Protocol::Udp if asked.edns => usize::from(DNS_PAYLOAD_BYTES),
        Protocol::Udp => DNS_PLAIN_BYTES,
        Protocol::Tcp => RECORDS_BYTES_MAX,
    };
    if bytes.len() <= bytes_max {
        return Some(bytes);
    }
    let mut short = write(asked, Reply::Failed)?;
    if protocol == Protocol::Udp && bytes.len() <= RECORDS_BYTES_MAX {
        // The bit that asks for TCP, and no error (RFC 1035 section 4.1.1).
        let [_, _, flags, code, ..] = short.as_mut_slice() else {
            return None;
        };
        *flags |= 0x02;
        *code &= 0xF0;
    }
    Some(short)
}

fn write(asked: &Asked, reply: Reply) -> Option<Vec<u8>> {
    let mut message = Message::new(asked.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = asked.recursion;
    message.metadata.recursion_available = true;
    message.metadata.response_code = match reply {
        Reply::Addresses(..) | Reply::Records(_) => ResponseCode::NoError,
        Reply::Absent => ResponseCode::NXDomain,
        Reply::Failed => ResponseCode::ServFail,
    };
    message.add_query(asked.query.clone());
    if asked.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DNS_PAYLOAD_BYTES);
        message.set_edns(edns);
    }
    let data = match (reply, asked.kind) {
        (Reply::Addresses(v4, _), RecordType::A) => vec![RData::A(v4.into())],
        (Reply::Addresses(_, v6), RecordType::AAAA) => vec![RData::AAAA(v6.into())],
        // HTTPS, SVCB and all others carry what we do not want known or used.
        (Reply::Addresses(..) | Reply::Absent | Reply::Failed, _) => Vec::new(),
        (Reply::Records(records), _) => records,
    };
    let owner = asked.query.name();
    message.answers.extend(
        data.into_iter()
            .map(|data| Record::from_rdata(owner.clone(), DNS_TTL_SECONDS, data)),
    );
    message.to_vec().ok()
}

/// What a name server of the host answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The records of the type that was asked for at the end of the chain of aliases; may be empty.
    Records(Vec<RData>),
    /// The name does not exist.
    Absent,
    /// The answer did not fit; it must be fetched over TCP.
    Truncated,
    /// The server cannot say.
    Unable,
}

/// Writes a query of our own.
pub(crate) fn ask(id: u16, name: &Name, kind: RecordType) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(DNS_PAYLOAD_BYTES);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// Reads the answer to a query of ours; `None` if it is the answer to something else.
pub(crate) fn read_answer(
    bytes: &[u8],
    id: u16,
    name: &Name,
    kind: RecordType,
    aliases_max: usize,
) -> Option<Answer> {
    let message = Message::from_vec(bytes).ok()?;
    let metadata = &message.metadata;
    let ours = metadata.id == id
        && metadata.message_type == MessageType::Response
        && metadata.op_code == OpCode::Query;
    if !ours {
        return None;
    }
    match (message.queries.as_slice(), metadata.response_code) {
        ([query], _)
            if query.name().eq_ignore_root(name)
                && query.query_type() == kind
                && query.query_class() == DNSClass::IN => {}
        // Some servers leave the question out of their refusals.
        ([], code) if code != ResponseCode::NoError && code != ResponseCode::NXDomain => {}
        _ => return None,
    }
    Some(match metadata.response_code {
        _ if metadata.truncation => Answer::Truncated,
        ResponseCode::NoError => {
            Answer::Records(follow(&message.answers, (name, kind), aliases_max))
        }
        ResponseCode::NXDomain => Answer::Absent,
        _ => Answer::Unable,
    })
}

/// Follows aliases from `name` and collects the records of the last one.
fn follow(answers: &[Record], (name, kind): (&Name, RecordType), aliases_max: usize) -> Vec<RData> {
    let mut owner = name.clone();
    for _ in 0..=aliases_max {
        let here = || {
            answers
                .iter()
                .filter(|r| r.dns_class == DNSClass::IN && r.name.eq_ignore_root(&owner))
        };
        let wanted = here().filter(|record| record.record_type() == kind);
        let records: Vec<RData> = wanted.map(|record| record.data.clone()).collect();
        if !records.is_empty() {
            return records;
        }
        let next = here().find_map(|record| match &record.data {
            RData::CNAME(alias) => Some(alias.0.clone()),
            _ => None,
        });
        match next {
            Some(alias) => owner = alias,
            None => return Vec::new(),
        }
    }
    Vec::new()
}
