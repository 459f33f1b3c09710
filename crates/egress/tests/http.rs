//! Plain HTTP through the proxy: each request judged, nothing ambiguous passed on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use crate::lab::{self, Lab, PATIENCE, Server, allow, http_head, read_all, rule, until};
use stockade_event::Event;
use stockade_types::{DecisionRecord, RequestKind, RuleId, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn last(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks that `answer` is a 403 whose body is the recorded decision.
fn assert_forbidden(answer: &[u8], record: &DecisionRecord) {
    assert_refused(answer, "403 Forbidden", record);
}

/// The same for a request that is for another host than its connection.
fn assert_misdirected(answer: &[u8], record: &DecisionRecord) {
    assert_refused(answer, "421 Misdirected Request", record);
}

fn assert_refused(answer: &[u8], status: &str, record: &DecisionRecord) {
    let answer = text(answer);
    let (head, body) = answer.rsplit_once("\r\n\r\n").unwrap();
    let expected = format!("HTTP/1.1 {status}: denied by stockade");
    assert!(head.contains(&expected), "{head}");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    let sentence = told["error"].as_str().unwrap();
    assert!(head.contains(sentence), "{head}");
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(
        &serde_json::from_str::<DecisionRecord>(body).unwrap(),
        record
    );
}

#[tokio::test]
async fn an_allowed_request_passes_and_is_recorded() {
    let web = Server::http().await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let request = last("good.test", "/a?b=c");
    let answer = lab
        .exchange("good.test", web.port, request.as_bytes())
        .await;
    assert!(
        text(&answer).ends_with("path /a?b=c\n"),
        "{}",
        text(&answer)
    );
    assert_eq!(web.text(), request);
    let closed = || {
        lab.supervisor
            .events()
            .into_iter()
            .find_map(|event| match event {
                Event::ConnectionClosed {
                    bytes_out,
                    bytes_in,
                    host,
                    port,
                    decision,
                    ..
                } => Some((bytes_out, bytes_in, host, port, decision)),
                _ => None,
            })
    };
    until("the closing event", || closed().is_some()).await;
    let allowed = lab.decisions(Verdict::Allow);
    let kinds: Vec<RequestKind> = allowed.iter().map(|decision| decision.kind).collect();
    assert_eq!(
        kinds,
        [RequestKind::Name, RequestKind::Net, RequestKind::Http]
    );
    let (out, back, host, port, decision) = closed().unwrap();
    assert_eq!(out, u64::try_from(request.len()).unwrap());
    assert_eq!(back, u64::try_from(answer.len()).unwrap());
    assert_eq!((host.as_str(), port), ("good.test", web.port));
    assert_eq!(decision, allowed[1].decision);
}

#[tokio::test]
async fn a_denied_host_is_answered_with_the_decision() {
    let web = Server::http().await;
    let policy = format!("{}{}", allow("good.test", web.port), {
        let evil = rule("deny", "evil.test", web.port);
        let (_, rule) = evil.split_once("[[deny]]").unwrap();
        format!(
            "[[deny]]{}",
            rule.replace("\"lab\"", "\"paste\"")
                .replace("private = true\n", "")
        )
    });
    let lab = Lab::start(&policy).await;
    // Its name does not exist, so the program can only guess an address.
    let name = lab::names::lookup(lab.dns, "evil.test").await;
    assert!(name.is_err());
    let known = lab.decisions(Verdict::Deny).len();
    let address = lab::names::lookup(lab.dns, "good.test").await.unwrap();
    let mut client = lab.connect_address(address, 9).await;
    client
        .write_all(get("good.test", "/").as_bytes())
        .await
        .unwrap();
    let answer = read_all(&mut client).await.unwrap();
    let denied = lab.decisions(Verdict::Deny);
    assert_eq!(denied.len(), known + 1, "an undeclared port of a good host");
    assert_forbidden(&answer, denied.last().unwrap());
    assert_eq!(web.connections(), 0);
    let answer = lab
        .exchange("good.test", web.port, last("good.test", "/").as_bytes())
        .await;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn another_host_in_the_request_is_refused() {
    let web = Server::http().await;
    for request in [
        get("evil.test", "/"),
        get("good.test:1", "/"),
        get("10.0.0.1", "/"),
        "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_owned(),
    ] {
        let lab = Lab::start(&allow("good.test", web.port)).await;
        let answer = lab
            .exchange("good.test", web.port, request.as_bytes())
            .await;
        assert_misdirected(&answer, &lab.one_denial("name-mismatch"));
    }
    assert_eq!(web.connections(), 0);
    let lab = Lab::start(&allow("good.test", web.port)).await;
    for request in [
        last("GOOD.test.", "/"),
        last(&format!("good.test:{}", web.port), "/"),
        format!(
            "GET http://good.test:{0}/ HTTP/1.1\r\nHost: good.test:{0}\r\nConnection: close\r\n\r\n",
            web.port
        ),
    ] {
        let answer = lab
            .exchange("good.test", web.port, request.as_bytes())
            .await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{request}");
    }
}

#[tokio::test]
async fn a_pipelined_second_request_is_judged_by_itself() {
    let web = Server::http().await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let both = format!("{}{}", get("good.test", "/1"), get("evil.test", "/2"));
    let answer = lab.exchange("good.test", web.port, both.as_bytes()).await;
    let record = lab.one_denial("name-mismatch");
    assert!(
        text(&answer).contains("path /1\nHTTP/1.1 421"),
        "{}",
        text(&answer)
    );
    assert_misdirected(&answer, &record);
    assert!(!web.text().contains("evil.test"));
    // The control: two good ones both pass, in order, on one connection.
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let both = format!("{}{}", get("good.test", "/1"), last("good.test", "/2"));
    let answer = text(&lab.exchange("good.test", web.port, both.as_bytes()).await);
    assert!(
        answer.contains("path /1\n") && answer.ends_with("path /2\n"),
        "{answer}"
    );
    assert_eq!(web.connections(), 2);
}

/// Attack N18: what two readers could understand differently is refused with 400 and closed.
#[tokio::test]
async fn smuggling_is_refused_and_reaches_no_server() {
    let web = Server::http().await;
    let start = "POST /x HTTP/1.1\r\nHost: good.test\r\n";
    let inner = "GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    let table = [
        format!("{start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{start}Content-Length: 0\r\nContent-Length: 46\r\n\r\n{inner}"),
        format!("{start}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{start}X: y\nContent-Length: 46\r\n\r\n{inner}"),
        format!("{start}X: y\r\n Content-Length: 46\r\n\r\n{inner}"),
        format!("{start}Content-Length : 46\r\n\r\n{inner}"),
        format!("{start}X: a\0b\r\n\r\n"),
        format!("\r\n{start}\r\n"),
        format!("{start}Host: evil.test\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned(),
        "GET http://good.test@evil.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned(),
        "get / HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned(),
        "GET /old\r\n\r\n".to_owned(),
        format!("{start}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
    ];
    let host = b"Host: evil.test\r\nContent-Length: 0\r\n\r\n";
    let odd: [&[u8]; 7] = [
        b"POST /x\x0cHTTP/1.1\r\n",
        b"GET\x0b/x\x0bHTTP/1.1\r\n",
        b"\x0bGET /x HTTP/1.1\r\n",
        b"POST\xa0/x\xa0HTTP/1.1\r\n",
        b"POST /\0x HTTP/1.1\r\n",
        b"\xef\xbb\xbfGET /x HTTP/1.1\r\n",
        b"GET\x0b/old\r\n",
    ];
    let odd = odd.map(|line| [line, host].concat());
    let table = table.into_iter().map(String::into_bytes).chain(odd);
    for request in table {
        let lab = Lab::start(&allow("good.test", web.port)).await;
        let answer = lab.exchange("good.test", web.port, &request).await;
        let request = text(&request);
        let answer = text(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 4").count(),
            1,
            "{request:?}: {answer}"
        );
        lab.one_denial("http-framing");
    }
    assert_eq!(web.connections(), 0);
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let good = format!("{start}Content-Length: 5\r\nConnection: close\r\n\r\nhello");
    let answer = lab.exchange("good.test", web.port, good.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

/// Chunked bodies can only be refused on the way: the server gets a request that never ends.
#[tokio::test]
async fn broken_chunks_end_both_connections() {
    let web = Server::start(|mut stream, seen| async move {
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            seen.lock()
                .unwrap()
                .bytes
                .extend_from_slice(&buffer[..read]);
        }
    })
    .await;
    let start = "POST /x HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "5;ext=1\r\nhello\r\n0\r\n\r\n",
        "0_2e\r\n",
        "5\nhello\r\n",
        "5\r\nhelloGET",
    ] {
        let lab = Lab::start(&allow("good.test", web.port)).await;
        let request = format!("{start}{body}");
        let answer = lab
            .exchange("good.test", web.port, request.as_bytes())
            .await;
        assert!(
            answer.starts_with(b"HTTP/1.1 400 "),
            "{body:?}: {}",
            text(&answer)
        );
        lab.one_denial("http-framing");
    }
    assert!(!web.text().contains("ext=1"), "{}", web.text());
}

async fn chunk_server() -> Server {
    Server::start(|mut stream, seen| async move {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 4096];
        while !bytes.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut buffer).await {
                Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
                _ => return,
            }
        }
        seen.lock().unwrap().bytes.extend_from_slice(&bytes);
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn chunked_bodies_stream_both_ways_with_interim_responses() {
    let web = chunk_server().await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let mut client = lab.connect("good.test", web.port).await;
    let head = "PUT /x HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    client.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    client.write_all(b"lo\r\n0\r\n\r\n").await.unwrap();
    let answer = read_all(&mut client).await.unwrap();
    assert!(
        text(&answer).ends_with("3;x\r\nabc\r\n0\r\n\r\n"),
        "{}",
        text(&answer)
    );
    assert!(
        web.text().ends_with("5\r\nhello\r\n0\r\n\r\n"),
        "{}",
        web.text()
    );
}

/// Sends a body that fills every buffer on the way, to its end, and reads only then.
async fn upload(lab: &Lab, port: u16) -> String {
    const BYTES: usize = 20 << 20;
    let mut client = lab.connect("good.test", port).await;
    let head = format!("POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: {BYTES}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b'q'; 64 << 10];
    for _ in 0..BYTES / chunk.len() {
        timeout(PATIENCE, client.write_all(&chunk))
            .await
            .unwrap()
            .unwrap();
    }
    text(&read_all(&mut client).await.unwrap())
}

#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_is_seen() {
    let web = Server::start(|mut stream, _| async move {
        let mut buffer = [0; 1024];
        stream.read_exact(&mut buffer).await.unwrap();
        let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge";
        stream.write_all(answer).await.unwrap();
        // Dropped with unread bytes, so what the proxy sees after the answer is a reset.
    })
    .await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    for _ in 0..3 {
        let answer = upload(&lab, web.port).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nlarge"), "{answer}");
    }
}

#[tokio::test]
async fn a_refused_upload_is_told_why() {
    let lab = Lab::start(&allow("good.test", 80)).await;
    let answer = upload(&lab, 9).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("\"verdict\":\"deny\""), "{answer}");
}

#[tokio::test]
async fn expect_continue_works() {
    let web = Server::start(|mut stream, seen| async move {
        let mut pending = Vec::new();
        let mut buffer = [0; 1024];
        while !text(&pending).contains("\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            pending.extend_from_slice(&buffer[..read]);
        }
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        seen.lock()
            .unwrap()
            .bytes
            .extend_from_slice(&buffer[..read]);
        stream
            .write_all(b"HTTP/1.1 204 Done\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
    })
    .await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let mut client = lab.connect("good.test", web.port).await;
    let head =
        "PUT /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    timeout(PATIENCE, client.read_exact(&mut interim))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text(&interim), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    let rest = read_all(&mut client).await.unwrap();
    assert!(
        text(&rest).starts_with("HTTP/1.1 204 Done"),
        "{}",
        text(&rest)
    );
    assert_eq!(web.text(), "hello");
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel_after_it_was_judged() {
    let web = Server::start(|mut stream, seen| async move {
        let mut pending = Vec::new();
        let head = http_head(&mut stream, &mut pending, &seen).await.unwrap();
        assert!(head.contains("Upgrade: websocket"));
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: Upgrade\r\n\r\nhi";
        stream.write_all(switch.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..read]).await.unwrap();
        }
    })
    .await;
    let request = "GET /chat HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\n\r\n";
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let mut client = lab.connect("good.test", web.port).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\nhi") {
        let mut one = [0];
        timeout(PATIENCE, client.read_exact(&mut one))
            .await
            .unwrap()
            .unwrap();
        bytes.extend(one);
    }
    client.write_all(b"\x01\x02frame").await.unwrap();
    let mut echo = [0; 7];
    timeout(PATIENCE, client.read_exact(&mut echo))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&echo, b"\x01\x02frame");
    drop(client);
    let closed =
        |event: &Event| matches!(event, Event::ConnectionClosed { bytes_in, .. } if *bytes_in > 80);
    until("the closing event", || {
        lab.supervisor.events().iter().any(closed)
    })
    .await;
}

#[tokio::test]
async fn a_switch_that_was_not_asked_for_is_not_passed_on() {
    let web = Server::start(|mut stream, seen| async move {
        http_head(&mut stream, &mut Vec::new(), &seen).await;
        drop(
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                .await,
        );
    })
    .await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let answer = lab
        .exchange("good.test", web.port, get("good.test", "/").as_bytes())
        .await;
    assert!(answer.starts_with(b"HTTP/1.1 502 "), "{}", text(&answer));
}

/// An answer that readers could take in different ways is not passed on, and the record says why.
#[tokio::test]
async fn an_ambiguous_answer_is_refused_with_an_event() {
    for answered in [
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let web = Server::start(move |mut stream, seen| async move {
            http_head(&mut stream, &mut Vec::new(), &seen).await;
            drop(stream.write_all(answered.as_bytes()).await);
        })
        .await;
        let lab = Lab::start(&allow("good.test", web.port)).await;
        let request = get("good.test", "/");
        let answer = lab
            .exchange("good.test", web.port, request.as_bytes())
            .await;
        let answer = text(&answer);
        assert!(
            answer.starts_with("HTTP/1.1 502 "),
            "{answered:?}: {answer}"
        );
        assert!(answer.contains("the answer of `good.test`"), "{answer}");
        lab.one_denial("http-framing");
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    const BYTES: usize = 48 * 1024 * 1024;
    let web = Server::start(|mut stream: TcpStream, seen| async move {
        http_head(&mut stream, &mut Vec::new(), &seen).await;
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&pattern(BYTES)).await.unwrap();
    })
    .await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let answer = lab
        .exchange("good.test", web.port, get("good.test", "/big").as_bytes())
        .await;
    let at = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert_eq!(answer.len() - at, BYTES);
    assert!(answer[at..] == pattern(BYTES), "the bytes differ");
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes())
        .take(bytes)
        .collect()
}

/// Half a response must not look like a whole one to a client that reads until the end.
#[tokio::test]
async fn a_broken_response_is_a_reset() {
    let web = Server::start(|mut stream, seen| async move {
        http_head(&mut stream, &mut Vec::new(), &seen).await;
        drop(
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                .await,
        );
    })
    .await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let mut client = lab.connect("good.test", web.port).await;
    client
        .write_all(get("good.test", "/").as_bytes())
        .await
        .unwrap();
    let error = read_all(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Rules with methods: the connection opens, each request is judged, nothing unreadable passes.
#[tokio::test]
async fn methods_are_judged_per_request() {
    let policy = "[network.hosts]\n\"good.test\" = \"127.0.0.9\"\n[[allow]]\nid = \"reads\"\n\
                  what = \"net\"\nhosts = [\"good.test\"]\nports = [80]\nmethods = [\"GET\"]\n\
                  private = true\nreason = \"only reading\"\n";
    let lab = Lab::start(policy).await;
    let post = "POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 2\r\n\r\nhi";
    let answer = lab.exchange("good.test", 80, post.as_bytes()).await;
    let denied = lab.decisions(Verdict::Deny);
    assert_eq!(denied.len(), 1, "{denied:#?}");
    assert_eq!(
        (denied[0].kind, denied[0].target.method.as_deref()),
        (RequestKind::Http, Some("POST"))
    );
    assert_forbidden(&answer, &denied[0]);
    // The control gets past the policy: nobody listens there, which is another answer.
    let answer = lab
        .exchange("good.test", 80, last("good.test", "/").as_bytes())
        .await;
    assert!(answer.starts_with(b"HTTP/1.1 502 "), "{}", text(&answer));
    let mut client = lab.connect("good.test", 80).await;
    client.write_all(b"\x01opaque").await.unwrap();
    assert!(read_all(&mut client).await.is_err());
    let rules: Vec<_> = lab
        .decisions(Verdict::Deny)
        .into_iter()
        .filter_map(|d| d.rule)
        .collect();
    assert_eq!(rules.last().unwrap().as_str(), "not-http");
}

/// Some servers follow a field that names another path or method. Where rules look at requests none
/// passes; elsewhere it is the server's business.
#[tokio::test]
async fn fields_that_name_another_request_are_refused() {
    let web = Server::http().await;
    let whole = allow("good.test", web.port);
    let paths = format!("{whole}paths = [\"/public/**\"]\n");
    for field in ["X-Original-URL", "x-rewrite-url", "X_HTTP_Method_Override"] {
        let request = format!(
            "GET /public/x HTTP/1.1\r\nHost: good.test\r\n{field}: /admin\r\nConnection: close\r\n\r\n"
        );
        let lab = Lab::start(&paths).await;
        let answer = lab
            .exchange("good.test", web.port, request.as_bytes())
            .await;
        let record = lab.one_denial("http-framing");
        assert_forbidden(&answer, &record);
        assert!(
            record.reason.contains("another path or method"),
            "{}",
            record.reason
        );
        assert_eq!(web.connections(), 0, "{field}");
    }
    let plain = last("good.test", "/public/x");
    for (policy, request) in [
        (&paths, plain.clone()),
        (
            &whole,
            plain.replace("\r\nConn", "\r\nX-Original-URL: /y\r\nConn"),
        ),
    ] {
        let before = web.connections();
        let lab = Lab::start(policy).await;
        let answer = lab
            .exchange("good.test", web.port, request.as_bytes())
            .await;
        assert!(
            text(&answer).ends_with("path /public/x\n"),
            "{}",
            text(&answer)
        );
        assert_eq!(web.connections(), before + 1);
    }
}

/// What is ambiguous about a path is named, by a deny about paths and where no path allows it.
#[tokio::test]
async fn the_refusal_of_a_path_names_what_is_ambiguous() {
    let web = Server::http().await;
    let whole = allow("good.test", web.port);
    let deny = "[[deny]]\nid = \"admin\"\nwhat = \"net\"\nhosts = [\"good.test\"]\npaths = [\"/admin/**\"]\n";
    for (policy, rule) in [
        (format!("{whole}paths = [\"/public/**\"]\n"), None),
        (format!("{whole}{deny}"), Some("admin")),
    ] {
        for (path, what) in [
            ("/public/..;/admin", "`;`"),
            ("/public/a%2fb", "encoded `/`"),
        ] {
            let lab = Lab::start(&policy).await;
            let request = last("good.test", path);
            let answer = lab
                .exchange("good.test", web.port, request.as_bytes())
                .await;
            let denied = lab.decisions(Verdict::Deny);
            assert_eq!(denied.len(), 1, "{denied:#?}");
            assert_forbidden(&answer, &denied[0]);
            assert_eq!(denied[0].rule.as_ref().map(RuleId::as_str), rule);
            assert!(denied[0].reason.contains(what), "{}", denied[0].reason);
            assert!(
                denied[0].remedy.contains("plain spelling"),
                "{}",
                denied[0].remedy
            );
        }
    }
    assert_eq!(web.connections(), 0);
}

#[tokio::test]
async fn kept_connections_carry_many_requests() {
    let web = Server::http().await;
    let lab = Lab::start(&allow("good.test", web.port)).await;
    let mut client = lab.connect("good.test", web.port).await;
    for i in 0..50 {
        client
            .write_all(get("good.test", &format!("/{i}")).as_bytes())
            .await
            .unwrap();
        let end = format!("path /{i}\n");
        let mut bytes = Vec::new();
        while !text(&bytes).ends_with(&end) {
            let mut buffer = [0; 512];
            let read = timeout(PATIENCE, client.read(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            assert_ne!(read, 0);
            bytes.extend_from_slice(&buffer[..read]);
        }
    }
    assert_eq!(web.connections(), 1);
    let requests = |d: &&DecisionRecord| d.kind == RequestKind::Http;
    assert_eq!(
        lab.decisions(Verdict::Allow)
            .iter()
            .filter(requests)
            .count(),
        50
    );
}
