//! `stockade sessions`: all sessions, the newest first.

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_event::{SessionOutcome, layout::is_live};
use stockade_store::SessionRow;

use crate::{
    archive::Archive,
    exit::Exit,
    human::{cut, date_time, span, words},
    output::Output,
};

/// Characters of a command line in the list.
const COMMAND_CHARS_MAX: usize = 28;

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
#[expect(clippy::needless_pass_by_value, reason = "every command has this signature")]
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
        "{:<16}  {:<19}  {:<9}  {:<11}  {:>4} {:>4} {:>4} {:>4}  COMMAND",
        "SESSION", "STARTED", "TOOK", "END", "PROC", "ASK", "DENY", "CONN"
    )];
    for Listed { row, running } in listed {
        let started = row.started_unix_ns.map_or_else(|| "-".to_owned(), |ns| date_time(ns, zone));
        let took = row.duration_ms.map_or_else(|| "-".to_owned(), span);
        let mut command = cut(&words(&row.command), COMMAND_CHARS_MAX);
        if let Some(name) = &row.name {
            command = format!("{} ({command})", cut(&crate::human::safe(name), COMMAND_CHARS_MAX));
        }
        lines.push(format!(
            "{:<16}  {started:<19}  {took:<9}  {:<11}  {:>4} {:>4} {:>4} {:>4}  {command}",
            row.id.as_str(),
            end(row, *running),
            row.processes,
            row.asks,
            row.denials,
            row.connections,
        ));
    }
    lines
}

fn end(row: &SessionRow, running: bool) -> String {
    match &row.outcome {
        _ if row.missing => "record gone".to_owned(),
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
        }
    }

    #[test]
    fn the_list_has_one_line_a_session() {
        let listed = |row, running| Listed { row, running };
        let gone = SessionRow { missing: true, ..row(None) };
        let lines = render(
            &[
                listed(row(Some(SessionOutcome::Exited { code: 0 })), false),
                listed(row(None), true),
                listed(row(None), false),
                listed(gone, false),
            ],
            &TimeZone::UTC,
        );
        assert_eq!(
            lines[0],
            "SESSION           STARTED              TOOK       END          PROC  ASK DENY CONN  \
             COMMAND"
        );
        assert_eq!(
            lines[1],
            "3f2a000000000001  2023-11-14 22:13:20  14 min     exit 0        412    2    3  100  \
             codex exec\\u{1b}"
        );
        for (line, end) in lines[2..].iter().zip(["running", "unfinished", "record gone"]) {
            assert!(line.contains(end), "{line}");
        }
        let json = serde_json::to_value(listed(row(None), true)).unwrap();
        assert_eq!(json["running"], true);
        assert_eq!(json["denials"], 3);
    }
}
