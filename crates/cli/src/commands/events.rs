//! `stockade events`: the events of one session, as they are or as they happen.

#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use jiff::tz::TimeZone;
use stockade_event::{Envelope, catalogue};
use stockade_journal::{Followed, Position, follow};

use crate::{
    archive::Archive,
    exit::Exit,
    human::{cut, time_of_day},
    output::Output,
};

/// How long to wait for an event before looking whether somebody still reads.
const WAIT: Duration = Duration::from_secs(1);
/// Characters of a line where there is no terminal to fit; `--json` has every value whole.
const PIPE_COLUMNS: usize = 1_000;
/// How long to wait for the journal of a session that has only just begun.
const JOURNAL_WAIT: Duration = Duration::from_secs(5);

/// Print the events of a session: a line each, cut to the terminal; `--json` has all of it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade events last --kind connection.decided\n  \
    stockade events --follow --json | jq 'select(.verdict == \"deny\")'"
)]
pub(crate) struct Args {
    /// Session id, the beginning of one, a name, or `last`
    #[arg(default_value = "last")]
    session: String,
    /// Print new events too, until the session ends
    #[arg(long, short)]
    follow: bool,
    /// Only events after the one with this number
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// Only events of this kind; repeatable
    #[arg(long, value_name = "K", hide_possible_values = true, value_parser = kinds())]
    kind: Vec<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(catalogue().iter().map(|kind| kind.kind))
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
    let (patience, wait) = if args.follow {
        (JOURNAL_WAIT, WAIT)
    } else {
        (Duration::ZERO, Duration::ZERO)
    };
    let mut follower = follow(&record.dir, Position::START, patience)?;
    let printer = Printer {
        args: &args,
        columns: out.columns().unwrap_or(PIPE_COLUMNS),
        zone: TimeZone::system(),
    };
    let mut unreadable = 0_u64;
    while !out.is_closed() {
        match follower.next(wait)? {
            Followed::Event(envelope) => printer.print(&envelope, out)?,
            Followed::Unreadable(error) => {
                unreadable += 1;
                out.note(format_args!("stockade: {error}"));
            }
            Followed::Nothing if args.follow => {}
            Followed::Nothing | Followed::Ended => break,
            Followed::Abandoned => {
                if args.follow {
                    out.note(
                        "stockade: the supervisor of this session is gone; there is no end in its \
                         record",
                    );
                }
                break;
            }
        }
    }
    Ok(record.exit(unreadable, out))
}

struct Printer<'a> {
    args: &'a Args,
    columns: usize,
    zone: TimeZone,
}

impl Printer<'_> {
    fn print(&self, envelope: &Envelope, out: &mut Output) -> anyhow::Result<()> {
        let kind = envelope.event.kind();
        if self.args.after.is_some_and(|after| envelope.seq <= after) {
            return Ok(());
        }
        if !self.args.kind.is_empty() && !self.args.kind.iter().any(|wanted| wanted == kind) {
            return Ok(());
        }
        if self.args.json {
            out.json(&envelope.to_cli_json())
        } else {
            out.line(cut(&line(envelope, &self.zone), self.columns))
        }
    }
}

/// Renders one event as one line.
fn line(envelope: &Envelope, zone: &TimeZone) -> String {
    let time = time_of_day(envelope.time_unix_ns, zone);
    let what = envelope.event.line();
    format!(
        "{time} {:>6}  {:<18}  {what}",
        envelope.seq,
        envelope.event.kind()
    )
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use stockade_event::{Envelope, Event, SCHEMA_VERSION};
    use stockade_types::SessionId;

    use super::{kinds, line};

    #[test]
    fn an_event_is_one_harmless_line() {
        let envelope = Envelope {
            v: SCHEMA_VERSION,
            session: SessionId::from_random(1),
            seq: 12,
            time_unix_ns: 1_700_000_000_000_000_000,
            mono_ns: 0,
            source: "egress".to_owned(),
            process: None,
            scope: None,
            cause: None,
            truncated: vec![],
            event: Event::OperatorActed {
                action: "stop".to_owned(),
                by: "uid 1000".to_owned(),
                detail: "now\n\u{1b}[2J".to_owned(),
            },
        };
        assert_eq!(
            line(&envelope, &TimeZone::UTC),
            "22:13:20     12  operator.acted      stop by uid 1000: now\\u{a}\\u{1b}[2J"
        );
    }

    #[test]
    fn only_kinds_that_exist_can_be_asked_for() {
        let command = clap::Command::new("events")
            .arg(clap::Arg::new("kind").long("kind").value_parser(kinds()));
        let parse = |kind: &str| {
            command
                .clone()
                .try_get_matches_from(["events", "--kind", kind])
        };
        assert!(parse("exec.decided").is_ok());
        assert!(parse("exec.decidet").is_err());
    }
}
