//! `cargo xtask properties`: property tests and fuzz targets with cases that no run had before.
//!
//! `cargo xtask test` tries the same cases each time, so that a failure is due to the change under
//! test. This command tries new ones for each change: its seed comes from the files that git has, so that
//! one change has one verdict, wherever and however often it is tried.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};

use crate::{Outcome, fuzz, out, tidy, workspace};

/// The macro that contains property tests.
const MACRO: &str = "proptest";

/// Tries property tests with fresh cases.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Try the cases of a run that printed this number [default: one for the files of the last commit]
    #[arg(long, value_name = "NUMBER", conflicts_with = "fresh")]
    seed: Option<u64>,
    /// Try cases that no run had before, even if nothing has changed
    #[arg(long)]
    fresh: bool,
}

/// Runs every property test of the workspace once.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let of_commit = || {
        let seed = if args.fresh { None } else { seed_of(&root) };
        seed.map_or_else(fuzz::fresh_seed, Ok)
    };
    let seed = args.seed.map_or_else(of_commit, Ok)?;
    let names = names(&root)?;
    out::line(format_args!(
        "properties: {} of them and the fuzz targets, seed {seed}",
        names.len()
    ));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // The whole workspace is built as by `cargo xtask test`, so that nothing is built twice.
    let mut cargo = workspace::cargo();
    cargo
        .args(["nextest", "run", "--workspace"])
        .arg("--filterset")
        .arg(format!(
            "test(/(^|::)({})$/) or {}",
            names.join("|"),
            fuzz::filter(None)
        ))
        .env("PROPTEST_RNG_SEED", seed.to_string());
    let again = format!("properties: the same cases again: cargo xtask properties --seed {seed}");
    fuzz::with_seed(cargo, &root, seed, &again)
}

/// Takes a seed from the name of the last commit's tree; without git there is none.
fn seed_of(root: &Path) -> Option<u64> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD^{tree}"]).current_dir(root);
    let output = git.output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    u64::from_str_radix(name.get(..12)?, 16).ok()
}

/// Lists the names of all property tests.
fn names(root: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in workspace::files(root)? {
        if !file.starts_with("crates/") || !tidy::is_rust(&file) {
            continue;
        }
        let text = fs::read_to_string(root.join(&file))
            .with_context(|| format!("`{file}` cannot be read"))?;
        if text.contains(MACRO) {
            let stream = text.parse::<TokenStream>();
            let stream = stream.map_err(|error| anyhow::anyhow!("{file}: {error}"))?;
            collect(stream, &mut names);
        }
    }
    Ok(names)
}

/// Collects the names of functions from every `proptest! { … }`, at any depth.
fn collect(stream: TokenStream, names: &mut BTreeSet<String>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    for window in trees.windows(3) {
        if let [
            TokenTree::Ident(word),
            TokenTree::Punct(mark),
            TokenTree::Group(body),
        ] = window
            && word == MACRO
            && mark.as_char() == '!'
        {
            names.extend(functions(body.stream()));
        }
    }
    for tree in trees {
        if let TokenTree::Group(group) = tree {
            collect(group.stream(), names);
        }
    }
}

fn functions(stream: TokenStream) -> Vec<String> {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let pairs = trees.windows(2).filter_map(|pair| match pair {
        [TokenTree::Ident(word), TokenTree::Ident(name)] if word == "fn" => Some(name.to_string()),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_tests_are_found_wherever_they_stand() {
        let text = "mod tests { fn helper() {} proptest! { #![proptest_config(x)] #[test] \
            fn one(a in any::<u8>()) { fn inner() {} } #[test] fn two(b in 0..3) {} } } proptest! { fn three(c in x) {} }";
        let mut names = BTreeSet::new();
        collect(text.parse().unwrap(), &mut names);
        assert_eq!(names.iter().collect::<Vec<_>>(), ["one", "three", "two"]);
    }

    #[test]
    fn a_commit_has_one_seed() {
        let root = workspace::root().unwrap();
        assert_eq!(seed_of(&root), seed_of(&root));
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(seed_of(elsewhere.path()), None);
    }

    #[test]
    fn the_workspace_has_property_tests() {
        let names = names(&workspace::root().unwrap()).unwrap();
        assert!(names.len() > 20, "{names:?}");
        assert!(names.contains("decisions_agree_with_the_reference"));
    }
}
