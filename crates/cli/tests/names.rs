//! Protected names, where they matter: other people's packages can be installed and removed, files
//! that the owner's own programs execute automatically stay protected, and only the right layers
//! can lift that.

use std::fs;

use stockade_testkit::{Output, Repo, TestEnv, run::require_tool};

/// A workspace of a user.
struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    /// Makes one for every user that the tests can become.
    fn each(body: impl Fn(&Self)) {
        TestEnv::each(|env, repo| body(&Self { env, repo }));
    }

    fn run(&self, line: &str) -> Output {
        self.env.session(self.repo.path()).line(line).output()
    }

    /// Puts the user's own policy at the place in which a run looks for it.
    fn own_policy(&self, text: &str) {
        let path = ".config/stockade/policy.toml";
        let path = self.env.home().join(path);
        self.env.write(path, &format!("schema = 1\n{text}"));
    }

    fn exists(&self, path: &str) -> bool {
        self.repo.path().join(path).exists()
    }
}

/// R4: a package with folders of an editor, an agent and a hook manager is installed completely,
/// and can be reinstalled and removed.
#[test]
fn a_package_with_folders_of_editors_and_agents_installs_and_goes() {
    require_tool("npm");
    Place::each(|place| {
        let pack = "mkdir -p p/.vscode p/.claude p/.husky p/.github/workflows; \
            echo '{\"name\":\"p\",\"version\":\"1.0.0\"}' > p/package.json; \
            for f in .vscode/settings.json .claude/settings.json .husky/pre-commit lefthook.yml; do \
              echo '{}' > p/$f; done; \
            (cd p && npm pack --silent --pack-destination .. > /dev/null); rm -rf p; \
            echo '{\"name\":\"a\",\"private\":true,\"dependencies\":{\"p\":\"file:p-1.0.0.tgz\"}}' \
              > package.json";
        place.env.shell(place.repo.path(), pack).assert_success();
        let has_all = |place: &Place| {
            for file in [
                ".vscode/settings.json",
                ".claude/settings.json",
                ".husky/pre-commit",
                "lefthook.yml",
            ] {
                assert!(place.exists(&format!("node_modules/p/{file}")), "{file}");
            }
        };
        place.run("npm install").assert_success();
        has_all(place);
        place.run("npm ci").assert_success();
        has_all(place);
        place
            .run("rm -rf node_modules && ! test -e node_modules && npm ci && git clean -qfdx node_modules")
            .assert_success();
        assert!(!place.exists("node_modules"));
        // Outside of packages the same names stay protected, and the answer says so.
        let refused = place.run(
            "! mkdir .vscode && ! touch lefthook.yml && ! mkdir -p sub/.idea && \
             node -e 'try { require(\"fs\").writeFileSync(\".mcp.json\", \"\") } catch (e) { console.log(e.code) }'",
        );
        refused.assert_stdout("EACCES\n");
    });
}

/// Files that a shell, git or an editor runs automatically stay protected below packages too.
#[test]
fn what_runs_by_itself_stays_protected_below_packages() {
    Place::each(|place| {
        let line = "mkdir -p node_modules/p vendor/q .venv/lib; \
            for f in node_modules/p/.envrc vendor/q/mise.toml .venv/lib/.exrc; do \
              echo x > $f && exit 1; done; \
            mkdir -p node_modules/p/.git/hooks node_modules/r/.git; \
            echo x > node_modules/p/.git/hooks/pre-commit && exit 2; \
            ln -s ../../evil node_modules/r/.git/hooks && exit 3; \
            mkdir node_modules/p/.vscode && echo x > node_modules/p/.vscode/tasks.json";
        place.run(line).assert_success();
        assert!(place.exists("node_modules/p/.vscode/tasks.json"));
        assert!(!place.exists("node_modules/p/.envrc") && !place.exists("vendor/q/mise.toml"));
    });
}

/// A file with a protected name that is spared in a directory of packages cannot leave it under
/// that name, however it is moved.
#[test]
fn nothing_leaves_packages_with_a_protected_name() {
    Place::each(|place| {
        let line = "mkdir -p node_modules/p/.vscode x/.cargo/registry/c/.idea node_modules/.b; \
            echo evil > node_modules/p/.vscode/tasks.json; echo evil > x/.cargo/registry/c/.idea/a; \
            mkdir plain; echo {} > node_modules/lefthook.yml; \
            for way in 'node_modules/p q' 'node_modules modules' 'x/.cargo y' \
              'node_modules/p/.vscode .vscode' 'node_modules/lefthook.yml lefthook.yml' \
              'x/.cargo/registry r'; do \
              mv -T $way 2> /dev/null && exit 1; done; \
            python3 - <<'P'\n\
import ctypes, os\n\
libc = ctypes.CDLL(None, use_errno=True)\n\
assert libc.renameat2(-100, b'plain', -100, b'node_modules/p', 2) == -1\n\
assert ctypes.get_errno() == 13, ctypes.get_errno()\n\
try:\n    os.link('node_modules/lefthook.yml', 'lefthook.yml')\n\
except PermissionError: pass\n\
else: raise SystemExit(5)\n\
P\n\
            test $? = 0 || exit 4; \
            mv node_modules/p node_modules/.b/q && mv node_modules/.b node_modules/c && \
            mv x z && mv z/.cargo/registry/c z/.cargo/registry/d && mv node_modules/c/q targets 2> /dev/null && exit 6; \
            mkdir dist && mv node_modules/c/q dist/q && rm -r dist/q/.vscode && mv dist/q q";
        place.run(line).assert_success();
        // Files without such a name may leave, and packages may be moved among each other.
        assert!(place.exists("q") && !place.exists("q/.vscode"));
        assert!(place.exists("z/.cargo/registry/d/.idea/a"));
        for path in ["modules", "y", ".vscode", "lefthook.yml", "r"] {
            assert!(!place.exists(path), "{path}");
        }
    });
}

/// The user lifts the protection of a preset; a file for one run and one in the repository do not,
/// and if the organisation forbids it, the user's own does not load.
#[test]
fn only_the_user_and_the_organisation_lift_protection() {
    Place::each(|place| {
        let lift = "[workspace]\nunprotect = [\".vscode/settings.json\", \"examples/**\"]\n";
        let line = "mkdir -p examples/.idea && echo x > examples/.idea/a; \
            mkdir .vscode; echo x > .vscode/settings.json; echo x > .vscode/tasks.json; \
            mv examples other; true";
        place
            .env
            .write(place.repo.path().join(".stockade.toml"), lift);
        place.run(line).assert_success();
        assert!(!place.exists(".vscode") && !place.exists("other/.idea"));
        place.run("rm -r other").assert_success();

        let file = place.env.write("run.toml", &format!("schema = 1\n{lift}"));
        let refused = place
            .env
            .session(place.repo.path())
            .arg("--policy")
            .arg(&file)
            .line("true")
            .output();
        refused.assert_code(125);
        assert!(
            refused.stderr.contains("workspace.unprotect"),
            "{refused:?}"
        );
        assert!(refused.stderr.contains("~/.config/stockade"), "{refused:?}");

        fs::create_dir(place.repo.path().join(".vscode")).unwrap();
        place.env.own(&place.repo.path().join(".vscode"));
        place.own_policy(lift);
        place.run(line).assert_success();
        let settings = place.repo.path().join(".vscode/settings.json");
        assert_eq!(fs::read_to_string(settings).unwrap(), "x\n");
        assert!(!place.exists(".vscode/tasks.json"));
        assert!(place.exists("examples/.idea/a") && !place.exists("other"));

        let organisation = "schema = 1\n[require]\nunprotect = \"none\"\n";
        let organisation = place.env.write("organisation.toml", organisation);
        let refused = place
            .env
            .session(place.repo.path())
            .env("STOCKADE_ORG_POLICY", organisation)
            .line("true")
            .output();
        refused.assert_code(125);
        assert!(
            refused.stderr.contains("the organisation requires"),
            "{refused:?}"
        );
    });
}

/// F5: a directory that the user shares for writing can be written although the preset only reads
/// it, and crates with folders of editors unpack there.
#[test]
fn a_write_of_the_user_wins_over_a_read_of_the_preset() {
    Place::each(|place| {
        let registry = place.env.home().join(".cargo/registry");
        let kept = place.env.write(registry.join("src/old"), "");
        place.env.own(&registry);
        place.env.own(kept.parent().unwrap());
        place.env.own(&place.env.home().join(".cargo"));
        place.own_policy("[filesystem]\nwrite = [\"~/.cargo/registry\"]\n");
        let line = "touch ~/.cargo/registry/x && mkdir -p ~/.cargo/registry/src/c/.vscode && \
            echo x > ~/.cargo/registry/src/c/.vscode/a && mkdir -p ~/.cargo/registry/src/c/.git/hooks && \
            ! echo x > ~/.cargo/registry/src/c/.git/hooks/post-checkout";
        place.run(line).assert_success();
        assert!(registry.join("x").exists() && registry.join("src/c/.vscode/a").exists());
    });
}

/// Changed files that run outside later are listed at the end, and no others.
#[test]
fn what_runs_outside_later_is_named_at_the_end() {
    Place::each(|place| {
        let line = "mkdir -p .github/workflows node_modules/p/.github/workflows src; \
            echo on: push > .github/workflows/ci.yml; echo x > node_modules/p/.github/workflows/x.yml; \
            echo x > src/a; echo registry=x > .npmrc";
        let output = place
            .env
            .stockade()
            .args(["run", "--ask", "deny", "--workspace"])
            .arg(place.repo.path())
            .line(line)
            .success();
        let expected = "later      runs outside later:  .github/workflows/ci.yml  .npmrc\n";
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    });
}
