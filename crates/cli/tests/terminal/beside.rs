//! A session whose standard streams are redirected still has the caller's terminal, and gets its
//! keys only while it reads them.

use stockade_testkit::pty::Terminal;

use crate::terminal::lab::{LONG, Lab};

/// Replacements for a shell in a session, and for one without.
const INSIDE: &str = "$STOCKADE run --ask deny --summary none -- sh -c";
const OUTSIDE: &str = "sh -c";

/// A person's actions at a screen: wait for a text, then type another.
type Moves<'a> = &'a [(&'a str, &'a str)];

/// Runs a line with a shell in the place of `RUN`, and returns the last line of the screen before
/// the end.
fn ends_with(lab: &Lab, line: &str, run: &str, moves: Moves<'_>) -> String {
    let line = line.replace("RUN", run);
    let around = lab.around(&format!("{line}; echo; echo all done"));
    let mut terminal = Terminal::start(around.into_command(), 24, 80);
    for (text, keys) in moves {
        terminal.wait_for(text, LONG);
        terminal.send(keys);
    }
    terminal.wait_for("all done", LONG);
    let shown = terminal.text();
    terminal.wait_exit(LONG);
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let before = lines.iter().take_while(|line| **line != "all done");
    let last = before.filter(|line| !line.is_empty()).last();
    last.map(|line| (*line).to_owned()).unwrap_or_default()
}

#[test]
fn the_terminal_is_there_wherever_the_streams_go() {
    let lab = Lab::new();
    let cases: [(&str, Moves<'_>, &str); 10] = [
        // Written to while the output is captured, and while no stream is the terminal.
        (
            "x=$(RUN 'echo hi > /dev/tty; echo out'); echo rc $? $x",
            &[],
            "rc 0 out",
        ),
        (
            "RUN 'echo hi > /dev/tty' < /dev/null > out 2> err; cat out err",
            &[],
            "hi",
        ),
        // Questions on it, on standard error, and without echo.
        (
            "x=$(RUN 'printf name? > /dev/tty; read n < /dev/tty; echo $n'); echo got $x",
            &[("name?", "bob\r")],
            "got bob",
        ),
        (
            "x=$(RUN 'printf name? >&2; read n < /dev/tty; echo $n' < /dev/null); echo got $x",
            &[("name?", "bob\r")],
            "got bob",
        ),
        (
            "x=$(RUN 'exec 3<> /dev/tty; stty -echo <&3; printf pass? >&3; read n <&3; stty echo <&3; echo $n'); echo; echo got $x",
            &[("pass?", "secret\r")],
            "got secret",
        ),
        // Twice: the session gets the keys and gives them back.
        (
            "for i in 1 2; do RUN 'printf name? > /dev/tty; read n < /dev/tty; echo $n' > o$i; done; cat o1 o2 | xargs echo",
            &[("name?", "bob\r"), ("bob\nname?", "ann\r")],
            "bob ann",
        ),
        // Pagers: one opens the terminal, one reads from its standard error.
        (
            "seq 200 | RUN less; echo went on",
            &[("\n:", " "), ("46\n:", "q")],
            "went on",
        ),
        (
            "seq 200 | RUN more; echo went on",
            &[("--More--", " "), ("46\n--More--", "q")],
            "went on",
        ),
        // The outputs that are the terminal are one inside, and the redirected ones are not.
        (
            "RUN '[ -t 1 ] && [ -t 2 ] && ! [ -t 0 ] && echo as outside' < /dev/null",
            &[],
            "as outside",
        ),
        (
            "RUN '[ -t 2 ] && ! [ -t 1 ] && echo as outside' > out; cat out",
            &[],
            "as outside",
        ),
    ];
    for (line, moves, expected) in cases {
        for run in [OUTSIDE, INSIDE] {
            assert_eq!(ends_with(&lab, line, run, moves), expected, "{run} {line}");
        }
    }
}

/// A program beside a session in a pipeline reads its own keys, whatever the session shows.
#[test]
fn keys_are_for_who_reads_them() {
    let lab = Lab::new();
    let cases: [(&str, Moves<'_>, &str); 3] = [
        (
            "RUN 'echo progress >&2; echo x; sleep 1' | { cat > o; printf key? >&2; read k < /dev/tty; echo got $k; }",
            &[("key?", "mine\r")],
            "got mine",
        ),
        (
            "{ printf pass? >&2; read k < /dev/tty; echo $k; } | RUN 'echo waits >&2; cat' > o; cat o",
            &[("pass?", "mine\r")],
            "mine",
        ),
        (
            "seq 200 | RUN 'cat' | less; echo went on",
            &[("\n:", " "), ("46\n:", "q")],
            "went on",
        ),
    ];
    for (line, moves, expected) in cases {
        for run in [OUTSIDE, INSIDE] {
            assert_eq!(ends_with(&lab, line, run, moves), expected, "{run} {line}");
        }
    }
}

/// A session that took the keys leaves the terminal as it was, even if it is killed.
#[test]
fn the_terminal_is_as_before_afterwards() {
    let lab = Lab::new();
    let reads = "stty -icanon -echo < /dev/tty; printf key? > /dev/tty; read k < /dev/tty";
    for line in [
        format!(
            "before=$(stty -g); RUN '{reads}' > out; [ \"$(stty -g)\" = \"$before\" ] && echo && echo same"
        ),
        format!(
            "before=$(stty -g); RUN '{reads}; kill -9 $$' > out; [ \"$(stty -g)\" = \"$before\" ] && echo && echo same"
        ),
    ] {
        assert_eq!(
            ends_with(&lab, &line, INSIDE, &[("key?", "x\n")]),
            "same",
            "{line}"
        );
    }
}
