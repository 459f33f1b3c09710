//! `stockade policy check`: every mistake of a file, with its place and its fix.

use std::path::{Path, PathBuf};

use serde::Serialize;
use stockade_policy::{Origin, Problem, Source, Warning, builtin, load};

use crate::{
    exit::Exit,
    host_sets::gather,
    human::{plural, safe},
    layers,
    output::Output,
};

/// Check policy files: form, patterns, layers and their own tests.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stockade policy check team.toml\n  \
    stockade policy check --layer organisation /etc/stockade/policy.toml")]
pub(crate) struct Args {
    /// The files, each checked by itself on top of the preset `generic` and this machine's
    /// organisation policy
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The layer that the files are for
    #[arg(long, value_enum, default_value = "user")]
    layer: Layer,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A layer that files can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Layer {
    /// The organisation's policy of a machine
    Organisation,
    /// A user's policy
    User,
    /// A file for `--policy`
    Session,
}

/// The preset of a command that has none of its own: what every other preset adds to.
const PRESET: &str = "generic";

#[derive(Serialize)]
struct Report {
    file: String,
    valid: bool,
    revision: Option<String>,
    rules: usize,
    problems: Vec<Problem>,
    /// What the file says that has no effect.
    warnings: Vec<Warning>,
    /// What means nothing on this machine, which is no mistake.
    #[serde(skip)]
    notes: Vec<String>,
}

/// Checks each file.
///
/// # Errors
/// When the organisation's policy cannot be read, or nothing can be printed.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let mut exit = Exit::Yes;
    for path in &args.files {
        let source = match layers::file(args.layer.origin(), path) {
            Ok(source) => source,
            Err(error) => {
                out.note(format_args!("stockade: {error:#}"));
                exit = Exit::CannotTell;
                continue;
            }
        };
        let report = check(source, args.layer)?;
        if !report.valid && exit == Exit::Yes {
            exit = Exit::No;
        }
        for note in &report.notes {
            out.note(format_args!("stockade: {}", safe(note)));
        }
        if args.json {
            out.json(&report)?;
        } else {
            print(&report, path, out)?;
        }
    }
    Ok(exit)
}

impl Layer {
    /// Returns it as policies have it.
    pub(crate) const fn origin(self) -> Origin {
        match self {
            Self::Organisation => Origin::Organisation,
            Self::User => Origin::User,
            Self::Session => Origin::Session,
        }
    }
}

fn check(source: Source, layer: Layer) -> anyhow::Result<Report> {
    let file = source.name.clone();
    let mut sources = vec![source];
    // A run always has a preset below its files; their tests mean it too.
    sources.extend(builtin(PRESET).map(|text| Source {
        origin: Origin::Builtin,
        name: PRESET.to_owned(),
        text: text.to_owned(),
    }));
    if layer != Layer::Organisation {
        sources.extend(layers::bundle()?);
        sources.extend(layers::organisation(|name| std::env::var_os(name))?);
    }
    let here = std::env::current_dir().unwrap_or_default();
    let loaded = load(&sources, &gather(&here, &sources).sets);
    let checked = loaded.and_then(|policy| layers::check_places(&policy).map(|()| policy));
    Ok(match checked {
        Ok(policy) => Report {
            warnings: of_file(policy.warnings(), &file),
            rules: policy
                .rules()
                .iter()
                .filter(|rule| rule.origin == layer.origin())
                .count(),
            revision: Some(policy.revision().to_string()),
            valid: true,
            problems: Vec::new(),
            notes: layers::home()
                .map(|home| stockade_runner::unmatched_paths(&policy, &home))
                .unwrap_or_default(),
            file,
        },
        Err(problems) => Report {
            file,
            valid: false,
            revision: None,
            rules: 0,
            problems: problems.0,
            warnings: Vec::new(),
            notes: Vec::new(),
        },
    })
}

/// Leaves out what the organisation's file is to be told.
fn of_file(warnings: Vec<Warning>, file: &str) -> Vec<Warning> {
    let own = |warning: &Warning| {
        let place = warning.source.rsplit_once(':');
        place.is_none_or(|(name, _)| name == file)
    };
    warnings.into_iter().filter(own).collect()
}

fn print(report: &Report, path: &Path, out: &mut Output) -> anyhow::Result<()> {
    for problem in &report.problems {
        out.line(problem)?;
    }
    for warning in &report.warnings {
        out.line(warning)?;
    }
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    if let Some(revision) = &report.revision {
        let rules = plural(count(report.rules), "rule", "rules");
        let warnings = match report.warnings.len() {
            0 => String::new(),
            some => format!(", {}", plural(count(some), "warning", "warnings")),
        };
        let short: String = revision.chars().take(12).collect();
        out.line(format_args!(
            "{}: good, {rules}{warnings}, revision {short}",
            safe(&path.display().to_string())
        ))
    } else {
        let errors = plural(count(report.problems.len()), "error", "errors");
        out.line(format_args!("{errors}, nothing loaded"))
    }
}
