//! The fold behind `show`, `sessions` and the end of a run.

use std::collections::BTreeSet;

use stockade_event::{Envelope, Event, SCHEMA_VERSION, SessionOutcome, Summary, Tally, catalogue};
use stockade_types::{
    Access, Answerer, ApprovalId, Circumstance, Digest, Person, UnixMillis, Verdict,
};

use super::common::{decision, every_kind, hostile, session, stamp, subject};

fn envelope(seq: u64, event: Event) -> Envelope {
    Envelope {
        v: SCHEMA_VERSION,
        session: session(),
        seq,
        time_unix_ns: stamp(seq).time_unix_ns,
        mono_ns: 0,
        source: "supervisor".to_owned(),
        process: None,
        cause: None,
        scope: Some(format!("c-{}", seq % 3)),
        truncated: vec![],
        event,
    }
}

fn requested(number: u32) -> Event {
    Event::ApprovalRequested {
        approval: ApprovalId::from_random(number),
        decision: decision(&"x".into(), u64::from(number), Verdict::Ask),
        shown: String::new(),
        request_digest: Digest::of(b"r"),
        expires: UnixMillis(0),
    }
}

fn answered(number: u32, verdict: Verdict, by: impl Into<Answerer>, reason: Option<&str>) -> Event {
    Event::ApprovalDecided {
        approval: ApprovalId::from_random(number),
        verdict,
        scope: None,
        by: by.into(),
        reason: reason.map(str::to_owned),
        statement: None,
    }
}

#[test]
fn one_of_each_kind_adds_up() {
    let envelopes: Vec<_> = (1..)
        .zip(every_kind(&"x".into()))
        .map(|(seq, event)| envelope(seq, event))
        .collect();
    let summary = Summary::of(&envelopes);
    assert_eq!(summary.session, Some(session()));
    assert_eq!(summary.outcome, Some(SessionOutcome::Exited { code: 0 }));
    assert_eq!(summary.duration_ms, Some(840_000));
    assert_eq!(summary.processes, 1);
    assert_eq!(summary.commands, 1);
    assert_eq!(
        (summary.asked, summary.asks_allowed, summary.asks_denied),
        (1, 0, 1)
    );
    assert_eq!(summary.changed_files.len(), 1);
    assert_eq!(summary.connections["model.test:443"].bytes_in, 7);
    assert_eq!(summary.weaknesses.len(), 1);
    assert_eq!(summary.events_lost, 3);
    // All denials of the sample have the same target and rule, and so has the ask.
    assert_eq!(summary.refused.len(), 1);
    assert_eq!(summary.refused[0].count, 6);
    assert!(summary.open_asks.is_empty());
    let json = serde_json::to_string(&summary).unwrap();
    // Fields that only serve to add more events are not stored.
    let kept = Summary {
        refused_by: std::collections::BTreeMap::new(),
        ..summary
    };
    assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), kept);
}

#[test]
fn the_summary_and_the_end_of_the_journal_count_the_same() {
    let events = every_kind(&"x".into()).into_iter();
    let events: Vec<_> = events.clone().chain(events).collect();
    let mut tally = Tally::default();
    let mut summary = Summary::default();
    for (event, seq) in events.into_iter().zip(1..) {
        tally.add(None, &event);
        summary.add(&envelope(seq, event));
    }
    let counts = tally.counts();
    assert_eq!(
        [
            counts.processes,
            counts.unconfirmed,
            counts.asks,
            counts.events_lost
        ],
        [
            summary.processes,
            summary.unconfirmed,
            summary.asked,
            summary.events_lost
        ]
    );
    assert!(counts.processes > 0 && counts.unconfirmed > 0);
    assert!(counts.asks > 0 && counts.events_lost > 0);
}

#[test]
fn an_ask_that_was_denied_is_refused_once_with_the_answer() {
    let mut summary = Summary::default();
    let events = [
        requested(1),
        answered(
            1,
            Verdict::Deny,
            Person::Terminal,
            Some("open a PR instead"),
        ),
        // The same decision, now final.
        Event::HttpDecided {
            decision: decision(&"x".into(), 1, Verdict::Deny),
        },
        requested(2),
        answered(2, Verdict::Allow, Person::Terminal, None),
        requested(3),
        answered(3, Verdict::Deny, Circumstance::Timeout, None),
        requested(4),
    ];
    for (event, seq) in events.into_iter().zip(1..) {
        summary.add(&envelope(seq, event));
    }
    assert_eq!(
        (summary.asked, summary.asks_allowed, summary.asks_denied),
        (4, 1, 2)
    );
    assert_eq!(summary.open_asks.len(), 1);
    assert_eq!(summary.denials(), 2);
    assert_eq!(summary.refused.len(), 1);
    assert_eq!(summary.refused[0].answered.as_deref(), Some("timeout"));
    assert_eq!(
        summary.refused[0].rule.as_ref().unwrap().as_str(),
        "paste-sites"
    );
}

#[test]
fn only_commands_that_ran_are_counted() {
    let mut summary = Summary::default();
    let started = Event::ProcessStarted {
        process: subject(&"x".into()),
        digest: None,
        interpreter: None,
    };
    let refused = Event::ExecDecided {
        decision: decision(&"x".into(), 1, Verdict::Deny),
    };
    for (event, scope) in [(started.clone(), 0), (started, 0), (refused, 1)] {
        summary.add(&envelope(scope, event));
    }
    assert_eq!((summary.processes, summary.commands), (2, 1));
    // The supervisor also counts commands that it refused.
    summary.add(&envelope(
        2,
        Event::SessionEnded {
            outcome: SessionOutcome::Exited { code: 0 },
            duration_ms: 1,
            counts: stockade_event::Counts {
                processes: 3,
                commands: 70,
                ..Default::default()
            },
            own_usage: None,
        },
    ));
    assert_eq!((summary.processes, summary.commands), (2, 1));
}

#[test]
fn an_ask_that_nobody_saw_says_why() {
    let mut summary = Summary::default();
    let mut denied = decision(&"x".into(), 1, Verdict::Deny);
    denied.answered = Some(Circumstance::Desk.into());
    denied.reason = "too many questions are open".to_owned();
    summary.add(&envelope(1, Event::ExecDecided { decision: denied }));
    assert_eq!(
        summary.refused[0].answered.as_deref(),
        Some("desk: too many questions are open")
    );
}

#[test]
fn a_flood_stays_bounded_and_counted() {
    let mut summary = Summary::default();
    for number in 0..20_000_u32 {
        let seq = u64::from(number);
        summary.add(&envelope(
            seq,
            Event::FileChanged {
                path: number.to_string().as_str().into(),
                access: Access::Write,
                by: subject(&"x".into()),
                decision: None,
            },
        ));
        let mut denied = decision(&"x".into(), seq, Verdict::Deny);
        denied.target.host = Some(format!("h{number}.test"));
        summary.add(&envelope(seq, Event::NameDecided { decision: denied }));
        summary.add(&envelope(seq, requested(number)));
    }
    assert_eq!(summary.changed_files.len(), 10_000);
    assert_eq!(summary.changed_files_more, 10_000);
    assert_eq!(summary.denials(), 20_000);
    assert!(summary.refused.len() <= 256);
    assert_eq!(summary.asked, 20_000);
    assert_eq!(summary.open_asks.len(), 10_000);
}

#[test]
fn every_kind_has_a_line_that_commands_no_terminal() {
    let samples = every_kind(&hostile());
    let kinds: BTreeSet<_> = samples.iter().map(Event::kind).collect();
    assert_eq!(kinds.len(), catalogue().len());
    for event in samples {
        let line = event.line();
        assert!(!line.is_empty(), "{}", event.kind());
        let bad = line
            .chars()
            .find(|c| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}'));
        assert_eq!(bad, None, "{}: {line}", event.kind());
    }
}
