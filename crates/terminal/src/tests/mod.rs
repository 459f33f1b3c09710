//! Tests of the terminal: filter, box, way back, relay.

mod dialog;
mod filter;
mod job;
mod overlay;
mod pipes;
mod relay;
mod screen;
mod tty;

use std::num::NonZeroU16;

use stockade_approval::{QuestionView, Row, Shown};
use stockade_policy::Scope;
use stockade_types::{ApprovalId, Digest, UnixMillis};

use super::{
    filter::{Filter, Forward},
    screen::{Screen, Size},
};

pub(super) const SIZE: Size = Size {
    rows: 24,
    columns: 80,
};

fn row(label: &str, text: &str) -> Row {
    Row {
        label: label.to_owned(),
        text: text.to_owned(),
    }
}

/// The question of the product's own description.
pub(super) fn view() -> QuestionView {
    QuestionView {
        id: ApprovalId::from_random(0x7f3a_0001),
        agent: "codex".to_owned(),
        asked: UnixMillis(1_000_000),
        expires: UnixMillis(1_300_000),
        gives_up: None,
        waiting: 1,
        scope_max: Some(Scope::Session),
        paths: None,
        lasting: None,
        waits_for: None,
        request_digest: Digest::of(b"request"),
        shown: Shown {
            title: "codex wants to".to_owned(),
            rows: vec![
                row("connect", "registry.test:443"),
                row("by", "/usr/bin/node  npm install left-pad"),
                row("", "← bash -lc \"npm install left-pad\" ← codex"),
                row(
                    "why asked",
                    "rule unfamiliar-host (builtin): no rule names this host",
                ),
                row("once", "one connection, with any method and path on it"),
                row("session", "any method and path, on this host and port"),
            ],
            details: Vec::new(),
            warnings: Vec::new(),
        },
    }
}

/// What a terminal shows after some bytes: a picture that is independent of the one under test.
pub(super) struct Terminal {
    pub(super) parser: vt100::Parser,
}

impl Terminal {
    pub(super) fn new(size: Size) -> Self {
        Self {
            parser: vt100::Parser::new(cells(size.rows), cells(size.columns), 0),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
    }

    pub(super) fn text(&self) -> String {
        self.parser.screen().contents()
    }

    /// Fails unless cells, colours, cursor and modes are the same.
    pub(super) fn assert_same(&self, other: &Self, what: &str) {
        let (a, b) = (self.parser.screen(), other.parser.screen());
        assert_eq!(a.size(), b.size(), "{what}: size");
        let (rows, columns) = a.size();
        for row in 0..rows.get() {
            for column in 0..columns.get() {
                assert_eq!(
                    a.cell(row, column),
                    b.cell(row, column),
                    "{what}: {row},{column}"
                );
            }
        }
        assert_eq!(a.cursor_position(), b.cursor_position(), "{what}: cursor");
        assert_eq!(a.hide_cursor(), b.hide_cursor(), "{what}: cursor visible");
        assert_eq!(a.alternate_screen(), b.alternate_screen(), "{what}: screen");
        assert_eq!(a.bracketed_paste(), b.bracketed_paste(), "{what}: paste");
        assert_eq!(
            a.application_keypad(),
            b.application_keypad(),
            "{what}: keypad"
        );
        assert_eq!(
            a.application_cursor(),
            b.application_cursor(),
            "{what}: cursor keys"
        );
        assert_eq!(
            a.mouse_protocol_mode(),
            b.mouse_protocol_mode(),
            "{what}: mouse"
        );
        assert_eq!(
            a.mouse_protocol_encoding(),
            b.mouse_protocol_encoding(),
            "{what}: mouse code"
        );
        let colours = |s: &vt100::Screen| {
            (
                s.fgcolor(),
                s.bgcolor(),
                s.bold(),
                s.italic(),
                s.underline(),
                s.inverse(),
            )
        };
        assert_eq!(colours(a), colours(b), "{what}: colours");
    }
}

/// Makes what the parser takes for a number of rows or columns.
pub(super) fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

/// Filters output as the relay does, into a picture and the bytes for the terminal.
pub(super) fn follow(output: &[u8], size: Size) -> (Filter, Screen, Vec<u8>) {
    let mut filter = Filter::default();
    let mut screen = Screen::new(size);
    let mut forward = Forward::default();
    filter.push(output, &mut forward);
    screen.feed(&forward.screen);
    (filter, screen, forward.terminal)
}
