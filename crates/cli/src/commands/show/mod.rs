//! `stockade show`: one session as a person reads it.

#![deny(clippy::wildcard_enum_match_arm)]

mod lines;
mod timeline;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;
use serde_json::json;
use stockade_event::Summary;

use self::{
    lines::{Line, Mark},
    timeline::{Entry, Run, Timeline},
};
use super::run::summary::{Extra, render as render_summary};
use crate::{
    archive::Archive,
    exit::Exit,
    human::{bytes, cut, number, plural, span, time_of_day, wrapped},
    output::Output,
};

/// Show what happened in a session, in the order of time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade show\n  stockade show 3f2a --json")]
pub(crate) struct Args {
    /// Session id, the beginning of one, a name, or `last`
    #[arg(default_value = "last")]
    session: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the state or the journal cannot be read, or the output cannot be written.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let record = match Archive::open_at(&args.session, out)? {
        Ok(record) => record,
        Err(exit) => return Ok(exit),
    };
    let mut timeline = Timeline::default();
    let mut summary = Summary::default();
    let extent = record.read(&mut |envelope| {
        timeline.add(envelope);
        summary.add(envelope);
    })?;
    let (session, running, unreadable) = (&record.session, extent.running, extent.unreadable);
    if args.json {
        out.json(&json!({
            "session": session,
            "running": running,
            "summary": summary,
            "timeline": timeline,
            "unreadable_lines": unreadable,
        }))?;
    } else {
        for line in render(
            &timeline,
            &TimeZone::system(),
            Paint::new(out.color()),
            out.columns(),
        ) {
            out.line(line)?;
        }
        out.line("")?;
        let extra = Extra {
            running,
            ..Extra::default()
        };
        out.raw(render_summary(&summary, session, extra))?;
    }
    Ok(record.exit(unreadable, out))
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    refused: Style,
    quiet: Style,
    /// Columns of the terminal, where there is one.
    columns: Option<usize>,
}

impl Paint {
    fn new(color: bool) -> Self {
        if color {
            Self {
                refused: AnsiColor::Red.on_default(),
                quiet: Style::new().dimmed(),
                columns: None,
            }
        } else {
            Self {
                refused: Style::new(),
                quiet: Style::new(),
                columns: None,
            }
        }
    }
}

/// Columns before what explains a line, beside those of its block.
const DETAIL_INDENT: usize = 11;
/// Columns before the headline of a block.
const COMMAND_INDENT: usize = 13;
/// Columns of a command line at least: where there is no room for them a line is longer.
const COMMAND_COLUMNS_MIN: usize = 20;
/// Columns of a command line where there is no terminal to fit.
const COMMAND_COLUMNS: usize = 120;

/// Renders the timeline; `width` is that of the terminal, where there is one.
fn render(timeline: &Timeline, zone: &TimeZone, paint: Paint, width: Option<usize>) -> Vec<String> {
    let paint = Paint {
        columns: width,
        ..paint
    };
    let mut lines = Vec::new();
    let (own_processes, own_commands) = timeline.own();
    let mut folded = false;
    let room = width.map_or(COMMAND_COLUMNS, |width| {
        width.saturating_sub(COMMAND_INDENT)
    });
    for entry in &timeline.entries {
        match entry {
            Entry::Run(run) if own_commands > 0 && entry.is_own() => {
                if !std::mem::replace(&mut folded, true) {
                    lines.push(format!(
                        "{}   ▸ {}'s own: {} in {}",
                        painted(&time_of_day(run.time_unix_ns, zone), paint.quiet),
                        timeline.agent,
                        plural(own_processes, "process", "processes"),
                        plural(own_commands, "command", "commands"),
                    ));
                }
            }
            Entry::Line(line) => push_line(&mut lines, line, "", zone, paint),
            Entry::Run(run) if run.merged => {}
            Entry::Run(run) => {
                lines.push(format!(
                    "{}   ▸ {}",
                    painted(&time_of_day(run.time_unix_ns, zone), paint.quiet),
                    headline(run, room)
                ));
                for line in &run.lines {
                    push_line(&mut lines, line, "    ", zone, paint);
                }
                if run.more > 0 {
                    lines.push(format!("{:17}… and {} more", "", number(run.more)));
                }
            }
        }
    }
    if timeline.more > 0 {
        lines.push(format!(
            "… and {} more; `stockade events` has all",
            number(timeline.more)
        ));
    }
    lines
}

fn headline(run: &Run, room: usize) -> String {
    let mut facts = Vec::new();
    if run.processes > 0 {
        facts.push(plural(run.processes, "process", "processes"));
    }
    if let Some(end) = &run.end {
        facts.push(span(end.duration_ms));
        facts.extend(match (end.code, end.signal) {
            (Some(code), _) => Some(format!("exit {code}")),
            (None, Some(signal)) => Some(format!("signal {signal}")),
            (None, None) => None,
        });
    }
    let facts = if facts.is_empty() {
        String::new()
    } else {
        format!(" → {}", facts.join(", "))
    };
    let kind = match &run.name {
        Some(name) if run.command.is_empty() => format!("tool  {name}"),
        Some(name) => format!("tool  {name}: "),
        None => "run  ".to_owned(),
    };
    let room = room.saturating_sub(facts.chars().count() + kind.chars().count());
    format!(
        "{kind}{}{facts}",
        cut(&run.command, room.max(COMMAND_COLUMNS_MIN))
    )
}

fn push_line(lines: &mut Vec<String>, line: &Line, indent: &str, zone: &TimeZone, paint: Paint) {
    let (mark, style) = match line.mark {
        Mark::Started => ("▸", Style::new()),
        Mark::Changed => ("✎", Style::new()),
        Mark::Connected => ("→", Style::new()),
        Mark::Called => ("◇", Style::new()),
        Mark::Refused => ("✖", paint.refused),
        Mark::Asked => ("?", Style::new()),
        Mark::Note => ("!", Style::new()),
        Mark::Ended => ("■", Style::new()),
    };
    let time = painted(&time_of_day(line.time_unix_ns, zone), paint.quiet);
    let times = if line.count > 1 {
        format!(" {}×", number(line.count))
    } else {
        String::new()
    };
    let failed = match (line.failed, line.count) {
        (0, _) => String::new(),
        (failed, count) if failed == count => " failed".to_owned(),
        (failed, _) => format!(", {} failed", number(failed)),
    };
    let traffic = line.traffic.as_ref().map_or_else(String::new, |traffic| {
        let (sent, received) = (bytes(traffic.bytes_out), bytes(traffic.bytes_in));
        format!(", {sent} out, {received} in")
    });
    let said = match line.mark {
        Mark::Called => wrapped(&line.text, DETAIL_INDENT + indent.len(), paint.columns),
        Mark::Started
        | Mark::Changed
        | Mark::Connected
        | Mark::Refused
        | Mark::Asked
        | Mark::Note
        | Mark::Ended => line.text.clone(),
    };
    let text = painted(&format!("{mark} {said}{times}{failed}{traffic}"), style);
    lines.push(format!("{time} {indent}{text}"));
    if let Some(detail) = &line.detail {
        let detail = wrapped(detail, DETAIL_INDENT + indent.len(), paint.columns);
        lines.push(format!("{:9}{indent}  {detail}", ""));
    }
}

fn painted(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests;
