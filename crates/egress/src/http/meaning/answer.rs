//! Refusals in the words of the service, where a client would not show the usual ones.

use stockade_policy::{Git, GitOperation, Meaning};
use stockade_types::DecisionRecord;

use crate::http::{
    answer::Answer,
    head::{Field, Head},
};

/// Longest text that one pkt-line of an error carries (gitprotocol-common).
const TEXT_BYTES_MAX: usize = 1000;

/// Answers a refused request as git reads it: an error line where refs are asked for, a message and a
/// report of each ref where they are pushed. `None` if the client would not understand it.
pub(crate) fn reply(head: &Head, meaning: &[Meaning], record: &DecisionRecord) -> Option<Answer> {
    let is_git = |field: Field<'_>| field.is("user-agent") && field.value.starts_with(b"git/");
    let git = meaning.iter().find_map(|one| match one {
        Meaning::Git(git) => Some(git),
        Meaning::Package(_) | Meaning::Forge(_) | Meaning::Model(_) => None,
    });
    let git = git.filter(|_| head.fields.iter().any(is_git))?;
    let text = sentence(record);
    match git.operation {
        GitOperation::Prepare | GitOperation::Fetch if head.method == "GET" => {
            let service = match git.operation {
                GitOperation::Prepare => "git-receive-pack",
                _ => "git-upload-pack",
            };
            let mut body = line(format!("# service={service}\n").as_bytes());
            body.extend_from_slice(b"0000");
            body.extend(line(format!("ERR {text}").as_bytes()));
            let kind = match git.operation {
                GitOperation::Prepare => "application/x-git-receive-pack-advertisement",
                _ => "application/x-git-upload-pack-advertisement",
            };
            Some(Answer::in_protocol(kind, body))
        }
        GitOperation::Push => Some(Answer::in_protocol(
            "application/x-git-receive-pack-result",
            report(git, &text),
        )),
        GitOperation::Fetch => Some(Answer::in_protocol(
            "application/x-git-upload-pack-result",
            line(format!("ERR {text}").as_bytes()),
        )),
        GitOperation::Prepare | GitOperation::Upload => None,
    }
}

/// One plain sentence for a person.
fn sentence(record: &DecisionRecord) -> String {
    let rule = record
        .rule
        .as_ref()
        .map(|rule| format!(" by the rule `{rule}`"));
    let mut text = format!(
        "denied by stockade{} ({}): {}",
        rule.unwrap_or_default(),
        record.decision,
        stockade_types::RawText::from(record.reason.as_str()).display()
    );
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// Writes the report of a push none of whose refs was changed.
fn report(git: &Git, text: &str) -> Vec<u8> {
    let mut status = line(b"unpack ok\n");
    for change in git.changes.iter().flatten() {
        let mut one = b"ng ".to_vec();
        one.extend_from_slice(change.name.as_bytes());
        one.extend_from_slice(b" denied by stockade\n");
        status.extend(line(&one));
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
        line(&text)
    };
    bytes.chunks(TEXT_BYTES_MAX - 1).flat_map(piece).collect()
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", text.len() + 4).into_bytes();
    line.extend_from_slice(text);
    line
}
