//! One question as a person sees it: the effect of keys, and the drawing. No terminal, no clock.

use std::time::{Duration, Instant};

use stockade_approval::{Answer, Lasting, QuestionView};
use stockade_policy::Scope;
use stockade_types::UnixMillis;

use super::{
    card::{Card, Hears, Mode},
    keys::{Heard, Key, Stroke},
    layout::{self, Drawn},
    screen::Size,
    witness::Sight,
};

/// Time without any key, after which keys count: it starts when the terminal has confirmed that it
/// shows the question. People type at 50 to 250 ms a key and rest for half a second between two
/// words, so keys typed to the agent do not count.
pub const SILENCE: Duration = Duration::from_secs(1);
/// Least time from one key of an answer to the next. A person who types a line presses Enter
/// sooner; a person who reads the effect of the first key needs longer.
pub const GAP: Duration = Duration::from_millis(500);
/// Longest reason, in characters: a line or two, as the desk keeps it.
const REASON_CHARS_MAX: usize = 300;

/// The effect of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// No visible effect.
    Nothing,
    /// The box must be drawn again.
    Redraw,
    /// The question is answered.
    Answer(Answer),
    /// The question is allowed, and a rule keeps that for later sessions.
    Keep(Scope),
}

/// Keeps an answer for later sessions: the answer to keep, its approval and its session. Returns a
/// text that says what was kept and where, or why it was not.
pub type Keep = fn(&Lasting, &str, &str) -> Result<String, String>;

/// The state of one question on one terminal.
///
/// A key counts only for what the person can have meant by it. No key counts before the terminal
/// has shown the box and [`SILENCE`] has passed; to allow takes a letter and, after [`GAP`], Enter;
/// a key that follows another one faster, or that has no effect here, counts as typing, and the
/// silence begins anew.
#[derive(Debug)]
pub struct Dialog {
    card: Card,
    /// Content lines that were on the screen so far, from the first without a gap.
    seen: usize,
    page: usize,
    lines: usize,
    shape: Option<Size>,
    /// The time of the last key.
    heard: Instant,
    /// A part that matters for an answer is drawn anew: the terminal must confirm it again.
    is_changed: bool,
}

impl Dialog {
    /// Opens a question at `now`.
    pub fn new(view: QuestionView, place: usize, total: usize, now: Instant) -> Self {
        let card = Card {
            view,
            place,
            total,
            mode: Mode::Ask,
            hears: Hears::Nothing,
            must_repeat: false,
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
            heard: now,
            is_changed: true,
        }
    }

    /// Returns, once, whether the terminal must confirm a new drawing before keys count.
    pub const fn take_change(&mut self) -> bool {
        std::mem::replace(&mut self.is_changed, false)
    }

    /// Returns the question.
    pub const fn view(&self) -> &QuestionView {
        &self.card.view
    }

    /// Whether this part of the question has the keys.
    pub fn is_in(&self, mode: &Mode) -> bool {
        self.card.mode == *mode
    }

    /// Takes the place of the question among the open ones, and the number of waiting calls; `true`
    /// if the drawing changes.
    pub fn update(&mut self, place: usize, total: usize, waiting: u32) -> bool {
        let changed =
            (self.card.place, self.card.total, self.card.view.waiting) != (place, total, waiting);
        self.card.place = place;
        self.card.total = total;
        if self.card.view.waiting != waiting {
            self.card.view.waiting = waiting;
            self.change();
        }
        changed
    }

    /// Takes how far the people are whom the question asks; `true` if the drawing changes. Nobody answers
    /// it with more than a deny, so there is nothing to confirm.
    pub fn wait_for(&mut self, waits_for: Option<String>) -> bool {
        let is_new = self.card.view.waits_for != waits_for;
        self.card.view.waits_for = waits_for;
        is_new
    }

    /// Notes that the person has not seen the new part yet.
    fn change(&mut self) {
        self.is_changed = true;
        self.card.hears = Hears::Nothing;
        if matches!(self.card.mode, Mode::Picked { .. } | Mode::Narrow) {
            self.card.mode = Mode::Ask;
        }
    }

    /// Shows why an answer was not taken.
    pub fn fail(&mut self, error: String) {
        self.card.error = Some(error);
        self.card.mode = Mode::Ask;
        self.change();
    }

    /// Describes in a line what an answer allows; `None` for an answer that denies.
    pub fn said(&self, answer: &Answer) -> Option<String> {
        let Answer::Allow { scope } = answer else {
            return None;
        };
        let view = self.view();
        let words = self.card.words(*scope, view.asked);
        let what = view.shown.rows.first();
        let what = what.map_or_else(String::new, |row| format!("{} {}", row.label, row.text));
        Some(format!("allowed {words}: {what} ({})", view.id))
    }

    /// Keeps the current answer for later sessions, and reports it in a line.
    pub fn keep(&self, session: &str, keep: Keep) -> String {
        let view = self.view();
        let Some(lasting) = &view.lasting else {
            return format!("allowed, and not kept ({})", view.id);
        };
        match keep(lasting, view.id.as_str(), session) {
            Ok(kept) => format!("allowed and {kept}"),
            Err(error) => format!("allowed for this session, and not kept: {error}"),
        }
    }

    /// Updates which keys count, from the terminal's confirmation and the time without keys; `true`
    /// if that changes.
    pub fn listen(&mut self, sight: Sight, now: Instant) -> bool {
        let before = (self.card.hears, self.card.must_repeat);
        let quiet = match sight {
            _ if self.is_changed => None,
            Sight::No => None,
            Sight::Told(at) | Sight::Unknown(at) => {
                Some(now.saturating_duration_since(at.max(self.heard)))
            }
        };
        let enough = match self.card.mode {
            Mode::Picked { .. } | Mode::Narrow if self.card.hears != Hears::Nothing => GAP,
            _ => SILENCE,
        };
        self.card.hears = match self.card.hears {
            _ if quiet.is_some_and(|quiet| quiet >= enough) => Hears::All,
            Hears::Nothing => Hears::Nothing,
            Hears::Some | Hears::All => Hears::Some,
        };
        self.card.must_repeat = match sight {
            Sight::No => self.card.must_repeat,
            Sight::Told(_) => false,
            Sight::Unknown(_) => true,
        };
        before != (self.card.hears, self.card.must_repeat)
    }

    /// Draws the box for a terminal of this size and notes which lines were visible.
    pub fn draw(&mut self, size: Size, now: UnixMillis) -> Drawn {
        if self.shape != Some(size) {
            // The lines are wrapped anew: the old visible ones do not match the new ones.
            self.shape = Some(size);
            self.seen = 0;
            self.card.scroll = 0;
            self.change();
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

    /// Takes the keys of one read.
    pub fn input(
        &mut self,
        heard: &Heard,
        sight: Sight,
        now: Instant,
        clock: UnixMillis,
    ) -> Action {
        if !heard.is_input {
            return Action::Nothing;
        }
        self.listen(sight, now);
        let is_quick = now.saturating_duration_since(self.heard) < GAP;
        self.heard = now;
        if self.card.hears == Hears::Nothing {
            return Action::Nothing;
        }
        self.card.error = None;
        if let Mode::Reason(_) = self.card.mode {
            return self.write(&heard.strokes);
        }
        match heard.strokes.as_slice() {
            // Digits from the box prove more than any pause.
            strokes if self.repeats(strokes) => self.repeat(strokes),
            // The rest of a sequence has not arrived yet.
            [] if heard.is_cut => Action::Nothing,
            [stroke] if stroke.is_single => self.key(stroke.key, is_quick, clock),
            strokes if !strokes.is_empty() && strokes.iter().all(|s| s.key.is_move()) => {
                strokes.iter().fold(Action::Nothing, |action, stroke| {
                    match self.key(stroke.key, is_quick, clock) {
                        Action::Nothing => action,
                        other => other,
                    }
                })
            }
            _ => self.startle(),
        }
    }

    /// Takes a key that came by itself; a `quick` one follows another too fast for an answer.
    fn key(&mut self, key: Key, is_quick: bool, clock: UnixMillis) -> Action {
        match (&self.card.mode, key) {
            (Mode::Ask, key) if key.is_move() => self.go(key),
            (_, Key::Escape) => self.turn(Mode::Ask),
            _ if is_quick => self.startle(),
            (Mode::Ask | Mode::Picked { .. }, Key::Character('d') | Key::Interrupt) => {
                Action::Answer(Answer::Deny { reason: None })
            }
            (Mode::Ask | Mode::Picked { .. }, Key::Character('x')) => {
                Action::Answer(Answer::DenySession)
            }
            (Mode::Ask | Mode::Picked { .. }, Key::Character('o')) => self.pick(Scope::Once),
            (Mode::Ask | Mode::Picked { .. }, Key::Character('s')) => self.pick(Scope::Session),
            (Mode::Ask | Mode::Picked { .. }, Key::Character('p')) => self.pick(Scope::Paths),
            (Mode::Ask | Mode::Picked { .. }, Key::Character('a'))
                if self.card.view.lasting.is_some() =>
            {
                self.pick_kept()
            }
            (Mode::Ask, Key::Character('r')) => self.turn(Mode::Reason(String::new())),
            (Mode::Ask, Key::Character('?')) => self.turn(Mode::Help),
            (Mode::Ask, Key::Character('n'))
                if self.card.hears == Hears::All
                    && self.card.is_read
                    && self.card.has_narrower() =>
            {
                self.turn(Mode::Narrow)
            }
            (Mode::Narrow, Key::Character(c)) => {
                let offered = self.card.narrower(clock).into_iter();
                match offered.into_iter().find(|(key, ..)| *key == c) {
                    Some((_, _, scope)) => self.pick(scope),
                    None => self.startle(),
                }
            }
            (Mode::Picked { scope, keeps, .. }, Key::Enter) if self.card.confirms() => {
                if *keeps {
                    Action::Keep(*scope)
                } else {
                    Action::Answer(Answer::Allow { scope: *scope })
                }
            }
            (Mode::Help, _) => self.turn(Mode::Ask),
            (Mode::Ask | Mode::Narrow | Mode::Picked { .. } | Mode::Reason(_), _) => self.startle(),
        }
    }

    /// Gives the keys to another part of the question.
    fn turn(&mut self, mode: Mode) -> Action {
        if self.card.mode == mode {
            return Action::Nothing;
        }
        self.card.mode = mode;
        self.show_anew();
        Action::Redraw
    }

    /// Requires the terminal's confirmation again; keys that allow nothing still count.
    fn show_anew(&mut self) {
        self.is_changed = true;
        if self.card.hears == Hears::All {
            self.card.hears = Hears::Some;
        }
    }

    /// Treats the keys as typing: clears the pick, and requires the silence again.
    fn startle(&mut self) -> Action {
        self.card.mode = Mode::Ask;
        self.change();
        Action::Redraw
    }

    /// Picks the scope that Enter will allow.
    fn pick(&mut self, scope: Scope) -> Action {
        self.pick_as(Mode::Picked {
            scope,
            repeated: String::new(),
            keeps: false,
        })
    }

    /// Picks a rule for later sessions, which Enter will keep, and this answer's full scope.
    fn pick_kept(&mut self) -> Action {
        self.pick_as(Mode::Picked {
            scope: self.card.view.kept_scope(),
            repeated: String::new(),
            keeps: true,
        })
    }

    fn pick_as(&mut self, picked: Mode) -> Action {
        let is_heard = self.card.hears == Hears::All && self.card.is_read;
        match picked {
            Mode::Picked { scope, .. } if is_heard && self.card.view.offers(scope) => {
                self.turn(picked)
            }
            _ => self.startle(),
        }
    }

    /// Whether these are digits that the box asks to repeat.
    fn repeats(&self, strokes: &[Stroke]) -> bool {
        let is_digit = |stroke: &Stroke| matches!(stroke.key, Key::Character('0'..='9'));
        self.card.must_repeat
            && matches!(self.card.mode, Mode::Picked { .. })
            && !strokes.is_empty()
            && strokes.iter().all(is_digit)
    }

    /// Takes digits that the box asks to repeat.
    fn repeat(&mut self, digits: &[Stroke]) -> Action {
        let code = self.card.code();
        let Mode::Picked { repeated, .. } = &mut self.card.mode else {
            return self.startle();
        };
        for stroke in digits {
            if let Key::Character(digit) = stroke.key {
                repeated.push(digit);
            }
        }
        if code.starts_with(repeated.as_str()) {
            return Action::Redraw;
        }
        self.startle()
    }

    fn go(&mut self, key: Key) -> Action {
        let line = match key {
            Key::Character(' ') | Key::PageDown => self.card.scroll + self.step(),
            Key::PageUp => self.card.scroll.saturating_sub(self.step()),
            Key::Down => self.card.scroll + 1,
            Key::Up => self.card.scroll.saturating_sub(1),
            _ => 0,
        };
        self.scroll_to(line)
    }

    /// One page less one line, so that a page shares a line with the next.
    fn step(&self) -> usize {
        self.page.saturating_sub(1).max(1)
    }

    fn scroll_to(&mut self, line: usize) -> Action {
        let line = line.min(self.lines.saturating_sub(self.page));
        if line == self.card.scroll {
            return Action::Nothing;
        }
        self.card.scroll = line;
        self.show_anew();
        Action::Redraw
    }

    /// Takes the keys of a reason.
    fn write(&mut self, strokes: &[Stroke]) -> Action {
        for stroke in strokes {
            let Mode::Reason(text) = &mut self.card.mode else {
                return self.startle();
            };
            match stroke.key {
                Key::Escape | Key::Interrupt => return self.turn(Mode::Ask),
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
        }
        Action::Redraw
    }
}
