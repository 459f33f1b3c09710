//! Plays what the terminal of a session showed.

use std::{
    fs::File,
    io::{self, BufReader},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use stockade_event::Event;
use stockade_journal::{RecordingFound, layout::RECORDING_FILE, open_recording, recording_digest};
use stockade_terminal::{Played, tty::Tty};

use super::{
    BEAT, Key, PATIENCE, SPEED_MAX, SPEED_MIN,
    cast::{Cast, CastError, Change},
    pressed, watch_signals,
};
use crate::{archive::Record, exit::Exit, human::safe, output::Output};

/// What the journal says of a recording, and whether the file is that.
enum Vouched {
    /// The file is what was recorded; this is missing at its end, if anything.
    Yes(Option<String>),
    /// It is something else.
    No,
    /// The journal does not say yet, or will not: the session runs, or its supervisor was killed.
    NotYet,
    /// There is none, and this is why.
    Absent(String),
}

/// Plays the recording of a session.
///
/// # Errors
/// When the record cannot be read, or the terminal cannot be used.
pub(super) fn run(
    record: &Record,
    speed: f64,
    idle: Duration,
    out: &mut Output,
) -> anyhow::Result<Exit> {
    let id = record.session.short();
    let vouched = vouched(record)?;
    let exit = match &vouched {
        Vouched::Absent(why) => {
            out.note(format_args!(
                "stockade: session {id} has no recording: {why}"
            ));
            return Ok(Exit::CannotTell);
        }
        Vouched::No => {
            out.note(format_args!(
                "stockade: the recording is not what was recorded; `stockade log verify {id}` says more"
            ));
            Exit::No
        }
        Vouched::NotYet => {
            out.note(format_args!(
                "stockade: the journal does not vouch for this recording yet"
            ));
            Exit::Yes
        }
        Vouched::Yes(_) => Exit::Yes,
    };
    let Some(tty) = out.columns().and_then(|_| Tty::open().ok()) else {
        let path = record.dir.join(RECORDING_FILE);
        out.note(format_args!(
            "stockade: a recording is played in a terminal; `{}` is the file, for players of asciicast",
            safe(&path.display().to_string())
        ));
        return Ok(Exit::Usage);
    };
    let file = open_recording(&record.dir).context("cannot open the recording")?;
    let (cast, header) = match Cast::open(BufReader::new(file)) {
        Ok(begun) => begun,
        Err(error) => return unreadable(error, out),
    };
    let size = tty.size();
    if size.columns < header.width || size.rows < header.height {
        out.note(format_args!(
            "stockade: recorded on {}×{}, and this terminal has {}×{}",
            header.width, header.height, size.columns, size.rows
        ));
    }
    let player = Player {
        cast,
        speed,
        idle,
        tty: Arc::new(tty),
        paused: false,
        at: Duration::ZERO,
        played: Played::default(),
        marked: None,
    };
    let (played, marked) = player.play()?;
    if let Err(error) = played {
        return unreadable(error, out);
    }
    if let Some(marked) = marked {
        out.note(safe(&marked));
    }
    if let Vouched::Yes(Some(missing)) = vouched {
        out.note(format_args!("stockade: it has not all: {}", safe(&missing)));
    }
    Ok(exit)
}

fn unreadable(error: CastError, out: &mut Output) -> anyhow::Result<Exit> {
    match error {
        CastError::Io(error) => Err(error).context("cannot play the recording"),
        CastError::Line { .. } => {
            out.note(format_args!("stockade: {error}"));
            Ok(Exit::CannotTell)
        }
    }
}

/// Compares the recording with the journal, which is not verified here.
fn vouched(record: &Record) -> anyhow::Result<Vouched> {
    let mut told = None;
    record.read(&mut |envelope| {
        if let Event::TerminalRecorded {
            bytes,
            digest,
            missing,
            ..
        } = &envelope.event
        {
            told = Some((*bytes, *digest, missing.clone()));
        }
    })?;
    let bytes = told.as_ref().map_or(0, |(bytes, _, _)| *bytes);
    let found = recording_digest(&record.dir, bytes).context("cannot read the recording")?;
    Ok(match (found, told) {
        (RecordingFound::File(found), Some((_, Some(digest), missing))) if found == digest => {
            Vouched::Yes(missing)
        }
        (RecordingFound::None, Some((_, Some(_), _))) => {
            Vouched::Absent("it was removed".to_owned())
        }
        (RecordingFound::None, Some((_, None, missing))) => {
            Vouched::Absent(missing.unwrap_or_default())
        }
        (RecordingFound::None, None) => {
            Vouched::Absent("policy did not ask for one (`record.terminal`)".to_owned())
        }
        (RecordingFound::File(_) | RecordingFound::Other, None) => Vouched::NotYet,
        (RecordingFound::File(_) | RecordingFound::Other, Some(_)) => Vouched::No,
    })
}

struct Player {
    cast: Cast<BufReader<File>>,
    speed: f64,
    idle: Duration,
    tty: Arc<Tty>,
    paused: bool,
    /// The time of the last event.
    at: Duration,
    played: Played,
    /// The text of the last marker.
    marked: Option<String>,
}

impl Player {
    /// Plays until the end, a key or a signal ends it; then the terminal is as it was before.
    fn play(mut self) -> anyhow::Result<(Result<(), CastError>, Option<String>)> {
        let ended = watch_signals()?;
        self.tty
            .make_raw()
            .context("cannot read single keys from the terminal")?;
        let played = self.follow(&ended);
        let rows = self.tty.size().rows;
        let reset = self.played.reset(rows);
        self.tty.write_within(&reset, PATIENCE);
        self.tty.write_within(b"\r\n", PATIENCE);
        self.tty.restore();
        Ok((played, self.marked))
    }

    fn follow(&mut self, ended: &AtomicBool) -> Result<(), CastError> {
        while let Some((at, change)) = self.cast.next()? {
            if !self.wait_for(at, ended)? {
                return Ok(());
            }
            self.at = at;
            match change {
                Change::Output(text) => {
                    let bytes = self.played.pass(text.as_bytes());
                    self.tty.write_within(&bytes, PATIENCE);
                }
                Change::Marked(label) => self.marked = Some(label),
                Change::Resized | Change::Other => {}
            }
        }
        Ok(())
    }

    /// Waits until what happened at `at` is due; returns whether the play goes on.
    fn wait_for(&mut self, at: Duration, ended: &AtomicBool) -> io::Result<bool> {
        let gap = |speed: f64| at.saturating_sub(self.at).min(self.idle).div_f64(speed);
        let mut due = Instant::now() + gap(self.speed);
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            if ended.load(Ordering::Relaxed) {
                return Ok(false);
            }
            // Keys count in a flood of output too.
            let wait = if self.paused { BEAT } else { wait.min(BEAT) };
            match pressed(&self.tty, wait)? {
                Some(Key::Quit) => return Ok(false),
                Some(Key::Pause) => self.paused = !self.paused,
                Some(Key::Step) => {
                    self.paused = true;
                    return Ok(true);
                }
                Some(key @ (Key::Faster | Key::Slower)) => {
                    let factor = if key == Key::Faster { 2.0 } else { 0.5 };
                    self.speed = (self.speed * factor).clamp(SPEED_MIN, SPEED_MAX);
                    due = Instant::now() + gap(self.speed);
                }
                // Its questions and refusals are in the replay of the events.
                Some(Key::NextJudged) | None => {
                    if !self.paused && Instant::now() >= due {
                        return Ok(true);
                    }
                }
            }
        }
    }
}
