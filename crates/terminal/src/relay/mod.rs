//! The relay: bytes between the person's terminal and the agent's pty, and questions in between.
//!
//! One thread, one `poll` loop. The agent's terminal has a line discipline of its own, so Ctrl-C
//! and Ctrl-Z pass as bytes and become signals inside. Every buffer is bounded: if the terminal is
//! slow or a question is shown, the agent's writes wait in the kernel.

mod beside;
mod options;
mod output;
mod questions;

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use stockade_types::ignored;

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    process::Pid,
};
use signal_hook::{SigId, consts::SIGWINCH};

use stockade_approval::Desk;

use self::beside::Beside;
pub use self::{
    beside::Readers,
    options::{Recording, RelayError, RelayOptions},
};
use super::{
    filter::Filter,
    hush::Hush,
    job,
    keys::ESCAPE_WAIT,
    layout::Color,
    overlay::{Alternate, Overlay},
    prompt::Prompt,
    screen::{Screen, Size},
    track::WHOLE_SCREEN,
    tty::{Tty, set_size},
    witness::Witness,
};

/// Bytes of one read: the most that the kernel returns.
const READ_BYTES: usize = 4 << 10;
/// Output that waits for the terminal; beyond it the agent waits.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Output that is held while a question is shown, and drawn afterwards; beyond it the agent waits.
const HELD_BYTES_MAX: usize = 256 << 10;
/// Input that waits for the agent; beyond it the person's keys wait in the kernel.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Beat while timed checks are due: a countdown, an escape key, a stopped agent.
const BEAT: Duration = Duration::from_millis(50);
/// How long after a key the relay checks whether the agent has stopped itself.
const STOP_WATCH: Duration = Duration::from_secs(2);
/// Pause after the agent's side of the pty was found closed; it may be opened again.
const CLOSED_PAUSE: Duration = Duration::from_millis(50);
/// Silence of the agent's side after which its output counts as complete.
const SETTLE: Duration = Duration::from_millis(40);
/// How long the last output of a session may take to arrive and to be shown.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    tty: Arc<Tty>,
    bell: Arc<OwnedFd>,
    ending: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to relay between the terminal of standard input and output and the pty `master`.
///
/// Questions of `desk` are shown if its mode is `AskMode::Tty`.
///
/// # Errors
/// When there is no such terminal or a resource is missing; the terminal is then unchanged.
pub fn relay(
    master: OwnedFd,
    desk: Arc<Desk>,
    options: &RelayOptions,
    recording: Option<Box<dyn Recording>>,
) -> Result<Relay, RelayError> {
    let tty = Tty::open().map_err(RelayError::Terminal)?;
    Relay::between(tty, master, desk, options, (None, recording))
}

/// Starts to relay between the caller's controlling terminal and the pty `master` of a session
/// whose standard streams are not both that terminal. The session has the keys only while `readers`
/// reports that one of its programs reads from the terminal.
///
/// # Errors
/// As [`relay`].
pub fn relay_beside(
    master: OwnedFd,
    readers: Box<dyn Readers>,
    desk: Arc<Desk>,
    options: &RelayOptions,
    recording: Option<Box<dyn Recording>>,
) -> Result<Relay, RelayError> {
    let tty = Tty::controlling().map_err(RelayError::Terminal)?;
    Relay::between(tty, master, desk, options, (Some(readers), recording))
}

/// Who says whether the session has the keys, and what records its output, if anybody does.
type Attached = (Option<Box<dyn Readers>>, Option<Box<dyn Recording>>);

impl Relay {
    /// Starts to relay between a terminal and a pty.
    pub(super) fn between(
        tty: Tty,
        master: OwnedFd,
        desk: Arc<Desk>,
        options: &RelayOptions,
        (readers, recording): Attached,
    ) -> Result<Self, RelayError> {
        let system = |step| move |source| RelayError::System { step, source };
        let tty = Arc::new(tty);
        rustix::io::ioctl_fionbio(&master, true)
            .map_err(|e| system("prepare the pty")(e.into()))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell =
            Arc::new(eventfd(0, flags).map_err(|e| system("make a wake-up descriptor")(e.into()))?);
        let (signals, sender) = UnixStream::pair().map_err(system("make a signal pipe"))?;
        signals
            .set_nonblocking(true)
            .map_err(system("prepare a signal pipe"))?;
        let winch = signal_hook::low_level::pipe::register(SIGWINCH, sender)
            .map_err(system("watch the terminal's size"))?;
        let ending = Arc::new(AtomicBool::new(false));
        let ring = Arc::clone(&bell);
        desk.subscribe(move || ring_bell(&ring));
        let size = tty.size();
        set_size(master.as_fd(), size).map_err(system("set the size of the pty"))?;
        let (filter, input) = match &readers {
            None => {
                tty.make_raw().map_err(RelayError::Terminal)?;
                (Filter::default(), Stream::Open)
            }
            Some(_) => (Filter::one_way(), Stream::Closed),
        };
        let alternate = Alternate::of(&options.term);
        let speaks = alternate != Alternate::Dumb;
        let interrupted = Arc::new(AtomicBool::new(false));
        let job = Loop {
            interrupted: Arc::clone(&interrupted),
            alternate,
            color: options.color,
            agent: options.agent,
            filter,
            screen: Screen::new(size),
            size,
            prompt: Prompt::new(desk, speaks, options.keep),
            witness: Witness::new(speaks),
            overlay: None,
            hush: None,
            to_terminal: Vec::new(),
            to_agent: Vec::new(),
            held: Vec::new(),
            input,
            beside: readers.map(Beside::new),
            recording,
            output: Stream::Open,
            watch_until: None,
            drain_until: None,
            last_output: Instant::now(),
            last_keys: Instant::now(),
            tty: Arc::clone(&tty),
            master,
            signals,
            winch,
            bell: Arc::clone(&bell),
            ending: Arc::clone(&ending),
        };
        let thread = std::thread::Builder::new()
            .name("terminal".to_owned())
            .spawn(move || job.run())
            .map_err(system("start a thread"))?;
        Ok(Self {
            tty,
            bell,
            ending,
            interrupted,
            thread: Some(thread),
        })
    }

    /// Shows the agent's last output, then restores the terminal. Blocking, for a second at most.
    /// Returns whether the person interrupted it by a key (Ctrl-C) that became a signal inside.
    pub fn finish(mut self) -> bool {
        self.end();
        self.interrupted.load(Ordering::Acquire)
    }

    fn end(&mut self) {
        self.ending.store(true, Ordering::Release);
        ring_bell(&self.bell);
        if let Some(thread) = self.thread.take() {
            ignored(
                thread.join(),
                "a relay that failed has set the terminal back on its way out",
            );
        }
        self.tty.restore();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

fn ring_bell(bell: &OwnedFd) {
    // It fails only if it has rung already.
    ignored(
        rustix::io::write(bell, &1_u64.to_ne_bytes()),
        "the write fails only if the bell has rung already",
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Open,
    /// No output comes until then; the other side may open it again.
    Pausing(Instant),
    Closed,
}

impl Stream {
    fn is_open(self, now: Instant) -> bool {
        match self {
            Self::Open => true,
            Self::Pausing(until) => now >= until,
            Self::Closed => false,
        }
    }
}

/// The events on the descriptors.
#[derive(Clone, Copy, Debug)]
struct Ready {
    keys: PollFlags,
    master: PollFlags,
    signal: PollFlags,
    bell: PollFlags,
    readers: PollFlags,
}

struct Loop {
    tty: Arc<Tty>,
    master: OwnedFd,
    signals: UnixStream,
    winch: SigId,
    bell: Arc<OwnedFd>,
    ending: Arc<AtomicBool>,
    /// Whether the person has interrupted the agent.
    interrupted: Arc<AtomicBool>,
    prompt: Prompt,
    witness: Witness,
    overlay: Option<Overlay>,
    /// Keys may still be meant for a closed question.
    hush: Option<Hush>,
    filter: Filter,
    screen: Screen,
    size: Size,
    alternate: Alternate,
    color: Color,
    agent: Option<Pid>,
    /// Present if the session does not always have the keys.
    beside: Option<Beside>,
    recording: Option<Box<dyn Recording>>,
    to_terminal: Vec<u8>,
    to_agent: Vec<u8>,
    /// Output that arrived while a question is shown, or while keys may be meant for one.
    held: Vec<u8>,
    input: Stream,
    output: Stream,
    watch_until: Option<Instant>,
    drain_until: Option<Instant>,
    last_output: Instant,
    last_keys: Instant,
}

impl Loop {
    fn run(mut self) {
        if self.alternate != Alternate::Dumb && self.beside.is_none() {
            // Bounds of an earlier program would hide questions; the agent's own are tracked.
            self.to_terminal.extend_from_slice(WHOLE_SCREEN);
        }
        // Questions may be open already.
        self.look_at_questions();
        while !self.is_done() {
            self.write_out();
            let Ok(ready) = self.wait() else { break };
            if !ready.signal.is_empty() {
                self.follow_size();
            }
            if !ready.bell.is_empty() {
                ignored(
                    rustix::io::read(&*self.bell, &mut [0; 8]),
                    "the bell only wakes; what it rang for is looked at anyway",
                );
                self.look_at_questions();
            }
            if ready.master.intersects(!PollFlags::OUT) {
                self.read_output();
            }
            if !ready.keys.is_empty() {
                self.read_keys();
            }
            if ready.master.contains(PollFlags::OUT) {
                self.write_input();
            }
            if let Some(beside) = self.beside.as_mut().filter(|_| !ready.readers.is_empty()) {
                beside.opened();
            }
            self.look_at_readers();
            self.beat();
        }
        self.leave();
    }

    /// Whether the session has ended and its last output is shown, or that takes too long.
    fn is_done(&mut self) -> bool {
        if !self.ending.load(Ordering::Acquire) {
            return false;
        }
        let now = Instant::now();
        if self.drain_until.is_none() && matches!(self.output, Stream::Pausing(_)) {
            // It may have been opened, written to and closed in the pause.
            self.output = Stream::Open;
        }
        let until = *self.drain_until.get_or_insert(now + DRAIN_PATIENCE);
        self.end_questions();
        let is_silent = self.output != Stream::Open
            || (now.duration_since(self.last_output) >= SETTLE
                && until.duration_since(now) + SETTLE <= DRAIN_PATIENCE);
        (is_silent && self.to_terminal.is_empty()) || now >= until
    }

    fn wait(&self) -> io::Result<Ready> {
        let now = Instant::now();
        let asks = self.holds();
        let reads_keys =
            self.input == Stream::Open && (asks || self.to_agent.len() < INPUT_BYTES_MAX);
        let reads_output = self.output.is_open(now)
            && if asks {
                self.held.len() < HELD_BYTES_MAX
            } else {
                self.to_terminal.len() < OUTPUT_BYTES_MAX
            };
        let flag = |wanted, flag| if wanted { flag } else { PollFlags::empty() };
        let mut master = flag(reads_output, PollFlags::IN);
        master |= flag(!self.to_agent.is_empty(), PollFlags::OUT);
        let writes = flag(!self.to_terminal.is_empty(), PollFlags::OUT);
        let keys = flag(reads_keys, PollFlags::IN);
        let beside = self.beside.as_ref();
        let readers = beside.map_or(self.bell.as_fd(), |beside| beside.readers().events());
        let sources = [
            (self.tty.input(), keys),
            (self.master.as_fd(), master),
            (self.signals.as_fd(), PollFlags::IN),
            (self.bell.as_fd(), PollFlags::IN),
            (readers, flag(beside.is_some(), PollFlags::IN)),
            (self.tty.output(), writes),
        ];
        // A closed side reports itself without end, so only needed descriptors are polled.
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .filter(|(_, flags)| !flags.is_empty())
            .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let must_look = asks
            || self.witness.is_awaited(now)
            || self.watch_until.is_some()
            || self.drain_until.is_some()
            || matches!(self.output, Stream::Pausing(_));
        let beat = must_look.then_some(BEAT);
        let look = beside.and_then(|beside| beside.until_look(now));
        let longest = beat.into_iter().chain(look).min();
        let longest = longest
            .map(rustix::time::Timespec::try_from)
            .transpose()
            .map_err(io::Error::other)?;
        match poll(&mut fds, longest.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut answers = fds.iter();
        let mut happened = sources.iter().map(|(_, wanted)| {
            let seen = if wanted.is_empty() {
                None
            } else {
                answers.next()
            };
            seen.map_or(PollFlags::empty(), PollFd::revents)
        });
        let mut next = || happened.next().unwrap_or(PollFlags::empty());
        let (keys, master, signal, bell, readers) = (next(), next(), next(), next(), next());
        Ok(Ready {
            keys,
            master,
            signal,
            bell,
            readers,
        })
    }

    /// Whether output is held back.
    const fn holds(&self) -> bool {
        self.overlay.is_some() || self.hush.is_some()
    }

    fn write_input(&mut self) {
        if self.to_agent.is_empty() {
            return;
        }
        if job::interrupts(self.master.as_fd(), &self.to_agent) {
            self.interrupted.store(true, Ordering::Release);
        }
        match rustix::io::write(&self.master, &self.to_agent) {
            Ok(count) => {
                self.to_agent.drain(..count.min(self.to_agent.len()));
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.to_agent.clear(),
        }
    }

    fn follow_size(&mut self) {
        let mut drain = [0; 64];
        ignored(
            rustix::io::read(&self.signals, &mut drain),
            "there may be nothing in it",
        );
        let size = self.tty.size();
        if size == self.size {
            return;
        }
        self.size = size;
        if let Some(recording) = &mut self.recording {
            recording.resized(size.rows, size.columns);
        }
        self.screen.resize(size);
        ignored(
            set_size(self.master.as_fd(), size),
            "a pty refuses only when it is gone",
        );
        if let Some(overlay) = &mut self.overlay {
            overlay.resize(size, &self.screen, &mut self.to_terminal);
            self.prompt.redraw();
        }
        self.draw();
    }

    /// Handles timed events: a countdown, an escape key, an agent that has stopped itself.
    fn beat(&mut self) {
        let now = Instant::now();
        if self.overlay.is_some() {
            self.prompt.tick(self.witness.sight(now), now);
            self.look_at_questions();
            return;
        }
        self.release_keys(now);
        if self.hush.as_ref().is_some_and(|hush| hush.is_over(now)) {
            self.end_hush();
        }
        let Some(until) = self.watch_until else {
            return;
        };
        if let Some(group) = job::stopped_group(self.master.as_fd(), self.agent) {
            self.suspend(group);
            self.watch_until = None;
        } else if now >= until {
            self.watch_until = None;
        }
    }

    /// Restores the display of an agent that does not support Ctrl-Z.
    fn put_back(&mut self) {
        let tracker = self.filter.tracker();
        self.to_terminal.extend_from_slice(&tracker.aside());
        if tracker.is_alternate() {
            self.to_terminal.extend_from_slice(b"\x1b[?1049h");
            self.to_terminal.extend_from_slice(&self.screen.paint());
            let place = self.screen.place();
            self.to_terminal.extend_from_slice(&place);
            let bounds = tracker.bound(self.screen.cursor(), &place);
            self.to_terminal.extend_from_slice(&bounds);
        }
        self.to_terminal.extend_from_slice(&tracker.again());
        self.to_terminal.extend_from_slice(&self.screen.colours());
        self.note_reset();
    }

    /// Reads the output of a stopped agent: programs restore the screen last.
    fn read_rest(&mut self) {
        for _ in 0..OUTPUT_BYTES_MAX / READ_BYTES {
            let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
            let now = rustix::time::Timespec::default();
            if !poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0) {
                return;
            }
            self.read_output();
        }
    }

    fn suspend(&mut self, group: Pid) {
        self.read_rest();
        self.write_out();
        self.tty.restore();
        job::suspend_ourselves();
        if self.tty.enter().is_err() {
            self.input = Stream::Closed;
        }
        self.witness.forget();
        if self.alternate != Alternate::Dumb {
            self.put_back();
        }
        self.follow_size();
        job::resume(group);
        self.look_at_questions();
    }

    fn leave(mut self) {
        self.end_questions();
        self.tty
            .write_within(&std::mem::take(&mut self.to_terminal), DRAIN_PATIENCE);
        self.await_answer();
        signal_hook::low_level::unregister(self.winch);
        self.tty.restore();
    }
}
