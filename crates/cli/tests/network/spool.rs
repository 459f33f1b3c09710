//! What is allowed takes effect at once, and is in the record all the same.

use std::{collections::HashSet, time::Duration};

use stockade_testkit::{
    TestEnv,
    events::{self, Event},
    lab::HttpServer,
    processes,
    run::Run,
};

use crate::network::{allowed, for_each_user};

/// More than are journaled one by one, and more than one lease.
const MANY: usize = 600;
/// How long the slowest machine needs for them.
const WAIT: Duration = Duration::from_mins(1);

/// Asks for `/1`, `/2` and so on by one connection.
const CLIENT: &str = "import http.client, sys\n\
    port, count = int(sys.argv[1]), int(sys.argv[2])\n\
    one = http.client.HTTPConnection('good.test', port, timeout=20)\n\
    for number in range(1, count + 1):\n    \
        one.request('GET', f'/{number}')\n    \
        assert one.getresponse().read() == b'lab\\n'\n";

/// Prepares a session that sends `count` requests to `server`.
fn session(env: &TestEnv, server: &HttpServer, count: usize) -> Run {
    let port = server.port();
    let policy = allowed(env, &["good.test"], &[port]);
    let repo = env.repo();
    env.write(repo.path().join("client.py"), CLIENT);
    env.session_with(repo.path(), &["--ask", "deny"])
        .args(&policy)
        .line(format!("python3 client.py {port} {count}"))
}

/// The paths of the allowed requests.
fn let_through(record: &[Event]) -> Vec<String> {
    record
        .iter()
        .filter(|event| event.kind() == "http.decided" && event.verdict() == "allow")
        .filter_map(|event| Some(event.json.pointer("/target/path")?.as_str()?.to_owned()))
        .collect()
}

#[test]
fn every_request_is_recorded_once_and_before_the_end_of_its_connection() {
    for_each_user(|env| {
        let server = HttpServer::start();
        let output = session(env, &server, MANY).output();
        assert_eq!(output.code(), 0, "{output:?}");
        let record = env.record();
        let expected: Vec<String> = (1..=MANY).map(|number| format!("/{number}")).collect();
        assert!(
            let_through(&record) == expected,
            "{}",
            events::summary(&record)
        );
        let numbers: HashSet<&str> = record
            .iter()
            .filter(|event| event.kind().ends_with(".decided"))
            .map(|event| event.field("decision"))
            .collect();
        let decided = record
            .iter()
            .filter(|event| event.kind().ends_with(".decided"));
        assert_eq!(numbers.len(), decided.count(), "a number is there twice");
        let last = |kind: &str| record.iter().rposition(|event| event.kind() == kind);
        assert!(last("http.decided") < last("connection.closed"));
        env.stockade()
            .args(["log", "verify", &env.session_id()])
            .success()
            .assert_stdout("intact");
    });
}

#[test]
fn a_killed_supervisor_loses_no_request_that_left() {
    for_each_user(|env| {
        let server = HttpServer::start();
        let running = session(env, &server, 1_000_000).spawn();
        server.wait_for(MANY, WAIT);
        processes::kill(running.pid());
        running.wait();
        let left: Vec<String> = server
            .requests()
            .iter()
            .map(|request| request.path().to_owned())
            .collect();
        assert!(left.len() >= MANY);
        let id = env.session_id();
        let record = env.events_of_killed(&id);
        let recorded = let_through(&record);
        assert!(
            recorded.starts_with(&left),
            "{} of {}",
            recorded.len(),
            left.len()
        );
        assert!(recorded.len() <= left.len() + 1, "{}", recorded.len());
        let verified = env.stockade().args(["log", "verify", &id]).output();
        verified.assert_stdout("unfinished: no closing signature");
    });
}
