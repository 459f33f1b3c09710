//! Settings, hooks and pointers that would run something outside cannot be made in any way that git
//! or another program has.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use stockade_testkit::{TestEnv, agents, env::Repo, events::Event};

use crate::git::for_each_user;

/// Each of these makes the owner's next git run `./evil`, in the repository or in one beside it.
const ATTACKS: [&str; 31] = [
    "git config core.fsmonitor \"$PWD/evil\"",
    "git config core.hooksPath \"$PWD/hooks\"",
    "cp evil .git/hooks/pre-commit",
    "mkdir -p x && mv .git/hooks x/ && mkdir .git/hooks && cp evil .git/hooks/pre-commit",
    "cat .git/config evil.config > .git/config.lock; mv .git/config.lock .git/config",
    "printf '[core]\\n\\tfsmonitor = %s\\n' \"$PWD/evil\" > mine; mv mine .git/config",
    "printf '[include]\\n\\tpath = ../evil.config\\n' > .git/config.lock; mv .git/config.lock .git/config",
    "ln evil.config .git/config.lock; mv .git/config.lock .git/config",
    "ln -s ../evil.config .git/config.lock; mv .git/config.lock .git/config",
    "perl -e 'open(F, \">\", \".git/config.lock\"); print F `cat .git/config`; F->flush(); \
     rename(\".git/config.lock\", \".git/config\"); print F `cat evil.config`'",
    "git init -q new; git -C new config core.fsmonitor \"$PWD/evil\"",
    "git init -q new; cat evil.config >> new/.git/config",
    "git init -q new; cp evil new/.git/hooks/pre-commit",
    "git init -q new; cat evil > new/.git/hooks/pre-commit.sample; \
     mv new/.git/hooks/pre-commit.sample new/.git/hooks/pre-commit",
    "git init -q --template template new; ls new",
    "cp evil pre-commit.sample; git init -q new; rm new/.git/hooks/pre-commit.sample; \
     cp evil new/.git/hooks/pre-commit.sample; mv new/.git/hooks/pre-commit.sample new/.git/hooks/pre-commit",
    "mkdir -p new/.git/objects new/.git/refs; echo ref: refs/heads/x > new/.git/HEAD; \
     cat evil.config > new/.git/config",
    "mkdir new; cp -r planted new/.git",
    "tar cf planted.tar --transform=s,^planted,new/.git, planted; tar xf planted.tar",
    "git clone -q -c core.fsmonitor=\"$PWD/evil\" . new",
    "git worktree add -q new; git config extensions.worktreeConfig true; \
     git -C new config --worktree core.fsmonitor \"$PWD/evil\"",
    "mkdir new; echo \"gitdir: $PWD/planted\" > new/.git",
    "mkdir new; : > new/.git; echo \"gitdir: $PWD/planted\" > new/.git",
    "mkdir new; : > new/.git; echo \"gitdir: $PWD/planted\" >> new/.git",
    "mkdir new; echo \"gitdir: $PWD/planted\" | dd of=new/.git conv=notrunc status=none",
    "mkdir new; : > new/.git; echo \"gitdir: ../planted\" > y; mv -f y new/.git",
    "mkdir new; : > new/.git; echo \"gitdir: ../planted\" > y; ln -f y new/.git; cp y new/.git",
    "mkdir new; : > new/.git; perl -e 'open(F, \"+<\", \"new/.git\"); print F \"gitdir: ../planted\\n\"'",
    "mkdir new; perl -e 'unlink \"git\"; symlink $^X, \"git\"'; cp -L git here-git; mv here-git git; \
     ./git -e 'open(F, \">\", \"new/.git\"); print F \"gitdir: ../planted\\n\"'; rm git",
    "git init -q --separate-git-dir planted new",
    "git worktree add -q new; rm new/.git; echo ../../../planted > .git/worktrees/new/commondir; \
     echo \"gitdir: $PWD/.git/worktrees/new\" > new/.git",
];

/// The owner's commands afterwards.
const OWNER: &str =
    "for d in . new; do (cd $d && git status -s; git commit -q --allow-empty -m mine); done; :";

/// Prepares a repository with the files that the attacks plant; `evil` leaves a mark at a place
/// that no session can reach.
fn prepared(env: &TestEnv, name: &str, mark: &Path) -> Repo {
    let repo = env.repo_named(name);
    let at = |path: &str| repo.path().join(path);
    let script = format!("#!/bin/sh\ntouch {}\n", mark.display());
    for path in ["evil", "hooks/pre-commit", "template/hooks/pre-commit"] {
        let file = env.write(at(path), &script);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let settings = format!(
        "[core]\n\tbare = false\n\tfsmonitor = {}\n",
        at("evil").display()
    );
    env.write(at("evil.config"), &settings);
    // A git directory of another name, to which nothing points.
    env.shell(
        repo.path(),
        "git init -q --bare planted && cat evil.config >> planted/config",
    )
    .assert_success();
    repo
}

/// A repository that is unpacked or copied is the same inside as outside, with its settings and the
/// modes of its directories; parts that would run something are left out, and reported.
#[test]
fn repositories_that_are_unpacked_or_copied_are_whole() {
    for_each_user(|env| {
        let repo = env.repo();
        let setup = "git init -q -b main p && cd p && git commit -q --allow-empty -m one && \
            git remote add fork https://good.test/fork && chmod 750 .git/hooks && cd .. && \
            tar cf p.tar p && rm -rf p";
        env.shell(repo.path(), setup).assert_success();
        let line = "set -e; tar xpf p.tar; cp -rp p q; \
            python3 -c 'import tarfile; tarfile.open(\"p.tar\").extractall(\"r\")'; \
            for d in p q r/p; do git -C $d fsck --no-progress; git -C $d log --format=%s; \
            git -C $d remote get-url fork; stat -c %a $d/.git/hooks; done; rm -rf p q; ! test -e p";
        let output = env.session(repo.path()).line(line).output();
        let whole = "one\nhttps://good.test/fork\n750\n";
        output.assert_success().assert_stdout(&whole.repeat(3));
    });
}

/// The cache of uv may lie in the workspace: it has an empty file `.git`, which leads nowhere. Another
/// session uses the same cache, and no program can write into the file or make one at the top.
#[test]
fn an_empty_file_of_that_name_is_made_by_anyone() {
    for_each_user(|env| {
        let repo = env.repo();
        let (bin, uv) = (repo.path().join("bin"), agents::python().join("bin/uv"));
        fs::create_dir(&bin).expect("it is new");
        fs::copy(uv, bin.join("uv")).expect("uv can be read");
        fs::set_permissions(bin.join("uv"), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let line = "export UV_CACHE_DIR=$PWD/cache UV_OFFLINE=1; rm -rf own; \
             bin/uv venv -q --python /usr/bin/python3 own && ls own/pyvenv.cfg; \
             stat -c '%s %F' cache/sdists-*/.git; \
             f=$(echo cache/sdists-*/.git); echo 'gitdir: ../../planted' > $f; \
             echo 'gitdir: ../../planted' | dd of=$f conv=notrunc status=none; stat -c %s $f";
        for _ in 0..2 {
            let output = env.session(repo.path()).line(line).output();
            output.assert_stdout("own/pyvenv.cfg\n0 regular empty file\n0\n");
            let refused = env.record().into_iter().filter(Event::is_refusal);
            assert_eq!(refused.count(), 2, "{output:?}");
        }
        // The top of a workspace is the owner's.
        let bare = env.root().join("bare");
        fs::create_dir(&bare).expect("it is new");
        env.own(&bare);
        let output = env
            .session(&bare)
            .line("dd if=/dev/null of=.git conv=notrunc status=none; ls -A")
            .output();
        assert_eq!(output.stdout, "", "{output:?}");
        assert!(!bare.join(".git").exists());
    });
}

/// The mode of the owner's own hooks cannot be changed by any of their names.
#[test]
fn the_owners_hooks_keep_their_mode() {
    for_each_user(|env| {
        let repo = env.repo();
        let mode = || {
            let hooks = fs::metadata(repo.path().join(".git/hooks")).expect("there are hooks");
            hooks.permissions().mode() & 0o777
        };
        let before = mode();
        let line = "exec 3< .git/hooks; for name in .git/hooks /proc/self/fd/3; do chmod 777 $name; done; :";
        env.session(repo.path()).line(line).output();
        assert_eq!(mode(), before);
        env.shell(repo.path(), line).assert_success();
        assert_eq!(mode(), 0o777, "it can be changed outside");
    });
}

#[test]
fn nothing_that_a_session_makes_runs_in_the_owners_git() {
    for_each_user(|env| {
        let mark = env.root().join("marks/mark");
        env.write("marks/other", "");
        for (number, attack) in ATTACKS.iter().enumerate() {
            let control = prepared(env, &format!("control-{number}"), &mark);
            env.shell(control.path(), attack);
            env.shell(control.path(), OWNER);
            assert!(mark.exists(), "{attack} does nothing");
            fs::remove_file(&mark).expect("it is there");
            let repo = prepared(env, &format!("inside-{number}"), &mark);
            let before = fs::read(repo.path().join(".git/config")).expect("it is there");
            let output = env.session(repo.path()).line(attack).output();
            env.shell(repo.path(), OWNER);
            assert!(!mark.exists(), "{attack}: {output:?}");
            let after = fs::read(repo.path().join(".git/config")).expect("it is there");
            let switch = attack.contains("worktreeConfig");
            assert!(switch || before == after, "{attack}: {output:?}");
            assert!(!repo.path().join(".git/config.lock.stockade").exists());
        }
    });
}

/// The refusal names the setting, and git reports the failure.
#[test]
fn a_setting_that_is_refused_is_named() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "git config core.sshCommand x; echo $?; ls .git/config.lock; /run/stockade/why; \
                    git remote set-url origin https://bad.test/x; echo $?; /run/stockade/why";
        let output = env.session(repo.path()).line(line).output();
        for said in [
            "`core.sshcommand` is not among",
            "`remote.origin.url` would lead",
        ] {
            assert!(output.stdout.contains(said), "{output:?}");
        }
        assert!(
            output.stderr.contains("could not write config file"),
            "{output:?}"
        );
        assert!(!repo.path().join(".git/config.lock").exists());
        let refused = env.record();
        let refused = refused.iter().filter(|event| event.kind() == "file.denied");
        assert_eq!(refused.count(), 2);
    });
}

/// A session may remove what it made, but nothing that the owner made or changed.
#[test]
fn only_what_the_session_made_can_be_removed() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "git init -q mine && git init -q theirs && : > ready; \
                    while [ ! -e go ]; do sleep 0.02; done; rm -rf mine theirs .git/hooks lib; ls -A";
        let running = env.session(repo.path()).line(line).spawn();
        let ready = repo.path().join("ready");
        let started =
            stockade_testkit::wait::until_true(std::time::Duration::from_secs(20), || {
                ready.exists()
            });
        assert!(started, "it did not start");
        env.shell(
            repo.path(),
            "git -C theirs config user.name owner; git init -q lib",
        )
        .assert_success();
        env.write(repo.path().join("go"), "");
        let output = running.wait();
        assert!(!repo.path().join("mine").exists(), "{output:?}");
        for kept in [
            "theirs/.git/config",
            "lib/.git/config",
            "lib/.git/hooks",
            ".git/hooks",
        ] {
            assert!(repo.path().join(kept).exists(), "{kept}: {output:?}");
        }
    });
}

/// Libraries make a repository in different steps from git.
#[test]
fn a_library_makes_a_repository() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "set -e; mkdir -p new/.git/hooks new/.git/objects new/.git/refs; cd new/.git; : > config; \
            printf '[core]\\n\\tbare = false\\n\\trepositoryformatversion = 0\\n' > config.lock; \
            ln config.lock config 2> /dev/null && exit 1; mv config.lock config; \
            printf '#!/bin/sh\\n# See git help hooks.\\n' > hooks/README.sample; \
            echo ref: refs/heads/main > HEAD; cd ..; ls -A .git/hooks; git commit -q --allow-empty -m x; \
            git config -l --local; cd ..; rm -rf new; ls -A";
        let output = env.session(repo.path()).line(line).output();
        output.assert_success();
        let expected = "README.sample\ncore.bare=false\ncore.repositoryformatversion=0\n";
        assert!(output.stdout.starts_with(expected), "{output:?}");
        assert!(!repo.path().join("new").exists(), "{output:?}");
        let record = env.record();
        let refused = record.iter().any(|event| event.kind() == "file.denied");
        assert!(!refused, "{}", stockade_testkit::events::summary(&record));
    });
}
