//! `stockade policy learn`: rules for what was asked about and allowed in whole sessions.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{collections::BTreeMap, path::PathBuf};

use stockade_event::Event;
use stockade_policy::{Approvals, LastingRule, Request};
use stockade_types::{Answerer, ApprovalId, DecisionRecord, RawText, SessionId, Verdict};

use super::effective;
use crate::{
    archive::{Archive, Record},
    exit::Exit,
    human::{plural, safe},
    layers::LayerArgs,
    output::Output,
    rules::{self, LEARNED, Reach},
};

/// Propose the narrowest rules for requests that you allowed when sessions asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade policy learn 3f2a\n  \
    stockade policy learn --write last")]
pub(crate) struct Args {
    /// The sessions: ids, beginnings of ids, or `last`
    #[arg(required = true)]
    sessions: Vec<String>,
    /// Add the rules to your own policy for the workspace of each session
    #[arg(long)]
    write: bool,
    /// With `--write`: for all workspaces
    #[arg(long, requires = "write")]
    everywhere: bool,
}

/// What one session was allowed.
struct Learned {
    session: SessionId,
    workspace: PathBuf,
    preset: Option<String>,
    command: Vec<RawText>,
    allowed: Vec<(ApprovalId, DecisionRecord)>,
}

/// Reads the sessions and prints or writes rules.
///
/// # Errors
/// When a record or the policy cannot be read, or a rule cannot be written.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let mut archive = match Archive::open_some(out)? {
        Ok(archive) => archive,
        Err(exit) => return Ok(exit),
    };
    let mut records = Vec::new();
    for name in &args.sessions {
        match archive.find(name, out)? {
            Ok(record) => records.push(record),
            Err(exit) => return Ok(exit),
        }
    }
    let mut all = Vec::new();
    for record in records {
        let (learned, unreadable) = look(&record)?;
        if unreadable > 0 {
            // Before anything is written: it is not known what such a line says.
            return Ok(record.exit(unreadable, out));
        }
        all.push(learned);
    }
    let mut count = 0;
    let mut seen: Vec<(PathBuf, String)> = Vec::new();
    for learned in all {
        for (approval, rule) in propose(&learned)? {
            let place = if args.everywhere {
                PathBuf::new()
            } else {
                learned.workspace.clone()
            };
            let same = (place, rule.conditions.clone());
            if seen.contains(&same) {
                continue;
            }
            seen.push(same);
            count += 1;
            give(args, &learned, (&approval, &rule), out)?;
        }
    }
    if count == 0 {
        out.note("nothing to learn: all that was allowed is allowed without a question by now");
    } else if !args.write {
        let rules = plural(count, "rule", "rules");
        out.note(format_args!("{rules}; `--write` adds them to your policy"));
    }
    Ok(Exit::Yes)
}

fn give(
    args: &Args,
    learned: &Learned,
    (approval, rule): (&ApprovalId, &LastingRule),
    out: &mut Output,
) -> anyhow::Result<()> {
    let id = format!("{LEARNED}{approval}");
    let text = rule.to_toml(&id, "allowed before");
    let workspace = &learned.workspace;
    let note = format!(
        "learned from session {}, answer {approval}",
        learned.session.short()
    );
    if !args.write {
        out.line(format_args!(
            "# {note}, {}",
            safe(&workspace.display().to_string())
        ))?;
        for line in text.lines() {
            out.line(safe(line))?;
        }
        return out.line("");
    }
    let reach = Reach::of(args.everywhere);
    let path = rules::file(reach, workspace)?;
    rules::add(&path, workspace, &note, &text)?;
    let shown = safe(&path.display().to_string());
    out.line(format_args!("{id}  {}  {shown}", safe(&rule.words)))
}

/// Reads what people allowed in a session, and how many lines could not be read.
fn look(record: &Record) -> anyhow::Result<(Learned, u64)> {
    let mut asked: BTreeMap<ApprovalId, DecisionRecord> = BTreeMap::new();
    let mut learned = Learned {
        session: record.session.clone(),
        workspace: PathBuf::new(),
        preset: None,
        command: Vec::new(),
        allowed: Vec::new(),
    };
    let extent = record.read(&mut |envelope| learned.add(&envelope.event, &mut asked))?;
    Ok((learned, extent.unreadable))
}

impl Learned {
    fn add(&mut self, event: &Event, asked: &mut BTreeMap<ApprovalId, DecisionRecord>) {
        if let Event::SessionStarted {
            workspace,
            preset,
            command,
            ..
        } = event
        {
            self.command.clone_from(command);
            self.workspace = PathBuf::from(workspace.to_os());
            self.preset = Some(preset.clone()).filter(|name| !name.is_empty());
        } else if let Event::ApprovalRequested {
            approval, decision, ..
        } = event
        {
            asked.insert(approval.clone(), decision.clone());
        } else if let Event::ApprovalDecided {
            approval,
            verdict: Verdict::Allow,
            // What an earlier answer or a rule covered was nobody's answer.
            by: Answerer::Person(_),
            ..
        } = event
        {
            let allowed = asked.remove(approval);
            self.allowed
                .extend(allowed.map(|record| (approval.clone(), record)));
        }
    }
}

/// Returns a rule for each thing that would be asked about again.
fn propose(learned: &Learned) -> anyhow::Result<Vec<(ApprovalId, LastingRule)>> {
    let policy = effective(&LayerArgs {
        workspace: Some(learned.workspace.clone()),
        profile: learned.preset.clone(),
        command: learned.command.clone(),
        ..LayerArgs::default()
    })?;
    let rule = |(approval, record): &(ApprovalId, DecisionRecord)| {
        let request = Request::of_target(record.kind, &record.target)?;
        let decision = policy.decide(&request, &Approvals::none());
        Some((approval.clone(), policy.lasting(&request, &decision)?))
    };
    Ok(learned.allowed.iter().filter_map(rule).collect())
}
