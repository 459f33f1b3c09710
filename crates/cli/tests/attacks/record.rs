//! The record (family T): complete, one line for one thing, and changes of it are found.

use std::{fs, path::PathBuf, time::Duration};

use stockade_testkit::{TestEnv, UNATTENDED, events, wait};

use crate::for_each_user;

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

/// Every refusal has who, what, target, rule, decision, session, process, and both times.
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

/// Processes that live a moment are all recorded.
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

/// The inside finds neither the record nor anything of it.
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

/// A record of another session in this one's place is found.
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

/// Where the record cannot be made nothing starts.
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

/// What an agent reads about its refusals is written by us alone and holds each of them.
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
