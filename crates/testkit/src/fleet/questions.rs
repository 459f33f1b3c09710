//! Questions as sessions send them.

use std::borrow::Cow;

use stockade_api::node::QuestionSent;
use stockade_policy::{NetRequest, Request, Review, Role, Scope, Stage, Strength};
use stockade_shown::{Grounds, Matter};
use stockade_trust::Nonce;
use stockade_types::{Digest, Port, Subject, UnixMillis};

/// How long a question waits.
const LASTS_MS: u64 = 120_000;

/// Returns a question that one person of a role has to answer.
pub fn question(role: &str, now: UnixMillis) -> QuestionSent {
    let review = Review {
        paths: vec![vec![Stage {
            name: "owner".to_owned(),
            role: Role(role.to_owned()),
            need: 1,
            veto: 1,
            strength: Strength::Session,
            wait_ms: 0,
            escalation: None,
        }]],
        scope_max: Scope::Session,
        reason_required: false,
        break_glass: None,
    };
    let request = Request::Net(NetRequest {
        host: "paste.test".parse().expect("a host"),
        port: Port::new(443).expect("a port"),
        subject: Subject::default(),
    });
    let matter = Matter {
        request: &request,
        grounds: Cow::Owned(Grounds {
            rule: Some("paste".parse().expect("an id")),
            origin: None,
            reason: "data leaves the company".to_owned(),
            nearest_allow: None,
            private: false,
            scope_max: Some(Scope::Session),
            review: Some(review.clone()),
        }),
        agent: "codex",
        intent: None,
        asked: now,
        expires: UnixMillis(now.0 + LASTS_MS),
    };
    let question = matter.canonical();
    QuestionSent {
        rendered: question.shown().digest(),
        question,
        nonce: Nonce::new([3; 16]),
        revision: Digest::of(b"policy"),
        review,
        uid: 1000,
        user: None,
    }
}
