//! `stockade log verify`: whether a record is what was written.

use std::{
    collections::HashMap,
    num::NonZero,
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
};

use anyhow::Context as _;
use serde::Serialize;
use stockade_journal::{
    KeyError, SigningKey, Verification, VerificationVerdict, VerifyError, VerifyingKey,
    layout::is_live, verify_with,
};
use stockade_types::SessionId;

use super::held::OnServer;
use crate::{
    archive::{Archive, Progress, Record, count},
    exit::Exit,
    human::{number, plural, safe},
    output::Output,
};

/// Check whether the record of a session is intact, and say what is missing or changed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 intact, 1 not intact, 2 usage, 3 cannot tell\n\n\
    Examples:\n  stockade log verify last\n  stockade log verify --all --json"
)]
pub(crate) struct Args {
    /// Session id, the beginning of one, a name, or `last`
    #[arg(default_value = "last", conflicts_with = "all")]
    session: String,
    /// Every session
    #[arg(long)]
    all: bool,
    /// Public key to verify with, instead of the one of this machine
    #[arg(long, value_name = "HEX")]
    key: Option<VerifyingKey>,
    /// Print one JSON object a session
    #[arg(long)]
    json: bool,
}

/// What is said of one session.
#[derive(Debug, Serialize)]
struct Report {
    /// Also in a verification, whose JSON stands on the same level.
    #[serde(skip)]
    session: SessionId,
    /// Whether its supervisor is running.
    running: bool,
    #[serde(flatten)]
    result: Found,
    /// What the server of the organisation holds of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<OnServer>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Verified(Verification),
    /// The index knows the session, its journal is gone.
    Gone {
        session: SessionId,
        verdict: &'static str,
        events_known: u64,
    },
    Unknown {
        session: SessionId,
        verdict: &'static str,
        reason: String,
    },
}

/// Runs the command.
///
/// # Errors
/// When the state, the key or the index cannot be used.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(args.json);
    let mut archive = match Archive::open_some(out)? {
        Ok(archive) => archive,
        Err(exit) => return Ok(exit),
    };
    let key = match public_key(&args, &archive) {
        Ok(key) => key,
        Err(error @ KeyError::Missing { .. }) => {
            out.note(format_args!("stockade: {error}"));
            return Ok(Exit::CannotTell);
        }
        Err(error) => return Err(error).context("cannot verify without the key"),
    };
    let records = if args.all {
        let rows = archive.store.sessions()?;
        rows.into_iter().map(|row| archive.record(row.id)).collect()
    } else {
        match archive.find(&args.session, out)? {
            Ok(record) => vec![record],
            Err(exit) => return Ok(exit),
        }
    };
    let mut exit = Exit::Yes;
    let mut known = None;
    let state = archive.state.path().to_owned();
    for checked in check_all(records, &key, &state) {
        let report = checked.report(&mut archive, &mut known)?;
        exit = worse(exit, report.exit());
        out.value(&report, |report| report.lines().join("\n"))?;
    }
    Ok(exit)
}

fn public_key(args: &Args, archive: &Archive) -> Result<VerifyingKey, KeyError> {
    match args.key {
        Some(key) => Ok(key),
        None => SigningKey::load(&archive.state.key_path()).map(|key| key.verifying_key()),
    }
}

/// One session and what its journal gave.
struct Checked {
    session: SessionId,
    running: bool,
    verified: Result<Verification, VerifyError>,
    server: Option<OnServer>,
}

/// Verifies `records` on all processors; the results are in their order.
fn check_all(mut records: Vec<Record>, key: &VerifyingKey, state: &Path) -> Vec<Checked> {
    if records.len() == 1
        && let Some(record) = records.pop()
    {
        let mut progress = Progress::new(format!("verifying {}", record.session.short()));
        let checked = check(record, key, state, &mut |at| {
            progress.at(at.bytes, at.bytes_total);
        });
        progress.done();
        return vec![checked];
    }
    let total = records.len();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let waiting = Mutex::new(records.into_iter().enumerate());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next()
    };
    let (give, take) = mpsc::channel();
    let mut all = Vec::with_capacity(total);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let give = give.clone();
            let next = &next;
            scope.spawn(move || {
                while let Some((place, record)) = next() {
                    let checked = check(record, key, state, &mut |_| {});
                    if give.send((place, checked)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(give);
        let mut progress = Progress::new("verifying");
        for checked in take {
            all.push(checked);
            progress.at(count(all.len()), count(total));
        }
        progress.done();
    });
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, checked)| checked).collect()
}

fn check(
    Record { session, dir }: Record,
    key: &VerifyingKey,
    state: &Path,
    report: &mut dyn FnMut(stockade_journal::Progress),
) -> Checked {
    // Asked first: a session that ends meanwhile is then at most called unfinished too early.
    let running = is_live(&dir).unwrap_or(false);
    let verified = verify_with(&dir, &session, key, report);
    let server = OnServer::of(&session, state, &dir);
    Checked {
        session,
        running,
        verified,
        server,
    }
}

impl Checked {
    /// Says it; `known` keeps what the index remembers of all sessions, once that is needed.
    fn report(
        self,
        archive: &mut Archive,
        known: &mut Option<HashMap<SessionId, u64>>,
    ) -> anyhow::Result<Report> {
        let Self {
            session,
            running,
            verified,
            server,
        } = self;
        let result = match verified {
            Ok(mut verification) => {
                if let Some(OnServer::Contradicted { detail }) = &server {
                    verification.contradict(detail.clone());
                }
                Found::Verified(verification)
            }
            Err(error @ VerifyError::NoJournal { .. }) => {
                if known.is_none() {
                    let rows = archive.store.sessions()?;
                    *known = Some(rows.into_iter().map(|row| (row.id, row.events)).collect());
                }
                let known = known.get_or_insert_default();
                let events = known.get(&session).copied().unwrap_or_default();
                not_verified(session.clone(), &error, events)
            }
            Err(error @ VerifyError::Io { .. }) => not_verified(session.clone(), &error, 0),
        };
        Ok(Report {
            session,
            running,
            result,
            server,
        })
    }
}

fn not_verified(session: SessionId, error: &VerifyError, events_known: u64) -> Found {
    if events_known > 0 {
        return Found::Gone {
            session,
            verdict: "broken",
            events_known,
        };
    }
    let cause = std::error::Error::source(error);
    let reason = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    Found::Unknown {
        session,
        verdict: "unknown",
        reason,
    }
}

impl Report {
    fn exit(&self) -> Exit {
        let server = self.server.as_ref().map_or(Exit::Yes, OnServer::exit);
        worse(self.exit_alone(), server)
    }

    /// Returns what the journal alone gives.
    fn exit_alone(&self) -> Exit {
        match &self.result {
            Found::Verified(verification) => match &verification.verdict {
                VerificationVerdict::Intact => Exit::Yes,
                VerificationVerdict::Unfinished { .. } if self.running => Exit::Yes,
                VerificationVerdict::Unfinished { .. } | VerificationVerdict::Broken { .. } => {
                    Exit::No
                }
            },
            Found::Gone { .. } => Exit::No,
            Found::Unknown { .. } => Exit::CannotTell,
        }
    }

    /// Renders the report; the first line says it all.
    fn lines(&self) -> Vec<String> {
        let mut lines = self.lines_alone();
        lines.extend(self.server.as_ref().and_then(OnServer::line));
        lines
    }

    fn lines_alone(&self) -> Vec<String> {
        let id = &self.session;
        match &self.result {
            Found::Verified(verification) => self.verified(verification),
            Found::Gone { events_known, .. } => vec![format!(
                "{id}  broken: its journal is gone; the index remembers {}",
                plural(*events_known, "event", "events")
            )],
            Found::Unknown { reason, .. } => vec![format!("{id}  cannot tell: {}", safe(reason))],
        }
    }

    fn verified(&self, verification: &Verification) -> Vec<String> {
        let id = &self.session;
        let events = plural(verification.events, "event", "events");
        match &verification.verdict {
            VerificationVerdict::Intact => vec![format!(
                "{id}  intact: {events}, signed to the end, key {}",
                verification.key.get(..12).unwrap_or(&verification.key)
            )],
            VerificationVerdict::Unfinished { .. } if self.running => vec![format!(
                "{id}  intact so far, session still running: {events}, {} signed",
                number(verification.signed_events)
            )],
            VerificationVerdict::Unfinished {
                unsigned_events,
                torn_bytes,
                left_events,
            } => {
                let mut lines = vec![
                    format!("{id}  unfinished: no closing signature"),
                    "  the supervisor was killed, or the end was removed".to_owned(),
                ];
                let unsigned = match unsigned_events {
                    0 => "all of them signed".to_owned(),
                    unsigned => format!("the last {} not signed", number(*unsigned)),
                };
                lines.push(format!("  {events} chain together, {unsigned}"));
                if *torn_bytes > 0 {
                    let torn = plural(*torn_bytes, "byte", "bytes");
                    lines.push(format!("  the last line was never finished: {torn}"));
                }
                if *left_events > 0 {
                    let left = plural(*left_events, "decision", "decisions");
                    lines.push(format!(
                        "  {left} of the last second took effect and are not in the chain"
                    ));
                }
                lines
            }
            VerificationVerdict::Broken { faults, more } => {
                let total = u64::try_from(faults.len())
                    .unwrap_or(u64::MAX)
                    .saturating_add(*more);
                let mut lines = vec![format!(
                    "{id}  broken: {}",
                    plural(total, "fault", "faults")
                )];
                lines.extend(
                    faults
                        .iter()
                        .map(|fault| format!("  {}", safe(&fault.to_string()))),
                );
                if *more > 0 {
                    lines.push(format!("  … and {} more", number(*more)));
                }
                lines
            }
        }
    }
}

/// Returns the graver of two answers: something found, then something unknown.
fn worse(one: Exit, other: Exit) -> Exit {
    match (one, other) {
        (Exit::No, _) | (_, Exit::No) => Exit::No,
        (Exit::CannotTell, _) | (_, Exit::CannotTell) => Exit::CannotTell,
        _ => Exit::Yes,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use stockade_event::{Durability, Event, Stamp};
    use stockade_journal::{Journal, SigningKey, verify};
    use stockade_types::SessionId;

    use super::{Found, Report, worse};
    use crate::exit::Exit;

    /// Makes a journal with two events, changes it with `tamper`, and reports on it.
    fn report(running: bool, close: bool, tamper: impl FnOnce(String) -> String) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionId::from_random(0x3f2a_0000_0000_0001);
        let key = SigningKey::load_or_create(&dir.path().join("key")).unwrap();
        let public = key.verifying_key();
        let mut journal = Journal::create(dir.path(), session.clone(), key).unwrap();
        for count in 1..=2 {
            let event = Event::EventsLost {
                source: "test".to_owned(),
                count,
                reason: "full".to_owned(),
            };
            let stamp = Stamp::default();
            journal
                .append(stamp, "test", None, None, &event, Durability::Written)
                .unwrap();
        }
        if close {
            journal.finish(Stamp::default()).unwrap();
        } else {
            journal.checkpoint(Stamp::default()).unwrap();
        }
        let path = dir.path().join("journal.jsonl");
        fs::write(&path, tamper(fs::read_to_string(&path).unwrap())).unwrap();
        let result = Found::Verified(verify(dir.path(), &session, &public).unwrap());
        Report {
            server: None,
            session,
            running,
            result,
        }
    }

    fn same(text: String) -> String {
        text
    }

    #[test]
    fn each_state_has_its_words_and_its_code() {
        let intact = report(false, true, same);
        assert_eq!(intact.exit(), Exit::Yes);
        assert!(intact.lines()[0].starts_with("3f2a000000000001  intact: 2 events, signed"));
        let running = report(true, false, same);
        assert_eq!(running.exit(), Exit::Yes);
        assert!(running.lines()[0].contains("intact so far, session still running"));
        let dead = report(false, false, same);
        assert_eq!(dead.exit(), Exit::No);
        assert!(
            dead.lines()[0].contains("no closing signature"),
            "{:?}",
            dead.lines()
        );
        let broken = report(true, true, |text| text.replace("full", "fuul"));
        assert_eq!(broken.exit(), Exit::No);
        assert_eq!(broken.lines()[0], "3f2a000000000001  broken: 2 faults");
        assert!(broken.lines()[1].starts_with("  line 2: changed: event 1"));
    }

    #[test]
    fn json_has_the_same_verdict() {
        let json = serde_json::to_value(report(false, true, same)).unwrap();
        assert_eq!(json["verdict"], "intact");
        assert_eq!(json["events"], 2);
        let json = serde_json::to_value(report(false, false, same)).unwrap();
        assert_eq!(json["verdict"], "unfinished");
        let text = serde_json::to_string(&report(false, true, same)).unwrap();
        assert_eq!(text.matches("\"session\"").count(), 1, "{text}");
        let broken = report(false, true, |text| {
            text.replace("\"count\":2", "\"count\":3")
        });
        let json = serde_json::to_value(broken).unwrap();
        assert_eq!(json["verdict"], "broken");
        assert_eq!(json["faults"][0]["what"], "changed");
        assert_eq!(json["faults"][0]["seq"], 2);
    }

    #[test]
    fn a_journal_that_is_gone_is_broken_if_it_was_ever_seen() {
        let session = SessionId::from_random(1);
        let error = stockade_journal::VerifyError::NoJournal {
            path: "/s/journal".into(),
        };
        let report = |known| Report {
            server: None,
            session: session.clone(),
            running: false,
            result: super::not_verified(session.clone(), &error, known),
        };
        assert_eq!(report(7).exit(), Exit::No);
        assert!(report(7).lines()[0].contains("remembers 7 events"));
        assert_eq!(report(0).exit(), Exit::CannotTell);
        let json = serde_json::to_value(report(0)).unwrap();
        assert_eq!(json["session"], session.as_str());
        assert_eq!(json["verdict"], "unknown");
    }

    #[test]
    fn something_found_is_graver_than_something_unknown() {
        assert_eq!(worse(Exit::Yes, Exit::CannotTell), Exit::CannotTell);
        assert_eq!(worse(Exit::CannotTell, Exit::No), Exit::No);
        assert_eq!(worse(Exit::No, Exit::Yes), Exit::No);
        assert_eq!(worse(Exit::Yes, Exit::Yes), Exit::Yes);
    }
}
