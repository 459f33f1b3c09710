//! An answer for one use permits one, counted when it is used (P14), and a question ends with the
//! program that asked it (P12).

use std::{cell::RefCell, time::Duration};

use stockade_testkit::{
    Output, TestEnv,
    approvals::{self, Answer, Asked},
    events,
    lab::HttpServer,
    run::require_tool,
    wait,
};

use crate::attacks::{count, for_each_user};

/// How long a session may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

fn policy(env: &TestEnv, port: u16) -> String {
    let text = format!(
        "schema = 1\n[network.hosts]\n\"ask.test\" = \"127.0.0.1\"\n[[ask]]\nid = \"lab\"\n\
         what = \"net\"\nhosts = [\"ask.test\"]\nports = [{port}]\nprivate = true\nreason = \"lab\"\n"
    );
    env.write("policy.toml", &text).display().to_string()
}

fn session(
    env: &TestEnv,
    port: u16,
    line: &str,
    choose: impl Fn(&Asked) -> Answer,
) -> (Output, Vec<Asked>) {
    let policy = policy(env, port);
    let options = ["--ask", "inbox", "--policy", policy.as_str()];
    let repo = env.repo_named(&format!("shop{port}"));
    let run = env.session_with(repo.path(), &options).line(line);
    approvals::answer_all(env, run.spawn(), choose)
}

/// Answers the first question with an allow of scope `scope`, and denies the others.
fn first(scope: &'static str) -> impl Fn(&Asked) -> Answer {
    let answered = RefCell::new(false);
    move |_| {
        if answered.replace(true) {
            return Answer::Deny {
                reason: "enough".into(),
            };
        }
        Answer::Allow {
            scope: scope.to_owned(),
        }
    }
}

/// Connections that wait together share a question; `once` permits one of them.
#[test]
fn p14_once_lets_one_of_those_who_wait_through() {
    require_tool("curl");
    for_each_user(|env| {
        for (scope, expected) in [("once", 1), ("session", 8)] {
            let server = HttpServer::start();
            let line = format!(
                "for i in 1 2 3 4 5 6 7 8; do curl -sS -m 20 http://ask.test:{}/$i & done; wait",
                server.port()
            );
            let (output, asked) = session(env, server.port(), &line, first(scope));
            let record = env.record();
            let all = events::summary(&record);
            assert_eq!(
                server.requests().len(),
                expected,
                "{scope} {output:?}\n{all}"
            );
            assert_eq!(count(&record, "approval.used"), expected, "{scope}: {all}");
            // The others cause one more question together, and share its answer too.
            let questions = if scope == "once" { 2 } else { 1 };
            assert_eq!(asked.len(), questions, "{scope}: {asked:#?}");
        }
    });
}

/// A retry is a new use, and so is each connection of a program that keeps none.
#[test]
fn p14_a_second_connection_is_a_second_use() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let url = format!("http://ask.test:{}", server.port());
        // One connection with two requests, then another connection.
        let line = format!("curl -sS -m 20 {url}/1 {url}/2; curl -sS -m 20 {url}/3; :");
        let (output, asked) = session(env, server.port(), &line, first("once"));
        let all = events::summary(&env.record());
        let paths: Vec<String> = server
            .requests()
            .into_iter()
            .map(|request| request.path().to_owned())
            .collect();
        assert_eq!(paths, ["/1", "/2"], "{output:?}\n{all}");
        assert_eq!(asked.len(), 2, "{asked:#?}");
    });
}

/// Another program with the same destination cannot use the answer.
#[test]
fn p14_once_is_for_the_program_that_was_shown() {
    require_tool("curl");
    require_tool("python3");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let line = format!(
            "python3 -c 'import urllib.request as u; u.urlopen(\"http://ask.test:{port}/python\", timeout=20)' & \
             curl -sS -m 20 http://ask.test:{port}/curl & wait; :"
        );
        let policy = policy(env, port);
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let running = env
            .session_with(env.repo().path(), &options)
            .line(&line)
            .spawn();
        let both = || approvals::pending(env).len() == 2;
        assert!(wait::until_true(ASK_TIMEOUT, both), "{}", running.stderr());
        for asked in approvals::pending(env) {
            let shown = env
                .stockade()
                .args(["approvals", "show", &asked.id])
                .success()
                .stdout;
            let given = if shown.contains("/usr/bin/curl") {
                Answer::Allow {
                    scope: "once".into(),
                }
            } else {
                Answer::Deny {
                    reason: "not this one".into(),
                }
            };
            approvals::answer(env, &asked.id, &given).assert_success();
        }
        running.wait();
        let paths: Vec<String> = server
            .requests()
            .into_iter()
            .map(|request| request.path().to_owned())
            .collect();
        assert_eq!(paths, ["/curl"], "{}", events::summary(&env.record()));
    });
}

/// A client that gives up withdraws its question; nothing is sent for it afterwards, and no other
/// program uses an answer that comes too late.
#[test]
fn p12_a_question_ends_with_the_client_that_gave_up() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let policy = policy(env, server.port());
        let line = format!(
            "curl -sS -m 2 http://ask.test:{}/; echo gave-up; while [ ! -e over ]; do sleep 0.1; done",
            server.port()
        );
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let repo = env.repo();
        let running = env.session_with(repo.path(), &options).line(&line).spawn();
        let open = || approvals::pending(env).into_iter().next();
        assert!(wait::until_true(ASK_TIMEOUT, || open().is_some()));
        let asked = open().expect("it was just seen");
        assert!(
            wait::until_true(ASK_TIMEOUT, || open().is_none()),
            "{}",
            running.stderr()
        );
        let late = env
            .stockade()
            .args(["approvals", "allow", &asked.id])
            .output();
        late.assert_code(1)
            .assert_stderr("withdrawn: the program that asked no longer waits");
        env.write(repo.path().join("over"), "");
        running.wait();
        let record = env.record();
        let all = events::summary(&record);
        assert_eq!(server.requests().len(), 0, "{all}");
        assert_eq!(count(&record, "approval.used"), 0, "{all}");
        let decided = record
            .iter()
            .find(|event| event.kind() == "approval.decided")
            .expect("it was settled");
        assert_eq!(decided.json["by"], "withdrawn", "{all}");
    });
}

/// The same for executions: as many answers as there are uses.
#[test]
fn p14_once_lets_one_of_several_executions_through() {
    let text = "schema = 1\n[[ask]]\nid = \"lab\"\nwhat = \"exec\"\ncommand = [\"touch\", \"**\"]\nreason = \"lab\"\n";
    for_each_user(|env| {
        let policy = env.write("policy.toml", text).display().to_string();
        let repo = env.repo();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let line = "for i in 1 2 3 4 5; do touch made && echo passed & done; wait; :";
        let run = env.session_with(repo.path(), &options).line(line);
        let (output, asked) = approvals::answer_all(env, run.spawn(), first("once"));
        let all = events::summary(&env.record());
        assert_eq!(output.stdout.lines().count(), 1, "{output:?}\n{all}");
        assert_eq!(asked.len(), 2, "{asked:#?}\n{all}");
    });
}

/// A request that no answer can open causes no question; with the setting that opens it, it does.
#[test]
fn p14_nobody_is_asked_for_what_no_answer_can_open() {
    require_tool("curl");
    for_each_user(|env| {
        for (private, asked_times) in [("", 0), ("private = true\n", 1)] {
            let text = format!(
                "schema = 1\n[network.hosts]\n\"ask.test\" = \"127.0.0.1\"\n[[ask]]\nid = \"lab\"\n\
                 what = \"net\"\nhosts = [\"ask.test\"]\nports = [80]\n{private}reason = \"lab\"\n"
            );
            let policy = env.write("policy.toml", &text).display().to_string();
            let options = ["--ask", "inbox", "--policy", policy.as_str()];
            let repo = env.repo_named(&format!("shop{asked_times}"));
            let line = "curl -sS -m 10 http://ask.test/; :";
            let run = env.session_with(repo.path(), &options).line(line);
            let deny = |_: &Asked| Answer::Deny {
                reason: "lab".into(),
            };
            let (output, asked) = approvals::answer_all(env, run.spawn(), deny);
            let record = env.record();
            let all = events::summary(&record);
            assert_eq!(asked.len(), asked_times, "{asked:#?}\n{all}");
            let rule = if asked_times == 0 {
                "private-address"
            } else {
                "lab"
            };
            assert!(output.stdout.contains(rule), "{output:?}");
            let refused = record.iter().filter(|event| event.is_refusal());
            assert!(
                refused.into_iter().all(|event| event.rule() == rule),
                "{all}"
            );
        }
    });
}
