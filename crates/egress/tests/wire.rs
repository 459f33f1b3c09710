//! The control connection as the supervisor sees it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use std::{io::Write, os::unix::net::UnixStream};

use proptest::prelude::*;
use stockade_egress::wire::{Decided, FromSupervisor, Protocol, ToSupervisor, WireError, server};
use stockade_event::{Durability, Event};
use stockade_fuzz::{TRIES, Target};
use stockade_policy::{Control, HttpRequest, HttpShown, Request};
use stockade_types::{ApprovalId, Port, RawText, Subject};

fn framed(json: &[u8]) -> Vec<u8> {
    [&u32::try_from(json.len()).unwrap().to_be_bytes(), json].concat()
}

#[test]
fn requests_come_in_order_and_the_end_is_seen() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (mut requests, replies) = server(ours).unwrap();
    let json = br#"{"ask":"attribute","id":7,"protocol":"tcp","source":"10.0.0.1:5",
        "destination":"198.18.0.1:443"}"#;
    theirs.write_all(&framed(json)).unwrap();
    let Some(ToSupervisor::Attribute { id: 7, source, .. }) = requests.next().unwrap() else {
        panic!("another request");
    };
    assert_eq!(source.to_string(), "10.0.0.1:5");
    replies
        .send(&FromSupervisor::Subject {
            id: 7,
            subject: Subject::default(),
        })
        .unwrap();
    drop(theirs);
    assert!(requests.next().unwrap().is_none());
    let approval = ApprovalId::from_random(1);
    assert!(replies.send(&FromSupervisor::Revoke { approval }).is_err());
}

#[test]
fn frames_that_are_too_long_or_no_messages_are_errors() {
    let next = |bytes: &[u8]| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut requests, _replies) = server(ours).unwrap();
        theirs.write_all(bytes).unwrap();
        drop(theirs);
        requests.next().map(|_| ())
    };
    assert!(matches!(next(&[0xff; 8]), Err(WireError::TooLong(_))));
    assert!(matches!(next(&framed(b"{}")), Err(WireError::Json(_))));
    assert!(matches!(
        next(&framed(b"{\"ask\":\"leave\",\"id\":1}")),
        Err(WireError::Json(_))
    ));
    assert!(matches!(next(&[0, 0, 0, 9, b'{']), Err(WireError::Io(_))));
    assert!(next(&[]).is_ok());
}

/// One request of each kind, as the egress process sends it.
fn samples() -> Vec<ToSupervisor> {
    let request = Request::Http(HttpRequest {
        host: "good.test".parse().unwrap(),
        port: Port::new(80).unwrap(),
        method: "GET".to_owned(),
        path: RawText::from("/x?y=\u{e4}"),
        meaning: Vec::new(),
        shown: Some(Box::new(HttpShown {
            path: RawText::from("/x?token=[github-token:00000000]"),
            meaning: Vec::new(),
        })),
        subject: Subject::default(),
    });
    let decision = Control::NotHttp.denies("because", "do that");
    vec![
        ToSupervisor::Attribute {
            id: 7,
            protocol: Protocol::Tcp,
            source: "10.0.0.1:5".parse().unwrap(),
            destination: "198.18.0.1:443".parse().unwrap(),
        },
        ToSupervisor::Decided {
            lease: 0,
            id: 8,
            decided: Box::new(Decided {
                request: request.clone(),
                decision: decision.clone(),
                shown: Some("\\xff.test".to_owned()),
                address: None,
                sni: None,
                detail: Some("opaque".to_owned()),
                approvals: vec![ApprovalId::from_random(3)],
            }),
        },
        ToSupervisor::Record {
            id: 9,
            event: Event::EventsLost {
                source: "names".to_owned(),
                count: 100,
                reason: "too many".to_owned(),
            },
            durability: Durability::Written,
        },
        ToSupervisor::Ask {
            id: 10,
            request,
            decision,
        },
    ]
}

/// Reads all of `bytes` as the supervisor does; the error is the one that ended it.
fn read(bytes: Vec<u8>) -> (Vec<ToSupervisor>, Option<WireError>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (mut requests, _replies) = server(ours).unwrap();
    // A thread, since a frame may be longer than what the socket holds.
    let writing = std::thread::spawn(move || drop(theirs.write_all(&bytes)));
    let mut read = Vec::new();
    let end = loop {
        match requests.next() {
            Ok(Some(request)) => read.push(request),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(requests);
    writing.join().unwrap();
    (read, end)
}

#[test]
fn every_kind_of_request_is_read_as_it_was_written() {
    let samples = samples();
    let bytes = samples
        .iter()
        .map(|one| framed(&serde_json::to_vec(one).unwrap()));
    let (found, end) = read(bytes.flatten().collect());
    assert_eq!(found, samples);
    assert!(end.is_none(), "{end:?}");
}

/// What a hostile egress process could make of a message: some bytes are changed, taken out, put in
/// or said twice.
fn changed(json: &[u8], at: usize, take: usize, put: &[u8]) -> Vec<u8> {
    let start = at % (json.len() + 1);
    let end = (start + take).min(json.len());
    [&json[..start], put, &json[end..]].concat()
}

proptest! {
    #[test]
    fn a_frame_is_one_message_or_the_end(
        which in 0_usize..4,
        at in any::<usize>(),
        take in 0_usize..12,
        put in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            prop::sample::select(vec![
                "null", "-1", "{}", "[]", "\"id\":1,", "1e999", "\\ud800", "[[[[[[",
            ]).prop_map(|text| text.as_bytes().to_vec()),
        ],
    ) {
        let samples = samples();
        let json = serde_json::to_vec(&samples[which]).unwrap();
        let hostile = changed(&json, at, take, &put);
        let next = &samples[(which + 1) % samples.len()];
        let bytes = [framed(&hostile), framed(&serde_json::to_vec(next).unwrap())].concat();
        let (found, end) = read(bytes);
        // Either it is a message, and so is what follows it, or nothing is read after it.
        match end {
            None => {
                prop_assert_eq!(found.len(), 2);
                prop_assert_eq!(&found[1], next);
                let again = serde_json::to_vec(&found[0]).unwrap();
                prop_assert_eq!(&read(framed(&again)).0, &found[..1]);
            }
            Some(error) => {
                prop_assert!(matches!(error, WireError::Json(_)), "{error:?}");
                prop_assert!(found.is_empty(), "{found:?}");
            }
        }
    }

    #[test]
    fn no_bytes_break_the_reader(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
        rest in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        bytes.extend(&rest);
        let (found, end) = read(bytes);
        // No random bytes are a message, so the first frame ends it.
        prop_assert!(found.is_empty());
        if frames.is_empty() {
            // Less than a length in front is the end; more is a frame that is cut or too long.
            prop_assert_eq!(end.is_some(), rest.len() >= 4 , "{:?}", end);
        } else {
            prop_assert!(matches!(end, Some(WireError::Json(_))), "{end:?}");
        }
    }
}

#[test]
fn fuzz_wire() {
    let frames: Vec<Vec<u8>> = samples()
        .iter()
        .map(|one| framed(&serde_json::to_vec(one).unwrap()))
        .collect();
    let mut target = Target {
        name: "wire",
        samples: vec![frames.concat()],
        words: &[
            b"\"id\":1,",
            b"null",
            b"\\ud800",
            b"1e999",
            b"[[[[",
            b"{\"ask\":",
            &[0, 0, 0, 2],
            b"{}",
        ],
        tries: TRIES,
    };
    target.samples.extend(frames);
    stockade_fuzz::target(&target, |bytes| {
        let (found, _) = read(bytes.to_vec());
        for request in found {
            let (again, end) = read(framed(&serde_json::to_vec(&request).unwrap()));
            assert!(again == [request] && end.is_none(), "{again:?} {end:?}");
        }
    });
}
