//! Questions that people in roles answer, by what they have signed. Here a text stands for their signatures;
//! the crate `trust` tests what they are worth.

use stockade_policy::{Approvals, Review, Role, Stage, Strength};
use stockade_trust::{Envelope, Granted, UserId};

use super::*;

const NOT_AFTER: u64 = 2_000_000;

fn review() -> Review {
    let stage = Stage {
        name: "security".to_owned(),
        role: Role("security".to_owned()),
        need: 2,
        veto: 1,
        strength: Strength::Passkey,
        wait_ms: 0,
        escalation: None,
    };
    Review {
        paths: vec![vec![stage]],
        scope_max: Scope::Uses(3),
        reason_required: false,
        break_glass: None,
    }
}

fn statement(words: &str) -> Answer {
    let text = format!(r#"{{"payloadType":"{words}","payload":"","signatures":[]}}"#);
    Answer::Granted {
        envelope: Box::new(serde_json::from_str(&text).unwrap()),
    }
}

/// Takes the statement that says `yes` and the nonce of the question, and one of another name.
fn lab() -> Lab {
    let verify = |question: &Question, envelope: &Envelope, _now| {
        let text = serde_json::to_string(envelope).unwrap();
        let nonce = serde_json::to_string(&question.nonce).unwrap();
        let scope = if text.contains("session") {
            Scope::Session
        } else {
            Scope::Once
        };
        let by = if text.contains("odd") { "a b" } else { "ann" };
        if !text.contains(nonce.trim_matches('"')) {
            return Err("the grant is for another asking of the question".to_owned());
        }
        Ok(Granted {
            scope,
            not_after: UnixMillis(NOT_AFTER),
            by: vec![UserId(by.to_owned()), UserId("ben".to_owned())],
            broken_glass: text
                .contains("glass")
                .then(|| "the shop is down".to_owned()),
        })
    };
    Lab::with(AskMode::Tty, Some(Box::new(verify)))
}

fn ask(lab: &Lab) -> JoinHandle<Outcome> {
    let desk = Arc::clone(&lab.desk);
    std::thread::spawn(move || {
        let asked = |verdict| {
            let mut asked = decision(verdict, Scope::Uses(3));
            if let Some(stage) = &mut asked.stage {
                stage.review = Some(review());
            }
            asked
        };
        desk.ask(&Asker {
            request: &connect("registry.test"),
            decision: &asked(Verdict::Ask),
            decision_id: DecisionId::new(19),
            revision: Digest::of(b"policy"),
            intent: None,
            decide: &|approvals: &Approvals| {
                asked(if approvals.is_empty() {
                    Verdict::Ask
                } else {
                    Verdict::Allow
                })
            },
            wanted: &|| true,
            covered: None,
            lasting: None,
        })
    })
}

fn yes(lab: &Lab, words: &str) -> Answer {
    let question = lab.pending(1).remove(0);
    let nonce = serde_json::to_value(question.nonce).unwrap();
    statement(&format!("{words} {}", nonce.as_str().unwrap()))
}

#[test]
fn only_their_statement_allows_and_anyone_denies() {
    let lab = lab();
    let waiting = ask(&lab);
    let id = lab.pending(1).remove(0).id;
    for scope in [Scope::Once, Scope::Uses(2), Scope::Session] {
        let refused = lab.desk.answer(&id, allow(scope), Person::Terminal);
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("answered by people in roles: two of security"),
            "{error}"
        );
    }
    let by = Person::Inbox { uid: 7 };
    let refused = lab.desk.answer(&id, statement("yes"), by).unwrap_err();
    assert!(refused.to_string().contains("stays open"), "{refused}");
    lab.desk.answer(&id, yes(&lab, "yes"), by).unwrap();
    assert!(matches!(waiting.join().unwrap(), Outcome::Granted { .. }));
    assert_eq!(
        lab.events(),
        [
            "requested",
            "refused from inbox uid 7: the grant is for another asking of the question",
            "allow by people ann, ben once signed",
            "used for d-19"
        ]
    );
    // The same statement is for no second asking, also of the same request.
    let waiting = ask(&lab);
    let again = lab.pending(1).remove(0);
    let used = statement(&format!(
        "yes {}",
        serde_json::to_string(&id).unwrap().trim_matches('"')
    ));
    assert!(lab.desk.answer(&again.id, used, by).is_err());
    lab.desk
        .answer(&again.id, deny(), Person::Terminal)
        .unwrap();
    assert_eq!(refused_by(waiting.join().unwrap()), "terminal");
}

#[test]
fn what_is_wider_too_long_or_unwritable_allows_nothing() {
    let lab = lab();
    let waiting = ask(&lab);
    let id = lab.pending(1).remove(0).id;
    let by = Person::Inbox { uid: 7 };
    for (words, why) in [
        ("session", "wider"),
        ("odd", "cannot be written down"),
        ("x".repeat(GRANT_BYTES_MAX).as_str(), "fit into the record"),
    ] {
        let error = lab.desk.answer(&id, yes(&lab, words), by).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(lab.desk.pending().len(), 1, "it stays open");
    }
    lab.desk.answer(&id, yes(&lab, "yes"), by).unwrap();
    assert!(matches!(waiting.join().unwrap(), Outcome::Granted { .. }));
}

#[test]
fn their_yes_ends_with_its_time() {
    let lab = lab();
    let waiting = ask(&lab);
    let id = lab.pending(1).remove(0).id;
    lab.time.store(NOT_AFTER, Ordering::SeqCst);
    let by = Person::Terminal;
    assert!(lab.desk.answer(&id, yes(&lab, "yes"), by).is_err());
    assert_ne!(refused_by(waiting.join().unwrap()), "people ann, ben");
}

#[test]
fn a_flood_of_statements_ends() {
    let lab = lab();
    let waiting = ask(&lab);
    let id = lab.pending(1).remove(0).id;
    for _ in 0..100 {
        assert!(
            lab.desk
                .answer(&id, statement("no"), Person::Terminal)
                .is_err()
        );
    }
    let error = lab.desk.answer(&id, yes(&lab, "yes"), Person::Terminal);
    assert!(error.unwrap_err().to_string().contains("takes no more"));
    lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
    waiting.join().unwrap();
}

#[test]
fn a_machine_that_is_not_enrolled_takes_no_statement() {
    let lab = Lab::new(AskMode::Tty);
    let waiting = lab.ask(connect("registry.test"), Scope::Once);
    let id = lab.pending(1).remove(0).id;
    let error = lab.desk.answer(&id, yes(&lab, "yes"), Person::Terminal);
    assert!(error.unwrap_err().to_string().contains("not enrolled"));
    lab.desk
        .answer(&id, allow(Scope::Once), Person::Terminal)
        .unwrap();
    assert!(matches!(waiting.join().unwrap(), Outcome::Granted { .. }));
}

#[test]
fn a_question_for_the_terminal_takes_no_statement() {
    let lab = lab();
    let waiting = lab.ask(connect("registry.test"), Scope::Once);
    let id = lab.pending(1).remove(0).id;
    let error = lab.desk.answer(&id, yes(&lab, "yes"), Person::Terminal);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("does not ask people")
    );
    assert!(lab.desk.case(&id).is_err());
    lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
    waiting.join().unwrap();
}

#[test]
fn how_far_they_are_is_shown_and_decides_nothing() {
    let lab = lab();
    let waiting = ask(&lab);
    let id = lab.pending(1).remove(0).id;
    let view = || lab.desk.views().remove(0);
    assert_eq!(view().waits_for.as_deref(), Some("two of security"));
    assert_eq!((view().scope_max, view().lasting), (None, None));
    let progress = |stage: &str, have, need| {
        let stage = stage.to_owned();
        let until = Some(UnixMillis(36_240_000));
        let progress = Progress {
            stage,
            have,
            need,
            until,
            also: None,
        };
        lab.desk.progress(&id, progress)
    };
    progress("security", 1, 2).unwrap();
    assert_eq!(
        view().waits_for.as_deref(),
        Some("two of security; now security, 1 of 2 until 10:04 UTC")
    );
    for (stage, have, need) in [("owner", 0, 1), ("security", 3, 2), ("security", 1, 1)] {
        assert!(
            progress(stage, have, need).is_err(),
            "{stage} {have} {need}"
        );
    }
    progress("security", 2, 2).unwrap();
    assert_eq!(
        lab.desk.pending().len(),
        1,
        "it is open until they have signed"
    );
    let case = lab.desk.case(&id).unwrap();
    assert_eq!(case.rendered, case.question.shown().digest());
    assert_eq!(case.review, review());
    let text = case.question.shown().to_string();
    assert!(text.contains("asks      two of security"), "{text}");
    lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
    waiting.join().unwrap();
}
