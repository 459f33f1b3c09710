//! All output to a terminal is filtered, on whichever of the three streams; pipes and files get
//! every byte.

use stockade_testkit::{pty::Terminal, wait};

use crate::terminal::lab::{LONG, Lab, SILENCE};

/// Writes to the clipboard, reads the screen, sets a palette, and is bold.
const PRINT: &str = r"printf 'begin\033]52;c;c3RvbGVu\007\033[1;1;1;1;1;80*y\033]4;1;#000000\007\033[6n\033[1mbold\033[m end\n'";
/// The sequences among these that must not reach a terminal.
const HOSTILE: [&[u8]; 4] = [b"\x1b]52;", b"*y", b"\x1b]4;", b"\x1b[6n"];

/// Runs a line with a shell in a session, or one without, in the place of `RUN`, and the printed
/// text in the place of `@`.
fn written(lab: &Lab, line: &str, run: &str) -> Vec<u8> {
    let line = line.replace("RUN", run).replace('@', "\"$PRINT\"");
    let around = lab.around(&format!("{line}; echo all done"));
    let around = around.env("PRINT", PRINT);
    let mut terminal = Terminal::start(around.into_command(), 24, 80);
    terminal.wait_for("all done", LONG);
    let raw = terminal.raw();
    terminal.wait_exit(LONG);
    raw
}

const INSIDE: &str = "\"$STOCKADE\" run --ask deny --summary none -- sh -c";

fn has(raw: &[u8], part: &[u8]) -> bool {
    raw.windows(part.len()).any(|window| window == part)
}

#[test]
fn each_stream_that_is_a_terminal_is_filtered() {
    let lab = Lab::new();
    for line in [
        // The whole terminal, as a control of the filter of the relay.
        "RUN @",
        // No input, input from a pipe, input from a file.
        "RUN @ < /dev/null",
        ": | RUN @",
        "RUN @ < lines.txt",
        // One of the outputs is redirected.
        "RUN \"$PRINT >&2\" | cat > /dev/null",
        "RUN \"$PRINT >&2\" < /dev/null > out",
        "RUN @ 2> err < /dev/null",
        "RUN \"$PRINT; $PRINT >&2\" < /dev/null",
        // The output returns through a separate descriptor.
        "RUN @ 3>&1 < /dev/null >&3",
        "RUN @ < /dev/null > /dev/tty",
        "RUN \"$PRINT >&2\" < /dev/null 2> /dev/tty > out",
        // The terminal itself, beside redirected streams.
        "RUN \"$PRINT > /dev/tty\" > out",
        "RUN \"$PRINT > /dev/tty\" < /dev/null > out 2> err",
        // In the background.
        "RUN @ & wait",
    ] {
        let outside = written(&lab, line, "sh -c");
        assert!(
            HOSTILE.iter().all(|part| has(&outside, part)),
            "control: {line}"
        );
        let inside = written(&lab, line, INSIDE);
        assert!(has(&inside, b"begin") && has(&inside, b" end"), "{line}");
        assert!(
            has(&inside, b"\x1b[1mbold"),
            "{line}: what belongs to the screen passes"
        );
        for part in &HOSTILE {
            // A whole terminal can return the cursor position.
            if line == "RUN @" && *part == b"\x1b[6n" {
                continue;
            }
            let text = String::from_utf8_lossy(&inside);
            assert!(!has(&inside, part), "{line}: {part:?} in {text:?}");
        }
    }
}

#[test]
fn pipes_and_files_get_every_byte() {
    let lab = Lab::new();
    for line in [
        "RUN @ | od -An -c > got",
        "RUN @ < /dev/null | od -An -c > got",
        "RUN @ > file; od -An -c file > got",
        "RUN \"$PRINT >&2\" 2>&1 > /dev/null | od -An -c > got",
    ] {
        written(&lab, line, "sh -c");
        let outside = lab.file("got");
        assert!(outside.contains("5   2   ;"), "control: {outside}");
        written(&lab, line, INSIDE);
        assert_eq!(lab.file("got"), outside, "{line}");
    }
}

/// Each stream by itself is harmless; joined at the right place, they would form a sequence.
#[test]
fn two_streams_of_one_terminal_make_no_sequence_together() {
    let lab = Lab::new();
    let script = r"
i=0; while [ $i -lt 200 ]; do
  printf '\033]0;title %s\007\033[1mtext\033[m' $i
  printf '52;c;c3RvbGVu\007plain' >&2
  i=$((i + 1))
done & 
i=0; while [ $i -lt 200 ]; do printf '\033]'; printf '52;c;c3RvbGVu\007' >&2; i=$((i + 1)); done; wait
";
    lab.env.write(lab.repo.path().join("two.sh"), script);
    let inside = written(&lab, "RUN 'sh two.sh' < /dev/null", INSIDE);
    assert!(!has(&inside, b"\x1b]52;"), "the clipboard was written");
    let outside = written(&lab, "RUN 'sh two.sh' < /dev/null", "sh -c");
    assert!(has(&outside, b"\x1b]52;"), "control");
}

#[test]
fn what_a_stream_leaves_set_is_taken_back() {
    let lab = Lab::new();
    let line = r"RUN 'printf \\033[?25l\\033[?1002h\\033[8mhidden' < /dev/null; sleep 1";
    let around = |run: &str| {
        let line = line.replace("RUN", run);
        lab.around(&format!("{line}; echo all done; sleep 30"))
    };
    let state = |run: &str| {
        let terminal = Terminal::start(around(run).into_command(), 24, 80);
        terminal.wait_for("all done", LONG);
        let screen = terminal.screen();
        (screen.hide_cursor(), screen.mouse_protocol_mode())
    };
    let off = vt100::MouseProtocolMode::None;
    let (hidden, mouse) = state("sh -c");
    assert!(hidden && mouse != off, "control");
    assert!(wait::until_true(SILENCE * 10, || state(INSIDE) == (false, off)));
}
