//! `stockade replay`: the events of a session in the terminal, in their own time.

#![deny(clippy::wildcard_enum_match_arm)]

mod cast;
mod screen;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stockade_event::{Envelope, Event};
use stockade_terminal::tty::Tty;
use stockade_types::{Span, Verdict};

use crate::{
    archive::Archive,
    exit::Exit,
    human::{cut, number, time_of_day},
    output::Output,
};

/// Lines that are played; a person watches thousands.
const LINES_MAX: usize = 200_000;
/// Characters of a line where there is no terminal to fit.
const PIPE_COLUMNS: usize = 1_000;
/// The slowest and the fastest speed.
const SPEED_MIN: f64 = 0.01;
const SPEED_MAX: f64 = 1_000.0;
/// How long a wait without a key lasts at most, so that a signal is noticed.
const BEAT: Duration = Duration::from_millis(100);
/// How long the terminal may take for a line.
const PATIENCE: Duration = Duration::from_secs(2);
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Play a session in the terminal, in its own time.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: space pauses and goes on, n goes to the next refusal or question, . to the \
    next event, + and - change the speed, q ends.\n\nExamples:\n  stockade replay\n  \
    stockade replay 3f2a --speed 10\n  stockade replay --terminal last"
)]
pub(crate) struct Args {
    /// Session id, the beginning of one, a name, or `last`
    #[arg(default_value = "last")]
    session: String,
    /// How many times as fast [default: 1; if output is no terminal, without waiting]
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,
    /// The longest wait between two events, before it is played faster
    #[arg(long, value_name = "SPAN", default_value = "3s")]
    idle: Span,
    /// Play what the terminal showed instead, if policy had it recorded (`record.terminal`)
    #[arg(long)]
    terminal: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    (text.trim_end_matches(['x', '×']).parse().ok())
        .filter(|speed| (SPEED_MIN..=SPEED_MAX).contains(speed))
        .ok_or_else(|| format!("expected a number from {SPEED_MIN} to {SPEED_MAX}"))
}

/// One event as it is played.
struct Played {
    time_unix_ns: u64,
    text: String,
    style: Style,
    /// A refusal or a question.
    is_judged: bool,
}

/// Runs the command.
///
/// # Errors
/// When the state or the journal cannot be read, or the output cannot be written.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let record = match Archive::open_at(&args.session, out)? {
        Ok(record) => record,
        Err(exit) => return Ok(exit),
    };
    if args.terminal {
        return screen::run(
            &record,
            args.speed.unwrap_or(1.0),
            args.idle.duration(),
            out,
        );
    }
    let zone = TimeZone::system();
    let mut played = VecDeque::new();
    let mut more = 0_u64;
    let extent = record.read(&mut |envelope| {
        if played.len() < LINES_MAX {
            played.push_back(line(envelope, &zone));
        } else {
            more += 1;
        }
    })?;
    let idle = args.idle.duration();
    let terminal = out.columns().and_then(|_| Tty::open().ok());
    match terminal {
        Some(tty) => {
            let speed = args.speed.unwrap_or(1.0);
            let color = out.color();
            Player::new(played, speed, idle, color, tty).play(&zone)?;
        }
        None => plain(played, args.speed, idle, out)?,
    }
    if more > 0 {
        out.note(format_args!(
            "stockade: {} events more; `stockade events` has all",
            number(more)
        ));
    }
    Ok(record.exit(extent.unreadable, out))
}

/// Says what happened, and marks what a person looks for.
fn line(envelope: &Envelope, zone: &TimeZone) -> Played {
    let event = &envelope.event;
    let verdict = event.decision().map(|decision| decision.verdict);
    let is_refused =
        verdict == Some(Verdict::Deny) || matches!(event, Event::RefusalRepeated { .. });
    let is_asked = matches!(event, Event::ApprovalRequested { .. });
    let is_said = matches!(
        event,
        Event::PromptSubmitted { aside: false, .. }
            | Event::ToolCalled { .. }
            | Event::PlanChanged { .. }
    );
    let (mark, style) = match (is_refused, is_asked, is_said) {
        (true, _, _) => ("✖", AnsiColor::Red.on_default()),
        (_, true, _) => ("?", AnsiColor::Yellow.on_default()),
        (_, _, true) => ("▸", Style::new().bold()),
        (false, false, false) => (" ", Style::new()),
    };
    let time = time_of_day(envelope.time_unix_ns, zone);
    let text = format!("{time} {mark} {:<18}  {}", event.kind(), event.line());
    Played {
        time_unix_ns: envelope.time_unix_ns,
        text: cut(&text, PIPE_COLUMNS),
        style,
        is_judged: is_refused || is_asked,
    }
}

/// Returns how long to wait before `next`.
fn gap(before_ns: Option<u64>, next: &Played, speed: f64, idle: Duration) -> Duration {
    let nanos = before_ns.map_or(0, |before| next.time_unix_ns.saturating_sub(before));
    Duration::from_nanos(nanos).min(idle).div_f64(speed)
}

/// Prints lines where nobody can press a key.
fn plain(
    played: VecDeque<Played>,
    speed: Option<f64>,
    idle: Duration,
    out: &mut Output,
) -> anyhow::Result<()> {
    let mut before = None;
    for line in played {
        if let Some(speed) = speed {
            std::thread::sleep(gap(before, &line, speed, idle));
        }
        before = Some(line.time_unix_ns);
        if out.is_closed() {
            break;
        }
        out.line(&line.text)?;
    }
    Ok(())
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Pause,
    NextJudged,
    Step,
    Faster,
    Slower,
    Quit,
}

const fn key(byte: u8) -> Option<Key> {
    match byte {
        b' ' => Some(Key::Pause),
        b'n' => Some(Key::NextJudged),
        b'.' => Some(Key::Step),
        b'+' | b'=' => Some(Key::Faster),
        b'-' => Some(Key::Slower),
        b'q' | CTRL_C | CTRL_D => Some(Key::Quit),
        _ => None,
    }
}

struct Player {
    lines: VecDeque<Played>,
    all: usize,
    speed: f64,
    idle: Duration,
    color: bool,
    tty: Arc<Tty>,
    paused: bool,
    /// The time of the last line.
    at_ns: Option<u64>,
}

impl Player {
    fn new(lines: VecDeque<Played>, speed: f64, idle: Duration, color: bool, tty: Tty) -> Self {
        Self {
            all: lines.len(),
            lines,
            speed,
            idle,
            color,
            tty: Arc::new(tty),
            paused: false,
            at_ns: None,
        }
    }

    /// Plays until the end, a key or a signal ends it; then the terminal is as it was before.
    fn play(mut self, zone: &TimeZone) -> anyhow::Result<()> {
        let ended = watch_signals()?;
        self.tty
            .make_raw()
            .context("cannot read single keys from the terminal")?;
        let played = self.follow(zone, &ended);
        self.show("");
        self.tty.restore();
        played.context("cannot read the terminal")
    }

    fn follow(&mut self, zone: &TimeZone, ended: &AtomicBool) -> io::Result<()> {
        let mut due = Instant::now();
        while let Some(next) = self.lines.front() {
            if ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() && !self.paused {
                due = self.step(zone, Instant::now());
                continue;
            }
            let wait = if self.paused { BEAT } else { wait.min(BEAT) };
            let gap_before = gap(self.at_ns, next, self.speed, self.idle);
            match pressed(&self.tty, wait)? {
                None => continue,
                Some(Key::Quit) => return Ok(()),
                Some(Key::Pause) => self.paused = !self.paused,
                Some(Key::Step) => {
                    self.paused = true;
                    self.step(zone, Instant::now());
                }
                Some(Key::NextJudged) => self.jump(zone),
                Some(Key::Faster) => self.speed = (self.speed * 2.0).min(SPEED_MAX),
                Some(Key::Slower) => self.speed = (self.speed / 2.0).max(SPEED_MIN),
            }
            // What is left of the wait is as long as the new speed makes it.
            if let Some(next) = self.lines.front() {
                let gap = gap(self.at_ns, next, self.speed, self.idle);
                due = Instant::now() + gap.min(gap_before.max(gap));
            }
            self.status(zone);
        }
        Ok(())
    }

    /// Shows the next line; returns when the one after it is due.
    fn step(&mut self, zone: &TimeZone, now: Instant) -> Instant {
        let Some(line) = self.lines.pop_front() else {
            return now;
        };
        self.at_ns = Some(line.time_unix_ns);
        let style = if self.color { line.style } else { Style::new() };
        let text = cut(&line.text, self.columns());
        self.show(&format!("{style}{text}{style:#}\r\n"));
        let next = self.lines.front();
        let due = next.map(|next| now + gap(self.at_ns, next, self.speed, self.idle));
        self.status(zone);
        due.unwrap_or(now)
    }

    /// Goes to the next refusal or question, and waits there.
    fn jump(&mut self, zone: &TimeZone) {
        while let Some(line) = self.lines.front() {
            let is_judged = line.is_judged;
            self.step(zone, Instant::now());
            if is_judged {
                self.paused = true;
                return;
            }
        }
    }

    fn columns(&self) -> usize {
        usize::from(self.tty.size().columns).max(1)
    }

    /// Draws the last line of the screen anew.
    fn status(&self, zone: &TimeZone) {
        let time = time_of_day(self.at_ns.unwrap_or_default(), zone);
        let state = if self.paused { "paused" } else { "plays" };
        let done = self.all - self.lines.len();
        let text = format!(
            "{state} {}× · {time} · {} of {} · space n . + - q",
            self.speed,
            number(crate::archive::count(done)),
            number(crate::archive::count(self.all)),
        );
        // The last column would move the cursor to the next line in some terminals.
        let text = cut(&text, self.columns().saturating_sub(1));
        let style = if self.color {
            Style::new().dimmed()
        } else {
            Style::new()
        };
        self.show(&format!("{style}{text}{style:#}"));
    }

    /// Writes over the last line.
    fn show(&self, text: &str) {
        self.tty
            .write_within(format!("\r\u{1b}[K{text}").as_bytes(), PATIENCE);
    }
}

/// Returns what a signal that ends the program sets.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
        signal_hook::consts::SIGINT,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .context("cannot watch for signals")?;
    }
    Ok(ended)
}

/// Waits for a key.
fn pressed(tty: &Tty, wait: Duration) -> io::Result<Option<Key>> {
    let wait = Timespec::try_from(wait).unwrap_or_default();
    let mut ready = [PollFd::from_borrowed_fd(tty.input(), PollFlags::IN)];
    match poll(&mut ready, Some(&wait)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut bytes = [0; 64];
    Ok(match tty.read(&mut bytes)? {
        None => None,
        // The terminal is gone.
        Some(0) => Some(Key::Quit),
        Some(_) => bytes.first().copied().and_then(key),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Key, Played, gap, key, speed};

    #[test]
    fn waits_are_as_long_as_they_were_and_no_longer_than_a_person_waits() {
        let next = Played {
            time_unix_ns: 9_000_000_000,
            text: String::new(),
            style: anstyle::Style::new(),
            is_judged: false,
        };
        let idle = Duration::from_secs(3);
        for (before, speed, millis) in [
            (None, 1.0, 0),
            (Some(8_000_000_000), 1.0, 1_000),
            (Some(8_000_000_000), 4.0, 250),
            (Some(1_000_000_000), 1.0, 3_000),
            // Clocks can be set back.
            (Some(10_000_000_000), 1.0, 0),
        ] {
            assert_eq!(
                gap(before, &next, speed, idle),
                Duration::from_millis(millis)
            );
        }
    }

    #[test]
    fn speeds_and_keys_are_those_that_exist() {
        for (text, expected) in [("2", 2.0), ("0.5", 0.5), ("10x", 10.0)] {
            assert_eq!(
                speed(text).map(|speed| speed.to_string()),
                Ok(expected.to_string())
            );
        }
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(key(b' '), Some(Key::Pause));
        assert_eq!(key(0x1b), None);
    }
}
