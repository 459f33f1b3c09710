//! The approval channel (family P).

use std::{fs, path::PathBuf, time::Duration};

use stockade_testkit::{
    TestEnv,
    approvals::{self, Answer, Asked},
    events,
    run::{Output, Run},
    wait,
};

use crate::{
    for_each_user,
    matrix::{Matrix, closed},
};

fn session(
    env: &TestEnv,
    directory: &std::path::Path,
    options: &[&str],
    line: &str,
) -> (Run, PathBuf) {
    let session_file = env.root().join("session");
    let run = env
        .stockade()
        .current_dir(directory)
        .args(["run", "--summary", "none", "--session-file"])
        .arg(&session_file)
        .args(options)
        .args(["--", "/bin/bash", "--norc", "-c", line]);
    (run, session_file)
}

fn record(env: &TestEnv, session_file: &PathBuf) -> Vec<events::Event> {
    let session = fs::read_to_string(session_file).expect("the session started");
    env.events(session.trim())
}

fn allow(_: &Asked) -> Answer {
    Answer::Allow {
        scope: "once".into(),
    }
}

/// Without anyone to ask, ask is deny, at once, also where nothing was said about it.
#[test]
fn p22_nobody_to_ask_is_deny() {
    for_each_user(|env| {
        let repo = env.repo();
        for options in [&[][..], &["--ask", "deny"][..]] {
            let (run, session_file) = session(
                env,
                repo.path(),
                options,
                "git push origin HEAD:refs/heads/p22; :",
            );
            let output = run.success();
            assert!(output.duration < Duration::from_secs(20), "{output:?}");
            assert!(!repo.origin().join("refs/heads/p22").exists());
            events::assert_one_refusal(&record(env, &session_file), "git push", "push");
        }
    });
}

/// An answer is for one use: the next one is asked again.
#[test]
fn p14_an_answer_is_used_once() {
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write(
            "policy.toml",
            "schema = 1\n[[ask]]\nid = \"ask-id\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n",
        );
        let policy = policy.display().to_string();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let (run, session_file) = session(env, repo.path(), &options, "id -u; id -u; id -g");
        let (output, asked) = approvals::answer_all(env, run.spawn(), allow);
        output.assert_success();
        assert_eq!(asked.len(), 3, "{asked:#?}");
        let record = record(env, &session_file);
        for kind in ["approval.requested", "approval.decided", "approval.used"] {
            let count = record.iter().filter(|event| event.kind() == kind).count();
            assert_eq!(count, 3, "{kind}: {}", events::summary(&record));
        }
    });
}

/// What was approved is what runs: a script that is rewritten while the question is open does not.
#[test]
fn p06_what_changed_after_the_question_does_not_run() {
    for_each_user(|env| {
        for change in [true, false] {
            let repo = env.repo_named(if change { "changed" } else { "same" });
            let policy = env.write(
                "policy.toml",
                "schema = 1\n[[ask]]\nid = \"ask-script\"\nwhat = \"exec\"\ncommand = [\"t.sh\", \"**\"]\nreason = \"lab\"\n",
            );
            let script = env.write(repo.path().join("t.sh"), "#!/bin/sh\necho first > result\n");
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("the file was just written");
            let policy = policy.display().to_string();
            let line = if change {
                "(while [ ! -e now ]; do sleep 0.05; done; printf '#!/bin/sh\\necho second > result\\n' > t.sh; : > done) & ./t.sh"
            } else {
                "./t.sh"
            };
            let (run, session_file) = session(
                env,
                repo.path(),
                &["--ask", "inbox", "--policy", &policy],
                line,
            );
            let running = run.spawn();
            let choose = |asked: &Asked| {
                if change {
                    env.write(repo.path().join("now"), "");
                    let rewritten = || repo.path().join("done").exists();
                    assert!(wait::until_true(Duration::from_secs(10), rewritten));
                }
                allow(asked)
            };
            let (output, asked) = approvals::answer_all(env, running, choose);
            assert_eq!(asked.len(), 1, "{asked:#?}");
            let result = fs::read_to_string(repo.path().join("result")).ok();
            let expected = if change {
                None
            } else {
                Some("first\n".to_owned())
            };
            assert_eq!(
                result,
                expected,
                "{output:?}\n{}",
                events::summary(&record(env, &session_file))
            );
        }
    });
}

/// A question that nobody answers before the command is gone opens nothing.
#[test]
fn p12_an_open_question_ends_with_its_session() {
    for_each_user(|env| {
        let repo = env.repo();
        let (run, session_file) = session(
            env,
            repo.path(),
            &["--ask", "inbox"],
            "timeout -s KILL 2 git push origin HEAD:refs/heads/p12; echo over",
        );
        let output: Output = run.success();
        output.assert_stdout("over");
        assert!(!repo.origin().join("refs/heads/p12").exists());
        assert!(approvals::pending(env).is_empty());
        let record = record(env, &session_file);
        let used = record
            .iter()
            .filter(|event| event.kind() == "approval.used")
            .count();
        assert_eq!(used, 0, "{}", events::summary(&record));
    });
}

/// Inside there is no way to the questions: no socket, no state, no command that finds them.
#[test]
fn p10_the_inside_cannot_answer() {
    let find = "find / -xdev -name '*.sock' 2> /dev/null | grep -q . || find / -type s 2> /dev/null | grep -q .";
    let attempts = [
        closed("sockets", find).twin("true"),
        closed("state", "ls \"$STATE/sessions\"").twin("mkdir -p \"$STATE/sessions\" && ls \"$STATE/sessions\""),
        closed("list", "./stockade approvals list --json | grep -q id").twin("true"),
        closed("allow", "STOCKADE_STATE_DIR=\"$STATE\" ./stockade approvals allow 00000000 --scope session").twin("true"),
        closed("type", "perl -e 'open($t, \"+<\", \"/dev/tty\") or exit 1; exit(!ioctl($t, 0x5412, $c = \"y\"))'").twin("true"),
    ];
    Matrix {
        prepare: &|scene| {
            let copy = scene.workspace().join("stockade");
            fs::copy(scene.env.binary(), &copy).expect("the workspace is ours");
            scene.env.own(&copy);
        },
        variables: &|scene| vec![("STATE".into(), scene.env.state().display().to_string())],
        ask: "inbox",
        ..Matrix::new("P10", &attempts)
    }
    .check();
}
