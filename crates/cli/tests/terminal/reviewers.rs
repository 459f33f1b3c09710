//! A second terminal answers what the first one shows.

use std::{os::unix::process::ExitStatusExt as _, thread};

use rustix::process::Signal;
use stockade_testkit::{
    approvals::{self, Answer},
    processes,
    pty::Terminal,
    wait,
};

use crate::terminal::lab::{
    BOX, LONG, Lab, REST, SILENCE, WAITS, answer, assert_restored, end, in_background, pick,
    settled,
};

#[test]
fn an_answer_from_the_command_line_takes_the_box_away() {
    let lab = Lab::new();
    let what = "git push -q -h; /run/stockade/why";
    let mut terminal = lab.open(&in_background(what, "less lines.txt"));
    terminal.wait_for("line 23 of", LONG);
    let before = settled(&terminal);
    lab.go();
    terminal.wait_for(BOX, LONG);
    let asked = lab.wait_asked(1).remove(0);
    assert!(asked.mentions("git push -q -h"), "{asked:?}");
    let deny = Answer::Deny {
        reason: "ask me tomorrow".into(),
    };
    approvals::answer(&lab.env, &asked.id, &deny).assert_success();
    terminal.wait_without(BOX, LONG);
    assert_restored(&terminal, &before, "less");
    lab.wait_file("result", "ask me tomorrow");
    // An answer is final.
    let allow = Answer::Allow {
        scope: "session".into(),
    };
    let late = approvals::answer(&lab.env, &asked.id, &allow);
    assert_ne!(late.code(), 0, "{late:?}");
    // Keys right after a question that disappeared by itself may still be meant for it.
    thread::sleep(SILENCE);
    terminal.send("q");
    assert_eq!(end(&mut terminal), 0);
    let answers = lab.answers();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(
        answers.concat().starts_with("deny by inbox uid "),
        "{answers:?}"
    );
}

#[test]
fn the_live_list_answers_and_both_terminals_go_on() {
    let lab = Lab::new();
    let mut agent = lab.open("git push -q -h; echo \"code $?\"");
    agent.wait_for(BOX, LONG);
    let list = lab.stockade(&["approvals"]).into_command();
    let mut person = Terminal::start(list, 24, 80);
    person.wait_for("git push -q -h", LONG);
    person.send("\r");
    // A person types on after the list: a line of prose answers nothing.
    person.wait_for(BOX, LONG);
    for key in ["s", "o", "\r"] {
        person.send(key);
        thread::sleep(REST / 7);
    }
    pick(&person, "s");
    // An early Enter cancels the pick.
    person.send("o");
    person.send("\r");
    person.wait_for(WAITS, LONG);
    assert!(agent.text().contains(BOX), "{}", agent.text());
    pick(&person, "o");
    person.send("\r");
    agent.wait_without(BOX, LONG);
    person.wait_for("allowed once: run git push -q -h (", LONG);
    agent.wait_for("code 129", LONG);
    assert_eq!(end(&mut agent), 0);
    person.wait_for("no open questions", LONG);
    person.send("q");
    assert_eq!(end(&mut person), 0);
    assert!(!person.screen().alternate_screen() && !person.screen().hide_cursor());
    let answers = lab.answers();
    assert!(
        answers.concat().starts_with("allow by inbox uid "),
        "{answers:?}"
    );
}

#[test]
fn a_live_list_that_is_ended_leaves_the_terminal_as_it_was() {
    let lab = Lab::new();
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::HUP, "HUP")] {
        let list = lab.stockade(&["approvals"]).into_command();
        let mut person = Terminal::start(list, 24, 80);
        person.wait_for("there are no open questions", LONG);
        assert!(person.screen().alternate_screen(), "control");
        processes::signal_group(person.pid(), signal);
        let status = person.wait_exit(LONG);
        assert_eq!(status.signal(), Some(signal.as_raw()), "{name}");
        let is_back = || {
            let screen = person.screen();
            !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste()
        };
        assert!(wait::until_true(LONG, is_back), "{name}");
    }
}

#[test]
fn a_dumb_terminal_gets_a_list_without_sequences() {
    let lab = Lab::new();
    let agent = lab.open("git push -q -h; echo \"code $?\"");
    agent.wait_for(BOX, LONG);
    let list = lab.stockade(&["approvals"]).env("TERM", "dumb");
    let mut person = Terminal::start(list.into_command(), 24, 80);
    assert_eq!(end(&mut person), 0);
    let raw = person.raw();
    let text = String::from_utf8_lossy(&raw);
    assert!(
        text.contains("git push -q -h") && !text.contains('\x1b'),
        "{text:?}"
    );
    answer(&agent, "d");
}

#[test]
fn an_inbox_session_shows_no_box() {
    let lab = Lab::new();
    let run = lab.run(
        &["--ask", "inbox"],
        "echo begun; git push -q -h; echo \"code $?\"",
    );
    let mut terminal = Terminal::start(run.into_command(), 24, 80);
    let asked = lab.wait_asked(1).remove(0);
    thread::sleep(REST);
    assert!(!terminal.text().contains(BOX), "{}", terminal.text());
    let allow = Answer::Allow {
        scope: "once".into(),
    };
    approvals::answer(&lab.env, &asked.id, &allow).assert_success();
    terminal.wait_for("code 129", LONG);
    assert_eq!(end(&mut terminal), 0);
}

#[test]
fn two_sessions_show_only_their_own_questions() {
    let lab = Lab::new();
    let first = lab.open("git push -q -h first; echo \"code $?\"");
    first.wait_for(BOX, LONG);
    let second = lab.open("git push -q -h second; echo \"code $?\"");
    second.wait_for(BOX, LONG);
    lab.wait_asked(2);
    assert!(
        first.text().contains("push -q -h first") && !first.text().contains("push -q -h second")
    );
    assert!(
        second.text().contains("push -q -h second") && !second.text().contains("push -q -h first")
    );
    answer(&first, "d");
    first.wait_for("code 126", LONG);
    assert!(second.text().contains(BOX), "{}", second.text());
    answer(&second, "d");
    second.wait_for("code 126", LONG);
}
