//! The control connection as the supervisor sees it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use std::{io::Write, os::unix::net::UnixStream};

use proptest::prelude::*;
use stockade_egress::wire::{FromSupervisor, ToSupervisor, WireError, server};
use stockade_types::{ApprovalId, Subject};

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

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut requests, _replies) = server(ours).unwrap();
        theirs.write_all(&bytes).unwrap();
        drop(theirs);
        while let Ok(Some(_)) = requests.next() {}
    }
}
