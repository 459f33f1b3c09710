//! However a session ends, the terminal is restored.

use stockade_testkit::{
    processes::{self, Signal},
    pty::Terminal,
    run::require_tool,
    wait,
};

use crate::terminal::lab::{BOX, LONG, Lab, PUSH, free_ports, in_background, supervisor};

/// Takes over the whole terminal, and ends on the signals that request it.
const FULL: &str = "sh -c 'stty -echo -icanon; \
                    printf \"\\033[?1049h\\033[?1003h\\033[?1006h\\033[?2004h\\033[?25l\\033[?1h\\033=\\033[1;31mfull screen\"; \
                    sleep MARK'";

/// Runs [`FULL`] below a shell that compares the terminal's settings before and after.
fn start(lab: &Lab, mark: &str, question: bool) -> Terminal {
    let program = FULL.replace("MARK", mark);
    let line = if question {
        in_background(PUSH, &program)
    } else {
        format!("exec {program}")
    };
    lab.env.write(lab.repo.path().join("start.sh"), &line);
    let around = "echo before; stty -a > modes.before; \"$STOCKADE\" run -- sh start.sh; code=$?; \
                  stty -a > modes.after; echo \"code $code\"; sleep 1";
    let terminal = Terminal::start(lab.around(around).into_command(), 24, 80);
    terminal.wait_for("full screen", LONG);
    let running = || processes::with_argument(mark).len() == 1;
    assert!(wait::until_true(LONG, running), "control: it runs");
    if question {
        lab.go();
        terminal.wait_for(BOX, LONG);
    }
    terminal
}

fn assert_as_before(lab: &Lab, terminal: &Terminal, code: &str) {
    terminal.wait_for(code, LONG);
    assert_eq!(lab.file("modes.before"), lab.file("modes.after"));
    let text = terminal.text();
    assert!(
        text.starts_with("before") && !text.contains("full screen"),
        "{text}"
    );
    assert!(!text.contains(BOX), "{text}");
    let screen = terminal.screen();
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    assert_eq!(screen.fgcolor(), vt100::Color::Default);
    let left = [
        screen.alternate_screen(),
        screen.bracketed_paste(),
        screen.hide_cursor(),
        screen.application_cursor(),
        screen.application_keypad(),
        screen.bold(),
    ];
    assert_eq!(left, [false; 6], "{text}");
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn ends_by(signal: Signal, code: &str, question: bool) {
    let lab = Lab::new();
    let digits = code.trim_start_matches("code ");
    let mark = format!("360{}.{digits}{}", u8::from(question), std::process::id());
    let terminal = start(&lab, &mark, question);
    send(supervisor(&terminal), signal);
    assert_as_before(&lab, &terminal, code);
    if question {
        assert_eq!(lab.answers(), ["deny by session-end"]);
    }
    let verified = lab.stockade(&["log", "verify", "last"]).success();
    verified.assert_stdout("intact");
    let gone = || processes::with_argument(&mark).is_empty();
    assert!(
        wait::until_true(LONG, gone),
        "the command outlived its session"
    );
}

#[test]
fn a_request_to_end_restores_the_terminal() {
    ends_by(Signal::TERM, "code 143", false);
}

#[test]
fn a_hangup_restores_the_terminal() {
    ends_by(Signal::HUP, "code 129", false);
}

#[test]
fn a_request_to_end_with_a_question_open_restores_the_terminal() {
    ends_by(Signal::TERM, "code 143", true);
}

#[test]
fn an_agent_that_is_killed_leaves_the_terminal_as_it_was() {
    let lab = Lab::new();
    let mark = format!("3602.{}", std::process::id());
    let terminal = start(&lab, &mark, false);
    let agent = processes::with_argument(&mark).pop().unwrap();
    // The shell above it is the command of the session.
    let parents = processes::descendants(supervisor(&terminal));
    assert!(parents.contains(&agent));
    send(agent, Signal::KILL);
    assert_as_before(&lab, &terminal, "code 137");
}

#[test]
fn a_supervisor_that_is_killed_takes_everything_with_it() {
    let lab = Lab::new();
    let mark = format!("3603.{}", std::process::id());
    let terminal = start(&lab, &mark, true);
    let supervisor = supervisor(&terminal);
    let session = processes::descendants(supervisor);
    assert!(session.len() > 2, "control: {session:?}");
    send(supervisor, Signal::KILL);
    let lives = |pid: &&u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let gone = || session.iter().find(lives).is_none();
    assert!(
        wait::until_true(LONG, gone),
        "the session outlived its supervisor"
    );
}

#[test]
fn a_terminal_that_is_closed_ends_the_session() {
    let lab = Lab::new();
    let mark = format!("3604.{}", std::process::id());
    let tmux = lab.tmux(80, 24, &format!("sleep {mark}"));
    let running = || processes::with_argument(&mark).len() == 1;
    assert!(wait::until_true(LONG, running), "{}", tmux.text());
    drop(tmux);
    let gone = || processes::with_argument(&mark).is_empty();
    assert!(
        wait::until_true(LONG, gone),
        "the command outlived its terminal"
    );
}

/// The person at the terminal is told how to reach a server inside from outside, if the server
/// stayed; if no one can be asked, or for a server that ends at once, nothing is said. This opens
/// no port.
#[test]
fn a_server_that_stayed_is_named_with_the_way_to_it() {
    require_tool("python3");
    let lab = Lab::new();
    let [port] = free_ports();
    let serve = format!("python3 -m http.server {port} --bind 127.0.0.1 >/dev/null 2>&1 & sleep");
    for (options, seconds, told) in [
        ("", "4", true),
        ("--ask deny", "4", false),
        ("", "0.5", false),
        ("--publish PORT", "4", false),
    ] {
        let options = options.replace("PORT", &port.to_string());
        let line = format!(
            "\"$STOCKADE\" run {options} --summary none -- sh -c '{serve} {seconds}'; echo all done"
        );
        let mut terminal = Terminal::start(lab.around(&line).into_command(), 24, 100);
        terminal.wait_for("all done", LONG);
        let text = terminal.text();
        let hint = format!("listened on {port}");
        assert_eq!(text.contains(&hint), told, "{options} {seconds}: {text}");
        terminal.wait_exit(LONG);
    }
}
