//! The laboratory: a repository, a session in a terminal, and screenshots of that terminal.

use std::{fs, net::TcpListener, os::unix::process::ExitStatusExt as _, thread, time::Duration};

use stockade_testkit::{
    Repo, Run, TestEnv,
    approvals::{self, Asked},
    env::under_test,
    events::Event,
    processes,
    pty::Terminal,
    tmux::Tmux,
    wait,
};

/// Longest wait for an action of a session: a debug build on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Longer than a program takes to come to rest after a key.
pub(crate) const REST: Duration = Duration::from_millis(700);
/// Longer than the silence after which keys go to the agent again.
pub(crate) const SILENCE: Duration = Duration::from_millis(1_300);
/// The text in a box whose keys do not count yet.
pub(crate) const WAITS: &str = "wait…";
/// The text in a box in which Enter allows the picked answer.
pub(crate) const CONFIRM: &str = "press Enter to allow";
/// Words that only the box of a question has.
pub(crate) const BOX: &str = "┌ stockade ──";
/// A command that causes a question but has no effect: git prints its usage.
pub(crate) const PUSH: &str = "git push -q -h";
/// What git prints when it runs.
pub(crate) const PUSHED: &str = "usage: git push";
/// Name of the file whose appearance lets [`in_background`] continue.
const GO: &str = "go";

/// A repository in its own environment.
pub(crate) struct Lab {
    pub(crate) env: TestEnv,
    pub(crate) repo: Repo,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let env = TestEnv::new(under_test());
        let repo = env.repo();
        let lines = numbered(300, |n| format!("line {n} of the file\n"));
        env.write(repo.path().join("lines.txt"), &lines);
        Self { env, repo }
    }

    /// Makes a run of `stockade` in the repository.
    pub(crate) fn stockade(&self, arguments: &[&str]) -> Run {
        self.env
            .stockade()
            .current_dir(self.repo.path())
            .args(arguments)
    }

    /// Makes `stockade run` with `options` for a shell command line.
    pub(crate) fn run(&self, options: &[&str], line: &str) -> Run {
        let run = self.stockade(&["run"]).args(options);
        run.args(["--", "/bin/sh", "-c", line])
    }

    /// Starts a session for a shell command line in a terminal of 24 by 80.
    pub(crate) fn open(&self, line: &str) -> Terminal {
        self.open_sized(24, 80, line)
    }

    pub(crate) fn open_sized(&self, rows: u16, columns: u16, line: &str) -> Terminal {
        Terminal::start(self.run(&[], line).into_command(), rows, columns)
    }

    /// Makes a run of a shell command line around `stockade`, which is in `$STOCKADE`. Signals have
    /// their default action, even if the parent of the tests ignores them.
    pub(crate) fn around(&self, line: &str) -> Run {
        self.env
            .command("env")
            .env("STOCKADE", self.env.binary())
            .current_dir(self.repo.path())
            .args(["--default-signal", "/bin/bash", "-c", line])
    }

    /// Starts a session for a program with arguments in tmux, in a shell that stays.
    pub(crate) fn tmux(&self, columns: u16, rows: u16, command: &str) -> Tmux<'_> {
        let line = format!(
            "cd '{}' && '{}' run -- {command}",
            self.repo.path().display(),
            self.env.binary().display()
        );
        Tmux::start(&self.env, columns, rows, &line)
    }

    /// Lets the command in [`in_background`] continue.
    pub(crate) fn go(&self) {
        self.env.write(self.repo.path().join(GO), "");
    }

    /// Reads a file of the repository; empty if it does not exist yet.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.repo.path().join(name)).unwrap_or_default()
    }

    /// Waits until a file of the repository has `text`.
    pub(crate) fn wait_file(&self, name: &str, text: &str) -> String {
        let found = wait::until_true(LONG, || self.file(name).contains(text));
        let shown = self.file(name);
        assert!(found, "expected `{text}` in {name}, saw:\n{shown}");
        shown
    }

    /// Waits until this many questions are open.
    pub(crate) fn wait_asked(&self, count: usize) -> Vec<Asked> {
        let asked = wait::until(LONG, || {
            Some(approvals::pending(&self.env)).filter(|open| open.len() == count)
        });
        let now = || {
            panic!(
                "expected {count} questions: {:?}",
                approvals::pending(&self.env)
            )
        };
        asked.unwrap_or_else(now)
    }

    /// Returns the record of the last session.
    pub(crate) fn record(&self) -> Vec<Event> {
        self.env.events("last")
    }

    /// Returns verdict and answerer of each answer in the record of the last session.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.record()
            .iter()
            .filter(|event| event.kind() == "approval.decided")
            .map(|event| format!("{} by {}", event.verdict(), event.field("by")))
            .collect()
    }
}

/// Returns free loopback ports from the range of servers that people start.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    // Tests that run at the same time begin at different ports.
    let first = 20_000 + u16::try_from(std::process::id() * 13 % 9_000).expect("it is small");
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let free: Vec<u16> = (first..32_000).filter(is_free).take(COUNT).collect();
    free.try_into().expect("ports are free")
}

/// Joins the lines for the numbers from 1 to `last`.
pub(crate) fn numbered(last: u32, line: impl Fn(u32) -> String) -> String {
    (1..=last).map(line).collect()
}

/// Makes a line that does `what` once [`Lab::go`] is called, while `program` has the terminal.
pub(crate) fn in_background(what: &str, program: &str) -> String {
    format!(
        "(until [ -e {GO} ]; do sleep 0.05; done; {what}) > result 2>&1 < /dev/null & \
         exec {program}"
    )
}

/// Presses a key when the question accepts keys, and Enter after one that allows; waits until the
/// box is gone.
pub(crate) fn answer(terminal: &Terminal, key: &str) {
    if key == "d" {
        terminal.wait_for("[d]eny", LONG);
        terminal.send(key);
    } else {
        pick(terminal, key);
        terminal.send("\r");
    }
    terminal.wait_without(BOX, LONG);
}

/// Presses a letter when the question accepts answers that allow, and waits until Enter counts.
pub(crate) fn pick(terminal: &Terminal, key: &str) {
    terminal.wait_for("[o]nce", LONG);
    terminal.send(key);
    terminal.wait_for(CONFIRM, LONG);
}

/// Waits for the end of a session and returns its exit code, as in a shell.
pub(crate) fn end(terminal: &mut Terminal) -> i32 {
    let status = terminal.wait_exit(LONG);
    let by_signal = || 128 + status.signal().expect("stockade ends");
    status.code().unwrap_or_else(by_signal)
}

/// Returns the process of the supervisor below a shell in the terminal.
pub(crate) fn supervisor(terminal: &Terminal) -> u32 {
    let first = wait::until(LONG, || {
        processes::descendants(terminal.pid()).first().copied()
    });
    first.expect("the shell has started stockade")
}

/// Describes the difference between two screenshots of a terminal: cells, cursor, modes, colours.
pub(crate) fn difference(before: &vt100::Screen, after: &vt100::Screen) -> Option<String> {
    if before.size() != after.size() {
        return Some(format!("size: {:?}, {:?}", before.size(), after.size()));
    }
    let (rows, columns) = before.size();
    let places =
        (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
    for (row, column) in places {
        let (old, new) = (before.cell(row, column), after.cell(row, column));
        if old != new {
            return Some(format!("cell {row},{column}: {old:?}, {new:?}"));
        }
    }
    let modes = |screen: &vt100::Screen| {
        format!(
            "cursor {:?} hidden {} alternate {} paste {} keypad {} keys {} mouse {:?} {:?}",
            screen.cursor_position(),
            screen.hide_cursor(),
            screen.alternate_screen(),
            screen.bracketed_paste(),
            screen.application_keypad(),
            screen.application_cursor(),
            screen.mouse_protocol_mode(),
            screen.mouse_protocol_encoding(),
        )
    };
    let (old, new) = (modes(before), modes(after));
    let colours = |screen: &vt100::Screen| screen.attributes_formatted();
    if old != new {
        return Some(format!("{old}\n{new}"));
    }
    let (old, new) = (colours(before), colours(after));
    (old != new).then(|| format!("colours {old:?}, {new:?}"))
}

/// Waits until the terminal looks exactly as it did.
pub(crate) fn assert_restored(terminal: &Terminal, before: &vt100::Screen, what: &str) {
    let same = || difference(before, &terminal.screen()).is_none();
    let restored = wait::until_true(Duration::from_secs(5), same);
    assert!(
        restored,
        "{what} did not come back: {:?}\nbefore:\n{}\nafter:\n{}",
        difference(before, &terminal.screen()),
        before.contents(),
        terminal.text()
    );
}

/// Waits until the terminal stops drawing, and returns its screenshot.
pub(crate) fn settled(terminal: &Terminal) -> vt100::Screen {
    let mut length = 0;
    let still = wait::until_true(LONG, || {
        thread::sleep(Duration::from_millis(400));
        let before = std::mem::replace(&mut length, terminal.raw().len());
        before == length
    });
    assert!(
        still,
        "the terminal does not come to rest:\n{}",
        terminal.text()
    );
    terminal.screen()
}
