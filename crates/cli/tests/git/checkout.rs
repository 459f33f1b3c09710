//! A switch, merge, rebase or stash that would change a protected file happens completely or not at
//! all.

use stockade_testkit::{TestEnv, env::Repo, events};

use crate::git::for_each_user;

/// Two branches that differ in protected files, in others before and after them, and in which files
/// exist.
const BRANCHES: &str = "set -e; mkdir .vscode zz; echo 1 > .vscode/settings.json; echo 1 > .a; echo 1 > f; \
    echo 1 > zz/only-main; echo 1 > only-main; ln -s f link; echo 1 > .envrc; chmod 755 only-main; \
    git add .; git commit -qm one; git switch -q -c dev; \
    echo 2 > .vscode/settings.json; echo 2 > .a; echo 2 > f; git rm -qr zz only-main link .envrc; mkdir new; \
    echo 2 > new/x; echo 2 > .b; echo 2 > mise.toml; git add .; git commit -qm two; \
    git switch -q main; echo 3 > g; git add .; git commit -qm three; \
    git branch old HEAD~1";

pub(crate) fn repository(env: &TestEnv, name: &str) -> Repo {
    let repo = env.repo_named(name);
    env.shell(repo.path(), BRANCHES).assert_success();
    repo
}

/// The repository's state: the commit, the index, all files with their content.
pub(crate) fn state(env: &TestEnv, repo: &Repo) -> String {
    let line = "git status -sb; git rev-parse HEAD; find . -path ./.git -prune -o -printf '%y %m %p\\n' | sort; \
        find . -path ./.git -prune -o -type f -exec cksum {} + | sort; find .git -name '*.lock'; \
        ls .git | grep -E 'MERGE|REBASE|rebase|PICK|AUTO'";
    env.shell(repo.path(), line).stdout
}

/// R6: no exit 0 with a wrong tree, no half-done change, no remains.
#[test]
fn what_is_refused_changes_nothing() {
    let commands = [
        "git switch dev",
        "git checkout -q dev",
        "git checkout --detach dev",
        "git merge dev -m merged",
        "git switch -q old && git merge --ff-only dev",
        "git rebase dev",
        "git reset --hard dev",
        "git reset --keep dev",
        "git checkout dev -- .",
        "git restore --source dev --staged --worktree .",
        "git cherry-pick dev",
        "git read-tree -u -m HEAD dev",
    ];
    for_each_user(|env| {
        for (number, command) in commands.iter().enumerate() {
            let repo = repository(env, &format!("r{number}"));
            let before = state(env, &repo);
            let line = format!("{command}; echo $?; /run/stockade/why");
            let output = env.session(repo.path()).line(&line).output();
            let exit = output
                .stdout
                .lines()
                .find_map(|line| line.parse::<i32>().ok());
            assert!(exit.is_some_and(|exit| exit != 0), "{command}: {output:?}");
            let after = state(env, &repo);
            let branch = if command.contains("switch -q old") {
                env.shell(repo.path(), "git switch -q main")
                    .assert_success();
                state(env, &repo)
            } else {
                after
            };
            assert_eq!(before, branch, "{command}: {output:?}");
            assert!(
                output
                    .stdout
                    .contains("is protected, so nothing of this change"),
                "{output:?}"
            );
            // The control: the same outside.
            env.shell(repo.path(), command);
            assert_ne!(before, state(env, &repo), "{command} does nothing");
        }
    });
}

/// A stash keeps what it saved; the working tree does not change.
#[test]
fn a_stash_of_a_protected_file_loses_nothing() {
    for_each_user(|env| {
        let repo = repository(env, "stash");
        env.shell(
            repo.path(),
            "echo 9 > .vscode/settings.json; echo 9 > f; rm g",
        )
        .assert_success();
        let before = state(env, &repo);
        let output = env.session(repo.path()).line("git stash; echo $?").output();
        assert_eq!(output.stdout.lines().last(), Some("1"), "{output:?}");
        assert_eq!(before, state(env, &repo), "{output:?}");
    });
}

/// Changes that touch no protected file work, before and after a refusal.
#[test]
fn other_branches_work_beside_it() {
    for_each_user(|env| {
        let repo = repository(env, "beside");
        let line = "git switch -q -c side && echo 5 > f && git rm -q only-main && git commit -qam side; \
            git switch dev; git switch -q main && git merge -q side -m m && echo 6 > f && git stash -q && \
            git stash pop -q && git status -s && cat .vscode/settings.json && git log -1 --format=%s";
        let output = env.session(repo.path()).line(line).output();
        assert_eq!(output.stdout, " M f\n1\nside\n", "{output:?}");
        let record = env.record();
        let denied = record.iter().any(|event| event.kind() == "file.denied");
        assert!(denied, "{}", events::summary(&record));
    });
}
