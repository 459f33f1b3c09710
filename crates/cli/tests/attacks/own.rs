//! Our own files do not exist inside, wherever they are and whatever makes the directories around
//! them visible (F55, F57, F58, P11).

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use stockade_testkit::{
    Output, TestEnv,
    approvals::{self, Answer, Asked},
    env::Repo,
    run::{Run, require_tool},
    wait,
};

use crate::attacks::for_each_user;

/// Searches for our own files below the usual places, and under any name.
const LOOK: &str = "for d in ~/.local/state/stockade ~/xdg/stockade; do cat $d/key; ls -A $d/sessions $d/agents; echo x > $d/planted; done; \
     find / -name journal.jsonl -o -name control.sock -o -name 'why.jsonl' 2> /dev/null | grep -v '^/proc'; \
     mv ~/.local/state ~/.local/s2; mv ~/.local/state/stockade ~/.local/st; cat ~/.local/s2/stockade/key ~/.local/st/key";

/// A session whose state is in its usual place, below the home.
fn run(env: &TestEnv, repo: &Repo, options: &[&str]) -> Run {
    env.stockade()
        .env_remove("STOCKADE_STATE_DIR")
        .current_dir(repo.path())
        .args(["run", "--ask", "deny", "--summary", "none"])
        .args(options)
}

fn assert_nothing(what: &str, output: &Output) {
    assert_eq!(output.stdout, "", "{what}: {output:?}");
    assert_ne!(output.code(), 125, "{what}: it started: {output:?}");
}

fn program(env: &TestEnv, path: impl AsRef<Path>, text: &str) {
    let path = env.write(path, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it was just written");
}

/// The state stays hidden from an agent beside it, from a share of the directory around it, and
/// under another name.
#[test]
fn f55_the_state_is_never_seen() {
    for_each_user(|env| {
        let repo = env.repo();
        let look = format!("#!/bin/bash\n{LOOK}\n");
        run(env, &repo, &["--", "/bin/true"]).success();
        let state = env.home().join(".local/state/stockade");
        let key = fs::read(state.join("key")).expect("a session was started");
        let control = env.shell(
            repo.path(),
            "cat ~/.local/state/stockade/key; ls ~/.local/state/stockade/sessions",
        );
        assert!(control.stdout.len() > 30, "{control:?}");
        // pip --user, npm with the user's prefix, and with the home as its prefix.
        env.write("home/.local/lib/python3.11/site-packages/x.py", "");
        program(env, "home/.local/bin/agent", &look);
        program(env, "home/lib/node_modules/agent/cli.js", &look);
        program(env, "home/.local/lib/node_modules/agent/cli.js", &look);
        for bin in ["bin", ".local/npm"] {
            env.shell(
                &env.home(),
                &format!("mkdir -p {bin} && ln -s ../lib/node_modules/agent/cli.js {bin}/agent"),
            )
            .assert_success();
        }
        for directory in [".local/bin", "bin", ".local/npm"] {
            let command = env
                .home()
                .join(directory)
                .join("agent")
                .display()
                .to_string();
            assert_nothing(directory, &run(env, &repo, &["--", &command]).output());
        }
        let shares = [
            "read = [\"~/.local\"]",
            "read = [\"~/.local/state\"]",
            "write = [\"~/.local\"]",
            "write = [\"~/.local/state\"]",
            "read = [\"~/ways\"]",
        ];
        env.shell(&env.home(), "ln -s .local/state ways")
            .assert_success();
        for share in shares {
            let policy = env.write(
                "policy.toml",
                &format!("schema = 1\n[filesystem]\n{share}\n"),
            );
            let policy = policy.display().to_string();
            let output = run(env, &repo, &["--policy", &policy]).line(LOOK).output();
            assert_nothing(share, &output);
            assert_eq!(
                fs::read(state.join("key")).ok().as_deref(),
                Some(key.as_slice()),
                "{share}"
            );
            assert!(!state.join("planted").exists(), "{share}");
        }
        let state_dir = state.display().to_string();
        let home = env.home().display().to_string();
        let refused = [
            "read = [\"~/.\"]".to_owned(),
            format!("read = [\"{home}\"]"),
            format!("write = [\"{home}/\"]"),
            format!("read = [\"{state_dir}\"]"),
            format!("write = [\"{state_dir}/sessions\"]"),
        ];
        for share in refused {
            let policy = env.write(
                "policy.toml",
                &format!("schema = 1\n[filesystem]\n{share}\n"),
            );
            let policy = policy.display().to_string();
            let output = run(env, &repo, &["--policy", &policy]).line(LOOK).output();
            assert_eq!(output.code(), 125, "{share}: {output:?}");
            assert_eq!(output.stdout, "", "{share}");
        }
    });
}

/// Another base for the state, and another name by a bind mount.
#[test]
fn f57_the_state_has_no_other_name() {
    for_each_user(|env| {
        let repo = env.repo();
        let base = env.home().join("xdg");
        let policy = env.write(
            "policy.toml",
            "schema = 1\n[filesystem]\nread = [\"~/xdg\"]\n",
        );
        let policy = policy.display().to_string();
        let output = run(env, &repo, &["--policy", &policy])
            .env("XDG_STATE_HOME", &base)
            .line(LOOK)
            .output();
        // The first of these runs made it.
        assert!(base.join("stockade/key").exists());
        let again = run(env, &repo, &["--policy", &policy])
            .env("XDG_STATE_HOME", &base)
            .line(LOOK)
            .output();
        assert_eq!((output.stdout.as_str(), again.stdout.as_str()), ("", ""));
        if !env.is_root() {
            return;
        }
        // Only root can bind-mount a home elsewhere.
        run(env, &repo, &["--", "/bin/true"]).success();
        let alias = env.root().join("alias");
        fs::create_dir(&alias).expect("it is new");
        let (home, alias) = (
            env.home().display().to_string(),
            alias.display().to_string(),
        );
        let text = format!("schema = 1\n[filesystem]\nread = [\"{alias}/.local\"]\n");
        let policy = env.write("alias.toml", &text).display().to_string();
        let binary = env.binary().display().to_string();
        let look =
            format!("cat {alias}/.local/state/stockade/key; ls {alias}/.local/state/stockade; :");
        let inside = |workspace: &str, options: &str| {
            let line = format!(
                "mount --bind {home} {alias} && ls {alias}/.local/state/stockade/key >&2 && cd {workspace} && \
                 exec {binary} run --ask deny --summary none {options} -- /bin/sh -c '{look}'"
            );
            env.command("unshare")
                .env_remove("STOCKADE_STATE_DIR")
                .args(["--mount", "/bin/sh", "-c", &line])
                .output()
        };
        let output = inside(
            &repo.path().display().to_string(),
            &format!("--policy {policy}"),
        );
        assert_nothing("alias", &output);
        let output = inside(&alias, "");
        assert_eq!(output.code(), 125, "the home by another name: {output:?}");
        let output = inside(&format!("{alias}/.local/state"), "");
        assert_eq!(output.code(), 125, "around the state: {output:?}");
    });
}

/// Asks about one program.
const ASK_ID: &str = "schema = 1\n[[ask]]\nid = \"ask-id\"\nwhat = \"exec\"\ncommand = [\"id\", \"**\"]\nreason = \"lab\"\n";

/// Questions can only be answered from the supervisor's own namespaces: every session has different
/// ones, whichever user it belongs to.
#[test]
fn p11_nobody_of_another_world_answers() {
    require_tool("unshare");
    for_each_user(|env| {
        let repo = env.repo();
        let policy = env.write("ask.toml", ASK_ID).display().to_string();
        let running = env
            .session_with(repo.path(), &["--ask", "inbox", "--policy", &policy])
            .line("id -u > answered || rm -f answered")
            .spawn();
        let asked = wait::until(Duration::from_secs(20), || approvals::pending(env).pop());
        let asked = asked.expect("it is asked about");
        let binary = env.binary().display().to_string();
        let elsewhere = |namespaces: &[&str]| {
            let run = env.command("unshare").args(namespaces).arg(&binary);
            run.args(["approvals", "allow", &asked.id, "--scope", "once"])
                .output()
        };
        let mut worlds = vec![
            vec!["--user", "--map-root-user"],
            vec![
                "--user",
                "--map-root-user",
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
            ],
        ];
        if env.is_root() {
            worlds.extend([vec!["--mount"], vec!["--pid", "--fork"]]);
        }
        for world in worlds {
            let output = elsewhere(&world);
            assert_ne!(output.code(), 0, "{world:?}: {output:?}");
            assert!(output.stderr.contains("namespace"), "{world:?}: {output:?}");
        }
        assert_eq!(approvals::pending(env).len(), 1, "it is still open");
        // Control: from a second terminal in the same namespaces it works.
        let allow = |_: &Asked| Answer::Allow {
            scope: "once".into(),
        };
        let (output, _) = approvals::answer_all(env, running, allow);
        assert!(repo.path().join("answered").exists(), "{output:?}");
    });
}
