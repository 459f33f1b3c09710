use std::time::Instant;

use stockade_types::UnixMillis;

use super::{
    super::{
        dialog::Dialog,
        layout::Color,
        overlay::{AgentMode, Alternate, Overlay, Placement},
        screen::Size,
    },
    SIZE, Terminal, cells, follow, view,
};

const NOW: UnixMillis = UnixMillis(1_008_000);

/// Shows a box over `output` on a terminal, takes it away, and returns that terminal, what it
/// showed meanwhile, and one that was left alone.
fn covered(
    output: &[u8],
    size: Size,
    agent: AgentMode,
    expected: Placement,
) -> (Terminal, String, Terminal) {
    let (filter, screen, bytes) = follow(output, size);
    let mut alone = Terminal::new(size);
    alone.feed(&bytes);
    let mut terminal = Terminal::new(size);
    terminal.feed(&bytes);

    let placement = Placement::choose(filter.tracker(), &screen, agent, Alternate::Present);
    assert_eq!(placement, expected);
    let mut dialog = Dialog::new(view(), 1, 1, Instant::now());
    let mut out = Vec::new();
    let mut overlay = Overlay::open(placement, size, filter.tracker(), &screen, &mut out);
    for _ in 0..3 {
        overlay.draw(&dialog.draw(size, NOW), Color::Ansi, &screen, &mut out);
    }
    terminal.feed(&std::mem::take(&mut out));
    let meanwhile = terminal.text();
    assert!(meanwhile.contains("registry.test:443"), "{meanwhile}");
    assert!(terminal.parser.screen().hide_cursor());
    overlay.close(filter.tracker(), &screen, &mut out);
    terminal.feed(&out);
    (terminal, meanwhile, alone)
}

fn full_screen() -> Vec<u8> {
    let mut output =
        b"$ vi notes\r\n\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006h".to_vec();
    output.extend_from_slice(b"\x1b[2J\x1b[1;23r\x1b(0\x1b(Btop line");
    for row in 2..=24 {
        let line = format!(
            "\x1b[{row};1H\x1b[{}m{row:>3} \x1b[48;5;{row}m漢字 text \x1b[1mbold\x1b[m and \u{1f980} more",
            30 + row % 8
        );
        output.extend_from_slice(line.as_bytes());
    }
    // The last column is written and a wrap is to come; the next text is italic on blue.
    output.extend_from_slice(b"\x1b[12;75H123456\x1b[3;44m\x1b[?25l");
    output
}

#[test]
fn a_full_screen_program_comes_back_cell_by_cell() {
    let output = full_screen();
    for size in [
        SIZE,
        Size {
            rows: 20,
            columns: 60,
        },
        Size {
            rows: 40,
            columns: 132,
        },
    ] {
        let (mut terminal, _, mut alone) =
            covered(&output, size, AgentMode::Keys, Placement::Cover);
        terminal.assert_same(&alone, "after the box");
        // What comes next meets the same state, too: wrap, colours, margins, main screen.
        let more = b"wrapped\x1b[23;1H\n\nscrolled\x1b[?1049lback on the main screen";
        terminal.feed(more);
        alone.feed(more);
        terminal.assert_same(&alone, "after more output");
    }
}

#[test]
fn a_program_that_places_its_text_on_the_main_screen_comes_back() {
    let mut output = b"some history\r\n".repeat(30);
    output.extend_from_slice(b"\x1b[?2004h\x1b[20;1H\x1b[7m status \x1b[m\x1b[10;5H\x1b[32mtyping");
    let (mut terminal, meanwhile, mut alone) =
        covered(&output, SIZE, AgentMode::Keys, Placement::Swap);
    assert!(
        meanwhile.contains("some history"),
        "the picture stays behind the box: {meanwhile}"
    );
    terminal.assert_same(&alone, "after the box");
    for (t, more) in [
        (&mut terminal, b" on\x1b[20;1Hx"),
        (&mut alone, b" on\x1b[20;1Hx"),
    ] {
        t.feed(more);
    }
    terminal.assert_same(&alone, "after more output");
}

#[test]
fn plain_output_goes_on_below_where_it_was() {
    for output in [
        &b"$ cargo build\r\n   Compiling x\r\n"[..],
        b"$ cargo build\r\n   Compiling x",
        b"progress 12%\r\x1b[33mprogress 57%",
        b"",
    ] {
        let (mut terminal, _, mut alone) = covered(output, SIZE, AgentMode::Lines, Placement::Flow);
        terminal.assert_same(&alone, "after the box");
        terminal.feed(b" 58%\r\nnext");
        alone.feed(b" 58%\r\nnext");
        terminal.assert_same(&alone, "after more output");
    }
}

#[test]
fn plain_output_at_the_bottom_scrolls_up_and_goes_on() {
    let mut output = Vec::new();
    for line in 1..=40 {
        output.extend_from_slice(format!("line {line}\r\n").as_bytes());
    }
    output.extend_from_slice(b"and the last");
    let (mut terminal, _, _) = covered(&output, SIZE, AgentMode::Lines, Placement::Flow);
    terminal.feed(b" one");
    let text = terminal.text();
    assert!(
        text.ends_with("line 39\nline 40\nand the last one"),
        "{text}"
    );
    assert!(!text.contains("stockade"), "{text}");
}

#[test]
fn text_below_the_cursor_is_never_erased() {
    let output = b"one\r\ntwo\r\nthree\x1b[2A\r";
    let (terminal, _, alone) = covered(output, SIZE, AgentMode::Lines, Placement::Swap);
    terminal.assert_same(&alone, "after the box");
}

#[test]
fn a_resize_leaves_one_box_and_no_rest() {
    let (filter, screen, bytes) = follow(b"$ make\r\nworking", SIZE);
    let mut terminal = Terminal::new(SIZE);
    terminal.feed(&bytes);
    let mut dialog = Dialog::new(view(), 1, 1, Instant::now());
    let mut out = Vec::new();
    let mut overlay = Overlay::open(Placement::Flow, SIZE, filter.tracker(), &screen, &mut out);
    overlay.draw(&dialog.draw(SIZE, NOW), Color::None, &screen, &mut out);
    terminal.feed(&std::mem::take(&mut out));
    let wide = Size {
        rows: 30,
        columns: 100,
    };
    terminal
        .parser
        .screen_mut()
        .set_size(cells(wide.rows), cells(wide.columns));
    overlay.resize(wide, &screen, &mut out);
    overlay.draw(&dialog.draw(wide, NOW), Color::None, &screen, &mut out);
    terminal.feed(&std::mem::take(&mut out));
    assert_eq!(
        terminal.text().matches("┌ stockade").count(),
        1,
        "{}",
        terminal.text()
    );
    overlay.close(filter.tracker(), &screen, &mut out);
    terminal.feed(&out);
    assert_eq!(terminal.text(), "$ make\nworking");
}

#[test]
fn terminals_without_a_second_screen_are_known() {
    for term in ["linux", "dumb", ""] {
        assert_eq!(Alternate::of(term), Alternate::Missing, "{term}");
    }
    assert_eq!(Alternate::of("xterm-256color"), Alternate::Present);
}
