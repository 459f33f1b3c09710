//! Nothing that the agent can write affects what it sees (F50 to F59, L50).

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use stockade_testkit::{Output, TestEnv, env::Repo};

use crate::attacks::for_each_user;

/// A text that only appears to a program that reads where it should not.
const MARKER: &str = "marker-of-the-view";

/// Writes a program below the environment; `HOME` becomes the home.
fn program(env: &TestEnv, path: impl AsRef<Path>, text: &str) -> PathBuf {
    let text = text.replace("HOME", &env.home().display().to_string());
    let path = env.write(path, &text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it was just written");
    path
}

fn link(env: &TestEnv, path: impl AsRef<Path>, target: impl AsRef<Path>) {
    let path = path.as_ref();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("the directory is ours");
    }
    symlink(target, path).expect("nothing is there");
    env.own(path);
}

fn search_path(env: &TestEnv, first: &Path) -> String {
    let rest = env.variables().into_iter().find(|(name, _)| name == "PATH");
    let rest = rest.map(|(_, value)| value).unwrap_or_default();
    format!("{}:{}", first.display(), rest.display())
}

/// A script, a link, a directory of the search path and a virtual environment in the workspace are
/// used unchanged: the host's files that they name are not brought along.
#[test]
fn f52_what_the_workspace_names_does_not_come_along() {
    for_each_user(|env| {
        let repo = env.repo();
        let at = |name: &str| repo.path().join(name);
        let (home, tax) = (env.home(), env.write("home/Documents/tax.txt", MARKER));
        let says = format!("#!/bin/sh\ncat {}; echo {MARKER}\n", tax.display());
        program(env, "home/Documents/run", &says);
        program(
            env,
            "home/.local/bin/x",
            "#!/bin/sh\ncat HOME/.local/state/m HOME/.local/lib/../state/m\n",
        );
        env.write("home/.local/state/m", MARKER);
        env.write("home/.local/lib/python3.11/y.py", "");
        let cat = format!("cat {}\n", tax.display());
        let scripts = [
            ("chdir", "#!/usr/bin/env -S -C HOME sh\n"),
            ("directory", "#!/usr/bin/env -S --chdir=HOME sh\n"),
            ("through", "#!HOME/Documents/run\n"),
            ("venv/bin/tool", "#!/usr/bin/env HOME/Documents/run\n"),
        ];
        for (name, line) in scripts {
            program(env, at(name), &format!("{line}{cat}"));
        }
        env.write(
            at("venv/pyvenv.cfg"),
            &format!("home = {}\n", home.display()),
        );
        link(env, at("tool"), home.join("Documents/run"));
        link(env, at("local"), home.join(".local/bin/x"));
        link(env, at("out"), home.join("Documents"));
        let [chdir, directory] = ["chdir", "directory"].map(|name| at(name).display().to_string());
        let tries = [
            (chdir.as_str(), None),
            (directory.as_str(), None),
            ("./through", None),
            ("tool", Some("venv/bin")),
            ("./tool", None),
            ("./local", None),
            ("./out/run", None),
            ("run", Some("out")),
        ];
        for (command, directory) in tries {
            let path = search_path(env, &at(directory.unwrap_or("none")));
            let control = env
                .command("/bin/sh")
                .args(["-c", command])
                .env("PATH", &path)
                .current_dir(repo.path())
                .output();
            assert!(control.stdout.contains(MARKER), "{command}: {control:?}");
            for words in [vec![command], vec!["/bin/sh", "-c", command]] {
                let run = env.session(repo.path()).env("PATH", &path).arg("--");
                let output = run.args(&words).output();
                assert!(!output.stdout.contains(MARKER), "{words:?}: {output:?}");
            }
        }
    });
}

/// A FIFO in the place of a program, of a script or of its interpreter does not block.
#[test]
fn f56_a_fifo_keeps_nobody_waiting() {
    for_each_user(|env| {
        let repo = env.repo();
        env.shell(
            repo.path(),
            "mkfifo -m 755 fifo home.fifo && mv home.fifo ~/fifo",
        )
        .assert_success();
        program(
            env,
            repo.path().join("one"),
            &format!("#!{}/fifo\n", repo.path().display()),
        );
        program(env, repo.path().join("two"), "#!HOME/fifo\n");
        program(env, "home/three", "#!HOME/fifo\n");
        let three = env.home().join("three").display().to_string();
        let policy = env.session(repo.path()).args(["--policy", "fifo"]);
        let output = policy.args(["--", "/bin/true"]).output();
        assert!(output.stderr.contains("it is a FIFO"), "{output:?}");
        // A pipe of the caller has another end.
        let binary = env.binary().display();
        let line = format!(
            "{binary} run --ask deny --policy <(sleep 0.2; echo 'schema = 1') -- /bin/true"
        );
        let run = env.command("/bin/bash").args(["-c", &line]);
        run.current_dir(repo.path()).success();
        for command in ["./fifo", "./one", "./two", &three] {
            let output = env.session(repo.path()).args(["--", command]).output();
            assert!(!output.status.success(), "{command}: {output:?}");
        }
    });
}

/// Programs that people run from a workspace, and the usual installations of agents, work.
#[test]
fn f52_ordinary_programs_start() {
    for_each_user(|env| {
        let repo = env.repo();
        let at = |name: &str| repo.path().join(name);
        program(
            env,
            at("script"),
            &format!("#!/usr/bin/env sh\necho {MARKER}\n"),
        );
        program(
            env,
            at("split"),
            &format!("#!/usr/bin/env -S sh -e\necho {MARKER}\n"),
        );
        link(env, at("linked"), "script");
        link(env, at("sys"), "/bin/echo");
        link(env, at("venv/bin/python"), "/bin/sh");
        env.write(at("venv/pyvenv.cfg"), "home = /usr/bin\n");
        program(
            env,
            at("venv/bin/tool"),
            &format!("#!{}\necho {MARKER}\n", at("venv/bin/python").display()),
        );
        // npm with a prefix, yarn's links of links, an environment of pipx, a native version.
        let says = format!(
            "#!/bin/sh\ncat \"$(dirname \"$(readlink -f \"$0\")\")/data\"; echo {MARKER}\n"
        );
        let install = |bin: &str, target: &str, real: &str| {
            program(env, format!("home/{real}"), &says);
            env.write(
                Path::new(&format!("home/{real}")).with_file_name("data"),
                "data\n",
            );
            link(env, env.home().join(bin), target);
        };
        install(
            "global/bin/npm-agent",
            "../lib/node_modules/@lab/a/cli.js",
            "global/lib/node_modules/@lab/a/cli.js",
        );
        install(
            "bin/home-agent",
            "../lib/node_modules/b/cli.js",
            "lib/node_modules/b/cli.js",
        );
        install(
            "yarn/node_modules/.bin/yarn-agent",
            "../c/cli.js",
            "yarn/node_modules/c/cli.js",
        );
        link(
            env,
            env.home().join(".yarn/bin/yarn-agent"),
            env.home().join("yarn/node_modules/.bin/yarn-agent"),
        );
        install(
            ".local/bin/pipx-agent",
            "../share/pipx/venvs/d/bin/d",
            ".local/share/pipx/venvs/d/bin/d",
        );
        env.write(
            "home/.local/share/pipx/venvs/d/pyvenv.cfg",
            "home = /usr/bin\n",
        );
        install(
            "tools/native-agent",
            "../.local/share/native/versions/1/run",
            ".local/share/native/versions/1/run",
        );
        let home = env.home();
        let tries = [
            ("./script".to_owned(), None),
            ("./split".to_owned(), None),
            ("./linked".to_owned(), None),
            ("tool".to_owned(), Some(at("venv/bin"))),
            ("npm-agent".to_owned(), Some(home.join("global/bin"))),
            ("home-agent".to_owned(), Some(home.join("bin"))),
            ("yarn-agent".to_owned(), Some(home.join(".yarn/bin"))),
            ("pipx-agent".to_owned(), Some(home.join(".local/bin"))),
            ("native-agent".to_owned(), Some(home.join("tools"))),
        ];
        for (command, directory) in tries {
            let path = search_path(env, &directory.unwrap_or_else(|| at("none")));
            let output = env
                .session(repo.path())
                .env("PATH", &path)
                .args(["--", &command])
                .output();
            assert!(output.stdout.contains(MARKER), "{command}: {output:?}");
            let is_agent = command.ends_with("-agent");
            assert_eq!(
                output.stdout.contains("data"),
                is_agent,
                "{command}: {output:?}"
            );
        }
        let echo = env
            .session(repo.path())
            .args(["--", "./sys", MARKER])
            .output();
        assert!(echo.stdout.contains(MARKER), "{echo:?}");
    });
}

/// Runs a session with this policy and line, and returns its output.
fn with(env: &TestEnv, repo: &Repo, policy: &str, line: &str) -> Output {
    let policy = env.write(
        "policy.toml",
        &format!("schema = 1\n[filesystem]\n{policy}\n"),
    );
    let run = env.session(repo.path()).arg("--policy").arg(policy);
    run.line(line).output()
}

/// What policy hides is hidden in the workspace, in shares, through a link, by another name, and
/// under the name that an earlier session would give it.
#[test]
fn f50_what_policy_hides_is_hidden() {
    for_each_user(|env| {
        let repo = env.repo();
        let at = |name: &str| repo.path().join(name).display().to_string();
        env.write(repo.path().join("conf/live/secret.env"), MARKER);
        env.write("home/share/deep/hidden/file", MARKER);
        env.write("home/share/plain", MARKER);
        fs::hard_link(
            env.home().join("share/plain"),
            env.home().join("share/twin"),
        )
        .expect("same place");
        link(
            env,
            env.home().join("share/link"),
            env.home().join("share/deep/hidden"),
        );
        link(env, env.home().join("ways"), env.home().join("share/deep"));
        let look = "cat conf/live/secret.env ~/share/deep/hidden/file ~/share/plain ~/share/twin \
                    ~/share/link/file ~/ways/hidden/file 2> /dev/null";
        let count = |output: &Output| output.stdout.matches(MARKER).count();
        assert_eq!(count(&env.shell(repo.path(), look)), 6, "control");
        let policy = format!(
            "write = [\"~/share\"]\nread = [\"~/ways\"]\nhide = [\"{}\", \"~/share/link\", \"~/share/plain\"]",
            at("conf/live/secret.env")
        );
        let output = with(env, &repo, &policy, look);
        assert_eq!(count(&output), 0, "{output:?}");
        // Moving a directory above it does not reveal it, in this session or in the next.
        let moves = "mv conf moved; mv conf/live conf/l2; mv ~/share/deep ~/share/d2; \
                     rm -f conf/live/secret.env; mv conf/live/secret.env x; echo y > conf/live/secret.env; \
                     grep -r marker-of . ~/share 2> /dev/null; :";
        let output = with(env, &repo, &policy, moves);
        assert_eq!(count(&output), 0, "{output:?}");
        let output = with(env, &repo, &policy, "grep -rs marker-of . ~/share; :");
        assert_eq!(count(&output), 0, "{output:?}");
        assert_eq!(
            count(&env.shell(repo.path(), look)),
            6,
            "nothing was moved or changed"
        );
        // Files that are not hidden can be used as usual.
        let work = "echo new > conf/live/other && mv conf/live/other conf/live/o2 && echo z > ~/share/deep/z && cat conf/live/o2";
        assert_eq!(with(env, &repo, &policy, work).stdout.trim(), "new");
    });
}

/// A rule that matches nothing here is reported, but does not prevent the start.
#[test]
fn f50_what_matches_nothing_is_said() {
    for_each_user(|env| {
        let repo = env.repo();
        env.write("home/share/x", MARKER);
        let policy = "read = [\"~/share\", \"~/absent\"]\nhide = [\"~//share/x\", \"/no/such\"]";
        let output = with(env, &repo, policy, "cat ~/share/x; :");
        assert!(!output.stdout.contains(MARKER), "{output:?}");
        for said in [
            "policy.toml:3: `~/absent` in `filesystem.read` matches nothing",
            "`/no/such` in `filesystem.hide` matches nothing",
        ] {
            assert!(output.stderr.contains(said), "{output:?}");
        }
        assert!(!output.stderr.contains("~//share"), "{output:?}");
        let check = env.stockade().args(["policy", "check"]);
        let check = check.arg(env.root().join("policy.toml")).success();
        assert!(
            check
                .stderr
                .contains("`~/absent` in `filesystem.read` matches nothing"),
            "{check:?}"
        );
        let silent = env.session(repo.path()).line(":").success();
        assert_eq!(silent.stderr, "", "a preset names what some machines have");
    });
}

/// A policy in the workspace applies to this session and the next: no program inside can rewrite
/// it, replace it, or move a directory above it.
#[test]
fn l50_a_policy_in_the_workspace_stays_what_it_was() {
    for_each_user(|env| {
        let repo = env.repo();
        let text = "schema = 1\n[[deny]]\nid = \"no-id\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n";
        let attack = "for p in p.toml conf/user.toml; do echo 'schema = 1' > $p; rm -f $p; echo 'schema = 1' > new; mv new $p; done; \
                      mv conf c2; rm -rf conf; mkdir -p conf; id -u > uid || rm -f uid; :";
        let prepare = || {
            env.write(repo.path().join("p.toml"), text);
            env.write(repo.path().join("conf/user.toml"), text);
        };
        prepare();
        env.shell(repo.path(), attack).assert_success();
        assert_ne!(
            fs::read_to_string(repo.path().join("p.toml")).unwrap_or_default(),
            text,
            "control"
        );
        assert!(repo.path().join("uid").exists(), "control");
        env.shell(repo.path(), "rm -rf uid conf c2")
            .assert_success();
        prepare();
        let user = env.home().join(".config/stockade/policy.toml");
        link(env, user, repo.path().join("conf/user.toml"));
        for options in [
            &["--policy", "p.toml"][..],
            &["--policy", "./conf/../p.toml"],
            &[],
        ] {
            let run = env.session(repo.path()).args(options);
            let output = run.line(attack).output();
            for name in ["p.toml", "conf/user.toml"] {
                // Without the option, `p.toml` is an ordinary file.
                if name == "p.toml" && options.is_empty() {
                    continue;
                }
                let now = fs::read_to_string(repo.path().join(name)).unwrap_or_default();
                assert_eq!(now, text, "{options:?} {name}: {output:?}");
            }
            assert!(
                !repo.path().join("uid").exists(),
                "the policy holds: {output:?}"
            );
        }
        // Benign: work beside it succeeds.
        let run = env.session(repo.path()).args(["--policy", "p.toml"]);
        run.line("echo x > conf/other && rm conf/other && cat p.toml > /dev/null")
            .success();
    });
}

/// A policy of the user in a writable share, or the place in which the next session looks for one.
#[test]
fn f58_policies_in_a_share_are_out_of_reach() {
    for_each_user(|env| {
        let repo = env.repo();
        let policy = "write = [\"~/.config\"]";
        let attack = "echo 'schema = 1' > ~/.config/stockade/policy.toml; mv ~/.config/stockade ~/.config/s; \
                      mkdir -p ~/.config/stockade && echo 'schema = 1' > ~/.config/stockade/policy.toml; echo fine > ~/.config/other";
        // There is no such place yet, so nothing could be covered.
        let output = with(env, &repo, policy, attack);
        assert_eq!(output.code(), 125, "{output:?}");
        assert!(
            output.stderr.contains("mkdir -p ~/.config/stockade"),
            "{output:?}"
        );
        env.write("home/.config/stockade/policy.toml", "schema = 1\n# mine\n");
        with(env, &repo, policy, attack);
        let now = fs::read_to_string(env.home().join(".config/stockade/policy.toml"));
        assert_eq!(now.unwrap_or_default(), "schema = 1\n# mine\n");
        assert!(
            env.home().join(".config/other").exists(),
            "the share is one"
        );
        // The session's own policy in a share.
        let here = env.write(
            "home/share/p.toml",
            "schema = 1\n[filesystem]\nwrite = [\"~/share\"]\n",
        );
        let output = env
            .session(repo.path())
            .arg("--policy")
            .arg(here)
            .line(":")
            .output();
        assert_eq!(output.code(), 125, "{output:?}");
    });
}

/// Our own program cannot be replaced for the next session: in the workspace it is protected under
/// each of its names, and a share does not contain it.
#[test]
fn f59_our_own_program_cannot_be_replaced() {
    for_each_user(|env| {
        let repo = env.repo();
        let copy = repo.path().join("bin/stockade");
        fs::create_dir_all(repo.path().join("bin/deps")).expect("the workspace is ours");
        fs::copy(env.binary(), &copy).expect("there is room");
        env.own(&copy);
        let twin = repo.path().join("bin/deps/stockade-0a");
        fs::hard_link(&copy, &twin).expect("one file system");
        let run = |program: &Path, options: &[&str], line: &str| {
            let run = env.command(program).current_dir(repo.path());
            run.args(["run", "--ask", "deny"])
                .args(options)
                .args(["--", "/bin/sh", "-c", line])
                .output()
        };
        let before = fs::read(&copy).expect("just written");
        let attempts = "for f in bin/stockade bin/deps/stockade-0a; do \
             echo x >> $f; echo x > new && mv -f new $f; rm -f $f; truncate -s 0 $f; \
             ln -f new $f; chmod 0 $f; done; mv bin bin2; rm -rf bin; \
             mkdir -p other && echo x > other/a && mv other/a other/b && echo control";
        let output = run(&copy, &[], attempts);
        assert!(output.stdout.contains("control"), "{output:?}");
        assert!(
            output.stderr.contains("holds Stockade's own program"),
            "{output:?}"
        );
        for name in [&copy, &twin] {
            assert!(
                fs::read(name).is_ok_and(|now| now == before),
                "{}: {output:?}",
                name.display()
            );
        }
        let other = env.write(
            "policy.toml",
            "schema = 1\n[filesystem]\nwrite = [\"~/bin\"]\n",
        );
        let options = ["--policy".to_owned(), other.display().to_string()];
        let elsewhere = env.home().join("bin/stockade");
        fs::create_dir_all(env.home().join("bin")).expect("the home is ours");
        fs::remove_file(&twin).expect("the workspace is ours");
        fs::rename(&copy, &elsewhere).expect("one file system");
        env.own(&elsewhere);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let output = run(&elsewhere, &options, ":");
        assert_eq!(output.code(), 125, "{output:?}");
        assert!(output.stderr.contains("own program"), "{output:?}");
        assert_eq!(run(&elsewhere, &[], ":").code(), 0);
    });
}
