//! `stockade rules`: the answers that are kept for later sessions.

use crate::{
    exit::Exit,
    human::safe,
    output::{Form, Output},
    rules::{self, Kept},
};

/// List the answers that are kept for later sessions, and take them back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade rules\n  stockade rules show always-7f3a0001\n  \
    stockade rules remove always-7f3a0001"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the kept answers
    List,
    /// Show one as it is in its file
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Remove one from its file
    Remove {
        /// Its id, or the beginning of it
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(args.json);
    let kept = rules::list()?;
    match &args.command {
        None | Some(Command::List) => list(&kept, out),
        Some(Command::Show { id }) => match find(&kept, id, out) {
            Some(one) => show(one, out),
            None => Ok(Exit::No),
        },
        Some(Command::Remove { id }) => match find(&kept, id, out) {
            Some(one) => {
                rules::remove(one)?;
                out.line(format_args!("{} removed; running sessions keep it", one.id))?;
                Ok(Exit::Yes)
            }
            None => Ok(Exit::No),
        },
    }
}

fn list(kept: &[Kept], out: &mut Output) -> anyhow::Result<Exit> {
    for one in kept {
        out.value(one, |one| {
            let body = one.text.lines().skip(2);
            let body: Vec<&str> = body.filter(|line| !line.starts_with("reason")).collect();
            format!(
                "{}  {}\n    {}\n    {}",
                safe(&one.id),
                safe(&body.join("; ")),
                safe(&one.note),
                safe(&one.file.display().to_string())
            )
        })?;
    }
    match (out.form(), kept.first()) {
        (Form::Json, _) => {}
        (Form::Text, None) => out.note("no answers are kept; `[a]lways` in a question keeps one"),
        (Form::Text, Some(one)) => {
            let id = safe(&one.id);
            out.note(format_args!("`stockade rules remove {id}` takes it back"));
        }
    }
    Ok(Exit::Yes)
}

fn show(one: &Kept, out: &mut Output) -> anyhow::Result<Exit> {
    out.value(one, |one| {
        let file = safe(&one.file.display().to_string());
        let lines = one.text.lines().map(safe);
        let first = std::iter::once(format!("# {file}: {}", safe(&one.note)));
        first.chain(lines).collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Yes)
}

fn find<'k>(kept: &'k [Kept], prefix: &str, out: &mut Output) -> Option<&'k Kept> {
    let whole = kept.iter().find(|one| one.id == prefix);
    let mut beginning = kept.iter().filter(|one| {
        let short = one.id.trim_start_matches(rules::KEPT);
        one.id.starts_with(prefix) || short.starts_with(prefix)
    });
    let found = whole.or_else(|| beginning.next());
    if found.is_none() || (whole.is_none() && beginning.next().is_some()) {
        let prefix: String = prefix.chars().take(80).collect();
        let problem = if found.is_none() {
            "no kept answer has the id"
        } else {
            "several kept answers begin with"
        };
        out.note(format_args!(
            "stockade: {problem} `{}`; list them with `stockade rules`",
            safe(&prefix)
        ));
        return None;
    }
    found
}
