//! Questions that only people in roles answer.

use stockade_policy::{Approvals, Review, Role, Stage, Strength};

use super::*;
use crate::CoveredBy;

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
        scope_max: Scope::Once,
        reason_required: false,
        break_glass: None,
    }
}

/// Asks, and says who refused it and why; nothing if it was granted.
fn asked(
    lab: &Lab,
    review: Option<&Review>,
    covered: Option<CoveredBy>,
) -> Option<(String, String)> {
    let decide = |verdict: Verdict| {
        let mut asked = decision(verdict, Scope::Once);
        if let Some(stage) = &mut asked.stage {
            stage.review = review.cloned();
        }
        asked
    };
    let outcome = lab.desk.ask(&Asker {
        request: &connect("registry.test"),
        decision: &decide(Verdict::Ask),
        decision_id: DecisionId::new(19),
        revision: Digest::of(b"policy"),
        intent: None,
        decide: &|approvals: &Approvals| {
            decide(if approvals.is_empty() {
                Verdict::Ask
            } else {
                Verdict::Allow
            })
        },
        wanted: &|| true,
        covered,
        lasting: None,
    });
    match outcome {
        Outcome::Refused { by, reason, .. } => Some((by.to_string(), reason)),
        Outcome::Granted { .. } => None,
    }
}

#[test]
fn where_nobody_reaches_the_people_of_a_question_it_is_denied() {
    for mode in [AskMode::Tty, AskMode::Inbox, AskMode::Server] {
        let lab = Lab::new(mode);
        let (by, why) = asked(&lab, Some(&review()), None).expect("refused");
        assert_eq!(by, "no-one-to-ask");
        assert!(why.contains("it asks two of security"), "{why}");
        assert_eq!(lab.events(), ["requested", "deny by no-one-to-ask"]);
    }
}

#[test]
fn what_asks_nobody_in_a_role_is_denied_if_only_the_server_answers() {
    let lab = Lab::new(AskMode::Server);
    let (by, why) = asked(&lab, None, None).expect("refused");
    assert_eq!(by, "no-one-to-ask");
    assert!(why.contains("name no `stages`"), "{why}");
}

#[test]
fn no_command_that_is_allowed_answers_for_people_in_roles() {
    let rule = || CoveredBy::Rule("npm".parse().unwrap());
    let lab = Lab::new(AskMode::Tty);
    assert_eq!(asked(&lab, None, Some(rule())), None, "{:?}", lab.events());
    let lab = Lab::new(AskMode::Tty);
    let (by, _) = asked(&lab, Some(&review()), Some(rule())).expect("refused");
    assert_eq!(by, "no-one-to-ask");
    let allowed = |event: &String| event.starts_with("allow") || event.starts_with("used");
    assert!(!lab.events().iter().any(allowed), "{:?}", lab.events());
}
