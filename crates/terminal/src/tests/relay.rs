//! The whole relay between two real ptys: one plays the person, one the agent.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, tcgetattr, tcgetwinsize},
};
use stockade_approval::{Asker, Desk, DeskEvent, Outcome};
use stockade_policy::{AskStage, Decision, NetRequest, Request, Reviewer, Scope};
use stockade_types::{AskMode, Circumstance, Person};
use stockade_types::{DecisionId, Digest, Port, Subject, UnixMillis, Verdict};

use super::{
    super::{
        layout::Color,
        relay::{Relay, RelayOptions},
        tty::{Tty, set_size},
    },
    SIZE, Size, Terminal,
};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn pty() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master = openpt(flags | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags | OpenptFlags::CLOEXEC).unwrap();
    (master, slave)
}

struct Lab {
    person: OwnedFd,
    person_slave: OwnedFd,
    agent: OwnedFd,
    desk: Arc<Desk>,
    relay: Option<Relay>,
    terminal: Terminal,
    events: Arc<Mutex<Vec<String>>>,
    time: Arc<AtomicU64>,
    /// All that the terminal got.
    raw: Vec<u8>,
    /// The end of what was looked through for questions to the terminal.
    looked: usize,
    /// The terminal answers when it is asked whether it is there.
    answers: bool,
}

impl Lab {
    fn new() -> Self {
        Self::on("xterm")
    }

    fn on(term: &str) -> Self {
        let (person, person_slave) = pty();
        let (master, agent) = pty();
        set_size(person.as_fd(), SIZE).unwrap();
        rustix::io::ioctl_fionbio(&person, true).unwrap();
        let time = Arc::new(AtomicU64::new(1_000_000));
        let clock = Arc::clone(&time);
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let desk = Arc::new(Desk::new(
            AskMode::Tty,
            "codex".to_owned(),
            Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
            Box::new(move |event| {
                if let DeskEvent::Decided { verdict, by, .. } = event {
                    seen.lock().unwrap().push(format!("{verdict} by {by}"));
                }
                Ok(())
            }),
        ));
        let tty = Tty::of(person_slave.as_fd(), person_slave.as_fd()).unwrap();
        let options = RelayOptions {
            keep: |_, _, _| Err("nothing is kept here".to_owned()),
            color: Color::None,
            term: term.to_owned(),
            agent: None,
        };
        let relay = Relay::between(tty, master, Arc::clone(&desk), &options, (None, None)).unwrap();
        let terminal = Terminal::new(SIZE);
        Self {
            person,
            person_slave,
            agent,
            desk,
            relay: Some(relay),
            terminal,
            events,
            time,
            raw: Vec::new(),
            looked: 0,
            answers: true,
        }
    }

    /// Reads what the terminal gets now, and answers as a terminal does.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = rustix::io::read(&self.person, &mut buffer) {
            self.terminal.feed(&buffer[..count]);
            self.raw.extend_from_slice(&buffer[..count]);
        }
        while let Some(at) = self.raw[self.looked..]
            .windows(4)
            .position(|w| w == b"\x1b[5n")
        {
            self.looked += at + 4;
            if self.answers {
                self.type_keys(b"\x1b[0n");
            }
        }
    }

    /// Lets time go by at the terminal.
    fn pause(&mut self, ms: u64) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(ms) {
            self.read();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Picks once and confirms, as the box says when.
    fn allow(&mut self) {
        self.shows("[o]nce");
        self.type_keys(b"o");
        self.shows("press Enter to allow");
        self.type_keys(b"\r");
    }

    fn type_keys(&self, keys: &[u8]) {
        File::from(self.person.try_clone().unwrap())
            .write_all(keys)
            .unwrap();
    }

    fn print(&self, output: &[u8]) {
        File::from(self.agent.try_clone().unwrap())
            .write_all(output)
            .unwrap();
    }

    /// Reads what the person's terminal gets, until it shows (or no longer shows) a text.
    fn until(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            self.read();
            let text = self.terminal.text();
            if holds(&text) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} did not come:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn shows(&mut self, text: &str) -> String {
        self.until(text, |shown| shown.contains(text))
    }

    /// Makes the agent read key by key.
    fn make_keys(&self) {
        let mut modes = tcgetattr(&self.agent).unwrap();
        modes
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        rustix::termios::tcsetattr(&self.agent, rustix::termios::OptionalActions::Now, &modes)
            .unwrap();
    }

    /// Reads what reached the agent.
    fn agent_reads(&self) -> Vec<u8> {
        self.make_keys();
        let mut bytes = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            let mut fds = [rustix::event::PollFd::from_borrowed_fd(
                self.agent.as_fd(),
                rustix::event::PollFlags::IN,
            )];
            let slice = rustix::time::Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            if rustix::event::poll(&mut fds, Some(&slice)).unwrap() > 0 {
                let mut buffer = [0; 256];
                let count = rustix::io::read(&self.agent, &mut buffer).unwrap();
                bytes.extend_from_slice(&buffer[..count]);
            }
        }
        bytes
    }

    fn ask(&self) -> JoinHandle<Outcome> {
        self.ask_about("registry.test")
    }

    fn ask_about(&self, host: &'static str) -> JoinHandle<Outcome> {
        let desk = Arc::clone(&self.desk);
        std::thread::spawn(move || {
            let request = Request::Net(NetRequest {
                host: host.parse().unwrap(),
                port: Port::new(443).unwrap(),
                subject: Subject::default(),
            });
            let decide = |verdict| Decision {
                verdict,
                rule: None,
                rules: Vec::new(),
                origin: None,
                answered: None,
                reason: "no rule names this host".to_owned(),
                failed_condition: None,
                nearest_allow: None,
                remedy: String::new(),
                stage: Some(AskStage {
                    reviewer: Reviewer::Human,
                    expires: "5m".parse().unwrap(),
                    scope_max: Scope::Session,
                    review: None,
                    reviewer_allows: None,
                }),
                terms: stockade_policy::Terms::default(),
                http_only: false,
            };
            desk.ask(&Asker {
                request: &request,
                decision: &decide(Verdict::Ask),
                decision_id: DecisionId::new(1),
                revision: Digest::of(b"policy"),
                intent: None,
                decide: &|approvals| {
                    decide(if approvals.is_empty() {
                        Verdict::Ask
                    } else {
                        Verdict::Allow
                    })
                },
                wanted: &|| true,
                covered: None,
                lasting: None,
            })
        })
    }
}

#[test]
fn bytes_pass_both_ways_and_the_terminal_comes_back() {
    let mut lab = Lab::new();
    let raw = tcgetattr(&lab.person_slave).unwrap();
    assert!(!raw.local_modes.contains(LocalModes::ICANON));
    lab.print(b"hello from the agent\r\n\x1b]52;c;c2VjcmV0\x07");
    lab.shows("hello from the agent");
    lab.type_keys(b"typed\x1a\x03");
    let modes = tcgetattr(&lab.agent).unwrap();
    assert!(modes.local_modes.contains(LocalModes::ISIG));
    lab.print(b"\x1b[?1049h\x1b[?1000h\x1b[?2004hon the other screen");
    lab.shows("on the other screen");
    lab.relay.take().unwrap().finish();
    let text = lab.shows("hello from the agent");
    assert!(!text.contains("other screen"), "{text}");
    let cooked = tcgetattr(&lab.person_slave).unwrap();
    assert!(
        cooked
            .local_modes
            .contains(LocalModes::ICANON | LocalModes::ECHO)
    );
    let screen = lab.terminal.parser.screen();
    assert!(!screen.bracketed_paste() && !screen.alternate_screen());
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
}

#[test]
fn a_person_answers_once_the_box_is_there() {
    let mut lab = Lab::new();
    lab.print(b"working");
    lab.shows("working");
    let ask = lab.ask();
    lab.shows("registry.test:443");
    // Typed at once: it was meant for the agent, and counts for nothing.
    lab.type_keys(b"o");
    // Held back until the box is gone.
    lab.print(b" and working on");
    lab.pause(600);
    let shown = lab.shows("wait…");
    assert!(!shown.contains("working on"), "{shown}");
    lab.shows("[o]nce");
    lab.type_keys(b"\x1b[200~o\r\x1b[201~");
    lab.pause(300);
    assert!(!ask.is_finished());
    lab.allow();
    let text = lab.until("the end of the box", |text| {
        text == "working and working on"
    });
    assert_eq!(text, "working and working on");
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    assert_eq!(*lab.events.lock().unwrap(), ["allow by terminal"]);
    assert_eq!(
        lab.agent_reads(),
        b"",
        "no key of the answer reaches the agent"
    );
}

#[test]
fn what_was_allowed_is_said_where_there_is_a_line_for_it() {
    let mut lab = Lab::new();
    lab.print(b"working\r\n");
    lab.shows("working");
    let ask = lab.ask();
    lab.allow();
    let text = lab.shows("stockade: allowed once: connect registry.test:443 (");
    assert!(!text.contains("┌ stockade"), "{text}");
    ask.join().unwrap();
    lab.print(b"on\r\n");
    let text = lab.shows(")\non");
    assert!(text.starts_with("working\nstockade: allowed"), "{text}");
    // Not on the screen of a program that draws.
    lab.print(b"\x1b[?1049h\x1b[5;5Hfull screen");
    lab.shows("full screen");
    let ask = lab.ask_about("other.test");
    lab.allow();
    ask.join().unwrap();
    lab.until("the program alone", |text| {
        text == "\n\n\n\n    full screen"
    });
}

/// A key and a question in one wake-up of the relay.
#[test]
fn keys_from_before_the_box_are_the_agents_and_nothing_freezes() {
    for round in 0..6_u8 {
        let mut lab = Lab::new();
        lab.make_keys();
        lab.print(b"ready\r\n");
        lab.shows("ready");
        lab.type_keys(b"ls");
        let ask = lab.ask();
        lab.type_keys(b"\r");
        // Whatever came first: the box is drawn, and its clock goes on.
        lab.shows("deny in 5:00");
        lab.time.fetch_add(2_000, Ordering::SeqCst);
        lab.shows("deny in 4:58");
        assert!(!ask.is_finished(), "round {round}");
        lab.allow();
        assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
        let read = lab.agent_reads();
        assert!(read.starts_with(b"ls"), "round {round}: {read:?}");
    }
}

/// 64 kB of output wait for a slow terminal when the question comes.
#[test]
fn no_key_counts_for_what_a_slow_terminal_does_not_show_yet() {
    let mut lab = Lab::new();
    let agent = lab.agent.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let mut agent = File::from(agent);
        for line in 0..2_000 {
            writeln!(
                agent,
                "line {line} of what was to be read before the question"
            )
            .unwrap();
        }
    });
    // Nobody reads: the relay and the kernel are full.
    std::thread::sleep(Duration::from_millis(500));
    let ask = lab.ask();
    std::thread::sleep(Duration::from_millis(2_500));
    lab.type_keys(b"o");
    std::thread::sleep(Duration::from_millis(700));
    lab.type_keys(b"\r");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!ask.is_finished(), "allowed what was not on the screen");
    lab.allow();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    lab.shows("line 1999 of");
    writer.join().unwrap();
}

/// The kernel has taken all of the box, and the terminal has not come to it.
#[test]
fn what_was_written_is_not_what_is_shown() {
    let mut lab = Lab::new();
    lab.print(b"working\r\n");
    lab.shows("working");
    let ask = lab.ask();
    std::thread::sleep(Duration::from_secs(4));
    for keys in [&b"o"[..], b"\r", b"s", b"\r"] {
        lab.type_keys(keys);
        std::thread::sleep(Duration::from_millis(1_200));
    }
    assert!(!ask.is_finished(), "allowed what was not on the screen");
    // The terminal catches up with what was drawn meanwhile.
    lab.pause(2_500);
    lab.allow();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
}

#[test]
fn a_terminal_that_never_answers_is_answered_by_its_digits() {
    for term in ["xterm", "dumb"] {
        let mut lab = Lab::on(term);
        lab.answers = false;
        lab.print(b"working\r\n");
        lab.shows("working");
        let ask = lab.ask();
        lab.shows("[o]nce");
        lab.type_keys(b"o");
        let text = lab.shows("to go on:");
        lab.pause(700);
        lab.type_keys(b"\r");
        lab.pause(300);
        assert!(!ask.is_finished(), "{term}: Enter alone");
        let (_, code) = text.rsplit_once("type ").unwrap();
        let code = code[..4].to_owned();
        lab.pause(1_500);
        lab.type_keys(b"o");
        lab.pause(600);
        for digit in code.chars() {
            lab.type_keys(digit.to_string().as_bytes());
            lab.pause(120);
        }
        lab.shows("press Enter to allow");
        lab.pause(600);
        lab.type_keys(b"\r");
        assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
        lab.shows("allowed once");
        lab.relay.take().unwrap().finish();
        lab.read();
        if term == "dumb" {
            assert!(
                !lab.raw.contains(&0x1b),
                "{}",
                String::from_utf8_lossy(&lab.raw)
            );
        }
    }
}

#[test]
fn a_late_answer_of_the_terminal_does_not_reach_the_agent() {
    let mut lab = Lab::new();
    lab.make_keys();
    lab.answers = false;
    let ask = lab.ask();
    lab.shows("registry.test:443");
    let id = lab.desk.pending()[0].id.clone();
    let deny = stockade_approval::Answer::Deny { reason: None };
    lab.desk
        .answer(&id, deny, Person::Inbox { uid: 1000 })
        .unwrap();
    ask.join().unwrap();
    lab.until("the end of the box", |text| !text.contains("┌ stockade"));
    lab.pause(1_300);
    for bytes in [&b"a\x1b["[..], b"0nb"] {
        lab.type_keys(bytes);
        lab.pause(20);
    }
    assert_eq!(lab.agent_reads(), b"ab");
    // A key that looks like the beginning of one is not kept for long.
    lab.type_keys(b"\x1b");
    assert_eq!(lab.agent_reads(), b"\x1b");
}

#[test]
fn an_answer_from_elsewhere_takes_the_box_away() {
    let mut lab = Lab::new();
    lab.print(b"\x1b[?1049h\x1b[5;5Hfull screen");
    lab.shows("full screen");
    let ask = lab.ask();
    lab.shows("registry.test:443");
    let id = lab.desk.pending()[0].id.clone();
    let deny = stockade_approval::Answer::Deny { reason: None };
    lab.desk
        .answer(&id, deny, Person::Inbox { uid: 1000 })
        .unwrap();
    lab.until("the end of the box", |text| {
        text == "\n\n\n\n    full screen"
    });
    assert!(matches!(ask.join().unwrap(), Outcome::Refused { .. }));
}

#[test]
fn a_question_that_expires_goes_away_denied() {
    let mut lab = Lab::new();
    let ask = lab.ask();
    lab.shows("deny in 5:00");
    lab.time.fetch_add(8_000, Ordering::SeqCst);
    lab.shows("deny in 4:52");
    lab.time.fetch_add(300_000, Ordering::SeqCst);
    lab.until("the end of the box", |text| !text.contains("registry.test"));
    assert!(
        matches!(ask.join().unwrap(), Outcome::Refused { by, .. } if by == Circumstance::Timeout.into())
    );
}

#[test]
fn what_was_typed_for_a_question_that_expires_reaches_nobody() {
    let mut lab = Lab::new();
    lab.print(b"working\r\n");
    lab.shows("working");
    let ask = lab.ask();
    lab.shows("[o]nce");
    lab.type_keys(b"r");
    lab.shows("reason: _");
    lab.type_keys(b"no");
    lab.shows("reason: no_");
    lab.time.fetch_add(301_000, Ordering::SeqCst);
    lab.shows("has expired and is denied");
    assert!(matches!(ask.join().unwrap(), Outcome::Refused { .. }));
    // Output waits, so that no reply of the terminal is taken for a key.
    lab.print(b"working on\r\n");
    for key in [" ", "t", "o", "u", "\r", "c", "h", "\r"] {
        lab.type_keys(key.as_bytes());
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(lab.agent_reads(), b"", "typed for the question");
    let text = lab.shows("working on");
    assert!(!text.contains("┌ stockade"), "{text}");
    lab.type_keys(b"x");
    assert_eq!(
        lab.agent_reads(),
        b"x",
        "after a silence keys are the agent's"
    );
}

#[test]
fn a_question_that_ends_with_its_session_leaves_no_line() {
    let mut lab = Lab::new();
    lab.print(b"working\r\n");
    lab.shows("working");
    let ask = lab.ask();
    lab.shows("[o]nce");
    lab.desk.close();
    assert!(
        matches!(ask.join().unwrap(), Outcome::Refused { by, .. } if by == Circumstance::SessionEnd.into())
    );
    lab.print(b"the end\r\n");
    let text = lab.shows("the end");
    assert!(!text.contains("stockade"), "{text}");
}

#[test]
fn what_was_typed_for_one_question_does_not_answer_the_next() {
    let mut lab = Lab::new();
    let first = lab.ask();
    lab.shows("registry.test:443");
    let id = lab.desk.pending()[0].id.clone();
    lab.shows("[o]nce");
    lab.type_keys(b"r");
    lab.shows("reason: _");
    let second = lab.ask_about("other.test");
    lab.shows(" of 2");
    let deny = stockade_approval::Answer::Deny { reason: None };
    lab.desk
        .answer(&id, deny, Person::Inbox { uid: 1000 })
        .unwrap();
    lab.shows("other.test:443");
    first.join().unwrap();
    // Slowly: each key stands for itself.
    for key in ["n", "o", " ", "u", "s", "e"] {
        lab.pause(450);
        lab.type_keys(key.as_bytes());
    }
    lab.pause(200);
    assert!(!second.is_finished(), "a letter of a reason allowed it");
    lab.shows("[d]eny");
    lab.type_keys(b"d");
    assert!(
        matches!(second.join().unwrap(), Outcome::Refused { by, .. } if by == Person::Terminal.into())
    );
}

#[test]
fn the_size_follows() {
    let mut lab = Lab::new();
    assert_eq!(tcgetwinsize(&lab.agent).unwrap().ws_col, 80);
    let size = Size {
        rows: 30,
        columns: 100,
    };
    set_size(lab.person.as_fd(), size).unwrap();
    // This process is not in the foreground of that terminal: send what the kernel would.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::WINCH)
        .unwrap();
    let begun = Instant::now();
    while tcgetwinsize(&lab.agent).unwrap().ws_col != 100 {
        assert!(begun.elapsed() < PATIENCE, "the size did not follow");
        std::thread::sleep(Duration::from_millis(5));
    }
    lab.print(b"still here");
    lab.shows("still here");
}

#[test]
fn much_output_neither_stops_nor_grows() {
    let mut lab = Lab::new();
    let agent = lab.agent.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let mut agent = File::from(agent);
        for line in 0..20_000 {
            writeln!(agent, "line {line}").unwrap();
        }
        writeln!(agent, "the very last").unwrap();
    });
    lab.shows("the very last");
    writer.join().unwrap();
}
