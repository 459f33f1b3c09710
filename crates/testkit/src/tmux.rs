//! A program in tmux: a terminal by other authors, for output that must look right in practice.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{
    env::TestEnv,
    run::{Output, Run, require_tool},
    wait,
};

/// A screen that has not changed for this long is at rest: programs draw a picture at once.
const STILL: Duration = Duration::from_millis(300);

/// A separate tmux server with one session; dropping it ends the server.
#[derive(Debug)]
pub struct Tmux<'a> {
    env: &'a TestEnv,
    socket: String,
}

impl<'a> Tmux<'a> {
    /// Starts the shell command line `command` in a session of `columns` by `rows`, in the home of
    /// the environment and as its user. The session stays when the command has ended, with a line
    /// that says `exit N`.
    pub fn start(env: &'a TestEnv, columns: u16, rows: u16, command: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        require_tool("tmux");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = format!("stockade-test-{}-{number}", std::process::id());
        let tmux = Self { env, socket };
        let line = format!("{command}\ncode=$?; echo; echo \"exit $code\"; exec sleep 3600");
        let size = [columns.to_string(), rows.to_string()];
        let [columns, rows] = &size;
        let arguments = [
            "new-session",
            "-d",
            "-x",
            columns,
            "-y",
            rows,
            "/bin/sh",
            "-c",
            &line,
        ];
        tmux.run(&arguments).assert_success();
        tmux
    }

    /// Presses keys by their tmux names (`Enter`, `Escape`, `C-c`, `Up`).
    pub fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", ":"], keys].concat())
            .assert_success();
    }

    /// Types text as it is.
    pub fn send(&self, text: &str) {
        self.run(&["send-keys", "-t", ":", "-l", "--", text])
            .assert_success();
    }

    /// Returns the screen as text.
    pub fn text(&self) -> String {
        self.run(&["capture-pane", "-t", ":", "-p"])
            .assert_success()
            .stdout
            .clone()
    }

    /// Returns the screen with its colours and attributes as escape sequences.
    pub fn styled(&self) -> String {
        self.run(&["capture-pane", "-t", ":", "-p", "-e"])
            .assert_success()
            .stdout
            .clone()
    }

    /// Returns column and row of the cursor, from 0.
    pub fn cursor(&self) -> String {
        self.value("#{cursor_x},#{cursor_y}")
    }

    /// Returns tmux's expansion of a format, such as `#{scroll_region_upper}`.
    pub fn value(&self, format: &str) -> String {
        let output = self.run(&["display-message", "-t", ":", "-p", format]);
        output.assert_success().stdout.trim().to_owned()
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.run(&["resize-window", "-t", ":", "-x", &columns, "-y", &rows])
            .assert_success();
    }

    /// Waits until the screen shows `text`; ends the test with the screen if it does not.
    pub fn wait_for(&self, text: &str, timeout: Duration) {
        let seen = wait::until_true(timeout, || self.text().contains(text));
        assert!(
            seen,
            "expected `{text}` on the screen, which is\n{}\n---",
            self.text()
        );
    }

    /// Waits until the screen does not show `text` any more.
    pub fn wait_without(&self, text: &str, timeout: Duration) {
        let gone = wait::until_true(timeout, || !self.text().contains(text));
        assert!(
            gone,
            "expected no `{text}` on the screen, which is\n{}\n---",
            self.text()
        );
    }

    /// Waits until nothing moves on the screen, and returns it as [`Tmux::styled`] and
    /// [`Tmux::cursor`] do; `None` if something still moves after `timeout`.
    pub fn settled(&self, timeout: Duration) -> Option<(String, String)> {
        let picture = || (self.styled(), self.cursor());
        let mut last = picture();
        wait::until(timeout, || {
            std::thread::sleep(STILL);
            let now = picture();
            let is_still = now == last;
            last = now;
            is_still.then(|| last.clone())
        })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output()
    }

    fn command(&self) -> Run {
        self.env
            .command("tmux")
            .env("TMUX_TMPDIR", self.env.temporary())
            .args(["-L", &self.socket, "-f", "/dev/null"])
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        // The server may have ended with its session.
        drop(self.command().arg("kill-server").output());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Tmux;
    use crate::{TestEnv, failure_of};

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_program_is_typed_to_and_read() {
        let env = TestEnv::new("/bin/true");
        let tmux = Tmux::start(
            &env,
            90,
            20,
            "stty size; read line; echo \"got $line\"; false",
        );
        tmux.wait_for("20 90", LONG);
        tmux.send("it's $HOME; -l");
        tmux.keys(&["Enter"]);
        tmux.wait_for("got it's $HOME; -l", LONG);
        tmux.wait_for("exit 1", LONG);
        assert!(tmux.cursor().starts_with("0,"), "{}", tmux.cursor());
        tmux.resize(70, 20);
        assert!(tmux.text().contains("exit 1"));
        let text = failure_of(|| tmux.wait_for("absent", Duration::from_millis(50)));
        assert!(text.contains("got it's"), "{text}");
    }

    #[test]
    fn the_server_is_gone_with_the_value() {
        let env = TestEnv::new("/bin/true");
        let tmux = Tmux::start(&env, 80, 24, "echo here");
        tmux.wait_for("here", LONG);
        let socket = tmux.socket.clone();
        assert!(
            !crate::processes::with_argument(&socket).is_empty(),
            "control"
        );
        drop(tmux);
        let gone = || crate::processes::with_argument(&socket).is_empty();
        assert!(crate::wait::until_true(LONG, gone));
    }
}
