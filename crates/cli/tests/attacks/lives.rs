//! Every process that executed a program has one end in the record (family T).

use std::{collections::HashMap, time::Duration};

use serde_json::Value;
use stockade_testkit::{
    TestEnv,
    events::{self, Event},
};

use crate::attacks::{build, count, for_each_user};

/// Short processes that one session starts; the tests run for two users.
const STORM: usize = 2_000;

fn number(event: &Event, field: &str) -> Option<i64> {
    event.json.pointer(field).and_then(Value::as_i64)
}

fn line_of(event: &Event) -> String {
    let words = event
        .json
        .pointer("/process/argv")
        .and_then(Value::as_array);
    let words: Vec<&str> = words
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    words.join(" ")
}

/// Returns the ends, by the command lines of their processes, after a check that each process that
/// started has one end, which comes later, and none comes after the end of the session.
fn ends(record: &[Event]) -> HashMap<String, Vec<&Event>> {
    let mut running: HashMap<&str, bool> = HashMap::new();
    let mut ends: HashMap<String, Vec<&Event>> = HashMap::new();
    for event in record {
        let process = event.json.pointer("/process/id").and_then(Value::as_str);
        match (event.kind(), process) {
            ("process.started", Some(process)) => {
                running.insert(process, true);
            }
            ("process.ended", Some(process)) => {
                let before = running.insert(process, false);
                assert_eq!(before, Some(true), "{:#}", event.json);
                ends.entry(line_of(event)).or_default().push(event);
            }
            _ => {}
        }
    }
    let left: Vec<_> = running.iter().filter(|(_, runs)| **runs).collect();
    assert!(left.is_empty(), "{left:?} in {}", events::summary(record));
    let last = record.last().expect("a session has events");
    assert_eq!(last.kind(), "session.ended");
    assert_eq!(count(record, "events.lost"), 0);
    ends
}

/// Runs a line in a session that has the program of this test.
fn run(env: &TestEnv, line: &str) -> Vec<Event> {
    let repo = env.repo_named("lives");
    build(env, &repo, &[("lives", include_str!("lives.c"))]);
    env.session(repo.path()).line(line).output();
    env.record()
}

/// However a process ends, and whether or not somebody waits for it, the record says how.
#[test]
fn t02_each_process_has_one_end_that_says_how() {
    let table: [(&str, Option<i64>, Option<i64>); 15] = [
        ("code 0", Some(0), None),
        ("code 255", Some(255), None),
        ("signal 9", None, Some(9)),
        ("signal 11", None, Some(11)),
        ("thread 7", Some(7), None),
        ("leader 5", Some(5), None),
        // The process of `threadexec`, which runs this as it ends.
        ("code 9", Some(9), None),
        ("parent 6", Some(0), None),
        ("code 6", Some(6), None),
        ("zombie 4", Some(0), None),
        ("code 4", Some(4), None),
        ("daemon 8", Some(0), None),
        ("later 8", Some(8), None),
        ("hidden 1", Some(1), None),
        ("uses 2", Some(2), None),
    ];
    for_each_user(|env| {
        let started = [
            "code 0",
            "code 255",
            "signal 9",
            "signal 11",
            "thread 7",
            "leader 5",
            "threadexec",
            "parent 6",
            "zombie 4",
            "daemon 8",
            "hidden 1",
            "uses 2",
        ];
        let lines: Vec<String> = started.iter().map(|how| format!("./lives {how}")).collect();
        let line = format!("{}; ./lives killed; exit 3", lines.join("; "));
        let record = run(env, &line);
        let ends = ends(&record);
        for (how, code, signal) in table {
            let found = ends.get(&format!("./lives {how}"));
            let Some([end]) = found.map(Vec::as_slice) else {
                panic!("{how}: {found:#?} in {}", events::summary(&record));
            };
            let seen = (number(end, "/code"), number(end, "/signal"));
            assert_eq!(seen, (code, signal), "{how}: {:#}", end.json);
        }
        let used = |how: &str, field: &str| {
            let end = ends.get(how).and_then(|ends| ends.first());
            number(end.expect("it has ended"), field)
        };
        // What a process has used is its own.
        let read = used("./lives uses 2", "/usage/bytes_read").expect("it is known");
        assert!((1_000_000..1_100_000).contains(&read), "{read}");
        let written = used("./lives uses 2", "/usage/bytes_written");
        assert_eq!(written, Some(500_000));
        assert_eq!(used("./lives uses 2", "/usage_age_ms"), None);
        // One that lets nobody look hides its bytes at most.
        let peak = used("./lives hidden 1", "/usage/memory_peak_bytes");
        assert!(peak > Some(0), "{peak:?}");
        let peak = used("./lives uses 2", "/usage/memory_peak_bytes");
        assert!(peak > Some(64 << 20), "{peak:?}");
        let cpu = ["user", "system"].map(|kind| {
            let field = format!("/usage/cpu_{kind}_us");
            used("./lives uses 2", &field).expect("it is known")
        });
        assert!(cpu.iter().sum::<i64>() > 0);
        // One that a signal ends was sampled before.
        assert_eq!(used("./lives killed", "/signal"), Some(9));
        let peak = used("./lives killed", "/usage/memory_peak_bytes");
        assert!(peak > Some(64 << 20), "{peak:?}");
        let duration = used("./lives killed", "/duration_ms");
        assert!((2_000..10_000).contains(&duration.unwrap_or_default()));
        // The session as a whole.
        let mut samples = record.iter().filter(|e| e.kind() == "resources.sampled");
        let last = samples.next_back().expect("there is one at the end");
        assert_eq!(number(last, "/processes"), Some(0));
        let peak = number(last, "/usage/memory_peak_bytes");
        assert!(peak > Some(64 << 20), "{:#}", last.json);
        let shown = env.stockade().args(["show", "last"]).success();
        shown.assert_stdout("./lives uses 2 → 1 process, ");
        shown.assert_stdout(", exit 2\n");
        shown.assert_stdout(", signal 9\n");
    });
}

/// Thousands of processes that live for less than a millisecond, each waited for at once.
#[test]
fn t02_no_end_of_a_short_life_is_missing() {
    for_each_user(|env| {
        let record = run(env, &format!("./lives storm {STORM}"));
        let ends = ends(&record);
        let mut found = 0;
        for (line, ends) in &ends {
            let Some((how, value)) = line
                .strip_prefix("./lives ")
                .and_then(|words| words.split_once(' '))
                .filter(|(how, _)| matches!(*how, "code" | "signal"))
            else {
                continue;
            };
            for end in ends {
                found += 1;
                let expected = value.parse().ok();
                assert_eq!(number(end, &format!("/{how}")), expected, "{:#}", end.json);
            }
        }
        assert_eq!(found, STORM, "{}", record.len());
    });
}

/// What runs when the session ends has an end too, before that of the session; and a command has one
/// with all that came of it.
#[test]
fn t02_commands_and_sessions_end_with_what_they_used() {
    for_each_user(|env| {
        let line = "sh -c './lives uses 2; ./lives code 1; exit 101'; ./lives daemon 8; \
                    sleep 100 & sleep 100 & sleep 0.5; exit 0";
        let record = run(env, line);
        let ends = ends(&record);
        let killed: Vec<_> = ends["sleep 100"].iter().collect();
        assert_eq!(killed.len(), 2);
        for end in killed {
            assert_eq!(number(end, "/signal"), Some(9), "{:#}", end.json);
        }
        let scopes: HashMap<String, &Event> = record
            .iter()
            .filter(|event| event.kind() == "scope.ended")
            .map(|event| (line_of(event), event))
            .collect();
        let whole = scopes
            .iter()
            .find(|(line, _)| line.starts_with("sh -c"))
            .map(|(_, event)| *event)
            .expect("the shell is a command");
        assert_eq!(number(whole, "/processes"), Some(3), "{:#}", whole.json);
        assert_eq!(number(whole, "/code"), Some(101));
        assert!(number(whole, "/usage/bytes_written") >= Some(500_000));
        assert!(number(whole, "/usage/memory_peak_bytes") > Some(64 << 20));
        // The daemon, which forked twice, belongs to the command that started it.
        let daemon = scopes.get("./lives daemon 8").expect("it is a command");
        assert_eq!(number(daemon, "/processes"), Some(2), "{:#}", daemon.json);
        assert!(number(daemon, "/duration_ms") >= Some(200));
        assert_eq!(
            daemon.field("scope"),
            ends["./lives later 8"][0].field("scope")
        );
        let shown = env.stockade().args(["show", "last"]).success();
        shown.assert_stdout("→ 3 processes, ");
        shown.assert_stdout(", exit 101\n");
    });
}

/// More processes at a time than the supervisor may have descriptors for: those that are left out are
/// counted.
#[test]
fn t02_ends_that_are_not_watched_are_counted() {
    let env = &crate::attacks::environment(None);
    let repo = env.repo();
    let line = "for i in $(seq 90); do sleep 3 & done; wait";
    let program = crate::attacks::binary();
    let limited = format!(
        "ulimit -n 120; exec {} run --ask deny -- sh -c '{line}'",
        program.display()
    );
    let output = env
        .command("/bin/bash")
        .env("STOCKADE_STATE_DIR", env.state())
        .current_dir(repo.path())
        .timeout(Duration::from_mins(1))
        .args(["-c", &limited])
        .output();
    output.assert_success();
    let record = env.stockade().args(["events", "last", "--json"]).success();
    let record = Event::parse_lines(&record.stdout);
    let lost: Vec<_> = record
        .iter()
        .filter(|e| e.kind() == "events.lost")
        .collect();
    let missing: i64 = lost
        .iter()
        .filter_map(|event| number(event, "/count"))
        .sum();
    let ended = i64::try_from(count(&record, "process.ended")).expect("there are few");
    assert!(missing >= 20, "{}", events::summary(&record));
    // Each sleep, the count for them, and the shell.
    assert_eq!(missing + ended, 92, "{}", events::summary(&record));
    let last = lost.last().expect("some are missing");
    assert!(last.reason().contains("at a time"), "{:#}", last.json);
}
