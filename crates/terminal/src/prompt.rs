//! The open questions of a desk, one at a time, for one terminal.

use std::{sync::Arc, time::Instant};

use stockade_approval::{Answer, Desk};
use stockade_types::AskMode;
use stockade_types::{ApprovalId, Person};

use super::{
    dialog::{Action, Dialog, Keep},
    keys::{Heard, Keys},
    layout::Drawn,
    screen::Size,
    witness::Sight,
};

/// The author of answers here, in records.
const BY: Person = Person::Terminal;

/// The end of the question that was shown last.
#[derive(Debug)]
pub(super) enum Closed {
    /// By itself, or by an answer from elsewhere; with the outcome, or `None` if the session ends
    /// with it.
    Elsewhere(Option<String>),
    /// By a key here; with a line that says what was allowed.
    Here(Option<String>),
}

/// Shows the oldest open question until it is settled, here or elsewhere.
pub(super) struct Prompt {
    desk: Arc<Desk>,
    dialog: Option<Dialog>,
    keys: Keys,
    is_stale: bool,
    closed: Option<Closed>,
    /// Whether the remaining time is drawn each second.
    counts_down: bool,
    /// The second that the countdown shows.
    second: u64,
    keep: Keep,
}

impl Prompt {
    pub(super) fn new(desk: Arc<Desk>, counts_down: bool, keep: Keep) -> Self {
        Self {
            desk,
            dialog: None,
            keys: Keys::default(),
            is_stale: false,
            closed: None,
            counts_down,
            second: 0,
            keep,
        }
    }

    /// Asks the desk; returns whether there is a question to show.
    pub(super) fn refresh(&mut self, now: Instant) -> bool {
        if self.desk.mode() != AskMode::Tty {
            return false;
        }
        let views = self.desk.views();
        let shown = self.dialog.as_ref().map(|dialog| dialog.view().id.clone());
        let place = views
            .iter()
            .position(|view| Some(&view.id) == shown.as_ref());
        let total = views.len();
        let place = place.and_then(|index| Some((index, views.get(index)?)));
        if let (Some((index, view)), Some(dialog)) = (place, &mut self.dialog) {
            self.is_stale |= dialog.update(index + 1, total, view.waiting);
            self.is_stale |= dialog.wait_for(view.waits_for.clone());
            return true;
        }
        let next = views.into_iter().next();
        self.is_stale = next.is_some();
        if let Some(dialog) = self.dialog.take() {
            self.closed = Some(Closed::Elsewhere(self.became(&dialog.view().id)));
        }
        // Each question has its own silence: no key can answer two.
        self.dialog = next.map(|view| Dialog::new(view, 1, total, now));
        self.keys = Keys::default();
        self.dialog.is_some()
    }

    fn became(&self, id: &ApprovalId) -> Option<String> {
        let settled = self.desk.settled();
        settled.iter().find(|one| one.id == *id)?.gone_in_words()
    }

    /// Takes the end of the last question, if no other one has replaced it.
    pub(super) fn take_closed(&mut self) -> Option<Closed> {
        self.closed.take()
    }

    pub(super) const fn redraw(&mut self) {
        self.is_stale = true;
    }

    /// Takes keyboard input; returns the number of the terminal's answers in it.
    pub(super) fn keys(&mut self, bytes: &[u8], sight: Sight, now: Instant) -> usize {
        let heard = self.keys.push(bytes, now);
        self.take(&heard, sight, now);
        heard.answers
    }

    /// Checks whether an escape key stands alone, whether other keys count now, and whether the
    /// countdown moved.
    pub(super) fn tick(&mut self, sight: Sight, now: Instant) {
        if let Some(stroke) = self.keys.tick(now) {
            let heard = Heard {
                strokes: vec![stroke],
                is_input: true,
                ..Heard::default()
            };
            self.take(&heard, sight, now);
        }
        if let Some(dialog) = &mut self.dialog {
            self.is_stale |= dialog.listen(sight, now);
        }
        self.is_stale |= self.counts_down && self.second != self.seconds();
    }

    fn seconds(&self) -> u64 {
        self.desk.now().0 / 1000
    }

    fn take(&mut self, heard: &Heard, sight: Sight, now: Instant) {
        let Some(dialog) = &mut self.dialog else {
            return;
        };
        match dialog.input(heard, sight, now, self.desk.now()) {
            Action::Nothing => {}
            Action::Redraw => self.is_stale = true,
            action @ (Action::Answer(_) | Action::Keep(_)) => {
                let (answer, keeps) = match action {
                    Action::Keep(scope) => (Answer::Allow { scope }, true),
                    Action::Answer(answer) => (answer, false),
                    Action::Nothing | Action::Redraw => return,
                };
                let said = dialog.said(&answer);
                match self.desk.answer(&dialog.view().id.clone(), answer, BY) {
                    Ok(()) => {
                        let said = if keeps {
                            Some(dialog.keep("of this terminal", self.keep))
                        } else {
                            said
                        };
                        self.dialog = None;
                        self.closed = Some(Closed::Here(said));
                    }
                    Err(error) => {
                        dialog.fail(error.to_string());
                        self.is_stale = true;
                    }
                }
            }
        }
    }

    /// Draws the box, if it changed; also returns whether the terminal must confirm it before keys
    /// count.
    pub(super) fn draw(&mut self, size: Size) -> Option<(Drawn, bool)> {
        if !std::mem::take(&mut self.is_stale) {
            return None;
        }
        self.second = self.seconds();
        let now = self.desk.now();
        let dialog = self.dialog.as_mut()?;
        let drawn = dialog.draw(size, now);
        Some((drawn, dialog.take_change()))
    }
}
