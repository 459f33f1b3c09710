//! Votes that approver keys have signed, on the server.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_control::{
    cases::{CaseError, Choosing, Voter},
    state::{ApproverKeyRow, QuestionState, Registered},
};
use stockade_policy::{Review, Scope, Strength};
use stockade_trust::{Choice, Proof, SecretKey, UserId};
use stockade_types::UnixMillis;

use crate::{
    cases::{ask, choosing, person, sent, stage},
    common::Lab,
};

/// A person with a key that another one has approved; returns the id of the key, too.
async fn with_key(lab: &Lab, name: &str, seed: u8) -> (UserId, SecretKey, String) {
    let user = person(lab, name, &["security"]).await;
    let key = SecretKey::from_seed(&[seed; 32]);
    let id = serde_json::to_value(key.public().id()).unwrap();
    let id = id.as_str().unwrap().to_owned();
    let row = ApproverKeyRow {
        id: id.clone(),
        user: user.clone(),
        key: key.public(),
        label: "laptop".to_owned(),
        created: stockade_control::now(),
        approved: None,
    };
    let state = &lab.server.state;
    assert_eq!(state.register_key(&row).await.unwrap(), Registered::Waits);
    assert_eq!(state.register_key(&row).await.unwrap(), Registered::Known);
    let (now, lee) = (stockade_control::now(), UserId("u-lee".to_owned()));
    assert!(
        !state.approve_key(&id, &user, now).await.unwrap(),
        "not the own one"
    );
    assert!(state.approve_key(&id, &lee, now).await.unwrap());
    assert!(!state.approve_key(&id, &lee, now).await.unwrap(), "once");
    (user, key, id)
}

/// Votes with a key, a long time after the last sign-in.
async fn vote(
    lab: &Lab,
    (user, key): (&UserId, &SecretKey),
    id: &str,
    chosen: &Choosing,
) -> Result<QuestionState, CaseError> {
    let (drafted, message) = lab.server.ballot(user, id, chosen).await.unwrap()?;
    let chosen = Choosing {
        stage: Some(drafted.stage),
        not_after: Some(drafted.not_after),
        ..chosen.clone()
    };
    let voter = Voter {
        user: user.clone(),
        signed_in: UnixMillis(0),
    };
    let proof = Proof::Key {
        key: key.public().id(),
        signature: URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())),
    };
    lab.server.vote(&voter, id, &chosen, proof).await.unwrap()
}

fn review(strength: Strength) -> Review {
    Review {
        paths: vec![vec![stage("security", 2, strength)]],
        scope_max: Scope::Session,
        reason_required: false,
        break_glass: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_by_a_key_that_was_revoked_counts_no_more() {
    let lab = Lab::new().await;
    person(&lab, "lee", &[]).await;
    let (ann, ann_key, ann_id) = with_key(&lab, "ann", 1).await;
    let (ben, ben_key, _) = with_key(&lab, "ben", 2).await;
    let (cara, cara_key, _) = with_key(&lab, "cara", 3).await;
    let mut machine = lab.machine(Some("lee")).await;
    let sent = sent(review(Strength::Key));
    let yes = choosing(&sent, Choice::Allow);
    // The control: two of them suffice, in whatever order.
    let id = ask(&lab, &mut machine, 1, &sent).await;
    assert_eq!(
        vote(&lab, (&ann, &ann_key), &id, &yes).await,
        Ok(QuestionState::Open)
    );
    assert_eq!(
        vote(&lab, (&ann, &ann_key), &id, &yes).await,
        Err(CaseError::Twice)
    );
    let stolen = vote(&lab, (&ben, &ann_key), &id, &yes).await;
    assert!(matches!(stolen, Err(CaseError::Proof(_))), "{stolen:?}");
    assert_eq!(
        vote(&lab, (&ben, &ben_key), &id, &yes).await,
        Ok(QuestionState::Granted)
    );
    // The same with a key that is revoked in between: two others are needed.
    let id = ask(&lab, &mut machine, 2, &sent).await;
    assert_eq!(
        vote(&lab, (&ann, &ann_key), &id, &yes).await,
        Ok(QuestionState::Open)
    );
    let (state, now) = (&lab.server.state, stockade_control::now());
    assert!(
        !state.revoke_key(&ann_id, &ben, false, now).await.unwrap(),
        "not his"
    );
    assert!(state.revoke_key(&ann_id, &ann, false, now).await.unwrap());
    assert_eq!(
        vote(&lab, (&ben, &ben_key), &id, &yes).await,
        Ok(QuestionState::Open)
    );
    assert_eq!(
        vote(&lab, (&cara, &cara_key), &id, &yes).await,
        Ok(QuestionState::Granted)
    );
    let id = ask(&lab, &mut machine, 3, &sent).await;
    let revoked = vote(&lab, (&ann, &ann_key), &id, &yes).await;
    assert!(matches!(revoked, Err(CaseError::Proof(_))), "{revoked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_for_passkeys_takes_no_key() {
    let lab = Lab::new().await;
    person(&lab, "lee", &[]).await;
    let (ann, key, _) = with_key(&lab, "ann", 1).await;
    let mut machine = lab.machine(Some("lee")).await;
    let passkeys = sent(review(Strength::Passkey));
    let id = ask(&lab, &mut machine, 1, &passkeys).await;
    for choice in [Choice::Allow, Choice::Deny] {
        let voted = vote(&lab, (&ann, &key), &id, &choosing(&passkeys, choice)).await;
        assert!(matches!(voted, Err(CaseError::Proof(_))), "{voted:?}");
    }
    assert!(lab.server.state.votes(&id).await.unwrap().is_empty());
    // The control.
    let keys = sent(review(Strength::Key));
    let id = ask(&lab, &mut machine, 2, &keys).await;
    let voted = vote(&lab, (&ann, &key), &id, &choosing(&keys, Choice::Allow)).await;
    assert_eq!(voted, Ok(QuestionState::Open));
}
