//! DNS messages on the wire, and the streams that carry them.

use std::{io, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};
use proptest::prelude::*;
use stockade_fuzz::{TRIES, Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    message::{Answer, Asked, Received, Reply, answer, ask, read, read_answer},
    server::answer_stream,
};
use crate::wire::Protocol;

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    ask(7, &Name::from_ascii(name).unwrap(), kind).unwrap()
}

fn asked(bytes: &[u8]) -> Asked {
    match read(bytes) {
        Received::Query(asked) => *asked,
        other => panic!("{other:?}"),
    }
}

fn reply_to(name: &str, kind: RecordType, reply: Reply) -> Message {
    let bytes = answer(&asked(&query(name, kind)), reply, Protocol::Udp).unwrap();
    Message::from_vec(&bytes).unwrap()
}

const ADDRESSES: Reply = Reply::Addresses(
    std::net::Ipv4Addr::new(198, 18, 0, 1),
    std::net::Ipv6Addr::LOCALHOST,
);

#[test]
fn only_address_records_are_answered() {
    for (kind, expected) in [
        (RecordType::A, Some("198.18.0.1")),
        (RecordType::AAAA, Some("::1")),
        (RecordType::HTTPS, None),
        (RecordType::SVCB, None),
        (RecordType::TXT, None),
        (RecordType::MX, None),
        (RecordType::NULL, None),
        (RecordType::ANY, None),
    ] {
        let message = reply_to("good.test.", kind, ADDRESSES);
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert_eq!(message.metadata.id, 7);
        let found: Vec<String> = message
            .answers
            .iter()
            .filter_map(|r| r.data.ip_addr())
            .map(|a| a.to_string())
            .collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{kind}");
        assert!(message.edns.is_some());
    }
    let absent = reply_to("evil.test.", RecordType::A, Reply::Absent);
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    assert!(absent.answers.is_empty());
}

#[test]
fn names_are_canonical_or_shown_escaped() {
    assert_eq!(
        asked(&query("GOOD.Test.", RecordType::A)).name,
        Ok("good.test".parse().unwrap())
    );
    let odd = Name::from_labels([&b"a.b\xff\n"[..], b"evil", b"test"]).unwrap();
    let bytes = ask(7, &odd, RecordType::A).unwrap();
    assert_eq!(
        asked(&bytes).name,
        Err("a.b\\xff\\u{a}.evil.test".to_owned())
    );
    let dotted = Name::from_labels([&b"good.test"[..]]).unwrap();
    let bytes = ask(7, &dotted, RecordType::A).unwrap();
    assert!(
        asked(&bytes).name.is_err(),
        "a dot inside a label is not a separator"
    );
}

#[test]
fn what_is_not_a_query_is_not_answered_as_one() {
    let mut response = query("good.test.", RecordType::A);
    response[2] |= 0x80;
    assert!(matches!(read(&response), Received::Nothing));
    assert!(matches!(read(b"\0\x07\0"), Received::Nothing));
    let code = |bytes: &[u8]| match read(bytes) {
        Received::Error(reply) => Message::from_vec(&reply).unwrap().metadata.response_code,
        other => panic!("{other:?}"),
    };
    let mut cut = query("good.test.", RecordType::A);
    cut.truncate(20);
    assert_eq!(code(&cut), ResponseCode::FormErr);
    let mut update = Message::new(7, MessageType::Query, OpCode::Update);
    update.add_query(Query::query(
        Name::from_ascii("good.test.").unwrap(),
        RecordType::A,
    ));
    assert_eq!(code(&update.to_vec().unwrap()), ResponseCode::NotImp);
    let none = Message::new(7, MessageType::Query, OpCode::Query);
    assert_eq!(code(&none.to_vec().unwrap()), ResponseCode::FormErr);
    assert_eq!(
        code(&query("good.test.", RecordType::AXFR)),
        ResponseCode::Refused
    );
}

fn answered(records: Vec<Record>, change: impl FnOnce(&mut Message)) -> Option<Answer> {
    let name = Name::from_ascii("good.test.").unwrap();
    let mut message = Message::new(9, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name.clone(), RecordType::A));
    message.answers = records;
    change(&mut message);
    read_answer(&message.to_vec().unwrap(), 9, &name, RecordType::A, 12)
}

fn a(owner: &str, address: [u8; 4]) -> Record {
    let data = RData::A(std::net::Ipv4Addr::from(address).into());
    Record::from_rdata(Name::from_ascii(owner).unwrap(), 1, data)
}

fn alias(owner: &str, to: &str) -> Record {
    let data = RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
    Record::from_rdata(Name::from_ascii(owner).unwrap(), 1, data)
}

#[test]
fn answers_are_taken_only_for_our_question() {
    let good = || vec![a("good.test.", [192, 0, 2, 7])];
    let addresses = Some(Answer::Records(vec![RData::A(
        std::net::Ipv4Addr::new(192, 0, 2, 7).into(),
    )]));
    assert_eq!(answered(good(), |_| {}), addresses);
    assert_eq!(answered(good(), |m| m.metadata.id = 8), None);
    assert_eq!(
        answered(good(), |m| m.metadata.message_type = MessageType::Query),
        None
    );
    assert_eq!(answered(good(), |m| m.queries.clear()), None);
    let other = || Query::query(Name::from_ascii("evil.test.").unwrap(), RecordType::A);
    assert_eq!(answered(good(), |m| m.queries = vec![other()]), None);
    assert_eq!(
        answered(good(), |m| m.metadata.truncation = true),
        Some(Answer::Truncated)
    );
    let refused = |m: &mut Message| m.metadata.response_code = ResponseCode::ServFail;
    assert_eq!(answered(good(), refused), Some(Answer::Unable));
    // Records of other owners are not part of the answer.
    let foreign = vec![a("evil.test.", [192, 0, 2, 9])];
    assert_eq!(answered(foreign, |_| {}), Some(Answer::Records(vec![])));
}

#[test]
fn aliases_are_followed_and_end() {
    let chain = vec![
        a("c.test.", [192, 0, 2, 7]),
        alias("b.test.", "c.test."),
        alias("good.test.", "B.test."),
    ];
    let addresses = Answer::Records(vec![RData::A(std::net::Ipv4Addr::new(192, 0, 2, 7).into())]);
    assert_eq!(answered(chain, |_| {}), Some(addresses));
    let circle = vec![
        alias("good.test.", "b.test."),
        alias("b.test.", "good.test."),
    ];
    assert_eq!(answered(circle, |_| {}), Some(Answer::Records(vec![])));
    let long: Vec<Record> = (0..40)
        .map(|i| {
            let owner = if i == 0 {
                "good.test.".to_owned()
            } else {
                format!("n{i}.test.")
            };
            alias(&owner, &format!("n{}.test.", i + 1))
        })
        .chain([a("n40.test.", [192, 0, 2, 7])])
        .collect();
    assert_eq!(answered(long, |_| {}), Some(Answer::Records(vec![])));
}

/// There are few places for streams, so nobody keeps one: not by silence, not by half a query, and
/// not by not reading. Each connection ends by itself, after the time that is set here.
#[tokio::test]
async fn a_stream_that_is_left_alone_ends() {
    let idle = Duration::from_millis(50);
    let length = 1000_u16.to_be_bytes();
    // Answers of this size fill every buffer between two sockets.
    let many = [&length[..], &[0; 1000]].concat().repeat(20_000);
    for (sent, expected) in [
        (&b""[..], None),
        (&length[..1], None),
        (&length[..], Some(io::ErrorKind::TimedOut)),
        (&many, Some(io::ErrorKind::TimedOut)),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let answer = |_| std::future::ready(Some(vec![0; 60_000]));
        let serving = tokio::spawn(answer_stream(served, idle, answer));
        // Cut short where the other side has ended; the client itself is kept, and reads nothing.
        drop(client.write_all(sent).await);
        let ended = serving.await.unwrap().map_err(|error| error.kind());
        assert_eq!(ended.err(), expected, "{} bytes", sent.len());
    }
}

#[tokio::test]
async fn a_stream_that_is_read_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (served, _) = listener.accept().await.unwrap();
    let answer = |query: Vec<u8>| std::future::ready(Some(query));
    let serving = tokio::spawn(answer_stream(served, Duration::from_mins(1), answer));
    for _ in 0..100 {
        client.write_all(&[0, 2, 7, 9]).await.unwrap();
        let mut back = [0; 4];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(back, [0, 2, 7, 9]);
    }
    drop(client);
    assert!(serving.await.unwrap().is_ok());
}

proptest! {
    #[test]
    fn no_bytes_break_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let name = Name::from_ascii("good.test.").unwrap();
        let _received = read(&bytes);
        let _answer = read_answer(&bytes, 9, &name, RecordType::A, 12);
    }

    #[test]
    fn changed_queries_are_answered_or_refused_with_their_own_id(
        at in 2usize..40, value in any::<u8>(),
    ) {
        let mut bytes = query("www.good.test.", RecordType::A);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let reply = match read(&bytes) {
            Received::Query(asked) => answer(&asked, Reply::Absent, Protocol::Udp),
            Received::Error(reply) => Some(reply),
            Received::Nothing => None,
        };
        if let Some(reply) = reply {
            prop_assert_eq!(&reply[..2], &[0, 7]);
        }
    }
}

#[test]
fn fuzz_dns_query() {
    let target = Target {
        name: "dns-query",
        samples: vec![
            query("www.good.test.", RecordType::A),
            query("good.test.", RecordType::HTTPS),
            query(".", RecordType::ANY),
        ],
        words: &[
            b"\x04good",
            b"\x04test\0",
            &[0xc0, 12],
            &[0, 1, 0, 1],
            &[0, 41, 16, 0],
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        let reply = match read(bytes) {
            Received::Query(asked) => answer(&asked, ADDRESSES, Protocol::Udp),
            Received::Error(reply) => Some(reply),
            Received::Nothing => None,
        };
        if let Some(reply) = reply {
            assert_eq!(
                reply.get(..2),
                bytes.get(..2),
                "the id is the one that was asked with"
            );
            let message = Message::from_vec(&reply).unwrap();
            assert_eq!(message.metadata.message_type, MessageType::Response);
            assert!(reply.len() <= 512, "{} bytes", reply.len());
        }
    });
}

#[test]
fn fuzz_dns_answer() {
    let name = Name::from_ascii("www.good.test.").unwrap();
    let mut samples = Vec::new();
    for reply in [ADDRESSES, Reply::Absent] {
        let asked = asked(&query("www.good.test.", RecordType::A));
        samples.push(answer(&asked, reply, Protocol::Tcp).unwrap());
    }
    let mut alias = Message::from_vec(&samples[0]).unwrap();
    let target_name = Name::from_ascii("good.test.").unwrap();
    alias.answers.insert(
        0,
        Record::from_rdata(name.clone(), 60, RData::CNAME(CNAME(target_name))),
    );
    samples.push(alias.to_vec().unwrap());
    let target = Target {
        name: "dns-answer",
        samples,
        words: &[
            &[0xc0, 12],
            &[0xc0, 16],
            &[0, 5, 0, 1],
            &[0, 1, 0, 1, 0, 0, 0, 9, 0, 4],
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        let ours = read_answer(bytes, 7, &name, RecordType::A, 12);
        assert!(
            read_answer(bytes, 8, &name, RecordType::A, 12).is_none() || bytes.starts_with(&[0, 8])
        );
        assert!(ours.is_none() || bytes.starts_with(&[0, 7]));
    });
}
