//! Ctrl-C and Ctrl-Z, with and without a shell inside.

use std::{thread, time::Duration};

use stockade_testkit::{processes, pty::Terminal, wait};

use crate::terminal::lab::{LONG, Lab, REST, assert_restored, end, settled};

/// Starts an interactive shell that has job control, around a session or inside one.
fn shell(lab: &Lab, inside: bool) -> Terminal {
    let plain = ["--norc", "--noprofile", "-i"];
    let run = if inside {
        lab.stockade(&["run", "--", "/bin/bash"]).args(plain)
    } else {
        lab.env
            .command("/bin/bash")
            .args(plain)
            .current_dir(lab.repo.path())
            .env("STOCKADE", lab.env.binary())
    };
    let terminal = Terminal::start(run.env("PS1", "shell> ").into_command(), 24, 80);
    // Inside, the shell has a prompt of its own.
    terminal.wait_until("a prompt", LONG, |text| {
        text.lines()
            .last()
            .is_some_and(|line| line.trim_end().ends_with(['>', '$', '#']))
    });
    terminal
}

/// Returns the state of the only process with this argument, as proc(5) writes it.
fn state(mark: &str) -> Option<char> {
    let pid = processes::with_argument(mark).first().copied()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn wait_state(mark: &str, expected: char) {
    let reached = wait::until_true(LONG, || state(mark) == Some(expected));
    assert!(reached, "expected {expected}, saw {:?}", state(mark));
}

#[test]
fn ctrl_c_ends_a_bare_command() {
    let lab = Lab::new();
    let mut terminal = lab.open("echo ready; exec sleep 60");
    terminal.wait_for("ready", LONG);
    thread::sleep(Duration::from_millis(200));
    terminal.send("\x03");
    assert_eq!(end(&mut terminal), 130);
}

#[test]
fn ctrl_c_ends_a_command_whose_output_goes_elsewhere() {
    let lab = Lab::new();
    let line = "\"$STOCKADE\" run --summary none -- sh -c 'read line; echo \"got $line\"; sleep 60' | cat; \
                echo \"codes ${PIPESTATUS[*]}\"";
    let run = lab.around(&format!("trap : INT; {line}"));
    let terminal = Terminal::start(run.into_command(), 24, 80);
    terminal.send("a line\r");
    terminal.wait_for("got a line", LONG);
    // Dash forgets an interrupt that comes just before it starts a program.
    thread::sleep(REST);
    terminal.send("\x03");
    terminal.wait_for("codes 130", LONG);
}

#[test]
fn a_command_that_lives_through_ctrl_c_keeps_its_session() {
    let lab = Lab::new();
    let inside =
        "trap \"echo caught\" INT; echo ready; while [ ! -e go ]; do sleep 0.05; done; exit 6";
    let line = format!(
        "trap : INT; \"$STOCKADE\" run --summary none -- sh -c '{inside}' < /dev/null; echo \"code $?\""
    );
    let terminal = Terminal::start(lab.around(&line).into_command(), 24, 80);
    terminal.wait_for("ready", LONG);
    terminal.send("\x03");
    terminal.wait_for("caught", LONG);
    // Long enough to notice it if something else has ended because of it.
    thread::sleep(Duration::from_millis(2500));
    lab.go();
    terminal.wait_for("code 6", LONG);
}

#[test]
fn ctrl_c_and_ctrl_z_go_to_the_job_of_a_shell_inside() {
    let lab = Lab::new();
    let mut terminal = shell(&lab, true);
    assert!(
        !terminal.text().contains("no job control"),
        "{}",
        terminal.text()
    );
    let mark = format!("60.{}7", std::process::id());
    terminal.send(&format!("sleep {mark}; echo \"first $?\"\r"));
    wait_state(&mark, 'S');
    terminal.send("\x03");
    // Bash does not continue the list after an interrupt.
    assert!(wait::until_true(LONG, || state(&mark).is_none()));
    terminal.send(&format!("sleep {mark}\r"));
    wait_state(&mark, 'S');
    terminal.send("\x1a");
    terminal.wait_for("Stopped", LONG);
    wait_state(&mark, 'T');
    terminal.send("bg\r");
    wait_state(&mark, 'S');
    terminal.send("fg\r");
    thread::sleep(REST);
    terminal.send("\x03");
    assert!(wait::until_true(LONG, || state(&mark).is_none()));
    terminal.send("exit 7\r");
    assert_eq!(end(&mut terminal), 7);
}

#[test]
fn ctrl_z_suspends_a_bare_command_and_its_session() {
    let lab = Lab::new();
    let mut terminal = shell(&lab, false);
    let mark = format!("60.{}8", std::process::id());
    terminal.send(&format!("\"$STOCKADE\" run -- sleep {mark}\r"));
    wait_state(&mark, 'S');
    thread::sleep(Duration::from_millis(200));
    terminal.send("\x1a");
    terminal.wait_for("Stopped", LONG);
    wait_state(&mark, 'T');
    // The outer shell's terminal is restored: it echoes and edits.
    terminal.send("echo out$((20 + 3))side\r");
    terminal.wait_for("out23side", LONG);
    terminal.send("fg\r");
    wait_state(&mark, 'S');
    thread::sleep(REST);
    terminal.send("\x03");
    assert!(wait::until_true(LONG, || state(&mark).is_none()));
    terminal.wait_for("ended", LONG);
    terminal.send("echo \"code $?\"\r");
    terminal.wait_for("code 130", LONG);
    terminal.send("exit\r");
    end(&mut terminal);
}

#[test]
fn ctrl_z_in_less_comes_back_with_its_screen() {
    let lab = Lab::new();
    let mut terminal = shell(&lab, false);
    terminal.send("\"$STOCKADE\" run -- less lines.txt\r");
    terminal.wait_for("line 23 of the file", LONG);
    thread::sleep(Duration::from_millis(200));
    terminal.send("\x1a");
    terminal.wait_for("Stopped", LONG);
    let screen = terminal.screen();
    assert!(!screen.alternate_screen(), "{}", terminal.text());
    terminal.resize(20, 70);
    terminal.send("fg\r");
    terminal.wait_until("a page of the new size", LONG, |text| {
        text.contains("line 19 of the file") && !text.contains("line 20 of")
    });
    // While it redraws for another size, less may lose a key.
    assert!(settled(&terminal).alternate_screen());
    terminal.send("q");
    terminal.wait_for("ended", LONG);
    terminal.send("exit\r");
    assert_eq!(end(&mut terminal), 0);
}

#[test]
fn ctrl_z_in_a_program_that_knows_nothing_of_it_brings_its_screen_back() {
    let lab = Lab::new();
    let mark = format!("60.{}9", std::process::id());
    let program = format!(
        "stty -echo -icanon; printf '\\033[?1049h\\033[?1002h\\033[?25l\\033[3;3H\\033[32mgreen'; \
         exec sleep {mark}"
    );
    lab.env.write(lab.repo.path().join("program.sh"), &program);
    let mut terminal = shell(&lab, false);
    terminal.send("\"$STOCKADE\" run -- sh program.sh\r");
    terminal.wait_for("green", LONG);
    wait_state(&mark, 'S');
    let before = settled(&terminal);
    terminal.send("\x1a");
    terminal.wait_for("Stopped", LONG);
    wait_state(&mark, 'T');
    let shell = terminal.screen();
    assert!(!shell.alternate_screen() && !shell.hide_cursor());
    assert_eq!(shell.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    terminal.send("fg\r");
    wait_state(&mark, 'S');
    assert_restored(&terminal, &before, "the program");
    terminal.send("\x03");
    terminal.wait_for("ended", LONG);
    terminal.send("exit\r");
    end(&mut terminal);
}

#[test]
fn a_session_in_the_background_runs_and_is_not_stopped() {
    let lab = Lab::new();
    let mut terminal = shell(&lab, false);
    let inside = "sh -c 'cat; sleep 1; echo out of $((20 + 3)) > done'";
    terminal.send(&format!("\"$STOCKADE\" run --summary none -- {inside} &\r"));
    lab.wait_file("done", "out of 23");
    // The shell reports it with its next prompt.
    let ended = wait::until_true(LONG, || {
        terminal.send("\r");
        thread::sleep(Duration::from_millis(200));
        terminal.text().contains("Done")
    });
    assert!(ended, "{}", terminal.text());
    assert!(!terminal.text().contains("Stopped"), "{}", terminal.text());
    // The shell has the terminal all the time.
    terminal.send("echo out$((20 + 4))side\r");
    terminal.wait_for("out24side", LONG);
    terminal.send("exit\r");
    end(&mut terminal);
}
