use std::time::Instant;

use stockade_types::UnixMillis;

use super::{
    super::{
        dialog::{Dialog, SILENCE},
        layout::Color,
        overlay::{AgentMode, Alternate, Overlay, Placement},
        screen::Size,
        witness::Sight,
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
    covered_on(Alternate::Present, output, size, agent, expected)
}

fn covered_on(
    kind: Alternate,
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

    let placement = Placement::choose(filter.tracker(), &screen, agent, kind);
    assert_eq!(placement, expected);
    let mut dialog = Dialog::new(view(), 1, 1, Instant::now());
    let mut out = Vec::new();
    let mut overlay = Overlay::open(placement, size, filter.tracker(), &screen, &mut out);
    for _ in 0..3 {
        overlay.draw(&dialog.draw(size, NOW), Color::Ansi, &screen, &mut out);
        dialog.take_change();
        let now = Instant::now();
        dialog.listen(Sight::Told(now), now + SILENCE);
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

/// The box would be a part of the link: a click on it would open what the agent chose.
#[test]
fn a_link_of_the_agent_does_not_go_on_in_a_question() {
    let link = "\x1b]8;;https://evil.test/\x1b\\";
    let (filter, screen, _) = follow(format!("{link}text").as_bytes(), SIZE);
    let mut out = Vec::new();
    let overlay = Overlay::open(Placement::Flow, SIZE, filter.tracker(), &screen, &mut out);
    let has = |out: &[u8], part: &str| String::from_utf8_lossy(out).contains(part);
    assert!(has(&out, "\x1b]8;;\x1b\\"));
    out.clear();
    overlay.close(filter.tracker(), &screen, &mut out);
    assert!(has(&out, link), "it goes on after the question");
    let reset = filter.tracker().reset(screen.cursor());
    assert!(has(&reset, "\x1b]8;;\x1b\\"));
    let (filter, ..) = follow(format!("{link}text\x1b]8;;\x07").as_bytes(), SIZE);
    assert!(!has(&filter.tracker().aside(), "\x1b]8;"), "control");
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
    for term in ["linux", "vt100", "ansi"] {
        assert_eq!(Alternate::of(term), Alternate::Missing, "{term}");
    }
    for term in ["dumb", ""] {
        assert_eq!(Alternate::of(term), Alternate::Dumb, "{term}");
    }
    assert_eq!(Alternate::of("xterm-256color"), Alternate::Present);
}

#[test]
fn a_program_comes_back_on_a_terminal_without_a_second_screen() {
    let mut output = b"\x1b[H\x1b[2J".to_vec();
    for row in 1..=24 {
        output.extend_from_slice(format!("\x1b[{row};1Hrow {row} of an editor").as_bytes());
    }
    output.extend_from_slice(b"\x1b[12;7H");
    let keys = AgentMode::Keys;
    let (terminal, _, alone) =
        covered_on(Alternate::Missing, &output, SIZE, keys, Placement::Cover);
    terminal.assert_same(&alone, "after the box");
    let (terminal, _, alone) = covered_on(
        Alternate::Missing,
        b"$ make\r\n",
        SIZE,
        AgentMode::Lines,
        Placement::Flow,
    );
    terminal.assert_same(&alone, "after the box");
}

#[test]
fn a_terminal_that_knows_no_sequences_gets_none() {
    for (output, begin) in [(&b"$ make "[..], "\r\n┌"), (b"$ make\r\n", "┌")] {
        let (filter, screen, _) = follow(output, SIZE);
        let tracker = filter.tracker();
        let placement = Placement::choose(tracker, &screen, AgentMode::Keys, Alternate::Dumb);
        assert_eq!(placement, Placement::Plain);
        let mut dialog = Dialog::new(view(), 1, 1, Instant::now());
        let mut out = Vec::new();
        let mut overlay = Overlay::open(placement, SIZE, tracker, &screen, &mut out);
        overlay.draw(&dialog.draw(SIZE, NOW), Color::None, &screen, &mut out);
        let first = String::from_utf8(std::mem::take(&mut out)).unwrap();
        assert!(
            first.starts_with(begin) && first.contains("registry.test:443"),
            "{first}"
        );
        dialog.take_change();
        let now = Instant::now();
        dialog.listen(Sight::Unknown(now), now + SILENCE);
        overlay.draw(&dialog.draw(SIZE, NOW), Color::None, &screen, &mut out);
        overlay.close(tracker, &screen, &mut out);
        let second = String::from_utf8(out).unwrap();
        assert!(
            second.contains("[o]nce") && !second.contains("registry.test"),
            "{second}"
        );
        assert!(!first.contains('\x1b') && !second.contains('\x1b'));
    }
}

/// In a region of three rows the last three lines of a box stay, and what the agent drew above
/// would be taken for the rest.
#[test]
fn no_bounds_hide_a_part_of_a_question() {
    let outputs: [&[u8]; 8] = [
        b"\x1b[2J\x1b[24Afake text\x1b[22;24r\x1b[30B\r",
        b"\x1b[1;4r",
        b"\x1b[5;9r\x1b[?6h\x1b[2;3Hx",
        b"\x1b[1;23r\r\n",
        b"\x1b[1;4r\x1b[!p\r\n",
        b"\x1b[1;4r\x1b[r\r\n",
        b"\x1b[?7;6h",
        b"\x1b[?69h\x1b[10;20s",
    ];
    for output in outputs {
        let (mut terminal, meanwhile, mut alone) =
            covered(output, SIZE, AgentMode::Lines, Placement::Swap);
        for part in ["┌ stockade", "by ", "session ", "[d]eny", "[o]nce", "└"] {
            assert!(meanwhile.contains(part), "{output:?}: {meanwhile}");
        }
        terminal.assert_same(&alone, "after the box");
        // The bounds are the agent's again.
        let more = b"one\r\ntwo\r\nthree\r\nfour\r\nfive\r\nsix\x1b[2;2Hseven";
        terminal.feed(more);
        alone.feed(more);
        terminal.assert_same(&alone, &format!("after more than {output:?}"));
        let missing = Alternate::Missing;
        let (terminal, ..) = covered_on(missing, output, SIZE, AgentMode::Lines, Placement::Cover);
        terminal.assert_same(&alone_after(output), "without a second screen");
    }
}

fn alone_after(output: &[u8]) -> Terminal {
    let (_, _, bytes) = follow(output, SIZE);
    let mut terminal = Terminal::new(SIZE);
    terminal.feed(&bytes);
    terminal
}

/// Terminals keep bounds for both screens or for each: they are taken back on the one that the
/// box is drawn on.
#[test]
fn a_box_is_drawn_after_what_changes_its_place_is_undone() {
    for output in [
        &b"\x1b[4h\x1b[20h\x1b[?5h\x1b[3;5rx"[..],
        b"\x1b[20;4h\x1b[?5;6;69hx",
    ] {
        let (filter, screen, _) = follow(output, SIZE);
        let mut out = Vec::new();
        Overlay::open(Placement::Swap, SIZE, filter.tracker(), &screen, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (before, after) = text.split_once("\x1b[?1049h").unwrap();
        for part in ["\x1b[4l", "\x1b[20l", "\x1b[?5l", "\x1b(B", "\x0f"] {
            assert!(before.contains(part), "{part:?} in {before:?}");
        }
        assert!(after.starts_with("\x1b[?6l\x1b[?69l\x1b[r"), "{after:?}");
        let again = String::from_utf8(filter.tracker().again()).unwrap();
        for part in ["\x1b[4h", "\x1b[20h", "\x1b[?5h"] {
            assert!(again.contains(part), "{part:?} in {again:?}");
        }
    }
}

#[test]
fn nothing_is_left_behind_and_the_cursor_stays() {
    for (output, expected) in [
        (&b"one\r\n\x1b[1;3r\x1b[?7l\x1b[?5h\x1b[5;3H"[..], (4, 2)),
        (b"\x1b[3;9r\x1b[?6h\x1b[2;3H", (3, 2)),
        (b"\x1b[1;3r\x1b[!p\x1b[5;3H", (4, 2)),
    ] {
        let (filter, screen, bytes) = follow(output, SIZE);
        let mut terminal = Terminal::new(SIZE);
        terminal.feed(&bytes);
        let reset = filter.tracker().reset(screen.cursor());
        terminal.feed(&reset);
        assert_eq!(terminal.parser.screen().cursor_position(), expected);
        let reset = String::from_utf8(reset).unwrap();
        assert!(reset.contains("\x1b[r"), "{reset:?}");
        for mode in ["7l", "5h"] {
            let undo = format!(
                "\x1b[?{}",
                mode.replace('l', "H").replace('h', "l").replace('H', "h")
            );
            let was_set = String::from_utf8_lossy(output).contains(&format!("\x1b[?{mode}"));
            assert_eq!(reset.contains(&undo), was_set, "{undo:?} in {reset:?}");
        }
        terminal.feed(b"\x1b[24;1Hlast\r\nnext");
        assert!(
            terminal.text().ends_with("last\nnext"),
            "{}",
            terminal.text()
        );
    }
    // A program that draws nothing gets nothing back.
    let (filter, screen, _) = follow(b"one\r\n", SIZE);
    assert_eq!(
        filter.tracker().reset(screen.cursor()),
        b"\x1b[?2026l\x1b[m\x1b[?25h"
    );
}
