//! One question as a person meets it: what keys do, and what is drawn. No terminal, no clock.

use std::time::{Duration, Instant};

use stockade_policy::Scope;
use stockade_runner::approvals::{Answer, QuestionView};
use stockade_types::UnixMillis;

use super::{
    card::{Card, Mode},
    keys::{Key, Stroke},
    layout::{self, Drawn},
    screen::Size,
};

/// Keys are deaf this long after a question appears: what a person was typing to the agent must
/// not answer it, and nobody reads faster.
pub(crate) const DEAF: Duration = Duration::from_millis(300);
/// The input must be silent this long before keys count.
const SILENCE: Duration = Duration::from_millis(100);
/// Longest reason, in characters: a line or two, as the desk keeps it.
const REASON_CHARS_MAX: usize = 300;

/// What a key did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing to see.
    Nothing,
    /// The box must be drawn again.
    Redraw,
    /// The question is answered.
    Answer(Answer),
}

/// The state of one question on one terminal.
#[derive(Debug)]
pub(crate) struct Dialog {
    card: Card,
    /// Content lines that were on the screen so far, from the first without a gap.
    seen: usize,
    page: usize,
    lines: usize,
    shape: Option<Size>,
    awake: Instant,
    /// Input must be silent this long before keys count.
    silence: Duration,
}

impl Dialog {
    /// Opens a question at `now`.
    pub(crate) fn new(view: QuestionView, place: usize, total: usize, now: Instant) -> Self {
        let card = Card {
            view,
            place,
            total,
            mode: Mode::Ask,
            error: None,
            scroll: 0,
            is_read: false,
        };
        Self {
            card,
            seen: 0,
            page: 1,
            lines: 0,
            shape: None,
            awake: now + DEAF,
            silence: SILENCE,
        }
    }

    /// Makes keys count only after a longer silence: they may be meant for the question before.
    pub(crate) fn stay_deaf(&mut self, silence: Duration, now: Instant) {
        self.silence = silence;
        self.awake = self.awake.max(now + silence);
    }

    /// Tells whether a reason is being written.
    pub(crate) const fn is_writing(&self) -> bool {
        matches!(self.card.mode, Mode::Reason(_))
    }

    /// Returns the question.
    pub(crate) const fn view(&self) -> &QuestionView {
        &self.card.view
    }

    /// Returns the question's place among the open ones, and their number.
    pub(crate) const fn position(&self) -> (usize, usize) {
        (self.card.place, self.card.total)
    }

    /// Gives the question back.
    pub(crate) fn into_view(self) -> QuestionView {
        self.card.view
    }

    /// Tells whether this part of the question has the keys.
    pub(crate) fn is_in(&self, mode: &Mode) -> bool {
        self.card.mode == *mode
    }

    /// Takes the place of the question among the open ones, and how many wait for it; `true`
    /// where that changes what is drawn.
    pub(crate) fn update(&mut self, place: usize, total: usize, waiting: u32) -> bool {
        let changed =
            (self.card.place, self.card.total, self.card.view.waiting) != (place, total, waiting);
        self.card.place = place;
        self.card.total = total;
        self.card.view.waiting = waiting;
        changed
    }

    /// Shows why an answer was not taken.
    pub(crate) fn fail(&mut self, error: String) {
        self.card.error = Some(error);
        self.card.mode = Mode::Ask;
    }

    /// Tells whether keys count yet; input that comes before moves that moment on.
    pub(crate) fn is_awake(&mut self, now: Instant, has_input: Input) -> bool {
        if now >= self.awake {
            return true;
        }
        if has_input == Input::Some {
            self.awake = self.awake.max(now + self.silence);
        }
        false
    }

    /// Draws the box for a terminal of this size and notes what could be read of it.
    pub(crate) fn draw(&mut self, size: Size, now: UnixMillis) -> Drawn {
        if self.shape != Some(size) {
            // Lines are cut anew: what was seen of the old ones says nothing of these.
            self.shape = Some(size);
            self.seen = 0;
            self.card.scroll = 0;
        }
        let drawn = layout::draw(&self.card, size, now);
        if self.card.mode == Mode::Help {
            return drawn;
        }
        self.page = drawn.page.max(1);
        self.lines = drawn.content;
        self.card.scroll = self.card.scroll.min(self.lines.saturating_sub(self.page));
        if drawn.page > 0 && self.card.scroll <= self.seen {
            self.seen = self
                .seen
                .max((self.card.scroll + drawn.page).min(self.lines));
            let was_read = self.card.is_read;
            self.card.is_read |= self.seen >= self.lines;
            if self.card.is_read && !was_read {
                // The keys that allow appear with the last line.
                return layout::draw(&self.card, size, now);
            }
        }
        drawn
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, stroke: Stroke, now: UnixMillis) -> Action {
        if matches!(stroke.key, Key::Pasted(_)) && !self.is_writing() {
            return Action::Nothing;
        }
        self.card.error = None;
        match std::mem::replace(&mut self.card.mode, Mode::Ask) {
            Mode::Ask => self.ask_key(stroke),
            Mode::Narrow => self.narrow_key(stroke, now),
            Mode::Reason(text) => self.reason_key(stroke, text),
            Mode::Help => Action::Redraw,
        }
    }

    fn ask_key(&mut self, stroke: Stroke) -> Action {
        match stroke.key {
            Key::Character('d') | Key::Interrupt if stroke.is_single => {
                Action::Answer(Answer::Deny { reason: None })
            }
            Key::Character('r') => {
                self.card.mode = Mode::Reason(String::new());
                Action::Redraw
            }
            Key::Character('o') => self.allow(stroke, Scope::Once),
            Key::Character('s') => self.allow(stroke, Scope::Session),
            Key::Character('n') if self.card.is_read && self.card.has_narrower() => {
                self.card.mode = Mode::Narrow;
                Action::Redraw
            }
            Key::Character('?') => {
                self.card.mode = Mode::Help;
                Action::Redraw
            }
            Key::Character(' ') | Key::PageDown => self.scroll_to(self.card.scroll + self.step()),
            Key::PageUp => self.scroll_to(self.card.scroll.saturating_sub(self.step())),
            Key::Down => self.scroll_to(self.card.scroll + 1),
            Key::Up => self.scroll_to(self.card.scroll.saturating_sub(1)),
            Key::Home => self.scroll_to(0),
            _ => Action::Nothing,
        }
    }

    /// One page less a line, so that no line is skipped and the eye finds its place.
    fn step(&self) -> usize {
        self.page.saturating_sub(1).max(1)
    }

    fn scroll_to(&mut self, line: usize) -> Action {
        let line = line.min(self.lines.saturating_sub(self.page));
        if line == self.card.scroll {
            return Action::Nothing;
        }
        self.card.scroll = line;
        Action::Redraw
    }

    fn allow(&self, stroke: Stroke, scope: Scope) -> Action {
        if self.card.is_read && stroke.is_single && self.card.view.offers(scope) {
            return Action::Answer(Answer::Allow { scope });
        }
        Action::Nothing
    }

    fn narrow_key(&mut self, stroke: Stroke, now: UnixMillis) -> Action {
        let chosen = match stroke.key {
            Key::Character(c) => self
                .card
                .narrower(now)
                .into_iter()
                .find(|(key, ..)| *key == c),
            _ => None,
        };
        match chosen {
            Some((_, _, scope)) => match self.allow(stroke, scope) {
                Action::Nothing => {
                    self.card.mode = Mode::Narrow;
                    Action::Nothing
                }
                action => action,
            },
            // Escape, and every key that is not offered, goes back.
            None => Action::Redraw,
        }
    }

    fn reason_key(&mut self, stroke: Stroke, mut text: String) -> Action {
        match stroke.key {
            Key::Escape | Key::Interrupt => return Action::Redraw,
            Key::Enter if stroke.is_single => {
                let reason = Some(text.trim().to_owned()).filter(|reason| !reason.is_empty());
                return Action::Answer(Answer::Deny { reason });
            }
            Key::Backspace => {
                text.pop();
            }
            Key::Character(c) | Key::Pasted(c) if text.chars().count() < REASON_CHARS_MAX => {
                text.push(c);
            }
            _ => {}
        }
        self.card.mode = Mode::Reason(text);
        Action::Redraw
    }
}

/// Whether there was input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    None,
    Some,
}
