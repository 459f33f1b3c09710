//! `bytes_max`: what may leave by a rule in a session, however it is sent.
#![expect(
    clippy::unwrap_used,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use stockade_event::Event;
use stockade_policy::Scope;
use stockade_types::Verdict;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::lab::{Lab, PATIENCE, Server, assert_reset, read_all, supervisor::Asking, until};

/// Rules about `good.test` and `more.good.test` on a server's port, each with what it says more.
fn rules(port: u16, rules: &[(&str, &str, &str)]) -> String {
    let mut text =
        "[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\"more.good.test\" = \"127.0.0.1\"\n"
            .to_owned();
    text.extend(rules.iter().map(|(verdict, id, more)| {
        format!(
            "[[{verdict}]]\nid = \"{id}\"\nwhat = \"net\"\nhosts = [\"good.test\", \
             \"more.good.test\"]\nports = [{port}]\nprivate = true\n{more}\n"
        )
    }));
    text
}

/// Sends opaque bytes and waits until the echo of them is back.
async fn passes(client: &mut TcpStream, bytes: usize) {
    let sent = vec![0xc3; bytes];
    client.write_all(&sent).await.unwrap();
    let mut back = vec![0; bytes];
    let read = timeout(PATIENCE, client.read_exact(&mut back)).await;
    read.unwrap().unwrap();
    assert_eq!(back, sent);
}

fn arrived(server: &Server) -> usize {
    server.seen.lock().unwrap().bytes.len()
}

fn refusal(lab: &Lab) -> String {
    let denied = lab.one_denial("bytes-max");
    assert!(denied.remedy.contains("raise `bytes_max`"), "{denied:#?}");
    denied.reason
}

/// What was sent is sent; the bytes that would be too many are not, and the connection is reset.
#[tokio::test]
async fn no_byte_leaves_beyond_what_a_rule_lets_out() {
    let server = Server::echo().await;
    let policy = rules(server.port, &[("allow", "lab", "bytes_max = \"1000B\"")]);
    let lab = Lab::start(&policy).await;
    let mut client = lab.connect("good.test", server.port).await;
    passes(&mut client, 600).await;
    passes(&mut client, 400).await;
    client.write_all(&[0xc3; 1]).await.unwrap();
    assert_reset(client).await;
    assert_eq!(arrived(&server), 1000);
    let reason = refusal(&lab);
    let expected =
        "at most 1kB may leave by the rule `lab` in a session; 1kB have left, and this is 1B";
    assert_eq!(reason, expected);
    let closed = |event: &Event| {
        matches!(
            event,
            Event::ConnectionClosed {
                bytes_out: 1000,
                ..
            }
        )
    };
    until("the end of the connection", || {
        lab.supervisor.events().iter().any(closed)
    })
    .await;
}

/// Neither another connection, nor another host of the rule, nor many at once get more.
#[tokio::test]
async fn a_rule_has_one_budget_for_all_its_connections_and_hosts() {
    let server = Server::echo().await;
    let policy = rules(server.port, &[("allow", "lab", "bytes_max = \"1000B\"")]);
    let lab = Lab::start(&policy).await;
    let mut first = lab.connect("good.test", server.port).await;
    passes(&mut first, 300).await;
    let mut other = lab.connect("more.good.test", server.port).await;
    passes(&mut other, 300).await;
    let mut at_once = Vec::new();
    for number in 0..8 {
        let host = ["good.test", "more.good.test"][number % 2];
        let mut client = lab.connect(host, server.port).await;
        client.write_all(&[0xc3; 90]).await.unwrap();
        drop(client.shutdown().await);
        at_once.push(client);
    }
    let mut passed = 0;
    for mut client in at_once {
        passed += usize::from(
            read_all(&mut client)
                .await
                .is_ok_and(|back| back.len() == 90),
        );
    }
    // 400 bytes were left, and 4 × 90 of them went.
    assert_eq!((passed, arrived(&server)), (4, 960));
    assert_eq!(lab.decisions(Verdict::Deny).len(), 4);
}

/// Of several rules that match, the one with the least room decides, and one without a limit lifts
/// nothing.
#[tokio::test]
async fn the_smallest_of_the_matching_rules_holds() {
    for more in [
        vec![("allow", "wide", "bytes_max = \"1MiB\"")],
        vec![("allow", "free", "")],
        vec![
            ("allow", "free", ""),
            ("allow", "wide", "bytes_max = \"1MiB\""),
        ],
    ] {
        let server = Server::echo().await;
        let mut all = more.clone();
        all.push(("allow", "tight", "bytes_max = \"100B\""));
        let lab = Lab::start(&rules(server.port, &all)).await;
        let mut client = lab.connect("good.test", server.port).await;
        passes(&mut client, 100).await;
        client.write_all(b"\xc3").await.unwrap();
        assert_reset(client).await;
        assert_eq!(arrived(&server), 100, "{more:?}");
        assert!(refusal(&lab).contains("`tight`"), "{more:?}");
    }
}

/// A yes to a question opens a host on the terms of the rule that asked.
#[tokio::test]
async fn an_answer_lifts_no_limit() {
    let server = Server::echo().await;
    let policy = rules(server.port, &[("ask", "lab", "bytes_max = \"100B\"")]);
    let lab = Lab::start(&policy).await;
    lab.supervisor.set_asking(Asking::Grant(Scope::Session));
    let mut client = lab.connect("good.test", server.port).await;
    passes(&mut client, 100).await;
    client.write_all(b"\xc3").await.unwrap();
    assert_reset(client).await;
    assert_eq!(arrived(&server), 100);
    refusal(&lab);
}

fn post(length: usize) -> Vec<u8> {
    let head = format!("POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'a'; length]].concat()
}

/// A request that says how long it is is refused before its first byte, and told why.
#[tokio::test]
async fn a_request_that_is_too_long_is_not_begun() {
    let server = Server::http().await;
    let policy = rules(server.port, &[("allow", "lab", "bytes_max = \"1000B\"")]);
    let lab = Lab::start(&policy).await;
    let answer = lab.exchange("good.test", server.port, &post(2000)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("\"rule\":\"bytes-max\""), "{answer}");
    assert_eq!(arrived(&server), 0);
    refusal(&lab);
    // What was not sent is still there for what fits: head and body count.
    let fits = post(600);
    let mut client = lab.connect("good.test", server.port).await;
    client.write_all(&fits).await.unwrap();
    let mut start = [0; 12];
    timeout(PATIENCE, client.read_exact(&mut start))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    assert_eq!(arrived(&server), fits.len());
    // The next one on the kept connection does not.
    client.write_all(&post(400)).await.unwrap();
    let rest = read_all(&mut client).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 403 "));
    assert_eq!(arrived(&server), fits.len());
}

/// One that does not say so is cut, and the server cannot take it for a whole one.
#[tokio::test]
async fn a_request_of_unknown_length_is_cut() {
    let server = Server::start(|mut stream, seen| async move {
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all).await;
        let mut seen = seen.lock().unwrap();
        seen.bytes.extend(all);
        seen.connections += usize::from(ended.is_err());
    })
    .await;
    let policy = rules(server.port, &[("allow", "lab", "bytes_max = \"1000B\"")]);
    let lab = Lab::start(&policy).await;
    let head = "POST /x HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = lab.connect("good.test", server.port).await;
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20 {
        let chunk = [b"64\r\n".to_vec(), vec![b'a'; 100], b"\r\n".to_vec()].concat();
        if client.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let answer = read_all(&mut client).await.unwrap_or_default();
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 403 "),
        "{answer}"
    );
    // One connection, and its reset.
    until("the reset", || server.connections() == 2).await;
    let seen = server.text();
    assert!(
        seen.len() <= 1000 && !seen.ends_with("0\r\n\r\n"),
        "{}",
        seen.len()
    );
    refusal(&lab);
}
