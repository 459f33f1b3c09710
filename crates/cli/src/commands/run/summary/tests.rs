use stockade_event::{
    SessionOutcome, Summary, Usage,
    summary::{Refusal, Traffic},
};
use stockade_types::{DecisionId, RequestKind, SessionId, Target};

use super::{Extra, render, to_json};

fn refusal(target: &str, rule: Option<&str>, answered: Option<&str>, count: u64) -> Refusal {
    Refusal {
        kind: RequestKind::Net,
        target: target.to_owned(),
        at: Target::default(),
        rule: rule.map(|rule| rule.parse().unwrap()),
        reason: "because".to_owned(),
        remedy: match rule {
            Some(_) => String::new(),
            None => "no rule can allow it".to_owned(),
        },
        answered: answered.map(str::to_owned),
        count,
        decision: DecisionId::new(1),
    }
}

fn session() -> SessionId {
    SessionId::from_random(0x3f2a_0000_0000_0001)
}

fn sample() -> Summary {
    let mut summary = Summary {
        session: Some(session()),
        command: vec!["/usr/bin/codex".into(), "exec".into()],
        workspace: "/home/u/shop".into(),
        outcome: Some(SessionOutcome::Exited { code: 0 }),
        duration_ms: Some(14 * 60_000),
        events: 4318,
        processes: 412,
        commands: 31,
        asked: 2,
        asks_allowed: 1,
        asks_denied: 1,
        ..Summary::default()
    };
    for path in ["src/cart.rs", "src/lib.rs"] {
        summary
            .changed_files
            .insert(format!("/home/u/shop/{path}").as_str().into(), 2);
    }
    let traffic = |connections, bytes_out| Traffic {
        failed: 0,
        connections,
        bytes_out,
        bytes_in: 0,
    };
    summary
        .connections
        .insert("registry.test:443".to_owned(), traffic(4, 11_000));
    summary
        .connections
        .insert("model.test:443".to_owned(), traffic(96, 1_200_000));
    summary.usage = Some(Usage {
        cpu_user_us: Some(80_000_000),
        cpu_system_us: Some(9_000_000),
        memory_peak_bytes: Some(412_000_000),
        ..Usage::default()
    });
    summary.refused = vec![
        refusal("paste.test", Some("paste-sites"), None, 1),
        refusal(
            "git push --force",
            Some("push"),
            Some("terminal: open a PR instead"),
            1,
        ),
        refusal("169.254.169.254", None, None, 2),
    ];
    summary
}

#[test]
fn the_end_of_a_run_reads_at_a_glance() {
    let text = render(
        &sample(),
        &session(),
        Extra {
            lines_changed: Some((212, 40)),
            ..Extra::default()
        },
    );
    let expected = "\
stockade: session 3f2a ended, codex exited 0 after 14 min
  ran        412 processes in 31 commands        asked 2 (1 allowed, 1 denied)
  used       1 min of processor time, 412 MB of memory at most
  changed    2 files: +212 −40  src/cart.rs  src/lib.rs  (`stockade show 3f2a`)
  connected  model.test 96× 1.2 MB out · registry.test 4× 11 kB out
  refused    4: paste.test (deny paste-sites)
             git push --force (asked, denied by terminal: open a PR instead)
             169.254.169.254 2× (no rule allows it)
             → no rule can allow it
  record     4,318 events, not verified yet · stockade log verify 3f2a
";
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
    let json = to_json(&sample(), Extra::default());
    assert_eq!(json["summary"]["processes"], 412);
    assert_eq!(json["denials"], 4);
}

#[test]
fn a_quiet_run_takes_three_lines() {
    let summary = Summary {
        session: Some(session()),
        command: vec!["true".into()],
        outcome: Some(SessionOutcome::Killed {
            reason: "wall time".to_owned(),
        }),
        duration_ms: Some(900),
        processes: 1,
        events: 5,
        ..Summary::default()
    };
    let text = render(&summary, &session(), Extra::default());
    assert_eq!(
        text,
        "stockade: session 3f2a ended, killed by stockade: wall time after 900 ms\n  \
         ran        1 process\n  \
         record     5 events, not verified yet · stockade log verify 3f2a\n"
    );
}

#[test]
fn a_session_without_an_end_is_running_or_was_cut_off() {
    let headline = |summary: &Summary, running| {
        let extra = Extra {
            running,
            ..Extra::default()
        };
        let text = render(summary, &session(), extra);
        text.lines().next().unwrap_or_default().to_owned()
    };
    let open = Summary {
        outcome: None,
        ..sample()
    };
    assert_eq!(
        headline(&open, true),
        "stockade: session 3f2a has not ended, codex may be running"
    );
    let cut_off = "stockade: session 3f2a is unfinished, its record has no end";
    assert_eq!(headline(&open, false), cut_off);
    // A record that was emptied does not even name its session.
    assert_eq!(headline(&Summary::default(), false), cut_off);
}

#[test]
fn what_nobody_was_asked_about_is_not_called_an_answer() {
    let mut summary = sample();
    summary.refused = vec![
        refusal(
            "a",
            Some("e1"),
            Some("desk: too many questions are open"),
            1,
        ),
        refusal("b", Some("e1"), Some("denied-before: denied 3 times"), 1),
        refusal("c", Some("e1"), Some("inbox uid 1000"), 1),
    ];
    let text = render(&summary, &session(), Extra::default());
    for line in [
        "a (not asked: too many questions are open)",
        "b (not asked: denied 3 times)",
        "c (asked, denied by inbox uid 1000)",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn hostile_names_stay_inert() {
    let mut summary = sample();
    summary.command = vec!["/bin/\u{1b}[2J".into()];
    summary
        .changed_files
        .insert("/home/u/shop/\u{202e}x\n".into(), 1);
    summary
        .connections
        .insert("a\u{1b}]0;x\u{7}".to_owned(), Traffic::default());
    summary.limits.push("memory\r\n\u{9b}2J".to_owned());
    let text = render(&summary, &session(), Extra::default());
    let visible = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
    assert!(text.chars().all(visible), "{text:?}");
}
