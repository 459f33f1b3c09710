//! `stockade policy replay`: recorded sessions against another policy.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::Serialize;
use stockade_event::{Envelope, Event, LayerSeen};
use stockade_journal::{Followed, Position, follow};
use stockade_policy::{Origin, Policy, Source, builtin};
use stockade_replay::{Group, Missing, Outcome, Replay, Report};
use stockade_store::SessionRow;
use stockade_types::{Digest, RuleId, Span};

use super::{
    check::Layer,
    diff::{CURRENT, STDIN, instead},
    load_all,
};
use crate::{
    archive::{Archive, Progress, count},
    exit::Exit,
    human::{number, plural, safe},
    layers::{self, LayerArgs, collect},
    output::Output,
};

/// Say what recorded sessions would have come to under another policy.
///
/// A file stands in the place of its whole layer; the other layers are those of this machine, with the preset
/// and the workspace of each session. What a record does not have for an exact verdict is named. Answers of
/// people do not count: a request about which somebody was asked is one that is asked about.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade policy replay team.toml --since 30d\n  \
    stockade policy replay --layer organisation org.toml --session last --json\n\n\
    Exit code: 0 nothing would be judged in another way, 1 something would, 2 the command line is wrong, \
    3 a policy or a record cannot be read, or there is no session."
)]
pub(crate) struct Args {
    /// The policy: a file, `-` for standard input, or `current` for what is in force now
    policy: PathBuf,
    /// Only sessions that began within this span before now (`30d`, `12h`)
    #[arg(long, value_name = "SPAN", conflicts_with = "session")]
    since: Option<Span>,
    /// Only this session: an id, the beginning of one, or `last`; repeatable
    #[arg(long, value_name = "SESSION")]
    session: Vec<String>,
    /// The layer that the file is for
    #[arg(long, value_enum, default_value = "user")]
    layer: Layer,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Events at the beginning of a session among which the one with its policy is.
const BEGINNING_MAX: usize = 64;
/// Policies that are kept loaded: one for each preset and workspace.
const LOADED_MAX: usize = 16;
/// Groups of one outcome that are printed for people.
const SHOWN_MAX: usize = 20;
/// The same of requests that would be judged as they were.
const UNCHANGED_MAX: usize = 5;
/// Events between two looks at the clock.
const STEP: u64 = 1_000;

#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    report: Report,
    /// Sessions whose record is gone, or cannot be read in full.
    incomplete: u64,
}

/// Replays the sessions and prints the report.
///
/// # Errors
/// When the policy has mistakes, or the state or a record cannot be read.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    // Mistakes of the policy come before the work.
    let mut policies = Policies::new(args)?;
    let mut archive = match Archive::open_some(out)? {
        Ok(archive) => archive,
        Err(exit) => return Ok(exit),
    };
    let rows = match chosen(args, &mut archive, out)? {
        Ok(rows) => rows,
        Err(exit) => return Ok(exit),
    };
    if rows.is_empty() {
        // Nothing was judged, so nothing is known.
        out.note("stockade: no session began since then; try a longer --since");
        return Ok(Exit::CannotTell);
    }
    let mut replay = Replay::new();
    let mut progress = Progress::new("replaying sessions");
    let total = rows.iter().map(|row| row.events).sum();
    let (mut done, mut incomplete) = (0, 0);
    for row in rows {
        let at = done;
        let mut report = |events: u64| progress.at(at + events, total);
        let is_whole = !row.unindexed
            && !row.missing
            && one(&archive, &row, &mut policies, (&mut replay, &mut report))?;
        incomplete += u64::from(!is_whole);
        done += row.events;
    }
    progress.done();
    let report = replay.report();
    let differs = report
        .groups
        .iter()
        .any(|group| group.outcome != Outcome::Unchanged);
    if args.json {
        out.json(&Printed { report, incomplete })?;
    } else {
        print(&report, out)?;
    }
    if incomplete > 0 {
        out.note(format_args!(
            "stockade: {} not or not all in this, because records are gone or cannot be read; `stockade \
             sessions` names them",
            plural(incomplete, "session is", "sessions are")
        ));
        return Ok(Exit::CannotTell);
    }
    Ok(if differs { Exit::No } else { Exit::Yes })
}

/// Returns the sessions that are meant, or the exit code if there is no such session.
fn chosen(
    args: &Args,
    archive: &mut Archive,
    out: &mut Output,
) -> anyhow::Result<Result<Vec<SessionRow>, Exit>> {
    let mut rows = archive.store.sessions()?;
    if !args.session.is_empty() {
        let mut wanted = Vec::new();
        for name in &args.session {
            match archive.find(name, out)? {
                Ok(record) => wanted.push(record.session),
                Err(exit) => return Ok(Err(exit)),
            }
        }
        rows.retain(|row| wanted.contains(&row.id));
    }
    if let Some(since) = args.since {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let since = now.saturating_sub(since.duration()).as_nanos();
        rows.retain(|row| u128::from(row.started_unix_ns.unwrap_or(0)) >= since);
    }
    Ok(Ok(rows))
}

/// Replays one session; tells whether all of its record could be read.
fn one(
    archive: &Archive,
    row: &SessionRow,
    policies: &mut Policies<'_>,
    (replay, report): (&mut Replay, &mut dyn FnMut(u64)),
) -> anyhow::Result<bool> {
    let dir = archive.state.session_dir(&row.id);
    let mut follower = follow(&dir, Position::START, Duration::ZERO)
        .with_context(|| format!("cannot read session {}", row.id.short()))?;
    let mut unreadable = 0;
    let mut next = || -> anyhow::Result<Option<Box<Envelope>>> {
        loop {
            match follower.next(Duration::ZERO)? {
                Followed::Event(envelope) => return Ok(Some(envelope)),
                Followed::Unreadable(_) => unreadable += 1,
                Followed::Nothing | Followed::Ended | Followed::Abandoned => return Ok(None),
            }
        }
    };
    let mut beginning = Vec::new();
    while beginning.len() < BEGINNING_MAX {
        let Some(envelope) = next()? else { break };
        let has_policy = matches!(envelope.event, Event::PolicyLoaded { .. });
        beginning.push(envelope);
        if has_policy {
            break;
        }
    }
    let (policy, missing) = policies.of(&Begun::of(&beginning))?;
    let mut session = replay.session(policy, missing);
    let mut events = 0;
    for envelope in &beginning {
        session.take(envelope);
        events += 1;
    }
    drop(beginning);
    while let Some(envelope) = next()? {
        session.take(&envelope);
        events += 1;
        if events % STEP == 0 {
            report(events);
        }
    }
    session.end();
    Ok(unreadable == 0)
}

/// What the beginning of a record says of the policy of the session.
#[derive(Default)]
struct Begun {
    preset: String,
    workspace: PathBuf,
    /// Policies that were given to the session alone.
    own: Vec<LayerSeen>,
}

impl Begun {
    fn of(events: &[Box<Envelope>]) -> Self {
        let mut begun = Self::default();
        for envelope in events {
            if let Event::SessionStarted { workspace, .. } = &envelope.event {
                begun.workspace = PathBuf::from(workspace.to_os());
            } else if let Event::PolicyLoaded { layers, .. } = &envelope.event {
                let of = |origin: Origin| {
                    let layers = layers.iter();
                    layers.filter(move |layer| layer.origin == origin.as_str())
                };
                let preset = of(Origin::Builtin).next();
                begun.preset = preset.map(|layer| layer.name.clone()).unwrap_or_default();
                begun.own = of(Origin::Session).cloned().collect();
            }
        }
        begun
    }
}

/// The proposed policy, as each session would have had it.
struct Policies<'a> {
    args: &'a Args,
    /// Standard input can be read once.
    proposed: Option<Source>,
    loaded: VecDeque<Loaded>,
}

struct Loaded {
    key: String,
    policy: Policy,
    missing: Option<Missing>,
}

impl<'a> Policies<'a> {
    fn new(args: &'a Args) -> anyhow::Result<Self> {
        let path = args.policy.as_path();
        let own = |sources: Vec<Source>| sources.into_iter().next_back();
        let proposed = match path.as_os_str() {
            word if word == CURRENT => None,
            word if word == STDIN => Some(layers::stdin(args.layer.origin())?),
            _ => own(instead(&[], args.layer, path)?),
        };
        let mut policies = Self {
            args,
            proposed,
            loaded: VecDeque::new(),
        };
        let here = std::env::current_dir().unwrap_or_default();
        policies.of(&Begun {
            preset: "generic".to_owned(),
            workspace: here,
            own: Vec::new(),
        })?;
        Ok(policies)
    }

    /// Returns the policy that a session would have had, and what of it is not known.
    fn of(&mut self, begun: &Begun) -> anyhow::Result<(&Policy, Option<Missing>)> {
        let digests: Vec<String> = begun.own.iter().map(|one| one.digest.to_string()).collect();
        let key = format!(
            "{:?} {} {digests:?}",
            begun.preset,
            begun.workspace.display()
        );
        if let Some(at) = self.loaded.iter().position(|one| one.key == key) {
            // Those that are used stay.
            let used = self.loaded.remove(at);
            self.loaded.extend(used);
        } else {
            let loaded = self.load(key, begun)?;
            self.loaded.push_back(loaded);
            if self.loaded.len() > LOADED_MAX {
                self.loaded.pop_front();
            }
        }
        let last = self.loaded.back().context("a policy was loaded")?;
        Ok((&last.policy, last.missing))
    }

    fn load(&self, key: String, begun: &Begun) -> anyhow::Result<Loaded> {
        let known = builtin(&begun.preset).is_some();
        let mut missing = (!known).then_some(Missing::Layer);
        let mut sources = collect(&LayerArgs {
            profile: known.then(|| begun.preset.clone()),
            workspace: Some(begun.workspace.clone()),
            ..LayerArgs::default()
        })?;
        if let Some(proposed) = &self.proposed {
            sources.retain(|source| source.origin != proposed.origin);
            sources.push(proposed.clone());
        }
        let replaces = self.proposed.as_ref().map(|source| source.origin);
        if replaces != Some(Origin::Session) {
            for own in &begun.own {
                match again(own) {
                    Some(source) => sources.push(source),
                    None => missing = Some(Missing::Layer),
                }
            }
        }
        let names_sets = sources.iter().any(|source| source.text.contains("\"@"));
        if names_sets && !begun.workspace.is_dir() {
            missing = missing.or(Some(Missing::HostSets));
        }
        let policy = load_all(&sources, &begun.workspace).with_context(|| {
            let path = &self.args.policy;
            format!(
                "the policy `{}` for the preset `{}`",
                path.display(),
                safe(&begun.preset)
            )
        })?;
        Ok(Loaded {
            key,
            policy,
            missing,
        })
    }
}

/// Reads a policy again that was given to a session alone; `None` if it is not what it was.
fn again(own: &LayerSeen) -> Option<Source> {
    let source = layers::file(Origin::Session, Path::new(&own.name)).ok()?;
    (Digest::of(source.text.as_bytes()) == own.digest).then_some(source)
}

fn print(report: &Report, out: &mut Output) -> anyhow::Result<()> {
    let outcomes = [
        Outcome::NewlyDenied,
        Outcome::NewlyAsked,
        Outcome::NewlyAllowed,
        Outcome::Unchanged,
    ];
    for outcome in outcomes {
        let groups = report.groups.iter().filter(|one| one.outcome == outcome);
        let groups: Vec<&Group> = groups.collect();
        let total = report.outcomes.get(outcome.in_words());
        let total = total.copied().unwrap_or_default();
        out.line(format_args!("{}: {}", outcome.in_words(), number(total)))?;
        let shown = match outcome {
            Outcome::NewlyDenied | Outcome::NewlyAsked | Outcome::NewlyAllowed => SHOWN_MAX,
            Outcome::Unchanged => UNCHANGED_MAX,
        };
        for one in groups.iter().take(shown) {
            group(one, out)?;
        }
        if groups.len() > shown {
            let more = plural(count(groups.len() - shown), "group more", "groups more");
            out.line(format_args!("  and {more}; `--json` prints all"))?;
        }
    }
    out.line(format_args!(
        "{} of {}: {} exact, {} inexact; {} that no rule makes",
        plural(report.decisions, "decision", "decisions"),
        plural(report.sessions, "session", "sessions"),
        number(report.exact),
        number(report.decisions - report.exact),
        number(report.not_judged)
    ))
}

/// Prints one group, with its examples where something would change.
fn group(group: &Group, out: &mut Output) -> anyhow::Result<()> {
    let rule = |rule: Option<&RuleId>| {
        rule.map_or_else(|| "no rule".to_owned(), |rule| format!("`{rule}`"))
    };
    let changes = group.outcome != Outcome::Unchanged;
    let target = group.target.as_deref().unwrap_or("other targets");
    let inexact = group.inexact.map_or_else(String::new, |missing| {
        format!("  inexact: the record lacks {missing}")
    });
    let was = if changes {
        let by = rule(group.recorded_rule.as_ref());
        format!(" (was {} by {by})", group.recorded)
    } else {
        String::new()
    };
    out.line(format_args!(
        "  {:>7}  {} {}  by {}{was}{inexact}",
        number(group.count),
        group.kind,
        safe(target),
        rule(group.proposed_rule.as_ref()),
    ))?;
    for example in group.examples.iter().filter(|_| changes) {
        out.line(format_args!(
            "           session {} event {}: {}",
            example.session.short(),
            example.seq,
            safe(&example.request)
        ))?;
    }
    Ok(())
}
