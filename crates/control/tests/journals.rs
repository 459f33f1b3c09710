//! How journals are replicated.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    Method, Request,
    body::{Body, Frame},
    header::CONTENT_ENCODING,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stockade_api::{Problem, limits::PIECE_BYTES_MAX};
use stockade_types::SessionId;
use tokio::task::JoinSet;

use crate::common::{Client, Lab, Machine, Written, read, tls};

/// Returns the server's copy of a journal.
fn copy(lab: &Lab, machine: &Machine, session: &SessionId) -> PathBuf {
    let node = lab.server.node_dir(&machine.id);
    node.join("sessions")
        .join(session.as_str())
        .join("journal.jsonl")
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_arrives_as_it_is_in_whatever_pieces() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut own = Written::new(lab.dir.path(), 1);
    let mut sent = 0;
    for count in [1, 7, 100, 1] {
        own.write(count);
        let bytes = own.bytes();
        let new = &bytes[sent..];
        let offset = u64::try_from(sent).unwrap();
        let receipt = machine.send(&own.session, offset, new).await.unwrap();
        assert_eq!(receipt.offset, length(&bytes));
        assert_eq!(receipt.events, own.journal.seq());
        assert_eq!(receipt.node, machine.id);
        assert!(!receipt.closed);
        // The same again, and an older part: nothing changes.
        assert_eq!(
            machine
                .send(&own.session, offset, new)
                .await
                .unwrap()
                .offset,
            receipt.offset
        );
        assert_eq!(
            machine.send(&own.session, 0, &bytes).await.unwrap().chain,
            receipt.chain
        );
        sent = bytes.len();
        assert_eq!(fs::read(copy(&lab, &machine, &own.session)).unwrap(), bytes);
    }
    let before = own.bytes().len();
    let session = own.session.clone();
    let path = lab.dir.path().join("session-1/journal.jsonl");
    let end = own.journal.finish(stockade_journal::now()).unwrap();
    let bytes = fs::read(path).unwrap();
    let offset = u64::try_from(before).unwrap();
    let last = machine
        .send(&session, offset, &bytes[before..])
        .await
        .unwrap();
    assert!(last.closed);
    let rows = lab.server.state.sessions(10).await.unwrap();
    assert!(
        rows[0].stored.closed && rows[0].summary.starts_with('{'),
        "{rows:?}"
    );
    assert_eq!(last.chain, end);
    assert_eq!(fs::read(copy(&lab, &machine, &session)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_answered_with_the_place_that_is_expected() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut own = Written::new(lab.dir.path(), 1);
    own.write(3);
    let first = own.bytes();
    machine.send(&own.session, 0, &first).await.unwrap();
    own.write(3);
    let all = own.bytes();
    let behind = length(&first) + 10;
    let gap = machine
        .send(&own.session, behind, &all[first.len()..])
        .await
        .unwrap_err();
    assert_eq!((gap.status, gap.expected), (409, Some(length(&first))));
    let rest = machine
        .send(&own.session, length(&first), &all[first.len()..])
        .await;
    assert_eq!(rest.unwrap().offset, length(&all));
}

/// What is refused, and the journal that is whole; the copy stays as it was.
async fn refused(change: impl Fn(&mut Vec<u8>)) -> Problem {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut own = Written::new(lab.dir.path(), 1);
    own.write(4);
    let first = own.bytes();
    machine.send(&own.session, 0, &first).await.unwrap();
    own.write(4);
    let all = own.bytes();
    let mut rest = all[first.len()..].to_vec();
    change(&mut rest);
    let problem = machine
        .send(&own.session, length(&first), &rest)
        .await
        .unwrap_err();
    assert_eq!(fs::read(copy(&lab, &machine, &own.session)).unwrap(), first);
    if problem.status == 422 {
        // Nothing of it is taken any more, not even what is right; other sessions go on.
        let right = machine
            .send(&own.session, length(&first), &all[first.len()..])
            .await;
        assert_eq!(right.unwrap_err().status, 422);
    }
    let mut other = Written::new(lab.dir.path(), 2);
    other.write(1);
    machine
        .send(&other.session, 0, &other.bytes())
        .await
        .unwrap();
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_machine_has_not_signed_so_is_not_kept() {
    // A changed byte, a line that is gone, one that is there twice, and one of nobody.
    let changed = refused(|bytes| {
        let at = bytes
            .windows(4)
            .position(|window| window == b"xxxx")
            .unwrap();
        bytes[at] = b'y';
    });
    assert_eq!(changed.await.status, 422);
    let gone = refused(|bytes| {
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        bytes.drain(..=at);
    });
    assert_eq!(gone.await.status, 422);
    let twice = refused(|bytes| {
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let line = bytes[..=at].to_vec();
        bytes.splice(0..0, line);
    });
    assert_eq!(twice.await.status, 422);
    let strange = refused(|bytes| bytes.extend_from_slice(b"{\"hello\":1}\n"));
    assert_eq!(strange.await.status, 422);
    // Half a line can be right: it is only sent again.
    let half = refused(|bytes| {
        bytes.pop();
    });
    assert_eq!(half.await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_below_a_receipt_cannot_be_said_otherwise() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut own = Written::new(lab.dir.path(), 1);
    own.write(5);
    let bytes = own.bytes();
    machine.send(&own.session, 0, &bytes).await.unwrap();
    // Another history under the same key and number.
    fs::remove_dir_all(lab.dir.path().join("session-1")).unwrap();
    let mut again = Written::new(lab.dir.path(), 1);
    again.write(9);
    let problem = machine
        .send(&own.session, 0, &again.bytes())
        .await
        .unwrap_err();
    assert_eq!(
        (problem.status, problem.kind.as_str()),
        (422, "record-broken")
    );
    assert_eq!(fs::read(copy(&lab, &machine, &own.session)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_machine_or_key_is_not_taken() {
    let lab = Lab::new().await;
    let mut first = lab.machine(None).await;
    let mut own = Written::new(lab.dir.path(), 1);
    own.write(2);
    first.send(&own.session, 0, &own.bytes()).await.unwrap();
    // The journal of one session under the name of another.
    let named = SessionId::from_random(9);
    let problem = first.send(&named, 0, &own.bytes()).await.unwrap_err();
    assert_eq!(problem.status, 422);
    // A journal that is signed by another key than the machine has enrolled with.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut foreign = Written::new(elsewhere.path(), 3);
    foreign.write(2);
    let problem = first
        .send(&foreign.session, 0, &foreign.bytes())
        .await
        .unwrap_err();
    assert_eq!(problem.status, 422);
    // The same name on another machine is another session, and the first copy stays.
    fs::remove_file(lab.dir.path().join("journal-key")).unwrap();
    let mut second = lab.machine(None).await;
    assert_eq!(
        second
            .send(&own.session, 0, &own.bytes())
            .await
            .unwrap_err()
            .status,
        422
    );
    assert_eq!(
        fs::read(copy(&lab, &first, &own.session)).unwrap(),
        own.bytes()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_unpacks_to_too_much_is_not_unpacked() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let session = SessionId::from_random(1);
    // A thousand times its size.
    let bomb = zstd::encode_all(vec![b'\n'; 256 << 20].as_slice(), 3).unwrap();
    assert!(bomb.len() < PIECE_BYTES_MAX);
    let path = format!("/node/v1/journals/{session}?offset=0");
    let packed = || {
        Request::builder()
            .method(Method::POST)
            .header(CONTENT_ENCODING, "zstd")
    };
    let refused = machine.client.send(packed(), &path, bomb).await;
    assert_eq!(
        (refused.0, read::<Problem>(&refused).kind.as_str()),
        (413, "piece-too-long")
    );
    let plain = Request::builder().method(Method::POST);
    let long = vec![b'\n'; PIECE_BYTES_MAX + (128 << 10)];
    let refused = machine.client.send(plain, &path, long).await;
    assert!(matches!(refused.0, 413 | 0), "{}", refused.0);
    let mut machine = lab.machine(None).await;
    let garbage = machine
        .client
        .send(packed(), &path, b"not zstd".to_vec())
        .await;
    assert_eq!(garbage.0, 400);
    let strange = Request::builder()
        .method(Method::POST)
        .header(CONTENT_ENCODING, "gzip");
    assert_eq!(machine.client.send(strange, &path, Vec::new()).await.0, 415);
    let outside = machine
        .client
        .send(packed(), "/node/v1/journals/..%2F..%2Fx?offset=0", vec![])
        .await;
    assert_eq!(outside.0, 400);
}

/// A server that was killed between its write and its receipt has more than it has said, and may have half a
/// line: it goes on from the last good line.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_and_not_receipted_is_checked_again() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut own = Written::new(lab.dir.path(), 1);
    own.write(3);
    let first = own.bytes();
    machine.send(&own.session, 0, &first).await.unwrap();
    own.write(3);
    let all = own.bytes();
    let path = copy(&lab, &machine, &own.session);
    let write = |bytes: &[u8]| {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(bytes).unwrap();
    };
    // Half of a line, then garbage: both are cut. Good lines stay, and are no gap.
    let new = &all[first.len()..];
    let line = new.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for (left, expected) in [
        (&new[..line / 2], first.len()),
        (b"garbage\n".as_slice(), first.len()),
        (&new[..line + 5], first.len() + line),
    ] {
        write(left);
        let behind = machine
            .send(&own.session, 1 << 30, b"\n")
            .await
            .unwrap_err();
        assert_eq!(behind.expected, Some(u64::try_from(expected).unwrap()));
        assert_eq!(fs::read(&path).unwrap(), all[..expected]);
    }
    // Without what was noted of the check it is the same.
    fs::remove_file(path.with_file_name("check.json")).unwrap();
    let done = machine
        .send(&own.session, length(&first), new)
        .await
        .unwrap();
    assert_eq!(done.offset, length(&all));
    assert_eq!(fs::read(&path).unwrap(), all);
    // What was receipted and is gone is said, and never made up for.
    fs::write(&path, &first).unwrap();
    let problem = machine
        .send(&own.session, length(&first), new)
        .await
        .unwrap_err();
    assert_eq!(problem.status, 503);
    assert_eq!(fs::read(&path).unwrap(), first);
}

/// A body that never comes.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_pieces_do_not_come_keeps_no_other_from_its_place() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut other = lab.machine(None).await;
    let own = Some((machine.answer.certificate.as_str(), &machine.seed));
    let io = TokioIo::new(tls(&lab, own).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut hung = JoinSet::new();
    for number in 1..=8 {
        let session = SessionId::from_random(number);
        let uri = format!("https://localhost/node/v1/journals/{session}?offset=0");
        let request = Request::builder().method(Method::POST).uri(uri);
        let request = request.body(Never).unwrap();
        sender.ready().await.unwrap();
        hung.spawn(sender.send_request(request));
    }
    let mut next = async |count: usize, patience: Duration| {
        let mut statuses = Vec::new();
        while statuses.len() < count {
            let answered = tokio::time::timeout(patience, hung.join_next()).await;
            let answered = answered.unwrap().unwrap().unwrap().unwrap();
            statuses.push(answered.status().as_u16());
        }
        statuses
    };
    // Four wait for their bodies, and the others are sent away at once.
    assert_eq!(next(4, Duration::from_secs(5)).await, [429; 4]);
    // Meanwhile the machine has no place on another connection either, and others have one.
    let mut written = Written::new(lab.dir.path(), 9);
    written.write(1);
    let busy = machine.send(&written.session, 0, &written.bytes()).await;
    let busy = busy.unwrap_err();
    assert_eq!(busy.status, 429);
    assert!(
        busy.retry_ms.is_some_and(|ms| (250..10_000).contains(&ms)),
        "{busy:?}"
    );
    other
        .send(&written.session, 0, &written.bytes())
        .await
        .unwrap();
    assert_eq!(next(4, Duration::from_secs(20)).await, [408; 4]);
    // The places are free again.
    let mut written = Written::new(lab.dir.path(), 10);
    written.write(1);
    machine
        .send(&written.session, 0, &written.bytes())
        .await
        .unwrap();
}

/// A machine that breaks off and connects again sends a piece again, and by then more of it, while the server
/// is still at work on the first one.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_breaks_off_gets_no_receipt_for_other_bytes() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut own = Written::new(lab.dir.path(), 1);
    let (mut held, mut broken_off) = (0, 0);
    for round in 0..60_u64 {
        own.write(20);
        let bytes = own.bytes();
        let patience = Duration::from_micros(200 + round * 97 % 4_000);
        let (session, offset) = (own.session.clone(), u64::try_from(held).unwrap());
        let sent = machine.send(&session, offset, &bytes[held..]);
        match tokio::time::timeout(patience, sent).await {
            Ok(Ok(receipt)) => held = usize::try_from(receipt.offset).unwrap(),
            // The pieces that were broken off still have its places.
            Ok(Err(problem)) => assert_eq!(problem.kind, "busy", "{problem:?}"),
            Err(_) => {
                broken_off += 1;
                let own = Some((machine.answer.certificate.as_str(), &machine.seed));
                machine.client = Client::connect(&lab, own).await.unwrap();
            }
        }
        let receipted = lab.server.state.sessions(1).await.unwrap();
        let receipted = receipted.first().map_or(0, |row| row.stored.offset);
        let receipted = usize::try_from(receipted).unwrap();
        let there = fs::read(copy(&lab, &machine, &session)).unwrap_or_default();
        assert_eq!(
            there[..receipted],
            own.bytes()[..receipted],
            "round {round}"
        );
    }
    assert!(broken_off > 5, "{broken_off}");
    let bytes = own.bytes();
    let offset = u64::try_from(held).unwrap();
    let begun = Instant::now();
    let last = loop {
        match machine.send(&own.session, offset, &bytes[held..]).await {
            Err(problem) if problem.kind == "busy" && begun.elapsed().as_secs() < 20 => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            last => break last.unwrap(),
        }
    };
    assert_eq!(last.offset, length(&bytes));
    assert_eq!(fs::read(copy(&lab, &machine, &own.session)).unwrap(), bytes);
}
