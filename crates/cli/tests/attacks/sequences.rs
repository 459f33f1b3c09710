//! Calls that change paths have the same effect inside as without the boundary: random sequences of
//! them run in both places, and their results and the resulting trees are compared.

use std::{fs, path::PathBuf};

use stockade_testkit::{TestEnv, run::require_tool};

use crate::attacks::for_each_user;

/// Sequences of one comparison: seconds in a debug build.
/// `STOCKADE_TEST_SEQUENCES` sets another number, for a long run by hand.
const SEQUENCES: &str = "300";
/// Most differing lines that are shown.
const SHOWN: usize = 40;

fn program(env: &TestEnv) -> PathBuf {
    let source = env.write("sequences.c", include_str!("sequences.c"));
    let repo = env.repo();
    let program = repo.path().join("sequences");
    require_tool("gcc");
    env.command("gcc")
        .args(["-O1", "-o"])
        .arg(&program)
        .arg(source)
        .success();
    program
}

#[test]
fn random_sequences_of_calls_give_what_the_kernel_gives() {
    let count = std::env::var("STOCKADE_TEST_SEQUENCES").unwrap_or_else(|_| SEQUENCES.to_owned());
    for_each_user(|env| {
        if env.is_root() {
            // As root, some calls could change files for everyone; the program refuses to run.
            return;
        }
        let program = program(env);
        let folder = program.parent().expect("it lies in the workspace");
        let words = ["1", count.as_str()];
        let bare = env
            .command(&program)
            .args(words)
            .current_dir(folder)
            .success();
        let inside = env
            .session(folder)
            .args(["--", "./sequences"])
            .args(words)
            .success();
        if bare.stdout == inside.stdout {
            return;
        }
        let (bare, inside): (Vec<_>, Vec<_>) = (
            bare.stdout.lines().collect(),
            inside.stdout.lines().collect(),
        );
        let differ: Vec<String> = bare
            .iter()
            .zip(&inside)
            .enumerate()
            .filter(|(_, (left, right))| left != right)
            .take(SHOWN)
            .map(|(line, (left, right))| format!("{line}: bare `{left}`, inside `{right}`"))
            .collect();
        assert_eq!(bare.len(), inside.len(), "{}", differ.join("\n"));
        assert!(differ.is_empty(), "{}", differ.join("\n"));
        drop(fs::remove_file(program));
    });
}
