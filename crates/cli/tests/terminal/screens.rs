//! Full-screen programs through the boundary: keys, size, colours, paste, and what they leave
//! behind.

use std::{thread, time::Duration};

use stockade_testkit::{pty::Terminal, run::require_tool, wait};

use crate::terminal::lab::{
    BOX, LONG, Lab, PUSH, REST, answer, assert_restored, end, in_background, settled,
};

/// An editor without the machine's settings, and without a swap file that outlives a kill.
const VIM: &str = "vim -u NONE -i NONE -n --cmd 'set nocompatible'";

/// The text in vim's last line in insert mode.
const INSERTS: &str = "-- INSERT --";

/// The output of a program that uses all features of a terminal: colours, lines, wide characters, a
/// scrolling region, a hidden cursor in the middle, mouse, paste and keypad modes. It shows its
/// input.
const EVERYTHING: &str = r"#!/bin/sh
stty -echo -icanon -isig min 1 time 0
printf '\033[?1049h\033[?1h\033=\033[?2004h\033[?1002h\033[?1006h\033[H\033[2J'
printf '\033[1;1H\033[1;31mbold red\033[m \033[4;38;5;200mpink under\033[m \033[7mreverse\033[m'
printf '\033[2;1H\033[48;2;10;20;30mtrue colour\033[K\033[m'
printf '\033[3;1H┌──────┐ line drawing'
printf '\033[4;1H漢字かな wide, e\314\201 combining'
printf '\033[5;20r\033[20;1Hbottom of the region\n\n\n\033[r'
row=6; while [ $row -lt 24 ]; do
  printf '\033[%d;5H\033[3%dm%s row %d %s' $row $((row % 8)) '<<<<<<<<' $row '>>>>>>>>>>>>>>>>>>>>'
  row=$((row + 1))
done
printf '\033[m\033[24;60Hlast line\033[?25l\033[12;40H\033[1;35m'
while :; do
  key=$(dd bs=1 count=1 2> /dev/null | od -An -tx1)
  [ -z $key ] && exit 9
  [ $key = 71 ] && break
  printf '\033[23;1H\033[mkey%s\033[12;40H\033[1;35m' $key
done
printf '\033[m\033[?25h\033[?1006l\033[?1002l\033[?2004l\033>\033[?1l\033[?1049l'
";

fn vim(lab: &Lab) -> Terminal {
    require_tool("vim");
    let terminal = lab.open(&format!("exec {VIM} lines.txt"));
    terminal.wait_for("line 1 of the file", LONG);
    settled(&terminal);
    terminal
}

#[test]
fn vim_edits_resizes_and_leaves_the_terminal_as_it_was() {
    let lab = Lab::new();
    let line = format!(
        "echo before; stty -a > modes.before; \"$STOCKADE\" run -- {VIM} lines.txt; \
         code=$?; stty -a > modes.after; echo \"code $code\""
    );
    let mut terminal = Terminal::start(lab.around(&line).into_command(), 24, 80);
    terminal.wait_for("line 23 of the file", LONG);
    assert!(terminal.screen().alternate_screen());

    terminal.send(":echo 'size ' . &lines . ' ' . &columns\r");
    terminal.wait_for("size 24 80", LONG);
    terminal.resize(40, 120);
    terminal.wait_for("line 39 of the file", LONG);
    terminal.send(":echo 'size ' . &lines . ' ' . &columns\r");
    terminal.wait_for("size 40 120", LONG);

    terminal.send("ggitext by a person ");
    terminal.wait_for("text by a person line 1", LONG);
    // Ctrl-C ends the insertion and reaches no other program; vim discards input that it has not
    // read yet.
    terminal.wait_for(INSERTS, LONG);
    terminal.send("\x03");
    terminal.wait_without(INSERTS, LONG);
    let answers = || {
        terminal.send(":echo 'rea' . 'dy'\r");
        let reads = || terminal.text().contains("ready");
        wait::until_true(Duration::from_secs(1), reads)
    };
    assert!(wait::until_true(LONG, answers), "{}", terminal.text());
    terminal.send(":s/$/ and more/\r:wq\r");
    terminal.wait_for("code 0", LONG);
    assert_eq!(end(&mut terminal), 0);
    let text = lab.file("lines.txt");
    assert!(
        text.starts_with("text by a person line 1 of the file and more\nline 2 "),
        "{text:.99}"
    );
    let screen = terminal.screen();
    assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor());
    assert!(terminal.text().contains("before"), "{}", terminal.text());
    let before = lab
        .file("modes.before")
        .replace("rows 24; columns 80", "rows 40; columns 120");
    assert_eq!(before, lab.file("modes.after"));
}

/// Sequences with effects beyond the screen do not leave the session; those that concern the screen
/// do.
#[test]
fn what_reaches_past_the_screen_does_not_reach_the_terminal() {
    let print = "printf 'begin\\033]52;c;c3RvbGVu\\007\\005\\033[21t\\033Ptmux;x\\033\\\\\\033[1mbold\\033[m end'";
    let lab = Lab::new();
    let written = |terminal: &Terminal| {
        terminal.wait_for("end", LONG);
        let text = terminal.raw();
        let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
        assert!(has(b"begin") && has(b"\x1b[1mbold"), "{}", terminal.text());
        [&b"\x1b]52;"[..], b"\x05", b"\x1b[21t", b"\x1bPtmux;"].map(has)
    };
    // Control: without the boundary the terminal gets all of it.
    let mut outside = Terminal::start(lab.around(print).into_command(), 24, 80);
    assert_eq!(written(&outside), [true; 4]);
    outside.wait_exit(LONG);
    let mut inside = lab.open(print);
    assert_eq!(written(&inside), [false; 4]);
    assert_eq!(end(&mut inside), 0);
}

#[test]
fn vim_draws_colours() {
    let lab = Lab::new();
    let terminal = vim(&lab);
    terminal.send(":hi Search ctermfg=1 ctermbg=4 cterm=bold | set hlsearch\r/line 7 \r");
    let seven = |screen: &vt100::Screen| {
        let cell = screen.cell(6, 0).unwrap();
        (cell.fgcolor(), cell.bgcolor(), cell.bold())
    };
    let expected = (vt100::Color::Idx(1), vt100::Color::Idx(4), true);
    let coloured = wait::until_true(LONG, || seven(&terminal.screen()) == expected);
    assert!(coloured, "{:?}", seven(&terminal.screen()));
}

#[test]
fn a_paste_stays_a_paste() {
    let lab = Lab::new();
    let mut terminal = vim(&lab);
    assert!(terminal.screen().bracketed_paste(), "vim asks for it");
    terminal.send(":set autoindent\rggO");
    terminal.send("\x1b[200~    four\n    also four\n:q!\n\x1b[201~");
    terminal.wait_for("also four", LONG);
    // A character right after an escape would be a key with Alt.
    terminal.wait_for(INSERTS, LONG);
    terminal.send("\x1b");
    terminal.wait_without(INSERTS, LONG);
    terminal.send(":wq\r");
    assert_eq!(end(&mut terminal), 0);
    let text = lab.file("lines.txt");
    assert!(
        text.starts_with("    four\n    also four\n:q!\n\nline 1 "),
        "{text:.99}"
    );
}

#[test]
fn less_pages_searches_resizes_and_leaves() {
    require_tool("less");
    let lab = Lab::new();
    let mut terminal = lab.open("echo before; exec less lines.txt");
    terminal.wait_for("line 23 of the file", LONG);
    assert!(terminal.screen().alternate_screen());
    terminal.send(" ");
    terminal.wait_for("line 46 of the file", LONG);
    terminal.send("/line 250\r");
    terminal.wait_for("line 250 of the file", LONG);
    terminal.resize(12, 60);
    terminal.wait_until("a short page", LONG, |text| {
        text.contains("line 260 ") && !text.contains("line 262 ")
    });
    // It follows the file until Ctrl-C.
    terminal.send("F");
    terminal.wait_for("aiting for data", LONG);
    terminal.send("\x03");
    terminal.wait_without("aiting for data", LONG);
    terminal.send("q");
    assert_eq!(end(&mut terminal), 0);
    assert!(!terminal.screen().alternate_screen());
    assert!(terminal.text().contains("before"), "{}", terminal.text());
}

#[test]
fn htop_runs_with_mouse_and_colours_and_leaves() {
    require_tool("htop");
    let lab = Lab::new();
    let mut terminal = lab.open(&in_background(PUSH, "htop"));
    terminal.wait_for("Load average", LONG);
    terminal.wait_for("PID", LONG);
    let mouse = terminal.screen().mouse_protocol_mode();
    assert_ne!(mouse, vt100::MouseProtocolMode::None);
    let coloured = |screen: &vt100::Screen| {
        (0..80).any(|column| {
            let cell = screen.cell(23, column).unwrap();
            cell.bgcolor() != vt100::Color::Default
        })
    };
    assert!(wait::until_true(LONG, || coloured(&terminal.screen())));
    lab.go();
    answer(&terminal, "d");
    terminal.wait_for("Load average", LONG);
    assert_eq!(terminal.screen().mouse_protocol_mode(), mouse);
    assert!(wait::until_true(LONG, || coloured(&terminal.screen())));
    assert!(
        lab.wait_file("result", "denied")
            .contains("Permission denied")
    );
    terminal.send("q");
    assert_eq!(end(&mut terminal), 0);
    let screen = terminal.screen();
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    assert!(!screen.alternate_screen() && !screen.application_cursor());
}

/// Asks in the middle of `program`, closes the box with `key`, and compares the whole terminal.
fn comes_back(lab: &Lab, what: &str, program: &str, shows: &str, key: &str) -> Terminal {
    let terminal = lab.open(&in_background(what, program));
    terminal.wait_for(shows, LONG);
    let before = settled(&terminal);
    lab.go();
    terminal.wait_for(BOX, LONG);
    answer(&terminal, key);
    assert_restored(&terminal, &before, program);
    terminal
}

#[test]
fn a_question_in_the_middle_of_vim_leaves_no_trace() {
    let lab = Lab::new();
    let program = format!("{VIM} -c 'set number hlsearch' -c '/line 1' lines.txt");
    let mut terminal = comes_back(&lab, PUSH, &program, "line 15 of", "d");
    assert!(
        lab.wait_file("result", "denied")
            .contains("Permission denied")
    );
    // It is the same vim: it accepts keys and writes.
    terminal.send("ggdd:wq\r");
    assert_eq!(end(&mut terminal), 0);
    assert!(lab.file("lines.txt").starts_with("line 2 of"));
    assert_eq!(lab.answers(), ["deny by terminal"]);
}

#[test]
fn an_unfamiliar_host_asks_in_the_middle_of_less() {
    let lab = Lab::new();
    let what = "curl -sS -m 40 http://unfamiliar.test/; /run/stockade/why";
    let mut terminal = comes_back(&lab, what, "less lines.txt", "line 23 of", "d");
    let result = lab.wait_file("result", "rule    unfamiliar-host");
    assert!(result.contains("unfamiliar.test"), "{result}");
    terminal.send("q");
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["deny by terminal"]);
}

#[test]
fn everything_that_a_program_can_set_comes_back() {
    let lab = Lab::new();
    lab.env
        .write(lab.repo.path().join("everything.sh"), EVERYTHING);
    let mut terminal = comes_back(&lab, PUSH, "sh everything.sh", "last line", "o");
    lab.wait_file("result", "usage: git push");
    // Keys, a mouse report and a paste pass unchanged.
    for (bytes, last) in [
        ("x", "78"),
        ("\x1b[<0;5;5M", "4d"),
        ("\x1b[200~p\x1b[201~", "7e"),
    ] {
        terminal.send(bytes);
        terminal.wait_for(&format!("key{last}"), LONG);
    }
    terminal.send("q");
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["allow by terminal"]);
}

#[test]
fn output_that_came_meanwhile_is_drawn_after() {
    let lab = Lab::new();
    let draw = "stty -icanon -echo; printf '\\033[2J\\033[5;5Hold'; \
                until [ -e draw ]; do sleep 0.05; done; printf '\\033[7;7Hnew'; sleep 60";
    lab.env.write(lab.repo.path().join("draw.sh"), draw);
    let terminal = lab.open(&in_background(PUSH, "sh draw.sh"));
    terminal.wait_for("old", LONG);
    lab.go();
    terminal.wait_for(BOX, LONG);
    lab.env.write(lab.repo.path().join("draw"), "");
    thread::sleep(REST);
    assert!(!terminal.text().contains("new"), "{}", terminal.text());
    answer(&terminal, "d");
    terminal.wait_for("new", LONG);
    assert!(terminal.text().contains("old"), "{}", terminal.text());
}

/// The same with a terminal by other authors.
#[test]
fn tmux_shows_vim_as_it_was_before_the_question() {
    let lab = Lab::new();
    let line = in_background(PUSH, &format!("{VIM} -c 'set number' lines.txt"));
    lab.env.write(lab.repo.path().join("start.sh"), &line);
    let tmux = lab.tmux(90, 26, "sh start.sh");
    tmux.wait_for("line 25 of the file", LONG);
    let before = tmux.settled(LONG).expect("it waits for a key");
    lab.go();
    tmux.wait_for("[d]eny", LONG);
    tmux.keys(&["d"]);
    tmux.wait_without(BOX, LONG);
    let same = || (tmux.styled(), tmux.cursor()) == before;
    assert!(
        wait::until_true(Duration::from_secs(5), same),
        "{}\n{}",
        before.0,
        tmux.styled()
    );
    tmux.send(":q");
    tmux.keys(&["Enter"]);
    tmux.wait_for("exit 0", LONG);
    assert!(
        !tmux.text().contains("line 25 of the file"),
        "{}",
        tmux.text()
    );
}

#[test]
fn tmux_shows_everything_as_it_was_before_the_question() {
    let lab = Lab::new();
    lab.env
        .write(lab.repo.path().join("everything.sh"), EVERYTHING);
    lab.env.write(
        lab.repo.path().join("start.sh"),
        &in_background(PUSH, "sh everything.sh"),
    );
    let tmux = lab.tmux(80, 24, "sh start.sh");
    tmux.wait_for("last line", LONG);
    let before = tmux.settled(LONG).expect("it waits for a key");
    lab.go();
    tmux.wait_for("[d]eny", LONG);
    tmux.keys(&["d"]);
    tmux.wait_without(BOX, LONG);
    let same = || (tmux.styled(), tmux.cursor()) == before;
    assert!(
        wait::until_true(Duration::from_secs(5), same),
        "{}\n{}",
        before.0,
        tmux.styled()
    );
    tmux.send("q");
    tmux.wait_for("exit 0", LONG);
}

#[test]
fn tmux_shows_plain_output_as_it_was_before_the_question() {
    let lab = Lab::new();
    let line = "printf 'one\\ntwo\\nthree and '; git push -q -h > /dev/null 2>&1; echo \"code $?\"; sleep 60";
    lab.env.write(lab.repo.path().join("start.sh"), line);
    let tmux = lab.tmux(80, 24, "sh start.sh");
    tmux.wait_for("[d]eny", LONG);
    tmux.keys(&["d"]);
    tmux.wait_without(BOX, LONG);
    tmux.wait_for("one\ntwo\nthree and code 126", LONG);
}

#[test]
fn a_terminal_without_a_second_screen_gets_its_picture_back() {
    require_tool("less");
    let lab = Lab::new();
    for term in ["vt100", "linux"] {
        let line = in_background(PUSH, "less lines.txt");
        let run = lab.run(&[], &line).env("TERM", term);
        let terminal = Terminal::start(run.into_command(), 24, 80);
        terminal.wait_for("line 23 of the file", LONG);
        let before = settled(&terminal);
        lab.go();
        terminal.wait_for(BOX, LONG);
        answer(&terminal, "d");
        assert_restored(&terminal, &before, term);
        std::fs::remove_file(lab.repo.path().join("go")).unwrap();
    }
}

#[test]
fn what_a_program_leaves_set_is_taken_back() {
    let lab = Lab::new();
    let left = "printf 'two\\nlines\\n\\033[4;9r\\033[?7l\\033[?5h\\033[4h\\033[3;1H'";
    lab.env.write(lab.repo.path().join("left.sh"), left);
    let modes = "#{scroll_region_upper}-#{scroll_region_lower} #{wrap_flag} #{insert_flag}";
    // Control: without the boundary all of it stays.
    let line = format!("cd '{}' && sh left.sh", lab.repo.path().display());
    let outside = stockade_testkit::tmux::Tmux::start(&lab.env, 80, 24, &line);
    outside.wait_for("exit 0", LONG);
    assert_eq!(outside.value(modes), "3-8 0 1");
    let inside = lab.tmux(80, 24, "sh left.sh");
    inside.wait_for("exit 0", LONG);
    assert_eq!(inside.value(modes), "0-23 1 0");
}
