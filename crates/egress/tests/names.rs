//! The session's resolver, and ours behind it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use std::net::IpAddr;

use crate::lab::{
    self, Host, Lab, Server, allow, names,
    names::{NameServer, Script, addresses},
};
use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, RecordType,
        rdata::{SRV, TXT},
    },
};
use stockade_event::Event;
use stockade_types::{Subject, Verdict};
use tokio::net::TcpStream;

const PLAIN: &str = "[[allow]]\nid = \"good\"\nwhat = \"net\"\nhosts = [\"good.test\", \"**.wide.test\"]\n\
                     reason = \"needed\"\n[[ask]]\nid = \"maybe\"\nwhat = \"net\"\n\
                     hosts = [\"maybe.test\"]\nreason = \"first contact\"\n";

#[tokio::test]
async fn names_that_policy_knows_get_stable_synthetic_addresses() {
    let lab = Lab::start(PLAIN).await;
    let good = names::lookup(lab.dns, "good.test").await.unwrap();
    let maybe = names::lookup(lab.dns, "maybe.test").await.unwrap();
    assert_eq!(good.to_string(), "198.18.0.1");
    assert_ne!(good, maybe);
    assert_eq!(names::lookup(lab.dns, "GOOD.test.").await, Ok(good));
    let v6 = names::ask(lab.dns, "good.test.", RecordType::AAAA).await;
    assert_eq!(addresses(&v6)[0].to_string(), "fd73:746f:636b:6164::1");
    for kind in [
        RecordType::HTTPS,
        RecordType::SVCB,
        RecordType::TXT,
        RecordType::NULL,
    ] {
        let empty = names::ask(lab.dns, "good.test.", kind).await;
        assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
        assert!(empty.answers.is_empty(), "{kind}");
    }
    assert!(lab.decisions(Verdict::Deny).is_empty());
}

/// Where nobody can be asked, a name that could only be asked about is not known, unless it belongs to a
/// command that may run.
#[tokio::test]
async fn a_name_that_only_an_answer_could_open_is_known_where_there_can_be_one() {
    let lab = Lab::start_unasked(PLAIN).await;
    let unknown = Err(ResponseCode::NXDomain);
    assert!(names::lookup(lab.dns, "good.test").await.is_ok());
    for _ in 0..2 {
        assert_eq!(names::lookup(lab.dns, "maybe.test").await, unknown);
    }
    let denied = lab.one_denial("maybe");
    assert_eq!(
        denied.reason,
        "nobody could be asked (asked because: first contact)"
    );
    assert_eq!(lab.supervisor.asks(), 0, "no question, no answer");
    lab.supervisor.cover();
    assert!(names::lookup(lab.dns, "maybe.test").await.is_ok());
}

#[tokio::test]
async fn unknown_names_do_not_exist_and_are_one_event_per_program() {
    let server = NameServer::start(|_, _| panic!("no query may leave")).await;
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    let lab = Lab::start_on(PLAIN, host).await;
    for _ in 0..3 {
        let answer = names::lookup(lab.dns, "secret-abc.evil.test").await;
        assert_eq!(answer, Err(ResponseCode::NXDomain));
    }
    let denied = lab.decisions(Verdict::Deny);
    assert_eq!(denied.len(), 1, "{denied:#?}");
    assert_eq!(
        denied[0].target.host.as_deref(),
        Some("secret-abc.evil.test")
    );
    assert_eq!(denied[0].subject.exe.as_bytes(), b"/usr/bin/curl");
    // Each distinct name is an event of its own, whatever the type of record.
    for i in 0..5 {
        names::ask(lab.dns, &format!("n{i}.evil.test."), RecordType::TXT).await;
    }
    assert_eq!(lab.decisions(Verdict::Deny).len(), 6);
    // The positive control: a known name resolves, and still nothing was sent to a server.
    assert!(names::lookup(lab.dns, "good.test").await.is_ok());
    assert_eq!(server.asked(), []);
}

/// A resolver of the session before name servers that know services and texts.
async fn services() -> (Lab, NameServer) {
    let policy = format!(
        "{PLAIN}[[allow]]\nid = \"paths\"\nwhat = \"net\"\nhosts = [\"paths.test\"]\npaths = [\"/x\"]\n\
         [[allow]]\nid = \"other\"\nwhat = \"net\"\nhosts = [\"other.test\"]\nprograms = [\"/usr/bin/other\"]\n\
         [[allow]]\nid = \"own\"\nwhat = \"net\"\nhosts = [\"fixed.test\"]\nprivate = true\n\
         [network.hosts]\n\"fixed.test\" = \"10.0.0.7\"\n"
    );
    let server = NameServer::start(|_, _| panic!("no address is asked for")).await;
    let srv = |target: &str| RData::SRV(SRV::new(0, 5, 27017, Name::from_ascii(target).unwrap()));
    let text = |text: &str| RData::TXT(TXT::new(vec![text.to_owned()]));
    let long = "x".repeat(250);
    let known = [
        ("_mongodb._tcp.good.test.", srv("db1.good.test.")),
        ("_mongodb._tcp.good.test.", srv("db2.evil.test.")),
        ("good.test.", text("authSource=admin")),
        ("_xmpp-client._tcp.a.wide.test.", srv("a.wide.test.")),
    ];
    let big = (0..20).map(|_| ("big.wide.test.", text(&long)));
    let all = known.into_iter().chain(big);
    let all = all.map(|(name, data)| (name.to_owned(), data));
    server.records.lock().unwrap().extend(all);
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    (Lab::start_on(&policy, host).await, server)
}

/// Where services of an allowed name are, and what it says of itself, is asked outside, and recorded
/// under the whole name; what an answer names is judged when it is looked up.
#[tokio::test]
async fn services_and_texts_of_allowed_names_are_found() {
    let (lab, server) = services().await;
    let ask = |name: &'static str, kind| names::ask(lab.dns, name, kind);
    let found = ask("_mongodb._tcp.good.test.", RecordType::SRV).await;
    let targets: Vec<String> = found.answers.iter().map(|r| r.data.to_string()).collect();
    assert_eq!(
        targets,
        ["0 5 27017 db1.good.test.", "0 5 27017 db2.evil.test."]
    );
    let target = names::lookup(lab.dns, "db2.evil.test").await;
    assert_eq!(target, Err(ResponseCode::NXDomain));
    for (name, kind) in [
        ("good.test.", RecordType::TXT),
        ("_xmpp-client._tcp.a.wide.test.", RecordType::SRV),
    ] {
        assert_eq!(ask(name, kind).await.answers.len(), 1, "{name}");
    }
    // Too long for a datagram.
    let found = ask("big.wide.test.", RecordType::TXT).await;
    assert!(
        found.metadata.truncation && found.answers.is_empty(),
        "{found:?}"
    );
    let mut stream = TcpStream::connect(lab.dns_tcp).await.unwrap();
    let found = names::ask_stream(&mut stream, "big.wide.test.", RecordType::TXT).await;
    assert_eq!(found.answers.len(), 20);
    let allowed = lab.decisions(Verdict::Allow);
    let service = Some("_mongodb._tcp.good.test");
    assert!(
        allowed.iter().any(|d| d.target.host.as_deref() == service),
        "{allowed:#?}"
    );
    // The number of names that leave is bounded.
    for number in 0..300 {
        let name = format!("_s{number}._tcp.good.test.");
        names::ask(lab.dns, &name, RecordType::SRV).await;
    }
    let names: std::collections::BTreeSet<_> =
        server.asked().into_iter().map(|asked| asked.0).collect();
    assert_eq!(names.len(), 256);
}

/// What is only asked about, has conditions, is another program's, is fixed, or is no name of that kind
/// is asked nowhere: no text of a session leaves with it.
#[tokio::test]
async fn no_other_name_leaves_for_a_service_or_a_text() {
    let (lab, server) = services().await;
    for (name, kind) in [
        ("_mongodb._tcp.maybe.test.", RecordType::SRV),
        ("maybe.test.", RecordType::TXT),
        ("_mongodb._tcp.evil.test.", RecordType::SRV),
        ("secret.evil.test.", RecordType::TXT),
        ("paths.test.", RecordType::TXT),
        ("other.test.", RecordType::TXT),
        ("fixed.test.", RecordType::TXT),
        ("_mongodb._tcp.fixed.test.", RecordType::SRV),
        ("secret._tcp.good.test.", RecordType::SRV),
        ("_secret._other.good.test.", RecordType::SRV),
        ("_longer-than-any-service._tcp.good.test.", RecordType::SRV),
        ("_secret._mongodb._tcp.good.test.", RecordType::SRV),
        ("_tcp.good.test.", RecordType::SRV),
        ("_secret.good.test.", RecordType::TXT),
        ("good.test.", RecordType::HTTPS),
        ("good.test.", RecordType::NULL),
    ] {
        let answer = names::ask(lab.dns, name, kind).await;
        assert!(answer.answers.is_empty(), "{name} {kind}: {answer:?}");
    }
    assert_eq!(server.asked(), []);
    let denied = lab.decisions(Verdict::Deny);
    let is_denied = |name: &str| {
        denied
            .iter()
            .any(|d| d.target.host.as_deref() == Some(name))
    };
    assert!(is_denied("_mongodb._tcp.evil.test") && is_denied("_secret.good.test"));
    // The control: the same server is asked for what is allowed.
    let found = names::ask(lab.dns, "good.test.", RecordType::TXT).await;
    assert_eq!((found.answers.len(), server.asked().len()), (1, 1));
}

#[tokio::test]
async fn a_flood_of_one_query_is_counted() {
    let lab = Lab::start(PLAIN).await;
    for _ in 0..=1000 {
        names::ask(lab.dns, "evil.test.", RecordType::A).await;
    }
    let lost: Vec<u64> = lab
        .supervisor
        .events()
        .iter()
        .filter_map(|e| {
            if let Event::EventsLost { count, .. } = e {
                Some(*count)
            } else {
                None
            }
        })
        .collect();
    // Together they are what was not recorded, each once.
    assert_eq!(lost, [100, 900]);
    assert_eq!(lab.decisions(Verdict::Deny).len(), 1);
}

#[tokio::test]
async fn special_names_stay_inside() {
    let lab = Lab::start("[network.hosts]\n\"printer.local\" = \"192.168.7.7\"\n\
                          [[ask]]\nid = \"any\"\nwhat = \"net\"\nhosts = [\"**\"]\nreason = \"?\"\n")
    .await;
    let localhost = names::lookup(lab.dns, "localhost").await;
    assert_eq!(localhost, Ok("127.0.0.1".parse().unwrap()));
    assert_eq!(names::lookup(lab.dns, "a.localhost").await, localhost);
    for name in [
        "intranet",
        "nas.local",
        "x.onion",
        "x.invalid",
        "1.0.18.198.in-addr.arpa",
    ] {
        assert_eq!(
            names::lookup(lab.dns, name).await,
            Err(ResponseCode::NXDomain),
            "{name}"
        );
    }
    assert_eq!(lab.decisions(Verdict::Deny).len(), 5);
    for name in ["metadata.google.internal", "metadata.goog"] {
        assert_eq!(
            names::lookup(lab.dns, name).await,
            Err(ResponseCode::NXDomain),
            "{name}"
        );
    }
    // The controls: a name with a fixed address and an ordinary one.
    assert!(names::lookup(lab.dns, "printer.local").await.is_ok());
    assert!(names::lookup(lab.dns, "ordinary.test").await.is_ok());
}

#[tokio::test]
async fn bytes_that_are_no_name_are_refused_and_shown() {
    let lab = Lab::start(PLAIN).await;
    let mut bytes = names::query("xgood.test.", RecordType::A);
    let at = bytes.windows(5).position(|w| w == b"xgood").unwrap();
    bytes[at] = 0xff;
    let answer = names::ask_bytes(lab.dns, &bytes).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let record = lab.one_denial("not-a-host-name");
    // The record that went to the journal shows what was asked for, escaped.
    assert_eq!(record.target.host.as_deref(), Some("\\xffgood.test"));
    assert_eq!(
        answer.queries[0].name().iter().next(),
        Some(&b"\xffgood"[..])
    );
    assert!(Name::from_ascii("good.test.").is_ok());
}

#[tokio::test]
async fn tcp_queries_are_answered_in_turn() {
    let lab = Lab::start(PLAIN).await;
    let mut stream = TcpStream::connect(lab.dns_tcp).await.unwrap();
    let good = names::ask_stream(&mut stream, "good.test.", RecordType::A).await;
    assert_eq!(addresses(&good)[0].to_string(), "198.18.0.1");
    let evil = names::ask_stream(&mut stream, "evil.test.", RecordType::A).await;
    assert_eq!(evil.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(lab.decisions(Verdict::Deny).len(), 1);
}

#[tokio::test]
async fn without_a_journal_no_name_resolves() {
    let lab = Lab::start(PLAIN).await;
    assert!(names::lookup(lab.dns, "good.test").await.is_ok());
    lab.supervisor.fail_journal();
    assert_eq!(
        names::lookup(lab.dns, "a.wide.test").await,
        Err(ResponseCode::ServFail)
    );
}

#[tokio::test]
async fn names_are_refused_with_their_event_where_nobody_knows_who_asks() {
    let lab = Lab::start(PLAIN).await;
    lab.supervisor.fail_attribution();
    assert!(names::lookup(lab.dns, "good.test").await.is_ok());
    assert_eq!(
        names::lookup(lab.dns, "unknown.test").await,
        Err(ResponseCode::NXDomain)
    );
    let denied = lab.decisions(Verdict::Deny);
    assert_eq!(denied.len(), 1, "{denied:#?}");
    assert_eq!(denied[0].subject, Subject::default());
}

fn script(addresses: &[&str]) -> Script {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Script {
        addresses,
        truncate: false,
    }
}

fn resolved_rule(port: u16, private: bool) -> String {
    format!(
        "[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [{port}]\n\
         private = {private}\nreason = \"the laboratory\"\n"
    )
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn private_results_are_dropped_unless_the_rule_takes_them() {
    let web = Server::http().await;
    let server = NameServer::start(|_, _| script(&["127.0.0.1", "10.0.0.1", "::1"])).await;
    let host = || Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    let lab = Lab::start_on(&resolved_rule(web.port, false), host()).await;
    let answer = lab.exchange("good.test", web.port, GET).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 403 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    lab.one_denial("private-address");
    assert_eq!(web.connections(), 0);
    let lab = Lab::start_on(&resolved_rule(web.port, true), host()).await;
    let answer = lab.exchange("good.test", web.port, GET).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(web.connections(), 1);
}

#[tokio::test]
async fn metadata_is_never_reached() {
    let server = NameServer::start(|_, _| script(&["169.254.169.254", "fd00:ec2::254"])).await;
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![("listed.test", "169.254.170.2")],
    };
    let policy = "[[allow]]\nid = \"lab\"\nwhat = \"net\"\n\
                  hosts = [\"listed.test\", \"asked.test\"]\nprivate = true\n\
                  reason = \"even so\"\n";
    let lab = Lab::start_on(policy, host).await;
    for name in ["listed.test", "asked.test"] {
        let get = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        let answer = lab.exchange(name, 80, get.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 403 "), "{name}");
    }
    let client = lab
        .connect_address("169.254.169.254".parse().unwrap(), 80)
        .await;
    lab::assert_reset(client).await;
    let rules: Vec<String> = lab
        .decisions(Verdict::Deny)
        .iter()
        .map(|decision| {
            decision
                .rule
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
        })
        .collect();
    assert_eq!(rules, ["never-reached", "never-reached", "metadata"]);
}

/// DNS rebinding (attack N12): each connection dials exactly what its one resolution said.
#[tokio::test]
async fn the_checked_address_is_the_one_that_is_dialled() {
    let good = Server::http().await;
    let evil = Server::start_at(&format!("127.0.0.2:{}", good.port), |_, _| {
        std::future::ready(())
    })
    .await;
    let flips = |_: &str, before: usize| script(&[["127.0.0.1", "127.0.0.2"][before % 2]]);
    let server = NameServer::start(flips).await;
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    let lab = Lab::start_on(&resolved_rule(good.port, true), host).await;
    let answer = lab.exchange("good.test", good.port, GET).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!((good.connections(), evil.connections()), (1, 0));
    let asked = server
        .asked()
        .iter()
        .filter(|(_, kind)| *kind == RecordType::A)
        .count();
    assert_eq!(asked, 1, "resolved once, then pinned");
    let recorded: Vec<IpAddr> = lab
        .supervisor
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::ConnectionDecided { address, .. } => *address,
            _ => None,
        })
        .collect();
    assert_eq!(recorded, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    lab.exchange("good.test", good.port, GET).await;
    assert_eq!(
        (good.connections(), evil.connections()),
        (1, 1),
        "the control: it did flip"
    );
}

#[tokio::test]
async fn truncated_answers_are_fetched_over_tcp_and_the_hosts_file_comes_first() {
    let web = Server::http().await;
    let server = NameServer::start(|_, _| Script {
        addresses: vec!["127.0.0.1".parse().unwrap()],
        truncate: true,
    })
    .await;
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    let lab = Lab::start_on(&resolved_rule(web.port, true), host).await;
    let answer = lab.exchange("good.test", web.port, GET).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let before = server.asked().len();
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![("good.test", "127.0.0.1")],
    };
    let lab = Lab::start_on(&resolved_rule(web.port, true), host).await;
    let answer = lab.exchange("good.test", web.port, GET).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(server.asked().len(), before);
}

#[tokio::test]
async fn names_that_do_not_resolve_are_a_bad_gateway_not_a_denial() {
    let server = NameServer::start(|_, _| script(&[])).await;
    let host = Host {
        resolvers: vec![server.address],
        hosts_file: vec![],
    };
    let lab = Lab::start_on(&resolved_rule(80, false), host).await;
    let answer = lab.exchange("good.test", 80, GET).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 502 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(String::from_utf8_lossy(&answer).contains("has no address"));
    assert!(lab.decisions(Verdict::Deny).is_empty());
}

#[tokio::test]
async fn addresses_without_a_name_are_refused() {
    let echo = Server::echo().await;
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    lab::assert_reset(
        lab.connect_address("198.18.7.7".parse().unwrap(), echo.port)
            .await,
    )
    .await;
    lab.one_denial("unknown-address");
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    lab::assert_reset(
        lab.connect_address("127.0.0.1".parse().unwrap(), echo.port)
            .await,
    )
    .await;
    lab.one_denial("loopback");
    let lab = Lab::start(&allow("good.test", echo.port)).await;
    lab::assert_reset(TcpStream::connect(lab.direct).await.unwrap()).await;
    let record = lab.one_denial("loopback");
    assert_eq!(record.target.port, Some(lab.direct.port()));
    assert_eq!(echo.connections(), 0);
}
