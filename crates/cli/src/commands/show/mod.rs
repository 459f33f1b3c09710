//! `stockade show`: one session as a person reads it.

#![deny(clippy::wildcard_enum_match_arm)]

mod branches;
mod filter;
mod lines;
mod page;
mod timeline;

use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;
use serde_json::json;
use stockade_event::{
    Summary,
    tree::{Grown, Tree},
};

use self::{
    filter::{Filter, Filters},
    lines::{Line, Mark},
    timeline::{Entry, Run, Timeline},
};
use super::run::summary::{Extra, render as render_summary};
use crate::{
    archive::{Archive, Extent, Record},
    exit::Exit,
    human::{bytes, cut, number, plural, span, time_of_day, wrapped},
    output::Output,
};

/// Show what happened in a session, in the order of time or by what it came of.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade show\n  stockade show 3f2a --tree\n  \
    stockade show --verdict deny --since 10m\n  stockade show 3f2a --html 3f2a.html\n  \
    stockade show 3f2a --json"
)]
pub(crate) struct Args {
    /// Session id, the beginning of one, a name, or `last`
    #[arg(default_value = "last")]
    session: String,
    /// Show by what it came of: prompt, tool call, processes, and what these did
    #[arg(long)]
    tree: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write one page for a browser, which needs nothing else; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "tree"])]
    html: Option<PathBuf>,
    #[command(flatten)]
    filters: Filters,
}

/// A session as it was read, for every form in which it is shown.
struct Story {
    timeline: Timeline,
    tree: Option<Grown>,
    /// All of the session, whatever was asked for.
    summary: Summary,
    extent: Extent,
}

impl Story {
    /// Reads the record once; twice if the filter has to know what comes later.
    fn read(record: &Record, filter: &Filter, has_tree: bool) -> anyhow::Result<Self> {
        let mut timeline = Timeline::default();
        let mut tree = has_tree.then(Tree::default);
        let mut summary = Summary::default();
        let extent = record.read(&mut |envelope| {
            let wanted = filter.of(envelope);
            match &mut tree {
                Some(tree) => tree.add(envelope, wanted),
                None => timeline.add(envelope, wanted),
            }
            summary.add(envelope);
        })?;
        timeline.finish();
        Ok(Self {
            timeline,
            tree: tree.map(Tree::finish),
            summary,
            extent,
        })
    }

    fn json(&self, record: &Record) -> serde_json::Value {
        let mut all = json!({
            "session": record.session,
            "running": self.extent.running,
            "summary": self.summary,
            "unreadable_lines": self.extent.unreadable,
        });
        let (name, value) = match &self.tree {
            Some(tree) => ("tree", json!(tree)),
            None => ("timeline", json!(self.timeline)),
        };
        if let Some(members) = all.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
        all
    }
}

/// Runs the command.
///
/// # Errors
/// When the state or the journal cannot be read, or the output cannot be written.
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let record = match Archive::open_at(&args.session, out)? {
        Ok(record) => record,
        Err(exit) => return Ok(exit),
    };
    let filter = Filter::new(args.filters, &record)?;
    let story = Story::read(&record, &filter, args.tree || args.html.is_some())?;
    if let (Some(file), Some(tree)) = (&args.html, &story.tree) {
        let page = page::render(tree, &story.summary, &record.session, filter.is_active());
        if file.as_os_str() == "-" {
            out.raw(page)?;
        } else {
            page::write(file, &page)?;
        }
    } else if args.json {
        out.json(&story.json(&record))?;
    } else {
        let (zone, paint, width) = (TimeZone::system(), Paint::new(out.color()), out.columns());
        let mut lines = match &story.tree {
            Some(tree) => branches::render(tree, &zone, paint, width),
            None => render(&story.timeline, &zone, paint, width),
        };
        lines.push(String::new());
        out.line(lines.join("\n"))?;
        if filter.is_active() {
            out.note("stockade: filtered; the totals are those of the whole session");
        }
        let extra = Extra {
            running: story.extent.running,
            ..Extra::default()
        };
        out.raw(render_summary(&story.summary, &record.session, extra))?;
    }
    Ok(record.exit(story.extent.unreadable, out))
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    refused: Style,
    asked: Style,
    strong: Style,
    quiet: Style,
    /// Columns of the terminal, where there is one.
    columns: Option<usize>,
}

impl Paint {
    fn new(color: bool) -> Self {
        let painted = |style: Style| if color { style } else { Style::new() };
        Self {
            refused: painted(AnsiColor::Red.on_default()),
            asked: painted(AnsiColor::Yellow.on_default()),
            strong: painted(Style::new().bold()),
            quiet: painted(Style::new().dimmed()),
            columns: None,
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
                        timeline.life.agent,
                        plural(own_processes, "process", "processes"),
                        plural(own_commands, "command", "commands"),
                    ));
                }
            }
            Entry::Line(line) => push_line(&mut lines, line, "", zone, paint),
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
        Mark::Started | Mark::Prompt => ("▸", Style::new()),
        Mark::Changed => ("✎", Style::new()),
        Mark::Connected => ("→", Style::new()),
        Mark::Called => ("◇", Style::new()),
        Mark::Plan => ("☰", Style::new()),
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
        Mark::Called | Mark::Started => {
            wrapped(&line.text, DETAIL_INDENT + indent.len(), paint.columns)
        }
        Mark::Prompt
        | Mark::Changed
        | Mark::Connected
        | Mark::Plan
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
