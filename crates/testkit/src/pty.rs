//! A program in a pseudo-terminal whose screen can be read.

use std::{
    fmt::{self, Write as _},
    io::{Read, Write as _},
    num::NonZeroU16,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use pty_process::{
    Size,
    blocking::{self, Pty},
};
use rustix::process::Signal;

use crate::{processes, wait};

/// Lines that are kept above the screen: enough for what a test prints before it checks the screen.
const SCROLLBACK_LINES: usize = 1000;
/// Most raw output that is kept; a test that needs more must read the screen.
const RAW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long to wait for the last output of a program that has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// A terminal with a program in it; dropping it kills the program's process group.
pub struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    parser: vt100::Parser,
    raw: Vec<u8>,
    closed: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            parser: vt100::Parser::new(
                vt100::Parser::<()>::DEFAULT_ROWS,
                vt100::Parser::<()>::DEFAULT_COLS,
                SCROLLBACK_LINES,
            ),
            raw: Vec::new(),
            closed: false,
        }
    }
}

impl State {
    fn set_size(&mut self, rows: u16, columns: u16) {
        let size = |value| NonZeroU16::new(value).expect("a terminal has rows and columns");
        self.parser.screen_mut().set_size(size(rows), size(columns));
    }
}

impl Terminal {
    /// Starts `command` as the leader of its own session in a new terminal.
    pub fn start(command: Command, rows: u16, columns: u16) -> Self {
        let shown = format!("{command:?}");
        let (pty, inner) = blocking::open().expect("a pseudo-terminal can be opened");
        pty.resize(Size::new(rows, columns))
            .expect("a terminal can be resized");
        let child = blocking::Command::from(command)
            .spawn(inner)
            .unwrap_or_else(|e| panic!("cannot start {shown} in a terminal: {e}"));
        let shared = Arc::new(Shared::default());
        shared.lock().set_size(rows, columns);
        let pty = Arc::new(pty);
        let (reader, record) = (Arc::clone(&pty), Arc::clone(&shared));
        thread::spawn(move || record.read_from(&reader));
        Self { pty, child, shared }
    }

    /// Types text as it is; Enter is `\r`, Escape is `\x1b`.
    pub fn send(&self, text: &str) {
        (&*self.pty)
            .write_all(text.as_bytes())
            .expect("the terminal takes input");
    }

    /// Changes the size; the program gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.pty
            .resize(Size::new(rows, columns))
            .expect("a terminal can be resized");
        self.shared.lock().set_size(rows, columns);
    }

    /// Returns the screen as text, without trailing blanks.
    pub fn text(&self) -> String {
        self.shared.lock().parser.screen().contents()
    }

    /// Returns the screen with attributes, cursor and modes.
    pub fn screen(&self) -> vt100::Screen {
        self.shared.lock().parser.screen().clone()
    }

    /// Returns everything the program has written, as bytes.
    pub fn raw(&self) -> Vec<u8> {
        self.shared.lock().raw.clone()
    }

    /// Waits until the screen shows `text`; ends the test with the screen if it does not.
    pub fn wait_for(&self, text: &str, timeout: Duration) {
        self.wait_until(&format!("`{text}`"), timeout, |screen| {
            screen.contains(text)
        });
    }

    /// Waits until the screen does not show `text` any more.
    pub fn wait_without(&self, text: &str, timeout: Duration) {
        self.wait_until(&format!("no `{text}`"), timeout, |screen| {
            !screen.contains(text)
        });
    }

    /// Waits until `look` accepts the screen; `what` describes the expectation in the failure.
    pub fn wait_until(&self, what: &str, timeout: Duration, look: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            let screen = state.parser.screen().contents();
            if look(&screen) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.closed {
                let how = if state.closed {
                    "the program ended"
                } else {
                    "time is over"
                };
                // Drop it first, so that the panic does not poison the lock.
                drop(state);
                panic!("expected {what} on the screen, {how}; the screen is\n{screen}\n---");
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.expect("no thread panicked with the screen").0;
        }
    }

    /// Waits until the program has ended and returns its status. Its output is then on the screen,
    /// unless another program keeps the terminal open for more than a second.
    pub fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let status = wait::until(timeout, || {
            self.child.try_wait().expect("a child can be awaited")
        });
        if status.is_some() {
            wait::until_true(DRAIN, || self.shared.lock().closed);
        }
        let text = self.text();
        status.unwrap_or_else(|| panic!("the program did not end; the screen is\n{text}\n---"))
    }

    /// Returns the id of the program, which is also that of its session and first group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal")
            .field("pid", &self.pid())
            .field("text", &self.text())
            .finish_non_exhaustive()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        processes::signal_group(self.child.id(), Signal::KILL);
        drop(self.child.wait());
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread panicked with the screen")
    }

    fn read_from(&self, mut pty: &Pty) {
        let mut buffer = [0; 16 * 1024];
        let mut asked = Vec::new();
        // The kernel reports EIO once the last program has closed the terminal (pty(7)).
        while let Ok(read @ 1..) = pty.read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default();
            let mut state = self.lock();
            state.parser.process(bytes);
            let room = RAW_BYTES_MAX.saturating_sub(state.raw.len());
            state.raw.extend(bytes.iter().take(room));
            asked.extend_from_slice(bytes);
            let answer = answers(&mut asked, state.parser.screen().cursor_position());
            drop(state);
            if !answer.is_empty() && pty.write_all(&answer).is_err() {
                break;
            }
            self.changed.notify_all();
        }
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Returns a terminal's answers to the queries in `output`, in their order: its presence (DSR 5),
/// the cursor position (DSR 6) and its kind (DA1, ECMA-48). Programs wait for these. The bytes left
/// in `output` can be the beginning of a query.
fn answers(output: &mut Vec<u8>, (row, column): (u16, u16)) -> Vec<u8> {
    const LONGEST: usize = 4;
    let mut answer = String::new();
    let mut done = 0;
    for at in 0..output.len() {
        let rest = output.get(at..).unwrap_or_default();
        let asks = |question: &[u8]| rest.starts_with(question);
        if asks(b"\x1b[5n") {
            answer.push_str("\x1b[0n");
        } else if asks(b"\x1b[6n") {
            write!(answer, "\x1b[{};{}R", row + 1, column + 1).expect("a string takes text");
        } else if asks(b"\x1b[c") || asks(b"\x1b[0c") {
            answer.push_str("\x1b[?62;22c");
        } else {
            continue;
        }
        // No query is longer, and none begins with its other bytes.
        done = at + 3;
    }
    let keep = output.len().saturating_sub(LONGEST - 1).max(done);
    output.drain(..keep.min(output.len()));
    answer.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::Terminal;
    use crate::{failure_of, run::Run};

    const LONG: Duration = Duration::from_secs(10);

    fn shell(snippet: &str) -> Command {
        let run = Run::new("/bin/sh").arg("-c").arg(snippet);
        run.env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .into_command()
    }

    #[test]
    fn a_program_sees_a_terminal_and_the_test_sees_its_screen() {
        let snippet = "test -t 0 && test -t 1 && stty size; read line; echo \"got $line\"; exit 4";
        let mut terminal = Terminal::start(shell(snippet), 30, 100);
        terminal.wait_for("30 100", LONG);
        terminal.send("hello\r");
        terminal.wait_for("got hello", LONG);
        assert_eq!(terminal.wait_exit(LONG).code(), Some(4));
        assert!(terminal.raw().ends_with(b"got hello\r\n"));
    }

    #[test]
    fn keys_become_signals_and_the_size_changes() {
        let snippet = "trap 'stty size' WINCH; trap 'echo interrupted; exit 0' INT; echo ready; \
                       while :; do sleep 0.05; done";
        let mut terminal = Terminal::start(shell(snippet), 24, 80);
        terminal.wait_for("ready", LONG);
        terminal.resize(20, 60);
        terminal.wait_for("20 60", LONG);
        terminal.send("\x03");
        terminal.wait_for("interrupted", LONG);
        assert!(terminal.wait_exit(LONG).success());
    }

    #[test]
    fn questions_of_the_program_are_answered() {
        let snippet = "stty -echo -icanon min 6 time 0; printf '\\033[6n'; \
                       dd bs=6 count=1 2>/dev/null | od -c; sleep 5";
        let terminal = Terminal::start(shell(snippet), 24, 80);
        terminal.wait_for("033   [   1   ;   1   R", LONG);
    }

    #[test]
    fn the_screen_is_shown_when_a_text_is_missed() {
        let terminal = Terminal::start(shell("echo something else; sleep 5"), 24, 80);
        terminal.wait_for("else", LONG);
        let wait = || terminal.wait_for("absent", Duration::from_millis(50));
        assert!(failure_of(wait).contains("something else"));
    }
}
