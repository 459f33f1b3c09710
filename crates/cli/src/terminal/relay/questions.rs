//! Questions on the terminal of a relay: when their box comes, changes and goes.

use std::time::Instant;

use rustix::termios::{LocalModes, tcgetattr};

use super::{
    super::{
        hush::Hush,
        overlay::{AgentMode, ERASE_FLOW, Overlay, Placement},
        prompt::Gone,
        text::cut,
    },
    Loop, Stream,
};

impl Loop {
    /// Opens, changes or closes the box as the desk has questions.
    pub(super) fn look_at_questions(&mut self) {
        let now = Instant::now();
        let asks = self.prompt.refresh(now) && self.input == Stream::Open;
        match (asks, self.overlay.is_some()) {
            (true, false) => self.open_overlay(now),
            (false, true) => {
                let placement = self.close_overlay();
                match self.prompt.take_gone() {
                    Some(gone) => self.begin_hush(&gone, placement, now),
                    None => self.show_held(),
                }
            }
            _ => {}
        }
        self.draw();
    }

    fn open_overlay(&mut self, now: Instant) {
        self.tty.flush_input();
        let tracker = self.filter.tracker();
        let placement = Placement::choose(tracker, &self.screen, self.agent_mode(), self.alternate);
        self.overlay = Some(Overlay::open(
            placement,
            self.size,
            tracker,
            &self.screen,
            &mut self.to_terminal,
        ));
        self.prompt.wake_later(now);
        if let Some(hush) = self.hush.take() {
            self.prompt.stay_deaf(hush.doing(), now);
        }
        self.tty.note_reset(self.overlaid_reset(placement));
    }

    /// Returns what sets the terminal back should we end with the box on it.
    fn overlaid_reset(&self, placement: Placement) -> Vec<u8> {
        let mut bytes = b"\x1b[?2004l".to_vec();
        match placement {
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

    /// Takes the box away; what was held stays so. Returns where the box was.
    fn close_overlay(&mut self) -> Option<Placement> {
        let overlay = self.overlay.take()?;
        let placement = overlay.placement();
        overlay.close(self.filter.tracker(), &self.screen, &mut self.to_terminal);
        Some(placement)
    }

    /// Lets nothing through that was typed for a question which has gone by itself. Output stays
    /// held, so that no answer of the terminal to the agent is lost with the keys.
    fn begin_hush(&mut self, gone: &Gone, placement: Option<Placement>, now: Instant) {
        self.tty.flush_input();
        self.hush = Some(Hush::new(gone.doing, now));
        let (_, column) = self.screen.cursor();
        if placement != Some(Placement::Flow) || column > 0 {
            // There is no line to say it on.
            return;
        }
        let Some(words) = &gone.words else { return };
        let text = format!("stockade: {words}");
        let width = usize::from(self.size.columns).saturating_sub(1);
        let mut line = format!("\x1b[m{}\r\n", cut(&text, width)).into_bytes();
        line.extend_from_slice(&self.screen.colours());
        self.screen.feed(&line);
        self.to_terminal.extend_from_slice(&line);
    }

    /// Lets keys and output pass again.
    pub(super) fn end_hush(&mut self) {
        self.hush = None;
        self.show_held();
    }

    /// Takes away whatever is left of questions.
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
        if let Some(drawn) = self.prompt.draw(self.size) {
            overlay.draw(&drawn, self.color, &self.screen, &mut self.to_terminal);
        }
    }

    /// Line mode and echo of the agent's side tell a plain program from one that draws.
    fn agent_mode(&self) -> AgentMode {
        match tcgetattr(&self.master) {
            Ok(modes) if modes.local_modes.contains(LocalModes::ICANON) => AgentMode::Lines,
            _ => AgentMode::Keys,
        }
    }
}
