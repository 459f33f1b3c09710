//! Every kind is in the catalogue, is read back byte for byte, and stays within its limit.

use std::collections::BTreeSet;

use crate::common::{Lab, decision, every_kind, hostile, session, stamp, subject};
use serde_json::Value;
use stockade_event::{Cause, Durability, Envelope, Event, SCHEMA_VERSION, catalogue};
use stockade_journal::read;
use stockade_types::{Access, Certainty, RawText, Verdict};

#[test]
fn the_catalogue_has_every_kind_and_every_field() {
    let samples = every_kind(&"x".into());
    let sampled: BTreeSet<_> = samples.iter().map(Event::kind).collect();
    let listed: BTreeSet<_> = catalogue().iter().map(|kind| kind.kind).collect();
    assert_eq!(sampled, listed);
    assert_eq!(catalogue().len(), listed.len(), "a kind is listed twice");
    for sample in &samples {
        let json = serde_json::to_value(sample).unwrap();
        assert_eq!(json["kind"], sample.kind());
        let doc = catalogue()
            .iter()
            .find(|kind| kind.kind == sample.kind())
            .unwrap();
        let fields: BTreeSet<_> = doc
            .fields
            .iter()
            .map(|field| field.name.to_owned())
            .collect();
        let data: BTreeSet<_> = json["data"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, data, "{}", sample.kind());
        assert!(doc.doc.trim().ends_with('.'), "{doc:?}");
        let (noun, verb) = doc.kind.split_once('.').unwrap();
        assert!(
            !noun.is_empty() && verb.chars().all(|c| c.is_ascii_lowercase()),
            "{doc:?}"
        );
    }
}

#[test]
fn hostile_bytes_stay_one_line_and_come_back() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let events = every_kind(&hostile());
    for (event, number) in events.iter().zip(1..) {
        let scope = Some(hostile().display());
        let process = Some(subject(&hostile()));
        journal
            .append(
                stamp(number),
                "egress",
                process.as_ref(),
                scope.as_deref(),
                event,
                Durability::Written,
            )
            .unwrap();
    }
    journal.finish(stamp(99)).unwrap();
    assert_eq!(lab.lines().len(), events.len() + 2, "header, events, end");
    let back: Vec<Envelope> = read(lab.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(back.len(), events.len());
    for ((envelope, event), number) in back.iter().zip(&events).zip(1..) {
        assert_eq!(envelope.event, *event);
        assert_eq!(envelope.seq, number);
        assert_eq!(envelope.v, SCHEMA_VERSION);
        assert_eq!(envelope.session, session());
        assert_eq!(envelope.process, Some(subject(&hostile())));
        assert_eq!(envelope.scope, Some(hostile().display()));
        assert_eq!(envelope.truncated, []);
    }
}

#[test]
fn large_fields_are_cut_and_the_record_says_so() {
    let lab = Lab::new();
    let mut journal = lab.create();
    for (unit, count) in [("a", 100_000), ("\u{1}\"\\", 40_000), ("\u{fc}", 50_000)] {
        let big = RawText::from_bytes([unit.repeat(count).as_bytes(), b"\xff\\"].concat());
        let mut events = every_kind(&big);
        let mut many = decision(&"x".into(), 9, Verdict::Deny);
        many.subject.argv = vec![RawText::from("argument"); 20_000].into();
        many.subject.ancestry = vec![big.clone(); 40].into();
        many.target.argv = vec![big.clone(); 40];
        events.push(Event::ExecDecided { decision: many });
        for event in &events {
            let process = Some(subject(&big));
            journal
                .append(
                    stamp(1),
                    "supervisor",
                    process.as_ref(),
                    None,
                    event,
                    Durability::Written,
                )
                .unwrap_or_else(|error| panic!("{}: {error}", event.kind()));
        }
    }
    journal.finish(stamp(2)).unwrap();
    for line in lab.lines() {
        assert!(line.len() <= 66_000, "{}", line.len());
    }
    for envelope in read(lab.path()).unwrap().map(Result::unwrap) {
        let cut = &envelope.truncated;
        let kept = envelope.process.unwrap();
        assert!(!kept.exe.as_bytes().is_empty());
        if let Event::ExecDecided { decision } = &envelope.event
            && decision.decision.get() == 9
        {
            let list = cut.iter().find(|cut| cut.field == "process.argv").unwrap();
            assert_eq!(list.size, 20_000);
        } else {
            let process = cut.iter().find(|cut| cut.field == "process.exe").unwrap();
            assert!(process.size > 90_000, "{process:?}");
        }
    }
    let key = lab.key().verifying_key();
    assert!(
        stockade_journal::verify(lab.path(), &session(), &key)
            .unwrap()
            .is_intact()
    );
}

#[test]
fn the_digest_of_a_cut_field_is_that_of_the_whole() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let detail = "d".repeat(100_000);
    let event = Event::OperatorActed {
        action: "note".to_owned(),
        by: "test".to_owned(),
        detail: detail.clone(),
    };
    journal
        .append(
            stamp(1),
            "supervisor",
            None,
            None,
            &event,
            Durability::Synced,
        )
        .unwrap();
    let envelope = read(lab.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(envelope.truncated.len(), 1);
    assert_eq!(envelope.truncated[0].field, "data.detail");
    assert_eq!(envelope.truncated[0].size, 100_000);
    assert_eq!(
        envelope.truncated[0].digest,
        stockade_types::Digest::of(detail.as_bytes())
    );
}

#[test]
fn json_for_people_lifts_the_decision() {
    let envelope = |event| Envelope {
        v: SCHEMA_VERSION,
        session: session(),
        seq: 3,
        time_unix_ns: 1_700_000_000_123_456_789,
        mono_ns: 5,
        source: "egress".to_owned(),
        process: None,
        scope: Some("c-1".to_owned()),
        cause: Some(Cause {
            turn: Some(3),
            call: Some(7),
            certainty: Certainty::Exact,
        }),
        truncated: vec![],
        event,
    };
    let denied = decision(&"/usr/bin/curl".into(), 19, Verdict::Deny);
    let json = envelope(Event::ConnectionDecided {
        decision: denied,
        address: None,
        sni: Some("paste.test".to_owned()),
        detail: None,
    })
    .to_cli_json();
    assert_eq!(json["time"], "2023-11-14T22:13:20.123456789Z");
    assert_eq!(json["decision"], "d-19");
    assert_eq!(json["verdict"], "deny");
    assert_eq!(json["rule"], "paste-sites");
    assert_eq!(json["request"], "net");
    assert_eq!(json["kind"], "connection.decided");
    assert_eq!(json["target"]["host"], "paste.test");
    assert_eq!(json["process"]["pid"], 4711);
    assert_eq!(json["process"]["id"], "4711.99887");
    assert_eq!(json["process"]["parent"], "/usr/bin/curl");
    assert_eq!(json["sni"], "paste.test");
    assert_eq!(json["scope"], "c-1");
    let cause = serde_json::json!({ "turn": 3, "call": 7, "certainty": "exact" });
    assert_eq!(json["cause"], cause);
    let lost = Event::EventsLost {
        source: "sensor".to_owned(),
        count: 3,
        reason: "full".to_owned(),
    };
    let json = envelope(lost).to_cli_json();
    assert_eq!(json["source"], "egress");
    assert_eq!(json["lost_source"], "sensor");
    let json = envelope(Event::FileChanged {
        path: "/w/a".into(),
        access: Access::Write,
        by: subject(&"/bin/sh".into()),
        decision: None,
    })
    .to_cli_json();
    assert_eq!(json["target"]["path"], "/w/a");
    assert_eq!(json["process"]["exe"], "/bin/sh");
    assert_eq!(json["by"], Value::Null);
    for event in every_kind(&"x".into()) {
        let json = envelope(event).to_cli_json();
        for field in ["v", "session", "seq", "time", "mono_ns", "kind", "source"] {
            assert!(!json[field].is_null(), "{field} of {json}");
        }
    }
}
