//! The list of refusals that the session can read: bounded for each refusal, and for all.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
};

use serde::Serialize;
use stockade_types::{DecisionRecord, RawText};

/// Bytes of the list if policy sets no limit: thousands of refusals.
pub(crate) const DENIALS_BYTES_MAX: u64 = 4 << 20;
/// Bytes of arguments that one refusal shows: enough for an agent to recognise its own command.
const ARGUMENTS_BYTES_MAX: usize = 2048;
/// Bytes of a path, a directory or a text that one refusal shows.
const TEXT_BYTES_MAX: usize = 1024;
/// Parents that one refusal shows.
const PARENTS_MAX: usize = 3;

/// The file, and what is in it.
pub(crate) struct Denials {
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Refusals in the file, and those that were removed to make room.
    kept: u64,
    removed: u64,
}

/// A refusal as the session reads it.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    decision: &'a DecisionRecord,
    /// Bytes of arguments, paths and texts that are not shown; the record has them.
    #[serde(skip_serializing_if = "is_zero")]
    bytes_cut: u64,
}

/// The first line, once older refusals made room.
#[derive(Serialize)]
struct Removed {
    removed: u64,
    note: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl Denials {
    /// Takes the new file, open for appending.
    pub(crate) const fn new(file: File, bytes_max: u64) -> Self {
        Self {
            file,
            bytes: 0,
            bytes_max,
            kept: 0,
            removed: 0,
        }
    }

    /// Adds a refusal. The journal has it already, so a failure loses no record.
    pub(crate) fn add(&mut self, decision: &DecisionRecord) -> io::Result<()> {
        let (short, bytes_cut) = shortened(decision);
        let told = Told {
            decision: &short,
            bytes_cut,
        };
        let line = line(&told)?;
        if self.bytes + size(&line) > self.bytes_max {
            self.make_room()?;
        }
        self.write(&line)?;
        self.kept += 1;
        Ok(())
    }

    /// The newest refusals matter, so all older ones go at once, and the first line says so.
    fn make_room(&mut self) -> io::Result<()> {
        self.removed += std::mem::take(&mut self.kept);
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.bytes = 0;
        let removed = Removed {
            removed: self.removed,
            note: "this many older refusals were removed to make room; the owner's record has them all",
        };
        self.write(&line(&removed)?)
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        self.bytes += size(line);
        Ok(())
    }
}

fn size(line: &[u8]) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Makes a copy of bounded size; returns how many bytes were cut. The parts that are cut are
/// neither copied nor rendered.
fn shortened(decision: &DecisionRecord) -> (DecisionRecord, u64) {
    let mut cut = 0;
    let (own, target) = (&decision.subject, &decision.target);
    let mut optional = |text: &Option<RawText>| text.as_ref().map(|text| raw(text, &mut cut));
    let (path, raw_path, cwd) = (
        optional(&target.path),
        optional(&target.raw_path),
        optional(&target.cwd),
    );
    let short = DecisionRecord {
        decision: decision.decision,
        verdict: decision.verdict,
        kind: decision.kind,
        subject: stockade_types::Subject {
            id: own.id,
            exe: raw(&own.exe, &mut cut),
            argv: words(&own.argv, &mut cut).into(),
            cwd: raw(&own.cwd, &mut cut),
            ancestry: own.ancestry.iter().take(PARENTS_MAX).cloned().collect(),
        },
        target: stockade_types::Target {
            host: target.host.clone(),
            port: target.port,
            method: target.method.clone(),
            path,
            raw_path,
            argv: words(&target.argv, &mut cut),
            cwd,
            access: target.access,
            meaning: words(&target.meaning, &mut cut),
            // They say the same again, in no fewer bytes.
            meant: Vec::new(),
            call: target.call.clone(),
            tool: target.tool.as_ref().map(|tool| raw(tool, &mut cut)),
            server: target.server.as_ref().map(|server| raw(server, &mut cut)),
        },
        rule: decision.rule.clone(),
        answered: decision.answered.clone(),
        reason: text(&decision.reason, &mut cut),
        failed_condition: decision.failed_condition.clone(),
        nearest_allow: decision.nearest_allow.clone(),
        remedy: text(&decision.remedy, &mut cut),
        policy_revision: decision.policy_revision,
        session: decision.session.clone(),
        time: decision.time,
    };
    (short, cut)
}

fn count(cut: &mut u64, bytes: usize) {
    *cut = cut.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
}

fn raw(whole: &RawText, cut: &mut u64) -> RawText {
    let bytes = whole.as_bytes();
    match bytes.split_at_checked(TEXT_BYTES_MAX) {
        Some((kept, rest)) if !rest.is_empty() => {
            count(cut, rest.len());
            RawText::from_bytes(kept)
        }
        Some(_) | None => whole.clone(),
    }
}

fn text(whole: &str, cut: &mut u64) -> String {
    let end = whole.floor_char_boundary(TEXT_BYTES_MAX);
    let (kept, rest) = whole.split_at_checked(end).unwrap_or((whole, ""));
    count(cut, rest.len());
    kept.to_owned()
}

fn words(whole: &[RawText], cut: &mut u64) -> Vec<RawText> {
    let mut left = ARGUMENTS_BYTES_MAX;
    let mut kept = Vec::new();
    for word in whole {
        let bytes = word.as_bytes();
        match bytes.get(..left) {
            // An argument takes room even when it is empty.
            None if left > 0 => kept.push(word.clone()),
            Some(begin) if left > 0 => {
                kept.push(RawText::from_bytes(begin));
                count(cut, bytes.len() - begin.len());
            }
            None | Some(_) => count(cut, bytes.len()),
        }
        left = left.saturating_sub(bytes.len() + 1);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _};

    use stockade_types::{
        DecisionId, DecisionRecord, Digest, RawText, RequestKind, SessionId, Subject, Target,
        UnixMillis, Verdict,
    };

    use super::Denials;

    fn refusal(number: u64, argv: Vec<RawText>) -> DecisionRecord {
        DecisionRecord {
            decision: DecisionId::new(number),
            verdict: Verdict::Deny,
            kind: RequestKind::Exec,
            subject: Subject {
                argv: argv.clone().into(),
                ..Subject::default()
            },
            target: Target {
                path: Some(RawText::from_bytes(vec![1; 4000])),
                argv,
                ..Target::default()
            },
            rule: None,
            answered: None,
            reason: "\u{fc}".repeat(4000),
            failed_condition: None,
            nearest_allow: None,
            remedy: String::new(),
            policy_revision: Digest::of(b""),
            session: SessionId::from_random(1),
            time: UnixMillis(0),
        }
    }

    fn denials(bytes_max: u64) -> (Denials, fs::File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let append = fs::OpenOptions::new().append(true).open(file.path());
        let (denials, read) = (append.unwrap(), file.reopen().unwrap());
        (Denials::new(denials, bytes_max), read)
    }

    #[test]
    fn one_refusal_takes_little_and_says_what_is_missing() {
        let (mut denials, mut file) = denials(1 << 20);
        let huge = vec![RawText::from_bytes(vec![1; 100_000]); 20];
        denials.add(&refusal(1, huge)).unwrap();
        denials
            .add(&refusal(2, vec!["ls".into(), "-l".into()]))
            .unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].len() < 64 * 1024, "{}", lines[0].len());
        let told: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        let expected = 2 * (2_000_000 - 2048) + (4000 - 1024) + (8000 - 1024);
        assert_eq!(told["bytes_cut"], expected);
        let told: DecisionRecord = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(told.target.argv, [RawText::from("ls"), "-l".into()]);
    }

    #[test]
    fn all_of_them_are_bounded_and_the_newest_stays() {
        let (mut denials, mut file) = denials(100_000);
        for number in 1..=500 {
            denials.add(&refusal(number, vec!["ls".into()])).unwrap();
            assert!(file.metadata().unwrap().len() <= 100_000);
        }
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let kept = u64::try_from(text.lines().count() - 1).unwrap();
        assert_eq!(first["removed"].as_u64().unwrap() + kept, 500);
        let last: DecisionRecord = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last.decision, DecisionId::new(500));
    }
}
