//! The live list: questions of all sessions as they come, with keys.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use stockade_approval::{Answer, QuestionLine};
use stockade_types::SessionId;

use super::{
    now as clock,
    sessions::{Open, Sessions},
};
use crate::{exit::Exit, rules::keep_answer};
use stockade_terminal::{
    card::Mode,
    dialog::{Action, Dialog},
    keys::{Heard, Key, Keys, Stroke},
    layout::Color,
    screen::Size,
    text::{columns, fit, solid},
    tty::Tty,
    witness::Witness,
};

/// How often the sessions are queried: fast enough for a person, and cheap for a socket.
const REFRESH: Duration = Duration::from_millis(500);
/// Beat of the loop: a countdown moves and a size changes at most this late.
const BEAT: Duration = Duration::from_millis(100);
/// How long a slow terminal may delay the start.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// Signals that end the list, after the terminal is restored.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Shows the list until `q`.
pub(super) fn run(sessions: &mut Sessions, color: bool) -> anyhow::Result<Exit> {
    // Do this before the terminal is changed, so that no signal can leave it half changed.
    let ended = Arc::new(AtomicUsize::new(0));
    for signal in ENDING {
        let number = usize::try_from(signal).context("a signal has a number")?;
        signal_hook::flag::register_usize(signal, Arc::clone(&ended), number)
            .context("cannot watch for signals")?;
    }
    let tty = Arc::new(Tty::open().context("cannot use the terminal")?);
    tty.note_reset(b"\x1b[?2004l\x1b[m\x1b[?25h\x1b[?1049l".to_vec());
    tty.make_raw().context("cannot use the terminal")?;
    tty.write_within(b"\x1b[?1049h\x1b[?25l\x1b[?2004h", WRITE_PATIENCE);
    let mut live = Live {
        sessions,
        color: if color { Color::Ansi } else { Color::None },
        questions: Vec::new(),
        selected: 0,
        opened: None,
        message: None,
        keys: Keys::default(),
        witness: Witness::new(true),
        drawn: Vec::new(),
        unwritten: Vec::new(),
        ended: Arc::clone(&ended),
    };
    let result = live.run(&tty);
    tty.restore();
    let signal = ended.load(Ordering::Acquire);
    if signal != 0 {
        // End by the signal, so that its sender sees the effect.
        let signal = i32::try_from(signal).context("a signal has a number")?;
        signal_hook::low_level::emulate_default_handler(signal)
            .context("cannot end by a signal")?;
    }
    result
}

struct Live<'a> {
    sessions: &'a mut Sessions,
    color: Color,
    questions: Vec<Open<QuestionLine>>,
    selected: usize,
    opened: Option<(SessionId, Dialog)>,
    message: Option<String>,
    keys: Keys,
    witness: Witness,
    /// The last drawn screen.
    drawn: Vec<u8>,
    /// The part of it that is not yet written to the terminal.
    unwritten: Vec<u8>,
    /// Number of the signal that ends the list; zero if none came.
    ended: Arc<AtomicUsize>,
}

/// Whether the list continues.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    End,
}

impl Live<'_> {
    fn run(&mut self, tty: &Tty) -> anyhow::Result<Exit> {
        let mut asked: Option<Instant> = None;
        while self.ended.load(Ordering::Acquire) == 0 {
            if asked.is_none_or(|time| time.elapsed() >= REFRESH) {
                self.refresh()?;
                asked = Some(Instant::now());
            }
            self.draw(tty);
            let bytes = read_keys(tty)?;
            let now = Instant::now();
            let heard = self.keys.push(&bytes, now);
            for _ in 0..heard.answers {
                self.witness.answer(&mut self.unwritten, now);
            }
            let alone = self.keys.tick(now).map(|stroke| Heard {
                strokes: vec![stroke],
                is_input: true,
                ..Heard::default()
            });
            for heard in std::iter::once(heard).chain(alone) {
                if self.take(&heard, now) == Flow::End {
                    return Ok(Exit::Yes);
                }
            }
        }
        Ok(Exit::Yes)
    }

    /// Draws the changes, and writes as much as the terminal accepts. One screen is written
    /// completely before the next one, because a person may only answer what was on the screen.
    fn draw(&mut self, tty: &Tty) {
        let now = Instant::now();
        if let Some((_, dialog)) = &mut self.opened {
            dialog.listen(self.witness.sight(now), now);
        }
        if self.unwritten.is_empty() {
            let picture = self.picture(tty.size());
            let opened = self.opened.as_mut();
            let is_new = opened.is_some_and(|(_, dialog)| dialog.take_change());
            if picture != self.drawn || is_new {
                self.unwritten.extend_from_slice(&picture);
                self.drawn = picture;
            }
            if is_new {
                self.witness.draw(&mut self.unwritten, now);
            }
        }
        while !self.unwritten.is_empty() {
            match tty.write(&self.unwritten) {
                Ok(0) => return,
                Ok(count) => {
                    self.unwritten.drain(..count.min(self.unwritten.len()));
                }
                // The terminal is gone; the next read of keys reports that.
                Err(_) => return self.unwritten.clear(),
            }
        }
        self.witness.write(now);
    }

    fn refresh(&mut self) -> anyhow::Result<()> {
        self.sessions.look()?;
        self.questions = self.sessions.questions();
        self.selected = self.selected.min(self.questions.len().saturating_sub(1));
        let Some((session, dialog)) = &mut self.opened else {
            return Ok(());
        };
        let total = self.questions.len();
        let id = &dialog.view().id;
        let place = self
            .questions
            .iter()
            .position(|open| open.session == *session && open.item.id == *id);
        let place = place.and_then(|at| self.questions.get(at).map(|open| (at, open)));
        if let Some((at, open)) = place {
            dialog.update(at + 1, total, open.item.waiting);
        } else {
            let settled = self.sessions.settled(id.as_str());
            let words = settled.iter().find_map(|open| open.item.gone_in_words());
            self.message = Some(words.unwrap_or_else(|| format!("{id} ended with its session")));
            self.opened = None;
        }
        Ok(())
    }

    /// Handles the input of one read.
    fn take(&mut self, heard: &Heard, now: Instant) -> Flow {
        if self.opened.is_some() {
            self.answer(heard, now);
            return Flow::On;
        }
        for stroke in &heard.strokes {
            if self.opened.is_some() {
                // The remaining keys were typed before the question appeared.
                break;
            }
            if self.choose(*stroke) == Flow::End {
                return Flow::End;
            }
        }
        Flow::On
    }

    /// Handles input while a question is open.
    fn answer(&mut self, heard: &Heard, now: Instant) {
        let Some((session, dialog)) = &mut self.opened else {
            return;
        };
        let leaves = |stroke: &Stroke| {
            let key = stroke.key;
            matches!(key, Key::Escape | Key::Character('q') | Key::Interrupt)
        };
        if dialog.is_in(&Mode::Ask) && heard.strokes.iter().any(leaves) {
            self.opened = None;
            return;
        }
        let sight = self.witness.sight(now);
        let (answer, keeps) = match dialog.input(heard, sight, now, clock()) {
            Action::Answer(answer) => (answer, false),
            Action::Keep(scope) => (Answer::Allow { scope }, true),
            Action::Nothing | Action::Redraw => return,
        };
        let id = dialog.view().id.clone();
        let said = dialog.said(&answer);
        let sent = self
            .sessions
            .client(session)
            .and_then(|client| client.answer(&id, answer));
        match sent {
            Ok(()) => {
                let said = if keeps {
                    Some(dialog.keep(session.short(), keep_answer))
                } else {
                    said
                };
                self.message = Some(said.unwrap_or_else(|| format!("{id} denied")));
                self.questions.retain(|open| open.item.id != id);
                self.opened = None;
            }
            Err(error) => dialog.fail(error.to_string()),
        }
    }

    /// Handles a key of the list.
    fn choose(&mut self, stroke: Stroke) -> Flow {
        self.message = None;
        match stroke.key {
            Key::Character('q') | Key::Interrupt => return Flow::End,
            Key::Up | Key::Character('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down | Key::Character('j') => {
                self.selected = (self.selected + 1).min(self.questions.len().saturating_sub(1));
            }
            Key::Enter | Key::Character(' ') => self.open(),
            _ => {}
        }
        Flow::On
    }

    fn open(&mut self) {
        let Some(open) = self.questions.get(self.selected) else {
            return;
        };
        let (session, id) = (open.session.clone(), open.item.id.clone());
        match self
            .sessions
            .client(&session)
            .and_then(|client| client.show(&id))
        {
            Ok(view) => {
                let total = self.questions.len();
                let dialog = Dialog::new(view, self.selected + 1, total, Instant::now());
                self.opened = Some((session, dialog));
            }
            Err(error) => self.message = Some(error.to_string()),
        }
    }

    fn picture(&mut self, size: Size) -> Vec<u8> {
        let width = usize::from(size.columns).saturating_sub(1);
        let mut lines: Vec<String> = Vec::new();
        if let Some((session, dialog)) = &mut self.opened {
            let inner = Size {
                rows: size.rows.saturating_sub(2),
                ..size
            };
            lines.push(fit(
                &format!("session {session} · esc goes back to the list"),
                width,
            ));
            lines.extend(dialog.draw(inner, clock()).styled(self.color));
        } else {
            self.list(width, usize::from(size.rows), &mut lines);
        }
        let mut bytes = b"\x1b[H".to_vec();
        for (index, line) in lines.iter().take(usize::from(size.rows)).enumerate() {
            bytes.extend_from_slice(format!("\x1b[{};1H{line}\x1b[K", index + 1).as_bytes());
        }
        bytes.extend_from_slice(b"\x1b[J");
        bytes
    }

    fn list(&self, width: usize, rows: usize, lines: &mut Vec<String>) {
        let count = self.questions.len();
        lines.push(fit(
            &format!("stockade approvals · {count} open · ↑ ↓ [enter] opens · [q]uits"),
            width,
        ));
        lines.extend(
            self.sessions
                .problems()
                .iter()
                .map(|text| fit(&solid(text), width)),
        );
        lines.extend(self.message.iter().map(|text| fit(&solid(text), width)));
        let room = rows.saturating_sub(lines.len() + 1).max(1);
        let first = (self.selected + 1).saturating_sub(room);
        let now = clock();
        for (index, open) in self.questions.iter().enumerate().skip(first).take(room) {
            let mark = if index == self.selected { '>' } else { ' ' };
            let gives_up = open.item.gives_up.filter(|end| *end > now);
            let end = gives_up.unwrap_or(open.item.expires);
            let left = end.0.saturating_sub(now.0) / 1000;
            let end = format!(" {}:{:02}", left / 60, left % 60);
            let text = format!(
                "{mark} {}  {}  {}  {}",
                open.item.id,
                open.session.short(),
                open.item.agent,
                open.item.summary
            );
            let text = fit(&solid(&text), width.saturating_sub(columns(&end)));
            lines.push(format!("{text}{end}"));
        }
        if count == 0 {
            lines.push(fit("there are no open questions", width));
        }
    }
}

/// Waits one beat for keys.
fn read_keys(tty: &Tty) -> anyhow::Result<Vec<u8>> {
    let mut fds = [PollFd::from_borrowed_fd(tty.input(), PollFlags::IN)];
    let beat = rustix::time::Timespec::try_from(BEAT).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&beat)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error).context("cannot wait for keys"),
    }
    let mut buffer = vec![0; 4096];
    match tty
        .read(&mut buffer)
        .context("cannot read from the terminal")?
    {
        Some(0) => anyhow::bail!("the terminal is gone"),
        Some(count) => {
            buffer.truncate(count);
            Ok(buffer)
        }
        None => Ok(Vec::new()),
    }
}
