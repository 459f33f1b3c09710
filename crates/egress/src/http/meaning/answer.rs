//! Refusals in the words of the service, where a client would not show the usual ones.

use serde::Serialize;
use stockade_policy::{Git, GitOperation, Meaning};
use stockade_types::DecisionRecord;

use crate::{
    http::{
        answer::{Answer, sentence},
        head::{Field, Head},
    },
    pkt_line::pkt_line,
};

/// Bytes of one piece of a message: a sideband of the oldest clients holds no more
/// (gitprotocol-pack(5)).
const PIECE_BYTES_MAX: usize = 999;

/// Services of git whose refs are asked for, and the kinds of their answers.
const RECEIVE: (&str, &str) = (
    "git-receive-pack",
    "application/x-git-receive-pack-advertisement",
);
const UPLOAD: (&str, &str) = (
    "git-upload-pack",
    "application/x-git-upload-pack-advertisement",
);

/// Kind of the bodies of gRPC, which can be followed by how messages are written in them.
const CALL: &str = "application/grpc";
/// `PERMISSION_DENIED` of gRPC.
const CALL_DENIED: &str = "7";

/// Answers a refused request in the protocol of its client; `None` if that shows the usual answer, or
/// would not understand another one.
pub(crate) fn reply(head: &Head, meaning: &[Meaning], record: &DecisionRecord) -> Option<Answer> {
    call(head, record)
        .or_else(|| git(head, meaning, record))
        .or_else(|| model(head, record))
}

/// A refusal as the clients of models read errors, the decision beside it.
#[derive(Serialize)]
struct ModelError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ModelErrorText<'a>,
    #[serde(flatten)]
    decision: &'a DecisionRecord,
}

#[derive(Serialize)]
struct ModelErrorText<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'static str,
    status: &'static str,
}

/// Answers a call of a model as Anthropic, OpenAI and Gemini would: their clients show the message. It
/// comes first, since some cut what they show.
fn model(head: &Head, record: &DecisionRecord) -> Option<Answer> {
    stockade_agents::Place::of(&head.method, head.path.as_bytes())?;
    let text = sentence(record);
    let error = ModelError {
        kind: "error",
        error: ModelErrorText {
            message: &text,
            kind: "permission_error",
            code: "permission_denied",
            status: "PERMISSION_DENIED",
        },
        decision: record,
    };
    Answer::in_json(403, &error, &text)
}

/// Answers a call of gRPC with a status alone: its clients show nothing of an answer with status 403.
fn call(head: &Head, record: &DecisionRecord) -> Option<Answer> {
    let is_call = |field: Field<'_>| {
        let rest = field.value.strip_prefix(CALL.as_bytes());
        field.is("content-type") && rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
    };
    head.fields.iter().any(is_call).then(|| {
        // The text is percent-encoded, where that is needed.
        let text = sentence(record).replace('%', "%25");
        let fields = vec![
            ("grpc-status", CALL_DENIED.to_owned()),
            ("grpc-message", text),
        ];
        Answer {
            fields,
            ..Answer::in_protocol(CALL, Vec::new())
        }
    })
}

/// Answers git: with an error line where refs are asked for, with a message and a report of each ref
/// where they are pushed.
fn git(head: &Head, meaning: &[Meaning], record: &DecisionRecord) -> Option<Answer> {
    let is_git = |field: Field<'_>| field.is("user-agent") && field.value.starts_with(b"git/");
    let git = meaning.iter().find_map(|one| match one {
        Meaning::Git(git) => Some(git),
        Meaning::Package(_) | Meaning::Forge(_) | Meaning::Model(_) => None,
    });
    let git = git.filter(|_| head.fields.iter().any(is_git))?;
    let text = sentence(record);
    match git.operation {
        GitOperation::Prepare if head.method == "GET" => Some(refs(RECEIVE, &text)),
        GitOperation::Fetch if head.method == "GET" => Some(refs(UPLOAD, &text)),
        GitOperation::Push => Some(Answer::in_protocol(
            "application/x-git-receive-pack-result",
            report(git, &text),
        )),
        GitOperation::Fetch => Some(Answer::in_protocol(
            "application/x-git-upload-pack-result",
            pkt_line(format!("ERR {text}").as_bytes()),
        )),
        GitOperation::Prepare | GitOperation::Upload => None,
    }
}

/// Answers who asks a service for its refs.
fn refs((service, kind): (&str, &'static str), text: &str) -> Answer {
    let mut body = pkt_line(format!("# service={service}\n").as_bytes());
    body.extend_from_slice(b"0000");
    body.extend(pkt_line(format!("ERR {text}").as_bytes()));
    Answer::in_protocol(kind, body)
}

/// Writes the report of a push none of whose refs was changed.
fn report(git: &Git, text: &str) -> Vec<u8> {
    let mut status = pkt_line(b"unpack ok\n");
    for change in git.changes.iter().flatten() {
        let mut one = b"ng ".to_vec();
        one.extend_from_slice(change.name.as_bytes());
        one.extend_from_slice(b" denied by stockade\n");
        status.extend(pkt_line(&one));
    }
    status.extend_from_slice(b"0000");
    let mut body = band(2, format!("{text}\n").as_bytes());
    body.extend(band(1, &status));
    body.extend_from_slice(b"0000");
    body
}

/// Writes bytes on a side band, in pieces that a pkt-line can hold.
fn band(number: u8, bytes: &[u8]) -> Vec<u8> {
    let piece = |piece: &[u8]| {
        let mut text = vec![number];
        text.extend_from_slice(piece);
        pkt_line(&text)
    };
    bytes.chunks(PIECE_BYTES_MAX).flat_map(piece).collect()
}
