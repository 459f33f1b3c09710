use std::time::{Duration, Instant};

use insta::assert_snapshot;
use stockade_policy::Scope;
use stockade_runner::approvals::{Answer, QuestionView};
use stockade_types::UnixMillis;

use super::{
    super::{
        card::Mode,
        dialog::{Action, DEAF, Dialog, Input},
        keys::{Key, Stroke},
        layout::Color,
        screen::Size,
        text::columns,
    },
    SIZE, row, view,
};

const NOW: UnixMillis = UnixMillis(1_008_000);

fn shown(dialog: &mut Dialog, size: Size) -> String {
    let drawn = dialog.draw(size, NOW);
    for (_, line) in &drawn.lines {
        assert_eq!(columns(line), drawn.width, "{line}");
        assert!(drawn.width < usize::from(size.columns));
    }
    assert!(drawn.lines.len() < usize::from(size.rows));
    drawn.styled(Color::None).join("\n")
}

fn open(view: QuestionView) -> Dialog {
    Dialog::new(view, 1, 1, Instant::now())
}

fn press(dialog: &mut Dialog, key: char) -> Action {
    dialog.key(
        Stroke {
            key: Key::Character(key),
            is_single: true,
        },
        NOW,
    )
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
    assert_snapshot!(shown(&mut open(view()), SIZE));
}

#[test]
fn a_hostile_question_at_80_columns() {
    assert_snapshot!(shown(&mut open(hostile()), SIZE));
}

#[test]
fn a_hostile_question_at_60_columns() {
    assert_snapshot!(shown(
        &mut open(hostile()),
        Size {
            rows: 20,
            columns: 60
        }
    ));
}

#[test]
fn a_question_at_36_columns() {
    assert_snapshot!(shown(
        &mut open(view()),
        Size {
            rows: 16,
            columns: 36
        }
    ));
}

#[test]
fn help_reason_and_narrower() {
    let mut dialog = open(view());
    let size = Size {
        rows: 20,
        columns: 60,
    };
    shown(&mut dialog, size);
    press(&mut dialog, '?');
    let help = shown(&mut dialog, size);
    press(&mut dialog, 'x');
    press(&mut dialog, 'r');
    for c in "open a PR instead".chars() {
        press(&mut dialog, c);
    }
    let reason = shown(&mut dialog, size);
    dialog.key(
        Stroke {
            key: Key::Escape,
            is_single: true,
        },
        NOW,
    );
    press(&mut dialog, 'n');
    let narrower = shown(&mut dialog, size);
    assert_snapshot!([help, reason, narrower].join("\n"));
}

#[test]
fn a_long_text_must_be_read_to_its_end_before_it_can_be_allowed() {
    let mut dialog = open(long());
    let first = shown(&mut dialog, SIZE);
    assert!(
        !first.contains("[o]nce") && !first.contains("important"),
        "{first}"
    );
    for key in ['o', 's', 'n'] {
        assert_eq!(press(&mut dialog, key), Action::Nothing, "{key}");
    }
    let mut pages = 0;
    while !shown(&mut dialog, SIZE).contains("[o]nce") {
        assert_eq!(press(&mut dialog, ' '), Action::Redraw);
        pages += 1;
        assert!(pages < 100);
    }
    assert!(shown(&mut dialog, SIZE).contains("rm -rf /important"));
    assert!(pages >= 2, "{pages}");
    assert_eq!(
        press(&mut dialog, 'o'),
        Action::Answer(Answer::Allow { scope: Scope::Once })
    );
}

#[test]
fn another_size_must_be_read_anew() {
    let mut dialog = open(long());
    shown(&mut dialog, SIZE);
    press(&mut dialog, ' ');
    shown(&mut dialog, SIZE);
    let narrow = Size {
        rows: 20,
        columns: 60,
    };
    assert!(shown(&mut dialog, narrow).contains("lines 1 to"));
    assert_eq!(press(&mut dialog, 'o'), Action::Nothing);
}

#[test]
fn a_terminal_too_small_to_read_can_only_deny() {
    let mut dialog = open(view());
    let tiny = Size {
        rows: 4,
        columns: 40,
    };
    assert!(shown(&mut dialog, tiny).contains("enlarge"));
    for key in ['o', 's', 'n', '1'] {
        assert!(
            !matches!(press(&mut dialog, key), Action::Answer(_)),
            "{key}"
        );
    }
    assert_eq!(
        press(&mut dialog, 'd'),
        Action::Answer(Answer::Deny { reason: None })
    );
}

#[test]
fn the_smallest_terminals_show_the_keys_first() {
    for (columns, expected) in [
        (20, "[d]eny or enlarge "),
        (12, "[d]eny"),
        (40, "stockade asks"),
    ] {
        let size = Size { rows: 5, columns };
        let text = shown(&mut open(view()), size);
        assert!(
            text.contains(expected) && text.starts_with("[d]eny"),
            "{text:?}"
        );
    }
}

#[test]
fn a_paste_is_text_of_a_reason_and_nothing_else() {
    let paste = |dialog: &mut Dialog, text: &str| {
        let mut last = Action::Nothing;
        for c in text.chars() {
            let stroke = Stroke {
                key: Key::Pasted(c),
                is_single: true,
            };
            last = dialog.key(stroke, NOW);
        }
        last
    };
    let mut dialog = open(view());
    shown(&mut dialog, SIZE);
    assert_eq!(paste(&mut dialog, "drosn?1"), Action::Nothing);
    assert!(dialog.is_in(&Mode::Ask));
    for (key, mode) in [('n', Mode::Narrow), ('?', Mode::Help)] {
        press(&mut dialog, key);
        assert_eq!(paste(&mut dialog, "o1"), Action::Nothing);
        assert!(dialog.is_in(&mode), "{key}");
        press(&mut dialog, 'x');
    }
    press(&mut dialog, 'r');
    assert_eq!(paste(&mut dialog, "use a branch "), Action::Redraw);
    assert!(shown(&mut dialog, SIZE).contains("reason: use a branch"));
    paste(&mut dialog, &"x".repeat(1000));
    let enter = Stroke {
        key: Key::Enter,
        is_single: true,
    };
    let Action::Answer(Answer::Deny {
        reason: Some(reason),
    }) = dialog.key(enter, NOW)
    else {
        panic!("no reason");
    };
    assert_eq!(reason.chars().count(), 300);
    assert!(reason.starts_with("use a branch xxx"), "{reason}");
}

#[test]
fn keys_do_what_they_say_and_no_more() {
    let answer = |keys: &str| {
        let mut dialog = open(view());
        shown(&mut dialog, SIZE);
        let mut last = Action::Nothing;
        for key in keys.chars() {
            let key = match key {
                '\r' => Key::Enter,
                '\u{1b}' => Key::Escape,
                '\u{8}' => Key::Backspace,
                other => Key::Character(other),
            };
            last = dialog.key(
                Stroke {
                    key,
                    is_single: true,
                },
                NOW,
            );
        }
        last
    };
    let deny = |reason: Option<&str>| {
        Action::Answer(Answer::Deny {
            reason: reason.map(str::to_owned),
        })
    };
    let allow = |scope| Action::Answer(Answer::Allow { scope });
    assert_eq!(answer("\r"), Action::Nothing);
    assert_eq!(answer("\u{1b}"), Action::Nothing);
    assert_eq!(answer("y"), Action::Nothing);
    assert_eq!(answer("O"), Action::Nothing);
    assert_eq!(answer("d"), deny(None));
    assert_eq!(answer("o"), allow(Scope::Once));
    assert_eq!(answer("s"), allow(Scope::Session));
    assert_eq!(
        answer("n1"),
        allow(Scope::Until(UnixMillis(NOW.0 + 600_000)))
    );
    assert_eq!(answer("n2"), allow(Scope::Uses(5)));
    assert_eq!(answer("no"), Action::Redraw, "back, not once");
    assert_eq!(answer("?o"), Action::Redraw, "back, not once");
    assert_eq!(answer("ros\u{8}\r"), deny(Some("o")));
    assert_eq!(answer("r\r"), deny(None));
    assert_eq!(answer("ro\u{1b}"), Action::Redraw);
}

#[test]
fn keys_that_came_in_a_bunch_allow_nothing() {
    let mut dialog = open(view());
    shown(&mut dialog, SIZE);
    for key in ['o', 's', 'd'] {
        let stroke = Stroke {
            key: Key::Character(key),
            is_single: false,
        };
        assert_eq!(dialog.key(stroke, NOW), Action::Nothing, "{key}");
    }
    press(&mut dialog, 'n');
    let stroke = Stroke {
        key: Key::Character('1'),
        is_single: false,
    };
    assert_eq!(dialog.key(stroke, NOW), Action::Nothing);
    assert!(dialog.is_in(&Mode::Narrow));
}

#[test]
fn only_what_the_rule_allows_is_offered() {
    let mut once = view();
    once.scope_max = Some(Scope::Once);
    let mut dialog = open(once);
    let text = shown(&mut dialog, SIZE);
    assert!(text.contains("[o]nce") && !text.contains("[s]ession") && !text.contains("[n]"));
    assert_eq!(press(&mut dialog, 's'), Action::Nothing);
    assert_eq!(press(&mut dialog, 'n'), Action::Nothing);
    let mut none = view();
    none.scope_max = None;
    let mut dialog = open(none);
    assert!(!shown(&mut dialog, SIZE).contains("[o]nce"));
    assert_eq!(press(&mut dialog, 'o'), Action::Nothing);
}

#[test]
fn nothing_typed_early_counts_and_typing_on_keeps_it_deaf() {
    let begun = Instant::now();
    let mut dialog = Dialog::new(view(), 1, 1, begun);
    let mut now = begun;
    for _ in 0..20 {
        assert!(!dialog.is_awake(now, Input::Some));
        now += Duration::from_millis(50);
    }
    assert!(!dialog.is_awake(now, Input::None));
    assert!(dialog.is_awake(now + Duration::from_millis(100), Input::Some));
    let mut calm = Dialog::new(view(), 1, 1, begun);
    assert!(calm.is_awake(begun + DEAF, Input::Some));
}

#[test]
fn after_a_question_that_went_by_itself_a_longer_silence_is_needed() {
    let begun = Instant::now();
    let mut dialog = Dialog::new(view(), 1, 1, begun);
    let second = Duration::from_secs(1);
    dialog.stay_deaf(second, begun);
    let typed = begun + Duration::from_millis(900);
    assert!(!dialog.is_awake(typed, Input::Some));
    assert!(!dialog.is_awake(typed + Duration::from_millis(900), Input::None));
    assert!(dialog.is_awake(typed + second, Input::Some));
}
