//! Writes an invented session of so many decisions and replays it: `measure DECISIONS`. Prints the time of the
//! replay and the memory of this process.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a broken measurement must end the program"
)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use stockade_event::{Durability, Event, Stamp};
use stockade_journal::{Entry, Followed, Journal, Position, SigningKey, follow};
use stockade_policy::{
    Approvals, ExecRequest, FileRequest, HostSets, HttpRequest, NetRequest, Origin, Policy,
    Request, Source, builtin, load,
};
use stockade_replay::Replay;
use stockade_types::{
    Access, DecisionId, Digest, Port, ProcessId, SessionId, Subject, UnixMillis, Verdict,
};

const WORKSPACE: &str = "/home/u/src/shop";
const OWN: &str = "schema = 1\n[[deny]]\nid = \"paste\"\nwhat = \"net\"\nhosts = [\"**.paste.test\"]\n\
                   [[allow]]\nid = \"reads\"\nwhat = \"net\"\nhosts = [\"**.reads.test\"]\nmethods = [\"GET\"]\n\
                   [[ask]]\nid = \"deploy\"\nwhat = \"file\"\npaths = [\"deploy/**\"]\n";

fn request(number: u64) -> Request {
    let subject = Subject {
        id: Some(ProcessId {
            pid: u32::try_from(number % 4_000).expect("small"),
            start: number,
        }),
        exe: "/usr/bin/curl".into(),
        argv: vec!["curl".into(), "-sS".into()].into(),
        cwd: WORKSPACE.into(),
        ..Subject::default()
    };
    let host = format!(
        "h{}.{}.test",
        number % 97,
        match number % 3 {
            0 => "reads",
            1 => "paste",
            _ => "new",
        }
    );
    let (host, port) = (
        host.parse().expect("a host"),
        Port::new(443).expect("a port"),
    );
    match number % 4 {
        0 => Request::Net(NetRequest {
            host,
            port,
            subject,
        }),
        1 => Request::Http(HttpRequest {
            host,
            port,
            method: "GET".to_owned(),
            path: format!("/v1/items/{number}").as_str().into(),
            meaning: Vec::new(),
            shown: None,
            subject,
        }),
        2 => Request::File(FileRequest {
            path: format!("{WORKSPACE}/src/part-{}.rs", number % 1_000)
                .as_str()
                .into(),
            workspace_relative: None,
            access: Access::Write,
            content: None,
            subject,
        }),
        _ => Request::Exec(ExecRequest {
            program: "/usr/bin/cargo".into(),
            invoked_as: "/usr/bin/cargo".into(),
            argv: vec![
                "cargo".into(),
                "test".into(),
                format!("part-{number}").as_str().into(),
            ],
            cwd: WORKSPACE.into(),
            subject,
            ..ExecRequest::default()
        }),
    }
}

fn main() {
    let word = std::env::args().nth(1);
    let wanted: u64 = word.and_then(|word| word.parse().ok()).expect("a number");
    let source = |origin, name: &str, text: &str| Source {
        origin,
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let preset = builtin("coding-agent").expect("a preset");
    let sources = [
        source(Origin::Builtin, "coding-agent", preset),
        source(Origin::User, "own.toml", OWN),
    ];
    let policy = load(&sources, &HostSets::default()).expect("a policy");
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), &policy, wanted);
    let begun = Instant::now();
    let mut replay = Replay::new();
    let mut session = replay.session(&policy, None);
    let mut follower = follow(dir.path(), Position::START, Duration::ZERO).expect("a journal");
    while let Followed::Event(envelope) = follower.next(Duration::ZERO).expect("events") {
        session.take(&envelope);
    }
    session.end();
    let report = replay.report();
    let took = begun.elapsed();
    let status = fs::read_to_string("/proc/self/status").expect("proc(5)");
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    println!(
        "{} decisions in {:.1} s, {} exact, {} groups; {peak}",
        report.decisions,
        took.as_secs_f64(),
        report.exact,
        report.groups.len()
    );
}

/// Writes the journal.
fn write(dir: &Path, policy: &Policy, wanted: u64) {
    let session = SessionId::from_random(1);
    let key = SigningKey::load_or_create(&dir.join("key")).expect("a key");
    let mut journal = Journal::create(dir, session.clone(), key).expect("a journal");
    for number in 0..wanted {
        let request = request(number);
        let mut decision = policy.decide(&request, &Approvals::none());
        decision.verdict = if number % 5 == 0 {
            Verdict::Deny
        } else {
            Verdict::Allow
        };
        let record = decision.record(
            DecisionId::new(number),
            &request,
            Digest::of(b"p"),
            session.clone(),
            UnixMillis(0),
        );
        let event = match request {
            Request::Net(_) => Event::ConnectionDecided {
                decision: record,
                address: None,
                sni: None,
                detail: None,
            },
            Request::Http(_) => Event::HttpDecided { decision: record },
            Request::File(file) => Event::FileChanged {
                path: file.path,
                access: file.access,
                by: file.subject,
                decision: None,
            },
            _ => Event::ExecDecided { decision: record },
        };
        let stamp = Stamp {
            time_unix_ns: number,
            mono_ns: number,
        };
        let entry = Entry {
            process: None,
            scope: None,
            cause: None,
            event: &event,
        };
        journal
            .append_all(stamp, "supervisor", &[entry], Durability::Written)
            .expect("room");
    }
}
