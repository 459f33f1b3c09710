//! Caches of package managers: a session adds to them in its own overlay, and the host's own do not
//! change, whatever the session does.

use std::fs;

use stockade_testkit::{Output, Repo, Run, TestEnv, env::User, run::require_tool, wait};

/// A workspace of a user who has used Cargo, uv and Go.
struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    /// Makes one for every user that the tests can become.
    fn each(body: impl Fn(&Self)) {
        for user in User::all() {
            let env = TestEnv::of(user.as_deref());
            let repo = env.repo();
            for file in [
                ".cargo/registry/src/old/lib.rs",
                ".local/share/uv/credentials/secret",
                ".local/share/uv/tools/old",
                "go/pkg/mod/old",
            ] {
                env.write(env.home().join(file), "from outside\n");
            }
            body(&Self { env, repo });
        }
    }

    fn session(&self, line: &str) -> Run {
        self.env.session(self.repo.path()).line(line)
    }

    fn run(&self, line: &str) -> Output {
        self.session(line).output()
    }

    fn own_policy(&self, text: &str) {
        let path = self.env.home().join(".config/stockade/policy.toml");
        self.env.write(path, &format!("schema = 1\n{text}"));
    }

    fn assert_untouched(&self) {
        let line = "find .cargo .local go -type f -exec cat {} + | sort | uniq -c; \
            find .cargo .local go | wc -l";
        let seen = self.env.shell(&self.env.home(), line);
        seen.assert_stdout("      4 from outside\n16\n");
    }
}

/// R5: the session adds, changes and removes files; the host's own do not change, and the workspace
/// keeps the additions. Another workspace does not see them.
#[test]
fn what_a_session_adds_is_kept_for_its_workspace_alone() {
    Place::each(|place| {
        let line = "set -e; cd ~/.cargo/registry; cat src/old/lib.rs; echo mine > src/old/lib.rs; \
            mkdir -p src/new/.vscode; echo new > src/new/lib.rs; echo x > ~/.cargo/.package-cache; \
            rm ~/go/pkg/mod/old; mkdir ~/go/pkg/mod/old; mv ~/.local/share/uv/tools/old ~/moved; \
            ln src/new/lib.rs src/new/twin; mv src/new src/newer";
        place.run(line).assert_stdout("from outside\n");
        place.assert_untouched();
        let line = "cat ~/.cargo/registry/src/old/lib.rs ~/.cargo/registry/src/newer/twin; \
            test -d ~/go/pkg/mod/old && ! test -e ~/.local/share/uv/tools/old && \
            ! test -e ~/.cargo/.package-cache";
        place
            .run(line)
            .assert_success()
            .assert_stdout("mine\nnew\n");
        let other = place.env.repo_named("other");
        let line = "cat ~/.cargo/registry/src/*/*; test -f ~/go/pkg/mod/old";
        let seen = place.env.session(other.path()).line(line).output();
        seen.assert_success().assert_stdout("from outside\n");
        place.assert_untouched();
    });
}

#[test]
fn by_a_setting_nothing_is_kept() {
    Place::each(|place| {
        place.own_policy("[filesystem]\ncaches_kept = false\n");
        let line = "echo mine > ~/.cargo/registry/new; ls ~/.cargo/registry";
        place.run(line).assert_stdout("new\nsrc\n");
        place.run("ls ~/.cargo/registry").assert_stdout("src\n");
        assert!(!place.env.state().join("caches").exists());
        place.assert_untouched();
    });
}

/// A path that policy hides in a cache is absent, under any name, now and later.
#[test]
fn what_is_hidden_in_a_cache_stays_hidden() {
    Place::each(|place| {
        let line = "cd ~/.local/share/uv; ls credentials; echo x > credentials/x; \
            mv credentials c; rm -r credentials; mv ~/.local/share/uv ~/uv; \
            ln -s credentials l; ls l/; cp -r credentials ~/copy; ls ~/copy; \
            cat ~/.local/share/uv/*/secret; ls tools";
        place.run(line).assert_stdout("old\n");
        place.run(line).assert_stdout("old\n");
        place.own_policy("[filesystem]\nhide = [\"~/.cargo/registry/src/old\"]\n");
        let line = "cd ~/.cargo/registry; mv src moved; cat */old/lib.rs; true";
        place.run(line).assert_success().assert_stdout("");
        place.assert_untouched();
    });
}

/// A program that a session installs runs, and is recorded like any other.
#[test]
fn programs_in_an_overlay_run_and_are_recorded() {
    Place::each(|place| {
        let line =
            "cp /bin/echo ~/.local/share/uv/tools/hello && ~/.local/share/uv/tools/hello one";
        place.run(line).assert_success().assert_stdout("one\n");
        place
            .run("cd ~/.local/share/uv/tools && ./hello two && cp hello git && ./git push x")
            .assert_code(126)
            .assert_stdout("two\n");
    });
}

/// The overlays can only be reached through their mounts, and nothing in them has an effect
/// outside.
#[test]
fn nothing_in_an_overlay_has_power() {
    Place::each(|place| {
        let line = "cd ~/.cargo/registry; cp /bin/true s; chmod 6755 s; \
            mknod c c 0 0; mknod n c 1 3; mknod b b 8 0; mount -t tmpfs none . ; \
            python3 - <<'P'\n\
import os\n\
for name in ('redirect', 'opaque', 'metacopy', 'whiteout', 'origin'):\n\
    for space in ('user', 'trusted'):\n\
        try: os.setxattr('src', f'{space}.overlay.{name}', b'/../../../../etc')\n\
        except OSError: pass\n\
P\n\
            up=$(sed -n 's/.*upperdir=\\([^,]*\\).*/\\1/p' /proc/mounts | head -n 1); \
            ls -d \"$up\" \"${up%/caches/*}\" 2> /dev/null; ls src";
        place.run(line).assert_stdout("old\n");
        // The same again: what the first session left in the overlay does not affect the second.
        place
            .run("cat ~/.cargo/registry/src/old/lib.rs; ls ~/.cargo/registry/src")
            .assert_stdout("from outside\nold\n");
        let caches = place.env.state().join("caches");
        let found = place
            .env
            .shell(&caches, "find . -type b | wc -l; find . -name n | wc -l");
        found.assert_stdout("0\n0\n");
        place.assert_untouched();
    });
}

/// Two sessions of one workspace do not share an overlay: the second gets its own, and reports
/// that.
#[test]
fn two_sessions_at_once_both_work() {
    Place::each(|place| {
        let ready = place.repo.path().join("ready");
        let first = place
            .session("echo one > ~/.cargo/registry/one; : > ready; while [ ! -e go ]; do sleep 0.02; done")
            .spawn();
        assert!(wait::until_true(std::time::Duration::from_secs(20), || {
            ready.exists()
        }));
        let second = place.run("ls ~/.cargo/registry; echo two > ~/.cargo/registry/two; : > go");
        second.assert_success().assert_stdout("src\n");
        assert!(
            second
                .stderr
                .contains("is not kept: another session of this workspace"),
            "{}",
            second.stderr
        );
        first.wait().assert_success();
        place
            .run("ls ~/.cargo/registry")
            .assert_stdout("one\nsrc\n");
        place.assert_untouched();
    });
}

/// If no overlay can be mounted, the session starts anyway, and reports what is weaker.
#[test]
fn where_the_machine_cannot_the_cache_is_read_only() {
    Place::each(|place| {
        let deep = vec!["d".repeat(230); 17].join("/");
        let cache = place.env.root().join(&deep);
        place
            .env
            .shell(place.env.root(), &format!("mkdir -p {deep}"))
            .assert_success();
        place.own_policy(&format!(
            "[filesystem]\ncaches = [\"{}\"]\n",
            cache.display()
        ));
        let output =
            place.run("cat ~/.cargo/registry/src/old/lib.rs; echo x > ~/.cargo/registry/x");
        output.assert_code(1).assert_stdout("from outside\n");
        let expected = "caches of package managers are read-only in this session";
        assert!(output.stderr.contains(expected), "{}", output.stderr);
        fs::remove_dir_all(place.env.root().join("d".repeat(230))).unwrap();
        place.assert_untouched();
    });
}

/// With the real tool: a new module is written to the overlay over the host's module cache.
#[test]
fn go_adds_a_module_to_its_cache() {
    require_tool("go");
    Place::each(|place| {
        let line = "set -e; P=$PWD/proxy/lab.test/m/@v; mkdir -p $P x/lab.test/m@v1.0.0; \
            echo v1.0.0 > $P/list; echo '{\"Version\":\"v1.0.0\"}' > $P/v1.0.0.info; \
            printf 'module lab.test/m\\n' | tee $P/v1.0.0.mod > x/lab.test/m@v1.0.0/go.mod; \
            printf 'package m\\nconst X = \"from the module\"\\n' > x/lab.test/m@v1.0.0/m.go; \
            (cd x && python3 -c 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], \"w\"); \
              [z.write(f\"lab.test/m@v1.0.0/{n}\") for n in (\"go.mod\", \"m.go\")]; z.close()' \
              $P/v1.0.0.zip); rm -r x; \
            printf 'module a\\ngo 1.19\\nrequire lab.test/m v1.0.0\\n' > go.mod; \
            printf 'package main\\nimport \"lab.test/m\"\\nfunc main() { println(m.X) }\\n' > main.go; \
            export GOPROXY=file://$PWD/proxy GOSUMDB=off GOFLAGS=-mod=mod; \
            go run . 2>&1 | tail -n 1; chmod -R u+w ~/go/pkg/mod/lab.test@v1.0.0 2> /dev/null || true; \
            test -d ~/go/pkg/mod/cache/download/lab.test";
        let run = |line: &str| {
            place
                .session(line)
                .timeout(std::time::Duration::from_mins(3))
                .output()
        };
        run(line)
            .assert_success()
            .assert_stdout("from the module\n");
        run("GOPROXY=off GOFLAGS=-mod=mod go run . 2>&1").assert_stdout("from the module\n");
        place.assert_untouched();
    });
}

/// Kept overlays are removed for workspaces that no session used for long, and the oldest first if
/// they take too much space, but never those in use.
#[test]
fn kept_overlays_are_pruned() {
    Place::each(|place| {
        // Tools and overlays leave folders without permissions.
        place.run("mkdir ~/.cargo/registry/mine; head -c 300000 /dev/zero > ~/.cargo/registry/mine/x; chmod 500 ~/.cargo/registry/mine");
        let other = place.env.repo_named("other");
        let run = place
            .env
            .session(other.path())
            .line("echo y > ~/go/pkg/mod/y");
        run.output().assert_success();
        let prune = |options: &[&str]| {
            place
                .env
                .stockade()
                .arg("prune")
                .args(options)
                .success()
                .stdout
        };
        let workspace = place.repo.path().display().to_string();
        let kept = || {
            fs::read_dir(place.env.state().join("caches"))
                .unwrap()
                .count()
        };
        let age = |days: u32| {
            let line =
                format!("grep -lx {workspace} */workspace | xargs touch -d '{days} days ago'");
            let caches = place.env.state().join("caches");
            place.env.shell(&caches, &line).assert_success();
        };
        age(89);
        let told = prune(&["--dry-run", "--keep-caches", "200kB"]);
        let expected = format!("of caches of {workspace} would be removed: over their bytes");
        assert!(told.contains(&expected), "{told}");
        assert!(!prune(&[]).contains("caches of"));
        assert_eq!(kept(), 2);
        // While a session uses them they stay.
        let running = place.session("echo up; sleep 60").spawn();
        assert!(wait::until_true(std::time::Duration::from_secs(30), || {
            running.stdout().contains("up")
        }));
        age(91);
        prune(&[]);
        assert_eq!(kept(), 2);
        running.signal(rustix::process::Signal::TERM);
        running.wait();
        age(91);
        let told = prune(&["--json"]);
        assert!(
            told.contains("\"over\":\"age\"") && told.contains(&workspace),
            "{told}"
        );
        assert_eq!(kept(), 1);
        let gone = place.env.state().join("removing-caches");
        assert_eq!(fs::read_dir(gone).unwrap().count(), 0);
        place.run("ls ~/.cargo/registry").assert_stdout("src\n");
        place.assert_untouched();
    });
}
