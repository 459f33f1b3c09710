//! Where values come from: a variable, a file, a command.

use std::{
    fs::File,
    io::Read,
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use stockade_policy::CredentialSource;
use stockade_types::{RawText, Secret, ignored};

use crate::caller::Caller;

/// Shortest value: a shorter one is part of ordinary text, from which it could not be told when it is
/// taken out of answers.
pub(super) const VALUE_BYTES_MIN: usize = 8;
/// Longest value; tokens with many claims have about four thousand.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// How long a command may take: some ask their user for a password first.
const COMMAND_WAIT: Duration = Duration::from_mins(1);

/// Permissions that let anybody read or write a file.
const OTHERS: u32 = 0o006;

/// Finds a value. The error says what is wrong with the source.
pub(crate) fn value(source: &CredentialSource, caller: &Caller) -> Result<Secret<String>, String> {
    let text = match source {
        CredentialSource::Variable(name) => {
            let value = caller.variable(name).ok_or("is not set")?;
            let value = std::str::from_utf8(value.as_bytes());
            value.map_err(|_| "is not text")?.to_owned()
        }
        CredentialSource::File(path) => file(path, caller)?,
        CredentialSource::Command(argv) => command(argv, &caller.environment, COMMAND_WAIT)?,
        CredentialSource::Login(_) => {
            return Err("is a login, which is found with its file".to_owned());
        }
    };
    let line = text.lines().next().unwrap_or_default().trim();
    if line.len() < VALUE_BYTES_MIN {
        return Err(format!(
            "has {} bytes, and a credential has at least {VALUE_BYTES_MIN}",
            line.len()
        ));
    }
    if line.len() > VALUE_BYTES_MAX {
        return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
    }
    if !line.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Err("has characters that no request can have".to_owned());
    }
    Ok(Secret::new(line.to_owned()))
}

fn file(path: &str, caller: &Caller) -> Result<String, String> {
    let path = caller.expand(path).ok_or("has no place here")?;
    // A pipe without a writer would keep an ordinary open waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(path.as_path(), flags, Mode::empty());
    let file = File::from(file.map_err(|error| format!("cannot be read: {error}"))?);
    let metadata = file
        .metadata()
        .map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    if metadata.mode() & OTHERS != 0 {
        return Err("can be read or changed by everybody; make it `chmod 600`".to_owned());
    }
    first(file)
}

/// Reads what can be a value and a little more.
fn first(from: impl Read) -> Result<String, String> {
    let mut text = String::new();
    let bytes = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX) + 2;
    let read = from.take(bytes).read_to_string(&mut text);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

/// Runs a command of the caller. What it says beside its output is for the caller's eyes, and so goes
/// where our own messages go.
fn command(
    argv: &[String],
    environment: &[(RawText, RawText)],
    wait: Duration,
) -> Result<String, String> {
    let (program, arguments) = argv.split_first().ok_or("names no program")?;
    let mut command = Command::new(program);
    let variables = environment.iter();
    command
        .args(arguments)
        .env_clear()
        .envs(variables.map(|(name, value)| (name.to_os(), value.to_os())))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let deadline = Deadline::after(wait);
    let said = said(&mut child, &deadline).and_then(|said| {
        over(&child, &deadline)?;
        Ok(said)
    });
    if said.is_err() {
        end(&child);
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot be waited for: {error}"))?;
    let said = said?;
    if status.success() {
        Ok(said)
    } else {
        Err(format!("failed: {status}"))
    }
}

/// When a command should be over.
struct Deadline {
    at: Instant,
    wait: Duration,
}

impl Deadline {
    fn after(wait: Duration) -> Self {
        let at = Instant::now() + wait;
        Self { at, wait }
    }

    /// Waits until something can be read.
    fn until_readable(&self, fd: impl AsFd) -> Result<(), String> {
        let left = self.at.saturating_duration_since(Instant::now());
        let wait = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or_default(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&wait)));
        if ready.is_ok_and(|count| count > 0) {
            return Ok(());
        }
        Err(format!("took more than {} seconds", self.wait.as_secs()))
    }
}

/// Reads all that a child prints.
fn said(child: &mut Child, deadline: &Deadline) -> Result<String, String> {
    let mut output = child.stdout.take().ok_or("has no output")?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        deadline.until_readable(&output)?;
        let count = output
            .read(&mut chunk)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if count == 0 {
            return String::from_utf8(bytes).map_err(|_| "is not text".to_owned());
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if bytes.len() > VALUE_BYTES_MAX + 2 {
            return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
        }
    }
}

/// Waits until a child has ended, which it need not do when it closes its output.
fn over(child: &Child, deadline: &Deadline) -> Result<(), String> {
    let failed = |error: Errno| format!("cannot be waited for: {error}");
    let pid = pid(child).ok_or("cannot be waited for")?;
    let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    deadline.until_readable(&ended)
}

/// Ends a child and what it started.
fn end(child: &Child) {
    if let Some(group) = pid(child) {
        ignored(kill_process_group(group, Signal::KILL), "it may have ended");
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::command;

    /// A command that does not end is ended, whether it keeps its output open, has closed it or has left
    /// it to a process of its own.
    #[test]
    fn a_slow_command_is_ended() {
        for text in [
            "sleep 1000",
            "echo some-value; sleep 1000",
            "echo some-value; exec >&-; sleep 1000",
            "echo some-value; sleep 1000 &",
        ] {
            let argv = ["/bin/sh", "-c", text].map(str::to_owned);
            let start = Instant::now();
            let said = command(&argv, &[], Duration::from_millis(200));
            assert_eq!(said, Err("took more than 0 seconds".to_owned()), "{text}");
            assert!(start.elapsed() < Duration::from_secs(30), "{text}");
        }
        let argv = ["/bin/sh", "-c", "exec >&-; exit 0"].map(str::to_owned);
        let said = command(&argv, &[], Duration::from_secs(30));
        assert_eq!(said, Ok(String::new()));
    }
}
