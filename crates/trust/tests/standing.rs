//! How votes stand: no order of votes gets more than the stages give.

use proptest::prelude::*;
use stockade_trust::{Choice, Counted, Review, ReviewError, Stage, Standing, Strength};

use crate::lab::{Lab, id, stage};

fn review(paths: Vec<Vec<Stage>>) -> Review {
    Review {
        paths,
        ..Lab::new().review
    }
}

fn counted(user: u8, stage: u8, allows: bool) -> Counted {
    Counted {
        user: id(&format!("u{user}")),
        stage: format!("s{stage}"),
        choice: if allows { Choice::Allow } else { Choice::Deny },
        at: stockade_types::UnixMillis(0),
    }
}

fn stages(needs: &[(u8, u32, u32)]) -> Vec<Stage> {
    let one = |(name, need, veto): &(u8, u32, u32)| Stage {
        veto: *veto,
        ..stage(&format!("s{name}"), "role", *need, Strength::Session)
    };
    needs.iter().map(one).collect()
}

#[test]
fn stages_are_asked_one_after_the_other_and_paths_at_once() {
    let review = review(vec![stages(&[(1, 1, 1), (2, 2, 1)]), stages(&[(3, 1, 1)])]);
    review.check().expect("it can be answered");
    let open = |votes: &[Counted]| match Standing::of(&review, votes) {
        Standing::Open(stages) => stages.iter().map(|stage| stage.name.clone()).collect(),
        other @ (Standing::Granted | Standing::Denied(_)) => vec![format!("{other:?}")],
    };
    assert_eq!(open(&[]), ["s1", "s3"]);
    assert_eq!(open(&[counted(1, 1, true)]), ["s2", "s3"]);
    let votes = [counted(1, 1, true), counted(2, 2, true)];
    assert_eq!(open(&votes), ["s2", "s3"]);
    let path = [counted(1, 3, true)];
    assert_eq!(Standing::of(&review, &path), Standing::Granted);
    let vetoed = [counted(1, 3, true), counted(2, 2, false)];
    assert!(matches!(
        Standing::of(&review, &vetoed),
        Standing::Denied(_)
    ));
}

#[test]
fn a_review_that_nobody_can_answer_is_refused() {
    let refused = |paths: Vec<Vec<Stage>>| review(paths).check().expect_err("refused");
    assert_eq!(refused(Vec::new()), ReviewError::Empty);
    assert_eq!(refused(vec![Vec::new()]), ReviewError::Empty);
    let needs = refused(vec![stages(&[(1, 0, 1)])]);
    assert_eq!(needs, ReviewError::NeedsNobody("s1".to_owned()));
    let twice = refused(vec![stages(&[(1, 1, 1), (2, 1, 1), (2, 1, 1)])]);
    assert_eq!(twice, ReviewError::Twice("s2".to_owned()));
    let differs = refused(vec![stages(&[(1, 1, 1)]), stages(&[(1, 2, 1)])]);
    assert_eq!(differs, ReviewError::Twice("s1".to_owned()));
    assert_eq!(refused(vec![stages(&[(1, 17, 1)])]), ReviewError::TooMany);
    let shared = review(vec![stages(&[(1, 1, 1)]), stages(&[(1, 1, 1), (2, 1, 1)])]);
    shared.check().expect("paths can share a stage");
}

proptest! {
    /// Only as many different people as a stage needs complete it, a veto ends it, and no later vote
    /// changes either.
    #[test]
    fn votes_never_give_more_than_stages_do(
        needs in prop::collection::vec((1_u32..4, 1_u32..3), 1..4),
        votes in prop::collection::vec((0_u8..6, 0_u8..4, prop::bool::weighted(0.8)), 0..24),
    ) {
        let path: Vec<(u8, u32, u32)> = (0..).zip(&needs).map(|(at, (need, veto))| (at, *need, *veto)).collect();
        let review = review(vec![stages(&path)]);
        prop_assert!(review.check().is_ok());
        let all: Vec<Counted> = votes.iter().map(|(user, stage, allows)| counted(*user, *stage, *allows)).collect();
        let mut denied = false;
        for end in 0..=all.len() {
            let cast = &all[..end];
            let first: Vec<&Counted> = cast.iter().enumerate()
                .filter(|(at, vote)| !cast[..*at].iter().any(|other| other.user == vote.user))
                .map(|(_, vote)| vote)
                .collect();
            let count = |at: u8, choice| first.iter()
                .filter(|vote| vote.stage == format!("s{at}") && vote.choice == choice)
                .count();
            let is_enough = path.iter().all(|(at, need, _)| count(*at, Choice::Allow) >= *need as usize);
            let is_vetoed = path.iter().any(|(at, _, veto)| count(*at, Choice::Deny) >= *veto as usize);
            match Standing::of(&review, cast) {
                Standing::Granted => prop_assert!(is_enough && !is_vetoed),
                Standing::Denied(_) => { prop_assert!(is_vetoed); denied = true; }
                Standing::Open(open) => {
                    prop_assert!(!is_enough && !is_vetoed);
                    prop_assert_eq!(open.len(), 1);
                }
            }
            prop_assert!(!denied || is_vetoed, "no vote takes a veto back");
        }
    }
}
