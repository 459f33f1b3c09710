//! Verdict ask: who waits, what is shown, what an answer opens and what closes it again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use std::{sync::Arc, time::Duration};

use crate::lab::{
    Host, Lab, PATIENCE, Server,
    names::{NameServer, Script},
    read_all, rule,
    supervisor::Asking,
    until,
};
use stockade_event::Event;
use stockade_policy::Scope;
use stockade_types::{ApprovalId, DecisionRecord, RequestKind, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n";

fn used(lab: &Lab) -> Vec<ApprovalId> {
    let events = lab.supervisor.events();
    let used = events.into_iter().filter_map(|event| match event {
        Event::ApprovalUsed { approval, .. } => Some(approval),
        _ => None,
    });
    used.collect()
}

#[tokio::test]
async fn a_granted_question_opens_the_connection_and_its_requests() {
    let web = Server::http().await;
    for scope in [Scope::Once, Scope::Session] {
        let lab = Lab::start(&rule("ask", "good.test", web.port)).await;
        lab.supervisor.set_asking(Asking::Grant(scope));
        let answer = lab.exchange("good.test", web.port, GET).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(
            lab.supervisor.asks(),
            1,
            "the request is covered by its connection"
        );
        assert_eq!(used(&lab).len(), 1);
        assert!(lab.decisions(Verdict::Deny).is_empty());
    }
}

#[tokio::test]
async fn a_refused_question_is_a_denial_with_its_reason() {
    let web = Server::http().await;
    let lab = Lab::start(&rule("ask", "good.test", web.port)).await;
    lab.supervisor.set_asking(Asking::Refuse("not today"));
    let answer = lab.exchange("good.test", web.port, GET).await;
    let denied = lab.one_denial("lab");
    assert_eq!(denied.kind, RequestKind::Net);
    assert!(denied.reason.starts_with("not today"), "{}", denied.reason);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.rsplit_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(
        serde_json::from_str::<DecisionRecord>(body).unwrap(),
        denied
    );
    assert_eq!(web.connections(), 0);
}

#[tokio::test]
async fn a_question_without_an_answer_becomes_a_denial() {
    let web = Server::http().await;
    let policy = format!("{}expires = \"1s\"\n", rule("ask", "good.test", web.port));
    let lab = Lab::start(&policy).await;
    lab.supervisor.set_asking(Asking::Wait);
    let answer = lab.exchange("good.test", web.port, GET).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 403 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(
        lab.one_denial("lab")
            .reason
            .contains("no answer came in time")
    );
    assert_eq!(web.connections(), 0);
}

#[tokio::test]
async fn an_answer_for_one_lets_one_of_those_who_wait_through() {
    let web = Server::http().await;
    let lab = Arc::new(Lab::start(&rule("ask", "good.test", web.port)).await);
    lab.supervisor.set_asking(Asking::Wait);
    let port = web.port;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let lab = Arc::clone(&lab);
            tokio::spawn(async move { lab.exchange("good.test", port, GET).await })
        })
        .collect();
    // Each asks by itself; that they share what a person sees is up to the desk.
    until("all of them", || lab.supervisor.waiting() == 10).await;
    lab.supervisor.answer_first(&Asking::Grant(Scope::Once));
    until("the first one", || web.connections() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((web.connections(), lab.supervisor.waiting()), (1, 9));
    lab.supervisor.answer(&Asking::Refuse("enough"));
    let mut passed = 0;
    for task in tasks {
        let answer = timeout(PATIENCE, task).await.unwrap().unwrap();
        passed += usize::from(answer.starts_with(b"HTTP/1.1 200 "));
    }
    assert_eq!((passed, web.connections()), (1, 1));
    assert_eq!(used(&lab).len(), 1);
}

#[tokio::test]
async fn requests_on_a_kept_connection_are_asked_about_one_by_one() {
    let web = Server::http().await;
    let policy = format!(
        "{}[[ask]]\nid = \"posts\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [{port}]\n\
         methods = [\"POST\"]\nprivate = true\nreason = \"lab\"\n",
        rule("allow", "good.test", web.port),
        port = web.port
    );
    let lab = Lab::start(&policy).await;
    lab.supervisor.set_asking(Asking::Grant(Scope::Once));
    let post = b"POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 0\r\n\r\n";
    let last =
        b"POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let both = [post.as_slice(), last.as_slice()].concat();
    let answer = lab.exchange("good.test", web.port, &both).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(
        lab.supervisor.asks(),
        2,
        "each of the same requests is asked about"
    );
}

#[tokio::test]
async fn a_question_is_taken_back_when_its_program_gives_up() {
    let web = Server::http().await;
    let lab = Lab::start(&rule("ask", "good.test", web.port)).await;
    lab.supervisor.set_asking(Asking::Wait);
    // Control: half closed, and somebody still waits for the answer.
    let mut client = lab.connect("good.test", web.port).await;
    client.write_all(GET).await.unwrap();
    client.shutdown().await.unwrap();
    until("the question", || lab.supervisor.waiting() == 1).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(
        (lab.supervisor.waiting(), lab.supervisor.withdrawn()),
        (1, 0)
    );
    lab.supervisor.lose_owners();
    until("the withdrawal", || lab.supervisor.withdrawn() == 1).await;
    let denied = lab.one_denial("lab");
    assert!(
        denied.reason.starts_with("the program did not wait"),
        "{}",
        denied.reason
    );
    drop(client);
    assert_eq!(web.connections(), 0);
}

#[tokio::test]
async fn nobody_is_asked_for_what_no_answer_can_open() {
    let hosts = [
        ("unused.lab.test", "198.18.5.5", "never-reached"),
        ("router.lab.test", "192.168.7.7", "private-address"),
    ];
    let fixed: Vec<String> = hosts
        .iter()
        .map(|(name, address, _)| format!("\"{name}\" = \"{address}\"\n"))
        .collect();
    let fixed = fixed.concat();
    let ask = "[[ask]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"*.lab.test\"]\nports = [80]\n";
    let requests = "[[ask]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"*.lab.test\"]\nports = [80]\nmethods = [\"GET\"]\n\
                    [[allow]]\nid = \"rest\"\nwhat = \"net\"\nhosts = [\"*.lab.test\"]\nports = [80]\n";
    for rules in [ask, requests] {
        for (name, _, control) in hosts {
            let lab = Lab::start(&format!("[network.hosts]\n{fixed}{rules}")).await;
            lab.supervisor.set_asking(Asking::Grant(Scope::Once));
            let get = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
            let answer = lab.exchange(name, 80, get.as_bytes()).await;
            assert!(answer.starts_with(b"HTTP/1.1 403 "), "{name}");
            assert_eq!(lab.supervisor.asks(), 0, "{name} {rules}");
            lab.one_denial(control);
        }
    }
    // The control: with `private = true` the answer has an effect, so somebody is asked.
    let web = Server::http().await;
    let lab = Lab::start(&rule("ask", "good.test", web.port)).await;
    lab.supervisor.set_asking(Asking::Refuse("no"));
    lab.exchange("good.test", web.port, GET).await;
    assert_eq!(lab.supervisor.asks(), 1);
}

#[tokio::test]
async fn what_was_found_out_of_reach_is_not_asked_about_again_at_once() {
    let server = NameServer::start(|name, _| Script {
        addresses: if name.starts_with("gone") {
            vec![]
        } else {
            vec!["198.18.7.7".parse().unwrap()]
        },
        truncate: false,
    })
    .await;
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    let rules = "[[ask]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"*.lab.test\"]\nports = [80]\n";
    let lab = Lab::start_on(rules, host).await;
    lab.supervisor.set_asking(Asking::Grant(Scope::Once));
    for name in ["gone.lab.test", "never.lab.test"] {
        let before = lab.supervisor.asks();
        let get = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        for _ in 0..3 {
            lab.exchange(name, 80, get.as_bytes()).await;
        }
        assert_eq!(lab.supervisor.asks() - before, 1, "{name}");
    }
}

#[tokio::test]
async fn a_name_that_was_not_allowed_is_not_looked_up() {
    let server = NameServer::start(|_, _| panic!("no query may leave")).await;
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    let rules = "[[ask]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"*.lab.test\"]\nports = [80]\n";
    let lab = Lab::start_on(rules, host).await;
    lab.supervisor.set_asking(Asking::Refuse("no"));
    let get = b"GET / HTTP/1.1\r\nHost: secret.lab.test\r\nConnection: close\r\n\r\n";
    lab.exchange("secret.lab.test", 80, get).await;
    assert_eq!((lab.supervisor.asks(), server.asked()), (1, vec![]));
}

#[tokio::test]
async fn another_host_of_the_same_rule_is_another_question() {
    let web = Server::http().await;
    let policy = format!(
        "[network.hosts]\n\"a.test\" = \"127.0.0.1\"\n\"b.test\" = \"127.0.0.1\"\n[[ask]]\n\
         id = \"lab\"\nwhat = \"net\"\nhosts = [\"a.test\", \"b.test\"]\nports = [{}]\n\
         private = true\nreason = \"first contact\"\n",
        web.port
    );
    let lab = Lab::start(&policy).await;
    lab.supervisor.set_asking(Asking::Grant(Scope::Session));
    for name in ["a.test", "b.test"] {
        let get = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let answer = lab.exchange(name, web.port, get.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
    assert_eq!(lab.supervisor.asks(), 2);
}

#[tokio::test]
async fn revoking_closes_what_the_approval_opened() {
    let echo = Server::echo().await;
    let lab = Lab::start(&rule("ask", "good.test", echo.port)).await;
    lab.supervisor.set_asking(Asking::Grant(Scope::Session));
    let mut client = lab.connect("good.test", echo.port).await;
    client.write_all(b"\x01").await.unwrap();
    let mut one = [0];
    timeout(PATIENCE, client.read_exact(&mut one))
        .await
        .unwrap()
        .unwrap();
    // The control: revoking something else changes nothing.
    lab.supervisor.revoke(&ApprovalId::from_random(999));
    client.write_all(b"\x02").await.unwrap();
    timeout(PATIENCE, client.read_exact(&mut one))
        .await
        .unwrap()
        .unwrap();
    let approval = used(&lab).first().unwrap().clone();
    lab.supervisor.revoke(&approval);
    assert!(read_all(&mut client).await.unwrap_or_default().is_empty());
    let closed = |event: &Event| matches!(event, Event::ConnectionClosed { bytes_out: 2, .. });
    until("the closing event", || {
        lab.supervisor.events().iter().any(closed)
    })
    .await;
}
