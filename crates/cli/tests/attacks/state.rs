//! What one session leaves for the next one and for the caller (F03, L51, L54), and what root's own
//! sessions and presets hide (S50, S52).

use std::{fs, os::unix::fs::PermissionsExt, os::unix::fs::symlink};

use stockade_testkit::TestEnv;

use crate::attacks::for_each_user;

/// The state of an agent for the workspace of one test.
fn kept(env: &TestEnv, preset: &str) -> std::path::PathBuf {
    let base = env.state().join("agents").join(preset);
    let workspace = fs::read_dir(base)
        .expect("a session of it ran")
        .flatten()
        .next();
    workspace.expect("it has a workspace").path()
}

/// Whatever a session leaves in the place of the user's configuration, the next one starts with the
/// user's files.
#[test]
fn l51_no_session_keeps_the_next_from_starting() {
    for_each_user(|env| {
        let repo = env.repo();
        env.write("home/.codex/config.toml", "mine = 1\n");
        env.write("home/.codex/prompts/a.md", "mine\n");
        // The preset's arguments after `sh` must not matter here.
        let run = |line: &str| {
            let script = repo.path().join("try.sh");
            env.write(&script, &format!("#!/bin/sh\n{line}\n"));
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("just written");
            env.session(repo.path())
                .args(["--profile", "codex", "--", "./try.sh"])
                .output()
        };
        let tricks = [
            "cd ~/.codex && rm -f config.toml && mkdir -p config.toml/x && chmod 0 config.toml",
            "cd ~/.codex && rm -rf config.toml && mkfifo config.toml",
            "cd ~/.codex && rm -rf prompts config.toml && ln -s /etc prompts && ln -s /etc/passwd config.toml",
            "cd ~/.codex && chmod 0 prompts; chmod 0 .",
            "cd ~/.codex && rm -rf prompts && echo x > prompts && touch -d 2099-01-01 prompts",
            "cd ~/.codex && touch -d 2099-01-01 config.toml && ln config.toml .stockade-new",
        ];
        for (number, trick) in tricks.iter().enumerate() {
            run(trick);
            // The user's own change wins in any case.
            let mine = format!("mine = {}\n", number + 2);
            env.write("home/.codex/config.toml", &mine);
            let next = run("cat ~/.codex/config.toml ~/.codex/prompts/a.md");
            assert_eq!(next.stdout, format!("{mine}mine\n"), "{trick}: {next:?}");
        }
        // A change by the agent alone stays, and nothing of it is visible outside.
        run("echo agent > ~/.codex/config.toml; echo agent > ~/.codex/prompts/b.md");
        let next = run("cat ~/.codex/config.toml ~/.codex/prompts/b.md");
        assert_eq!(next.stdout, "agent\nagent\n", "{next:?}");
        assert!(!env.home().join(".codex/prompts/b.md").exists());
        assert!(kept(env, "codex").join("__.codex").is_dir());
    });
}

/// The file with the session's id is written completely, not through a link, and nowhere else.
#[test]
fn f03_a_session_file_is_no_way_out() {
    for_each_user(|env| {
        let repo = env.repo();
        let victim = env.write("home/victim", "precious\n");
        let at = |name: &str| repo.path().join(name);
        let run = |file: &str| {
            let run = env.stockade().current_dir(repo.path());
            run.args([
                "run",
                "--ask",
                "deny",
                "--session-file",
                file,
                "--",
                "/bin/true",
            ])
            .output()
        };
        symlink(&victim, at("id")).expect("it is new");
        symlink(env.home(), at("out")).expect("it is new");
        env.shell(repo.path(), "mkfifo fifo; mkdir directory sub")
            .assert_success();
        let absolute = at("out/id").display().to_string();
        for file in [
            "id",
            "./id",
            "out/victim",
            "out/new",
            "fifo",
            "directory",
            "sub/../out/x",
            &absolute,
            "/dev/null",
        ] {
            let output = run(file);
            assert_eq!(output.code(), 125, "{file}: {output:?}");
            assert!(output.stderr.contains("session file"), "{file}: {output:?}");
        }
        assert_eq!(
            fs::read_to_string(&victim).expect("it is there"),
            "precious\n"
        );
        assert!(!env.home().join("new").exists());
        // Benign: a new file, an existing one, and one below the workspace.
        fs::write(at("sub/old"), "of an earlier session\n").expect("the workspace is ours");
        env.own(&at("sub/old"));
        let outside = env.home().join("file").display().to_string();
        for file in ["sub/id", "sub/old", outside.as_str()] {
            let output = run(file);
            assert_eq!(output.code(), 0, "{file}: {output:?}");
            let id = fs::read_to_string(at(file)).expect("it was written");
            assert_eq!(id.trim().len(), 16, "{id}");
        }
        let left = fs::read_dir(at("sub")).expect("it is there").count();
        assert_eq!(left, 2, "nothing else is left");
    });
}

/// Files of this machine that other users cannot read, root's own session cannot read either, and
/// the tables of the kernel's memory are closed to every session.
#[test]
fn s52_a_session_of_root_sees_no_more_than_others() {
    for_each_user(|env| {
        let repo = env.repo();
        let look = "find /etc /opt /usr/local ! -perm -o+r -type f -size +0 -readable 2> /dev/null | head -n 1; \
                    cat /proc/kpagecount /proc/kpageflags /proc/slabinfo /proc/vmallocinfo 2> /dev/null | head -c 8 | wc -c | grep -v '^0$'; :";
        if env.is_root() {
            let control = env.shell(repo.path(), look);
            assert!(control.stdout.lines().count() >= 2, "{control:?}");
        }
        let inside = env.session(repo.path()).line(look).success();
        assert_eq!(inside.stdout, "", "{inside:?}");
        // Benign: files that everyone reads.
        let work = "cat /etc/passwd /etc/hosts > /dev/null && ls /usr/local /opt > /dev/null && cat /proc/meminfo > /dev/null";
        env.session(repo.path()).line(work).success();
    });
}

/// The preset shows configuration without its credentials, and git works with the rest.
#[test]
fn s50_configuration_is_shown_without_credentials() {
    for_each_user(|env| {
        let repo = env.repo();
        env.write(
            "home/.gitconfig",
            "[user]\n\tname = Lab\n\temail = lab@good.test\n[credential]\n\thelper = store\n\
             [http \"https://good.test\"]\n\textraheader = AUTHORIZATION: basic marker-secret\n\
             [url \"https://x:marker-secret@good.test/\"]\n\tinsteadOf = lab:\n[alias]\n\tst = status\n",
        );
        env.write(
            "home/.cargo/config.toml",
            "[build]\njobs = 2\n[registry]\ntoken = \"marker-secret\"\n",
        );
        env.write(
            "home/.config/git/config",
            "[github]\n\ttoken = marker-secret\n[core]\n\tabbrev = 9\n",
        );
        env.write(
            "home/.local/share/uv/credentials/credentials.toml",
            "marker-secret",
        );
        let look = "cat ~/.gitconfig ~/.cargo/config.toml ~/.config/git/config ~/.local/share/uv/credentials/*; git config user.name; git config alias.st";
        let control = env.shell(repo.path(), look);
        assert_eq!(
            control.stdout.matches("marker-secret").count(),
            5,
            "{control:?}"
        );
        let inside = env.session(repo.path()).line(look).output();
        assert!(!inside.stdout.contains("marker-secret"), "{inside:?}");
        for kept in ["Lab", "jobs = 2", "abbrev = 9", "status"] {
            assert!(inside.stdout.contains(kept), "{kept}: {inside:?}");
        }
        // A policy that names the file means it.
        let policy = env.write(
            "policy.toml",
            "schema = 1\n[filesystem]\nread = [\"~/.gitconfig\"]\n",
        );
        let run = env.session(repo.path()).arg("--policy").arg(policy);
        let named = run.line("cat ~/.gitconfig").output();
        assert!(named.stdout.contains("marker-secret"), "{named:?}");
    });
}
