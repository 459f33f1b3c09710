//! Git: the daily work of people and agents with repositories.

use crate::conformance::row::{
    Group::Git,
    Need::{Npm, Pip, System},
    Row, row,
};

const GIT: &[crate::conformance::row::Need] = &[System("git", "git")];

/// A repository with one commit on `main`, and a branch `dev` that is one ahead.
const REPOSITORY: &str = "
git init -q -b main
printf 'one\n' > file
git add .
git commit -qm one
git switch -qc dev
printf 'two\n' > file
git commit -qam two
git switch -q main
";

/// A bare repository beside the workspace as `origin`.
const ORIGIN: &str = "
git init -q -b main
printf 'one\n' > file
git add .
git commit -qm one
git init -q --bare -b main ../origin.git
git remote add origin ../origin.git
git push -q origin main main:dev
git fetch -q
";

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Git, "git-init-commit", "`git init`, add, commit, log")
        .needs(GIT)
        .versions("git --version")
        .run("mkdir new; cd new; git init -q; echo 1 > f; git add .; git commit -qm first; git log --oneline")
        .check("cd new; [ \"$(git log --format=%s)\" = first ]; git fsck"),
    row(Git, "git-commit", "status, diff, add -p, commit --amend, blame")
        .needs(GIT)
        .setup(REPOSITORY)
        .run("printf 'one\nmore\n' > file; git status -sb; git diff | grep -q more; printf 'y\n' | git add -p; git commit -qm more; git commit -q --amend -m better; git blame file")
        .check("[ \"$(git log -1 --format=%s)\" = better ]"),
    row(Git, "git-clone-inside", "`git clone` of a repository in the workspace")
        .needs(GIT)
        .setup("git init -q -b main src; cd src; echo 1 > f; git add .; git commit -qm one")
        .run("git clone -q src copy; cd copy; git log --oneline; git status -sb | grep -q origin/main")
        .check("cd copy; [ \"$(git config remote.origin.url)\" ]; git fsck"),
    row(Git, "clone-and-delete", "clone, work, delete the clone")
        .needs(GIT)
        .setup("git init -q -b main src; cd src; echo 1 > f; git add .; git commit -qm one")
        .run("git clone -q src copy; (cd copy; echo 2 > f; git commit -qam two); rm -rf copy")
        .check("[ ! -e copy ]"),
    row(Git, "git-branch", "branch, switch, rename and delete a branch")
        .needs(GIT)
        .setup(REPOSITORY)
        .run("git switch -qc topic; echo 3 > other; git add .; git commit -qm three; git branch -m topic renamed; git switch -q main; git branch -D renamed; git branch")
        .check("[ \"$(git branch --format='%(refname:short)' | tr '\\n' ' ')\" = 'dev main ' ]"),
    row(Git, "git-branch-track", "switch to a branch of the remote, tracking set")
        .needs(GIT)
        .setup(ORIGIN)
        .run("git switch -q dev; git status -sb | grep -q origin/dev; git branch -q -u origin/main; git branch -vv")
        .check("[ \"$(git rev-parse --abbrev-ref dev@{u})\" = origin/main ]"),
    row(Git, "git-branch-existing", "switch, merge and reset where branches differ in `.vscode`")
        .needs(GIT)
        .setup("git init -q -b main; mkdir .vscode; echo 1 > .vscode/settings.json; echo 1 > f; git add .; git commit -qm one; git switch -qc dev; echo 2 > .vscode/settings.json; echo 2 > f; git commit -qam two; git switch -q main")
        .run("git switch -q dev; [ \"$(cat f)\" = 2 ]; git status -s; git switch -q main; git merge -q dev; git reset -q --hard HEAD~1")
        .check("[ -z \"$(git status -s)\" ]; [ \"$(cat .vscode/settings.json)\" = 1 ]")
        .asked_because("the files of an editor that is run outside change"),
    row(Git, "git-rebase-stash", "rebase, cherry-pick, stash, revert, bisect")
        .needs(GIT)
        .setup(REPOSITORY)
        .run("git switch -qc topic; echo x > x; git add .; git commit -qm x; git rebase -q dev; echo y > x; git stash -q; git stash pop -q; git checkout -q x; git revert --no-edit HEAD; git cherry-pick HEAD~1; git bisect start HEAD main >/dev/null; git bisect reset >/dev/null")
        .check("[ \"$(cat x)\" = x ]"),
    row(Git, "git-worktree-add-in", "`git worktree add` in the repository, work there, remove it")
        .needs(GIT)
        .setup(REPOSITORY)
        .run("git worktree add -q wt dev; (cd wt; echo 3 > file; git commit -qam three); git worktree list; git worktree remove wt")
        .check("[ ! -e wt ]; [ \"$(git log -1 --format=%s dev)\" = three ]; [ \"$(git worktree list | wc -l)\" = 1 ]"),
    row(Git, "git-worktree-workspace", "a linked worktree as the workspace")
        .needs(GIT)
        .setup("git init -q -b main ../main; cd ../main; echo 1 > f; git add .; git commit -qm one; rmdir ../work; git worktree add -q ../work -b feature")
        .run("git status -sb; echo 2 > f; git commit -qam two; git log --oneline")
        .check("cd ../main; [ \"$(git log -1 --format=%s feature)\" = two ]"),
    row(Git, "git-submodule-add", "`git submodule add`, update, deinit")
        .needs(GIT)
        .setup("git init -q -b main lib; (cd lib; echo 1 > f; git add .; git commit -qm lib); git init -q -b main; echo lib >> .git/info/exclude; git commit -q --allow-empty -m one")
        .run("git -c protocol.file.allow=always submodule --quiet add ./lib dep; git commit -qm add; git submodule status; git submodule deinit -q -f dep; git -c protocol.file.allow=always submodule --quiet update --init")
        .check("[ -f dep/f ]; git submodule status | grep -q dep"),
    row(Git, "git-config-remote", "`git remote add`, `git config user.name`, fetch")
        .needs(GIT)
        .setup("git init -q -b main; git commit -q --allow-empty -m one; git init -q --bare -b main origin.git; git push -q origin.git main")
        .run("git config user.name Somebody; git remote add other \"$PWD/origin.git\"; git fetch -q other; git remote -v | grep -q other")
        .check("[ \"$(git config user.name)\" = Somebody ]; git rev-parse -q --verify other/main"),
    row(Git, "git-push-local", "push to a repository in the workspace")
        .needs(GIT)
        .setup("git init -q -b main; git commit -q --allow-empty -m one; git init -q --bare -b main origin.git; git remote add origin \"$PWD/origin.git\"; git push -q origin main")
        .run("git commit -q --allow-empty -m two; git push -q origin main")
        .check("[ \"$(git -C origin.git log -1 --format=%s main)\" = two ]")
        .asked_because("a push publishes code"),
    row(Git, "git-tag-gc", "tag, describe, gc, maintenance, reflog, pack")
        .needs(GIT)
        .setup(REPOSITORY)
        .run("git tag -a v1 -m v1; git describe; git gc -q; git maintenance run --task=gc; git repack -adq; git reflog expire --expire=now --all; git prune; git fsck")
        .check("git rev-parse -q --verify v1; [ -z \"$(git status -s)\" ]"),
    row(Git, "git-sparse-checkout", "`git sparse-checkout set`, then disable")
        .needs(GIT)
        .setup("git init -q -b main; mkdir a b; echo 1 > a/f; echo 1 > b/f; git add .; git commit -qm one")
        .run("git sparse-checkout set a; [ ! -e b/f ]; git sparse-checkout disable; [ -e b/f ]")
        .check("[ -z \"$(git status -s)\" ]"),
    row(Git, "git-commit-gpgsign-configured", "commit where the user's settings sign every commit")
        .needs(&[System("git", "git"), System("ssh-keygen", "openssh-client")])
        .setup("git init -q -b main; mkdir -p -m 700 ~/.ssh; ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_sign; git config --global gpg.format ssh; git config --global user.signingkey ~/.ssh/id_sign.pub; git config --global commit.gpgsign true")
        .run("git commit -q --allow-empty -m inside")
        .check("[ \"$(git log -1 --format=%s)\" = inside ]"),
    row(Git, "git-hooks-run", "a hook of the owner runs when a commit is made inside")
        .needs(GIT)
        .setup("git init -q -b main; printf '#!/bin/sh\\necho ran > hook-ran\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit")
        .run("git commit -q --allow-empty -m one")
        .check("[ -f hook-ran ]"),
    row(Git, "git-lfs", "Git LFS: track, add, commit, check out")
        .needs(&[System("git", "git"), System("git-lfs", "git-lfs")])
        .versions("git lfs version")
        .setup("git init -q -b main; git lfs install --local >/dev/null")
        .run("git lfs track '*.bin' >/dev/null; head -c 100000 /dev/zero > a.bin; git add .; git commit -qm lfs; rm a.bin; git checkout -q a.bin; git lfs ls-files")
        .check("[ \"$(stat -c %s a.bin)\" = 100000 ]; git lfs ls-files | grep -q a.bin"),
    row(Git, "rm-rf-git", "unpack a project with `.git`, delete it again")
        .needs(GIT)
        .setup("git init -q -b main p; (cd p; git commit -q --allow-empty -m one); tar cf p.tar p; rm -rf p")
        .run("tar xf p.tar; git -C p log --oneline; rm -rf p")
        .check("[ ! -e p ]"),
    row(Git, "precommit", "`pre-commit install` and a commit that it checks")
        .needs(&[System("git", "git"), Pip(&["pre-commit"])])
        .versions("pre-commit --version")
        .setup("git init -q -b main; printf 'repos:\\n- repo: local\\n  hooks:\\n  - id: ok\\n    name: ok\\n    entry: touch checked\\n    language: system\\n    always_run: true\\n    pass_filenames: false\\n' > .pre-commit-config.yaml; git add .; git commit -qm one")
        .run("pre-commit install; git commit -q --allow-empty -m two")
        .check("[ -f checked ]")
        .asked_because("a hook would run outside with every commit"),
    row(Git, "husky", "npm project with husky: `npm install` sets the hooks up")
        .needs(&[System("git", "git"), System("npm", "npm"), Npm(&["husky"])])
        .setup("git init -q -b main; mkdir -p node_modules; cp -r ~/.local/lib/node_modules/husky node_modules/; printf '{\"private\":true,\"scripts\":{\"prepare\":\"node node_modules/husky/bin.js\"}}' > package.json; git add package.json; git commit -qm one")
        .run("npm run prepare --silent; git commit -q --allow-empty -m two")
        .check("[ \"$(git log -1 --format=%s)\" = two ]")
        .asked_because("a hook would run outside with every commit"),
];
