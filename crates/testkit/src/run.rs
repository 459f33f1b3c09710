//! Runs a program with a time limit, in its own process group, and captures its output.

use std::{
    ffi::OsStr,
    fmt,
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{processes, wait};

/// Time for a program unless the test says otherwise: a debug build of the product starts in well
/// under a second, and an agent's turn takes a few; on a busy machine both take ten times as long.
pub const RUN_TIMEOUT: Duration = Duration::from_mins(1);
/// The beginning of the command line of a session that has no person and prints nothing about
/// itself.
pub const UNATTENDED: [&str; 5] = ["run", "--ask", "deny", "--summary", "none"];
/// Time after the end of a program in which its output must be complete. A daemon that it left
/// behind can keep the pipe open for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Most output that is kept of each stream; more is read and discarded.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A program about to run: like [`Command`], but finished by [`Run::output`] or [`Run::spawn`].
#[derive(Debug)]
pub struct Run {
    command: Command,
    timeout: Duration,
    input: Vec<u8>,
}

impl Run {
    /// Makes a run of `program` with an empty environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_clear();
        Self {
            command,
            timeout: RUN_TIMEOUT,
            input: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds a shell command line as the command of a session.
    #[must_use]
    pub fn line(self, line: impl AsRef<OsStr>) -> Self {
        self.args(["--", "/bin/bash", "--norc", "-c"]).arg(line)
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets variables of the environment.
    #[must_use]
    pub fn envs(
        mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    /// Removes a variable of the environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the directory it runs in.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Sets user and group; the supplementary groups are dropped.
    #[must_use]
    pub fn ids(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Sets the time after which the whole process group is killed and the test ends.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets its standard input; without this the input is empty.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Returns the underlying command, for a pty or another launcher.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end, whatever the exit code.
    pub fn output(self) -> Output {
        self.spawn().wait()
    }

    /// Runs it to its end and ends the test unless it exits with 0.
    pub fn success(self) -> Output {
        let output = self.output();
        output.assert_success();
        output
    }

    /// Starts it in its own process group.
    pub fn spawn(mut self) -> Running {
        let shown = format!("{:?}", self.command);
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .command
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
        let mut input = child.stdin.take().expect("standard input is a pipe");
        let bytes = self.input;
        // A program that does not read its input may close the pipe.
        thread::spawn(move || drop(input.write_all(&bytes)));
        let stdout = Capture::start(child.stdout.take().expect("standard output is a pipe"));
        let stderr = Capture::start(child.stderr.take().expect("standard error is a pipe"));
        let started = Instant::now();
        Running {
            child,
            shown,
            stdout,
            stderr,
            started,
            timeout: self.timeout,
            over: false,
        }
    }
}

/// A started program; dropping it kills its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    stdout: Capture,
    stderr: Capture,
    started: Instant,
    timeout: Duration,
    over: bool,
}

impl Running {
    /// Returns its process id, which is also the id of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Returns what it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Returns whether it has ended.
    pub fn is_over(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// Returns whether its time has expired; [`Running::wait`] then ends the test.
    pub fn is_late(&self) -> bool {
        self.started.elapsed() >= self.timeout
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: Signal) {
        processes::signal_group(self.child.id(), signal);
    }

    /// Waits for its end; kills the group and ends the test when the time has expired.
    pub fn wait(mut self) -> Output {
        let left = self.timeout.saturating_sub(self.started.elapsed());
        let status = wait::until(left, || {
            self.child.try_wait().expect("a child can be waited for")
        });
        let duration = self.started.elapsed();
        let Some(status) = status else {
            self.signal(Signal::KILL);
            drop(self.child.wait());
            panic!(
                "{} did not end within {:?}\n{}",
                self.shown,
                self.timeout,
                streams(&self.stdout.text(), &self.stderr.text())
            );
        };
        self.over = true;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        Output {
            stdout: self.stdout.finish(deadline),
            stderr: self.stderr.finish(deadline),
            status,
            duration,
            shown: self.shown.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.signal(Signal::KILL);
            drop(self.child.wait());
        }
    }
}

#[derive(Debug)]
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            loop {
                let read = match pipe.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(0) | Err(_) => return,
                    Ok(read) => read,
                };
                let mut kept = shared.lock().expect("no thread panicked with the output");
                let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
                kept.extend(buffer.iter().take(read.min(room)));
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        let bytes = self
            .bytes
            .lock()
            .expect("no thread panicked with the output");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn finish(&self, deadline: Instant) -> String {
        let left = deadline.saturating_duration_since(Instant::now());
        wait::until_true(left, || self.reader.is_finished());
        self.text()
    }
}

/// A program's exit status and output.
#[derive(Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// Time from start to end.
    pub duration: Duration,
    shown: String,
}

impl Output {
    /// Returns the exit code, or 128 plus the signal as in a shell.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Ends the test unless the program exited with 0.
    pub fn assert_success(&self) -> &Self {
        self.assert_code(0)
    }

    /// Ends the test unless the program exited with `code` (128+n for signal n).
    pub fn assert_code(&self, code: i32) -> &Self {
        assert!(
            self.code() == code,
            "expected exit code {code}, saw {}\n{self:?}",
            self.code()
        );
        self
    }

    /// Ends the test unless standard output has `text`.
    pub fn assert_stdout(&self, text: &str) -> &Self {
        assert!(
            self.stdout.contains(text),
            "expected `{text}` on standard output\n{self:?}"
        );
        self
    }

    /// Ends the test unless standard error has `text`.
    pub fn assert_stderr(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "expected `{text}` on standard error\n{self:?}"
        );
        self
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ended with {} after {:?}\n{}",
            self.shown,
            self.status,
            self.duration,
            streams(&self.stdout, &self.stderr)
        )
    }
}

fn streams(stdout: &str, stderr: &str) -> String {
    format!(
        "--- stdout\n{}\n--- stderr\n{}\n---",
        stdout.trim_end(),
        stderr.trim_end()
    )
}

/// Returns the path of a system program; ends the test with its name if it is missing.
pub fn require_tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("this test needs `{name}`, which is not on PATH; install it"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Run, require_tool};
    use crate::{failure_of, wait};

    fn shell(snippet: &str) -> Run {
        Run::new("/bin/sh").arg("-c").arg(snippet)
    }

    #[test]
    fn output_input_and_codes_are_captured() {
        let output = shell("cat; echo err >&2; exit 3").stdin("in").output();
        output.assert_code(3);
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("in", "err\n")
        );
        assert_eq!(shell("kill -TERM $$").output().code(), 128 + 15);
        shell("env").env("A", "1").success().assert_stdout("A=1");
    }

    #[test]
    fn nothing_of_the_callers_environment_passes() {
        assert!(std::env::var_os("PATH").is_some(), "control");
        let output = Run::new("/usr/bin/env").success();
        assert_eq!(output.stdout, "");
    }

    #[test]
    fn time_over_kills_the_group_and_says_what_was_seen() {
        let marker = format!("60.{}1", std::process::id());
        let run = shell(&format!("echo begun; sleep {marker} & sleep {marker}"))
            .env("PATH", "/usr/bin:/bin")
            .timeout(Duration::from_millis(300));
        let text = failure_of(|| run.output());
        assert!(
            text.contains("did not end within 300ms") && text.contains("begun"),
            "{text}"
        );
        let gone = || crate::processes::with_argument(&marker).is_empty();
        assert!(wait::until_true(Duration::from_secs(5), gone));
    }

    #[test]
    fn a_daemon_that_holds_the_pipe_does_not_hold_the_test() {
        let marker = format!("9.{}2", std::process::id());
        let run = shell(&format!("echo done; sleep {marker} &")).env("PATH", "/usr/bin:/bin");
        let output = run.success();
        assert_eq!(output.stdout, "done\n");
        assert_eq!(crate::processes::with_argument(&marker).len(), 1);
    }

    #[test]
    fn a_missing_tool_is_named() {
        assert!(require_tool("sh").is_absolute());
        let text = failure_of(|| require_tool("no-such-tool"));
        assert!(text.contains("`no-such-tool`"), "{text}");
    }
}
