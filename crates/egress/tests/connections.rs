//! Connections that are not HTTP: TLS by its greeting, everything else as opaque bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use std::io::ErrorKind;

use crate::lab::{Lab, PATIENCE, Server, allow, assert_reset, read_all, until};
use stockade_event::Event;
use stockade_types::{Subject, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A fatal `access_denied` alert record (RFC 8446 section 6).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A client hello with a server name, cut into records of `record` bytes.
fn client_hello(name: Option<&str>, record: usize, ech: bool) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let entry = [vec![0], vector16(name.as_bytes())].concat();
        extensions.extend([vec![0, 0], vector16(&vector16(&entry))].concat());
    }
    if ech {
        extensions.extend([0xfe, 0x0d, 0, 2, 1, 2]);
    }
    let fixed = [
        vec![3, 3],
        vec![9; 32],
        vec![0],
        vector16(&[0x13, 1]),
        vec![1, 0],
    ]
    .concat();
    let body = [fixed, vector16(&extensions)].concat();
    let message = [vec![1, 0], vector16(&body)].concat();
    message
        .chunks(record)
        .flat_map(|part| [vec![22, 3, 1], vector16(part)].concat())
        .collect()
}

async fn echo_of(lab: &Lab, port: u16, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut client = lab.connect("good.test", port).await;
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    read_all(&mut client).await
}

fn connection_details(lab: &Lab) -> Vec<(Option<String>, Option<String>)> {
    let events = lab.supervisor.events();
    let details = events.into_iter().filter_map(|event| match event {
        Event::ConnectionDecided { sni, detail, .. } => Some((sni, detail)),
        _ => None,
    });
    details.collect()
}

#[tokio::test]
async fn tls_passes_where_its_name_is_the_connections_name() {
    let echo = Server::echo().await;
    for (record, ech) in [(4000, false), (7, false), (4000, true)] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let hello = client_hello(Some("GOOD.test"), record, ech);
        assert_eq!(echo_of(&lab, echo.port, &hello).await.unwrap(), hello);
        let details = connection_details(&lab);
        let [(sni, detail)] = details.as_slice() else {
            panic!("{details:?}")
        };
        assert_eq!(sni.as_deref(), Some("GOOD.test"));
        assert_eq!(detail.as_ref().unwrap().contains("encrypted inner"), ech);
    }
}

#[tokio::test]
async fn tls_with_another_name_is_refused_with_an_alert() {
    let echo = Server::echo().await;
    for (name, rule) in [
        (Some("evil.test"), "name-mismatch"),
        (Some("good.test\0.evil.test"), "name-mismatch"),
        (Some("good.test.evil.test"), "name-mismatch"),
        (Some("127.0.0.1"), "name-mismatch"),
        (None, "no-server-name"),
    ] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let answer = echo_of(&lab, echo.port, &client_hello(name, 4000, false))
            .await
            .unwrap();
        assert_eq!(answer, ALERT, "{name:?}");
        lab.one_denial(rule);
    }
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    let broken = [22, 3, 1, 0, 5, 2, 0, 0, 1, 0];
    assert_eq!(echo_of(&lab, echo.port, &broken).await.unwrap(), ALERT);
    lab.one_denial("tls-malformed");
    assert_eq!(echo.connections(), 0);
}

#[tokio::test]
async fn a_denied_host_gets_an_alert_or_a_reset() {
    let echo = Server::echo().await;
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    let hello = client_hello(Some("good.test"), 4000, false);
    assert_eq!(
        echo_of(&lab, 9, &hello).await.unwrap(),
        ALERT,
        "a port that no rule names"
    );
    assert_eq!(lab.decisions(Verdict::Deny).len(), 1);
    let error = echo_of(&lab, 9, b"\x01\x02").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_reset(lab.connect("good.test", 9).await).await;
    assert_eq!(lab.decisions(Verdict::Deny).len(), 3);
    assert_eq!(
        echo_of(&lab, echo.port, b"\x01\x02").await.unwrap(),
        b"\x01\x02"
    );
}

#[tokio::test]
async fn tls_to_an_address_takes_no_name() {
    let echo = Server::echo().await;
    // Refused before anything is dialled, so nothing leaves this machine.
    let policy = format!(
        "[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"10.255.255.1\"]\n\
         ports = [{}]\nprivate = true\nreason = \"the laboratory\"\n",
        echo.port
    );
    let lab = Lab::start(&policy).await;
    let mut client = lab
        .connect_address("10.255.255.1".parse().unwrap(), echo.port)
        .await;
    client
        .write_all(&client_hello(Some("good.test"), 4000, false))
        .await
        .unwrap();
    assert_eq!(read_all(&mut client).await.unwrap(), ALERT);
    lab.one_denial("name-mismatch");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_and_half_closes_pass() {
    let server = Server::start(|mut stream: TcpStream, seen| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        seen.lock().unwrap().bytes.extend_from_slice(&said);
        // The client has closed its half; ours is still open.
        stream.write_all(b"221 bye\r\n").await.unwrap();
    })
    .await;
    let lab = Lab::start(&allow("good.test", server.port)).await;
    let mut client = lab.connect("good.test", server.port).await;
    let mut banner = [0; 11];
    timeout(PATIENCE, client.read_exact(&mut banner))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&banner, b"220 ready\r\n");
    client.write_all(b"QUIT\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.unwrap(), b"221 bye\r\n");
    assert_eq!(server.text(), "QUIT\r\n");
    let details = connection_details(&lab);
    assert!(
        details[0].1.as_ref().unwrap().starts_with("opaque"),
        "{details:?}"
    );
    let closed = |event: &Event| {
        matches!(
            event,
            Event::ConnectionClosed {
                bytes_out: 6,
                bytes_in: 20,
                ..
            }
        )
    };
    until("the closing event", || {
        lab.supervisor.events().iter().any(closed)
    })
    .await;
}

/// A client that waits before it greets does not escape the checks of its greeting.
#[tokio::test]
async fn late_greetings_are_checked_too() {
    let echo = Server::echo().await;
    let pause = std::time::Duration::from_millis(500);
    let greetings = [
        client_hello(Some("evil.test"), 4000, false),
        b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_vec(),
    ];
    for greeting in greetings {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let mut client = lab.connect("good.test", echo.port).await;
        tokio::time::sleep(pause).await;
        client.write_all(&greeting).await.unwrap();
        let answer = read_all(&mut client).await.unwrap();
        assert!(
            answer == ALERT || answer.starts_with(b"HTTP/1.1 421"),
            "{answer:?}"
        );
        lab.one_denial("name-mismatch");
    }
    assert_eq!(echo.text(), "");
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    let mut client = lab.connect("good.test", echo.port).await;
    tokio::time::sleep(pause).await;
    let hello = client_hello(Some("good.test"), 4000, false);
    client.write_all(&hello).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.unwrap(), hello);
}

/// Greetings without the end of a line reach the server, whose answer is what the client waits for.
#[tokio::test]
async fn greetings_without_a_line_end_pass() {
    let echo = Server::echo().await;
    for greeting in [
        &b"JDWP-Handshake"[..],
        b"\r",
        b"<?xml version='1.0'?><stream:stream to='good.test'>",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"hello\"}",
        b"[1,2]",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\x00\x80\x00",
    ] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let mut client = lab.connect("good.test", echo.port).await;
        client.write_all(greeting).await.unwrap();
        let mut back = vec![0; greeting.len()];
        let read = timeout(PATIENCE, client.read_exact(&mut back));
        read.await.expect("an answer").unwrap();
        assert_eq!(back, greeting);
        // What follows passes as well, without any further wait.
        client.write_all(b"\x00\x01 more").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await.unwrap(), b"\x00\x01 more");
        assert!(lab.decisions(Verdict::Deny).is_empty());
    }
}

/// A request line that is cut so that its start passes as something else never gets to its end.
#[tokio::test]
async fn request_lines_in_pieces_do_not_pass_as_opaque() {
    let echo = Server::echo().await;
    for (start, rest) in [
        (&b"PROPFIND"[..], &b" /x HTTP/1.1"[..]),
        (b"PROPFIND /x HTT", b"P/1.1"),
        (b"<GET /x HTTP/", b"1.1"),
        (b"\xc2\xa0GET /x HTTP", b"/1.1 "),
        (b"POST /\x01x HTT", b"P/1.1"),
    ] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let mut client = lab.connect("good.test", echo.port).await;
        client.write_all(start).await.unwrap();
        let mut back = vec![0; start.len()];
        timeout(PATIENCE, client.read_exact(&mut back))
            .await
            .unwrap()
            .unwrap();
        let rest = [rest, b"\r\nHost: evil.test\r\n\r\n"].concat();
        client.write_all(&rest).await.unwrap();
        assert_reset(client).await;
        lab.one_denial("http-framing");
        until("the closing event", || {
            let events = lab.supervisor.events();
            events
                .iter()
                .any(|event| matches!(event, Event::ConnectionClosed { .. }))
        })
        .await;
    }
    assert!(!echo.text().contains("evil.test"), "{}", echo.text());
}

/// What began as TLS or as a request is that, also where it ends too early: a server might read
/// what there is of it. The rest of a protocol that is not known may end as it likes.
#[tokio::test]
async fn greetings_that_end_early_are_refused() {
    let echo = Server::echo().await;
    let hello = client_hello(Some("evil.test"), 4000, false);
    for begun in [
        &hello[..],
        &hello[..hello.len() - 1],
        &hello[..1],
        b"GET /x",
        b"POST /x HTT",
        b"\xef\xbb\xbfGET /x",
    ] {
        for late in [false, true] {
            let lab = Lab::start(&allow("good.test", echo.port)).await;
            let mut client = lab.connect("good.test", echo.port).await;
            if late {
                until("the connection that waits for the server", || {
                    !connection_details(&lab).is_empty()
                })
                .await;
            }
            client.write_all(begun).await.unwrap();
            client.shutdown().await.unwrap();
            let whole = begun == &hello[..];
            let answer = read_all(&mut client).await;
            assert_eq!(
                answer.is_ok_and(|answer| answer == ALERT),
                whole,
                "{begun:?}"
            );
            lab.one_denial(if whole {
                "name-mismatch"
            } else {
                "greeting-unfinished"
            });
        }
    }
    assert_eq!(echo.text(), "");
    for other in [&b"hello"[..], b"QUIT", b"\x00\x01"] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        assert_eq!(echo_of(&lab, echo.port, other).await.unwrap(), other);
        assert!(lab.decisions(Verdict::Deny).is_empty());
    }
}

/// Some servers pass over a warning before the greeting, which then may name anybody.
#[tokio::test]
async fn a_greeting_behind_another_record_is_refused() {
    let echo = Server::echo().await;
    let hello = client_hello(Some("good.test"), 4000, false);
    for first in [
        &[21, 3, 1, 0, 2, 1, 90][..],
        &[20, 3, 3, 0, 1, 1],
        &[24, 3, 3, 0, 3, 1, 0, 0],
    ] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let mut client = lab.connect("good.test", echo.port).await;
        let both = [first, &hello].concat();
        client.write_all(&both).await.unwrap();
        assert_eq!(read_all(&mut client).await.unwrap(), ALERT);
        lab.one_denial("tls-malformed");
    }
    assert_eq!(echo.text(), "");
}

/// A byte-order mark, a NUL or a bare carriage return makes a request no other protocol: some
/// servers pass them over.
#[tokio::test]
async fn requests_that_lenient_servers_read_are_refused() {
    let echo = Server::echo().await;
    for request in [
        &b"\xef\xbb\xbfGET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n"[..],
        b"\xef\xbb\xbfGET /x\r\n",
        b"\0GET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"\0\0POST /x HTTP/1.1\rHost: evil.test\r\r",
        b"\xc2\xa0GET /x HTTP/1.1\rHost: evil.test\r\r",
        b"GE\0T /x HTTP/1.1\rHost: evil.test\r\r",
        b"GET /x HTTP/1.1\rHost: evil.test\r\r",
        b"GET /x HTTP/1.1\r\nHost: good.test\rX: y\r\n\r\n",
    ] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let mut client = lab.connect("good.test", echo.port).await;
        client.write_all(request).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = read_all(&mut client).await.unwrap_or_default();
        let shown = String::from_utf8_lossy(request);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "),
            "{shown:?}: {}",
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(lab.decisions(Verdict::Deny).len(), 1, "{shown:?}");
        lab.one_denial("http-framing");
    }
    assert_eq!(echo.text(), "");
}

/// A server can ask for a second greeting (`HelloRetryRequest`), which must not name another host.
#[tokio::test]
async fn a_second_greeting_names_the_same_host() {
    let echo = Server::echo().await;
    let good = client_hello(Some("good.test"), 4000, false);
    let change = [20, 3, 3, 0, 1, 1];
    for (name, rule) in [
        (Some("good.test"), None),
        (Some("evil.test"), Some("name-mismatch")),
        (None, Some("name-mismatch")),
    ] {
        let lab = Lab::start(&allow("good.test", echo.port)).await;
        let mut client = lab.connect("good.test", echo.port).await;
        client.write_all(&good).await.unwrap();
        let mut back = vec![0; good.len()];
        timeout(PATIENCE, client.read_exact(&mut back))
            .await
            .unwrap()
            .unwrap();
        let second = [&change[..], &client_hello(name, 4000, false)].concat();
        client.write_all(&second).await.unwrap();
        if let Some(rule) = rule {
            assert_reset(client).await;
            lab.one_denial(rule);
        } else {
            client.shutdown().await.unwrap();
            assert_eq!(read_all(&mut client).await.unwrap(), second);
        }
    }
    let before = echo.text();
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    let both = [good, client_hello(Some("evil.test"), 4000, false)].concat();
    let error = echo_of(&lab, echo.port, &both).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    lab.one_denial("name-mismatch");
    assert_eq!(echo.text(), before);
}

/// Greetings in the form of SSL 2 name no host, so they are refused, cut or not.
#[tokio::test]
async fn ssl2_greetings_are_refused() {
    let echo = Server::echo().await;
    let body = [&[1, 3, 3, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f][..], &[7; 16]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[0x80, length][..], &body].concat();
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    assert_eq!(echo_of(&lab, echo.port, &hello).await.unwrap(), ALERT);
    lab.one_denial("tls-malformed");
    assert_eq!(echo.connections(), 0);
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    let mut client = lab.connect("good.test", echo.port).await;
    client.write_all(&hello[..2]).await.unwrap();
    let mut back = [0; 2];
    timeout(PATIENCE, client.read_exact(&mut back))
        .await
        .unwrap()
        .unwrap();
    client.write_all(&hello[2..]).await.unwrap();
    assert_reset(client).await;
    lab.one_denial("tls-malformed");
    assert_eq!(echo.seen.lock().unwrap().bytes, hello[..2]);
}

#[tokio::test]
async fn a_hundred_connections_at_once() {
    let echo = Server::echo().await;
    let lab = std::sync::Arc::new(Lab::start(&allow("good.test", echo.port)).await);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..100_u32 {
        let (lab, port) = (std::sync::Arc::clone(&lab), echo.port);
        tasks.spawn(async move {
            let bytes = [&[1][..], &i.to_be_bytes().repeat(20_000)].concat();
            let mut client = lab.connect("good.test", port).await;
            let (mut read, mut write) = client.split();
            let mut back = vec![0; bytes.len()];
            let (sent, received) =
                tokio::join!(write.write_all(&bytes), read.read_exact(&mut back));
            sent.unwrap();
            received.unwrap();
            assert!(back == bytes, "connection {i}");
        });
    }
    let ended = timeout(PATIENCE, tasks.join_all()).await.unwrap();
    assert_eq!(ended.len(), 100);
    assert_eq!(echo.connections(), 100);
    assert!(lab.decisions(Verdict::Deny).is_empty());
    let closed = || {
        let events = lab.supervisor.events();
        events
            .iter()
            .filter(|e| matches!(e, Event::ConnectionClosed { .. }))
            .count()
    };
    until("all closing events", || closed() == 100).await;
}

#[tokio::test]
async fn a_large_transfer_arrives_whole_with_a_slow_reader() {
    const BYTES: usize = 32 * 1024 * 1024;
    let server = Server::start(|mut stream: TcpStream, _| async move {
        let bytes: Vec<u8> = (0..BYTES).map(|i| u8::try_from(i % 251).unwrap()).collect();
        stream.write_all(&bytes).await.unwrap();
    })
    .await;
    let lab = Lab::start(&allow("good.test", server.port)).await;
    let mut client = lab.connect("good.test", server.port).await;
    let mut total = 0;
    let mut buffer = vec![0; 300_000];
    loop {
        let read = timeout(PATIENCE, client.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        if read == 0 {
            break;
        }
        for (at, byte) in buffer[..read].iter().enumerate() {
            assert_eq!(usize::from(*byte), (total + at) % 251);
        }
        total += read;
        if total < 4 * 1024 * 1024 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    assert_eq!(total, BYTES);
}

#[tokio::test]
async fn a_server_reset_reaches_the_client_as_a_reset() {
    let server = Server::start(|mut stream: TcpStream, _| async move {
        stream.write_all(b"half of").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let lab = Lab::start(&allow("good.test", server.port)).await;
    let mut client = lab.connect("good.test", server.port).await;
    let error = read_all(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn without_a_journal_nothing_passes() {
    let echo = Server::echo().await;
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    assert_eq!(
        echo_of(&lab, echo.port, b"\x01hi").await.unwrap(),
        b"\x01hi"
    );
    let before = echo.connections();
    lab.supervisor.fail_journal();
    assert!(echo_of(&lab, echo.port, b"\x01hi").await.is_err());
    let get = b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n";
    let answer = echo_of(&lab, echo.port, get).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 503 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let hello = client_hello(Some("good.test"), 4000, false);
    assert_eq!(echo_of(&lab, echo.port, &hello).await.unwrap(), ALERT);
    assert_eq!(echo.connections(), before);
}

/// The journal can also fail between two requests of one connection.
#[tokio::test]
async fn a_journal_that_fails_later_stops_the_next_request() {
    let web = Server::http().await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let mut client = lab.connect("good.test", web.port).await;
    client
        .write_all(b"GET /1 HTTP/1.1\r\nHost: good.test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 46];
    timeout(PATIENCE, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    lab.supervisor.fail_journal();
    client
        .write_all(b"GET /2 HTTP/1.1\r\nHost: good.test\r\n\r\n")
        .await
        .unwrap();
    let rest = read_all(&mut client).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 503 "));
    assert!(!web.text().contains("/2"), "{}", web.text());
}

#[tokio::test]
async fn without_an_owner_rules_about_programs_allow_nothing() {
    let echo = Server::echo().await;
    let policy = format!(
        "{}programs = [\"/usr/bin/curl\"]\n",
        allow("good.test", echo.port)
    );
    let lab = Lab::start(&policy).await;
    let mut client = lab.connect("good.test", echo.port).await;
    client.write_all(b"\x01").await.unwrap();
    until("it is curl", || echo.connections() == 1).await;
    lab.supervisor.fail_attribution();
    assert_reset(lab.connect("good.test", echo.port).await).await;
    assert_eq!(echo.connections(), 1);
    let denied = lab.decisions(Verdict::Deny);
    assert_eq!(denied.len(), 1, "{denied:#?}");
    assert_eq!(denied[0].subject, Subject::default());
    assert_eq!(denied[0].target.host.as_deref(), Some("good.test"));
}

/// However far a connection is when the session ends, its end and its bytes are recorded.
#[tokio::test]
async fn the_end_of_the_session_closes_what_is_open() {
    let mut lab = Lab::start(&allow("good.test", 80)).await;
    lab.finish().await.unwrap();

    let echo = Server::echo().await;
    let mut lab = Lab::start(&allow("good.test", echo.port)).await;
    let mut clients = Vec::new();
    let greetings: [&[u8]; 4] = [
        b"\x01\x02\x03",
        b"hello\n",
        &client_hello(Some("good.test"), 4000, false),
        // Its answer is no HTTP, so it is closed before the end.
        b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n",
    ];
    for greeting in greetings {
        let mut client = lab.connect("good.test", echo.port).await;
        client.write_all(greeting).await.unwrap();
        clients.push(client);
    }
    for (client, greeting) in clients.iter_mut().zip(greetings).take(3) {
        let mut back = vec![0; greeting.len()];
        let read = timeout(PATIENCE, client.read_exact(&mut back));
        read.await.unwrap().unwrap();
    }
    // Neither side of this one says anything, and far more are waiting for their turn to close.
    for _ in 0..200 {
        clients.push(lab.connect("good.test", echo.port).await);
    }
    // One more says why that answer was not passed on.
    until("all connections", || connection_details(&lab).len() == 205).await;
    until("all servers", || echo.connections() == 204).await;
    lab.finish().await.unwrap();
    let events = lab.supervisor.events();
    let closed: Vec<(u64, u64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::ConnectionClosed {
                bytes_out,
                bytes_in,
                ..
            } => Some((*bytes_out, *bytes_in)),
            _ => None,
        })
        .collect();
    assert_eq!(closed.len(), 204);
    let lengths = greetings.map(|greeting| u64::try_from(greeting.len()).unwrap());
    for length in &lengths[..3] {
        assert!(closed.contains(&(*length, *length)), "{length}: {closed:?}");
    }
    assert_eq!(closed.iter().filter(|bytes| **bytes == (0, 0)).count(), 200);
    for mut client in clients {
        // An end or a reset, but no more bytes.
        assert!(!read_all(&mut client).await.unwrap_or_default().contains(&1));
    }
}

#[tokio::test]
async fn the_end_of_the_control_connection_ends_everything() {
    let echo = Server::echo().await;
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    let mut client = lab.connect("good.test", echo.port).await;
    client.write_all(b"\x01").await.unwrap();
    let mut one = [0];
    timeout(PATIENCE, client.read_exact(&mut one))
        .await
        .unwrap()
        .unwrap();
    lab.stop().await.unwrap();
    // An end or a reset, but no more bytes.
    assert!(read_all(&mut client).await.unwrap_or_default().is_empty());
}
