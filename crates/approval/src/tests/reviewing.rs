//! Questions that the automatic reviewer sees first.

use std::sync::mpsc::{Receiver, channel};

use stockade_policy::Reviewer;
use stockade_types::{Authorisation, Risk};

use super::*;

/// A desk whose reviewer's questions come out of the other end.
fn lab(mode: AskMode) -> (Lab, Receiver<Arc<Question>>) {
    let (give, take) = channel();
    let give = Mutex::new(give);
    let hand: Hand = Box::new(move |question| {
        let give = give.lock().unwrap();
        give.send(Arc::clone(question)).is_ok()
    });
    (Lab::with_all(mode, None, Some(hand)), take)
}

fn asked(reviewer: Reviewer, allows: Option<Risk>) -> Decision {
    let mut asked = decision(Verdict::Ask, Scope::Session);
    if let Some(stage) = &mut asked.stage {
        stage.reviewer = reviewer;
        stage.reviewer_allows = allows;
    }
    asked
}

fn ask(lab: &Lab, host: &str, asked: Decision) -> JoinHandle<Outcome> {
    let (desk, request) = (Arc::clone(&lab.desk), connect(host));
    std::thread::spawn(move || {
        desk.ask(&Asker {
            request: &request,
            decision: &asked,
            decision_id: DecisionId::new(19),
            revision: Digest::of(b"policy"),
            intent: None,
            decide: &|approvals| {
                let verdict = if approvals.is_empty() {
                    Verdict::Ask
                } else {
                    Verdict::Allow
                };
                decision(verdict, Scope::Session)
            },
            wanted: &|| true,
            covered: None,
            lasting: None,
        })
    })
}

fn says(verdict: Option<Verdict>, risk: Risk) -> Opinion {
    Opinion {
        verdict,
        risk: Some(risk),
        authorisation: Some(Authorisation::Implied),
        reviewer: "model lab".to_owned(),
        rationale: "it reads".to_owned(),
    }
}

const BOTH: Reviewer = Reviewer::BotThenHuman;
const ALLOWS: Option<Verdict> = Some(Verdict::Allow);
const DENIES: Option<Verdict> = Some(Verdict::Deny);

fn next(questions: &Receiver<Arc<Question>>) -> Arc<Question> {
    questions
        .recv_timeout(PATIENCE)
        .expect("the reviewer is asked")
}

#[test]
fn it_allows_what_the_rule_lets_it_and_once() {
    let (lab, questions) = lab(AskMode::Inbox);
    let waiting = ask(&lab, "good.test", asked(BOTH, Some(Risk::Medium)));
    let question = next(&questions);
    // People do not see it meanwhile, and cannot answer it.
    assert!(lab.desk.pending().is_empty() && lab.desk.views().is_empty());
    let early = lab
        .desk
        .answer(&question.id, allow(Scope::Once), Person::Terminal);
    assert!(
        early
            .unwrap_err()
            .to_string()
            .contains("with the automatic reviewer")
    );
    lab.desk.reviewed(&question.id, &says(ALLOWS, Risk::Medium));
    assert!(matches!(waiting.join().unwrap(), Outcome::Granted { .. }));
    let events = [
        "requested",
        "reviewer says allow",
        "allow by reviewer once",
        "used for d-19",
    ];
    assert_eq!(lab.events(), events);
    // The same again is another question, and its word about the first one is none any more.
    let again = ask(&lab, "good.test", asked(BOTH, Some(Risk::Medium)));
    let second = next(&questions);
    lab.desk.reviewed(&question.id, &says(ALLOWS, Risk::Low));
    lab.desk.reviewed(&second.id, &says(DENIES, Risk::High));
    assert_eq!(refused_by(again.join().unwrap()), "reviewer");
}

#[test]
fn what_it_may_not_allow_goes_to_people_or_is_denied() {
    for (mode, reviewer, allows, risk) in [
        (AskMode::Inbox, BOTH, None, Risk::Low),
        (AskMode::Inbox, BOTH, Some(Risk::Low), Risk::Medium),
        (AskMode::Inbox, Reviewer::Bot, None, Risk::Low),
        (
            AskMode::Inbox,
            Reviewer::Bot,
            Some(Risk::Medium),
            Risk::High,
        ),
        (AskMode::Server, Reviewer::Bot, Some(Risk::High), Risk::Low),
    ] {
        let (lab, questions) = lab(mode);
        let waiting = ask(&lab, "good.test", asked(reviewer, allows));
        let question = next(&questions);
        lab.desk.reviewed(&question.id, &says(ALLOWS, risk));
        if reviewer == BOTH {
            lab.pending(1);
            lab.desk
                .answer(&question.id, allow(Scope::Once), Person::Terminal)
                .unwrap();
            assert!(matches!(waiting.join().unwrap(), Outcome::Granted { .. }));
        } else {
            assert_eq!(refused_by(waiting.join().unwrap()), "reviewer");
        }
    }
}

/// It says no anywhere, and whoever it passes on to decides as if it had not been there.
#[test]
fn it_denies_anywhere_and_passes_on() {
    let (lab, questions) = lab(AskMode::Inbox);
    let waiting = ask(&lab, "bad.test", asked(BOTH, None));
    lab.desk
        .reviewed(&next(&questions).id, &says(DENIES, Risk::High));
    match waiting.join().unwrap() {
        Outcome::Refused { by, reason, .. } => {
            assert_eq!(by.to_string(), "reviewer");
            assert!(reason.contains("model lab: it reads"), "{reason}");
        }
        Outcome::Granted { .. } => panic!("granted"),
    }
    let waiting = ask(&lab, "other.test", asked(BOTH, None));
    let question = next(&questions);
    lab.desk.reviewed(&question.id, &says(None, Risk::High));
    lab.pending(1);
    // Too late: it is with people now.
    lab.desk.reviewed(&question.id, &says(ALLOWS, Risk::Low));
    lab.desk
        .answer(&question.id, deny(), Person::Terminal)
        .unwrap();
    assert_eq!(refused_by(waiting.join().unwrap()), "terminal");
    // Under `--ask deny` it is not asked, and a question for people alone does not reach it.
    let (quiet, none) = self::lab(AskMode::Deny);
    let waiting = ask(&quiet, "good.test", asked(BOTH, Some(Risk::High)));
    assert_eq!(refused_by(waiting.join().unwrap()), "no-one-to-ask");
    assert!(none.try_recv().is_err());
    let waiting = ask(&lab, "third.test", asked(Reviewer::Human, None));
    let id = lab.pending(1).remove(0).id;
    assert!(questions.try_recv().is_err());
    lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
    waiting.join().unwrap();
}

#[test]
fn three_denials_in_a_row_take_it_off_until_a_person_allows_something() {
    let (lab, questions) = lab(AskMode::Inbox);
    let deny_one = |host: &str| {
        let waiting = ask(&lab, host, asked(Reviewer::Bot, Some(Risk::High)));
        lab.desk
            .reviewed(&next(&questions).id, &says(DENIES, Risk::High));
        assert_eq!(refused_by(waiting.join().unwrap()), "reviewer");
    };
    deny_one("a.test");
    deny_one("b.test");
    // What it allows between counts them anew.
    let waiting = ask(&lab, "good.test", asked(Reviewer::Bot, Some(Risk::High)));
    lab.desk
        .reviewed(&next(&questions).id, &says(ALLOWS, Risk::Low));
    waiting.join().unwrap();
    for host in ["c.test", "d.test", "e.test"] {
        deny_one(host);
    }
    assert!(lab.events().contains(&"reviewer off".to_owned()));
    // Now people answer, also what it alone would have.
    let waiting = ask(&lab, "f.test", asked(Reviewer::Bot, Some(Risk::High)));
    let id = lab.pending(1).remove(0).id;
    assert!(questions.try_recv().is_err());
    lab.desk.answer(&id, deny(), Person::Terminal).unwrap();
    waiting.join().unwrap();
    let waiting = ask(&lab, "g.test", asked(Reviewer::Bot, Some(Risk::High)));
    let id = lab.pending(1).remove(0).id;
    lab.desk
        .answer(&id, allow(Scope::Once), Person::Terminal)
        .unwrap();
    waiting.join().unwrap();
    let waiting = ask(&lab, "h.test", asked(Reviewer::Bot, Some(Risk::High)));
    lab.desk
        .reviewed(&next(&questions).id, &says(ALLOWS, Risk::Low));
    assert!(matches!(waiting.join().unwrap(), Outcome::Granted { .. }));
}

/// Silence allows nothing, and neither does what cannot be recorded.
#[test]
fn silence_and_what_is_not_recorded_deny() {
    let (lab, questions) = lab(AskMode::Inbox);
    let waiting = ask(&lab, "good.test", asked(BOTH, Some(Risk::High)));
    let question = next(&questions);
    lab.time.fetch_add(300_001, Ordering::SeqCst);
    lab.desk.expire();
    assert_eq!(refused_by(waiting.join().unwrap()), "timeout");
    lab.desk.reviewed(&question.id, &says(ALLOWS, Risk::Low));
    let waiting = ask(&lab, "good.test", asked(BOTH, Some(Risk::High)));
    let question = next(&questions);
    lab.broken.store(true, Ordering::SeqCst);
    lab.desk.reviewed(&question.id, &says(ALLOWS, Risk::Low));
    assert_eq!(refused_by(waiting.join().unwrap()), "journal");
    // Without a reviewer a rule that asks it alone is denied.
    let alone = Lab::new(AskMode::Inbox);
    let waiting = ask(&alone, "good.test", asked(Reviewer::Bot, Some(Risk::High)));
    assert_eq!(refused_by(waiting.join().unwrap()), "no-one-to-ask");
}
