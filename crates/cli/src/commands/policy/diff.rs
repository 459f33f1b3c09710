//! `stockade policy diff`: what another policy would change, in words.

use std::path::{Path, PathBuf};

use serde::Serialize;
use stockade_policy::{
    Policy, Source,
    diff::{Change, Direction, PolicyDiff},
};
use stockade_types::Digest;

use super::{check::Layer, load_all};
use crate::{
    exit::Exit,
    human::{plural, safe},
    layers::{self, LayerArgs, collect, workspace_of},
    output::Output,
};

/// Say what a policy would change: what is newly allowed, asked or denied, and which settings are looser.
///
/// A file stands in the place of its whole layer; the other layers are those of this machine. Rules that were
/// moved, renamed or written in another way are no difference.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade policy diff current team.toml\n  \
    stockade policy diff --layer organisation old.toml new.toml\n  \
    git show HEAD~1:team.toml | stockade policy diff - team.toml\n\n\
    Exit code: 0 the same, 1 different, 2 the command line is wrong, 3 a policy cannot be read.")]
pub(crate) struct Args {
    /// The old policy: a file, `-` for standard input, or `current` for what is in force
    old: PathBuf,
    /// The new policy, in the same ways
    new: PathBuf,
    /// The layer that the files are for
    #[arg(long, value_enum, default_value = "user")]
    layer: Layer,
    /// A preset, below both policies
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The word for the policy that is in force.
pub(super) const CURRENT: &str = "current";
/// The word for standard input.
pub(super) const STDIN: &str = "-";

#[derive(Serialize)]
struct Report<'a> {
    same: bool,
    old: Digest,
    new: Digest,
    /// Names all changes that let more happen, or could.
    acknowledges: Option<Digest>,
    changes: &'a [Change],
}

/// Compares the policies and prints the changes.
///
/// # Errors
/// When a policy cannot be read or has mistakes, or nothing can be printed.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    if [&args.old, &args.new]
        .iter()
        .all(|path| path.as_os_str() == STDIN)
    {
        out.note(
            "stockade: only one of the policies can be standard input; write the other to a file",
        );
        return Ok(Exit::Usage);
    }
    let layers = LayerArgs {
        profile: args.profile.clone(),
        ..LayerArgs::default()
    };
    let current = collect(&layers)?;
    let workspace = workspace_of(&layers).unwrap_or_default();
    let loaded = |path: &Path| -> anyhow::Result<Policy> {
        load_all(&instead(&current, args.layer, path)?, &workspace)
    };
    let (old, new) = (loaded(&args.old)?, loaded(&args.new)?);
    let diff = PolicyDiff::new(&old, &new);
    if args.json {
        out.json(&Report {
            same: diff.is_same(),
            old: diff.old,
            new: diff.new,
            acknowledges: diff.acknowledges(),
            changes: &diff.changes,
        })?;
    } else {
        print(&diff, out)?;
    }
    Ok(if diff.is_same() { Exit::Yes } else { Exit::No })
}

/// Returns the files of a policy: those of this machine, with the file in the place of its layer.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn instead(
    current: &[Source],
    layer: Layer,
    path: &Path,
) -> anyhow::Result<Vec<Source>> {
    if path.as_os_str() == CURRENT {
        return Ok(current.to_vec());
    }
    let origin = layer.origin();
    let own = if path.as_os_str() == STDIN {
        layers::stdin(origin)?
    } else {
        layers::file(origin, path)?
    };
    let others = current.iter().filter(|source| source.origin != origin);
    Ok(others.cloned().chain([own]).collect())
}

fn print(diff: &PolicyDiff, out: &mut Output) -> anyhow::Result<()> {
    if diff.is_same() {
        return out.line("the policies do the same");
    }
    for (topic, changes) in diff.by_topic() {
        out.line(topic.as_str())?;
        for change in changes {
            let mut lines = change.in_words().into_iter();
            if let Some(first) = lines.next() {
                out.line(format_args!("  {}", safe(&first)))?;
            }
            for line in lines {
                out.line(format_args!("    {}", safe(&line)))?;
            }
        }
    }
    let of = |direction: Direction| {
        let changes = diff
            .changes
            .iter()
            .filter(|change| change.direction == direction);
        u64::try_from(changes.count()).unwrap_or(u64::MAX)
    };
    let total = u64::try_from(diff.changes.len()).unwrap_or(u64::MAX);
    out.line(format_args!(
        "{}: {} loosen, {} tighten, {} can do both, {} neither",
        plural(total, "change", "changes"),
        of(Direction::Loosens),
        of(Direction::Tightens),
        of(Direction::Both),
        of(Direction::Neither)
    ))?;
    match diff.acknowledges() {
        Some(digest) => out.line(format_args!(
            "whoever approves acknowledges what loosens: {digest}"
        )),
        None => Ok(()),
    }
}
