//! `stockade sessions`: all sessions, the newest first.

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_event::{SessionOutcome, layout::is_live};
use stockade_store::SessionRow;

use crate::{
    archive::Archive,
    exit::Exit,
    human::{cut, minute, safe, words},
    output::Output,
};

/// Characters of a name or command line in the list: what is left of 80 columns.
const COMMAND_CHARS_MAX: usize = 21;
/// Digits of an id in the list; as a prefix they name one session of thousands.
const ID_DIGITS: usize = 8;

/// List all sessions, the newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade sessions\n  stockade sessions --json | jq .id")]
pub(crate) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A row and what only the moment knows.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    row: SessionRow,
    /// Whether its supervisor is running.
    running: bool,
}

/// Runs the command.
///
/// # Errors
/// When the state or its index cannot be used.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let mut listed = Vec::new();
    if let Some(mut archive) = Archive::open(out)? {
        for row in archive.store.sessions()? {
            let running = is_live(&archive.state.session_dir(&row.id)).unwrap_or(false);
            listed.push(Listed { row, running });
        }
    }
    if args.json {
        for session in &listed {
            out.json(session)?;
        }
        return Ok(Exit::Yes);
    }
    if listed.is_empty() {
        out.note("stockade: no sessions yet; `stockade run -- CMD` makes one");
        return Ok(Exit::Yes);
    }
    for line in render(&listed, &TimeZone::system()) {
        out.line(line)?;
    }
    Ok(Exit::Yes)
}

fn render(listed: &[Listed], zone: &TimeZone) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<8}  {:<16}  {:<11} {:>6} {:>4} {:>5}  COMMAND",
        "SESSION", "STARTED", "END", "PROC", "ASK", "DENY"
    )];
    for Listed { row, running } in listed {
        let id = row.id.as_str().get(..ID_DIGITS).unwrap_or_default();
        let started = row
            .started_unix_ns
            .map_or_else(|| "-".to_owned(), |ns| minute(ns, zone));
        let what = row
            .name
            .as_deref()
            .map_or_else(|| words(&row.command), safe);
        lines.push(format!(
            "{id:<8}  {started:<16}  {:<11} {:>6} {:>4} {:>5}  {}",
            end(row, *running),
            row.processes,
            row.asks,
            row.denials,
            cut(&what, COMMAND_CHARS_MAX),
        ));
    }
    lines
}

fn end(row: &SessionRow, running: bool) -> String {
    match &row.outcome {
        _ if row.missing => "record gone".to_owned(),
        _ if row.unindexed => "unreadable".to_owned(),
        Some(SessionOutcome::Exited { code }) => format!("exit {code}"),
        Some(SessionOutcome::Signaled { signal }) => format!("signal {signal}"),
        Some(SessionOutcome::Killed { .. }) => "killed".to_owned(),
        Some(SessionOutcome::NotStarted { .. }) => "not started".to_owned(),
        None if running => "running".to_owned(),
        None => "unfinished".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use stockade_event::SessionOutcome;
    use stockade_store::SessionRow;
    use stockade_types::SessionId;

    use super::{Listed, render};

    fn row(outcome: Option<SessionOutcome>) -> SessionRow {
        SessionRow {
            id: SessionId::from_random(0x3f2a_0000_0000_0001),
            name: None,
            started_unix_ns: Some(1_700_000_000_000_000_000),
            ended_unix_ns: None,
            duration_ms: Some(840_000),
            command: vec!["codex".into(), "exec\u{1b}".into()],
            workspace: "/w".into(),
            outcome,
            events: 5,
            processes: 412,
            commands: 31,
            asks: 2,
            denials: 3,
            connections: 100,
            changed_files: 6,
            unreadable: 0,
            missing: false,
            unindexed: false,
        }
    }

    #[test]
    fn the_list_has_one_line_a_session() {
        let listed = |row, running| Listed { row, running };
        let gone = SessionRow {
            missing: true,
            ..row(None)
        };
        let unindexed = SessionRow {
            unindexed: true,
            ..row(None)
        };
        let lines = render(
            &[
                listed(row(Some(SessionOutcome::Exited { code: 0 })), false),
                listed(row(None), true),
                listed(row(None), false),
                listed(gone, false),
                listed(unindexed, false),
            ],
            &TimeZone::UTC,
        );
        assert_eq!(
            lines[0],
            "SESSION   STARTED           END           PROC  ASK  DENY  COMMAND"
        );
        assert_eq!(
            lines[1],
            "3f2a0000  2023-11-14 22:13  exit 0         412    2     3  codex exec\\u{1b}"
        );
        assert!(
            lines.iter().all(|line| line.chars().count() <= 80),
            "{lines:?}"
        );
        for (line, end) in
            lines[2..]
                .iter()
                .zip(["running", "unfinished", "record gone", "unreadable"])
        {
            assert!(line.contains(end), "{line}");
        }
        let json = serde_json::to_value(listed(row(None), true)).unwrap();
        assert_eq!(json["running"], true);
        assert_eq!(json["denials"], 3);
    }
}
