//! Properties on which a script of the caller relies: its input is read only as the command reads
//! it, outputs keep their order and destination, and an interrupt ends its loops.

use std::{thread, time::Duration};

use stockade_testkit::{Output, pty::Terminal};

use crate::terminal::lab::{LONG, Lab};

/// Begins a run that prints nothing of its own.
const RUN: &str = "RUN='$STOCKADE run --ask deny --summary none --'; run() { $STOCKADE run --ask deny --summary none -- \"$@\"; };";
/// Shells in which people write loops.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/dash"];

fn script(lab: &Lab, line: &str) -> Output {
    lab.around(&format!("{RUN} {line}"))
        .timeout(LONG * 4)
        .output()
}

fn printed(lab: &Lab, line: &str) -> String {
    script(lab, line).assert_success().stdout.clone()
}

/// Compares the same line with `run` as a session, and without one.
fn assert_as_outside(lab: &Lab, line: &str) {
    let outside = lab.around(&format!("run() {{ \"$@\"; }}; {line}")).output();
    let outside = outside.assert_success().stdout.clone();
    assert_eq!(printed(lab, line), outside, "{line}");
}

#[test]
fn both_outputs_into_one_place_keep_their_order() {
    let lab = Lab::new();
    let words = "for i in 1 2 3 4 5 6 7 8; do echo o$i; echo e$i >&2; done";
    for line in [
        format!("run sh -c '{words}' 2>&1"),
        format!("run sh -c '{words}' > both 2>&1; cat both"),
        format!("run sh -c '{words}' &> both; cat both"),
        format!("rm -f both; run sh -c '{words}' >> both 2>> both; cat both"),
        format!("run sh -c '{words}' 2>&1 | cat"),
        // The other way round, and separate.
        format!("run sh -c '{words}' 1>&2 2> err; cat err"),
        format!("run sh -c '{words}' 3>&1 > out 2>&3; cat out"),
    ] {
        for _ in 0..3 {
            assert_as_outside(&lab, &line);
        }
    }
}

#[test]
fn standard_error_goes_where_a_caller_on_a_terminal_puts_it() {
    let lab = Lab::new();
    let line = "$STOCKADE run --ask deny --summary none -- sh -c 'echo seen; echo problem >&2; \
                [ -t 0 ] && [ -t 1 ] && ! [ -t 2 ] && echo as outside' 2> problems; echo all done";
    let mut terminal = Terminal::start(lab.around(line).into_command(), 24, 80);
    terminal.wait_for("all done", LONG);
    let screen = terminal.text();
    terminal.wait_exit(LONG);
    assert!(
        screen.contains("seen") && screen.contains("as outside"),
        "{screen}"
    );
    assert!(!screen.contains("problem\n"), "{screen}");
    assert!(
        lab.file("problems").ends_with("problem\n"),
        "{}",
        lab.file("problems")
    );
}

#[test]
fn a_loop_over_lines_reads_every_line() {
    let lab = Lab::new();
    let count = "n=0; while read -r line; do run true; n=$((n + 1)); done";
    for line in [
        format!("seq 5 > list; {count} < list; echo $n"),
        format!("seq 5 | {{ {count}; echo $n; }}"),
        format!("mkfifo f; seq 5 > f & {count} < f; echo $n"),
        format!("{count} <<< $'1\\n2\\n3'; echo $n"),
        format!("{{ {count}; echo $n; }} < <(seq 5)"),
        // Descriptors that are shared by more than one command.
        "seq 9 > list; exec < list; read a; run true; read b; run true; read c; echo $a $b $c"
            .to_owned(),
    ] {
        assert_as_outside(&lab, &line);
    }
    for shell in SHELLS {
        let line = format!(
            "seq 5 > list; {shell} -c 'n=0; while read -r l; do $STOCKADE run --summary none -- true; n=$((n + 1)); done < list; echo $n'"
        );
        assert_eq!(printed(&lab, &line), "5\n", "{shell}");
    }
}

#[test]
fn what_a_command_reads_is_gone_and_the_rest_is_there() {
    let lab = Lab::new();
    for line in [
        // From a stream without seek, a shell reads byte by byte, and so exactly one line.
        "seq 5 | { run sh -c 'read a; echo first $a'; cat; }",
        "seq 40000 | { run sh -c 'head -c 100000 > part'; wc -c < part; cat | wc -c; }",
        "seq 40000 > list; { run dd bs=1000 count=3 status=none | wc -c; cat | wc -c; } < list",
        "seq 40000 > list; { run cat; cat; } < list | wc -c",
        "seq 400000 | { run cat; cat; } | sha256sum",
        "seq 400000 > list; { run cat; run cat; } < list | sha256sum",
        // For a shared file, reading starts at its offset.
        "seq 5 > list; { read a; run cat; } < list",
    ] {
        assert_as_outside(&lab, line);
    }
}

/// The next reader must neither read bytes that are not there, nor read bytes twice.
#[test]
fn a_command_that_writes_into_its_own_input_takes_nothing_back() {
    let lab = Lab::new();
    let line = "seq 5 > list; { run sh -c 'read a; echo got $a; echo forged > /proc/self/fd/0; echo rc $?'; cat; } < list";
    let output = printed(&lab, line);
    assert!(output.starts_with("got 1\n"), "{output}");
    assert!(!output.contains("forged"), "{output}");
    // At worst the lines that were there before are seen again.
    let rest: Vec<&str> = output.lines().skip(2).collect();
    let all = ["1", "2", "3", "4", "5"];
    assert!(all.ends_with(&rest), "{output}");
}

#[test]
fn input_arrives_while_it_is_made() {
    let lab = Lab::new();
    let line = "{ echo one; sleep 1; echo two; } | run sh -c 'read a; echo $a; read b; echo $b'";
    assert_eq!(printed(&lab, line), "one\ntwo\n");
    let line =
        "{ seq 30000; sleep 1; seq 3; } | run sh -c 'while read l; do n=$((n+1)); done; echo $n'";
    assert_eq!(printed(&lab, line), "30003\n");
    // The command closes its side: the relay does not wait for input.
    assert_eq!(
        printed(&lab, "run sh -c 'exec <&-; echo done' < <(sleep 30)"),
        "done\n"
    );
}

/// Starts a loop of three sessions on a terminal, interrupts the first, and returns the screen
/// text.
fn interrupted_loop(lab: &Lab, shell: &str, redirection: &str) -> String {
    let line = format!(
        "exec {shell} -c 'for i in 1 2 3; do $STOCKADE run --ask deny --summary none -- \
         sh -c \"echo go; echo go > started-$i; exec sleep 30\" {redirection}; echo went on; done; echo over'"
    );
    for number in 1..=3 {
        drop(std::fs::remove_file(
            lab.repo.path().join(format!("started-{number}")),
        ));
    }
    let mut terminal = Terminal::start(lab.around(&line).into_command(), 24, 80);
    lab.wait_file("started-1", "go");
    thread::sleep(Duration::from_millis(300));
    terminal.send("\x03");
    terminal.wait_exit(LONG);
    terminal.text()
}

#[test]
fn an_interrupt_ends_the_loop_around_it() {
    let lab = Lab::new();
    for shell in SHELLS {
        for redirection in ["", "> out", "< /dev/null", "2> err", "| cat"] {
            let shown = interrupted_loop(&lab, shell, redirection);
            assert!(!shown.contains("went on"), "{shell} {redirection}: {shown}");
        }
    }
}

/// Only a person interrupts the programs around a session, never the session.
#[test]
fn a_session_that_interrupts_itself_ends_nothing_else() {
    let lab = Lab::new();
    let line = "exec /bin/bash -c 'for i in 1 2; do $STOCKADE run --ask deny --summary none -- \
                sh -c \"kill -INT \\$\\$; sleep 9\"; echo code $?; done; echo over'";
    let mut terminal = Terminal::start(lab.around(line).into_command(), 24, 80);
    terminal.wait_for("over", LONG);
    let shown = terminal.text();
    terminal.wait_exit(LONG);
    assert_eq!(shown.matches("code 130").count(), 2, "{shown}");
}

#[test]
fn no_sequence_reaches_a_terminal_that_knows_none_nor_a_pipe() {
    let lab = Lab::new();
    let line = "$STOCKADE run -- sh -c 'echo hello; git push nowhere'; echo all done";
    let run = lab
        .around(line)
        .env("TERM", "dumb")
        .env("PATH", "/usr/bin:/bin");
    let terminal = Terminal::start(run.into_command(), 24, 80);
    terminal.wait_for("hello", LONG);
    thread::sleep(Duration::from_millis(500));
    terminal.send("\x03");
    terminal.send("\x04");
    thread::sleep(Duration::from_millis(500));
    let raw = terminal.raw();
    assert!(!raw.contains(&0x1b), "{:?}", String::from_utf8_lossy(&raw));
    drop(terminal);
    let output = lab
        .around(
            "$STOCKADE run --ask deny -- git push nowhere 2>&1; $STOCKADE sessions; $STOCKADE doctor",
        )
        .output();
    assert!(
        output.stdout.contains("refused") && !output.stdout.contains('\x1b'),
        "{output:?}"
    );
}
