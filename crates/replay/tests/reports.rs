//! What reports say, and how large they become.

use stockade_event::{Event, Truncated};
use stockade_policy::{ExecRequest, HttpRequest, NetRequest, Request};
use stockade_replay::{Missing, Outcome, Replay, Report};
use stockade_types::{Digest, Host, Port, ProcessId, Subject, Verdict};

use crate::invented::{Recorder, policy};

fn replay(recorder: &Recorder, text: &str) -> Report {
    let policy = policy(text);
    let mut replay = Replay::new();
    let mut session = replay.session(&policy, None);
    for event in &recorder.events {
        session.take(event);
    }
    session.end();
    replay.report()
}

fn exec(line: &str, pid: u32) -> Request {
    let argv: Vec<_> = line.split(' ').map(Into::into).collect();
    let program = format!("/usr/bin/{}", line.split(' ').next().unwrap());
    Request::Exec(ExecRequest {
        program: program.as_str().into(),
        invoked_as: program.as_str().into(),
        argv,
        cwd: "/home/u/src/shop".into(),
        subject: Subject {
            id: Some(ProcessId { pid, start: 1 }),
            ..Subject::default()
        },
        ..ExecRequest::default()
    })
}

fn net(host: &str) -> NetRequest {
    NetRequest {
        host: host.parse::<Host>().unwrap(),
        port: Port::new(443).unwrap(),
        subject: Subject {
            exe: "/usr/bin/curl".into(),
            ..Subject::default()
        },
    }
}

const PUBLISH: &str =
    "[[deny]]\nid = \"publish\"\nwhat = \"exec\"\ncommand = [\"make\", \"release\", \"**\"]\n";

#[test]
fn a_group_names_rules_targets_and_events() {
    let mut recorder = Recorder::new();
    for pid in 0..5 {
        recorder.record(&policy(""), &exec("make release", pid), true);
        recorder.record(&policy(""), &exec("make test", 100 + pid), true);
    }
    let report = replay(&recorder, PUBLISH);
    let denied: Vec<_> = report
        .groups
        .iter()
        .filter(|one| one.outcome == Outcome::NewlyDenied)
        .collect();
    assert_eq!(denied.len(), 1, "{report:#?}");
    assert_eq!(
        (denied[0].count, denied[0].target.as_deref()),
        (5, Some("make release"))
    );
    assert_eq!(
        denied[0].proposed_rule.as_ref().unwrap().to_string(),
        "publish"
    );
    assert_eq!(denied[0].examples.len(), 3);
    assert_eq!(denied[0].examples[0].seq, 2);
    assert_eq!(denied[0].inexact, None);
    assert_eq!(report.outcomes["unchanged"], 5);
    // The other direction: what was denied would be allowed.
    let mut recorder = Recorder::new();
    recorder.record(&policy(PUBLISH), &exec("make release", 1), true);
    let report = replay(&recorder, "");
    assert_eq!(report.groups[0].outcome, Outcome::NewlyAllowed);
    // Its interpreter is not known: nothing started.
    assert_eq!(report.groups[0].inexact, Some(Missing::Interpreter));
}

#[test]
fn what_the_record_lacks_is_named() {
    let missing = |recorder: &Recorder, text: &str| {
        let report = replay(recorder, text);
        report
            .groups
            .iter()
            .map(|group| group.inexact)
            .collect::<Vec<_>>()
    };
    let mut recorder = Recorder::new();
    recorder.record(&policy(""), &exec("make all", 1), true);
    let by_variable = "[[deny]]\nid = \"m\"\nwhat = \"exec\"\ncommand = [\"make\", \"**\"]\nenvironment = [\"CI\"]\n";
    assert_eq!(missing(&recorder, ""), [None]);
    assert!(missing(&recorder, by_variable)[0].is_some());
    // A script: its interpreter is judged as well.
    let mut script = Recorder::new();
    script.record(&policy(""), &exec("make all", 1), true);
    for envelope in &mut script.events {
        if let Event::ProcessStarted { interpreter, .. } = &mut envelope.event {
            *interpreter = Some("/bin/sh".into());
        }
    }
    assert_eq!(missing(&script, ""), [Some(Missing::Interpreter)]);
    // A deny is certain without.
    let deny = "[[deny]]\nid = \"m\"\nwhat = \"exec\"\ncommand = [\"make\", \"**\"]\n";
    assert_eq!(missing(&script, deny), [None]);
    // A secret in an argument is hidden.
    let mut hidden = Recorder::new();
    hidden.record(
        &policy(""),
        &exec("make KEY=[github-token:5f0c9a11]", 1),
        true,
    );
    assert!(missing(&hidden, "")[0].is_some());
    // A part of the record was cut.
    let mut cut = Recorder::new();
    cut.record(&policy(""), &exec("make all", 1), true);
    let last = cut.events.len() - 2;
    cut.events[last].truncated = vec![Truncated {
        field: "decision.target.argv".to_owned(),
        size: 1,
        digest: Digest::of(b""),
    }];
    assert_eq!(missing(&cut, ""), [Some(Missing::Cut)]);
}

#[test]
fn requests_that_nothing_looked_at_are_not_called_unchanged() {
    let allow = "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\n";
    let reads =
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nmethods = [\"GET\"]\n";
    let mut recorder = Recorder::new();
    recorder.record(&policy(allow), &Request::Net(net("a.test")), true);
    let report = replay(&recorder, reads);
    assert_eq!(
        report.groups[0].inexact,
        Some(Missing::Requests),
        "{report:#?}"
    );
    // With its requests in the record each of them is judged, and the connection is as it was.
    let post = HttpRequest {
        host: "a.test".parse().unwrap(),
        port: Port::new(443).unwrap(),
        method: "POST".to_owned(),
        path: "/".into(),
        meaning: Vec::new(),
        shown: None,
        subject: net("a.test").subject,
    };
    recorder.record(&policy(allow), &Request::Http(post), true);
    let report = replay(&recorder, reads);
    let outcomes: Vec<_> = report
        .groups
        .iter()
        .map(|one| (one.outcome, one.inexact))
        .collect();
    assert_eq!(
        outcomes,
        [(Outcome::NewlyAsked, None), (Outcome::Unchanged, None)]
    );
}

#[test]
fn an_address_to_which_a_name_led_counts() {
    let allow = "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\n";
    let private = format!("{allow}private = true\n");
    let mut recorder = Recorder::new();
    recorder.record(&policy(&private), &Request::Net(net("a.test")), true);
    for envelope in &mut recorder.events {
        if let Event::ConnectionDecided { address, .. } = &mut envelope.event {
            *address = Some("10.0.0.7".parse().unwrap());
        }
    }
    assert_eq!(
        replay(&recorder, allow).groups[0].outcome,
        Outcome::NewlyDenied
    );
    assert_eq!(
        replay(&recorder, &private).groups[0].outcome,
        Outcome::Unchanged
    );
    // A deny of an address holds where a name leads there.
    let mut public = Recorder::new();
    public.record(&policy(allow), &Request::Net(net("a.test")), true);
    for envelope in &mut public.events {
        if let Event::ConnectionDecided { address, .. } = &mut envelope.event {
            *address = Some("8.8.8.8".parse().unwrap());
        }
    }
    let denies = format!("{allow}[[deny]]\nid = \"d\"\nwhat = \"net\"\nhosts = [\"8.8.0.0/16\"]\n");
    assert_eq!(replay(&public, allow).groups[0].outcome, Outcome::Unchanged);
    assert_eq!(
        replay(&public, &denies).groups[0].outcome,
        Outcome::NewlyDenied
    );
}

#[test]
fn a_hostile_record_makes_no_large_report() {
    let allow = policy("[[ask]]\nid = \"q\"\nwhat = \"net\"\nhosts = [\"**\"]\n");
    let mut recorder = Recorder::new();
    for number in 0..6_000 {
        let host = format!("host-{number}-{}.test", "x".repeat(20));
        recorder.record(&allow, &Request::Net(net(&host)), true);
    }
    let report = replay(&recorder, "");
    assert!(report.groups.len() <= 3_100, "{}", report.groups.len());
    let all: u64 = report.groups.iter().map(|group| group.count).sum();
    assert_eq!((report.decisions, all), (6_000, 6_000));
    let rest = report
        .groups
        .iter()
        .find(|group| group.target.is_none())
        .unwrap();
    assert!(rest.count > 3_000, "{rest:?}");
    assert!(
        report
            .groups
            .iter()
            .all(|group| group.recorded == Verdict::Ask)
    );
}
