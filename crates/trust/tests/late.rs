//! Stages that ask others when they take long, and that wait before a yes counts: the machine checks both by
//! its own clock.

use stockade_policy::{Escalation, Role, Strength};
use stockade_trust::{Choice, Review, Vote};
use stockade_types::UnixMillis;

use crate::lab::{Lab, NOW, id, stage};

const MINUTE: u64 = 60_000;

/// The lab, in which one of security answers after the owner, and Dora's role is asked too after five minutes.
fn lab() -> Lab {
    let lab = Lab::new();
    let security = stockade_trust::Stage {
        escalation: Some(Escalation {
            after_ms: 5 * MINUTE,
            role: Role("incident".to_owned()),
        }),
        ..stage("security", "security", 1, Strength::Session)
    };
    let owner = stage("owner", "owner", 1, Strength::Session);
    Lab {
        review: Review {
            paths: vec![vec![owner, security]],
            ..lab.review.clone()
        },
        asked: NOW - 10 * MINUTE,
        ..lab
    }
}

fn at(user: &str, stage: &str, minutes_ago: u64) -> Vote {
    Vote {
        at: UnixMillis(NOW - minutes_ago * MINUTE),
        ..Lab::vote(user, stage)
    }
}

fn said(lab: &Lab, votes: Vec<Vote>) -> String {
    match lab.judge_grant(&lab.grant(votes)) {
        Ok(granted) => {
            let names: Vec<&str> = granted.by.iter().map(|user| user.0.as_str()).collect();
            names.join(",")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn others_are_asked_from_the_time_on_that_the_stage_names() {
    let lab = lab();
    // The owner said yes nine minutes ago: from four minutes ago on Dora is asked too.
    let owner = || at("ann", "owner", 9);
    assert_eq!(
        said(&lab, vec![owner(), at("dora", "security", 4)]),
        "ann,dora"
    );
    assert_eq!(
        said(&lab, vec![owner(), at("ben", "security", 9)]),
        "ann,ben"
    );
    let early = said(&lab, vec![owner(), at("dora", "security", 5)]);
    assert!(early.contains("does not ask the person yet"), "{early}");
    // Not in the stage that has no such time, and nobody else.
    let elsewhere = said(&lab, vec![at("dora", "owner", 1), at("ben", "security", 1)]);
    assert!(elsewhere.contains("does not have the role"), "{elsewhere}");
    let stranger = said(&lab, vec![owner(), at("ann", "security", 1)]);
    assert!(stranger.contains("voted before"), "{stranger}");
    // A stage that waits for another one has not begun.
    let first = said(&lab, vec![at("dora", "security", 1)]);
    assert!(first.contains("does not ask the person yet"), "{first}");
    // Her no counts from then on, too.
    let no = Vote {
        choice: Choice::Deny,
        ..at("dora", "security", 6)
    };
    let early = said(&lab, vec![owner(), no.clone(), at("ben", "security", 1)]);
    assert!(early.contains("does not ask the person yet"), "{early}");
    let late = Vote {
        at: UnixMillis(NOW),
        ..no
    };
    let denied = said(&lab, vec![owner(), late, at("ben", "security", 1)]);
    assert!(denied.contains("`security` has denied"), "{denied}");
}

/// A server that says false times cannot have others answer before the machine has waited.
#[test]
fn the_machine_waits_by_its_own_clock() {
    let mut lab = lab();
    lab.asked = NOW - 4 * MINUTE;
    let votes = || vec![at("ann", "owner", 9), at("dora", "security", 0)];
    let early = said(&lab, votes());
    assert!(early.contains("does not ask the person yet"), "{early}");
    lab.asked = NOW - 5 * MINUTE;
    assert_eq!(said(&lab, votes()), "ann,dora");
}

#[test]
fn a_yes_counts_after_the_wait_and_a_no_at_once() {
    let mut lab = lab();
    lab.review.paths[0][1].wait_ms = 2 * MINUTE;
    let owner = || at("ann", "owner", 9);
    let early = said(&lab, vec![owner(), at("ben", "security", 8)]);
    assert!(early.contains("does not count yet"), "{early}");
    assert_eq!(
        said(&lab, vec![owner(), at("ben", "security", 7)]),
        "ann,ben"
    );
    let no = Vote {
        choice: Choice::Deny,
        ..at("ben", "security", 8)
    };
    let denied = said(&lab, vec![owner(), no]);
    assert!(denied.contains("`security` has denied"), "{denied}");
    // Breaking the glass does not wait.
    let glass = lab.with(&lab.dora, at("dora", "", 8));
    let mut grant = lab.grant(vec![glass]);
    grant.broken_glass = true;
    assert_eq!(lab.judge_grant(&grant).expect("dora may").by, [id("dora")]);
}
