//! A tracer controls its target: a process with an answer, or with a rule about its program, is not
//! traced, and a traced one gets neither (K56).

use std::{fs, path::Path, time::Duration};

use stockade_testkit::{
    Output, TestEnv,
    approvals::{self, Answer},
    events::{self, Event},
    run::require_tool,
    wait,
};

use crate::attacks::for_each_user;

/// Asks about one program, and trusts one to connect.
const POLICY: &str = r#"schema = 1
[[ask]]
id = "asked"
what = "exec"
command = [["id", "**"], ["sleep", "77"], ["sh", "asked.sh"]]
reason = "lab"

[[allow]]
id = "trusted"
what = "net"
hosts = ["trusted.test"]
programs = ["/usr/bin/tail"]
reason = "lab"
"#;

/// `trace PID` (PTRACE_SEIZE), `memory PID` (opens the memory for writing), `runs PID NAME` waits
/// until the process runs a program, and `traced CMD` runs one under PTRACE_TRACEME.
const TOOLS: &str = r#"
trace() { perl -e 'print syscall(101, 0x4206, $ARGV[0] + 0, 0, 0) == 0 ? "traced\n" : "kept\n"' $1; }
memory() { perl -e 'print open($f, "+<", "/proc/$ARGV[0]/mem") ? "open\n" : "kept\n"' $1; }
runs() { for i in $(seq 200); do [ "$(cat /proc/$1/comm)" = $2 ] && return; sleep 0.05; done; echo "$2 does not run"; }
traced() { perl -e 'if (!($p = fork)) { syscall(101, 0, 0, 0, 0) == 0 or print "untraced\n"; exec @ARGV; print "kept\n"; exit } waitpid $p, 0; syscall(101, 17, $p, 0, 0); waitpid $p, 0' "$@"; }
"#;

/// Runs a line and allows each question once `before` is done.
fn session(env: &TestEnv, line: &str, before: impl Fn(&Path)) -> (Output, Vec<Event>) {
    require_tool("perl");
    require_tool("pgrep");
    let policy = env.write("policy.toml", POLICY).display().to_string();
    let repo = env.repo();
    fs::write(
        repo.path().join("asked.sh"),
        "sleep 79 & (setsid sleep 80 &); wait\n",
    )
    .expect("a script is written");
    let run = env
        .session_with(repo.path(), &["--ask", "inbox", "--policy", &policy])
        .line(format!("{TOOLS}\n{line}"));
    let (output, _) = approvals::answer_all(env, run.spawn(), |_| {
        before(repo.path());
        Answer::Allow {
            scope: "once".into(),
        }
    });
    (output, env.record())
}

fn kept(record: &[Event], kind: &str) -> usize {
    let is_it = |event: &&Event| event.kind() == kind && event.rule() == "traced";
    record.iter().filter(is_it).count()
}

#[test]
fn k56_what_is_traced_runs_nothing_that_is_asked_about() {
    for_each_user(|env| {
        let line = "traced /usr/bin/id -u; traced /usr/bin/printf 'ran\\n'; /usr/bin/id -u";
        let (output, record) = session(env, line, |_| {});
        let all = events::summary(&record);
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(
            matches!(lines[..], ["kept", "ran", id] if id.parse::<u32>().is_ok()),
            "{output:?}\n{all}"
        );
        assert_eq!(kept(&record, "exec.decided"), 1, "{all}");
    });
}

#[test]
fn k56_what_runs_on_an_answer_is_not_traced() {
    for_each_user(|env| {
        let line = "sleep 77 & asked=$!; runs $asked sleep; trace $asked; memory $asked
            perl -e 'sleep 30' & plain=$!; runs $plain perl; trace $plain; memory $plain
            kill $asked $plain";
        let (output, record) = session(env, line, |_| {});
        let all = events::summary(&record);
        assert_eq!(
            output.stdout, "kept\nkept\ntraced\nopen\n",
            "{output:?}\n{all}"
        );
        assert_eq!(kept(&record, "file.denied"), 2, "{all}");
    });
}

/// Neither its children, nor those whose parents are gone.
#[test]
fn k56_what_belongs_to_an_answer_is_not_traced() {
    for_each_user(|env| {
        let line = "sh asked.sh & asked=$!
            for i in $(seq 200); do child=$(pgrep -f '^sleep 79'); orphan=$(pgrep -f '^sleep 80'); [ \"$child$orphan\" ] && break; sleep 0.05; done
            sleep 0.3; orphan=$(pgrep -f '^sleep 80'); [ \"$(ps -o ppid= -p $orphan)\" -eq 1 ] && echo orphan
            trace $child; memory $child; trace $orphan
            perl -e 'sleep 30' & plain=$!; runs $plain perl; trace $plain
            kill $child $orphan $plain";
        let (output, record) = session(env, line, |_| {});
        let all = events::summary(&record);
        let expected = "orphan\nkept\nkept\nkept\ntraced\n";
        assert_eq!(output.stdout, expected, "{output:?}\n{all}");
    });
}

/// A process that could trace another while the question was open gets no answer that was given for
/// a different program.
#[test]
fn k56_an_answer_is_for_nobody_that_was_traced_meanwhile() {
    for_each_user(|env| {
        let line =
            "sleep 77 & asked=$!; sleep 0.5; trace $asked; echo > attached; wait $asked; echo $?";
        let (output, record) = session(env, line, |workspace| {
            let attached = workspace.join("attached");
            assert!(wait::until_true(Duration::from_secs(10), || attached.exists()));
        });
        let all = events::summary(&record);
        assert_eq!(output.stdout, "traced\n126\n", "{output:?}\n{all}");
    });
}

#[test]
fn k56_what_a_rule_trusts_by_its_program_is_not_traced() {
    for_each_user(|env| {
        let line = "tail -f asked.sh >/dev/null & trusted=$!; runs $trusted tail; trace $trusted; memory $trusted
            traced /usr/bin/tail -n 1 asked.sh
            cp /usr/bin/tail copied; ./copied -f asked.sh >/dev/null & copied=$!; runs $copied copied; trace $copied
            kill $trusted $copied";
        let (output, record) = session(env, line, |_| {});
        let all = events::summary(&record);
        assert_eq!(
            output.stdout, "kept\nkept\nkept\ntraced\n",
            "{output:?}\n{all}"
        );
    });
}

/// The first process of a session hands sockets on and passes signals: it is never traced, and
/// traces no other process.
#[test]
fn k56_the_first_process_has_no_part_in_it() {
    for_each_user(|env| {
        let line = "trace 1; memory 1
            perl -e 'if (!fork) { sleep 1 while getppid != 1; print syscall(101, 0, 0, 0, 0) == 0 ? \"traced\\n\" : \"kept\\n\" }'; sleep 2";
        let (output, _) = session(env, line, |_| {});
        assert_eq!(output.stdout, "kept\nkept\nkept\n", "{output:?}");
    });
}
