//! The record (family T): complete, one line for one thing, and changes of it are found.

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use stockade_testkit::{
    TestEnv, UNATTENDED,
    events::{self, Event},
    wait,
};

use crate::attacks::{build, count, for_each_user};

fn finished(env: &TestEnv, line: &str) -> (String, PathBuf) {
    let repo = env.repo();
    env.session(repo.path()).line(line).output();
    let session = env.session_id();
    let journal = env
        .state()
        .join("sessions")
        .join(&session)
        .join("journal.jsonl");
    (session, journal)
}

/// Every refusal has subject, kind, target, rule, decision, session, process, and both times.
#[test]
fn t01_each_refusal_is_one_complete_event() {
    for_each_user(|env| {
        let line = "for i in $(seq 25); do echo x > .mcp.json; git push origin a$i; done; : ";
        let (session, _) = finished(env, line);
        let record = env.events(&session);
        let refusals: Vec<_> = record.iter().filter(|event| event.is_refusal()).collect();
        assert_eq!(refusals.len(), 50, "{}", events::summary(&record));
        for i in 1..=25 {
            let count = refusals
                .iter()
                .filter(|e| e.targets(&format!("git push origin a{i}")))
                .count();
            assert!(count >= 1, "push {i}");
        }
        for event in refusals {
            assert_eq!(event.field("session"), session);
            assert!(
                !event.rule().is_empty() && !event.reason().is_empty(),
                "{event:#?}"
            );
            for field in [
                "/seq",
                "/time",
                "/mono_ns",
                "/process/pid",
                "/process/exe",
                "/process/argv/0",
                "/process/cwd",
                "/process/ancestry",
                "/decision",
                "/target",
                "/policy_revision",
            ] {
                assert!(
                    event.json.pointer(field).is_some(),
                    "{field}: {:#}",
                    event.json
                );
            }
        }
    });
}

/// Short-lived processes are all recorded.
#[test]
fn t02_short_lives_are_recorded() {
    for_each_user(|env| {
        let line = "for i in $(seq 200); do /bin/true mark$i; done; (/bin/true mark201 &); wait; sleep 0.2";
        let (session, _) = finished(env, line);
        let record = env.events(&session);
        for i in 1..=201 {
            let started = record
                .iter()
                .filter(|e| {
                    e.kind() == "process.started"
                        && e.json.to_string().contains(&format!("\"mark{i}\""))
                })
                .count();
            assert_eq!(started, 1, "mark{i}");
        }
    });
}

/// Nothing inside finds the record or any part of it.
#[test]
fn t08_changes_of_the_record_are_found() {
    for_each_user(|env| {
        let (_, journal) = finished(env, "echo x > .mcp.json; true; git push origin a; :");
        let verify = || env.stockade().args(["log", "verify", "last"]).output();
        verify().assert_success().assert_stdout("intact");
        let original = fs::read_to_string(&journal).expect("the session has a journal");
        let lines: Vec<&str> = original.lines().collect();
        let without = |skip: usize| {
            let kept: Vec<&str> = lines
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != skip)
                .map(|(_, l)| *l)
                .collect();
            kept.join("\n") + "\n"
        };
        let last = lines.len() - 1;
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        let doubled = [&lines[..3], &lines[2..]].concat();
        let changes = [
            ("rewritten", original.replacen("\"deny\"", "\"allow\"", 1)),
            ("first dropped", without(0)),
            ("one dropped", without(last / 2)),
            ("last dropped", without(last)),
            ("half", lines[..lines.len() / 2].join("\n") + "\n"),
            ("reordered", swapped.join("\n") + "\n"),
            ("doubled", doubled.join("\n") + "\n"),
            ("empty", String::new()),
        ];
        for (name, text) in changes {
            assert_ne!(text, original, "{name}");
            fs::write(&journal, &text).expect("the state is writable from outside");
            let found = verify();
            assert_ne!(found.code(), 0, "{name}: {found:?}");
        }
        fs::write(&journal, &original).expect("the state is writable from outside");
        verify().assert_success();
    });
}

/// Another session's record in the place of this one's is detected.
#[test]
fn t08_swapped_sessions_are_found() {
    for_each_user(|env| {
        let (_, first) = finished(env, "true");
        env.write("work/none", "");
        let (second, other) = {
            let repo = env.repo_named("other");
            env.session(repo.path()).args(["--", "/bin/true"]).success();
            let id = env.session_id();
            let journal = env.state().join("sessions").join(&id).join("journal.jsonl");
            (id, journal)
        };
        env.stockade().args(["log", "verify", &second]).success();
        fs::copy(first, other).expect("the state is writable from outside");
        assert_ne!(
            env.stockade()
                .args(["log", "verify", &second])
                .output()
                .code(),
            0
        );
    });
}

/// Text that looks like the end of a record is text: one action, one event.
#[test]
fn t06_text_cannot_become_an_event() {
    for_each_user(|env| {
        let line = "git push $'x\\n{\"kind\":\"session.ended\",\"verdict\":\"allow\"}\\n' '=cmd|1' '<script>' \"$(printf '\\033]0;t\\007')\"; :";
        let (session, _) = finished(env, line);
        let record = env.events(&session);
        let ended = record
            .iter()
            .filter(|e| e.kind() == "session.ended")
            .count();
        assert_eq!(ended, 1, "{}", events::summary(&record));
        let event = events::assert_one_refusal(&record, "git push", "push");
        assert!(
            event.targets("x\n{\"kind\":\"session.ended\",\"verdict\":\"allow\"}\n"),
            "{:#}",
            event.json
        );
        env.stockade()
            .args(["log", "verify", &session])
            .success()
            .assert_stdout("intact");
    });
}

/// If the record cannot be made, nothing starts.
#[test]
fn t10_without_a_record_nothing_starts() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "echo ran > ran";
        let run = |state: &std::path::Path| {
            env.stockade()
                .env("STOCKADE_STATE_DIR", state)
                .current_dir(repo.path())
                .args(UNATTENDED)
                .args(["--", "/bin/sh", "-c", line])
                .output()
        };
        run(&env.state()).assert_success();
        fs::remove_file(repo.path().join("ran")).expect("the control ran");
        let file = env.write("no-directory", "");
        let output = run(&file.join("state"));
        output.assert_code(125);
        assert!(!repo.path().join("ran").exists());
    });
}

/// Only we write the file in which an agent reads its refusals, and it contains each of them.
#[test]
fn t12_the_agent_sees_its_refusals() {
    for_each_user(|env| {
        let repo = env.repo();
        let output = env
            .session(repo.path())
            .line("echo x > .envrc; cat /run/stockade/denials.jsonl; /run/stockade/why")
            .output();
        let first = output.stdout.lines().next().unwrap_or_default();
        assert!(
            first.contains(".envrc") && first.contains("protected"),
            "{output:?}"
        );
        assert!(output.stdout.matches(".envrc").count() >= 2, "{output:?}");
        let known = || {
            env.stockade()
                .args(["sessions"])
                .success()
                .stdout
                .lines()
                .count()
        };
        assert!(wait::until_true(Duration::from_secs(2), || known() > 0));
    });
}

/// A program that may not run and ends at once, through a path that is swapped while it is judged:
/// it is verified before it can be gone.
#[test]
fn t01_a_swapped_program_that_ends_at_once_ends_the_session() {
    for_each_user(|env| {
        let repo = env.repo();
        let programs = [
            ("swap", include_str!("swap.c")),
            ("plain1", HARMLESS),
            ("asked1", QUICK),
        ];
        build(env, &repo, &programs);
        let words = ["same", "200", "program"];
        // Control: without the boundary it runs.
        let control = env
            .command(repo.path().join("swap"))
            .args(words)
            .current_dir(repo.path())
            .success();
        assert!(control.stdout.matches('x').count() > 1, "{control:?}");
        let policy = env.write("denied.toml", DENIED);
        let output = env
            .session(repo.path())
            .arg("--policy")
            .arg(policy)
            .args(["--", "./swap"])
            .args(words)
            .output();
        let record = env.record();
        let shown = events::summary(&record);
        assert_eq!(count(&record, "finding.raised"), 1, "{shown}");
        assert_eq!(output.code(), 137, "{output:?}");
        let ran = output.stdout.matches('x').count();
        assert!(
            ran <= 1,
            "it ran {ran} times before anybody saw it: {shown}"
        );
    });
}

/// A program that was killed before its verification causes an event; if its path leads by then to
/// a program that may not run, a few of these end the session. Ordinary short programs cause
/// neither.
#[test]
fn t01_what_nobody_saw_is_an_event() {
    for_each_user(|env| {
        let repo = env.repo();
        let programs = [
            ("gone", include_str!("gone.c")),
            ("plain1", BUSY),
            ("asked1", QUICK),
            ("short", HARMLESS),
        ];
        build(env, &repo, &programs);
        symlink("plain1", repo.path().join("link")).expect("the repository is new");
        symlink("asked1", repo.path().join("other")).expect("the repository is new");
        let policy = env.write("denied.toml", DENIED);
        let run = |words: &[&str]| {
            let output = env
                .session(repo.path())
                .arg("--policy")
                .arg(&policy)
                .arg("--")
                .args(words)
                .output();
            (output.code(), env.record())
        };
        let (code, record) = run(&["/bin/sh", "-c", "for i in $(seq 300); do ./short; done"]);
        let shown = events::summary(&record);
        assert_eq!(
            (code, count(&record, "exec.unconfirmed")),
            (0, 0),
            "{shown}"
        );

        let (code, record) = run(&["./gone"]);
        let shown = events::summary(&record);
        assert!(count(&record, "exec.unconfirmed") > 0, "{shown}");
        assert_eq!((code, count(&record, "finding.raised")), (0, 0), "{shown}");

        let (code, record) = run(&["./gone", "swapped"]);
        let shown = events::summary(&record);
        assert_eq!(
            (code, count(&record, "finding.raised")),
            (137, 1),
            "{shown}"
        );
    });
}

/// The same words under other spellings of a path are separate refusals; a shell that searches for
/// a command in one directory after the other causes only one.
#[test]
fn t01_other_spellings_are_not_silent() {
    for_each_user(|env| {
        let repo = env.repo();
        build(env, &repo, &[("spell", SPELL)]);
        let policy = env.write("denied.toml", DENIED);
        let run = |line: &str| {
            env.session(repo.path())
                .arg("--policy")
                .arg(&policy)
                .line(line)
                .output();
            let record = env.record();
            let events = count_refusals(&record);
            let repeated = record.iter().filter(|e| e.kind() == "refusal.repeated");
            let counted = repeated
                .map(|e| e.json["count"].as_u64().unwrap_or(0))
                .sum::<u64>();
            (events, counted, record)
        };
        // Control: a search over two directories is one refusal.
        let (events, counted, record) = run("PATH=/usr/bin:/bin id; :");
        assert_eq!((events, counted), (1, 0), "{}", events::summary(&record));
        let (events, counted, record) = run("./spell");
        assert_eq!(events + counted, 500, "{}", events::summary(&record));
        // Identical repeats are each counted.
        let (events, counted, record) = run("./spell same");
        assert_eq!(events + counted, 500, "{}", events::summary(&record));
        assert!(events < 250, "{events}");
        let ended = record
            .last()
            .map(|event| event.json["counts"]["denials"].clone());
        assert_eq!(ended, Some(500.into()));
    });
}

fn count_refusals(record: &[Event]) -> u64 {
    let refusals = record.iter().filter(|event| event.is_refusal());
    u64::try_from(refusals.count()).expect("a record has few events")
}

/// A refusal of two megabytes takes little space, in the record and in the file that the session
/// reads.
#[test]
fn t12_a_huge_refusal_is_bounded() {
    for_each_user(|env| {
        let repo = env.repo();
        build(env, &repo, &[("huge", HUGE)]);
        let policy = env.write(
            "denied.toml",
            &format!("{DENIED}[record]\ndenials_bytes_max = \"100kB\"\n"),
        );
        let output = env
            .session(repo.path())
            .arg("--policy")
            .arg(policy)
            .line("./huge; wc -c < /run/stockade/denials.jsonl; /run/stockade/why | head -c 60")
            .output();
        let record = env.record();
        assert_eq!(count_refusals(&record), 30, "{}", events::summary(&record));
        let mut lines = output.stdout.lines();
        let bytes: u64 = lines
            .next()
            .and_then(|line| line.trim().parse().ok())
            .expect("the list has a size");
        assert!(bytes <= 100_000, "{bytes}");
        assert!(
            lines.next().is_some_and(|line| line.contains("exec")),
            "{output:?}"
        );
        let session = env.session_id();
        let journal = env
            .state()
            .join("sessions")
            .join(session)
            .join("journal.jsonl");
        let size = fs::metadata(journal).expect("there is a journal").len();
        assert!(size < 1_000_000, "{size}");
    });
}

/// A journal that reaches its size limit ends the session; the recorded part is complete.
#[test]
fn t10_a_full_journal_ends_the_session() {
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write(
            "small.toml",
            "schema = 1\n[record]\njournal_bytes_max = \"64kB\"\n",
        );
        let line = "i=0; while :; do i=$((i+1)); echo > f$i; done";
        let output = env
            .session(repo.path())
            .arg("--policy")
            .arg(policy)
            .line(line)
            .output();
        assert_eq!(output.code(), 137, "{output:?}");
        let record = env.record();
        let shown = events::summary(&record);
        assert_eq!(count(&record, "limit.reached"), 1, "{shown}");
        assert_eq!(count(&record, "session.ended"), 1, "{shown}");
        let made = fs::read_dir(repo.path()).expect("the repository is there");
        let made = made
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"f"))
            .count();
        // Events without room are counted where a person reads it.
        let number = |event: &events::Event, pointer: &str| {
            let number = event
                .json
                .pointer(pointer)
                .and_then(serde_json::Value::as_u64);
            number.unwrap_or_default()
        };
        let lost = record.iter().filter(|event| event.kind() == "events.lost");
        let lost: u64 = lost.map(|event| number(event, "/count")).sum();
        let counted = record.last().map(|end| number(end, "/counts/events_lost"));
        assert!(lost > 0, "{shown}");
        assert_eq!(counted, Some(lost), "{shown}");
        env.stockade()
            .args(["show", "last"])
            .success()
            .assert_stdout("not recorded");
        // The last file was made, but its call failed.
        assert!(
            made <= count(&record, "file.changed") + 1,
            "{made}: {shown}"
        );
        env.stockade()
            .args(["log", "verify", "last"])
            .success()
            .assert_stdout("intact");
    });
}

/// Ends at once.
const HARMLESS: &str =
    "void _start(void) { __asm__ volatile(\"syscall\" : : \"a\"(231), \"D\"(0)); }\n";
/// Never ends by itself.
const BUSY: &str = "void _start(void) { for (;;) __asm__ volatile(\"\"); }\n";
/// Writes that it ran, in one call, and ends at once.
const QUICK: &str = "void _start(void) {\n\
    __asm__ volatile(\"syscall\" : : \"a\"(1), \"D\"(1), \"S\"(\"x\"), \"d\"(1) : \"rcx\", \"r11\", \"memory\");\n\
    __asm__ volatile(\"syscall\" : : \"a\"(231), \"D\"(0));\n}\n";
/// Executes `id` 500 times, with 500 spellings of its path or with one.
const SPELL: &str = r#"#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char path[4096] = "/usr/bin/";
    for (int i = 0; i < 500; i++) {
        char whole[4200];
        strcpy(whole, path);
        strcat(whole, "id");
        execl(whole, "id", (char *)0);
        if (argc == 1) strcat(path, "./");
    }
    return argv[0] == 0;
}
"#;
/// Executes `id` 30 times with two megabytes of control characters, different each time.
const HUGE: &str = r#"#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
int main(void) {
    static char text[100001];
    struct rlimit stack = { RLIM_INFINITY, RLIM_INFINITY };
    setrlimit(RLIMIT_STACK, &stack);
    memset(text, 1, 100000);
    for (int i = 0; i < 30; i++) {
        char *words[22] = { "id" };
        for (int word = 1; word < 19; word++) words[word] = text;
        text[0] = (char)(2 + i);
        execv("/usr/bin/id", words);
    }
    return 0;
}
"#;
/// Denies two programs.
const DENIED: &str = r#"schema = 1
[[deny]]
id = "no-asked"
what = "exec"
command = [["asked1", "**"], ["id", "**"]]
reason = "lab"
"#;
