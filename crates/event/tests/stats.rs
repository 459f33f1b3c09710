//! The fold behind `stats`.

use stockade_event::{
    Cause, Envelope, Event, Listed, ModelUsage, SCHEMA_VERSION, Usage,
    stats::{OTHERS, Stats},
};
use stockade_types::{
    ApprovalId, Certainty, Circumstance, ClaimSource, DecisionId, Digest, Person, UnixMillis,
    Verdict,
};

use super::common::{decision, every_kind, hostile, session, subject};

const SECOND: u64 = 1_000_000_000;

fn envelope(seq: u64, call: Option<u64>, event: Event) -> Envelope {
    Envelope {
        v: SCHEMA_VERSION,
        session: session(),
        seq,
        time_unix_ns: seq * SECOND,
        mono_ns: 0,
        source: "supervisor".to_owned(),
        process: None,
        cause: call.map(|call| Cause {
            turn: None,
            call: Some(call),
            certainty: Certainty::Exact,
        }),
        scope: None,
        truncated: vec![],
        event,
    }
}

fn asked(number: u32) -> Event {
    Event::ApprovalRequested {
        approval: ApprovalId::from_random(number),
        decision: decision(&"x".into(), u64::from(number), Verdict::Ask),
        shown: String::new(),
        request_digest: Digest::of(b"r"),
        expires: UnixMillis(0),
    }
}

fn answered(number: u32, verdict: Verdict, scope: Option<&str>) -> Event {
    Event::ApprovalDecided {
        approval: ApprovalId::from_random(number),
        verdict,
        scope: scope.map(str::to_owned),
        by: Person::Terminal.into(),
        reason: None,
        statement: None,
    }
}

fn called(name: &str) -> Event {
    Event::ToolCalled {
        process: subject(&"x".into()),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(1)),
        id: "a".into(),
        name: name.into(),
        arguments: None,
    }
}

fn scope_ended(code: i32) -> Event {
    Event::ScopeEnded {
        scope: "c-1".to_owned(),
        process: subject(&"x".into()),
        processes: 1,
        code: Some(code),
        signal: None,
        duration_ms: 1,
        usage: Usage::default(),
    }
}

fn folded(events: impl IntoIterator<Item = (u64, Option<u64>, Event)>) -> Stats {
    let mut stats = Stats::default();
    for (seq, call, event) in events {
        stats.add(&envelope(seq, call, event));
    }
    stats
}

#[test]
fn answers_are_told_apart_and_timed() {
    let timeout = Event::ApprovalDecided {
        approval: ApprovalId::from_random(4),
        verdict: Verdict::Deny,
        scope: None,
        by: Circumstance::Timeout.into(),
        reason: None,
        statement: None,
    };
    let stats = folded([
        (1, None, asked(1)),
        (2, None, asked(2)),
        (3, None, answered(1, Verdict::Allow, Some("once"))),
        (4, None, asked(3)),
        (9, None, answered(2, Verdict::Allow, Some("until:99"))),
        (10, None, answered(3, Verdict::Deny, None)),
        (11, None, asked(4)),
        (99, None, timeout),
    ]);
    assert_eq!(stats.asked, 4);
    let answers: Vec<_> = stats
        .answers
        .iter()
        .map(|(how, n)| (how.as_str(), *n))
        .collect();
    assert_eq!(
        answers,
        [
            ("allowed once", 1),
            ("allowed until", 1),
            ("denied", 1),
            ("timeout", 1)
        ]
    );
    // Nobody answered the one that expired.
    assert_eq!(stats.answer_ms, [2_000, 7_000, 6_000]);
    assert_eq!(stats.median_answer_ms(), Some(6_000));
    assert_eq!(Stats::default().median_answer_ms(), None);
}

#[test]
fn what_came_of_calls_is_told_for_their_tools() {
    let denied = |number| Event::ExecDecided {
        decision: decision(&"x".into(), number, Verdict::Deny),
    };
    let stats = folded([
        (1, None, called("Bash")),
        (2, Some(1), scope_ended(0)),
        (3, None, called("Bash")),
        (4, Some(3), scope_ended(7)),
        (5, Some(3), denied(1)),
        (
            6,
            None,
            Event::RefusalRepeated {
                decision: DecisionId::new(1),
                count: 40,
            },
        ),
        // Of no call, and of one that was never made.
        (7, None, scope_ended(1)),
        (8, Some(77), denied(2)),
    ]);
    let bash = stats.tools.get("Bash").unwrap();
    assert_eq!((bash.calls, bash.failed, bash.refused), (2, 1, 1));
    assert_eq!(stats.tools.len(), 1);
    assert_eq!(stats.refused, 42);
    assert_eq!(stats.rules.values().sum::<u64>(), 42);
    assert_eq!(stats.targets.values().sum::<u64>(), 42);
}

/// It makes no difference in how many parts a session is read, and what many sessions came to is the sum.
#[test]
fn parts_and_sums_are_the_same() {
    let events: Vec<_> = every_kind(&hostile());
    let numbered = || {
        (1..)
            .zip(events.clone())
            .map(|(seq, event)| (seq, None, event))
    };
    let whole = folded(numbered());
    let mut part = Stats::default();
    for (seq, call, event) in numbered() {
        part.add(&envelope(seq, call, event));
        // As the index keeps it between two reads.
        part = serde_json::from_str(&serde_json::to_string(&part).unwrap()).unwrap();
    }
    assert_eq!(part, whole);
    assert_eq!(whole.sessions, 1);
    let mut twice = whole.clone();
    twice.merge(&whole);
    assert_eq!(twice.sessions, 2);
    assert_eq!(twice.refused, 2 * whole.refused);
    assert_eq!(twice.models.len(), whole.models.len());
    let calls = |stats: &Stats| stats.models.values().map(|one| one.calls).sum::<u64>();
    assert_eq!(calls(&twice), 2 * calls(&whole));
    let text = serde_json::to_string(&whole).unwrap();
    assert!(
        !text.contains('\u{1b}') && !text.contains("\\u001b"),
        "{text}"
    );
}

/// Whatever a session does, what is kept of it stays small and nothing is lost from the sums.
#[test]
fn a_hostile_session_stays_small() {
    let mut stats = Stats::default();
    for seq in 1..=20_000_u32 {
        let number = u64::from(seq);
        let name = format!("{}{seq}", "x".repeat(500));
        stats.add(&envelope(number, None, called(&name)));
        stats.add(&envelope(number, None, asked(seq)));
        let mut refused = decision(&name.as_str().into(), number, Verdict::Deny);
        refused.rule = Some(format!("rule-{seq}").parse().unwrap());
        stats.add(&envelope(
            number,
            None,
            Event::ExecDecided { decision: refused },
        ));
    }
    assert_eq!(stats.asked, 20_000);
    assert_eq!(stats.refused, 20_000);
    assert_eq!(stats.rules.values().sum::<u64>(), 20_000);
    assert!(stats.rules.get(OTHERS) > Some(&19_000));
    assert_eq!(
        stats.tools.values().map(|tool| tool.calls).sum::<u64>(),
        20_000
    );
    let bytes = serde_json::to_string(&stats).unwrap().len();
    assert!(bytes < 400_000, "{bytes}");
}

#[test]
fn tokens_are_summed_as_they_are_said() {
    let mut events = every_kind(&"lab".into()).into_iter();
    let call = events.find(|event| matches!(event, Event::ModelCalled { .. }));
    let mut call = call.unwrap();
    let Event::ModelCalled { usage, calls, .. } = &mut call else {
        panic!("it is a call of a model")
    };
    *usage = ModelUsage {
        input: Some(10),
        cached: Some(4),
        output: Some(u64::MAX),
        ..ModelUsage::default()
    };
    *calls = Listed::default();
    let stats = folded([(1, None, call.clone()), (2, None, call)]);
    let model = stats.models.values().next().unwrap();
    assert_eq!((model.calls, model.input, model.cached), (2, 20, 8));
    assert_eq!(model.output, u64::MAX);
}
