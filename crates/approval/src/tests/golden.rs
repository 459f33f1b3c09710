//! The lines on the control socket: programs of other versions read them, so no change of this
//! program may change them. A line that changes on purpose is a new line beside the old one.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use stockade_policy::{LastingRule, ListedGrant, RuleForm, Scope};
use stockade_types::{Digest, RequestKind, UnixMillis};

use crate::{
    Answer, Lasting, QuestionLine, QuestionView, Reply, Row, Settled, Shown,
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
    ];
    assert_lines(&replies, REPLIES);
}

fn line(gives_up: Option<UnixMillis>) -> QuestionLine {
    QuestionLine {
        id: "7f3a0001".parse().unwrap(),
        agent: "codex".to_owned(),
        asked: UnixMillis(1_790_000_000_000),
        expires: UnixMillis(1_790_000_300_000),
        gives_up,
        waiting: 2,
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
