//! Without a terminal: streams stay separate, complete and bounded, and exit codes are the
//! command's.

use stockade_testkit::{Output, approvals, processes, run::RUN_TIMEOUT, wait};

use crate::terminal::lab::{LONG, Lab, numbered};

/// A number up to which `seq` prints more than 100 MB.
const NUMBERS: &str = "12500000";

fn quiet(lab: &Lab, line: &str) -> Output {
    lab.run(&["--ask", "deny", "--summary", "none"], line)
        .output()
}

/// Runs a pipeline of the host around `stockade`; `$RUN` begins a run.
fn pipeline(lab: &Lab, line: &str) -> Output {
    let line =
        format!("set -o pipefail; RUN=\"$STOCKADE run --ask deny --summary none --\"; {line}");
    lab.around(&line).timeout(RUN_TIMEOUT).output()
}

#[test]
fn the_streams_stay_apart() {
    let lab = Lab::new();
    let output = quiet(
        &lab,
        "echo out; echo err >&2; [ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo no terminal",
    );
    output.assert_success();
    assert_eq!(output.stdout, "out\nno terminal\n");
    assert_eq!(output.stderr, "err\n");
}

#[test]
fn the_summary_is_on_standard_error_alone() {
    let lab = Lab::new();
    let output = lab.run(&["--ask", "deny"], "echo out").output();
    assert_eq!(output.assert_success().stdout, "out\n");
    output.assert_stderr("record     intact");
    let json = lab
        .run(&["--ask", "deny", "--summary", "json"], "echo out")
        .output();
    assert_eq!(json.assert_success().stdout, "out\n");
    let line: serde_json::Value = serde_json::from_str(json.stderr.trim()).unwrap();
    assert_eq!(line["denials"], 0);
}

#[test]
fn exit_codes_are_the_commands_own() {
    let lab = Lab::new();
    for code in [0, 1, 3, 42, 255] {
        quiet(&lab, &format!("exit {code}")).assert_code(code);
    }
    for (signal, code) in [
        ("TERM", 143),
        ("KILL", 137),
        ("INT", 130),
        ("SEGV", 139),
        ("PIPE", 141),
    ] {
        quiet(&lab, &format!("kill -{signal} $$; sleep 5")).assert_code(code);
    }
}

#[test]
fn input_reaches_its_end() {
    let lab = Lab::new();
    let run = |line: &str| lab.run(&["--ask", "deny", "--summary", "none"], line);
    let output = run("cat; echo end").stdin("some input").output();
    assert_eq!(output.assert_success().stdout, "some inputend\n");
    let output = run("wc -c").stdin("").output();
    assert_eq!(output.assert_success().stdout.trim(), "0");
    // Input that a command does not read does not block.
    run("true")
        .stdin(vec![b'x'; 1 << 20])
        .output()
        .assert_success();
    // Nor does an endless input.
    pipeline(
        &lab,
        "mkfifo endless; exec 8<> endless; $RUN echo done < endless",
    )
    .assert_success()
    .assert_stdout("done");
}

#[test]
fn bytes_pass_as_they_are() {
    let lab = Lab::new();
    let bytes =
        "printf '\\000\\001\\033[2J\\377\\376\\200\\r\\n\\032\\003\\004'; head -c 100000 /bin/bash";
    let output = pipeline(
        &lab,
        &format!(
            "here=$({{ {bytes}; }} | sha256sum); \
             through=$({{ {bytes}; }} | $RUN cat | sha256sum); \
             [ \"$here\" = \"$through\" ] && echo same"
        ),
    );
    output.assert_success().assert_stdout("same");
}

#[test]
fn a_hundred_megabytes_come_out_whole() {
    let lab = Lab::new();
    let output = pipeline(
        &lab,
        &format!(
            "here=$(seq {NUMBERS} | sha256sum); out=$($RUN seq {NUMBERS} | sha256sum); \
             [ \"$here\" = \"$out\" ] && echo same"
        ),
    );
    output.assert_success().assert_stdout("same");
}

#[test]
fn a_hundred_megabytes_go_in_whole() {
    let lab = Lab::new();
    let output = pipeline(
        &lab,
        &format!(
            "here=$(seq {NUMBERS} | sha256sum); in=$(seq {NUMBERS} | $RUN sha256sum); \
             [ \"$here\" = \"$in\" ] && echo same"
        ),
    );
    output.assert_success().assert_stdout("same");
}

#[test]
fn both_outputs_full_at_once_do_not_stop_each_other() {
    let lab = Lab::new();
    let line = "seq 200000 >&2 & seq 200000; wait";
    let output = quiet(&lab, line);
    output.assert_success();
    let expected = numbered(200_000, |n| format!("{n}\n"));
    assert!(output.stdout == expected && output.stderr == expected);
}

#[test]
fn a_reader_that_goes_ends_the_writer() {
    let lab = Lab::new();
    let mark = format!("forever-{}", std::process::id());
    let output = pipeline(
        &lab,
        &format!("$RUN yes {mark} | head -n 2; echo \"codes ${{PIPESTATUS[*]}}\""),
    );
    output.assert_success();
    let expected = format!("{mark}\n{mark}\ncodes 141 0\n");
    assert_eq!(output.stdout, expected, "{output:?}");
    let gone = || processes::with_argument(&mark).is_empty();
    assert!(wait::until_true(LONG, gone));
}

#[test]
fn streams_that_the_caller_closed_stay_closed_for_nobody_else() {
    let lab = Lab::new();
    // A file that is opened inside must not take the place of the caller's closed output.
    pipeline(&lab, "$RUN sh -c 'echo out; exit 4' >&-").assert_code(4);
    pipeline(&lab, "$RUN sh -c 'cat; exit 5' <&-").assert_code(5);
}

#[test]
fn without_anyone_to_ask_an_ask_is_a_deny_at_once() {
    let lab = Lab::new();
    for options in [&["--ask", "deny"][..], &[]] {
        let output = lab
            .run(
                options,
                "git push -q -h; echo \"code $?\"; /run/stockade/why",
            )
            .output();
        output.assert_success().assert_stdout("code 126");
        output
            .assert_stdout("rule    push")
            .assert_stdout("nobody could be asked");
        assert!(!output.stdout.contains("usage: git push"), "{output:?}");
        assert_eq!(lab.answers(), ["deny by no-one-to-ask"]);
    }
    assert_eq!(approvals::pending(&lab.env), []);
}

#[test]
fn tty_questions_need_a_terminal() {
    let lab = Lab::new();
    let output = lab.run(&["--ask", "tty"], "echo ran").output();
    output.assert_code(125).assert_stderr("needs a terminal");
    assert_eq!(output.stdout, "");
}

#[test]
fn what_the_caller_has_open_is_not_inherited() {
    let lab = Lab::new();
    let line = "exec 9< lines.txt; $RUN sh -c 'ls /proc/self/fd | tr \"\\n\" \" \"' < lines.txt";
    let output = pipeline(&lab, line);
    // `ls` itself has the directory open.
    assert_eq!(output.assert_success().stdout, "0 1 2 3 ");
    let links = pipeline(&lab, "$RUN readlink /proc/self/fd/0 < lines.txt");
    assert!(
        links.assert_success().stdout.starts_with("pipe:"),
        "{links:?}"
    );
}
