//! `stockade policy explain`: one decision of a session, in full.

use stockade_types::{DecisionId, DecisionRecord, Verdict};

use crate::{
    archive::Archive,
    exit::Exit,
    human::{safe, words},
    output::Output,
};

/// Explain a decision of a session: the program, the request, the rule, and what would change it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade policy explain d-19\n  \
    stockade policy explain d-19 --session 3f2a")]
pub(crate) struct Args {
    /// The decision, for example d-19
    decision: DecisionId,
    /// The session: an id, the beginning of one, or `last`
    #[arg(long, default_value = "last")]
    session: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Finds the decision in the record of the session and prints it.
///
/// # Errors
/// When the record cannot be read.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let opened = match Archive::open_at(&args.session, out)? {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    let mut last: Option<DecisionRecord> = None;
    let extent = opened.read(&mut |envelope| {
        // Where somebody was asked, the answer comes after the question.
        let decision = envelope.event.decision();
        if let Some(wanted) = decision.filter(|record| record.decision == args.decision) {
            last = Some(wanted.clone());
        }
    })?;
    // The decision may be in a line that cannot be read; where it was found this changes nothing.
    opened.exit(extent.unreadable, out);
    let session = &opened.session;
    if let Some(record) = last {
        if args.json {
            out.json(&record)?;
        } else {
            print(&record, out)?;
        }
        return Ok(Exit::Yes);
    }
    out.note(format_args!(
        "stockade: session {session} has no decision {}; `stockade events {session}` lists them",
        args.decision
    ));
    Ok(Exit::CannotTell)
}

fn print(record: &DecisionRecord, out: &mut Output) -> anyhow::Result<()> {
    let verdict = record.verdict.as_str();
    out.line(format_args!("{verdict:<8}{}", safe(&record.effect())))?;
    if let Some(rule) = &record.rule {
        out.line(format_args!("rule    {rule}"))?;
    }
    out.line(format_args!("why     {}", safe(&record.reason)))?;
    out.line(format_args!(
        "by      {} ({})",
        words(&record.subject.argv),
        record.subject.exe
    ))?;
    for parent in &record.subject.ancestry {
        out.line(format_args!("        ← {}", safe(&parent.to_string())))?;
    }
    if let Some(condition) = &record.failed_condition {
        out.line(format_args!("failed  {}", safe(condition)))?;
    }
    if let Some(nearest) = &record.nearest_allow {
        out.line(format_args!("nearest {}", safe(nearest)))?;
    }
    if record.verdict != Verdict::Allow && !record.remedy.is_empty() {
        out.line(format_args!("change  {}", safe(&record.remedy)))?;
    }
    out.line(format_args!("policy  revision {}", record.policy_revision))
}
