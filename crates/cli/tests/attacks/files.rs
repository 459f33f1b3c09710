//! Files and protected state (family F).

use std::{fs, os::unix::fs::PermissionsExt as _};

use stockade_testkit::{
    Repo, Snapshot, TestEnv, UNATTENDED,
    escape::{Action, Case, Outcome, Scene},
    events,
    run::require_tool,
};

use crate::attacks::{
    for_each_user,
    matrix::{Matrix, closed, guarded},
};

/// A protected name that does not exist cannot be made, in any of the kernel's ways, at any depth.
#[test]
fn f14_protected_names_cannot_come_into_being() {
    let attempts = [
        guarded(
            "claude",
            "mkdir .claude && echo x > .claude/settings.json",
            "/.claude/settings.json",
        ),
        guarded(
            "codex",
            "mkdir .codex && echo x > .codex/config.toml",
            "/.codex",
        ),
        guarded(
            "cursor",
            "mkdir .cursor && echo x > .cursor/mcp.json",
            "/.cursor",
        ),
        guarded("mcp", "echo x > .mcp.json", "/shop/.mcp.json"),
        guarded(
            "vscode",
            "mkdir .vscode && echo x > .vscode/tasks.json",
            "/shop/.vscode",
        ),
        guarded(
            "idea",
            "mkdir .idea && echo x > .idea/workspace.xml",
            "/.idea",
        ),
        guarded(
            "gemini",
            "mkdir .gemini && echo x > .gemini/settings.json",
            "/.gemini",
        ),
        guarded(
            "copilot",
            "mkdir -p .github && echo x > .github/copilot-instructions.md",
            ".github/copilot-instructions.md",
        ),
        guarded(
            "own",
            "cd src && mkdir .stockade && echo x > .stockade/policy.toml",
            "src/.stockade",
        ),
        guarded(
            "layer",
            "echo 'schema = 1' > .stockade.toml",
            "/.stockade.toml",
        ),
        guarded("envrc", "echo x > .envrc", "/.envrc"),
        guarded(
            "husky",
            "mkdir .husky && echo x > .husky/pre-commit",
            "/.husky",
        ),
        guarded(
            "hooks-local",
            "echo x > lefthook-local.yml",
            "/lefthook-local.yml",
        ),
        guarded("mise", "echo x > mise.toml", "/shop/mise.toml"),
        guarded(
            "mise-of-an-environment",
            "echo x > mise.dev.toml",
            "/mise.dev.toml",
        ),
        guarded(
            "helix",
            "mkdir .helix && echo x > .helix/languages.toml",
            "/.helix",
        ),
        guarded(
            "opencode",
            "mkdir .opencode && echo x > .opencode/agent.md",
            "/.opencode",
        ),
        guarded("emacs", "echo x > .dir-locals.el", "/.dir-locals.el"),
        guarded("deep", "mkdir -p a/b && mkdir a/b/.vscode", "a/b/.vscode"),
        guarded(
            "deep-file",
            "mkdir -p a/b && echo x > a/b/.mcp.json",
            "a/b/.mcp.json",
        ),
        guarded(
            "case",
            "mkdir .VsCode && echo x > .VsCode/tasks.json",
            "/.VsCode",
        ),
    ];
    Matrix {
        may_change: &["a/**", "a", ".claude", ".github"],
        ..Matrix::new("F14", &attempts)
    }
    .check();
}

/// Ways other than opening a file to give something a protected name.
#[test]
fn f16_protected_names_cannot_be_given() {
    let attempts = [
        guarded(
            "rename",
            "echo x > mine && mv -T mine .mcp.json",
            "/.mcp.json",
        ),
        guarded(
            "rename-directory",
            "mkdir d && echo x > d/tasks.json && mv -T d .vscode",
            "/.vscode",
        ),
        guarded("link", "echo x > linked && ln linked .envrc", "/.envrc"),
        guarded(
            "symbolic",
            "mkdir evil && ln -s evil .claude",
            "shop/.claude",
        ),
        guarded(
            "relative",
            "mkdir r && cd r && ln -s ../r ../.codex",
            "/.codex",
        ),
        guarded(
            "through-link",
            "mkdir t && ln -s .. t/up && echo x > t/up/lefthook.yml",
            "/lefthook.yml",
        ),
        guarded(
            "through-tmp",
            "d=$(mktemp -d) && trap 'rm -rf $d' EXIT && ln -s \"$PWD\" $d/l && echo x > $d/l/.mise.toml",
            "/.mise.toml",
        ),
        guarded(
            "through-shared-memory",
            "d=$(mktemp -d -p /dev/shm) && trap 'rm -rf $d' EXIT && ln -s \"$PWD\" $d/l && : > $d/l/.vimrc",
            "/.vimrc",
        ),
        guarded(
            "dangling",
            "ln -s .nvimrc later && echo x > later",
            "/.nvimrc",
        ),
        guarded(
            "process-root",
            "echo x > /proc/self/root$PWD/.exrc",
            "/.exrc",
        ),
        guarded(
            "process-cwd",
            "echo x > /proc/self/cwd/.cursorrules",
            "/.cursorrules",
        ),
        guarded(
            "descriptor",
            "exec 7< . && echo x > /proc/self/fd/7/.windsurfrules",
            "/.windsurfrules",
        ),
        guarded(
            "tmpfile",
            // O_TMPFILE, then linkat with AT_SYMLINK_FOLLOW.
            r#"perl -e '$fd = syscall(257, -100, $w = ".", 0x410001, 0600); $fd >= 0 or exit 1;
               exit(syscall(265, -100, $f = "/proc/self/fd/$fd", -100, $t = ".claude.json", 0x400) < 0)'"#,
            "/.claude.json",
        ),
        guarded(
            "exchange",
            // renameat2 with RENAME_EXCHANGE: the directory above a prepared tree changes its name.
            r"mkdir -p x/hooks && sys 316 -100 x -100 .git 2 && sys 316 -100 x -100 .git 2",
            "/.git",
        ),
        guarded(
            "mknod",
            "sys 133 .aider.conf.yml 33188 0",
            "/.aider.conf.yml",
        ),
    ];
    let changed = [
        "mine", "d/**", "d", "linked", "evil", "r", "t/**", "t", "later", "x/**", "x",
    ];
    Matrix {
        may_change: &changed,
        ..Matrix::new("F16", &attempts)
    }
    .check();
}

/// Mounts protect existing files too; every way to change one or to move it away fails.
#[test]
fn f16_existing_protected_files_are_held() {
    let attempts = [
        guarded(
            "hook",
            "echo x > .git/hooks/pre-commit",
            ".git/hooks/pre-commit",
        ),
        guarded(
            "config",
            "git config core.fsmonitor ./evil",
            "shop/.git/config",
        ),
        guarded(
            "lock",
            "cp .git/config .git/config.lock && sys 82 .git/config.lock packages/one/.git",
            "packages/one/.git",
        ),
        guarded("tasks", "echo x > .vscode/tasks.json", ".vscode/tasks.json"),
        guarded(
            "remove",
            "rm -f .vscode/settings.json && [ ! -e .vscode/settings.json ]",
            "settings.json",
        ),
        guarded("rename-parent", "mv -T .vscode old", "/.vscode"),
        guarded("rename-git", "mv -T .git gone", "shop/.git"),
        guarded("mode", "chmod 777 .husky/ready", ".husky/ready"),
        guarded("truncate", "sys 76 .mcp.json 0", "/.mcp.json"),
        guarded(
            "deep",
            "echo x > packages/one/.envrc",
            "packages/one/.envrc",
        ),
        // A second name for the file; the mount would also prevent it.
        guarded(
            "hard-link",
            "ln .envrc alias && echo x > alias",
            "shop/.envrc",
        ),
        closed(
            "owner",
            "touch -c -d '2001-01-01' .mcp.json && [ .mcp.json -ot README.md ]",
        ),
    ];
    let prepare = |scene: &Scene| {
        for file in [
            ".vscode/settings.json",
            ".mcp.json",
            ".envrc",
            "packages/one/.envrc",
            ".husky/ready",
        ] {
            scene.env.write(scene.workspace().join(file), "{}\n");
        }
    };
    Matrix {
        prepare: &prepare,
        may_change: &[".git/config.lock"],
        ..Matrix::new("F16", &attempts)
    }
    .check();
}

/// Git follows a file named `.git`; on the host `git status` would run what its target configures.
#[test]
fn f18_git_pointers_cannot_be_planted() {
    let attempts = [
        guarded(
            "new-pointer",
            "mkdir sub && echo 'gitdir: ../evil' > sub/.git",
            "sub/.git",
        ),
        guarded(
            "old-pointer",
            "echo 'gitdir: ../evil' > module/.git",
            "module/.git",
        ),
        guarded(
            "replaced-pointer",
            "echo x > new && sys 82 new other/.git",
            "other/.git",
        ),
        guarded(
            "linked-pointer",
            "mkdir evil && ln -s ../evil src/.git",
            "src/.git",
        ),
        guarded("common", "echo ../evil > .git/commondir", ".git/commondir"),
        guarded(
            "alternates",
            "echo /tmp > .git/objects/info/alternates",
            "info/alternates",
        ),
        guarded(
            "attributes",
            "echo '* filter=x' > .git/info/attributes",
            "info/attributes",
        ),
        guarded(
            "worktree-config",
            "echo x > .git/config.worktree",
            "config.worktree",
        ),
        guarded(
            "module-hook",
            "echo x > .git/modules/m/hooks/post-checkout",
            "hooks/post-checkout",
        ),
        guarded(
            "module-config",
            "echo x > .git/modules/m/config",
            "modules/m/config",
        ),
    ];
    let prepare = |scene: &Scene| {
        for (file, text) in [
            ("module/.git", "gitdir: ../.git/modules/m\n"),
            ("other/.git", "gitdir: ../.git/modules/m\n"),
            (".git/modules/m/config", "[core]\n"),
            (".git/modules/m/hooks/none", ""),
        ] {
            scene.env.write(scene.workspace().join(file), text);
        }
    };
    let changed = ["sub", "new", "evil"];
    Matrix {
        prepare: &prepare,
        may_change: &changed,
        ..Matrix::new("F18", &attempts)
    }
    .check();
}

/// Git directories of any name that are the target of a link or a pointer file named `.git`. Those
/// in `later/deep`, `.git/absent` and `gone-git` do not exist yet.
const LED_TO: &str = "set -e
    mkdir -p p s/w c stores later t t-git shared low
    git clone -q --bare . p/.bare; mkdir -p p/.bare/hooks; echo 'gitdir: ./.bare' > p/.git
    git clone -q --bare . s/store; rm -rf s/store/hooks; ln -s ../store s/w/.git
    git clone -q --bare . stores/real; ln -s ../stores/real c/hop; ln -s hop c/.git
    echo 'gitdir: deep/none' > later/.git; ln -s absent/store .git/modules
    echo 'gitdir: ../t-git' > t/.git; echo ../shared > t-git/commondir; echo > shared/config
    echo 'gitdir: ../p/.bare' > low/.git; mkdir far; ln -s ../gone-git/x far/.git
    mkdir -p .git/worktrees/w/modules/m/hooks; echo > .git/worktrees/w/modules/m/config
    mkdir -p .git/worktrees/w/modules/n env; echo > env/rc; ln -s env/rc .envrc";

/// The target of an existing `.git` is a git directory too, whatever its name; git would run
/// content planted there outside.
#[test]
fn f18_what_git_is_led_to_is_held() {
    let attempts = [
        guarded(
            "config",
            "echo '[core]' >> p/.bare/config",
            "p/.bare/config",
        ),
        guarded(
            "hook",
            "echo x > p/.bare/hooks/post-index-change",
            "hooks/post-index-change",
        ),
        guarded(
            "attributes",
            "mkdir -p p/.bare/info && echo x > p/.bare/info/attributes",
            "p/.bare/info/attributes",
        ),
        guarded(
            "lock",
            "echo x > p/.bare/new && sys 82 p/.bare/new p/.bare/config.worktree",
            "p/.bare/config.worktree",
        ),
        guarded(
            "rename",
            "mv -T p/.bare p/gone && mv -T p/gone p/.bare",
            "p/.bare",
        ),
        guarded("rename-above", "mv -T p gone && mv -T gone p", "shop/p"),
        guarded(
            "rename-pointer",
            "mkdir high && mv -T low high/low && mv -T high/low low",
            "shop/low",
        ),
        guarded(
            "through-link",
            "echo '[core]' >> s/w/.git/config",
            "s/store/config",
        ),
        guarded(
            "no-hooks-yet",
            "mkdir s/store/hooks && echo x > s/store/hooks/pre-commit",
            "s/store/hooks/pre-commit",
        ),
        guarded(
            "hard-link",
            "echo x > mine && ln mine s/store/commondir",
            "s/store/commondir",
        ),
        guarded(
            "rename-target",
            "mv -T s/store s/gone && mv -T s/gone s/store",
            "s/store",
        ),
        guarded(
            "chain",
            "echo '[core]' >> stores/real/config",
            "stores/real/config",
        ),
        guarded("hop", "mkdir evil && ln -sfn ../evil c/hop", "c/hop"),
        guarded(
            "hop-directory",
            "rm c/hop && mkdir c/hop && echo x > c/hop/config",
            "c/hop/config",
        ),
        guarded(
            "dangling-moved",
            "mkdir -p made/store/m && mv -T made .git/absent && mv -T .git/absent made",
            ".git/absent",
        ),
        guarded(
            "dangling-linked",
            "mkdir behind && ln -s ../behind gone-git && rm gone-git",
            "shop/gone-git",
        ),
        guarded(
            "dangling-hard-linked",
            "ln -s ../behind led && ln led later/deep && rm later/deep",
            "later/deep",
        ),
        guarded(
            "dangling",
            "mkdir -p later/deep/none && echo x > later/deep/none/config",
            "deep/none/config",
        ),
        guarded(
            "dangling-modules",
            "mkdir -p .git/absent/store/m && echo x > .git/absent/store/m/config",
            "absent/store/m/config",
        ),
        guarded("plain-link", "echo x > env/rc", "env/rc"),
        guarded("common", "echo '[core]' >> shared/config", "shared/config"),
        guarded(
            "common-hook",
            "mkdir shared/hooks && echo x > shared/hooks/pre-commit",
            "shared/hooks/pre-commit",
        ),
        guarded(
            "worktree-module",
            "echo '[core]' >> .git/worktrees/w/modules/m/config",
            "modules/m/config",
        ),
        guarded(
            "worktree-module-hook",
            "echo x > .git/worktrees/w/modules/m/hooks/post-checkout",
            "hooks/post-checkout",
        ),
        guarded(
            "worktree-module-hooks",
            "mkdir -p .git/worktrees/w/modules/n/hooks; echo x > .git/worktrees/w/modules/n/hooks/x",
            "modules/n/hooks/x",
        ),
    ];
    Matrix {
        tools: &["git"],
        prepare: &|scene| {
            let output = scene.env.shell(scene.workspace(), LED_TO);
            output.assert_success();
        },
        may_change: &[
            "p/.bare/info",
            "p/.bare/new",
            "high",
            "mine",
            "evil",
            "c/hop",
            "made",
            "made/**",
            "behind",
            "led",
            "later/deep",
            "later/deep/**",
            ".git/absent",
            ".git/absent/**",
            // Empty directories: the files that would run in them cannot be made.
            ".git/worktrees/w/modules/n/hooks",
            "s/store/hooks",
            "shared/hooks",
        ],
        ..Matrix::new("F18", &attempts)
    }
    .check();
}

/// Links to places outside the workspace have no target inside.
#[test]
fn f02_links_do_not_lead_out() {
    let chain = "for i in $(seq 1 38); do ln -sfn c$((i - 1)) c$i; done; echo x > c38/planted";
    let chain = format!("mkdir chain; cd chain; ln -sfn \"$OUT\" c0; {chain}");
    let attempts = [
        closed("directory", "ln -s \"$OUT\" out && echo x > out/planted"),
        closed("file", "ln -s \"$OUT/file\" leaf && echo x > leaf"),
        closed(
            "read",
            "ln -s \"$OUT/secret\" reader && grep -q original reader",
        ),
        closed("relative", "ln -s ../../outside up && echo x > up/planted"),
        closed("chain", &chain),
        closed("dots", "echo x > ../../outside/planted"),
        closed("prefix", "echo x > ../shop-evil/planted"),
        closed(
            "process-root",
            "grep -q original /proc/self/root\"$OUT\"/secret",
        ),
        closed(
            "parent-root",
            "grep -q original /proc/$BASHPID/root\"$OUT\"/secret",
        ),
        closed(
            "process-cwd",
            "grep -q original /proc/self/cwd/../../outside/secret",
        ),
        closed(
            "descriptor",
            "exec 8< ../../outside/secret && grep -q original /dev/fd/8",
        ),
        closed(
            "exchange",
            "mkdir swap && sys 316 -100 swap -100 ../../outside 2 && sys 316 -100 swap -100 ../../outside 2",
        ),
    ];
    Matrix {
        prepare: &|scene| {
            for file in ["outside/file", "outside/secret", "work/shop-evil/file"] {
                scene.env.write(file, "original\n");
            }
        },
        variables: &|scene| {
            vec![(
                "OUT".into(),
                scene.env.root().join("outside").display().to_string(),
            )]
        },
        may_change: &["out", "leaf", "reader", "up", "swap", "chain", "chain/**"],
        after: &|scene, _| {
            for directory in ["outside", "work/shop-evil"] {
                let tree = Snapshot::take(scene.env.root().join(directory));
                assert!(tree.get("planted").is_none(), "{directory}");
                let text = fs::read_to_string(scene.env.root().join(directory).join("file"));
                assert_eq!(text.expect("it was not removed"), "original\n");
            }
        },
        ..Matrix::new("F02", &attempts)
    }
    .check();
}

/// If a path cannot be resolved the change fails; the raw text is never judged instead. The twins
/// are the same changes of paths that can be resolved.
#[test]
fn f12_paths_that_cannot_be_resolved_are_refused() {
    let attempts = [
        closed("loop", "ln -s loop loop; echo x > loop/../.mcp.json")
            .twin("ln -s . turn; echo x > turn/.mcp.json"),
        closed("long", "echo x > $(printf 'n%.0s' $(seq 300))")
            .twin("echo x > $(printf 'n%.0s' $(seq 200))"),
        closed(
            "dangling",
            "ln -s nowhere dangling; echo x > dangling/.mcp.json",
        )
        .twin("mkdir nowhere; ln -s nowhere dangling; echo x > dangling/.mcp.json"),
        closed(
            "gone",
            "mkdir gone; cd gone; rmdir ../gone; echo x > .mcp.json",
        )
        .twin("mkdir gone; cd gone; echo x > .mcp.json"),
        // A removed directory from which `..` leads back into the tree.
        guarded(
            "removed",
            "mkdir rd; exec 9< rd; rmdir rd; echo x > /proc/self/fd/9/../.mcp.json",
            "/.mcp.json",
        ),
        guarded(
            "removed-descriptor",
            "mkdir re; exec 9< re; rmdir re; sys 258 9 ../.vscode 493",
            "/.vscode",
        ),
        guarded(
            "removed-rename",
            "mkdir rf; exec 9< rf; rmdir rf; echo x > plain; mv plain /proc/self/fd/9/../.envrc",
            "/.envrc",
        ),
        closed("missing", "echo x > missing/.mcp.json")
            .twin("mkdir missing; echo x > missing/.mcp.json"),
        closed("bad-pointer", "sys 257 -100 1 65 384").twin("sys 257 -100 named 65 384"),
    ];
    Matrix {
        may_change: &["loop", "dangling", "plain"],
        ..Matrix::new("F12", &attempts)
    }
    .check();
}

/// The git directory that git would use is found however it is hidden: in an unreadable directory,
/// behind a link, or in an unusual form of a pointer that git accepts.
#[test]
fn f18_what_hides_a_pointer_hides_nothing() {
    const BARE: &str = "git init -q --bare bare.git && mkdir -p proj/m bare.git/worktrees/m && \
        echo 'gitdir: ../../bare.git/worktrees/m' > proj/m/.git && \
        echo ../.. > bare.git/worktrees/m/commondir";
    let cases = [
        (format!("{BARE}; chmod 311 proj"), "bare.git/config", "proj"),
        (
            format!("{BARE}; chmod 0 bare.git/worktrees/m"),
            "bare.git/config",
            "bare.git/worktrees/m",
        ),
        (
            "git init -q r2 && git init -q --bare shared && echo ../../shared > text && \
             ln -s ../../text r2/.git/commondir"
                .to_owned(),
            "shared/config",
            "",
        ),
        (
            "git init -q --bare s1 && mkdir a && printf 'gitdir: ../s1\\0x' > a/.git".to_owned(),
            "s1/config",
            "",
        ),
        (
            "mkdir b && git init -q --bare 'b/ s2' && printf 'gitdir:  s2' > b/.git".to_owned(),
            "b/ s2/config",
            "",
        ),
    ];
    for_each_user(|env| {
        for (index, (made, target, locked)) in cases.iter().enumerate() {
            let repo = env.repo_named(&format!("hidden{index}"));
            env.shell(repo.path(), made).assert_success();
            let mode = || {
                let path = repo.path().join(locked);
                let metadata = fs::metadata(path).expect("it was just made");
                metadata.permissions().mode()
            };
            let (before, locked_before) = (fs::read(repo.path().join(target)), mode());
            let line = format!("echo '[x]' >> '{target}'; :");
            // Control: nothing else prevents the write.
            env.shell(repo.path(), &line).assert_success();
            let changed = fs::read(repo.path().join(target)).expect("it was just made");
            let before = before.expect("it was just made");
            assert_ne!(changed, before, "{made}");

            env.session(repo.path()).line(&line).success();
            let after = fs::read(repo.path().join(target)).expect("it was just made");
            assert_eq!(after, changed, "{made}");
            assert_eq!(mode(), locked_before, "{made}");
            let refused = env.record();
            let refused = refused.iter().filter(|event| event.is_refusal()).count();
            assert_eq!(refused, 1, "{made}");
        }
    });
}

/// A repository that could not be read at the start does not count as made by the session.
#[test]
fn f18_a_repository_that_was_locked_is_kept() {
    for_each_user(|env| {
        let repo = env.repo();
        env.shell(repo.path(), "chmod 0 .git").assert_success();
        env.session(repo.path())
            .line("chmod 755 .git; sleep 1.5; git status")
            .success();
        env.shell(repo.path(), "chmod 755 .git; git status")
            .assert_success();
        assert!(repo.path().join(".git/hooks").exists());
    });
}

/// Other ways to write get the same decision, because the file cannot be opened.
#[test]
fn f34_every_way_to_write_meets_the_same_decision() {
    let with = |file: &str, call: &str| {
        format!(
            r#"perl -e 'open($in, "<", "README.md"); open($out, "+<", "{file}") or exit 1; exit(syscall({call}) < 0)'"#
        )
    };
    let copy = with(".mcp.json", "326, fileno($in), 0, fileno($out), 0, 4, 0");
    let send = with("packages/.mcp.json", "40, fileno($out), fileno($in), 0, 4");
    let map = with(".claude.json", "9, 0, 4096, 3, 1, fileno($out), 0");
    let attempts = [
        guarded("copy-range", &copy, "shop/.mcp.json"),
        guarded("sendfile", &send, "packages/.mcp.json"),
        guarded("shared-mapping", &map, "/.claude.json"),
        guarded(
            "dd",
            "dd if=/dev/zero of=.envrc count=1 conv=notrunc",
            "/.envrc",
        ),
        // Opened by handle, the file has no path.
        closed(
            "handle",
            r#"perl -e '$h = pack("Iix128", 128, 0); exit(syscall(303, -100, $p = ".envrc", $h, $m = pack("i", 0), 0) < 0)'"#,
        ),
    ];
    let prepare = |scene: &Scene| {
        for file in [".mcp.json", "packages/.mcp.json", ".envrc", ".claude.json"] {
            scene
                .env
                .write(scene.workspace().join(file), "original, long enough\n");
        }
    };
    Matrix {
        prepare: &prepare,
        ..Matrix::new("F34", &attempts)
    }
    .check();
}

/// Two threads swap the path between two names of equal length while the call is judged: the judged
/// name is the one that is made, so the protected name is never created, and the session continues.
#[test]
fn f06_a_swapped_path_changes_nothing() {
    for target in [
        ".mcp.json",
        ".git/commondir",
        "packages/one/.mcp.json",
        "packages/two/.bare/config",
    ] {
        for_each_user(|env| race(env, target));
    }
}

/// Makes a workspace with the program that swaps `target` with another name, which it returns, and
/// shows that the program wins its race without the boundary.
fn racer(env: &TestEnv, target: &str) -> (Repo, String) {
    let repo = env.repo();
    env.write(repo.path().join("packages/one/README.md"), "one\n");
    env.write(repo.path().join("packages/two/.git"), "gitdir: ./.bare\n");
    env.write(repo.path().join("packages/two/.bare/HEAD"), "\n");
    let program = repo.path().join("race");
    let source = env.write("race.c", include_str!("race.c"));
    require_tool("gcc");
    env.command("gcc")
        .args(["-O1", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .success();
    let (directory, name) = target
        .rsplit_once('/')
        .map_or(("", target), |(d, n)| (d, n));
    let slash = if directory.is_empty() { "" } else { "/" };
    let plain = format!("{directory}{slash}{}", "a".repeat(name.len()));
    env.command(&program)
        .args([&plain, target])
        .current_dir(repo.path())
        .success();
    fs::remove_file(repo.path().join(target)).expect("the race was won without the boundary");
    (repo, plain)
}

fn race(env: &TestEnv, target: &str) {
    let (repo, plain) = racer(env, target);
    let path = repo.path().join(target);
    let output = env
        .session(repo.path())
        .line(format!("./race {plain} {target}; : > went-on"))
        .output();
    assert!(
        fs::symlink_metadata(&path).is_err(),
        "{target} came into being\n{output:?}"
    );
    let record = env.record();
    let kind = |name: &str| record.iter().filter(|event| event.kind() == name).count();
    assert_eq!(kind("finding.raised"), 0, "{}", events::summary(&record));
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(repo.path().join("went-on").exists(), "{output:?}");
    // The program did swap: both names were judged.
    let refused = record
        .iter()
        .filter(|event| event.is_refusal() && event.targets(target))
        .count();
    assert!(refused > 0, "{}", events::summary(&record));
}

/// Files of the kinds that would give access to the machine or its user cannot be made.
#[test]
fn f30_no_file_with_more_rights_than_its_owner() {
    let attempts = [
        closed("setuid", "cp /bin/true sid && chmod 4755 sid && [ -u sid ]"),
        closed(
            "setuid-descriptor",
            r#"cp /bin/true sfd && perl -e 'open($f, "<", "sfd"); exit(syscall(91, fileno($f), 04755) < 0)' && [ -u sfd ]"#,
        ),
        closed("setuid-created", "umask 0; sys 85 born 2541 && [ -u born ]"),
        closed(
            "setuid-opened",
            "umask 0; sys 257 -100 opened 65 2541 && [ -u opened ]",
        ),
        closed(
            "setuid-node",
            "umask 0; sys 133 node 35309 0 && [ -u node ]",
        ),
        closed(
            "setuid-archive",
            "cp /bin/true in && tar -cf a.tar --mode=4755 in && tar -xpf a.tar && [ -u in ]",
        ),
        closed("device", "mknod null-again c 1 3 && [ -c null-again ]").twin("[ -c /dev/null ]"),
        closed(
            "above",
            "mkdir -p e && tar -cPf e.tar ../../outside/file && rm -f ../../outside/file && tar -xPf e.tar && [ -e ../../outside/file ]",
        ),
    ];
    Matrix {
        prepare: &|scene| {
            scene.env.write("outside/file", "original\n");
        },
        may_change: &[
            "sid", "sfd", "born", "opened", "node", "in", "a.tar", "e", "e.tar",
        ],
        after: &|scene, _| {
            use std::os::unix::fs::MetadataExt;
            for name in ["sid", "sfd", "born", "opened", "node", "in"] {
                let mode = fs::metadata(scene.workspace().join(name)).map_or(0, |m| m.mode());
                assert_eq!(mode & 0o4000, 0, "{name}");
            }
        },
        ..Matrix::new("F30", &attempts)
    }
    .check();
}

/// The state of the product and its program cannot be reached, under any name.
#[test]
fn f26_our_own_files_are_out_of_reach() {
    let why = "echo x >> /run/stockade/why";
    let no_why = "rm /run/stockade/why && [ ! -e /run/stockade/why ]";
    let denials = "echo x >> /run/stockade/denials.jsonl";
    let no_denials = "rm /run/stockade/denials.jsonl && [ ! -e /run/stockade/denials.jsonl ]";
    // The same files, when they are not protected.
    let twins = [why, no_why, denials, no_denials].map(|line| {
        format!(
            "ns 'sys 165 none /run tmpfs 0 0 && mkdir /run/stockade && cd /run/stockade && : > why && : > denials.jsonl && {line}'"
        )
    });
    let [why_twin, no_why_twin, denials_twin, no_denials_twin] = &twins;
    let attempts = [
        closed("program", "echo x >> \"$OWN\"").twin("cp \"$OWN\" own && echo x >> own"),
        closed("why", why).twin(why_twin),
        closed("replace-why", no_why).twin(no_why_twin),
        closed("denials", denials).twin(denials_twin),
        closed("remove-denials", no_denials).twin(no_denials_twin),
        closed("state", "ls \"$STATE\"").twin("ls \"$STATE\""),
        closed("key", "cat \"$STATE\"/*key* \"$STATE\"/*/*key*")
            .twin("mkdir -p \"$STATE\"; echo k > \"$STATE/test-key\"; cat \"$STATE\"/*key*"),
        closed("sessions", "ls \"$STATE\"/sessions/*/journal.jsonl").twin(
            "mkdir -p \"$STATE/sessions/s\"; : > \"$STATE/sessions/s/journal.jsonl\"; ls \"$STATE\"/sessions/*/journal.jsonl",
        ),
        closed(
            "policy",
            "mkdir -p ~/.config/stockade && cat ~/.config/stockade/policy.toml",
        ),
    ];
    Matrix {
        prepare: &|scene| {
            scene
                .env
                .write("home/.config/stockade/policy.toml", "schema = 1\n");
        },
        variables: &|scene| {
            vec![
                ("OWN".into(), scene.env.binary().display().to_string()),
                ("STATE".into(), scene.env.state().display().to_string()),
            ]
        },
        ..Matrix::new("F26", &attempts)
    }
    .check();
}

/// The agent's private state is seeded from the home through descriptors; links that an earlier
/// session planted there are replaced, not followed.
#[test]
fn f36_links_planted_in_the_agents_state_are_not_followed() {
    for_each_user(|env| {
        let repo = env.repo();
        env.write("home/.codex/config.toml", "model = \"lab\"\n");
        let victim = env.write("victim", "original\n");
        // A program named like the agent gets the agent's preset and so its state.
        let fake = env.write(
            "bin/codex",
            "#!/bin/sh\nfor last; do :; done; eval \"$last\"\n",
        );
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755))
            .expect("the file was just written");
        let run = |snippet: &str| {
            env.stockade()
                .current_dir(repo.path())
                .args(UNATTENDED)
                .arg("--")
                .arg(&fake)
                .arg(snippet)
                .output()
        };
        // Control: a file that the first session leaves in its state is there in the next one.
        run("echo kept > ~/.codex/mine").assert_success();
        run("cat ~/.codex/mine")
            .assert_success()
            .assert_stdout("kept");
        let plant = format!(
            "rm -f ~/.codex/config.toml; ln -s {} ~/.codex/config.toml",
            victim.display()
        );
        run(&plant).assert_success();
        let newer = fs::File::open(env.home().join(".codex/config.toml")).expect("it exists");
        newer
            .set_modified(std::time::SystemTime::now() + std::time::Duration::from_mins(1))
            .expect("the file is ours");
        run("cat ~/.codex/config.toml")
            .assert_success()
            .assert_stdout("lab");
        assert_eq!(
            fs::read_to_string(&victim).expect("it exists"),
            "original\n"
        );
    });
}

/// An agent's ordinary work succeeds, without a question and without a refusal.
#[test]
fn f40_ordinary_work_goes_on() {
    let works = |scene: &Scene| scene.workspace().join("all-done").exists();
    let work = "set -e; ./test.sh; echo more >> README.md; git add README.md; git commit -qm work; \
                echo x >> README.md; git stash -q; git stash pop -q; git checkout -q -- README.md; \
                git checkout -qb side HEAD~1; echo y > side; git add side; git commit -qm side; \
                git rebase -q main; git checkout -q main; git merge -q side; \
                ln -s README.md link; cat link > copy; mkdir -p .github/workflows; \
                echo 'on: push' > .github/workflows/ci.yml; mktemp; mktemp -p ~; \
                tar -cf a.tar src; tar -tf a.tar; : > all-done";
    Case::new(
        "F40",
        "ordinary work",
        Action::Snippet(work),
        &works,
        Outcome::Works,
    )
    .check(&crate::attacks::binary());
}

/// Work succeeds in a repository whose `.git` is a pointer, and in a worktree that existed before.
#[test]
fn f40_work_goes_on_where_a_pointer_leads() {
    let works = |scene: &Scene| scene.workspace().join("all-done").exists();
    let work = "set -e; echo more >> README.md; git add README.md; git commit -qm work; \
                git status --short; git stash list; git checkout -qb side HEAD~1; echo y > side; \
                git add side; git commit -qm side; git rebase -q main; git checkout -q main; \
                git merge -q side; git tag done; git gc -q; git fetch -q . main; \
                cd tree; echo y > there; git add there; git commit -qm there; git status --short; \
                git fetch -q .. main; git merge -q -m merged FETCH_HEAD; git reset -q --hard HEAD~1; \
                cd ..; git log --oneline tree --; : > all-done";
    Case {
        prepare: &|scene| {
            let line = "mv .git .bare && echo 'gitdir: ./.bare' > .git && git worktree add -q tree";
            scene.env.shell(scene.workspace(), line).assert_success();
        },
        ..Case::new(
            "F40",
            "work behind a pointer",
            Action::Snippet(work),
            &works,
            Outcome::Works,
        )
    }
    .check(&crate::attacks::binary());
}
