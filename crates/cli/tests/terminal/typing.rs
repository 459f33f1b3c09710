//! People who type to the agent while it asks, at every rhythm: their keys allow nothing. And
//! people who read, wait and answer: their keys count.

use std::{thread, time::Duration};

use stockade_testkit::{approvals, pty::Terminal};

use crate::terminal::lab::{
    BOX, CONFIRM, LONG, Lab, PUSHED, REST, SILENCE, WAITS, answer, end, pick,
};

/// Text that people type to an agent, with lines that are answers of other programs. `\r` is Enter.
const PROSE: &str = "please use the other tools so that it works\rls\rso\ro\rs\r";
/// How long a person types on after the box has appeared.
const TYPES_ON: Duration = Duration::from_secs(6);

/// Types at a rhythm until the box has been there for a while, without looking at it.
fn type_on(terminal: &Terminal, rhythm: Duration) {
    let mut keys = PROSE.chars().cycle();
    let mut after = Duration::ZERO;
    while after < TYPES_ON {
        terminal.send(&keys.next().expect("it never ends").to_string());
        thread::sleep(rhythm);
        if after > Duration::ZERO || terminal.text().contains(BOX) {
            after += rhythm;
        }
    }
}

/// One rhythm: an agent that reads, and asks `begin` later from the background.
fn types_through(milliseconds: u64, begin: &str) {
    let lab = Lab::new();
    let line = format!(
        "(sleep {begin}; git push -q -h; echo \"code $?\") > result 2>&1 < /dev/null & \
         stty -icanon -echo; echo ready; exec cat > read"
    );
    let mut terminal = lab.open(&line);
    terminal.wait_for("ready", LONG);
    type_on(&terminal, Duration::from_millis(milliseconds));
    let open = approvals::pending(&lab.env).len();
    assert_eq!(open, 1, "{milliseconds} ms: {}", terminal.text());
    assert!(!lab.file("result").contains(PUSHED), "{milliseconds} ms");
    // Text typed before the box goes to the agent.
    assert!(lab.file("read").starts_with("please"), "{milliseconds} ms");
    // Now a person reads the box.
    answer(&terminal, "o");
    lab.wait_file("result", PUSHED);
    terminal.send("\x03");
    assert_eq!(end(&mut terminal), 130);
    assert_eq!(lab.answers(), ["allow by terminal"], "{milliseconds} ms");
}

fn at_rhythms(rhythms: &[(u64, &str)]) {
    thread::scope(|scope| {
        for (milliseconds, begin) in rhythms {
            scope.spawn(|| types_through(*milliseconds, begin));
        }
    });
}

#[test]
fn fast_typists_allow_nothing_and_readers_are_heard() {
    at_rhythms(&[(50, "1.03"), (70, "0.71"), (90, "1.37"), (110, "0.92")]);
}

#[test]
fn slow_typists_allow_nothing_and_readers_are_heard() {
    at_rhythms(&[(130, "2.21"), (160, "1.13"), (200, "1.78"), (250, "2.49")]);
}

/// The agent sees each key, and asks at the one before an `s` or an `o`.
#[test]
fn an_agent_that_asks_between_two_keys_gets_no_answer() {
    let lab = Lab::new();
    let line = "stty -icanon -echo min 1; \
         while key=$(dd bs=1 count=1 2> /dev/null); [ \"$key\" != l ]; do :; done; \
         git push -q -h > result 2>&1; echo \"code $?\"";
    for rhythm in [120, 250] {
        let mut terminal = lab.open(&format!("echo ready; {line}"));
        terminal.wait_for("ready", LONG);
        for key in "use other tools\r".chars() {
            terminal.send(&key.to_string());
            thread::sleep(Duration::from_millis(rhythm));
        }
        terminal.wait_for(WAITS, LONG);
        assert_eq!(approvals::pending(&lab.env).len(), 1);
        assert_eq!(lab.file("result"), "", "{rhythm} ms");
        answer(&terminal, "d");
        terminal.wait_for("code 126", LONG);
        assert_eq!(end(&mut terminal), 0);
        assert_eq!(lab.answers(), ["deny by terminal"]);
        std::fs::remove_file(lab.repo.path().join("result")).unwrap();
    }
}

#[test]
fn what_is_picked_can_be_changed_and_taken_back() {
    let lab = Lab::new();
    let mut terminal = lab.open("git push -q -h > out 2>&1; echo \"code $?\"");
    pick(&terminal, "s");
    let text = terminal.text();
    assert!(text.contains("allow this session? press Enter"), "{text}");
    terminal.send("o");
    terminal.wait_for("allow once? press Enter", LONG);
    terminal.send("\x1b");
    terminal.wait_for("[o]nce", LONG);
    // Enter alone allows nothing.
    terminal.send("\r");
    terminal.wait_for(WAITS, LONG);
    // An early Enter cancels the pick.
    terminal.wait_for("[o]nce", LONG);
    terminal.send("o");
    thread::sleep(Duration::from_millis(250));
    terminal.send("\r");
    terminal.wait_without("allow once?", LONG);
    // A paste does, too.
    pick(&terminal, "o");
    terminal.send("\x1b[200~\r\x1b[201~");
    terminal.wait_without(CONFIRM, LONG);
    // Another size makes a new box.
    pick(&terminal, "o");
    terminal.resize(30, 100);
    terminal.wait_without(CONFIRM, LONG);
    thread::sleep(REST);
    terminal.send("\r");
    assert_eq!(approvals::pending(&lab.env).len(), 1);
    pick(&terminal, "o");
    terminal.send("d");
    terminal.wait_for("code 126", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["deny by terminal"]);
}

#[test]
fn what_was_allowed_is_said_after_the_box() {
    let lab = Lab::new();
    let mut terminal = lab.open("echo before; git push -q -h > out 2>&1; echo \"code $?\"");
    answer(&terminal, "s");
    terminal.wait_for("code 129", LONG);
    let text = terminal.text();
    let said = "before\nstockade: allowed this session: run git push -q -h (";
    assert!(text.contains(said), "{text}");
    assert_eq!(end(&mut terminal), 0);
}

/// A terminal that knows no sequences gets none from us, and its person has to type the shown
/// digits.
#[test]
fn a_dumb_terminal_shows_a_question_without_sequences() {
    let lab = Lab::new();
    let run = lab.run(
        &[],
        "echo before; git push -q -h > out 2>&1; echo \"code $?\"",
    );
    let run = run.env("TERM", "dumb").env_remove("COLORTERM");
    let mut terminal = Terminal::start(run.into_command(), 40, 80);
    terminal.wait_for("[o]nce", LONG);
    terminal.send("o");
    terminal.wait_for("to go on:", LONG);
    thread::sleep(SILENCE);
    terminal.send("\r");
    thread::sleep(REST);
    assert_eq!(approvals::pending(&lab.env).len(), 1, "Enter alone");
    let text = terminal.text();
    let (_, code) = text.rsplit_once("type ").unwrap();
    let code: String = code.chars().take(4).collect();
    thread::sleep(SILENCE);
    terminal.send("o");
    thread::sleep(REST);
    for digit in code.chars() {
        terminal.send(&digit.to_string());
        thread::sleep(Duration::from_millis(150));
    }
    terminal.wait_for(CONFIRM, LONG);
    thread::sleep(REST);
    terminal.send("\r");
    terminal.wait_for("code 129", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["allow by terminal"]);
    let raw = terminal.raw();
    assert!(!raw.contains(&0x1b), "{}", String::from_utf8_lossy(&raw));
}
