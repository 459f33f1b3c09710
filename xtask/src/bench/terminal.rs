//! How long much output takes to a terminal.

use std::{
    io::Read,
    os::{fd::AsFd, unix::fs::fchown},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use pty_process::{Size, blocking};
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    bounded::{self, SAMPLE_LONGEST},
    contender::{Contender, Writes},
    ground::{Ground, TEXT_BYTES},
    lab::Lab,
};

/// What a person's terminal has.
const SIZE: (u16, u16) = (50, 160);
/// Output before it is our own, or the beginning of the text; time counts from here.
const BEGUN: usize = 16 << 10;
/// What the emulator takes at once.
const READ_BYTES: usize = 64 << 10;

/// Shows 100 MB of text and returns the milliseconds from its beginning to its end.
pub(super) fn sample(contender: &Contender, lab: &Lab) -> Result<f64> {
    let folder = lab.ground(Ground::Text)?;
    let command = contender.command(&folder, &["cat", "text"], Writes::Nothing);
    let mut command = lab.prepare(command, &folder);
    command.env("TERM", "xterm-256color");
    let (mut pty, inner) = blocking::open().context("no pseudo-terminal")?;
    pty.resize(Size::new(SIZE.0, SIZE.1))
        .context("a terminal has a size")?;
    if let Some(account) = lab.account {
        // As it is at home, the terminal is its user's: one that is somebody else's cannot be opened
        // again, so writes to it would have to be small.
        fchown(&inner, Some(account.uid), None).context("a terminal cannot be given away")?;
    }
    let child = blocking::Command::from(command)
        .spawn(inner)
        .with_context(|| format!("{} could not be started in a terminal", contender.name()))?;
    let mut child = Session(child);
    let took = read_all(&mut pty)?;
    let status = child.0.wait().context("a child can be waited for")?;
    ensure!(status.success(), "{} ended with {status}", contender.name());
    Ok(took.as_secs_f64() * 1e3)
}

/// A program in a terminal; dropping it kills it.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            if let Ok(group) = bounded::group_of(&self.0) {
                bounded::kill(group);
            }
            self.0.wait().ok();
        }
    }
}

/// Reads until the terminal is closed; returns the time from the beginning of the text to the last
/// byte.
fn read_all(pty: &mut blocking::Pty) -> Result<Duration> {
    let (until, mut total) = (Instant::now() + SAMPLE_LONGEST, 0);
    let (mut first, mut last) = (None, Instant::now());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        let rest = rest.try_into().context("a minute can be waited")?;
        let ready = poll(&mut [PollFd::new(&pty.as_fd(), PollFlags::IN)], Some(&rest));
        if ready.context("the terminal cannot be waited for")? == 0 {
            bail!("{total} bytes came within {} s", SAMPLE_LONGEST.as_secs());
        }
        // EIO: every program has closed it (pty(7)).
        let Ok(count @ 1..) = pty.read(&mut buffer) else {
            break;
        };
        total += count;
        if total < TEXT_BYTES {
            last = Instant::now();
        }
        if total > BEGUN && first.is_none() {
            first = Some(last);
        }
    }
    ensure!(total >= TEXT_BYTES, "only {total} bytes of the text came");
    Ok(last - first.context("the text has a beginning")?)
}
