//! Toolchains and installed tools: a session adds to them as outside and keeps the additions for
//! its workspace; the host's own do not change, even if variables move them.

use std::{fs, path::Path};

use stockade_testkit::{Output, Repo, Run, TestEnv, run::require_tool};

struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    fn each(body: impl Fn(&Self)) {
        TestEnv::each(|env, repo| body(&Self { env, repo }));
    }

    fn home(&self, path: &str) -> String {
        self.env.home().join(path).display().to_string()
    }

    fn file(&self, path: &str, text: &str) {
        self.env.write(self.env.home().join(path), text);
    }

    fn program(&self, path: &str, text: &str) {
        self.file(path, text);
        let line = format!("chmod 755 {path}");
        self.env.shell(&self.env.home(), &line).assert_success();
    }

    fn session(&self, line: &str) -> Run {
        self.env.session(self.repo.path()).line(line)
    }

    fn run(&self, line: &str) -> Output {
        self.session(line).output()
    }

    /// Everything below a directory of the home, with its content.
    fn seen(&self, path: &Path) -> String {
        let line = "find . -printf '%p %y %m %l\\n' | sort; find . -type f -exec cat {} +";
        self.env.shell(path, line).assert_success().stdout.clone()
    }
}

/// The places in which tools put programs for their user, each with an existing file.
const TOOLCHAINS: [&str; 9] = [
    ".cargo/bin/old",
    ".local/bin/old",
    ".local/lib/python3.11/site-packages/old",
    ".npm-global/bin/old",
    ".nvm/versions/node/v1/bin/old",
    ".pyenv/versions/3/bin/old",
    ".rustup/toolchains/t/bin/old",
    ".volta/bin/old",
    "go/bin/old",
];

/// A program that is put there runs, by its name, and in the next session of the workspace.
#[test]
fn what_is_installed_stays_for_the_workspace_and_the_host_has_none_of_it() {
    Place::each(|place| {
        for path in TOOLCHAINS {
            place.program(path, "#!/bin/sh\necho old\n");
        }
        place.file(".vault/id", "secret\n");
        let before = place.seen(&place.env.home());
        let folders = TOOLCHAINS.map(|path| place.home(path.trim_end_matches("/old")));
        let search = format!("{}:/usr/bin:/bin", folders.join(":"));
        let install = "set -e; n=0; IFS=:; for d in ${PATH%:/usr/bin:/bin}; do n=$((n + 1)); \
            printf '#!/bin/sh\\necho new\\n' > $d/new; chmod +x $d/new; mv $d/new $d/new$n; \
            echo '#!/bin/sh' > $d/old; echo \"echo mine $n\" >> $d/old; done; new1; old";
        let output = place.session(install).env("PATH", &search).output();
        output.assert_success().assert_stdout("new\nmine 1\n");
        assert_eq!(place.seen(&place.env.home()), before);
        let again = "for n in 1 2 3 4 5 6 7 8 9; do new$n; done; bash -lc old; \
            cat ~/.vault/id ~/.cargo/bin/../../.vault/id ~/.nvm/../.vault/id 2> /dev/null; ls -A ~";
        let output = place.session(again).env("PATH", &search).output();
        let kept = "new\n".repeat(9) + "mine 1\n";
        assert!(output.stdout.starts_with(&kept), "{}", output.stdout);
        assert!(!output.stdout.contains("secret") && !output.stdout.contains(".vault"));
        let other = place.env.repo_named("other");
        let run = place.env.session(other.path()).line("old; new1");
        let output = run.env("PATH", &search).output();
        output.assert_code(127).assert_stdout("old\n");
        assert_eq!(place.seen(&place.env.home()), before);
    });
}

/// All caches of a home are parts of one overlay over it. Nothing else of the home is a part,
/// whatever a session has put in the place of the next one's part.
#[test]
fn nothing_but_the_caches_is_seen_of_the_home_below_them() {
    Place::each(|place| {
        place.program(".local/lib/old", "#!/bin/sh\necho old\n");
        place.file(".local/lib/inner/old", "from outside\n");
        place.file(".vault/id", "secret\n");
        place.file(".other", "secret\n");
        let line = "cd ~/.local/lib; rm -r inner; ln -s ../../.vault inner; ln -s /etc etc; \
            mv ~/.local/lib ~/moved; ls -A ../..; cat ~/.other ../../.other; \
            grep -c ' - overlay ' /proc/self/mountinfo; cat /.stockade-pool/*/.other /.stockade-pool/*/*/.other";
        let output = place.run(line);
        output.assert_code(1);
        let seen = &output.stdout;
        assert!(
            !seen.contains("secret") && !seen.contains(".vault"),
            "{seen}"
        );
        assert!(
            output.stdout.contains("\n1\n"),
            "one overlay: {}",
            output.stdout
        );
        // Now a cache is named at the place of the first session's link.
        let policy = place.env.home().join(".config/stockade/policy.toml");
        let text = "schema = 1\n[filesystem]\ncaches = [\"~/.local/lib/inner\"]\n";
        place.env.write(policy, text);
        let line = "cat ~/.local/lib/inner/*; readlink ~/.local/lib/inner; ls -A ~";
        let output = place.run(line);
        assert!(
            output.stdout.contains("../../.vault\n"),
            "{}",
            output.stderr
        );
        assert!(!output.stdout.contains("secret"), "{}", output.stdout);
        assert_eq!(
            fs::read_to_string(place.home(".local/lib/inner/old")).unwrap_or_default(),
            "from outside\n"
        );
    });
}

/// Cargo keeps a list of what it installed beside its directory of programs, and rewrites it in
/// place.
#[test]
fn the_list_of_what_cargo_installed_stays() {
    Place::each(|place| {
        place.program(".cargo/bin/old", "#!/bin/sh\n");
        place.file(".cargo/.crates.toml", "[v1]\n");
        place.file(".cargo/credentials.toml", "secret\n");
        let line = "cd ~/.cargo; cat .crates.toml .crates2.json; echo more >> .crates.toml; \
            echo '{}' > .crates2.json; ls -A; cat credentials.toml 2> /dev/null";
        let listed = ".crates.toml\n.crates2.json\nbin\n";
        place.run(line).assert_stdout(&format!("[v1]\n{listed}"));
        place
            .run("cd ~/.cargo; cat .crates.toml .crates2.json")
            .assert_stdout("[v1]\nmore\n{}\n");
        let outside = fs::read_to_string(place.home(".cargo/.crates.toml")).unwrap_or_default();
        assert_eq!(outside, "[v1]\n");
        assert!(!Path::new(&place.home(".cargo/.crates2.json")).exists());
    });
}

/// A variable that moves a directory of a tool, and a cache below that directory.
const MOVED: [(&str, &str); 12] = [
    ("CARGO_HOME", "registry"),
    ("GOMODCACHE", ""),
    ("GOPATH", "pkg/mod"),
    ("GRADLE_USER_HOME", "caches"),
    ("NPM_CONFIG_PREFIX", "lib"),
    ("NVM_DIR", ""),
    ("PIP_CACHE_DIR", ""),
    ("PYTHONUSERBASE", "lib"),
    ("RUSTUP_HOME", ""),
    ("UV_CACHE_DIR", ""),
    ("npm_config_cache", "_cacache"),
    ("npm_config_prefix", "bin"),
];

/// The moved directory is at the variable's place, inside and outside of the home, with an overlay;
/// nothing of the host's is around it.
#[test]
fn caches_that_variables_move_are_there() {
    Place::each(|place| {
        let outside = place.env.root().join("disk");
        for (number, (name, below)) in MOVED.iter().enumerate() {
            // Below the home, and elsewhere.
            let moved = if number % 2 == 0 {
                place.env.home().join("elsewhere").join(name)
            } else {
                outside.join(name)
            };
            place
                .env
                .write(moved.join(below).join("old"), "from outside\n");
            place.env.write(moved.join("credentials.toml"), "secret\n");
        }
        place.env.own(&outside);
        let lines = MOVED.map(|(name, below)| {
            format!("cat \"${name}/{below}/old\" && echo x > \"${name}/{below}/new\" && echo x > ${name}/own; ")
        });
        let session = |line: &str| {
            let mut run = place.session(line);
            for (number, (name, _)) in MOVED.iter().enumerate() {
                let elsewhere = place.env.home().join("elsewhere");
                let top = if number % 2 == 0 {
                    &elsewhere
                } else {
                    &outside
                };
                run = run.env(name, top.join(name));
            }
            run.output()
        };
        let expected = "from outside\n".repeat(MOVED.len());
        let output = session(&lines.concat());
        output.assert_success().assert_stdout(&expected);
        // A file beside a cache is not part of it.
        let line = "cat $CARGO_HOME/credentials.toml $GOPATH/credentials.toml; ls $GOPATH";
        session(line).assert_stdout("pkg\n");
        let kept = MOVED.map(|(name, below)| format!("cat \"${name}/{below}/new\"; "));
        session(&kept.concat()).assert_stdout(&"x\n".repeat(MOVED.len()));
        let line = "find . -name new -o -name own";
        place.env.shell(&outside, line).assert_stdout("");
        let found = place.env.shell(&place.env.home(), line);
        found.assert_stdout("");
    });
}

/// A variable brings only caches into a session: otherwise it does not pass, and the reason is
/// reported.
#[test]
fn variables_cannot_move_a_cache_to_what_no_session_sees() {
    Place::each(|place| {
        place.file(".ssh/id", "secret\n");
        let home = place.env.home().display().to_string();
        let state = place.env.state().display().to_string();
        let ssh = place.home(".ssh");
        for (value, why) in [
            (home.as_str(), "is or holds your home"),
            ("/", "is or holds your home"),
            (&ssh, "store of secrets"),
            (&state, "is or holds your home"),
            ("/etc", "system directory"),
            ("/proc/self", "machine's own"),
        ] {
            let line = "echo \"${PIP_CACHE_DIR-none}\"; cat ~/.ssh/id 2> /dev/null";
            let output = place.session(line).env("PIP_CACHE_DIR", value).output();
            output.assert_stdout("none\n");
            let told = &output.stderr;
            assert!(
                told.contains("`PIP_CACHE_DIR` does not pass"),
                "{value}: {told}"
            );
            assert!(told.contains(why), "{value}: {told}");
        }
    });
}

/// The cache of a variable that does not pass is at its usual place.
#[test]
fn a_cache_of_the_desktop_is_at_its_usual_place() {
    Place::each(|place| {
        let moved = place.env.root().join("cache");
        place.env.write(moved.join("pip/old"), "from outside\n");
        place.env.write(moved.join("mail/old"), "secret\n");
        place.env.own(&moved);
        let line = "cat ~/.cache/pip/old; ls ~/.cache | grep -v cache; echo $XDG_CACHE_HOME; echo x > ~/.cache/pip/new";
        let output = place.session(line).env("XDG_CACHE_HOME", &moved).output();
        output
            .assert_success()
            .assert_stdout("from outside\ngo-build\npip\n\n");
        assert!(!moved.join("pip/new").exists());
    });
}

/// A link that a version manager makes for one terminal also leads to the tool inside.
#[test]
fn the_search_path_may_lead_over_links_that_no_session_has() {
    Place::each(|place| {
        let tool = ".local/share/fnm/node-versions/v1/installation/bin/node";
        place.program(tool, "#!/bin/sh\necho v1\n");
        let shells = place.env.root().join("run/multishells");
        let line = format!(
            "mkdir -p run/multishells; ln -s {} run/multishells/1; ln -s {} run/multishells/2",
            place.home(".local/share/fnm/node-versions/v1/installation"),
            place.home(".ssh")
        );
        place.file(".ssh/bin/x", "secret\n");
        place.env.shell(place.env.root(), &line).assert_success();
        let search = format!("{0}/1/bin:{0}/2/bin:/usr/bin:/bin", shells.display());
        let line = format!("node; bash -lc node; ls {}", shells.display());
        let output = place.session(&line).env("PATH", &search).output();
        output.assert_success().assert_stdout("v1\nv1\n1\n");
    });
}

/// With the real npm: a package is installed for the user, runs, and is there in the next session.
#[test]
fn npm_installs_for_the_user() {
    require_tool("npm");
    Place::each(|place| {
        place.file(".npm-global/lib/node_modules/old/package.json", "{}\n");
        place.file(".npm-global/bin/old", "");
        place.file(
            ".npmrc",
            "prefix=${HOME}/.npm-global\n//corp.test/:_authToken=secret\n",
        );
        let before = place.seen(&place.env.home());
        let package = "{\"name\":\"lab\",\"version\":\"1.0.0\",\"bin\":{\"lab\":\"lab.js\"}}";
        place
            .env
            .write(place.repo.path().join("lab/package.json"), package);
        let program = "#!/usr/bin/env node\nconsole.log('lab')\n";
        place
            .env
            .write(place.repo.path().join("lab/lab.js"), program);
        let search = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            place.home(".npm-global/bin")
        );
        let install =
            "npm install -g --offline --no-audit --no-fund --install-links ./lab >&2 && lab";
        let output = place.session(install).env("PATH", &search).output();
        output.assert_success().assert_stdout("lab\n");
        let output = place
            .session("lab; npm ls -g --parseable | wc -l")
            .env("PATH", &search)
            .output();
        assert!(output.stdout.starts_with("lab\n"), "{}", output.stdout);
        assert_eq!(place.seen(&place.env.home()), before);
    });
}

/// How a version manager lays out version `v1` of a tool, copied by hand from the real layout; an
/// entry that begins with `-> ` is a link.
struct Layout {
    name: &'static str,
    search: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const TOOL: &str = "#!/bin/sh\necho v1 from $(basename $(dirname $(dirname \"$0\")))\n";

const LAYOUTS: [Layout; 7] = [
    Layout {
        name: "nvm",
        search: ".nvm/versions/node/v1/bin",
        files: &[
            (".nvm/versions/node/v1/bin/node", TOOL),
            (".nvm/alias/default", "v1\n"),
        ],
    },
    Layout {
        name: "pyenv",
        search: ".pyenv/shims",
        files: &[
            (
                ".pyenv/shims/node",
                "#!/usr/bin/env bash\nexec \"$HOME/.pyenv/bin/pyenv\" exec node \"$@\"\n",
            ),
            (".pyenv/bin/pyenv", "-> ../libexec/pyenv"),
            (
                ".pyenv/libexec/pyenv",
                "#!/usr/bin/env bash\nroot=$(dirname $(dirname $(readlink -f \"$0\")))\nshift\nexec \"$root/versions/$(cat $root/version)/bin/$1\"\n",
            ),
            (".pyenv/version", "3.1\n"),
            (".pyenv/versions/3.1/bin/node", TOOL),
        ],
    },
    Layout {
        name: "rbenv",
        search: ".rbenv/shims",
        files: &[
            (
                ".rbenv/shims/node",
                "#!/usr/bin/env bash\nexport RBENV_ROOT=\"$HOME/.rbenv\"\nexec \"$RBENV_ROOT/versions/$(cat $RBENV_ROOT/version)/bin/node\"\n",
            ),
            (".rbenv/version", "3.1\n"),
            (".rbenv/versions/3.1/bin/node", TOOL),
        ],
    },
    Layout {
        name: "asdf",
        search: ".asdf/shims",
        files: &[
            (
                ".asdf/shims/node",
                "#!/usr/bin/env bash\nexec \"$HOME/.asdf/bin/asdf\" exec node\n",
            ),
            (
                ".asdf/bin/asdf",
                "#!/usr/bin/env bash\nv=$(awk '/^node/ { print $2 }' \"$HOME/.tool-versions\")\nexec \"$HOME/.asdf/installs/node/$v/bin/node\"\n",
            ),
            (".asdf/installs/node/20/bin/node", TOOL),
            (".tool-versions", "node 20\n"),
        ],
    },
    Layout {
        name: "mise",
        search: ".local/share/mise/shims",
        files: &[
            (".local/share/mise/shims/node", "-> ../../../bin/mise"),
            (
                ".local/bin/mise",
                "#!/usr/bin/env bash\nv=$(sed -n 's/^node = \"\\(.*\\)\"/\\1/p' \"$HOME/.config/mise/config.toml\")\nexec \"$HOME/.local/share/mise/installs/node/$v/bin/node\"\n",
            ),
            (".local/share/mise/installs/node/20/bin/node", TOOL),
            (
                ".config/mise/config.toml",
                "[tools]\nnode = \"20\"\n[env]\nTOKEN = \"secret\"\n",
            ),
        ],
    },
    Layout {
        name: "volta",
        search: ".volta/bin",
        files: &[
            (".volta/bin/node", "-> volta-shim"),
            (
                ".volta/bin/volta-shim",
                "#!/bin/sh\nv=$(cat ~/.volta/tools/user/platform.json)\nexec ~/.volta/tools/image/node/$v/bin/node\n",
            ),
            (".volta/tools/user/platform.json", "20\n"),
            (".volta/tools/image/node/20/bin/node", TOOL),
        ],
    },
    Layout {
        name: "sdkman",
        search: ".sdkman/candidates/node/current/bin",
        files: &[
            (".sdkman/candidates/node/current", "-> 20"),
            (".sdkman/candidates/node/20/bin/node", TOOL),
        ],
    },
];

/// A login shell inside finds the version that the caller finds, but no secret from the manager's
/// settings.
#[test]
fn version_managers_find_what_the_caller_finds() {
    Place::each(|place| {
        for layout in &LAYOUTS {
            for (path, content) in layout.files {
                match content.strip_prefix("-> ") {
                    Some(target) => {
                        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
                        let line =
                            format!("mkdir -p {}; ln -sfn {target} {path}", folder.display());
                        place.env.shell(&place.env.home(), &line).assert_success();
                    }
                    None => place.program(path, content),
                }
            }
            let search = format!("{}:/usr/bin:/bin", place.home(layout.search));
            let outside = place.env.command("bash").args(["-c", "node"]);
            let outside = outside
                .env("PATH", &search)
                .current_dir(place.repo.path())
                .success();
            assert!(outside.stdout.starts_with("v1 from "), "{}", layout.name);
            let line = "bash -lc node; node; ! grep -rs secret ~/.config";
            let inside = place.session(line).env("PATH", &search).output();
            inside
                .assert_success()
                .assert_stdout(&outside.stdout.repeat(2));
        }
    });
}

/// Terminals, locales and times inside are those outside.
#[test]
fn terminals_locales_and_time_zones_are_those_of_the_caller() {
    require_tool("tic");
    Place::each(|place| {
        let tic = "printf 'lab|lab terminal,\\n\\tcols#81,\\n' > lab.ti; tic -o .terminfo lab.ti; \
            tic -o kit/terminfo lab.ti; mv kit/terminfo/l/lab kit/terminfo/l/lab2 2> /dev/null; rm lab.ti";
        place.env.shell(&place.env.home(), tic);
        let line = "tput -T lab cols; tput -T lab2 cols; locale 2>&1; date -d @0 +%Z%H; \
            TZ=America/New_York date -d @0 +%Z; readlink -f /etc/localtime; printf '\\303\\244' | wc -m";
        let variables = [
            ("TERMINFO", place.home("kit/terminfo")),
            ("TZ", "Asia/Tokyo".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("LC_TIME", "de_DE.UTF-8".to_owned()),
        ];
        let outside = place
            .env
            .command("bash")
            .args(["-c", line])
            .envs(variables.clone());
        let outside = outside.current_dir(place.repo.path()).success().stdout;
        assert!(outside.starts_with("81\n"), "{outside}");
        let inside = place.session(line).envs(variables).output();
        inside.assert_success().assert_stdout(&outside);
    });
}
