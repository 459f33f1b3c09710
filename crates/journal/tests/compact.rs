//! The size of a record on disk, and that nothing is lost by the compact form.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::PathBuf};

use crate::common::{Lab, decision, hostile, session, stamp, subject};
use proptest::prelude::*;
use serde_json::Value;
use stockade_event::{Cause, Durability, Envelope, Event, Stamp};
use stockade_journal::{Entry, SharedJournal, layout::JOURNAL_FILE, read, read_from, verify};
use stockade_types::{Access, Certainty, ProcessId, RawText, Subject, Verdict};

/// A cause that changes when the scope does, and sometimes beside it.
fn cause(number: u64, scope: Option<&str>) -> Option<Cause> {
    scope.map(|scope| Cause {
        turn: (!number.is_multiple_of(5)).then_some(3),
        call: Some(u64::try_from(scope.len()).unwrap_or_default()),
        certainty: if number.is_multiple_of(7) {
            Certainty::Inferred
        } else {
            Certainty::Exact
        },
    })
}

fn append(lab: &mut stockade_journal::Journal, number: u64, scope: Option<&str>, event: &Event) {
    let entry = Entry {
        process: None,
        scope,
        cause: cause(number, scope),
        event,
    };
    lab.append_all(stamp(number), "supervisor", &[entry], Durability::Written)
        .unwrap();
}

fn back(lab: &Lab) -> Vec<Envelope> {
    read(lab.path()).unwrap().map(Result::unwrap).collect()
}

fn process(pid: u32, argv: &[RawText], parents: &[&str]) -> Subject {
    Subject {
        id: Some(ProcessId {
            pid,
            start: 9_000_000,
        }),
        exe: "/usr/bin/bash".into(),
        argv: argv.to_vec().into(),
        cwd: "/home/user/project".into(),
        ancestry: parents.iter().map(|line| RawText::from(*line)).collect(),
    }
}

fn changed(path: &str, by: &Subject) -> Event {
    Event::FileChanged {
        path: path.into(),
        access: Access::Create,
        by: by.clone(),
        decision: None,
    }
}

/// The fixture was written by version 0.1.0 and read by it.
#[test]
fn a_journal_of_version_1_is_read_and_verified() {
    let dir = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/fixtures/journal-1");
    let key = fs::read_to_string(dir.join("key.pub")).unwrap();
    let key = key.trim().parse().unwrap();
    assert!(verify(&dir, &session(), &key).unwrap().is_intact());
    let expected = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    let expected: Vec<Value> = expected
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<Value> = read(&dir)
        .unwrap()
        .map(|event| event.unwrap().to_cli_json())
        .collect();
    assert_eq!(events, expected);
    // A changed byte is detected in this version too.
    let lab = Lab::new();
    for name in [JOURNAL_FILE, "head"] {
        fs::copy(dir.join(name), lab.path().join(name)).unwrap();
    }
    let genuine = fs::read(lab.journal_path()).unwrap();
    for at in (0..genuine.len()).step_by(997) {
        let mut bytes = genuine.clone();
        bytes[at] ^= 1;
        fs::write(lab.journal_path(), &bytes).unwrap();
        let found = verify(lab.path(), &session(), &key).unwrap();
        assert!(found.is_broken(), "byte {at}");
    }
}

#[test]
fn a_plain_change_takes_at_most_250_bytes() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let argv = [
        RawText::from("bash"),
        RawText::from("x".repeat(16_000).as_str()),
    ];
    let by = process(123_456, &argv, &["codex"]);
    for number in 0..100 {
        let path = format!("/home/user/project/src/module/file-{number}.rs");
        let late = Stamp {
            time_unix_ns: 1_764_166_553_123_456_789,
            mono_ns: 999_999_123_456_789,
        };
        let event = changed(&path, &by);
        let entry = Entry {
            process: None,
            scope: Some("c-17"),
            cause: None,
            event: &event,
        };
        journal
            .append_all(late, "supervisor", &[entry], Durability::Written)
            .unwrap();
    }
    let lines = lab.lines();
    let longest = lines
        .iter()
        .skip(2)
        .map(|line| line.len() + 1)
        .max()
        .unwrap();
    assert!(longest <= 250, "{longest}: {}", lines[50]);
    assert_eq!(lines.concat().matches("xxxxxxxxxxx").count(), 16_000 / 11);
    let back = back(&lab);
    assert!(back.iter().all(|event| event.process.as_ref() == Some(&by)));
    assert!(
        back.iter()
            .all(|event| event.scope.as_deref() == Some("c-17"))
    );
}

#[test]
fn an_argument_vector_is_written_once() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let argv: Vec<RawText> = ["bash", "-c", &"y".repeat(15_000)]
        .map(RawText::from)
        .to_vec();
    let mut expected = Vec::new();
    for pid in 1..50 {
        // A forked child has its parent's description; then it runs the same words again.
        let before = process(pid, &argv, &["bash -c a rather long line", "codex exec"]);
        let mut judged = decision(&"/bin/bash".into(), u64::from(pid), Verdict::Allow);
        judged.subject = before.clone();
        judged.target.argv = argv.clone();
        let started = Event::ProcessStarted {
            process: before,
            digest: None,
            interpreter: None,
        };
        for event in [Event::ExecDecided { decision: judged }, started] {
            append(&mut journal, u64::from(pid), Some("c-1"), &event);
            expected.push(event);
        }
    }
    let events: Vec<Event> = back(&lab).into_iter().map(|one| one.event).collect();
    assert_eq!(events, expected);
    let text = lab.lines();
    assert_eq!(text.concat().matches("yyyyyyyyyyyyyyy").count(), 1_000);
    let longest = text.iter().skip(3).map(String::len).max().unwrap();
    assert!(longest < 600, "{longest}");
}

#[test]
fn what_is_cut_says_so_wherever_it_is_meant() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let long = RawText::from("z".repeat(40_000).as_str());
    let words = vec![long.clone(), "second".into()];
    let by = process(7, &words, &[]);
    for number in 1..=3 {
        append(&mut journal, number, None, &changed("/w/a", &by));
    }
    let size = fs::metadata(lab.journal_path()).unwrap().len();
    assert!(size < 18_000, "{size}");
    for event in back(&lab) {
        let cut = &event.truncated;
        let list = cut.iter().find(|cut| cut.field == "process.argv").unwrap();
        assert_eq!(list.size, 2);
        let word = cut
            .iter()
            .find(|cut| cut.field == "process.argv.0")
            .unwrap();
        assert_eq!(word.size, 40_000);
        assert_eq!(word.digest, stockade_types::Digest::of(long.as_bytes()));
        let kept = &event.process.unwrap().argv;
        assert!(long.as_bytes().starts_with(kept[0].as_bytes()));
    }
}

/// Two megabytes of characters that take six bytes each must not block the one writer.
#[test]
fn a_huge_command_line_is_not_rendered_whole() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let mut refused = decision(&"/usr/bin/git".into(), 1, Verdict::Deny);
    refused.target.argv = vec![RawText::from_bytes(vec![1; 100_000]); 20];
    let event = Event::ExecDecided { decision: refused };
    append(&mut journal, 1, None, &event);
    let size = fs::metadata(lab.journal_path()).unwrap().len();
    assert!(size < 30_000, "{size}");
}

#[test]
fn a_damaged_line_lends_nothing_old_to_later_ones() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let first = process(7, &["/bin/first".into()], &[]);
    let second = process(7, &["/bin/second".into()], &[]);
    append(&mut journal, 1, None, &changed("/w/a", &first));
    append(&mut journal, 2, None, &changed("/w/b", &second));
    append(&mut journal, 3, None, &changed("/w/c", &second));
    let mut lines = lab.lines();
    lines[2] = lines[2].replace("{\"path\"", "{\"PATH\"");
    lab.put_lines(&lines);
    let events: Vec<_> = read(lab.path()).unwrap().collect();
    assert!(events[0].is_ok() && events[1].is_err());
    let last = events[2].as_ref().unwrap().process.as_ref().unwrap();
    assert_eq!(last.id, second.id);
    assert!(!last.argv.contains(&"/bin/first".into()), "{last:?}");
}

#[test]
fn reading_can_begin_in_the_middle() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let by = process(7, &["/bin/first".into()], &["codex"]);
    append(&mut journal, 1, Some("c-1"), &changed("/w/a", &by));
    let mut reader = read(lab.path()).unwrap();
    assert!(reader.next().unwrap().is_ok());
    append(&mut journal, 2, Some("c-1"), &changed("/w/b", &by));
    let mut later = read_from(lab.path(), reader.offset()).unwrap();
    let event = later.next().unwrap().unwrap();
    assert_eq!((event.seq, event.process), (2, Some(by)));
    assert_eq!(event.scope.as_deref(), Some("c-1"));
    assert!(later.next().is_none());
}

/// Many threads and much text: what is remembered is bounded, and everything is read back.
#[test]
fn forgetting_loses_nothing() {
    let lab = Lab::new();
    let journal = SharedJournal::new(lab.create(), || stamp(1));
    let mut expected = Vec::new();
    for pid in 1..2_500 {
        let argv = [
            RawText::from("x".repeat(5_000).as_str()),
            RawText::from(pid.to_string().as_str()),
        ];
        let by = process(
            pid % 700,
            &argv,
            &["make all of it please", "bash -c something"],
        );
        let event = changed("/w/a", &by);
        let entry = Entry {
            process: None,
            scope: None,
            cause: None,
            event: &event,
        };
        journal
            .emit_all("supervisor", &[entry], Durability::Written)
            .unwrap();
        expected.push(by);
    }
    let processes: Vec<Subject> = back(&lab)
        .into_iter()
        .filter_map(|event| event.process)
        .collect();
    assert_eq!(processes, expected);
    assert!(
        lab.lines()
            .iter()
            .any(|line| line.contains("\"fresh\":true"))
    );
}

fn words() -> impl Strategy<Value = Vec<RawText>> {
    let word = prop_oneof![
        Just(RawText::from(
            "--a-rather-long-option-that-many-commands-have"
        )),
        Just(hostile()),
        Just(RawText::default()),
        Just(RawText::from("ls")),
    ];
    prop::collection::vec(word, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_events_come_back(list in prop::collection::vec(
        (0_u32..4, words(), words(), words(), any::<bool>(), prop::option::of("c-[1-3]")), 1..40,
    )) {
        let lab = Lab::new();
        let mut journal = lab.create();
        let mut expected = Vec::new();
        for ((pid, argv, parents, target, judged, scope), number) in list.into_iter().zip(1..) {
            let by = Subject {
                // A process that could not be found is described separately.
                id: (pid > 0).then_some(ProcessId { pid, start: 1 }),
                exe: argv.first().cloned().unwrap_or_default(),
                cwd: parents.first().cloned().unwrap_or_default(),
                argv: argv.into(),
                ancestry: parents.into(),
            };
            let event = if judged {
                let mut record = decision(&"x".into(), number, Verdict::Deny);
                record.subject = by;
                record.target.argv = target;
                Event::ExecDecided { decision: record }
            } else {
                changed("/w/a", &by)
            };
            append(&mut journal, number, scope.as_deref(), &event);
            let cause = cause(number, scope.as_deref());
            expected.push((event, scope, cause));
        }
        let events: Vec<_> = back(&lab)
            .into_iter()
            .map(|one| (one.event, one.scope, one.cause))
            .collect();
        prop_assert_eq!(events, expected);
    }
}

#[test]
fn the_process_of_the_source_counts_where_the_event_has_none() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let event = Event::OperatorActed {
        action: "note".to_owned(),
        by: "test".to_owned(),
        detail: String::new(),
    };
    let by = subject(&hostile());
    let entry = Entry {
        process: Some(&by),
        scope: None,
        cause: None,
        event: &event,
    };
    journal
        .append_all(stamp(1), "egress", &[entry], Durability::Written)
        .unwrap();
    let back = back(&lab);
    assert_eq!(back[0].process, Some(by));
    assert_eq!(back[0].source, "egress");
}

/// A reader that rests after each event, and one that rests only at the end, read what one reads that never
/// does: references to earlier lines are kept over the rest.
#[test]
fn a_reader_that_rests_goes_on_where_it_was() {
    let lab = Lab::new();
    let mut journal = lab.create();
    let argv: Vec<RawText> = (0..40)
        .map(|word| RawText::from(format!("word-{word}").as_str()))
        .collect();
    let mut rested = read(lab.path()).unwrap().rest();
    let mut events = Vec::new();
    for number in 1..=60 {
        let by = process(
            u32::try_from(number % 7).unwrap(),
            &argv,
            &["bash -lc make", "agent"],
        );
        let scope = format!("c-{}", number % 3);
        append(
            &mut journal,
            number,
            Some(&scope),
            &changed(&format!("/w/{number}"), &by),
        );
        if number % 5 != 0 {
            let mut reader = rested.resume().unwrap();
            events.extend(reader.by_ref().map(Result::unwrap));
            rested = reader.rest();
        }
    }
    events.extend(rested.resume().unwrap().map(Result::unwrap));
    assert_eq!(events, back(&lab));
    assert_eq!(events.len(), 60);
    // A reader that has read nothing goes on at the beginning, and one of a journal that is gone says so.
    let rested = read(lab.path()).unwrap().rest();
    fs::remove_file(lab.journal_path()).unwrap();
    assert!(rested.resume().is_err());
}
