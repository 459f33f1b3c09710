//! The approval channel (family P).

use std::{fs, time::Duration};

use stockade_testkit::{
    approvals::{self, Answer, Asked},
    events::{self, Event},
    run::{Output, require_tool},
    wait,
};

use crate::attacks::{
    build, for_each_user,
    matrix::{Matrix, closed},
};

fn allow(_: &Asked) -> Answer {
    Answer::Allow {
        scope: "once".into(),
    }
}

/// If there is no one to ask, an ask is a deny at once, even if no rule mentions the request.
#[test]
fn p22_nobody_to_ask_is_deny() {
    for_each_user(|env| {
        let repo = env.repo();
        for options in [&[][..], &["--ask", "deny"][..]] {
            let run = env
                .session_with(repo.path(), options)
                .line("git push origin HEAD:refs/heads/p22; :");
            let output = run.success();
            assert!(output.duration < Duration::from_secs(20), "{output:?}");
            assert!(!repo.origin().join("refs/heads/p22").exists());
            events::assert_one_refusal(&env.record(), "git push", "push");
        }
    });
}

/// Asks about one program.
const ASK_ID: &str = "schema = 1\n[[ask]]\nid = \"ask-id\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n";

/// An answer is for one use; the next use causes a new question.
#[test]
fn p14_an_answer_is_used_once() {
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write("policy.toml", ASK_ID).display().to_string();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let run = env
            .session_with(repo.path(), &options)
            .line("id -u; id -u; id -g");
        let (output, asked) = approvals::answer_all(env, run.spawn(), allow);
        output.assert_success();
        assert_eq!(asked.len(), 3, "{asked:#?}");
        let record = env.record();
        for kind in ["approval.requested", "approval.decided", "approval.used"] {
            let count = record.iter().filter(|event| event.kind() == kind).count();
            assert_eq!(count, 3, "{kind}: {}", events::summary(&record));
        }
    });
}

/// An answer has the scope that it states, and never a wider one than the rule allows.
#[test]
fn p14_an_answer_reaches_as_far_as_it_says() {
    for_each_user(|env| {
        for (scope, asked_times) in [("session", 1), ("2-uses", 2), ("10m", 1)] {
            let repo = env.repo_named(scope);
            let policy = env.write("policy.toml", ASK_ID).display().to_string();
            let run = env
                .session_with(repo.path(), &["--ask", "inbox", "--policy", &policy])
                .line("id -u; id -u; id -u");
            let answer = |_: &Asked| Answer::Allow {
                scope: scope.to_owned(),
            };
            let (output, asked) = approvals::answer_all(env, run.spawn(), answer);
            output.assert_success();
            assert_eq!(asked.len(), asked_times, "{scope}: {asked:#?}");
            assert_eq!(output.stdout.lines().count(), 3, "{scope}: {output:?}");
        }
        let text = ASK_ID.replace("reason", "scope_max = \"once\"\nreason");
        let policy = env.write("policy.toml", &text).display().to_string();
        let run = env
            .session_with(env.repo().path(), &["--ask", "inbox", "--policy", &policy])
            .line("id -u");
        let running = run.spawn();
        let open = || approvals::pending(env).into_iter().next();
        assert!(wait::until_true(Duration::from_secs(10), || open().is_some()));
        let asked = open().expect("it was just seen");
        for scope in ["session", "2-uses", "10m"] {
            let wider = Answer::Allow {
                scope: scope.to_owned(),
            };
            let refused = approvals::answer(env, &asked.id, &wider);
            assert_ne!(refused.code(), 0, "{scope}: {refused:?}");
            assert!(refused.stderr.contains("once"), "{scope}: {refused:?}");
            assert!(open().is_some(), "{scope}: the question is gone");
        }
        approvals::answer(env, &asked.id, &allow(&asked)).assert_success();
        running.wait().assert_success();
    });
}

/// The approved content is what runs: a script that is rewritten while the question is open does
/// not.
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
            let run = env
                .session_with(repo.path(), &["--ask", "inbox", "--policy", &policy])
                .line(line);
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
                events::summary(&env.record())
            );
        }
    });
}

/// The same for data in the memory of the process that asks: arguments, variables, the path of a
/// change, and the directory that its threads share.
#[test]
fn p06_a_call_that_changed_after_the_question_does_not_happen() {
    require_tool("gcc");
    let exec = "what = \"exec\"\ncommand = [\"touch\", \"**\"]";
    let file = "what = \"file\"\npaths = [\"first1\"]";
    let cases = [
        (exec, "nothing", "touch first1"),
        (exec, "argument", "touch first1"),
        (exec, "variable", "touch first1"),
        (exec, "directory", "touch first1"),
        (file, "nothing make", "first1"),
        (file, "path make", "first1"),
        (file, "directory make", "first1"),
    ];
    for_each_user(|env| {
        let source = env.write("later.c", include_str!("later.c"));
        for (index, (rule, change, shown)) in cases.into_iter().enumerate() {
            let text = format!("schema = 1\n[[ask]]\nid = \"lab\"\n{rule}\nreason = \"lab\"\n");
            let policy = env.write("policy.toml", &text).display().to_string();
            let repo = env.repo_named(&format!("repo{index}"));
            env.write(repo.path().join("below/README.md"), "below\n");
            env.command("gcc")
                .args(["-O1", "-pthread", "-o"])
                .arg(repo.path().join("later"))
                .arg(&source)
                .success();
            let run = env
                .session_with(repo.path(), &["--ask", "inbox", "--policy", &policy])
                .line(format!("./later {change}"));
            let choose = |asked: &Asked| {
                assert!(asked.mentions(shown), "{asked:#?}");
                env.write(repo.path().join("now"), "");
                let changed = || repo.path().join("done").exists();
                assert!(wait::until_true(Duration::from_secs(10), changed));
                allow(asked)
            };
            let (output, asked) = approvals::answer_all(env, run.spawn(), choose);
            assert_eq!(asked.len(), 1, "{asked:#?}");
            let made: Vec<&str> = ["first1", "other1", "below/first1"]
                .into_iter()
                .filter(|name| repo.path().join(name).exists())
                .collect();
            let record = env.record();
            let all = events::summary(&record);
            let refused: Vec<_> = record.iter().filter(|event| event.is_refusal()).collect();
            if change.starts_with("nothing") || change == "path make" {
                // Control: an unchanged call happens. A path is read only once, so its later value
                // in the caller's memory has no effect: the shown change happens.
                assert_eq!(made, ["first1"], "{output:?}\n{all}");
                assert_eq!(refused.len(), 0, "{all}");
            } else {
                assert!(made.is_empty(), "{change}: {made:?} {output:?}\n{all}");
                // The reason is reported once.
                assert_eq!(refused.len(), 1, "{change}: {all}");
                assert!(
                    refused[0].json.to_string().contains("changed meanwhile"),
                    "{all}"
                );
            }
            // It was not permitted first and detected afterwards.
            let found = record.iter().any(|event| event.kind() == "finding.raised");
            assert!(!found, "{change}: {all}");
        }
    });
}

/// A change that a rule asks about happens when it is allowed, and does not when it is denied; the
/// record of the change contains the answer.
#[test]
fn p14_changes_are_asked_about() {
    let text = "schema = 1\n[[ask]]\nid = \"ask-notes\"\nwhat = \"file\"\npaths = [\"notes/**\"]\nreason = \"lab\"\n";
    for_each_user(|env| {
        let policy = env.write("policy.toml", text).display().to_string();
        let repo = env.repo();
        env.write(repo.path().join("notes/old"), "old\n");
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let line = "echo a > notes/a; echo b > notes/b; echo c > c; mv notes/old .mcp.json; mv notes/old notes/new";
        let run = env.session_with(repo.path(), &options).line(line);
        let choose = |asked: &Asked| {
            if asked.mentions("notes/b") {
                let reason = "lab".to_owned();
                Answer::Deny { reason }
            } else {
                allow(asked)
            }
        };
        let (output, asked) = approvals::answer_all(env, run.spawn(), choose);
        output.assert_success();
        let record = env.record();
        let all = events::summary(&record);
        // Two files, and both names of the move; changes that are denied anyway cause no question.
        assert_eq!(asked.len(), 4, "{asked:#?}\n{all}");
        let is_there = |name: &str| repo.path().join(name).exists();
        assert!(
            is_there("notes/a") && is_there("c") && is_there("notes/new"),
            "{all}"
        );
        assert!(
            !is_there("notes/b") && !is_there("notes/old") && !is_there(".mcp.json"),
            "{all}"
        );
        let granted = record
            .iter()
            .filter(|event| event.kind() == "file.changed" && event.rule() == "ask-notes");
        assert_eq!(granted.count(), 3, "{all}");
        let refused = record.iter().filter(|event| event.is_refusal()).count();
        assert_eq!(refused, 2, "{all}");
        let shown = env.stockade().args(["show", &env.session_id()]).success();
        for (how, name) in [("create", "notes/a"), ("remove", "notes/old")] {
            let path = repo.path().join(name);
            shown.assert_stdout(&format!("? file {how} {}", path.display()));
        }
    });
}

/// A question without an answer opens nothing when its command ends.
#[test]
fn p12_an_open_question_ends_with_its_session() {
    for_each_user(|env| {
        let repo = env.repo();
        let run = env
            .session_with(repo.path(), &["--ask", "inbox"])
            .line("timeout -s KILL 2 git push origin HEAD:refs/heads/p12; echo over");
        let output: Output = run.success();
        output.assert_stdout("over");
        assert!(!repo.origin().join("refs/heads/p12").exists());
        assert!(approvals::pending(env).is_empty());
        let record = env.record();
        let used = record
            .iter()
            .filter(|event| event.kind() == "approval.used")
            .count();
        assert_eq!(used, 0, "{}", events::summary(&record));
    });
}

/// An open question cannot be answered from inside, even with its id.
#[test]
fn p10_an_open_question_is_not_answered_from_inside() {
    for_each_user(|env| {
        let repo = env.repo();
        let own = repo.path().join("own");
        fs::copy(env.binary(), &own).expect("the workspace is ours");
        env.own(&own);
        let policy = env.write("policy.toml", ASK_ID).display().to_string();
        let line = format!(
            "id -u > answered & export STOCKADE_STATE_DIR='{}'; while [ ! -e number ]; do sleep 0.05; done; \
             ./own approvals allow $(cat number) --scope once; ./own approvals list --json > listed; : > tried; wait",
            env.state().display()
        );
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let run = env.session_with(repo.path(), &options).line(&line);
        let running = run.spawn();
        let asked = || approvals::pending(env).into_iter().next();
        assert!(
            wait::until_true(Duration::from_secs(10), || asked().is_some()),
            "{}",
            running.stderr()
        );
        let asked = asked().expect("it was just seen");
        // Written under another name and moved, so that it is complete when it appears.
        let number = env.write(repo.path().join("number.new"), &asked.id);
        fs::rename(number, repo.path().join("number")).expect("the workspace is ours");
        let tried = || repo.path().join("tried").exists();
        assert!(
            wait::until_true(Duration::from_secs(10), tried),
            "{}",
            running.stderr()
        );
        assert_eq!(approvals::pending(env).len(), 1, "it was answered");
        let read = |name: &str| fs::read_to_string(repo.path().join(name)).expect("it was made");
        assert_eq!(read("answered"), "");
        assert!(!read("listed").contains(&asked.id), "the inside sees it");
        // Control: from outside the same words answer it.
        approvals::answer(env, &asked.id, &allow(&asked)).assert_success();
        let output = running.wait();
        assert_ne!(read("answered"), "", "{output:?}");
        let record = env.record();
        let decided = record
            .iter()
            .filter(|event| event.kind() == "approval.decided")
            .count();
        assert_eq!(decided, 1, "{}", events::summary(&record));
    });
}

/// Overwrites its last argument at once, all of it with the character that the one before names, or only
/// its first character; then it stays for longer than until it is verified.
const HIDES: &str = r#"#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char *secret = argv[argc - 1];
    memset(secret, argv[argc - 2][0], argv[argc - 2][1] ? 1 : strlen(secret));
    usleep(20000);
    return write(1, "ran\n", 4) != 4;
}
"#;

/// A program that writes over a secret in its own arguments, as curl does, is still the one that was
/// approved; one whose arguments say something else ends the session.
#[test]
fn k08_a_secret_that_is_overwritten_ends_no_session() {
    const TIMES: usize = 50;
    let rule = |id: &str, program: &str| {
        format!(
            "[[ask]]\nid = \"{id}\"\nwhat = \"exec\"\ncommand = [\"{program}\", \"**\"]\nreason = \"lab\"\n"
        )
    };
    let text = format!(
        "schema = 1\n{}{}",
        rule("ask-hides", "hides"),
        rule("ask-curl", "curl")
    );
    require_tool("curl");
    for_each_user(|env| {
        let repo = env.repo();
        build(env, &repo, &[("hides", HIDES)]);
        env.write(repo.path().join("page"), "ran\n");
        let policy = env.write("policy.toml", &text).display().to_string();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let session = |_: &Asked| Answer::Allow {
            scope: "session".into(),
        };
        let curl = "curl -s -u me:password \"file://$PWD/page\"";
        let often =
            |command: &str| format!("for i in $(seq {TIMES}); do {command} || exit 1; done");
        for command in [curl, "./hides '*' password"] {
            let line = often(command);
            let run = env.session_with(repo.path(), &options).line(&line);
            let (output, asked) = approvals::answer_all(env, run.spawn(), session);
            output.assert_success();
            assert_eq!(output.stdout.matches("ran\n").count(), TIMES, "{output:?}");
            assert_eq!(asked.len(), 1, "{asked:#?}");
        }
        for command in [
            "./hides _ password",
            "./hides '**' password",
            "./hides '*' --dry-run",
        ] {
            // A single one can be verified before it overwrites anything.
            let line = often(command);
            let run = env.session_with(repo.path(), &options).line(&line);
            let (output, _) = approvals::answer_all(env, run.spawn(), session);
            assert_eq!(output.code(), 137, "{command}: {output:?}");
            let record = env.record();
            let all = events::summary(&record);
            let found = |event: &Event| event.kind() == "finding.raised";
            assert!(record.iter().any(found), "{command}: {all}");
        }
    });
}

/// Nothing inside reaches the questions: there is no socket and no state.
#[test]
fn p10_the_inside_cannot_answer() {
    let find = "find / -xdev -name '*.sock' 2> /dev/null | grep -q . || find / -type s 2> /dev/null | grep -q .";
    let found = "perl -MSocket -e 'socket($s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un(\"own.sock\")) or exit 1' && find . -type s | grep -q .";
    let attempts = [
        closed("sockets", find).twin(found),
        closed("state", "ls \"$STATE/sessions\"")
            .twin("mkdir -p \"$STATE/sessions\" && ls \"$STATE/sessions\""),
    ];
    Matrix {
        variables: &|scene| vec![("STATE".into(), scene.env.state().display().to_string())],
        ask: "inbox",
        ..Matrix::new("P10", &attempts)
    }
    .check();
}
