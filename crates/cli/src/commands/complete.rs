//! Hidden: the candidates for a place in a command line, for shell completions.

use stockade_policy::builtin_names;
use stockade_store::Store;

use crate::{exit::Exit, output::Output, rules, state::StateDir};

/// Number of sessions that are offered: the newest.
const SESSIONS_MAX: usize = 50;
/// Characters that no shell interprets, even if it reads a word twice.
const PLAIN: &str = "._-+";

/// Arguments of `stockade __complete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The words behind `stockade`, up to the one that is completed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Prints one candidate per line, and nothing if the shell itself completes better or something
/// fails: a message in the middle of a command line would only disturb.
#[expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let begun = args.words.last().map_or("", String::as_str);
    for candidate in candidates(&args.words) {
        let is_plain = candidate
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || PLAIN.contains(letter));
        if is_plain && candidate.starts_with(begun) && out.line(&candidate).is_err() {
            break;
        }
    }
    Ok(Exit::Yes)
}

fn candidates(words: &[String]) -> Vec<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (Some(begun), before) = (words.last(), words.get(..words.len().saturating_sub(1))) else {
        return Vec::new();
    };
    let before = before.unwrap_or_default();
    match before.last() {
        Some(&"--profile") => {
            return builtin_names()
                .iter()
                .map(|&name| name.to_owned())
                .collect();
        }
        Some(&"--env") => return variables(),
        Some(_) | None => {}
    }
    if begun.starts_with('-') {
        return Vec::new();
    }
    let plain: Vec<&str> = before
        .iter()
        .copied()
        .filter(|word| !word.starts_with('-'))
        .collect();
    match plain.as_slice() {
        ["show" | "events" | "replay"] | ["log", "verify"] | ["policy", "learn", ..] => sessions(),
        ["rules", "show" | "remove"] => kept(),
        _ => Vec::new(),
    }
}

fn variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.collect()
}

fn kept() -> Vec<String> {
    let kept = rules::list().unwrap_or_default();
    kept.into_iter().map(|one| one.id).collect()
}

fn sessions() -> Vec<String> {
    let rows = StateDir::open()
        .ok()
        .and_then(|state| {
            let mut store = Store::open(state.path()).ok()?;
            store.ingest_all(&mut |_, _| {}).ok()?;
            store.sessions().ok()
        })
        .unwrap_or_default();
    let newest = rows.into_iter().take(SESSIONS_MAX);
    let words = newest.flat_map(|row| row.name.into_iter().chain([row.id.short().to_owned()]));
    std::iter::once("last".to_owned()).chain(words).collect()
}
