//! The laboratory: a repository, a session in a terminal, and pictures of that terminal.

use std::{fs, thread, time::Duration};

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

/// Longest wait for something that a session does: a debug build on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Longer than a question is deaf after it appears.
pub(crate) const AWAKE: Duration = Duration::from_millis(700);
/// Words that only the box of a question has.
pub(crate) const BOX: &str = "┌ stockade ──";
/// What asks about an exec without doing anything: git prints its usage.
pub(crate) const PUSH: &str = "git push -h";
/// What git prints when it runs.
pub(crate) const PUSHED: &str = "usage: git push";
/// Name of the file whose appearance makes [`in_background`] go on.
const GO: &str = "go";

/// A repository in an environment of its own.
pub(crate) struct Lab {
    pub(crate) env: TestEnv,
    pub(crate) repo: Repo,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let env = TestEnv::new(under_test());
        let repo = env.repo();
        let lines: String = (1..=300).map(|n| format!("line {n} of the file\n")).collect();
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

    /// Makes `stockade run` with `options` for a line of shell.
    pub(crate) fn run(&self, options: &[&str], line: &str) -> Run {
        let run = self.stockade(&["run"]).args(options);
        run.args(["--", "/bin/sh", "-c", line])
    }

    /// Starts a session for a line of shell in a terminal of 24 by 80.
    pub(crate) fn open(&self, line: &str) -> Terminal {
        self.open_sized(24, 80, line)
    }

    pub(crate) fn open_sized(&self, rows: u16, columns: u16, line: &str) -> Terminal {
        Terminal::start(self.run(&[], line).into_command(), rows, columns)
    }

    /// Starts a line of shell around `stockade`, which is in `$STOCKADE`.
    pub(crate) fn around(&self, line: &str) -> Run {
        self.env
            .command("/bin/bash")
            .env("STOCKADE", self.env.binary())
            .current_dir(self.repo.path())
            .args(["-c", line])
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

    /// Lets what [`in_background`] wraps go on.
    pub(crate) fn go(&self) {
        self.env.write(self.repo.path().join(GO), "");
    }

    /// Reads a file of the repository; empty where there is none yet.
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

    /// Waits until so many questions are open.
    pub(crate) fn wait_asked(&self, count: usize) -> Vec<Asked> {
        let asked = wait::until(LONG, || {
            Some(approvals::pending(&self.env)).filter(|open| open.len() == count)
        });
        let now = || panic!("expected {count} questions: {:?}", approvals::pending(&self.env));
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

/// Makes a line that does `what` once [`Lab::go`] is called, while `program` has the terminal.
pub(crate) fn in_background(what: &str, program: &str) -> String {
    format!(
        "(until [ -e {GO} ]; do sleep 0.05; done; {what}) > result 2>&1 < /dev/null & \
         exec {program}"
    )
}

/// Presses a key when the question listens, and waits until its box is gone.
pub(crate) fn answer(terminal: &Terminal, key: &str) {
    terminal.wait_for("[d]eny", LONG);
    thread::sleep(AWAKE);
    terminal.send(key);
    terminal.wait_without(BOX, LONG);
}

/// Waits for the end of a session and returns its exit code.
pub(crate) fn end(terminal: &mut Terminal) -> i32 {
    terminal.wait_exit(LONG).code().expect("stockade exits")
}

/// Returns the process of the supervisor below a shell in the terminal.
pub(crate) fn supervisor(terminal: &Terminal) -> u32 {
    let first = wait::until(LONG, || processes::descendants(terminal.pid()).first().copied());
    first.expect("the shell has started stockade")
}

/// Tells how two pictures of a terminal differ: cells, cursor, modes, colours.
pub(crate) fn difference(a: &vt100::Screen, b: &vt100::Screen) -> Option<String> {
    if a.size() != b.size() {
        return Some(format!("size: {:?}, {:?}", a.size(), b.size()));
    }
    let (rows, columns) = a.size();
    let places = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |c| (row, c)));
    for (row, column) in places {
        let (x, y) = (a.cell(row, column), b.cell(row, column));
        if x != y {
            return Some(format!("cell {row},{column}: {x:?}, {y:?}"));
        }
    }
    let modes = |s: &vt100::Screen| {
        format!(
            "cursor {:?} hidden {} alternate {} paste {} keypad {} keys {} mouse {:?} {:?}",
            s.cursor_position(),
            s.hide_cursor(),
            s.alternate_screen(),
            s.bracketed_paste(),
            s.application_keypad(),
            s.application_cursor(),
            s.mouse_protocol_mode(),
            s.mouse_protocol_encoding(),
        )
    };
    let (x, y) = (modes(a), modes(b));
    let (p, q) = (a.attributes_formatted(), b.attributes_formatted());
    if x != y {
        return Some(format!("{x}\n{y}"));
    }
    (p != q).then(|| format!("colours {p:?}, {q:?}"))
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

/// Waits until the terminal draws nothing more, and returns its picture.
pub(crate) fn settled(terminal: &Terminal) -> vt100::Screen {
    let mut length = 0;
    let still = wait::until_true(LONG, || {
        thread::sleep(Duration::from_millis(400));
        let before = std::mem::replace(&mut length, terminal.raw().len());
        before == length
    });
    assert!(still, "the terminal does not come to rest:\n{}", terminal.text());
    terminal.screen()
}
