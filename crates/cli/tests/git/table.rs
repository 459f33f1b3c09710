//! Commands of git with the same result bare and inside.

use std::path::PathBuf;

use stockade_testkit::{TestEnv, run::Output};

use crate::git::for_each_user;

/// A folder with a repository, its remote, and another repository.
const FOLDER: &str = "
    git init -q --bare origin.git
    git init -q lib; (cd lib; echo l > l; git add .; git commit -qm lib)
    git clone -q origin.git shop 2> /dev/null
    cd shop
    mkdir dir other; echo 1 > f; echo 1 > dir/g; echo 1 > other/h; git add .; git commit -qm one
    git push -q -u origin main
    git switch -q -c dev; echo 2 > f; echo new > n; git add .; git commit -qm dev
    git push -q origin dev; git switch -q main; git branch -q -D dev
    echo 3 > dir/g; git commit -qam side
";

/// Making repositories, worktrees and submodules, in `shop`.
const REPOSITORIES: [&str; 17] = [
    "git init -q new",
    "git init new && cd new && git commit -q --allow-empty -m x && git log --format=%s",
    "git init -q --bare new.git && git -C new.git config user.name x",
    "git init -q -b trunk",
    "git init -q new && rm -rf new",
    "git init -q --separate-git-dir ../shop/.git/modules/new new",
    "git clone -q ../lib copy",
    "git clone -q --no-local --depth 1 \"file://$PWD/../lib\" copy",
    "git clone -q --bare ../lib copy.git",
    "git clone -q ../none copy; echo $?; ls -A",
    "git clone -q -b nothing ../lib copy; echo $?; ls -A",
    "git worktree add -q wt -b feature && cd wt && echo x > f && git commit -qam wt && git status -sb",
    "git worktree add -q --detach wt && git worktree remove wt && git worktree list",
    "git worktree add -q wt && git worktree move wt moved && git -C moved status -sb",
    "git worktree add -q wt -b feature && rm -rf wt && git worktree prune && git branch -D feature",
    "git worktree add -q wt && git worktree lock wt && git worktree list && git -C wt stash list",
    "git submodule add -q ../lib sub && git commit -qm sub && git submodule status",
];

/// Branches, merges and stashes.
const BRANCHES: [&str; 18] = [
    "git submodule add -q ../lib sub && cd sub && git switch -q -c x && git commit -q --allow-empty -m x",
    "git submodule add -q ../lib sub && git submodule deinit -f sub && git submodule update --init",
    "git submodule add -q ../lib sub && git commit -qm s && git rm -q sub && git status -s",
    "git switch -q -c topic && git switch -q - && git branch",
    "git switch -q dev && git status -sb",
    "git checkout -q -b mine --track origin/dev && git rev-parse --abbrev-ref @{u}",
    "git checkout -q --detach HEAD~1 && git switch -q main",
    "git merge -q origin/dev -m merged && git log --oneline",
    "git merge -q --no-ff --no-edit origin/dev && git log --oneline",
    "echo 9 > f && git commit -qam nine && git merge origin/dev; git status -s; git merge --abort",
    "git rebase -q origin/dev && git log --oneline",
    "GIT_SEQUENCE_EDITOR=: git rebase -q -i HEAD~1 && git log --oneline",
    "echo 9 > f && git commit -qam nine && git rebase origin/dev > /dev/null; git status -s; git rebase --abort",
    "echo 9 > f && git stash -q && git status -s && git stash pop -q && git status -s",
    "echo 9 > new && git stash -q -u && git stash list && git stash drop -q",
    "echo 9 > f && git reset -q --hard HEAD~1 && git status -sb",
    "git reset -q --soft HEAD~1 && git status -s && git commit -qm again",
    "git switch -q -c topic && git branch -u origin/dev && git status -sb && git branch --unset-upstream",
];

/// Remotes, and the commands that maintain a repository.
const REMOTES: [&str; 17] = [
    "git branch -q topic && git branch -m topic renamed && git branch -D renamed",
    "git branch -q --track topic origin/dev && git branch -m topic renamed && git config -l --local",
    "git branch -c main copied && git branch -vv",
    "git switch -q -c topic && git push -q -u origin topic && git status -sb",
    "git push -q origin main && git fetch -q && git status -sb",
    "git fetch -q --all --prune && git pull -q --rebase origin dev",
    "git remote add other https://good.test/other.git && git remote -v",
    "git remote add other git@good.test:a/b.git && git remote rename other third && git remote remove third",
    "git remote add -f lib \"$PWD/../lib\" && git branch -r",
    "git remote set-branches origin main && git fetch -q && git remote prune origin",
    "git sparse-checkout set dir && ls && git sparse-checkout disable && ls",
    "git sparse-checkout set --no-cone '/f' && git status -s && git sparse-checkout list",
    "git gc -q && git fsck --no-progress",
    "git maintenance run --quiet && git repack -qad && git prune && git pack-refs --all",
    "git config user.name 'A Person' && git config user.email a@good.test && git commit -q --allow-empty -m mine",
    "git config user.name x && git config --unset user.name && git config --list --local",
    "git config pull.rebase true && git config core.autocrlf false && git config advice.detachedHead false",
];

/// Commits and their files.
const WORK: [&str; 16] = [
    "git commit -q --allow-empty -m x && git commit -q --amend -m y && git log --oneline",
    "git cherry-pick origin/dev && git revert --no-edit HEAD && git log --oneline",
    "git tag v1 && git tag -a v2 -m two && git tag -d v1 && git describe",
    "git notes add -m note && git notes show",
    "git bisect start -q HEAD HEAD~1 && git bisect run true; git bisect reset -q",
    "echo x > junk && mkdir d && echo y > d/e && git clean -fdq && git status -s",
    "git mv f g && git rm -q dir/g && git status -s && git commit -qm moved",
    "git format-patch -q -1 && git reset -q --hard HEAD~1 && git am -q 0001-side.patch && git log --oneline",
    "git diff HEAD~1 > p && git reset -q --hard HEAD~1 && git apply p && git status -s",
    "git archive HEAD | tar t && git bundle create -q b main && git bundle verify -q b",
    "git blame f && git grep 1 && git shortlog -s && git log --graph --oneline --all",
    "git switch -q --orphan empty && git commit -q --allow-empty -m o && git switch -q main",
    "git rerere && git update-index --refresh && git reflog --format=%gs && git count-objects > /dev/null",
    "echo '*.bin filter=lfs' > .gitattributes && git add . && git commit -qm a && git check-attr -a x.bin",
    "git replace HEAD HEAD~1 && git replace -d $(git rev-parse HEAD) && git switch -q -c r",
    "git range-diff HEAD~1..HEAD HEAD~1..HEAD && git merge-tree HEAD origin/dev > /dev/null && git var GIT_EDITOR",
];

/// The present content of the folder, except files that only contain objects.
const STATE: &str = "
    find . -name objects -prune -o -name '*.pack' -prune -o -printf '%y %m %p\\n' | sort
    for file in $(find . -name 'config*' -path '*git*' -type f | sort); do echo $file; git config -f $file -l; done
    find . -name .git -prune -o -name '*.git' -prune -o -type f -exec cksum {} + | sort -k3
    find . -name gitdir -exec cat {} + -o -path '*/.git' -type f -exec cat {} + | sort
    cd shop && git status --porcelain -b && git for-each-ref && git stash list && git worktree list && \
    git submodule status && git log --all --format='%H %s' | sort && git fsck --no-progress
";

/// Commits are equal if their dates are.
const DATES: &str =
    "export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'";

/// Pushes are asked about elsewhere.
const POLICY: &str = "schema = 1\n[[allow]]\nid = \"lab\"\nwhat = \"exec\"\n\
    command = [[\"git\", \"push\", \"**\"], [\"git-receive-pack\", \"**\"], [\"git\", \"receive-pack\", \"**\"]]\nreason = \"lab\"\n";

fn folder(env: &TestEnv, name: &str) -> PathBuf {
    env.write(
        "home/.gitconfig",
        "[user]\n\tname = Lab Tester\n\temail = tester@good.test\n[init]\n\tdefaultBranch = main\n\
         [protocol \"file\"]\n\tallow = always\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n",
    );
    let marker = env.write(format!("work/{name}/marker"), "");
    let folder = marker.parent().expect("it lies in one").to_owned();
    std::fs::remove_file(marker).expect("it was just written");
    env.shell(&folder, &format!("{DATES}; set -e; {FOLDER}"))
        .assert_success();
    folder
}

/// The visible result of a run and its effects, without the name of its folder.
fn seen(env: &TestEnv, output: &Output, folder: &std::path::Path, name: &str) -> String {
    let state = env.shell(folder, STATE);
    let text = format!(
        "exit {}\n{}\n{}\nstate {}\n{}",
        output.code(),
        output.stdout,
        output.stderr,
        state.code(),
        state.stdout
    );
    text.replace(&format!("/work/{name}"), "/work/NAME")
}

#[test]
fn repositories_are_made_the_same_inside() {
    check(&REPOSITORIES);
}

#[test]
fn branches_are_the_same_inside() {
    check(&BRANCHES);
}

#[test]
fn remotes_are_the_same_inside() {
    check(&REMOTES);
}

#[test]
fn commits_are_the_same_inside() {
    check(&WORK);
}

/// Runs each command bare and inside, each time in a new folder.
fn check(commands: &[&str]) {
    for_each_user(|env| {
        let policy = env.write("policy.toml", POLICY);
        let mut wrong = Vec::new();
        for (number, command) in commands.iter().enumerate() {
            let line = format!("{DATES}; cd shop && {command}");
            let [bare, inside] = ["bare", "inside"].map(|kind| format!("{kind}-{number:02}"));
            let at = folder(env, &bare);
            let output = env.shell(&at, &line);
            let expected = seen(env, &output, &at, &bare);
            let at = folder(env, &inside);
            let options = ["--policy", policy.to_str().expect("a plain path")];
            let output = env
                .session_with(&at, &options)
                .args(["--ask", "deny"])
                .line(&line)
                .output();
            let found = seen(env, &output, &at, &inside);
            if found != expected {
                wrong.push(format!("=== {command}\n{}", difference(&expected, &found)));
            }
        }
        assert!(
            wrong.is_empty(),
            "{}\n{} differ",
            wrong.join("\n"),
            wrong.len()
        );
    });
}

/// Returns the lines that only one of two texts has.
fn difference(bare: &str, inside: &str) -> String {
    let without = |all: &str, other: &str, sign: char| -> Vec<String> {
        let others: Vec<&str> = other.lines().collect();
        let left = all.lines().filter(|line| !others.contains(line));
        left.map(|line| format!("{sign} {line}")).collect()
    };
    [without(bare, inside, '-'), without(inside, bare, '+')]
        .concat()
        .join("\n")
}
