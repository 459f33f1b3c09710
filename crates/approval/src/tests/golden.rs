//! The lines on the control socket: programs of other versions read them, so no change of this
//! program may change them. A line that changes on purpose is a new line beside the old one.

use std::{borrow::Cow, fmt::Debug};

use serde::{Serialize, de::DeserializeOwned};
use stockade_policy::{LastingRule, ListedGrant, Review, Role, RuleForm, Scope, Stage, Strength};
use stockade_shown::{Grounds, Matter};
use stockade_trust::{Envelope, Nonce};
use stockade_types::{Digest, RequestKind, UnixMillis, Verdict};

use crate::{
    Answer, Case, Lasting, Progress, QuestionLine, QuestionView, Reply, Row, Settled, Shown,
    protocol::{Command, line_of},
};

const COMMANDS: &str = include_str!("golden/commands.jsonl");
const REPLIES: &str = include_str!("golden/replies.jsonl");

/// Writes each value as its line, and reads its line as the value.
fn assert_lines<T: Serialize + DeserializeOwned + PartialEq + Debug>(values: &[T], golden: &str) {
    let written: Vec<u8> = values.iter().flat_map(|v| line_of(v).unwrap()).collect();
    assert_eq!(String::from_utf8(written).unwrap(), golden);
    let read: Vec<T> = golden
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, values);
}

#[test]
fn commands_are_the_same_lines_for_ever() {
    let id = || "7f3a0001".parse().unwrap();
    let answer = |answer| Command::Answer { id: id(), answer };
    let commands = [
        Command::List {},
        Command::Show { id: id() },
        answer(Answer::Allow { scope: Scope::Once }),
        answer(Answer::Allow {
            scope: Scope::Uses(5),
        }),
        answer(Answer::Allow {
            scope: Scope::Session,
        }),
        answer(Answer::Allow {
            scope: Scope::Until(UnixMillis(1_790_000_000_000)),
        }),
        answer(Answer::Allow {
            scope: Scope::Paths,
        }),
        answer(Answer::Deny { reason: None }),
        answer(Answer::Deny {
            reason: Some("open a \"PR\"".to_owned()),
        }),
        answer(Answer::DenySession),
        Command::Watch {},
        Command::Grants {},
        Command::Settled {},
        Command::Revoke { id: id() },
        Command::Case { id: id() },
        Command::Progress {
            id: id(),
            progress: Progress {
                stage: "security".to_owned(),
                have: 1,
                need: 2,
                until: Some(UnixMillis(1_790_000_060_000)),
                also: None,
            },
        },
        answer(Answer::Granted {
            envelope: Box::new(envelope()),
        }),
    ];
    assert_lines(&commands, COMMANDS);
}

#[test]
fn replies_are_the_same_lines_for_ever() {
    let replies = [
        Reply::Questions { questions: vec![] },
        Reply::Questions {
            questions: vec![line(None), line(Some(UnixMillis(1_790_000_060_000)))],
        },
        Reply::Question {
            question: Box::new(question(None)),
        },
        Reply::Question {
            question: Box::new(question(Some(Lasting {
                rule: LastingRule {
                    risk: None,
                    form: RuleForm::Allow,
                    conditions: "hosts = [\"good.test\"]\n".to_owned(),
                    words: "connections to good.test".to_owned(),
                },
                workspace: "/home/u/shop".to_owned(),
            }))),
        },
        Reply::Question {
            question: Box::new(QuestionView {
                paths: Some("GET, HEAD of good.test:443/v1/**".to_owned()),
                ..question(None)
            }),
        },
        Reply::Grants {
            grants: vec![ListedGrant {
                id: "7f3a0001".parse().unwrap(),
                rules: vec!["unfamiliar-host".parse().unwrap()],
                kind: RequestKind::Net,
                target: "good.test:443".to_owned(),
                scope: Scope::Session,
                uses_left: None,
                used: 3,
                granted: UnixMillis(1_790_000_001_000),
                revoked: false,
            }],
        },
        Reply::Settled {
            settled: vec![Settled {
                id: "7f3a0001".parse().unwrap(),
                answer: Answer::DenySession,
                by: "inbox uid 1000".parse().unwrap(),
            }],
        },
        Reply::Done {},
        Reply::Refused {
            error: "no question has the id `7f3a0001`".to_owned(),
        },
        Reply::Questions {
            questions: vec![QuestionLine {
                waits_for: Some("owner, then two of security".to_owned()),
                ..line(None)
            }],
        },
        Reply::Case {
            case: Box::new(case()),
        },
    ];
    assert_lines(&replies, REPLIES);
}

fn envelope() -> Envelope {
    serde_json::from_str(
        r#"{"payloadType":"application/vnd.stockade.grant.1+json","payload":"e30=","signatures":[]}"#,
    )
    .unwrap()
}

fn case() -> Case {
    let stage = Stage {
        name: "owner".to_owned(),
        role: Role("code-owner".to_owned()),
        need: 1,
        veto: 1,
        strength: Strength::Passkey,
        wait_ms: 0,
        escalation: None,
    };
    let review = Review {
        paths: vec![vec![stage]],
        scope_max: Scope::Once,
        reason_required: true,
        break_glass: None,
    };
    let request = super::connect("good.test");
    let grounds = Grounds {
        review: Some(review.clone()),
        ..Grounds::of(&super::decision(Verdict::Ask, Scope::Once))
    };
    let matter = Matter {
        request: &request,
        grounds: Cow::Owned(grounds),
        agent: "codex",
        intent: None,
        asked: UnixMillis(1_790_000_000_000),
        expires: UnixMillis(1_790_000_300_000),
    };
    Case {
        id: "7f3a0001".parse().unwrap(),
        nonce: Nonce::new([7; 16]),
        revision: Digest::of(b"policy"),
        rendered: matter.shown().digest(),
        question: matter.canonical(),
        review,
    }
}

fn line(gives_up: Option<UnixMillis>) -> QuestionLine {
    QuestionLine {
        id: "7f3a0001".parse().unwrap(),
        agent: "codex".to_owned(),
        asked: UnixMillis(1_790_000_000_000),
        expires: UnixMillis(1_790_000_300_000),
        gives_up,
        waiting: 2,
        waits_for: None,
        summary: "connect good.test:443".to_owned(),
    }
}

fn question(lasting: Option<Lasting>) -> QuestionView {
    let row = |label: &str, text: &str| Row {
        label: label.to_owned(),
        text: text.to_owned(),
    };
    let whole = lasting.is_some();
    QuestionView {
        id: "7f3a0001".parse().unwrap(),
        agent: "codex".to_owned(),
        asked: UnixMillis(1_790_000_000_000),
        expires: UnixMillis(1_790_000_300_000),
        gives_up: whole.then_some(UnixMillis(1_790_000_060_000)),
        waiting: 1,
        scope_max: whole.then_some(Scope::Session),
        paths: None,
        lasting,
        waits_for: None,
        request_digest: Digest::of(b"request"),
        shown: Shown {
            title: "codex wants to".to_owned(),
            rows: vec![row("connect", "good.test:443")],
            details: if whole {
                vec![row("variables", "PATH")]
            } else {
                Vec::new()
            },
            warnings: vec!["two scripts in one name".to_owned()],
        },
    }
}
