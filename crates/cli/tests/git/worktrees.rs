//! A workspace whose git directory is outside: a linked worktree, a submodule, a part of a tree.

use std::{fs, path::PathBuf};

use stockade_testkit::{TestEnv, env::Repo};

use crate::git::for_each_user;

/// A worktree of the repository beside it, with another one.
fn worktree(env: &TestEnv, repo: &Repo) -> PathBuf {
    let line = "git worktree add -q ../wt -b feature && git worktree add -q ../other -b other";
    env.shell(repo.path(), line).assert_success();
    repo.path().with_file_name("wt")
}

/// R3: git works in a linked worktree, and its owner sees the result outside.
#[test]
fn git_works_in_a_linked_worktree() {
    for_each_user(|env| {
        let repo = env.repo();
        let at = worktree(env, &repo);
        let line = "set -e; git status -sb; echo 2 > new; git add .; git commit -qm inside; \
            git switch -q -c topic; git branch -u feature; git config user.name x; git tag v1; \
            git pack-refs --all; git stash list; git fetch -q . feature; \
            git worktree add -q sub -b sub; git -C sub status -sb; git worktree list | wc -l";
        let output = env.session(&at).line(line).output();
        output.assert_success();
        assert!(output.stdout.starts_with("## feature\n"), "{output:?}");
        assert!(output.stdout.contains("## sub\n4"), "{output:?}");
        env.shell(&at, "git log -1 --format=%s feature")
            .assert_stdout("inside");
        env.shell(&at, "git rev-parse --abbrev-ref topic@{u}")
            .assert_stdout("feature");
        env.shell(repo.path(), "git status -sb")
            .assert_stdout("## main...origin/main");
        env.shell(repo.path(), "git fsck --no-progress")
            .assert_success();
    });
}

/// Files of another worktree, and files that run programs, do not change.
#[test]
fn a_linked_worktree_reaches_nothing_else() {
    let attacks = "echo x > $G/hooks/pre-commit; echo x >> $G/config; git config core.pager x; \
        echo x > $G/HEAD; echo x > $G/index; rm -f $G/index; echo x > $G/logs/HEAD; \
        echo x > $G/worktrees/other/HEAD; rm -rf $G/worktrees/other; echo x > $G/info/attributes; \
        echo /x > $G/objects/info/alternates; echo ../../x > $G/worktrees/wt/commondir; \
        mv $G/worktrees/other $G/worktrees/gone; mv $G/hooks $G/h; mkdir -p $G/modules/m/hooks; \
        echo 'gitdir: x' > .git; rm -f .git; mv .git g; ln -s /tmp $G/worktrees/new; \
        echo x > $G/config.worktree; echo x > ../shop/README.md; mkdir ../shop/new; : > $G/description; \
        echo x > $G/worktrees/wt/config.worktree";
    for_each_user(|env| {
        let repo = env.repo();
        let at = worktree(env, &repo);
        let state = |repo: &Repo| {
            let line = "cd .git; find . -path ./objects/?? -prune -o -type f -exec cksum {} +; \
                        find . ../../wt -maxdepth 3 | sort; cat ../../wt/.git";
            env.shell(repo.path(), line).stdout
        };
        let before = state(&repo);
        let all = format!("G=../shop/.git; {attacks}");
        let output = env.session(&at).line(&all).output();
        assert_eq!(before, state(&repo), "{output:?}");
        env.shell(&at, &all);
        assert_ne!(before, state(&repo), "control");
    });
}

/// A submodule has its own git directory.
#[test]
fn git_works_in_a_submodule() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "git init -q ../lib && git -C ../lib commit -q --allow-empty -m lib && \
            git -c protocol.file.allow=always submodule -q add \"$PWD/../lib\" sub && git commit -qm sub";
        env.shell(repo.path(), line).assert_success();
        let line = "git status -sb; echo 1 > n; git add .; git commit -qm inside; git switch -q -c x; \
            G=../.git; echo x > $G/modules/sub/hooks/pre-commit; echo x >> $G/modules/sub/config; \
            echo x > $G/HEAD; echo x > $G/modules/x";
        let output = env.session(repo.path().join("sub")).line(line).output();
        assert!(
            output.stdout.starts_with("## main...origin/main\n"),
            "{output:?}"
        );
        let git = |path: &str| repo.path().join(".git").join(path);
        assert!(!git("modules/sub/hooks/pre-commit").exists() && !git("modules/x").exists());
        for (path, wrong) in [("modules/sub/config", "\nx\n"), ("HEAD", "x\n")] {
            let text = fs::read_to_string(git(path)).expect("it is there");
            assert!(!text.ends_with(wrong), "{path}: {text}");
        }
        let sub = repo.path().join("sub");
        env.shell(&sub, "git log -1 --format=%s")
            .assert_stdout("inside");
    });
}

/// A repository without its own working tree, with worktrees around it.
#[test]
fn git_works_beside_a_bare_repository() {
    for_each_user(|env| {
        let repo = env.repo();
        let line =
            "git clone -q --bare . ../all.git && git -C ../all.git worktree add -q ../tree main";
        env.shell(repo.path(), line).assert_success();
        let at = repo.path().with_file_name("tree");
        let line = "git commit -q --allow-empty -m inside && git log -1 --format=%s; \
                    echo x > ../all.git/hooks/pre-commit; echo x >> ../all.git/config; echo x > ../all.git/HEAD";
        let output = env.session(&at).line(line).output();
        assert_eq!(output.stdout, "inside\n", "{output:?}");
        let bare = repo.path().with_file_name("all.git");
        assert!(!bare.join("hooks/pre-commit").exists());
        env.shell(&bare, "git log -1 --format=%s main")
            .assert_stdout("inside");
        // The whole layout as a workspace.
        let line = "cd tree && git commit -q --allow-empty -m two && git worktree add -q ../third -b third && \
                    git -C ../third status -sb";
        let whole = env.repo_named("whole");
        env.shell(
            whole.path(),
            "git clone -q --bare . all.git; rm -rf .git; mv all.git .bare; \
            echo 'gitdir: ./.bare' > .git; git worktree add -q tree main",
        )
        .assert_success();
        let output = env.session(whole.path()).line(line).output();
        assert_eq!(output.stdout, "## third\n", "{output:?}");
    });
}

/// A workspace's own claim widens nothing: the git directory must point back.
#[test]
fn a_pointer_that_is_not_led_back_to_shows_nothing() {
    for_each_user(|env| {
        let repo = env.repo();
        worktree(env, &repo);
        let secret = env.repo_named("secret");
        env.shell(secret.path(), "git worktree add -q ../secret-wt -b s")
            .assert_success();
        let git = secret.path().join(".git").display().to_string();
        let made = "mkdir -p HEAD.d objects refs; cp -r $S/HEAD .; echo $S > commondir; echo $PWD/.git > gitdir";
        for (number, pointer) in [
            format!("echo gitdir: {git} > .git"),
            format!("echo gitdir: {git}/worktrees/secret-wt > .git"),
            format!("ln -s {git} .git"),
            format!("ln -s {git}/worktrees/secret-wt .git"),
            format!("S={git}; mkdir g; (cd g; {made}); echo gitdir: g > .git"),
        ]
        .iter()
        .enumerate()
        {
            let at = env.write(format!("work/plain-{number}/file"), "");
            let at = at.parent().expect("it lies in one");
            env.shell(at, pointer).assert_success();
            let control = env.shell(at, &format!("cat {git}/HEAD"));
            assert!(control.stdout.contains("ref:"), "{control:?}");
            let output = env
                .session(at)
                .line(format!("cat {git}/HEAD; ls {git}; git log"))
                .output();
            assert_eq!(output.stdout, "", "{pointer}: {output:?}");
        }
    });
}

/// A git directory that policy makes writable is protected as one, whatever its name.
#[test]
fn a_shared_git_directory_is_protected() {
    for_each_user(|env| {
        let (repo, other) = (env.repo(), env.repo_named("other"));
        env.shell(other.path(), "git clone -q --bare . ../plain.git")
            .assert_success();
        let git = other.path().join(".git");
        let bare = other.path().with_file_name("plain.git");
        let text = format!(
            "schema = 1\n[filesystem]\nwrite = [\"{}\", \"{}\"]\n",
            git.display(),
            bare.display()
        );
        let policy = env.write("share.toml", &text);
        for directory in [&git, &bare] {
            let line = format!(
                "cd {}; echo x > hooks/pre-commit; git config core.fsmonitor x; echo x >> config; \
                 git update-ref refs/heads/new HEAD; mv hooks h",
                directory.display()
            );
            let options = [
                "--ask",
                "deny",
                "--policy",
                policy.to_str().expect("a plain path"),
            ];
            let output = env.session_with(repo.path(), &options).line(line).output();
            assert!(!directory.join("hooks/pre-commit").exists(), "{output:?}");
            let config = fs::read_to_string(directory.join("config")).expect("it is there");
            assert!(
                !config.contains("fsmonitor") && !config.ends_with("x\n"),
                "{config}"
            );
            assert!(directory.join("refs/heads/new").exists(), "{output:?}");
        }
    });
}

/// In a part of a larger tree, one line names the remedy, and the remedy works.
#[test]
fn a_part_of_a_tree_names_its_repository() {
    for_each_user(|env| {
        let repo = env.repo();
        let part = repo.path().join("src");
        let output = env.session(&part).line("git status -sb").output();
        let hint = format!("for git inside: --workspace {}", repo.path().display());
        assert!(output.stderr.contains(&hint), "{output:?}");
        let whole = [
            "--ask",
            "deny",
            "--workspace",
            repo.path().to_str().expect("a plain path"),
        ];
        let output = env
            .session_with(&part, &whole)
            .line("pwd; git status -sb")
            .output();
        let expected = format!("{}\n## main...origin/main\n", part.display());
        assert_eq!(output.stdout, expected, "{output:?}");
    });
}

/// Worktrees elsewhere are not pruned as missing.
#[test]
fn worktrees_elsewhere_are_kept() {
    for_each_user(|env| {
        let repo = env.repo();
        worktree(env, &repo);
        let line =
            "git worktree prune --expire now; git gc -q; git branch -D feature; git worktree list";
        let output = env.session(repo.path()).line(line).output();
        assert_eq!(output.stdout.lines().count(), 3, "{output:?}");
        assert!(!output.stdout.contains("prunable"), "{output:?}");
        env.shell(repo.path(), "git -C ../wt status -sb")
            .assert_stdout("## feature");
        // A name that a session gave brings nothing along.
        let own = env.write("home/own/.git", "a file of the owner");
        let line = format!("echo {} > .git/worktrees/wt/gitdir", own.display());
        env.session(repo.path()).line(line).success();
        let look = format!("cat {}", own.display());
        let output = env.session(repo.path()).line(look).output();
        assert!(!output.status.success(), "{output:?}");
    });
}

/// An agent's own working trees below `.claude` are like any others; nothing else of `.claude` is
/// writable, there or in them.
#[test]
fn working_trees_below_the_agents_directory_work() {
    let before = "mkdir -p .claude/hooks; echo '{}' > .claude/settings.json; echo owner > .claude/hooks/h; \
        git add .; git commit -qm claude";
    let work = "git worktree add -q .claude/worktrees/x -b feat && cd .claude/worktrees/x && echo 2 > f && \
        git add f && git commit -qm two && git status -sb && cat .claude/settings.json && cd ../../.. && \
        git worktree remove .claude/worktrees/x && git log -1 --format=%s feat";
    let attacks = [
        "echo evil > .claude/settings.json",
        "echo evil > .claude/settings.local.json",
        "echo evil > .claude/hooks/h",
        "mkdir .claude/commands",
        "rm .claude/hooks/h",
        "ln -s /tmp .claude/agents",
        "mkdir -p .claude/worktrees/y && mv .claude/worktrees/y .claude/agents",
        "mkdir -p .claude/worktrees/z && echo evil > .claude/worktrees/z/settings.json && \
         mv .claude/worktrees/z/settings.json .claude/settings.local.json",
        "mkdir -p .claude/worktrees/w/.claude && echo evil > .claude/worktrees/w/.claude/settings.json",
        "git worktree add -q .claude/worktrees/v -b v && echo evil > .claude/worktrees/v/.claude/settings.json",
        "mkdir -p .claude/worktrees && echo evil > .claude/worktrees/.envrc",
        "mv .claude c",
        "rm -rf .claude/hooks .claude/settings.json",
    ];
    for_each_user(|env| {
        for (name, first) in [
            ("there", before),
            ("new", "echo '{}' > only; git add .; git commit -qm only"),
        ] {
            let repo = env.repo_named(name);
            env.shell(repo.path(), first).assert_success();
            let line = work.replace(
                "cat .claude/settings.json",
                if name == "new" {
                    "cat only"
                } else {
                    "cat .claude/settings.json"
                },
            );
            let output = env.session(repo.path()).line(&line).output();
            output.assert_success();
            assert_eq!(output.stdout, "## feat\n{}\ntwo\n", "{output:?}");
        }
        let repo = env.repo_named("attacked");
        env.shell(repo.path(), before).assert_success();
        let tries =
            attacks.map(|attack| format!("({attack}) 2> /dev/null && echo \"done: {attack}\""));
        let output = env.session(repo.path()).line(tries.join("\n")).output();
        assert_eq!(output.stdout, "", "{output:?}");
        let left = "cat .claude/settings.json .claude/hooks/h; ls .claude; \
            grep -rl evil .claude --include=settings* --include=.envrc | grep -v worktrees/z/";
        let left = env.shell(repo.path(), left).stdout;
        assert_eq!(left, "{}\nowner\nhooks\nsettings.json\nworktrees\n");
    });
}

/// Hooks of the owner's template are left out, and reported; the repository is complete without
/// them.
#[test]
fn a_template_with_hooks_makes_a_repository_without_them() {
    for_each_user(|env| {
        let repo = env.repo();
        let make = "mkdir -p t/hooks t/info; echo x > t/hooks/post-checkout; chmod +x t/hooks/post-checkout; \
            echo x > t/hooks/pre-push.sample; echo ignored > t/info/exclude; git add .; git commit -qm t";
        env.shell(repo.path(), make).assert_success();
        let line = "git init -q --template=t a && git -C a commit -q --allow-empty -m one && \
            git -c init.templateDir=$PWD/t clone -q a b && git -C b log --format=%s && \
            cat b/.git/info/exclude; cp /bin/sh git; ./git -c 'echo evil > a/.git/hooks/pre-commit'; \
            ls a/.git/hooks b/.git/hooks; /run/stockade/why";
        let output = env.session(repo.path()).line(line).output();
        output
            .assert_stdout("one\nignored\n")
            .assert_stdout("made without it");
        let hooks = env.shell(
            repo.path(),
            "ls a/.git/hooks b/.git/hooks | grep -v sample; grep -r evil a b",
        );
        assert_eq!(
            hooks.stdout, "a/.git/hooks:\n\nb/.git/hooks:\n",
            "{output:?}"
        );
    });
}
