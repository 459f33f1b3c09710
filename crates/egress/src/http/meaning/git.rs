//! The commands with which a push begins (pkt-lines, gitprotocol-pack).

use stockade_policy::{Git, GitOperation, Meaning, RefChange, RefEffect};
use stockade_types::RawText;

use crate::{
    http::head::Head,
    limits::{PUSH_CHANGES_MAX, REF_BYTES_MAX},
};

/// Length of object names in hexadecimal: SHA-1 and SHA-256.
const ID_DIGITS: [usize; 2] = [40, 64];
/// Bytes of the length in front of each line.
const LENGTH_BYTES: usize = 4;

/// Takes what the fields of a head say in spite of its path: a server could be asked for a push by any
/// path.
pub(super) fn look_at_fields(meaning: &mut Vec<Meaning>, head: &Head) {
    let pushes = head.fields.iter().any(|field| {
        let value = String::from_utf8_lossy(field.value).to_lowercase();
        field.is("content-type") && value.contains("git-receive-pack")
    });
    let is_push =
        |one: &Meaning| matches!(one, Meaning::Git(git) if git.operation == GitOperation::Push);
    if pushes && !meaning.iter().any(is_push) {
        meaning.retain(|one| !matches!(one, Meaning::Git(_)));
        meaning.push(Meaning::Git(Git::unclear()));
    }
}

/// Tells whether the commands are not whole yet, and could still be.
pub(super) fn wants_more(body: &[u8]) -> bool {
    matches!(changes(body), Commands::Cut)
}

/// Adds what the body says of a push.
pub(super) fn complete(git: &mut Git, body: &[u8], is_whole: bool) {
    if git.operation != GitOperation::Push || !git.is_certain {
        return;
    }
    match changes(body) {
        // Git tries so whether it may push, before it sends much.
        Commands::Whole { changes, length } if changes.is_empty() => {
            if is_whole && length == body.len() {
                git.operation = GitOperation::Prepare;
            }
        }
        Commands::Whole { changes, .. } => git.changes = Some(changes),
        Commands::Cut | Commands::Unknown => {}
    }
}

enum Commands {
    /// All that is asked for, in so many bytes.
    Whole {
        changes: Vec<RefChange>,
        length: usize,
    },
    /// More bytes are needed.
    Cut,
    /// They are something else.
    Unknown,
}

/// Reads the commands up to the flush behind them.
fn changes(body: &[u8]) -> Commands {
    let mut changes = Vec::new();
    let mut at = 0;
    loop {
        let Some(digits) = body.get(at..at + LENGTH_BYTES) else {
            return Commands::Cut;
        };
        let Some(length) = length_of(digits) else {
            return Commands::Unknown;
        };
        if length == 0 {
            let length = at + LENGTH_BYTES;
            return Commands::Whole { changes, length };
        }
        // Delimiters and the like have no place here.
        if length <= LENGTH_BYTES || length > REF_BYTES_MAX || changes.len() == PUSH_CHANGES_MAX {
            return Commands::Unknown;
        }
        let Some(line) = body.get(at + LENGTH_BYTES..at + length) else {
            return Commands::Cut;
        };
        at += length;
        let is_first = changes.is_empty();
        match command(line, is_first) {
            Some(Line::Change(change)) => changes.push(change),
            Some(Line::Shallow) => {}
            None => return Commands::Unknown,
        }
    }
}

fn length_of(digits: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| usize::from_str_radix(text, 16).ok())?
}

/// One line of the commands.
enum Line {
    Change(RefChange),
    /// A commit whose parents the client does not have.
    Shallow,
}

/// Reads one line; `None` for anything else (a signed push has its commands elsewhere).
fn command(line: &[u8], is_first: bool) -> Option<Line> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let end = line.iter().position(|byte| *byte == 0);
    if end.is_some() && !is_first {
        return None;
    }
    let said = line.get(..end.unwrap_or(line.len()))?;
    if let Some(id) = said.strip_prefix(b"shallow ") {
        return id_of(id).map(|_| Line::Shallow);
    }
    let mut parts = said.splitn(3, |byte| *byte == b' ');
    let (old, new, name) = (id_of(parts.next()?)?, id_of(parts.next()?)?, parts.next()?);
    if name.is_empty() || name.contains(&b'\n') {
        return None;
    }
    let none = |id: &str| id.bytes().all(|digit| digit == b'0');
    let effect = match (none(&old), none(&new)) {
        (true, true) => return None,
        (true, false) => RefEffect::Create,
        (false, false) => RefEffect::Update,
        (false, true) => RefEffect::Delete,
    };
    Some(Line::Change(RefChange {
        name: RawText::from_bytes(name),
        effect,
        ids: (old, new),
    }))
}

fn id_of(digits: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(digits).ok()?;
    let whole = ID_DIGITS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Commands, changes};
    use stockade_policy::RefEffect;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const ONE: &str = "1111111111111111111111111111111111111111";

    fn line(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    /// What a body says: the effects and names, `cut` or `unknown`.
    fn said(body: &str) -> String {
        match changes(body.as_bytes()) {
            Commands::Cut => "cut".to_owned(),
            Commands::Unknown => "unknown".to_owned(),
            Commands::Whole { changes, length } => {
                let word = |effect| match effect {
                    RefEffect::Create => "create",
                    RefEffect::Update => "update",
                    RefEffect::Delete => "delete",
                };
                let texts: Vec<String> = changes
                    .iter()
                    .map(|one| format!("{} {}", word(one.effect), one.name.display()))
                    .collect();
                assert!(length <= body.len());
                texts.join(", ")
            }
        }
    }

    #[test]
    fn commands_are_read_to_their_flush_or_not_at_all() {
        let first = line(&format!(
            "{ONE} {ONE} refs/heads/main\0 report-status agent=git/2"
        ));
        let new = line(&format!("{ZERO} {ONE} refs/tags/v1"));
        let gone = line(&format!("{ONE} {ZERO} refs/heads/old\n"));
        let whole = format!("{first}{new}{gone}0000PACK");
        assert_eq!(
            said(&whole),
            "update refs/heads/main, create refs/tags/v1, delete refs/heads/old"
        );
        for cut in 0..whole.len() - 4 {
            assert_eq!(said(&whole[..cut]), "cut", "{cut}");
        }
        let shallow = line(&format!("shallow {ONE}"));
        assert_eq!(
            said(&format!("{shallow}{first}0000")),
            "update refs/heads/main"
        );
        assert_eq!(said("0000"), "");
        for odd in [
            "PACK".to_owned(),
            "0001".to_owned(),
            "0004".to_owned(),
            "fff0".to_owned(),
            "+001".to_owned(),
            line("push-cert\0atomic"),
            line(&format!("{ZERO} {ZERO} refs/heads/main")),
            line(&format!("{ONE}  {ONE} refs/heads/main")),
            line(&format!("{ONE} {ONE} ")),
            line(&format!("{ONE} {ONE} a\nb")),
            format!("{first}{first}"),
        ] {
            assert_eq!(said(&odd), "unknown", "{odd:?}");
        }
    }
}
