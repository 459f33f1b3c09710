//! The egress process: what somebody who took it over could still do.

use std::{collections::BTreeSet, fs};

use stockade_runner::egress_calls;
use stockade_testkit::{TestEnv, lab::HttpServer, run::require_tool};

use crate::attacks::for_each_user;

/// Open although ordinary work does not show them, with the occasion.
const RARE: &[(&str, &str)] = &[
    ("bind", "a name that a server outside is asked for"),
    ("clock_gettime", "where no page tells the time"),
    ("epoll_pwait", "instead of epoll_wait on arm64"),
    ("epoll_wait", "instead of epoll_pwait on x86-64"),
    ("exit", "the end of a thread"),
    ("getpid", "an abort"),
    ("getrandom", "more random numbers than were taken before"),
    ("getsockname", "a name that a server outside is asked for"),
    ("gettid", "an abort"),
    ("madvise", "large memory that is given back"),
    ("mremap", "large memory that grows"),
    ("munmap", "large memory that is given back"),
    ("read", "a queue of wake-ups that is full"),
    ("restart_syscall", "after it was stopped and continued"),
    ("rt_sigaction", "a panic or an abort"),
    ("rt_sigprocmask", "an abort"),
    ("rt_sigreturn", "a stack that is used up"),
    ("sched_yield", "a lock that somebody holds"),
    ("sigaltstack", "the end of the main thread"),
    ("tgkill", "an abort"),
];

/// A session with allowed and refused connections, looked at from outside; returns what its egress
/// process called once it was confined.
fn called(env: &TestEnv) -> BTreeSet<String> {
    let server = HttpServer::start();
    let port = server.port();
    let policy = env.write(
        "policy.toml",
        &format!(
            "schema = 1\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"good\"\n\
             what = \"net\"\nhosts = [\"good.test\"]\nports = [{port}]\nprivate = true\nreason = \"lab\"\n"
        ),
    );
    let trace = env.write("trace", "");
    let line = format!(
        "curl -sS -m 10 http://good.test:{port}/ok; curl -s -m 5 http://evil.test:{port}/; \
         curl -s -m 5 telnet://127.0.0.1:1 < /dev/null; getent hosts nowhere.invalid; :"
    );
    let output = env
        .command("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg(env.binary())
        .args(["run", "--summary", "none", "--ask", "deny", "--policy"])
        .arg(policy)
        .line(&line)
        .current_dir(env.repo().path())
        .success();
    assert_eq!(server.requests().len(), 1, "{output:?}");
    let text = fs::read_to_string(trace).expect("it was traced");
    let mut process = None;
    let mut confined = false;
    let mut called = BTreeSet::new();
    for line in text.lines() {
        let Some((id, what)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        if what.contains("\"__egress\"") && what.trim_start().starts_with("execve(") {
            process = Some(id.to_owned());
        }
        if process.as_deref() != Some(id) {
            continue;
        }
        let call = what.trim_start().split('(').next().unwrap_or_default();
        if confined && call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            called.insert(call.to_owned());
        }
        confined |= call == "seccomp";
    }
    called
}

/// Each call that is open is one that is made, or has its occasion.
#[test]
fn n60_the_egress_process_can_do_what_it_does() {
    require_tool("strace");
    let rare: BTreeSet<&str> = RARE.iter().map(|(name, _)| *name).collect();
    for_each_user(|env| {
        let called = called(env);
        assert!(
            called.contains("connect") && called.contains("accept4"),
            "{called:?}"
        );
        let unused: Vec<&str> = egress_calls()
            .filter(|name| !called.contains(*name) && !rare.contains(name))
            .collect();
        assert_eq!(unused, Vec::<&str>::new(), "called: {called:?}");
    });
}
