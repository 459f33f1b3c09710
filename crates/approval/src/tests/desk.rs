//! The desk, and the text of questions.

use super::*;

#[test]
fn once_lets_one_request_through_and_asks_the_next() {
    let lab = Lab::new(AskMode::Tty);
    let first = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Once), Person::Terminal)
        .unwrap();
    assert!(matches!(first.join().unwrap(), Outcome::Granted { id: used, .. } if used == id));
    assert_eq!(
        lab.events(),
        ["requested", "allow by terminal once", "used for d-19"]
    );

    let second = lab.ask(connect("registry.test"), Scope::Session);
    let again = lab.pending(1)[0].id.clone();
    assert_ne!(again, id);
    lab.desk.answer(&again, deny(), Person::Terminal).unwrap();
    let expected = Outcome::Refused {
        id: Some(again),
        by: Person::Terminal.into(),
        reason: "open a PR".to_owned(),
    };
    assert_eq!(second.join().unwrap(), expected);
}

#[test]
fn a_session_grant_needs_no_second_question_and_ends_when_it_is_revoked() {
    let lab = Lab::new(AskMode::Inbox);
    let first = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Session), Person::Inbox { uid: 1000 })
        .unwrap();
    assert!(matches!(first.join().unwrap(), Outcome::Granted { .. }));
    let second = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert!(matches!(second, Outcome::Granted { .. }));

    let elsewhere = lab.ask(connect("paste.test"), Scope::Session);
    let other = lab.pending(1)[0].id.clone();
    lab.desk.answer(&other, deny(), Person::Terminal).unwrap();
    assert_eq!(refused_by(elsewhere.join().unwrap()), "terminal");

    assert_eq!(lab.desk.revoke(&id, Person::Terminal), Ok(true));
    assert_eq!(lab.desk.revoke(&id, Person::Terminal), Ok(false));
    assert!(lab.events().contains(&"revoked by terminal".to_owned()));
    let third = lab.ask(connect("registry.test"), Scope::Session);
    assert_eq!(lab.pending(1).len(), 1);
    lab.desk.close();
    assert_eq!(refused_by(third.join().unwrap()), "session-end");
}

#[test]
fn requests_of_one_shape_share_a_question() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..5)
        .map(|_| lab.ask(connect("registry.test"), Scope::Session))
        .collect();
    let id = lab.waiting(5);
    lab.desk
        .answer(&id, allow(Scope::Session), Person::Terminal)
        .unwrap();
    for ask in asks {
        assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    }
    assert_eq!(
        lab.events()
            .iter()
            .filter(|event| *event == "requested")
            .count(),
        1
    );
}

#[test]
fn once_for_several_lets_exactly_one_through() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..3)
        .map(|_| lab.ask(connect("registry.test"), Scope::Session))
        .collect();
    let id = lab.waiting(3);
    lab.desk
        .answer(&id, allow(Scope::Once), Person::Terminal)
        .unwrap();
    let next = lab.waiting(2);
    assert_ne!(next, id);
    lab.desk.answer(&next, deny(), Person::Terminal).unwrap();
    let outcomes: Vec<Outcome> = asks.into_iter().map(|ask| ask.join().unwrap()).collect();
    let granted = outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Granted { .. }))
        .count();
    assert_eq!(granted, 1, "{outcomes:?}");
}

fn by(exe: &str, host: &str) -> Request {
    let Request::Net(mut net) = connect(host) else {
        panic!("net")
    };
    net.subject.exe = exe.into();
    Request::Net(net)
}

#[test]
fn another_program_has_a_question_of_its_own_and_takes_no_counted_answer() {
    let lab = Lab::new(AskMode::Tty);
    let node = lab.ask(by("/usr/bin/node", "registry.test"), Scope::Session);
    lab.pending(1);
    let curl = lab.ask(by("/usr/bin/curl", "registry.test"), Scope::Session);
    let both = lab.pending(2);
    let of = |exe: &str| {
        let asks = |q: &&Question| q.request.subject().exe == exe.into();
        both.iter().find(asks).unwrap().id.clone()
    };
    lab.desk
        .answer(&of("/usr/bin/node"), allow(Scope::Once), Person::Terminal)
        .unwrap();
    assert!(matches!(node.join().unwrap(), Outcome::Granted { .. }));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lab.pending(1)[0].id, of("/usr/bin/curl"));
    lab.desk
        .answer(&of("/usr/bin/curl"), deny(), Person::Terminal)
        .unwrap();
    assert_eq!(refused_by(curl.join().unwrap()), "terminal");
}

#[test]
fn an_answer_for_the_session_closes_the_questions_that_it_covers() {
    let lab = Lab::new(AskMode::Tty);
    let node = lab.ask(by("/usr/bin/node", "registry.test"), Scope::Session);
    let first = lab.pending(1)[0].id.clone();
    let curl = lab.ask(by("/usr/bin/curl", "registry.test"), Scope::Session);
    let other = lab.ask(by("/usr/bin/curl", "paste.test"), Scope::Session);
    lab.pending(3);
    lab.desk
        .answer(&first, allow(Scope::Session), Person::Terminal)
        .unwrap();
    for ask in [node, curl] {
        let outcome = ask.join().unwrap();
        assert!(matches!(outcome, Outcome::Granted { id, .. } if id == first));
    }
    let left = lab.pending(1).remove(0);
    assert_eq!(left.request.target().summary(), "paste.test:443");
    let covered = format!("allow by approval {first}");
    assert!(lab.events().contains(&covered), "{:?}", lab.events());
    lab.desk.close();
    assert_eq!(refused_by(other.join().unwrap()), "session-end");
}

#[test]
fn an_answer_that_comes_after_its_program_is_gone_is_kept_for_nobody() {
    let lab = Lab::new(AskMode::Tty);
    for _ in 0..20 {
        let wanted = Arc::new(AtomicBool::new(true));
        let ask = lab.ask_while(
            connect("registry.test"),
            Scope::Session,
            Arc::clone(&wanted),
        );
        let id = lab.pending(1)[0].id.clone();
        wanted.store(false, Ordering::SeqCst);
        // Either the program that asked used it, or it is not a grant.
        drop(lab.desk.answer(&id, allow(Scope::Once), Person::Terminal));
        drop(ask.join().unwrap());
        let grants = lab.desk.grants();
        let left = grants.iter().filter(|g| !g.revoked && g.used == 0);
        assert_eq!(left.count(), 0);
    }
    assert!(lab.desk.pending().is_empty());
}

#[test]
fn those_who_wait_for_one_answer_are_bounded() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..64)
        .map(|_| lab.ask(connect("registry.test"), Scope::Session))
        .collect();
    let id = lab.waiting(64);
    let more = lab.ask(connect("registry.test"), Scope::Session);
    let Outcome::Refused { by, reason, .. } = more.join().unwrap() else {
        panic!("granted")
    };
    assert_eq!(by, Circumstance::Desk.into());
    assert_eq!(reason, "64 requests wait for this answer");
    lab.desk
        .answer(&id, allow(Scope::Session), Person::Terminal)
        .unwrap();
    for ask in asks {
        assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    }
}

#[test]
fn those_who_wait_for_any_answer_are_bounded() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..256)
        .map(|n| lab.ask(connect(&format!("h{}.test", n % 8)), Scope::Session))
        .collect();
    let begun = Instant::now();
    let waiting = || {
        lab.desk
            .views()
            .iter()
            .map(|view| view.waiting)
            .sum::<u32>()
    };
    while waiting() < 256 {
        assert!(begun.elapsed() < PATIENCE, "{} wait", waiting());
        std::thread::sleep(Duration::from_millis(2));
    }
    let more = lab.ask(connect("more.test"), Scope::Session);
    assert_eq!(refused_by(more.join().unwrap()), "desk");
    lab.desk.close();
    for ask in asks {
        assert_eq!(refused_by(ask.join().unwrap()), "session-end");
    }
}

#[test]
fn an_answer_is_final() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("paste.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
    for answer in [allow(Scope::Once), allow(Scope::Session), deny()] {
        let error = lab
            .desk
            .answer(&id, answer, Person::Inbox { uid: 1000 })
            .unwrap_err();
        assert!(
            matches!(
                error,
                AnswerError::Settled {
                    verdict: Verdict::Deny,
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(refused_by(ask.join().unwrap()), "terminal");
    assert!(lab.desk.grants().is_empty());
    let unknown = ApprovalId::from_random(7);
    assert_eq!(
        lab.desk.answer(&unknown, deny(), Person::Terminal),
        Err(AnswerError::Unknown(unknown))
    );
}

#[test]
fn an_expired_question_is_denied_and_cannot_be_allowed() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let question = lab.pending(1).remove(0);
    assert_eq!(question.expires.0 - question.asked.0, 300_000);
    lab.time.store(question.expires.0, Ordering::SeqCst);
    let late = lab
        .desk
        .answer(&question.id, allow(Scope::Once), Person::Terminal)
        .unwrap_err();
    assert!(
        matches!(late, AnswerError::Expired(_) | AnswerError::Settled { .. }),
        "{late}"
    );
    assert_eq!(refused_by(ask.join().unwrap()), "timeout");
    assert!(lab.events().contains(&"deny by timeout".to_owned()));
}

#[test]
fn what_is_not_recorded_is_denied() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.broken.store(true, Ordering::SeqCst);
    let error = lab
        .desk
        .answer(&id, allow(Scope::Session), Person::Terminal)
        .unwrap_err();
    assert_eq!(
        error,
        AnswerError::NotRecorded("the disk is full".to_owned())
    );
    assert_eq!(refused_by(ask.join().unwrap()), "journal");
    assert!(lab.desk.grants().is_empty());

    let unseen = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(unseen), "journal");
    assert!(lab.desk.pending().is_empty());
}

#[test]
fn a_use_that_is_not_recorded_is_denied() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Session), Person::Terminal)
        .unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    lab.broken.store(true, Ordering::SeqCst);
    let second = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(second), "journal");
}

#[test]
fn the_third_denial_of_a_shape_is_the_last_question() {
    let lab = Lab::new(AskMode::Tty);
    for _ in 0..3 {
        let ask = lab.ask(connect("paste.test"), Scope::Session);
        let id = lab.pending(1)[0].id.clone();
        lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
        assert_eq!(refused_by(ask.join().unwrap()), "terminal");
    }
    let asked = lab.events().len();
    let fourth = lab
        .ask(connect("paste.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(fourth), "denied-before");
    assert_eq!(lab.events().len(), asked, "nobody was asked");
    let other = lab.ask(connect("registry.test"), Scope::Session);
    assert_eq!(lab.pending(1).len(), 1, "another host is another question");
    lab.desk.close();
    assert_eq!(refused_by(other.join().unwrap()), "session-end");
}

#[test]
fn without_anyone_to_ask_an_ask_is_a_deny() {
    let lab = Lab::new(AskMode::Deny);
    let outcome = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(outcome), "no-one-to-ask");
    assert_eq!(lab.events(), ["requested", "deny by no-one-to-ask"]);
}

#[test]
fn no_grant_is_wider_than_the_question() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Uses(3));
    let id = lab.pending(1)[0].id.clone();
    for scope in [
        Scope::Session,
        Scope::Uses(4),
        Scope::Until(UnixMillis(u64::MAX)),
    ] {
        let error = lab
            .desk
            .answer(&id, allow(scope), Person::Terminal)
            .unwrap_err();
        assert!(matches!(error, AnswerError::TooWide { .. }), "{error}");
    }
    lab.desk
        .answer(&id, allow(Scope::Uses(3)), Person::Terminal)
        .unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));

    let anonymous = lab.ask(run(&["git", "push"], None), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    let error = lab
        .desk
        .answer(&id, allow(Scope::Session), Person::Terminal)
        .unwrap_err();
    assert!(matches!(error, AnswerError::TooWide { .. }), "{error}");
    lab.desk
        .answer(&id, allow(Scope::Once), Person::Terminal)
        .unwrap();
    assert!(matches!(anonymous.join().unwrap(), Outcome::Granted { .. }));
}

#[test]
fn a_grant_binds_the_exact_command() {
    let lab = Lab::new(AskMode::Tty);
    let digest = Some(Digest::of(b"git"));
    let ask = lab.ask(run(&["git", "push", "origin"], digest), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Session), Person::Terminal)
        .unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    let others = [
        run(&["git", "push", "--force"], digest),
        run(&["git", "push", "origin"], Some(Digest::of(b"another git"))),
    ];
    for other in others {
        let ask = lab.ask(other, Scope::Session);
        let id = lab.pending(1)[0].id.clone();
        lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
        assert_eq!(refused_by(ask.join().unwrap()), "terminal");
    }
}

#[test]
fn a_question_ends_with_the_process_that_asked() {
    let lab = Lab::new(AskMode::Tty);
    let wanted = Arc::new(AtomicBool::new(true));
    let ask = lab.ask_while(
        connect("registry.test"),
        Scope::Session,
        Arc::clone(&wanted),
    );
    assert_eq!(lab.pending(1).len(), 1);
    wanted.store(false, Ordering::SeqCst);
    assert_eq!(refused_by(ask.join().unwrap()), "withdrawn");
    assert!(lab.desk.pending().is_empty());
    assert!(lab.events().contains(&"deny by withdrawn".to_owned()));
}

#[test]
fn too_many_questions_are_denied() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..30)
        .map(|n| lab.ask(connect(&format!("h{n}.test")), Scope::Session))
        .collect();
    lab.pending(30);
    let more = lab
        .ask(connect("more.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(more), "desk");
    lab.desk.close();
    for ask in asks {
        assert_eq!(refused_by(ask.join().unwrap()), "session-end");
    }
    let after = lab
        .ask(connect("after.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(after), "session-end");
}

#[test]
fn hostile_text_is_shown_not_obeyed() {
    let lab = Lab::new(AskMode::Tty);
    let hostile = ["git", "push\x1b[2J\u{202e}", "a b", "", "it's"];
    let ask = lab.ask(run(&hostile, Some(Digest::of(b"git"))), Scope::Session);
    let question = lab.pending(1).remove(0);
    let shown = question.matter().shown();
    let text = shown.to_string();
    assert!(
        text.contains("git 'push\\u{1b}[2J\\u{202e}' 'a b' '' 'it'\\''s'"),
        "{text}"
    );
    assert!(
        text.chars().all(|c| !c.is_control() || c == '\n'),
        "{text:?}"
    );
    assert_eq!(shown.warnings.len(), 1, "{text}");
    let json = serde_json::to_string(&shown).unwrap();
    assert_eq!(serde_json::from_str::<Shown>(&json).unwrap(), shown);
    lab.desk.close();
    assert_eq!(refused_by(ask.join().unwrap()), "session-end");
}

#[test]
fn a_question_says_what_and_why() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let text = lab.pending(1)[0].matter().shown().to_string();
    let expected = "\
codex wants to
  connect   registry.test:443
            looked up after the answer; an allow opens no private address of it
  by        /usr/bin/node  npm install left-pad
            ← bash -lc \"npm install left-pad\" ← codex
  waits     such a client usually gives up after about 10 s
  why asked rule unfamiliar-host (builtin): no rule names this host
  once      one connection of this program, with any method and path on it
  session   any program here, any method and path, on this host and www.registry.test (80 and 443 are one)
";
    assert_eq!(text, expected);
    lab.desk.close();
    assert_eq!(refused_by(ask.join().unwrap()), "session-end");
}
