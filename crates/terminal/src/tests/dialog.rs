use std::time::{Duration, Instant};

use insta::assert_snapshot;
use stockade_approval::{Answer, Lasting, QuestionView};
use stockade_policy::{LastingRule, RuleForm, Scope};
use stockade_types::UnixMillis;

use super::{
    super::{
        card::Mode,
        dialog::{Action, Dialog, GAP, SILENCE},
        keys::{Heard, Key, Keys, Stroke},
        layout::Color,
        screen::Size,
        text::columns,
        witness::Sight,
    },
    SIZE, row, view,
};

const NOW: UnixMillis = UnixMillis(1_008_000);
/// Shorter than a silence, longer than a gap.
const CALM: Duration = Duration::from_millis(600);

/// A person before a terminal that shows at once what is drawn.
struct Seat {
    dialog: Dialog,
    size: Size,
    now: Instant,
    told: Instant,
    /// The terminal never says what it shows.
    is_silent: bool,
}

impl Seat {
    fn new(view: QuestionView) -> Self {
        Self::sized(view, SIZE)
    }

    fn sized(view: QuestionView, size: Size) -> Self {
        let now = Instant::now();
        let dialog = Dialog::new(view, 1, 1, now);
        let mut seat = Self {
            dialog,
            size,
            now,
            told: now,
            is_silent: false,
        };
        seat.look();
        seat
    }

    fn sight(&self) -> Sight {
        if self.is_silent {
            Sight::Unknown(self.told)
        } else {
            Sight::Told(self.told)
        }
    }

    /// Draws as the relay does, and returns what is shown.
    fn look(&mut self) -> String {
        let drawn = self.dialog.draw(self.size, NOW);
        if self.dialog.take_change() {
            self.told = self.now;
        }
        self.dialog.listen(self.sight(), self.now);
        for (_, line) in &drawn.lines {
            assert_eq!(columns(line), drawn.width, "{line}");
            assert!(drawn.width < usize::from(self.size.columns));
        }
        assert!(drawn.lines.len() < usize::from(self.size.rows));
        let drawn = self.dialog.draw(self.size, NOW);
        drawn.styled(Color::None).join("\n")
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.look();
        self
    }

    fn hear(&mut self, strokes: Vec<Stroke>) -> Action {
        let heard = Heard {
            strokes,
            is_input: true,
            ..Heard::default()
        };
        let action = self.dialog.input(&heard, self.sight(), self.now, NOW);
        self.look();
        action
    }

    fn press(&mut self, key: Key) -> Action {
        self.hear(vec![Stroke {
            key,
            is_single: true,
        }])
    }

    /// Presses keys, each after a silence.
    fn slowly(&mut self, keys: &str) -> Action {
        let mut last = Action::Nothing;
        for c in keys.chars() {
            self.wait(SILENCE);
            last = self.press(key(c));
        }
        last
    }
}

fn key(c: char) -> Key {
    match c {
        '\r' => Key::Enter,
        '\u{1b}' => Key::Escape,
        '\u{8}' => Key::Backspace,
        other => Key::Character(other),
    }
}

fn deny() -> Action {
    Action::Answer(Answer::Deny { reason: None })
}

fn allow(scope: Scope) -> Action {
    Action::Answer(Answer::Allow { scope })
}

/// Shows a question that has been looked at for long enough.
fn shown(view: QuestionView, size: Size) -> String {
    Seat::sized(view, size).wait(SILENCE).look()
}

/// Everything that could break out of a box.
fn hostile() -> QuestionView {
    let mut view = view();
    view.shown.rows[0] = row(
        "run",
        "git 'push\\u{1b}[2J\\u{202e}' e\u{301}\u{301}\u{301}\u{301} 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字 │ [o]nce",
    );
    view.shown.warnings = vec![
        "the command has characters that cannot be seen; they are written \\u{…} or \\xHH"
            .to_owned(),
    ];
    view.shown.title = format!("{} wants to", "agent".repeat(40));
    view.waiting = 7;
    view
}

fn long() -> QuestionView {
    let mut view = view();
    view.shown.rows[0] = row("run", &"sh -c 'echo harmless' ".repeat(120));
    view.shown.rows.push(row("last", "rm -rf /important"));
    view
}

#[test]
fn a_question_at_80_columns() {
    assert_snapshot!(shown(view(), SIZE));
}

#[test]
fn a_hostile_question_at_80_columns() {
    assert_snapshot!(shown(hostile(), SIZE));
}

#[test]
fn a_hostile_question_at_60_columns() {
    let size = Size {
        rows: 20,
        columns: 60,
    };
    assert_snapshot!(shown(hostile(), size));
}

#[test]
fn a_question_at_36_columns() {
    let size = Size {
        rows: 16,
        columns: 36,
    };
    assert_snapshot!(shown(view(), size));
}

#[test]
fn help_reason_and_narrower() {
    let mut seat = Seat::sized(
        view(),
        Size {
            rows: 22,
            columns: 60,
        },
    );
    seat.slowly("?");
    let help = seat.look();
    seat.slowly("xr");
    for c in "open a PR instead".chars() {
        seat.press(Key::Character(c));
    }
    let reason = seat.look();
    seat.slowly("\u{1b}n");
    let narrower = seat.wait(GAP).look();
    assert_snapshot!([help, reason, narrower].join("\n"));
}

#[test]
fn what_is_picked_is_shown_before_it_is_allowed() {
    let mut seat = Seat::new(view());
    let first = seat.look();
    seat.slowly("s");
    let picked = seat.look();
    let ready = seat.wait(GAP).look();
    seat.is_silent = true;
    seat.slowly("\u{1b}o");
    let repeats = seat.wait(GAP).look();
    let keys = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len() - 2].to_owned()
    };
    assert_snapshot!([first, picked, ready, repeats].map(|t| keys(&t)).join("\n"));
}

#[test]
fn a_long_text_must_be_read_to_its_end_before_it_can_be_allowed() {
    let mut seat = Seat::new(long());
    let first = seat.wait(SILENCE).look();
    assert!(
        !first.contains("[o]nce") && !first.contains("important"),
        "{first}"
    );
    for key in ["o\r", "s\r", "n1\r"] {
        assert_eq!(seat.slowly(key), Action::Redraw, "{key}");
        assert!(seat.dialog.is_in(&Mode::Ask), "{key}");
    }
    let mut pages = 0;
    seat.wait(SILENCE);
    while !seat.look().contains("rm -rf /important") {
        assert_eq!(seat.press(Key::Character(' ')), Action::Redraw);
        pages += 1;
        assert!(pages < 100);
    }
    assert!(pages >= 2, "{pages}");
    // The end has only just come: nobody can have read it.
    assert!(!seat.look().contains("[o]nce"));
    assert!(seat.wait(SILENCE).look().contains("[o]nce"));
    assert_eq!(seat.slowly("o\r"), allow(Scope::Once));
}

#[test]
fn another_size_must_be_read_anew() {
    let mut seat = Seat::new(long());
    seat.slowly(" ");
    seat.size = Size {
        rows: 20,
        columns: 60,
    };
    let text = seat.wait(SILENCE).look();
    assert!(text.contains("lines 1 to"), "{text}");
    assert_eq!(seat.slowly("o\r"), Action::Redraw);
    // Of a short question, too: it is another box.
    let mut seat = Seat::new(view());
    seat.slowly("o");
    seat.size.columns = 90;
    assert!(seat.wait(CALM).look().contains("wait…"));
    assert_eq!(seat.press(Key::Enter), Action::Nothing);
    assert_eq!(seat.slowly("o\r"), allow(Scope::Once));
}

#[test]
fn a_terminal_too_small_to_read_can_only_deny() {
    let mut seat = Seat::sized(
        view(),
        Size {
            rows: 4,
            columns: 40,
        },
    );
    assert!(seat.look().contains("enlarge"));
    for keys in ["o\r", "s\r", "n1\r", "1\r"] {
        assert!(!matches!(seat.slowly(keys), Action::Answer(_)), "{keys:?}");
    }
    assert_eq!(seat.slowly("d"), deny());
}

#[test]
fn the_smallest_terminals_show_the_keys_first() {
    for (columns, expected) in [
        (20, "[d]eny or enlarge "),
        (12, "[d]eny"),
        (40, "stockade asks"),
    ] {
        let text = shown(view(), Size { rows: 5, columns });
        assert!(
            text.contains(expected) && text.starts_with("[d]eny"),
            "{text:?}"
        );
    }
}

#[test]
fn a_paste_is_text_of_a_reason_and_nothing_else() {
    let pasted = |text: &str| -> Vec<Stroke> {
        text.chars()
            .map(|c| Stroke {
                key: Key::Pasted(c),
                is_single: text.len() == 1,
            })
            .collect()
    };
    let mut seat = Seat::new(view());
    for text in ["drosn?1", "o", "d"] {
        seat.wait(SILENCE);
        assert_eq!(seat.hear(pasted(text)), Action::Redraw);
        assert!(seat.dialog.is_in(&Mode::Ask), "{text}");
    }
    seat.slowly("o");
    seat.wait(SILENCE);
    seat.hear(pasted("\r"));
    assert!(
        seat.dialog.is_in(&Mode::Ask),
        "a paste takes back what was picked"
    );
    seat.slowly("r");
    assert_eq!(seat.hear(pasted("use a branch ")), Action::Redraw);
    assert!(seat.look().contains("reason: use a branch"));
    seat.hear(pasted(&"x".repeat(1000)));
    let Action::Answer(Answer::Deny {
        reason: Some(reason),
    }) = seat.slowly("\r")
    else {
        panic!("no reason");
    };
    assert_eq!(reason.chars().count(), 300);
    assert!(reason.starts_with("use a branch xxx"), "{reason}");
}

#[test]
fn keys_do_what_they_say_and_no_more() {
    let answer = |keys: &str| Seat::new(view()).slowly(keys);
    let deny_with = |reason: &str| {
        let reason = Some(reason.to_owned());
        Action::Answer(Answer::Deny { reason })
    };
    assert_eq!(answer("\r"), Action::Redraw, "typing");
    assert_eq!(answer("\u{1b}"), Action::Nothing);
    assert_eq!(answer("y"), Action::Redraw, "typing");
    assert_eq!(answer("O\r"), Action::Redraw, "typing");
    assert_eq!(answer("d"), deny());
    assert_eq!(answer("o"), Action::Redraw, "picked, not allowed");
    assert_eq!(answer("o\r"), allow(Scope::Once));
    assert_eq!(answer("s\r"), allow(Scope::Session));
    assert_eq!(answer("p\r"), Action::Redraw, "no paths are offered");
    assert_eq!(answer("so\r"), allow(Scope::Once), "another pick");
    assert_eq!(answer("od"), deny());
    assert_eq!(answer("o\u{1b}\r"), Action::Redraw, "taken back");
    assert_eq!(answer("oy\r"), Action::Redraw, "taken back");
    assert_eq!(answer("o \r"), Action::Redraw, "taken back");
    let until = Scope::Until(UnixMillis(NOW.0 + 600_000));
    assert_eq!(answer("n1\r"), allow(until));
    assert_eq!(answer("n2\r"), allow(Scope::Uses(5)));
    assert_eq!(answer("no\r"), Action::Redraw, "back, not once");
    assert_eq!(answer("?o"), Action::Redraw, "back, not once");
    assert_eq!(answer("ros\u{8}\r"), deny_with("o"));
    assert_eq!(answer("r\r"), deny());
    assert_eq!(answer("ro\u{1b}"), Action::Redraw);
}

#[test]
fn keys_that_came_in_a_bunch_are_typing() {
    let bunch = |text: &str| -> Vec<Stroke> {
        let stroke = |c| Stroke {
            key: key(c),
            is_single: false,
        };
        text.chars().map(stroke).collect()
    };
    let mut seat = Seat::new(view());
    for keys in ["o", "s", "d", "o\r"] {
        seat.wait(SILENCE);
        assert_eq!(seat.hear(bunch(keys)), Action::Redraw, "{keys}");
        assert!(seat.look().contains("wait…"));
    }
    seat.slowly("o");
    seat.wait(SILENCE);
    assert_eq!(seat.hear(bunch("\r")), Action::Redraw);
    seat.slowly("n");
    seat.wait(SILENCE);
    assert_eq!(seat.hear(bunch("1")), Action::Redraw);
    assert!(seat.dialog.is_in(&Mode::Ask));
    // Moving in the text is as fast as a key repeats.
    let mut seat = Seat::new(long());
    seat.wait(SILENCE);
    assert_eq!(seat.hear(bunch("   ")), Action::Redraw);
    assert!(!seat.look().contains("lines 1 to"));
}

#[test]
fn only_what_the_rule_allows_is_offered() {
    let mut once = view();
    once.scope_max = Some(Scope::Once);
    let mut seat = Seat::new(once);
    let text = seat.wait(SILENCE).look();
    assert!(text.contains("[o]nce") && !text.contains("[s]ession") && !text.contains("[n]"));
    for keys in ["s\r", "n1\r"] {
        assert_eq!(seat.slowly(keys), Action::Redraw);
        assert!(seat.dialog.is_in(&Mode::Ask));
    }
    let mut none = view();
    none.scope_max = None;
    let mut seat = Seat::new(none);
    assert!(!seat.wait(SILENCE).look().contains("[o]nce"));
    assert_eq!(seat.slowly("o\r"), Action::Redraw);
}

#[test]
fn nobody_at_the_terminal_allows_what_people_in_roles_are_asked() {
    let mut asked = view();
    asked.scope_max = None;
    asked.waits_for = Some("owner, then two of security".to_owned());
    let mut seat = Seat::new(asked);
    let text = seat.wait(SILENCE).look();
    assert!(
        text.contains("waiting for owner, then two of security"),
        "{text}"
    );
    assert!(
        !text.contains("[o]nce") && !text.contains("[a]lways"),
        "{text}"
    );
    for keys in ["o\r", "s\r", "a\r", "n1\r"] {
        assert_eq!(seat.slowly(keys), Action::Redraw);
        assert!(seat.dialog.is_in(&Mode::Ask));
    }
    let more = "owner, then two of security; now security, 1 of 2".to_owned();
    assert!(seat.dialog.wait_for(Some(more.clone())) && !seat.dialog.wait_for(Some(more)));
    let text = seat.wait(SILENCE).look();
    assert!(text.contains("now security, 1 of 2"), "{text}");
}

#[test]
fn no_key_counts_before_the_terminal_has_shown_the_box() {
    let now = Instant::now();
    let mut dialog = Dialog::new(view(), 1, 1, now);
    let mut press = |c, sight, at| {
        let heard = Heard {
            strokes: vec![Stroke {
                key: key(c),
                is_single: true,
            }],
            is_input: true,
            ..Heard::default()
        };
        let action = dialog.input(&heard, sight, at, NOW);
        dialog.draw(SIZE, NOW);
        dialog.take_change();
        action
    };
    let minute = Duration::from_mins(1);
    for c in ['o', 'd', '\r'] {
        assert_eq!(press(c, Sight::No, now + minute), Action::Nothing, "{c}");
    }
    // It came long after the box was queued; the silence begins with it.
    let told = Sight::Told(now + 2 * minute);
    let soon = now + 2 * minute + CALM;
    assert_eq!(press('d', told, soon), Action::Nothing);
    assert_eq!(press('d', told, soon + CALM), Action::Nothing, "typed on");
    let calm = soon + CALM + SILENCE;
    assert_eq!(press('o', told, calm), Action::Redraw);
    // What is picked must have been shown, too.
    assert_eq!(press('\r', Sight::No, calm + minute), Action::Redraw);
    let told = Sight::Told(calm + minute);
    let again = calm + minute + SILENCE;
    assert_eq!(press('o', told, again), Action::Redraw);
    let picked = Sight::Told(again);
    assert_eq!(press('\r', picked, again + GAP), allow(Scope::Once));
}

#[test]
fn enter_too_soon_after_the_letter_allows_nothing() {
    for (pause, allows) in [(50, false), (250, false), (499, false), (500, true)] {
        let mut seat = Seat::new(view());
        seat.slowly("o");
        seat.wait(Duration::from_millis(pause));
        let expected = if allows {
            allow(Scope::Once)
        } else {
            Action::Redraw
        };
        assert_eq!(seat.press(Key::Enter), expected, "after {pause} ms");
        if !allows {
            assert_eq!(seat.wait(CALM).press(Key::Enter), Action::Nothing);
        }
    }
}

#[test]
fn a_terminal_that_says_nothing_is_answered_by_what_stands_in_the_box() {
    let mut seat = Seat::new(view());
    seat.is_silent = true;
    seat.slowly("o");
    assert_eq!(seat.slowly("\r"), Action::Redraw, "Enter alone");
    assert!(seat.dialog.is_in(&Mode::Ask));
    seat.slowly("o");
    let text = seat.wait(GAP).look();
    let (_, code) = text.split_once("type ").unwrap();
    let code = &code[..4];
    let wrong = if code.starts_with('0') { "1" } else { "0" };
    seat.slowly(wrong);
    assert!(seat.dialog.is_in(&Mode::Ask), "a wrong digit takes it back");
    seat.slowly("o");
    // Digits as fast as a person types them.
    for c in code.chars() {
        assert_eq!(
            seat.wait(Duration::from_millis(120))
                .press(Key::Character(c)),
            Action::Redraw
        );
    }
    assert!(seat.look().contains("press Enter to allow"));
    assert_eq!(seat.slowly("\r"), allow(Scope::Once));
}

/// A question whose answer can be kept.
fn lasting() -> QuestionView {
    let rule = LastingRule {
        risk: None,
        form: RuleForm::Allow,
        conditions: "what = \"net\"\n".to_owned(),
        words: "any program here may connect".to_owned(),
    };
    QuestionView {
        lasting: Some(Lasting {
            rule,
            workspace: "/w".to_owned(),
        }),
        ..view()
    }
}

#[test]
fn always_is_picked_and_confirmed_as_any_other_answer() {
    let mut seat = Seat::new(lasting());
    seat.slowly("a");
    assert!(seat.look().contains("allow always"), "{}", seat.look());
    assert_eq!(seat.slowly("\r"), Action::Keep(Scope::Session));
    // Where no rule would answer, the key is none.
    let mut seat = Seat::new(view());
    seat.slowly("a");
    assert!(seat.dialog.is_in(&Mode::Ask));
    let mut seat = Seat::new(view());
    assert_eq!(seat.slowly("x"), Action::Answer(Answer::DenySession));
}

/// A question about one request.
fn request() -> QuestionView {
    let paths = "GET, HEAD of api.test:443/v1/items/**";
    let mut view = QuestionView {
        paths: Some(paths.to_owned()),
        ..lasting()
    };
    view.shown.rows = vec![
        row("request", "GET api.test:443/v1/items/7?page=2"),
        row(
            "by",
            "/usr/bin/curl  curl https://api.test/v1/items/7?page=2",
        ),
        row("why asked", "rule items (user): reads of the shop"),
        row("once", "exactly this request of this program, one time"),
        row(
            "session",
            "any program here, this method and path on this host",
        ),
        row(
            "paths",
            "any program here, GET, HEAD of api.test:443/v1/items/**, with any query and content",
        ),
    ];
    view
}

#[test]
fn a_question_about_a_request_at_80_columns() {
    let mut seat = Seat::new(request());
    let asked = seat.wait(SILENCE).look();
    seat.slowly("p");
    assert_snapshot!([asked, seat.look()].join("\n"));
    assert_eq!(seat.slowly("\r"), allow(Scope::Paths));
}

/// Types lines of prose at a rhythm, through the moment at which a question opens, and returns
/// what was answered. A terminal's answer takes `lag`.
fn types(text: &str, rhythm: impl Fn(usize) -> u64, opened: u64, lag: u64) -> Option<Answer> {
    let begun = Instant::now();
    let at = |ms: u64| begun + Duration::from_millis(ms);
    let mut dialog = Dialog::new(lasting(), 1, 1, at(opened));
    let mut keys = Keys::default();
    let sight = |told: Option<u64>, now: u64| match told {
        Some(told) if told <= now => Sight::Told(at(told)),
        Some(_) | None => Sight::No,
    };
    dialog.draw(SIZE, NOW);
    dialog.take_change();
    let mut told = Some(opened + lag);
    let (mut time, mut looked) = (0, opened);
    for (index, c) in text.chars().enumerate() {
        time += rhythm(index);
        if time < opened {
            continue;
        }
        // The relay looks every 50 ms.
        for tick in (looked..time).step_by(50) {
            dialog.listen(sight(told, tick), at(tick));
        }
        looked = time;
        let byte = if c == '\n' { '\r' } else { c };
        let heard = keys.push(byte.to_string().as_bytes(), at(time));
        match dialog.input(&heard, sight(told, time), at(time), NOW) {
            Action::Nothing => {}
            Action::Redraw => {
                dialog.draw(SIZE, NOW);
                if dialog.take_change() {
                    told = Some(time + lag);
                }
            }
            Action::Answer(answer) => return Some(answer),
            Action::Keep(scope) => return Some(Answer::Allow { scope }),
        }
    }
    None
}

#[test]
fn nobody_allows_by_typing_to_the_agent() {
    let texts = [
        "please use the other tools, so that it works on all of our systems\nso\nls\no\n",
        "o\ns\no\ns\no\ns\no\ns\no\ns\no\ns\no\ns\no\ns\no\ns\no\ns\n",
        "ls\nso\nno\nn1\nn2\ns o s o\nis it so\ngo\n1\n2\no\n",
        "a\na\nla\na cat\na\na\ns\na\n",
    ];
    for text in texts {
        for ms in [50, 70, 90, 110, 130, 160, 200, 250] {
            for opened in (0..6_000).step_by(91) {
                for lag in [0, 700] {
                    // Hands are not clocks, and stop to think: after a line, or in the middle of
                    // a word, for longer than the silence.
                    let steady = |_: usize| ms;
                    let uneven = |index: usize| ms / 2 + (u64::try_from(index).unwrap() * 7) % ms;
                    let thinks = |index: usize| {
                        let pause = if index % 5 == 3 { 1_700 } else { 0 };
                        ms + pause
                    };
                    let lines = |index: usize| {
                        let before = index.checked_sub(1).and_then(|i| text.chars().nth(i));
                        ms + if before == Some('\n') { 2_300 } else { 0 }
                    };
                    let rhythms: [&dyn Fn(usize) -> u64; 4] = [&steady, &uneven, &thinks, &lines];
                    for (index, rhythm) in rhythms.iter().enumerate() {
                        let answer = types(text, rhythm, opened, lag);
                        assert!(
                            !matches!(answer, Some(Answer::Allow { .. })),
                            "{text:?} at {ms} ms (rhythm {index}) allowed what opened at {opened}"
                        );
                    }
                }
            }
        }
    }
    // Control: who reads and answers is heard.
    let reads = |index: usize| if index == 0 { 2_000 } else { 700 };
    assert!(matches!(
        types("o\n", reads, 0, 50),
        Some(Answer::Allow { scope: Scope::Once })
    ));
}
