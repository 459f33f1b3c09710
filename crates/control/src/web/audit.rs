//! The record of the server: what people did to it.

use std::{cmp::Reverse, fs, path::Path, sync::Arc, time::SystemTime};

use maud::html;
use serde::Serialize;
use stockade_event::Event;
use stockade_journal::layout::{JOURNAL_FILE, SESSIONS_DIR};
use stockade_types::UnixMillis;

use super::{
    call::Call,
    page::{Page, foreign, time},
    problem::Problem,
    serving::View,
};

/// Rows of the page.
const ROWS: usize = 200;
/// Runs of the server that are looked through for them, the last ones first.
const RUNS: usize = 50;

/// The newest part of the record.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    /// The newest first.
    acts: Vec<Recorded>,
    /// Whether there are older ones.
    more: bool,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
struct Recorded {
    at: UnixMillis,
    /// Which run of the server, and the number of the event in its record.
    run: String,
    seq: u64,
    action: String,
    /// The id of a person, a token or a machine, or `command line`.
    by: String,
    /// The name of the person.
    name: Option<String>,
    detail: String,
}

/// `GET /audit`
pub(crate) async fn show(call: Arc<Call>) -> Result<Audit, Problem> {
    let server = &call.web.server;
    let users = server.state.users().await?;
    let path = server.data.record_path();
    let mut acts = server.blocking(move || newest(&path)).await?;
    let more = acts.len() > ROWS;
    acts.truncate(ROWS);
    for act in &mut acts {
        let by = users.iter().find(|user| user.id.0 == act.by);
        act.name = by.map(|user| user.name.clone());
    }
    Ok(Audit { acts, more })
}

/// Reads the newest acts, one more than the page has if there are as many.
fn newest(record: &Path) -> Vec<Recorded> {
    let runs = fs::read_dir(record.join(SESSIONS_DIR))
        .into_iter()
        .flatten()
        .flatten();
    let mut runs: Vec<_> = runs
        .map(|run| {
            let changed =
                fs::metadata(run.path().join(JOURNAL_FILE)).and_then(|meta| meta.modified());
            (
                Reverse(changed.unwrap_or(SystemTime::UNIX_EPOCH)),
                run.path(),
            )
        })
        .collect();
    runs.sort();
    let mut acts = Vec::new();
    for (_, run) in runs.into_iter().take(RUNS) {
        let Ok(events) = stockade_journal::read(&run) else {
            continue;
        };
        let mut of_run: Vec<Recorded> = events.flatten().filter_map(recorded).collect();
        of_run.reverse();
        acts.append(&mut of_run);
        if acts.len() > ROWS {
            acts.truncate(ROWS + 1);
            break;
        }
    }
    acts
}

fn recorded(envelope: stockade_event::Envelope) -> Option<Recorded> {
    let Event::OperatorActed { action, by, detail } = envelope.event else {
        return None;
    };
    Some(Recorded {
        at: UnixMillis(envelope.time_unix_ns / 1_000_000),
        run: envelope.session.as_str().to_owned(),
        seq: envelope.seq,
        action,
        by,
        name: None,
        detail,
    })
}

impl View for Audit {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            .table tabindex="0" role="region" aria-label="Record" { table.events {
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "By" }
                    th scope="col" { "More" }
                } }
                tbody { @for act in &self.acts {
                    tr {
                        td { (time(act.at, call.now)) }
                        td { code { (foreign(&act.action)) } }
                        td { (foreign(act.name.as_deref().unwrap_or(&act.by))) }
                        td { (foreign(&act.detail)) }
                    }
                } }
            } }
            @if self.more { p.quiet { "Older entries are in the record only." } }
            p {
                "The record is a signed journal in the directory of the server: "
                code { "stockade log verify" } " checks it there."
            }
        };
        Page::new("Audit", body).lead("Who changed what on this server.")
    }
}
