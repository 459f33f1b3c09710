//! The open questions of a desk, one at a time, for one terminal.

use std::{sync::Arc, time::Instant};

use stockade_runner::approvals::{AskMode, Desk};
use stockade_types::ApprovalId;

use super::{
    dialog::{Action, Dialog, Input},
    hush::Doing,
    keys::{Keys, Stroke},
    layout::Drawn,
    screen::Size,
};

/// Who answers here, in records.
const BY: &str = "terminal";

/// A question that went away without an answer from here.
#[derive(Debug)]
pub(super) struct Gone {
    /// What became of it; nothing where the session ends with it.
    pub(super) words: Option<String>,
    pub(super) doing: Doing,
}

/// Shows the oldest open question until it is settled, here or elsewhere.
pub(super) struct Prompt {
    desk: Arc<Desk>,
    dialog: Option<Dialog>,
    keys: Keys,
    is_stale: bool,
    gone: Option<Gone>,
    /// The second that the countdown shows.
    second: u64,
}

impl Prompt {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            dialog: None,
            keys: Keys::default(),
            is_stale: false,
            gone: None,
            second: 0,
        }
    }

    /// Looks at the desk; returns whether there is a question to show.
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
        let place = place.and_then(|index| views.get(index).map(|view| (index, view.waiting)));
        if let (Some((index, waiting)), Some(dialog)) = (place, &mut self.dialog) {
            self.is_stale |= dialog.update(index + 1, total, waiting);
            return true;
        }
        let next = views.into_iter().next();
        self.is_stale = next.is_some();
        self.gone = self.dialog.take().map(|dialog| Gone {
            words: self.became(&dialog.view().id),
            doing: if dialog.is_writing() {
                Doing::Writing
            } else {
                Doing::Reading
            },
        });
        // Each question has its own time of deafness: no key can answer two.
        self.dialog = next.map(|view| Dialog::new(view, 1, total, now));
        if let (Some(gone), Some(dialog)) = (&self.gone, &mut self.dialog) {
            dialog.stay_deaf(gone.doing.silence(), now);
        }
        self.keys = Keys::default();
        self.dialog.is_some()
    }

    fn became(&self, id: &ApprovalId) -> Option<String> {
        let settled = self.desk.settled();
        settled.iter().find(|one| one.id == *id)?.gone_in_words()
    }

    /// Takes the question that went away last, where no other one has taken its place.
    pub(super) fn take_gone(&mut self) -> Option<Gone> {
        self.gone.take()
    }

    /// Makes keys count only after a longer silence.
    pub(super) fn stay_deaf(&mut self, doing: Doing, now: Instant) {
        if let Some(dialog) = &mut self.dialog {
            dialog.stay_deaf(doing.silence(), now);
        }
    }

    /// Begins the time of deafness again: the box is shown only now.
    pub(super) fn wake_later(&mut self, now: Instant) {
        if let Some(dialog) = self.dialog.take() {
            let (place, total) = dialog.position();
            self.dialog = Some(Dialog::new(dialog.into_view(), place, total, now));
        }
        self.is_stale = true;
    }

    pub(super) const fn redraw(&mut self) {
        self.is_stale = true;
    }

    /// Takes what came in from the keyboard.
    pub(super) fn keys(&mut self, bytes: &[u8], now: Instant) {
        let strokes = self.keys.push(bytes, now);
        let Some(dialog) = &mut self.dialog else {
            return;
        };
        if !dialog.is_awake(now, Input::Some) {
            return;
        }
        for stroke in strokes {
            self.take(stroke);
        }
    }

    /// Looks whether an escape key stands alone, and whether the countdown moved.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(stroke) = self.keys.tick(now) {
            self.take(stroke);
        }
        self.is_stale |= self.second != self.seconds();
    }

    fn seconds(&self) -> u64 {
        self.desk.now().0 / 1000
    }

    fn take(&mut self, stroke: Stroke) {
        let Some(dialog) = &mut self.dialog else {
            return;
        };
        match dialog.key(stroke, self.desk.now()) {
            Action::Nothing => {}
            Action::Redraw => self.is_stale = true,
            Action::Answer(answer) => {
                let id = dialog.view().id.clone();
                match self.desk.answer(&id, answer, BY) {
                    // The rest of the keys was meant for this question, not for the next.
                    Ok(()) => self.dialog = None,
                    Err(error) => {
                        dialog.fail(error.to_string());
                        self.is_stale = true;
                    }
                }
            }
        }
    }

    /// Draws the box, if it changed.
    pub(super) fn draw(&mut self, size: Size) -> Option<Drawn> {
        if !std::mem::take(&mut self.is_stale) {
            return None;
        }
        self.second = self.seconds();
        let now = self.desk.now();
        self.dialog.as_mut().map(|dialog| dialog.draw(size, now))
    }
}
