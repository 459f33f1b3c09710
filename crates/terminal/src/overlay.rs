//! A box on top of the agent's output, and its removal.

use super::{
    layout::{Color, Drawn, Kind},
    screen::{Screen, Size},
    track::Tracker,
};

/// Erases a box in the flow; the cursor is on its first line.
pub(crate) const ERASE_FLOW: &[u8] = b"\r\x1b[J";

/// How the box and the agent's output share the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Lines without any sequence, on a terminal that supports none; they stay.
    Plain,
    /// Below the current line, in the flow of plain output.
    Flow,
    /// On the alternate screen, while the main one keeps what the agent drew on it.
    Swap,
    /// On the screen that the agent itself uses; painted again from our picture.
    Cover,
}

impl Placement {
    /// Chooses by the agent's output so far, and by the abilities of the person's terminal.
    pub(crate) fn choose(
        tracker: &Tracker,
        screen: &Screen,
        agent: AgentMode,
        terminal: Alternate,
    ) -> Self {
        let plain =
            agent == AgentMode::Lines && !tracker.is_addressed() && !screen.has_text_below();
        // Text in the flow stays on the screen only if the whole screen scrolls.
        let flows = plain && !tracker.was_bounded();
        match terminal {
            Alternate::Dumb => Self::Plain,
            Alternate::Present | Alternate::Missing if tracker.is_alternate() => Self::Cover,
            Alternate::Present | Alternate::Missing if flows => Self::Flow,
            Alternate::Present => Self::Swap,
            Alternate::Missing => Self::Cover,
        }
    }
}

/// How the agent reads its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentMode {
    /// Line by line, echoed by the kernel: a plain program.
    Lines,
    /// Key by key: a program that draws.
    Keys,
}

/// Whether the person's terminal has an alternate screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternate {
    /// It has one.
    Present,
    /// It has none.
    Missing,
    /// It does not even place the cursor, according to its name.
    Dumb,
}

impl Alternate {
    /// Knows the terminals without one by name (`TERM`).
    #[must_use]
    pub fn of(term: &str) -> Self {
        match term {
            "" | "dumb" => Self::Dumb,
            "linux" | "vt100" | "vt102" | "vt220" | "ansi" | "cons25" => Self::Missing,
            _ => Self::Present,
        }
    }
}

/// A box that is on the terminal.
#[derive(Debug)]
pub(crate) struct Overlay {
    placement: Placement,
    size: Size,
    /// The lines that are on the terminal now, by their widths.
    drawn: Option<Extent>,
    /// The text of the question that was printed last, if it stays.
    printed: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    lines: usize,
    width: usize,
}

impl Overlay {
    /// Suspends the agent's modes; the first [`Self::draw`] shows the box.
    pub(crate) fn open(
        placement: Placement,
        size: Size,
        tracker: &Tracker,
        screen: &Screen,
        out: &mut Vec<u8>,
    ) -> Self {
        if placement != Placement::Plain {
            out.extend_from_slice(&tracker.aside());
        }
        match placement {
            Placement::Plain => {
                if screen.cursor().1 > 0 {
                    out.extend_from_slice(b"\r\n");
                }
            }
            Placement::Flow => {
                if screen.cursor().1 > 0 {
                    out.extend_from_slice(b"\r\n");
                }
                // Our picture has nothing below; other text there must not look like the box.
                out.extend_from_slice(ERASE_FLOW);
            }
            Placement::Swap => {
                // Set the bounds after the switch, which keeps the cursor.
                out.extend_from_slice(b"\x1b[?1049h");
                out.extend_from_slice(Tracker::unbound());
                out.extend_from_slice(&screen.paint());
            }
            Placement::Cover => out.extend_from_slice(Tracker::unbound()),
        }
        Self {
            placement,
            size,
            drawn: None,
            printed: Vec::new(),
        }
    }

    /// Returns where the box is.
    pub(crate) const fn placement(&self) -> Placement {
        self.placement
    }

    /// Adapts to a change of the terminal's size.
    pub(crate) fn resize(&mut self, size: Size, screen: &Screen, out: &mut Vec<u8>) {
        match self.placement {
            Placement::Plain => self.printed.clear(),
            Placement::Flow => self.erase_flow(out),
            Placement::Swap | Placement::Cover => {
                out.extend_from_slice(b"\x1b[m\x1b[2J");
                out.extend_from_slice(&screen.paint());
            }
        }
        self.size = size;
        self.drawn = None;
    }

    /// Draws the box, over the one before.
    pub(crate) fn draw(&mut self, drawn: &Drawn, color: Color, screen: &Screen, out: &mut Vec<u8>) {
        let extent = Extent {
            lines: drawn.lines.len(),
            width: drawn.width,
        };
        let lines = drawn.styled(color);
        // The one line of a small terminal has a row of its own.
        let clear = if drawn.page == 0 { "\x1b[2K" } else { "" };
        match self.placement {
            Placement::Plain => self.print(drawn, out),
            Placement::Flow => {
                self.erase_flow(out);
                for (index, line) in lines.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"\r" } else { b"\r\n" });
                    out.extend_from_slice(line.as_bytes());
                }
                // The cursor waits on the first line: a resized terminal may wrap the lines anew or
                // cut them, but the cursor stays on that line.
                if let up @ 1.. = lines.len().saturating_sub(1) {
                    out.extend_from_slice(format!("\x1b[{up}A").as_bytes());
                }
                out.push(b'\r');
            }
            Placement::Swap | Placement::Cover => {
                if self.drawn.is_some_and(|old| old.lines > extent.lines) {
                    out.extend_from_slice(&screen.paint());
                }
                let rows = usize::from(self.size.rows);
                let columns = usize::from(self.size.columns);
                let top = rows.saturating_sub(extent.lines) / 2;
                let left = columns.saturating_sub(extent.width) / 2;
                for (index, line) in lines.iter().enumerate() {
                    let place = format!("\x1b[{};{}H{clear}", top + index + 1, left + 1);
                    out.extend_from_slice(place.as_bytes());
                    out.extend_from_slice(line.as_bytes());
                }
            }
        }
        self.drawn = Some(extent);
    }

    /// Prints the question, or only its keys if nothing else has changed.
    fn print(&mut self, drawn: &Drawn, out: &mut Vec<u8>) {
        let text: Vec<String> = drawn
            .lines
            .iter()
            .filter(|(kind, _)| matches!(kind, Kind::Text | Kind::Warning))
            .map(|(_, line)| line.clone())
            .collect();
        let whole = text != self.printed;
        for (kind, line) in &drawn.lines {
            if whole || *kind == Kind::Keys {
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        self.printed = text;
    }

    /// Erases the box in the flow, starting at its first line.
    fn erase_flow(&mut self, out: &mut Vec<u8>) {
        if self.drawn.take().is_some() {
            out.extend_from_slice(ERASE_FLOW);
        }
    }

    /// Removes the box and restores the terminal.
    pub(crate) fn close(mut self, tracker: &Tracker, screen: &Screen, out: &mut Vec<u8>) {
        if self.placement == Placement::Plain {
            return;
        }
        out.extend_from_slice(b"\x1b[m");
        match self.placement {
            Placement::Plain => {}
            Placement::Flow => {
                self.erase_flow(out);
                out.extend_from_slice(&tracker.again());
                self.return_to_line(screen, out);
            }
            Placement::Swap => {
                out.extend_from_slice(b"\x1b[?1049l");
                out.extend_from_slice(&tracker.bound(screen.cursor(), &screen.place()));
                out.extend_from_slice(&tracker.again());
                out.extend_from_slice(&screen.colours());
            }
            Placement::Cover => {
                out.extend_from_slice(&screen.paint());
                out.extend_from_slice(&screen.place());
                out.extend_from_slice(&tracker.bound(screen.cursor(), &screen.place()));
                out.extend_from_slice(&tracker.again());
                out.extend_from_slice(&screen.colours());
            }
        }
    }

    /// Puts the cursor back on the line above the box, where the agent left it.
    fn return_to_line(&self, screen: &Screen, out: &mut Vec<u8>) {
        let (_, column) = screen.cursor();
        if column > 0 {
            let last = column >= self.size.columns;
            let place = if last { self.size.columns } else { column + 1 };
            out.extend_from_slice(format!("\x1b[A\x1b[{place}G").as_bytes());
            if last {
                out.extend_from_slice(&screen.last_cell());
            }
        }
        out.extend_from_slice(&screen.colours());
    }
}
