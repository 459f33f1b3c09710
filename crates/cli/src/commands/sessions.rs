//! `stockade sessions`: the sessions, with the newest last, next to the prompt.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_event::SessionOutcome;
use stockade_journal::layout::is_live;
use stockade_store::SessionRow;
use stockade_types::RawText;

use crate::{
    archive::Archive,
    exit::Exit,
    human::{cut, cut_front, day_and_minute, safe, words},
    output::Output,
    state::HOME_VARIABLE,
};

/// Digits of an id in the list; as a prefix they identify one session among thousands.
const ID_DIGITS: usize = 8;
/// Sessions that are listed by default: as many as fit a small terminal.
const LISTED: usize = 20;
/// Columns of a workspace, and of a name if there is a column for it.
const WORKSPACE_CHARS_MAX: usize = 24;
const NAME_CHARS_MAX: usize = 20;
/// Number of columns from which names have their own column.
const WIDE_COLUMNS: usize = 110;
/// Fewest columns of a command; if there is no room for them, a line is longer.
const COMMAND_CHARS_MIN: usize = 12;

/// List sessions, the newest last.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade sessions\n  stockade sessions --workspace . --all\n  \
    stockade sessions --json | jq .id"
)]
pub(crate) struct Args {
    /// List this number of the newest [default: 20; with --json all]
    #[arg(long, value_name = "N", conflicts_with = "all")]
    limit: Option<usize>,
    /// List all
    #[arg(long)]
    all: bool,
    /// Only sessions that worked on this directory, or on one below it
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A row, and its present state.
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
    let mut older = 0;
    if let Some(mut archive) = Archive::open(out)? {
        let mut rows = archive.store.sessions()?;
        if let Some(directory) = &args.workspace {
            keep_below(&mut rows, directory)?;
        }
        let limit = match (args.limit, args.all || args.json) {
            (Some(limit), _) => limit,
            (None, true) => rows.len(),
            (None, false) => LISTED,
        };
        older = rows.len().saturating_sub(limit);
        rows.truncate(limit);
        for row in rows.into_iter().rev() {
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
    if listed.is_empty() && older == 0 {
        out.note(match args.workspace {
            Some(_) => "stockade: no session worked there",
            None => "stockade: no sessions yet; `stockade run -- CMD` makes one",
        });
        return Ok(Exit::Yes);
    }
    let home = std::env::var_os(HOME_VARIABLE).map(|home| RawText::from_os(&home));
    let width = out.columns();
    for line in render(&listed, &TimeZone::system(), width, home.as_ref()) {
        out.line(line)?;
    }
    if older > 0 {
        out.note(format_args!(
            "stockade: {older} older; `stockade sessions --all` lists them"
        ));
    }
    Ok(Exit::Yes)
}

/// Keeps the sessions that worked on a directory, or on one below it.
///
/// # Errors
/// When the directory is gone and the current one is too.
pub(super) fn keep_below(rows: &mut Vec<SessionRow>, directory: &Path) -> io::Result<()> {
    // A directory that is gone is compared by the name that it had.
    let directory = std::fs::canonicalize(directory).or_else(|_| std::path::absolute(directory))?;
    rows.retain(|row| {
        let workspace = row.workspace.to_os();
        (workspace.to_str()).is_some_and(|path| Path::new(path).starts_with(&directory))
    });
    Ok(())
}

/// Renders the list; `width` is that of the terminal, if there is one.
fn render(
    listed: &[Listed],
    zone: &TimeZone,
    width: Option<usize>,
    home: Option<&RawText>,
) -> Vec<String> {
    let is_wide = width.is_none_or(|width| width >= WIDE_COLUMNS);
    let has_names = is_wide && listed.iter().any(|listed| listed.row.name.is_some());
    let longest = |text: &dyn Fn(&Listed) -> String, most: usize| {
        let all = listed.iter().map(|listed| text(listed).chars().count());
        all.max().unwrap_or_default().min(most)
    };
    let name = |listed: &Listed| listed.row.name.as_deref().map(safe).unwrap_or_default();
    let place = |listed: &Listed| short_place(&listed.row.workspace, home);
    let places =
        longest(&place, if is_wide { WORKSPACE_CHARS_MAX } else { 14 }).max("WORKSPACE".len());
    let names = longest(&name, NAME_CHARS_MAX).max("NAME".len());
    let line = |id: &str,
                started: &str,
                end: &str,
                counts: [String; 3],
                place: &str,
                named: &str,
                command: &str| {
        let [processes, asks, denials] = counts;
        let mut line = format!(
            "{id:<8}  {started:<11}  {end:<11} {processes:>5} {asks:>4} {denials:>4}  {place:<places$}  "
        );
        if has_names {
            line = format!("{line}{named:<names$}  ");
        }
        let room = width.map(|width| width.saturating_sub(line.chars().count()));
        match room {
            Some(room) => line + &cut(command, room.max(COMMAND_CHARS_MIN)),
            None => line + command,
        }
    };
    let words_of = ["PROC", "ASK", "DENY"].map(str::to_owned);
    let mut lines = vec![line(
        "SESSION",
        "STARTED",
        "END",
        words_of,
        "WORKSPACE",
        "NAME",
        "COMMAND",
    )];
    for one in listed {
        let row = &one.row;
        let id = row.id.as_str().get(..ID_DIGITS).unwrap_or_default();
        let started = row.started_unix_ns;
        let started = started.map_or_else(|| "-".to_owned(), |ns| day_and_minute(ns, zone));
        let command = match &row.name {
            Some(name) if !has_names => format!("{}: {}", safe(name), words(&row.command)),
            _ => words(&row.command),
        };
        lines.push(line(
            id,
            &started,
            &end(row, one.running),
            [row.processes, row.asks, row.denials].map(|count| count.to_string()),
            &cut_front(&place(one), places),
            &cut(&name(one), names),
            &command,
        ));
    }
    lines
}

/// Writes a workspace as people do, with `~` for the home.
fn short_place(workspace: &RawText, home: Option<&RawText>) -> String {
    let below = home
        .filter(|home| home.as_bytes().len() > 1)
        .and_then(|home| {
            let rest = workspace.as_bytes().strip_prefix(home.as_bytes())?;
            (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
        });
    below.map_or_else(
        || workspace.display(),
        |rest| format!("~{}", RawText::from_bytes(rest).display()),
    )
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
    use stockade_types::{RawText, SessionId};

    use super::{Listed, render};

    fn row(outcome: Option<SessionOutcome>) -> SessionRow {
        SessionRow {
            id: SessionId::from_random(0x3f2a_0000_0000_0001),
            name: None,
            started_unix_ns: Some(1_700_000_000_000_000_000),
            ended_unix_ns: None,
            duration_ms: Some(840_000),
            command: vec!["codex".into(), "exec\u{1b}".into()],
            workspace: "/home/u/shop".into(),
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
        let all = [
            listed(row(Some(SessionOutcome::Exited { code: 0 })), false),
            listed(row(None), true),
            listed(row(None), false),
            listed(gone, false),
            listed(unindexed, false),
        ];
        let home = RawText::from("/home/u");
        let lines = render(&all, &TimeZone::UTC, Some(80), Some(&home));
        assert_eq!(
            lines[0],
            "SESSION   STARTED      END          PROC  ASK DENY  WORKSPACE  COMMAND"
        );
        assert_eq!(
            lines[1],
            "3f2a0000  11-14 22:13  exit 0        412    2    3  ~/shop     codex exec\\u{1b}"
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

    #[test]
    fn names_and_places_have_the_room_that_there_is() {
        let long = SessionRow {
            name: Some("night\n run".to_owned()),
            workspace: "/home/u/src/a/very/long/way/to/the/shop".into(),
            command: vec![
                "codex".into(),
                "exec".into(),
                "fix the cart when it is empty".into(),
            ],
            ..row(None)
        };
        let all = [Listed {
            row: long,
            running: true,
        }];
        let home = RawText::from("/home/u");
        let at = |width| {
            render(&all, &TimeZone::UTC, width, Some(&home))
                .pop()
                .unwrap()
        };
        assert_eq!(
            at(Some(80)),
            "3f2a0000  11-14 22:13  running       412    2    3  …y/to/the/shop  night\\u{a} …"
        );
        let wide = at(Some(120));
        assert!(
            wide.contains("/long/way/to/the/shop  night\\u{a} run  codex exec fix"),
            "{wide}"
        );
        assert!(wide.chars().count() <= 120);
        assert!(at(None).ends_with("codex exec fix the cart when it is empty"));
    }
}
