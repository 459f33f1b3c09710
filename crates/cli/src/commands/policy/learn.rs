//! `stockade policy learn`: rules for what was asked about and allowed in whole sessions.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use stockade_event::Event;
use stockade_policy::{LastingRule, Width};
use stockade_types::{
    Answerer, ApprovalId, DecisionId, DecisionRecord, RawText, RequestKind, SessionId, Verdict,
};

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
///
/// In a path, a number, a hash or a UUID becomes `*`. A rule that opens much, such as a push, a whole host
/// or a method that changes something, is commented out.
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
    /// What each answer of a person was about.
    answers: BTreeMap<ApprovalId, RequestKind>,
    /// Decisions that used such an answer, and are still to come.
    used: BTreeMap<DecisionId, ApprovalId>,
}

/// A rule, and the answers that it would have made needless.
struct Rule {
    approvals: BTreeSet<ApprovalId>,
    rule: LastingRule,
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
    let (mut count, mut risky) = (0, 0);
    let mut seen: Vec<(PathBuf, String)> = Vec::new();
    let mut ids = BTreeSet::new();
    for learned in all {
        for one in propose(&learned)? {
            let place = if args.everywhere {
                PathBuf::new()
            } else {
                learned.workspace.clone()
            };
            let same = (place, one.rule.conditions.clone());
            if seen.contains(&same) {
                continue;
            }
            seen.push(same);
            count += 1;
            risky += u64::from(one.rule.risk.is_some());
            let first = one.approvals.first().map_or("", ApprovalId::as_str);
            let more = (2..).map(|number| format!("{LEARNED}{first}-{number}"));
            let mut names = std::iter::once(format!("{LEARNED}{first}")).chain(more);
            let id = names.find(|id| ids.insert(id.clone())).unwrap_or_default();
            give(args, &learned, (&id, &one), out)?;
        }
    }
    if count == 0 {
        out.note("nothing to learn: all that was allowed is allowed without a question by now");
    } else if !args.write {
        let rules = plural(count, "rule", "rules");
        out.note(format_args!("{rules}; `--write` adds them to your policy"));
    }
    if risky > 0 {
        let rules = plural(risky, "rule opens", "rules open");
        out.note(format_args!(
            "{rules} much and is commented out; take the `#` away where you want it"
        ));
    }
    Ok(Exit::Yes)
}

fn give(
    args: &Args,
    learned: &Learned,
    (id, one): (&str, &Rule),
    out: &mut Output,
) -> anyhow::Result<()> {
    let approvals: Vec<&str> = one.approvals.iter().map(ApprovalId::as_str).collect();
    let workspace = &learned.workspace;
    let note = format!(
        "learned from session {}, {} {}",
        learned.session.short(),
        if approvals.len() == 1 {
            "answer"
        } else {
            "answers"
        },
        approvals.join(", ")
    );
    let text = match &one.rule.risk {
        Some(_) => one.rule.to_comment(id, "allowed before"),
        None => one.rule.to_toml(id, "allowed before"),
    };
    if args.write && one.rule.risk.is_some() && is_there(args, workspace, &text)? {
        // A comment is no rule, so nothing else tells that it was written before.
        return out.line(format_args!("{id}  is there already, commented out"));
    }
    if args.write {
        let shown = add(args, workspace, (&note, &text))?;
        let words = safe(&one.rule.words);
        let state = match &one.rule.risk {
            Some(risk) => format!("commented out, {risk}: {words}"),
            None => words,
        };
        return out.line(format_args!("{id}  {state}  {shown}"));
    }
    out.line(format_args!(
        "# {note}, {}",
        safe(&workspace.display().to_string())
    ))?;
    for line in text.lines() {
        out.line(safe(line))?;
    }
    out.line("")
}

/// Adds a rule to the file that it is for, and returns the file.
fn add(args: &Args, workspace: &Path, (note, text): (&str, &str)) -> anyhow::Result<String> {
    let path = rules::file(Reach::of(args.everywhere), workspace)?;
    rules::add(&path, workspace, note, text)?;
    Ok(safe(&path.display().to_string()))
}

/// Tells whether the file that a rule is for has this text.
fn is_there(args: &Args, workspace: &Path, text: &str) -> anyhow::Result<bool> {
    let path = rules::file(Reach::of(args.everywhere), workspace)?;
    match fs::read_to_string(&path) {
        Ok(own) => Ok(own.contains(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
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
        answers: BTreeMap::new(),
        used: BTreeMap::new(),
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
            let Some(record) = asked.remove(approval) else {
                return;
            };
            self.answers.insert(approval.clone(), record.kind);
            self.allowed.push((approval.clone(), record));
        } else if let Event::ApprovalUsed { approval, decision } = event {
            if self.answers.contains_key(approval) {
                self.used.insert(*decision, approval.clone());
            }
        } else if let Some(record) = event.decision()
            && let Some(approval) = self.used.remove(&record.decision)
            && self.answers.get(&approval) == Some(&record.kind)
        {
            // One answer can let many requests through, of which the question showed one.
            self.allowed.push((approval, record.clone()));
        }
    }
}

/// Returns the rules for what would be asked about again.
fn propose(learned: &Learned) -> anyhow::Result<Vec<Rule>> {
    let policy = effective(&LayerArgs {
        workspace: Some(learned.workspace.clone()),
        profile: learned.preset.clone(),
        command: learned.command.clone(),
        ..LayerArgs::default()
    })?;
    let allowed = learned.allowed.iter();
    let targets: Vec<_> = allowed.map(|(_, one)| (one.kind, &one.target)).collect();
    let proposed = policy.propose(&targets, Width::Ids).into_iter();
    let rule = proposed.map(|proposed| {
        let places = proposed.targets.into_iter();
        let answers = places.filter_map(|place| learned.allowed.get(place));
        Rule {
            approvals: answers.map(|(approval, _)| approval.clone()).collect(),
            rule: proposed.rule,
        }
    });
    Ok(rule.collect())
}
