//! Questions on the terminal of a relay: when their box opens, changes and closes, and who gets the
//! keys.
//!
//! Keys that the kernel had when the box was queued belong to the agent: the person had not seen
//! the box. Later keys go to the question alone, and keys that do not count there are dropped.

use std::time::{Duration, Instant};

use rustix::termios::{LocalModes, tcgetattr};

use super::{
    super::{
        hush::Hush,
        overlay::{AgentMode, ERASE_FLOW, Overlay, Placement},
        prompt::Closed,
        text::{cut, solid},
        witness::Sight,
    },
    ESCAPE_WAIT, INPUT_BYTES_MAX, Loop, READ_BYTES, STOP_WATCH, Stream,
};

/// How long the end of a session waits for the terminal's answer; a slow line takes less.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);
/// Pause between two checks for it.
const ANSWER_LOOK: Duration = Duration::from_millis(5);

impl Loop {
    /// Opens, changes or closes the box, according to the desk's questions.
    pub(super) fn look_at_questions(&mut self) {
        let now = Instant::now();
        let asks = self.prompt.refresh(now) && self.input == Stream::Open;
        match (asks, self.overlay.is_some()) {
            (true, false) => self.open_overlay(now),
            (false, true) => {
                let placement = self.close_overlay();
                match self.prompt.take_closed() {
                    Some(Closed::Elsewhere(became)) => {
                        if let Some(words) = became {
                            self.say(&words, placement);
                        }
                        // Output stays held, so that no answer of the terminal to the agent is lost
                        // with the keys.
                        self.hush = Some(Hush::new(now));
                    }
                    Some(Closed::Here(Some(said))) => {
                        self.say(&said, placement);
                        self.show_held();
                    }
                    Some(Closed::Here(None)) | None => self.show_held(),
                }
            }
            _ => {}
        }
        self.draw();
    }

    fn open_overlay(&mut self, now: Instant) {
        if self.hush.take().is_none() {
            self.read_earlier_keys(now);
        }
        let tracker = self.filter.tracker();
        let placement = Placement::choose(tracker, &self.screen, self.agent_mode(), self.alternate);
        self.overlay = Some(Overlay::open(
            placement,
            self.size,
            tracker,
            &self.screen,
            &mut self.to_terminal,
        ));
        self.prompt.redraw();
        self.tty.note_reset(self.overlaid_reset(placement));
    }

    /// Gives the agent the keys that were typed before the box is drawn.
    fn read_earlier_keys(&mut self, now: Instant) {
        let mut buffer = [0; READ_BYTES];
        while self.to_agent.len() < INPUT_BYTES_MAX {
            let Ok(Some(count @ 1..)) = self.tty.read(&mut buffer) else {
                break;
            };
            self.give_keys(buffer.get(..count).unwrap_or_default(), now);
        }
        let begun = self.witness.release();
        self.to_agent.extend_from_slice(&begun);
    }

    /// Reads keys, and gives them to their recipient.
    pub(super) fn read_keys(&mut self) {
        let mut buffer = [0; READ_BYTES];
        let count = match self.tty.read(&mut buffer) {
            Ok(Some(count @ 1..)) => count,
            Ok(None) => return,
            Ok(Some(_)) | Err(_) => {
                self.input = Stream::Closed;
                return;
            }
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        let now = Instant::now();
        self.last_keys = now;
        if self.holds() {
            let sight = self.witness.sight(now);
            for _ in 0..self.prompt.keys(bytes, sight, now) {
                self.witness.answer(&mut self.to_terminal, now);
            }
            if let Some(hush) = &mut self.hush {
                hush.hear(now);
            } else {
                self.look_at_questions();
            }
        } else {
            self.give_keys(bytes, now);
            self.watch_until = Some(now + STOP_WATCH);
            self.write_input();
        }
    }

    fn give_keys(&mut self, bytes: &[u8], now: Instant) {
        let keys = self.witness.strain(bytes, &mut self.to_terminal, now);
        self.to_agent.extend_from_slice(&keys);
    }

    /// Reads an answer that is still to come, so that it is not typed into the shell.
    pub(super) fn await_answer(&mut self) {
        let begun = Instant::now();
        let mut buffer = [0; READ_BYTES];
        while self.witness.is_expected() && begun.elapsed() < ANSWER_PATIENCE {
            match self.tty.read(&mut buffer) {
                Ok(Some(count @ 1..)) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let now = Instant::now();
                    for _ in 0..self.prompt.keys(bytes, Sight::No, now) {
                        self.witness.forget();
                    }
                }
                Ok(None) => std::thread::sleep(ANSWER_LOOK),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }

    /// Gives the agent bytes that looked like the beginning of a terminal's answer but were not.
    pub(super) fn release_keys(&mut self, now: Instant) {
        if now.duration_since(self.last_keys) >= ESCAPE_WAIT {
            let begun = self.witness.release();
            if !begun.is_empty() {
                self.to_agent.extend_from_slice(&begun);
                self.write_input();
            }
        }
    }

    /// Returns the reset of the terminal if the session ends while the box is shown.
    fn overlaid_reset(&self, placement: Placement) -> Vec<u8> {
        let mut bytes = b"\x1b[?2004l".to_vec();
        match placement {
            Placement::Plain => return Vec::new(),
            Placement::Flow => bytes.extend_from_slice(ERASE_FLOW),
            Placement::Swap => bytes.extend_from_slice(b"\x1b[?1049l"),
            Placement::Cover => {
                bytes.extend_from_slice(&self.screen.paint());
                bytes.extend_from_slice(&self.screen.place());
            }
        }
        let reset = self.filter.tracker().reset(self.screen.cursor());
        bytes.extend_from_slice(&reset);
        bytes
    }

    /// Removes the box; held output stays held. Returns the place of the box.
    fn close_overlay(&mut self) -> Option<Placement> {
        let overlay = self.overlay.take()?;
        let placement = overlay.placement();
        overlay.close(self.filter.tracker(), &self.screen, &mut self.to_terminal);
        Some(placement)
    }

    /// Reports the outcome of a question in a line, if there is room for one: not in the middle of
    /// a line of the agent, nor on the screen of a program that draws.
    fn say(&mut self, text: &str, placement: Option<Placement>) {
        let width = usize::from(self.size.columns).saturating_sub(1);
        let text = cut(&solid(&format!("stockade: {text}")), width);
        let line = match placement {
            Some(Placement::Flow) if self.screen.cursor().1 == 0 => {
                let mut line = format!("\x1b[m{text}\r\n").into_bytes();
                line.extend_from_slice(&self.screen.colours());
                line
            }
            Some(Placement::Plain) => format!("{text}\r\n").into_bytes(),
            Some(Placement::Flow | Placement::Swap | Placement::Cover) | None => return,
        };
        self.screen.feed(&line);
        self.to_terminal.extend_from_slice(&line);
    }

    /// Lets keys and output pass again.
    pub(super) fn end_hush(&mut self) {
        self.hush = None;
        self.show_held();
    }

    /// Removes all remains of questions.
    pub(super) fn end_questions(&mut self) {
        self.close_overlay();
        self.end_hush();
    }

    fn show_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.show(&held);
    }

    pub(super) fn draw(&mut self) {
        let Some(overlay) = &mut self.overlay else {
            return;
        };
        let Some((drawn, is_new)) = self.prompt.draw(self.size) else {
            return;
        };
        let before = self.to_terminal.len();
        overlay.draw(&drawn, self.color, &self.screen, &mut self.to_terminal);
        if overlay.placement() == Placement::Plain {
            let lines = self.to_terminal.get(before..).unwrap_or_default();
            self.screen.feed(lines);
        }
        if is_new {
            self.witness.draw(&mut self.to_terminal, Instant::now());
        }
    }

    /// Line mode and echo of the agent's side distinguish a plain program from one that draws.
    fn agent_mode(&self) -> AgentMode {
        match tcgetattr(&self.master) {
            Ok(modes) if modes.local_modes.contains(LocalModes::ICANON) => AgentMode::Lines,
            _ => AgentMode::Keys,
        }
    }
}
