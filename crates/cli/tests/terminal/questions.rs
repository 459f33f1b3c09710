//! Answers at the terminal: the keys that count, those that do not, and those that no person
//! pressed.

use std::{thread, time::Duration};

use stockade_testkit::{approvals, events, pty::Terminal, wait};

use crate::terminal::lab::{BOX, LONG, Lab, PUSH, PUSHED, REST, SILENCE, WAITS, answer, end};

/// Longer than the gap between two keys of a program, shorter than a person waits.
const BETWEEN: Duration = Duration::from_millis(200);

/// Asks, prints the result, and prints the boundary's explanation.
const ASK_AND_WHY: &str = "git push -q -h; echo \"code $?\"; /run/stockade/why";

#[test]
fn d_denies_and_the_agent_sees_the_rule() {
    let lab = Lab::new();
    let mut terminal = lab.open(ASK_AND_WHY);
    terminal.wait_for("run       git push -q -h", LONG);
    answer(&terminal, "d");
    terminal.wait_for("remedy", LONG);
    let text = terminal.text();
    for part in ["Permission denied", "code 126", "rule    push"] {
        assert!(text.contains(part), "expected {part}:\n{text}");
    }
    assert!(!text.contains(PUSHED), "{text}");
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["deny by terminal"]);
    events::assert_one_refusal(&lab.record(), "git push", "push");
}

#[test]
fn r_denies_with_a_reason_that_the_agent_reads() {
    let lab = Lab::new();
    let mut terminal = lab.open(ASK_AND_WHY);
    terminal.wait_for("[d]eny", LONG);
    terminal.send("r");
    terminal.wait_for("reason: ", LONG);
    terminal.send("open a pull requesd");
    terminal.wait_for("requesd_", LONG);
    terminal.send("\x7f");
    terminal.send("t");
    terminal.wait_for("reason: open a pull request_", LONG);
    thread::sleep(BETWEEN);
    terminal.send("\r");
    terminal.wait_without(BOX, LONG);
    terminal.wait_for("remedy", LONG);
    let text = terminal.text();
    assert!(text.contains("open a pull request"), "{text}");
    assert_eq!(end(&mut terminal), 0);
    let record = lab.record();
    let decided = record
        .iter()
        .find(|event| event.kind() == "approval.decided")
        .unwrap();
    assert_eq!(decided.reason(), "open a pull request");
}

#[test]
fn o_allows_once_and_the_next_is_asked_again() {
    let lab = Lab::new();
    let mut terminal = lab.open("git push -q -h > out 2>&1; git push -q -h; echo \"code $?\"");
    answer(&terminal, "o");
    lab.wait_file("out", PUSHED);
    answer(&terminal, "d");
    terminal.wait_for("code 126", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["allow by terminal", "deny by terminal"]);
}

#[test]
fn s_allows_exactly_this_for_the_session() {
    let lab = Lab::new();
    let line =
        "for i in 1 2 3; do git push -q -h; done > out 2>&1; git push --help-all; echo \"code $?\"";
    let mut terminal = lab.open(line);
    answer(&terminal, "s");
    // Other arguments cause another question.
    terminal.wait_for("git push --help-all", LONG);
    assert_eq!(lab.file("out").matches(PUSHED).count(), 3);
    answer(&terminal, "d");
    terminal.wait_for("code 126", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["allow by terminal", "deny by terminal"]);
}

#[test]
fn n_offers_less_than_the_session() {
    let lab = Lab::new();
    let line = "for i in 1 2 3 4 5 6; do git push -q -h > out 2>&1; echo \"$i: $?\"; done";
    let mut terminal = lab.open(line);
    terminal.wait_for("[n]arrower", LONG);
    terminal.send("n");
    terminal.wait_for("[2] exactly this, 5 uses", LONG);
    terminal.send("2");
    terminal.wait_for("allow exactly this, 5 uses? press Enter to allow", LONG);
    terminal.send("\r");
    terminal.wait_without(BOX, LONG);
    terminal.wait_for("5: 129", LONG);
    answer(&terminal, "d");
    terminal.wait_for("6: 126", LONG);
    assert_eq!(end(&mut terminal), 0);
}

#[test]
fn enter_escape_and_pastes_are_no_answers() {
    let lab = Lab::new();
    let mut terminal = lab.open(ASK_AND_WHY);
    for keys in [
        "\r",
        "\x1b",
        "y",
        "O",
        "\x1b[200~o\r\x1b[201~",
        "\x1bo",
        "oo",
        "\x1b[A",
        "\x0f",
        "o\r",
        "s\n",
        "1\r",
    ] {
        terminal.wait_for("[o]nce", LONG);
        terminal.send(keys);
        thread::sleep(BETWEEN);
        assert!(
            terminal.text().contains(BOX),
            "{keys:?} closed the box:\n{}",
            terminal.text()
        );
        assert_eq!(approvals::pending(&lab.env).len(), 1, "{keys:?}");
    }
    answer(&terminal, "d");
    terminal.wait_for("code 126", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["deny by terminal"]);
}

#[test]
fn keys_typed_before_the_box_do_not_count() {
    let lab = Lab::new();
    let mut terminal = lab.open(&format!("echo ready; sleep 1; {ASK_AND_WHY}"));
    terminal.wait_for("ready", LONG);
    // A person types on without looking, past the moment at which the box appears.
    let mut after = 0;
    while after < 30 {
        terminal.send("o");
        thread::sleep(Duration::from_millis(20));
        after += u32::from(terminal.text().contains(BOX));
    }
    terminal.wait_for(WAITS, LONG);
    assert!(terminal.text().contains(BOX), "{}", terminal.text());
    assert_eq!(approvals::pending(&lab.env).len(), 1);
    answer(&terminal, "d");
    terminal.wait_for("code 126", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["deny by terminal"]);
}

/// An agent's possible tricks while its question is open: it writes to its terminal, pushes input
/// into it, makes the terminal reply, and searches for other terminals and for the inbox.
const FORGE: &str = r#"
import fcntl, os, sys, termios
out = open("tried", "w")
tty = os.open("/dev/tty", os.O_RDWR)
for text in (b"o", b"o\r", b"\x1b[5n\x1b[6n\x1b[c\x1b[>c\x1b[=c\x1b[18t\x1b[21t\x05",
             b"\x1b]0;o\x07\x1b[21t\x1b]10;?\x07\x1b]11;?\x1b\\\x1bP$qm\x1b\\\x1b]52;c;?\x07"):
    os.write(tty, text)
for name in ("TIOCSTI", "TIOCSETD"):
    try:
        fcntl.ioctl(tty, getattr(termios, name, 0x5412), b"o\0\0\0")
        print(name, "done", file=out)
    except OSError as error:
        print(name, error.strerror, file=out)
print("terminals", sorted(os.listdir("/dev/pts")), file=out)
print("inbox", os.path.exists(sys.argv[1]), file=out)
print("finished", file=out)
"#;

#[test]
fn an_agent_cannot_answer_its_own_question() {
    let lab = Lab::new();
    lab.env.write(lab.repo.path().join("forge.py"), FORGE);
    let state = lab.env.state();
    assert!(state.is_dir(), "control: it exists outside");
    let line = format!(
        "(git push -q -h; echo \"code $?\") > result 2>&1 & until [ -e go ]; do sleep 0.05; done; \
         python3 forge.py '{}'; wait; cat result",
        state.display()
    );
    let mut terminal = lab.open(&line);
    terminal.wait_for("[d]eny", LONG);
    lab.go();
    let tried = lab.wait_file("tried", "finished");
    let not_permitted = tried.matches("Operation not permitted").count();
    assert_eq!(
        not_permitted, 2,
        "pushing input is refused by the boundary itself: {tried}"
    );
    assert!(tried.contains("terminals ['0', 'ptmx']"), "{tried}");
    assert!(tried.contains("inbox False"), "{tried}");
    thread::sleep(REST);
    assert!(terminal.text().contains(BOX), "{}", terminal.text());
    assert_eq!(approvals::pending(&lab.env).len(), 1);
    answer(&terminal, "d");
    terminal.wait_for("code 126", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["deny by terminal"]);
}

#[test]
fn a_reply_that_was_asked_for_earlier_is_no_answer() {
    let lab = Lab::new();
    // The terminal's answer to the last bytes before the question arrives when the box is open.
    let mut terminal =
        lab.open("stty -icanon -echo; printf '\\033[6n\\033[c'; git push -q -h; echo \"code $?\"");
    // Replies of terminals contain letters too; here they arrive late.
    for reply in [
        "\x1b[12;40R",
        "\x1b[?62;22c",
        "\x1b]11;rgb:oooo/ssss/oooo\x1b\\",
        "\x1bP1$r0;som\x1b\\",
        "\x1b[0n",
    ] {
        terminal.wait_for("[o]nce", LONG);
        terminal.send(reply);
        thread::sleep(BETWEEN);
    }
    assert_eq!(approvals::pending(&lab.env).len(), 1);
    answer(&terminal, "d");
    terminal.wait_for("code 126", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["deny by terminal"]);
}

#[test]
fn two_questions_are_answered_one_by_one() {
    let lab = Lab::new();
    let line = "(git push -q -h; echo \"push $?\") > push 2>&1 & \
                (curl -sS -m 50 http://unfamiliar.test/; echo \"curl $?\") > curl 2>&1 & wait";
    let mut terminal = lab.open(line);
    lab.wait_asked(2);
    terminal.wait_for("1 of 2", LONG);
    let first = terminal.text();
    let is_push_first = first.contains("git push -q -h");
    terminal.wait_for("[d]eny", LONG);
    // Two keys at once could answer two questions, so they answer none.
    terminal.send("dd");
    terminal.wait_for(WAITS, LONG);
    assert_eq!(approvals::pending(&lab.env).len(), 2);
    terminal.wait_for("[d]eny", LONG);
    terminal.send("d");
    terminal.wait_for("1 of 1", LONG);
    // Right after the first answer, the second question does not accept keys yet.
    terminal.send("d");
    thread::sleep(REST);
    assert_eq!(approvals::pending(&lab.env).len(), 1);
    let second = if is_push_first {
        "unfamiliar.test"
    } else {
        "git push -q -h"
    };
    assert!(terminal.text().contains(second), "{}", terminal.text());
    answer(&terminal, "d");
    assert_eq!(end(&mut terminal), 0);
    assert!(
        lab.file("push").contains("push 126"),
        "{}",
        lab.file("push")
    );
    assert!(!lab.file("curl").is_empty());
    assert_eq!(lab.answers(), ["deny by terminal", "deny by terminal"]);
}

/// Starts a line with a `git fetch` whose question expires after `expires`.
fn in_a_hurry(lab: &Lab, expires: &str, line: &str) -> Terminal {
    let policy = format!(
        "schema = 1\n\n[[ask]]\nid = \"hurry\"\nwhat = \"exec\"\n\
         command = [[\"git\", \"fetch\", \"**\"]]\nexpires = \"{expires}\"\nreason = \"a short one\"\n"
    );
    let policy = lab.env.write("policy.toml", &policy);
    let run = lab.run(&["--policy", policy.to_str().unwrap()], line);
    Terminal::start(run.into_command(), 24, 80)
}

#[test]
fn an_unanswered_question_becomes_a_deny() {
    let lab = Lab::new();
    let line = "git fetch -h; echo \"code $?\"; /run/stockade/why; sleep 60";
    let terminal = in_a_hurry(&lab, "4s", line);
    terminal.wait_for("deny in 0:0", LONG);
    terminal.wait_for("deny in 0:02", LONG);
    terminal.wait_without(BOX, LONG);
    terminal.wait_for("remedy", LONG);
    let text = terminal.text();
    for part in ["code 126", "rule    hurry", "no answer came in time"] {
        assert!(text.contains(part), "expected {part}:\n{text}");
    }
    assert_eq!(lab.answers(), ["deny by timeout"]);
}

#[test]
fn a_small_terminal_shows_all_before_it_allows() {
    let lab = Lab::new();
    let long = "--receive-pack=".to_owned() + &"a-very-long-word-".repeat(40);
    let line = format!("git push -q -h {long}END > out 2>&1; echo \"code $?\"");
    let mut terminal = lab.open_sized(20, 60, &line);
    terminal.wait_for("[space] reads on", LONG);
    assert_box_fits(&terminal, 60);
    assert!(!terminal.text().contains("[o]nce"), "{}", terminal.text());
    terminal.send("o\r");
    terminal.wait_for(WAITS, LONG);
    assert_eq!(approvals::pending(&lab.env).len(), 1, "it was not read yet");
    let mut seen = String::new();
    let read = wait::until_true(LONG, || {
        let text = terminal.text();
        assert_box_fits(&terminal, 60);
        seen += &text;
        if text.contains("[space] reads on, then allow") {
            terminal.send(" ");
        }
        thread::sleep(BETWEEN);
        text.contains("[o]nce")
    });
    assert!(read, "{}", terminal.text());
    for part in ["END", "why asked", "rule push", "session  "] {
        assert!(seen.contains(part), "`{part}` was never shown:\n{seen}");
    }
    answer(&terminal, "o");
    terminal.wait_for("code 129", LONG);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["allow by terminal"]);
}

#[test]
fn a_question_follows_the_size_of_the_terminal() {
    let lab = Lab::new();
    let mut terminal = lab.open("echo before; git push -q -h > /dev/null 2>&1; echo \"code $?\"");
    terminal.wait_for("[o]nce", LONG);
    terminal.resize(20, 60);
    let fits = |text: &str| text.matches(BOX).count() == 1 && text.contains("┘");
    // A new box: the state of the one before does not count.
    terminal.wait_for(WAITS, LONG);
    terminal.wait_until("one box", LONG, fits);
    terminal.wait_for("[o]nce", LONG);
    assert_box_fits(&terminal, 60);
    terminal.resize(30, 100);
    terminal.wait_until("one box", LONG, |text| fits(text) && text.contains(WAITS));
    terminal.wait_for("[o]nce", LONG);
    assert_box_fits(&terminal, 100);
    answer(&terminal, "d");
    terminal.wait_for("code 126", LONG);
    assert!(terminal.text().contains("before"), "{}", terminal.text());
    assert_eq!(end(&mut terminal), 0);
}

/// Ends the test unless each line of the box begins and ends in the same columns.
fn assert_box_fits(terminal: &Terminal, columns: usize) {
    let text = terminal.text();
    let lines: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains('┌'))
        .take_while(|line| line.contains(['┌', '│', '└']))
        .collect();
    assert!(lines.len() > 4, "no box:\n{text}");
    let mut widths = lines.iter().map(|line| line.trim_end().chars().count());
    let first = widths.next().unwrap();
    assert!(
        first <= columns && widths.all(|width| width == first),
        "not straight:\n{text}"
    );
    assert!(lines.last().unwrap().contains('┘'), "not whole:\n{text}");
}

#[test]
fn colours_are_a_choice() {
    let lab = Lab::new();
    let styled = |terminal: &Terminal| {
        let raw = String::from_utf8_lossy(&terminal.raw()).into_owned();
        let (_, drawn) = raw.split_once(BOX).expect("a box was drawn");
        // Bold, or a colour.
        ["\x1b[1m", "\x1b[1;", "\x1b[3", "\x1b[4"]
            .iter()
            .any(|code| drawn.contains(code))
    };
    let with = lab.open(PUSH);
    with.wait_for("[o]nce", LONG);
    assert!(styled(&with), "control: there are colours");
    answer(&with, "d");
    let run = lab.run(&[], PUSH).env("NO_COLOR", "1");
    let without = Terminal::start(run.into_command(), 24, 80);
    without.wait_for("[o]nce", LONG);
    assert!(!styled(&without));
    answer(&without, "d");
}

/// The upper part of a fake box from the agent, above three rows that scroll.
const SPOOF: &str = r#"
printf '\033[2J\033[24A\n\n\n\n\n\n\n\n\n\n\n\n\n'
printf '┌ stockade ── agent wants to ──────────────────────────────────── 1 of 1 ┐\r\n'
printf '│ run       git status                                                   │\r\n'
printf '│ why asked nothing can go wrong                                         │\r\n'
printf '\033[22;24r\033[30B\r'
git push -q -h > /dev/null 2>&1
echo "code $?"
until [ -e go ]; do sleep 0.05; done
"#;

#[test]
fn an_agent_cannot_put_its_own_text_into_a_question() {
    let lab = Lab::new();
    lab.env.write(lab.repo.path().join("spoof.sh"), SPOOF);
    let tmux = lab.tmux(80, 24, "sh spoof.sh");
    tmux.wait_for("[o]nce", LONG);
    let text = tmux.text();
    let (_, shown) = text.rsplit_once(BOX).expect("a box");
    for part in ["run       git push -q -h", "why asked", "session  ", "└"] {
        assert!(shown.contains(part), "expected {part}:\n{text}");
    }
    tmux.keys(&["d"]);
    tmux.wait_for("code 126", LONG);
    // The agent has its scrolling region again, and the shell after it does not.
    let region = "#{scroll_region_upper}-#{scroll_region_lower}";
    assert_eq!(tmux.value(region), "21-23");
    lab.go();
    tmux.wait_for("exit 0", LONG);
    assert_eq!(tmux.value(region), "0-23");
}

#[test]
fn a_reason_that_nobody_waits_for_any_more_is_no_command() {
    let lab = Lab::new();
    let line = "git fetch -h; echo \"code $?\"; exec sh";
    let terminal = in_a_hurry(&lab, "4s", line);
    terminal.wait_for("[o]nce", LONG);
    terminal.send("r");
    terminal.wait_for("reason: ", LONG);
    for key in "no, use ; touch oops".chars() {
        terminal.send(&key.to_string());
        thread::sleep(Duration::from_millis(150));
    }
    terminal.wait_without(BOX, LONG);
    terminal.send("\r");
    terminal.wait_for("code 126", LONG);
    // Longer than a shell takes to start and to execute the typed line.
    thread::sleep(SILENCE + REST);
    assert!(!lab.repo.path().join("oops").exists(), "a reason was run");
    assert!(
        terminal.text().contains("has expired"),
        "{}",
        terminal.text()
    );
    // Control: the shell accepts later input.
    terminal.send("touch after\r");
    let made = wait::until_true(LONG, || lab.repo.path().join("after").exists());
    assert!(made, "{}", terminal.text());
}
