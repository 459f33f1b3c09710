//! An agent's state between its sessions: which side's change stays, logins on both sides, and the
//! commands with which a person manages it.

use std::{fs, os::unix::fs::symlink};

use stockade_testkit::{Output, Repo, TestEnv};

/// An agent's sessions in one workspace, and the user's own files.
struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    fn each(body: impl Fn(&Self)) {
        TestEnv::each(|env, repo| body(&Self { env, repo }));
    }

    /// Runs a shell command line in a session of codex.
    fn inside(&self, line: &str) -> Output {
        let run = self.env.session(self.repo.path());
        run.args(["--profile", "codex"]).line(line).success()
    }

    /// Runs `stockade state`, from the workspace.
    fn state(&self, words: &[&str]) -> Output {
        let run = self.env.stockade().current_dir(self.repo.path());
        run.arg("state").args(words).output()
    }

    fn mine(&self, name: &str, text: &str) {
        self.env.write(format!("home/.codex/{name}"), text);
    }

    /// Has the login in codex's own file inside, as without credentials that stay outside.
    fn has_login_inside(&self) {
        let policy = "schema = 1\n[[login]]\nid = \"codex-login\"\ninside = true\n";
        self.env.write("home/.config/stockade/policy.toml", policy);
    }

    fn own(&self, name: &str) -> String {
        fs::read_to_string(self.env.home().join(".codex").join(name)).unwrap_or_default()
    }

    fn listed(&self) -> serde_json::Value {
        let listed = self.state(&["list", "--json"]);
        serde_json::from_str(&listed.assert_success().stdout).unwrap_or_default()
    }
}

const LOGIN: &str = r#"{"tokens":{"access_token":"a1","refresh_token":"r1","account_id":"me"}}"#;

/// A login with one of its texts changed.
fn login(from: &str, to: &str) -> String {
    LOGIN.replace(from, to)
}

/// Content decides: a change on one side only is copied, and a change on both sides is reported.
#[test]
fn whose_change_stays_is_decided_by_content() {
    Place::each(|place| {
        place.mine("config.toml", "model = \"m\"\n");
        place.mine("prompts/a.md", "one\n");
        place.inside("touch -d 2099-01-01 ~/.codex/config.toml ~/.codex/prompts/a.md");
        place.mine("config.toml", "model = \"m9\"\n");
        place.mine("prompts/a.md", "two\n");
        let arrived = place.inside("cat ~/.codex/config.toml ~/.codex/prompts/a.md");
        assert_eq!(arrived.stdout, "model = \"m9\"\ntwo\n", "{arrived:?}");
        // Keys that different sides changed are both there.
        place.inside(
            "echo 'trusted = true' >> ~/.codex/config.toml; echo agent > ~/.codex/prompts/a.md",
        );
        place.mine("config.toml", "model = \"m10\"\n");
        place.mine("prompts/a.md", "three\n");
        let listed = place.listed();
        assert_eq!(listed["differences"][0]["standing"], "both", "{listed}");
        let both = place.inside("cat ~/.codex/config.toml ~/.codex/prompts/a.md");
        assert_eq!(both.stdout, "model = \"m10\"\ntrusted = true\nagent\n");
        let said = "you changed ~/.codex/prompts/a.md, and so did the agent: its own stays; \
                    `stockade state reset codex` takes yours";
        assert!(both.stderr.contains(said), "{both:?}");
        assert!(
            !place.inside("true").stderr.contains("prompts/a.md"),
            "it is said once"
        );
        // A person resets to his own files; the agent's other files stay.
        place.inside("echo talk > ~/.codex/history");
        let refused = place.state(&["reset", "codex"]);
        refused.assert_code(1).assert_stderr("give --yes");
        place.state(&["reset", "codex", "--yes"]).assert_success();
        let reset = place.inside("cat ~/.codex/config.toml ~/.codex/prompts/a.md ~/.codex/history");
        assert_eq!(reset.stdout, "model = \"m10\"\nthree\ntalk\n");
        // Or everything is removed, even what the agent locked.
        place.inside(
            "mkdir -p ~/.codex/x/y && touch ~/.codex/x/y/z && chmod 0 ~/.codex/x/y ~/.codex/x",
        );
        place.state(&["reset", "--all", "--yes"]).assert_success();
        assert_eq!(place.listed(), serde_json::Value::Null);
        let anew = place.inside("ls ~/.codex; cat ~/.codex/history 2> /dev/null || echo gone");
        assert!(anew.stdout.ends_with("gone\n"), "{anew:?}");
    });
}

/// A login is refreshed inside and becomes valid outside when a person copies it; a logout also
/// affects the copies.
#[test]
fn a_login_is_valid_on_both_sides() {
    Place::each(|place| {
        place.has_login_inside();
        place.mine("auth.json", LOGIN);
        let same = place.state(&["copy", "codex", "--yes"]);
        same.assert_code(3);
        place.inside("true");
        place.state(&["copy", "codex", "--yes"]).assert_success();
        let fresh = login("a1", "a2").replace("r1", "r2");
        let refresh = format!("printf %s '{fresh}' > ~/.codex/auth.json");
        let refreshed = place.inside(&refresh);
        let said = "the login of ~/.codex/auth.json was refreshed inside";
        assert!(refreshed.stderr.contains(said), "{refreshed:?}");
        assert_eq!(place.listed()["refreshed_logins"][0], "~/.codex/auth.json");
        assert_eq!(
            place.own("auth.json"),
            LOGIN,
            "nothing comes back by itself"
        );
        let asked = place.state(&["copy", "codex"]);
        asked
            .assert_code(1)
            .assert_stderr("tokens.access_token, tokens.refresh_token");
        assert_eq!(place.own("auth.json"), LOGIN);
        place.state(&["copy", "codex", "--yes"]).assert_success();
        let own: serde_json::Value =
            serde_json::from_str(&place.own("auth.json")).unwrap_or_default();
        let expected: serde_json::Value = serde_json::from_str(&fresh).unwrap_or_default();
        assert_eq!(own, expected);
        // A new login outside is the one inside; without a login outside there is none inside.
        place.mine("auth.json", &login("a1", "a3"));
        let inside = place.inside("cat ~/.codex/auth.json");
        assert_eq!(inside.stdout, login("a1", "a3"));
        place.inside(&refresh);
        fs::remove_file(place.env.home().join(".codex/auth.json")).expect("it is there");
        let out = place.inside("ls ~/.codex/auth.json 2> /dev/null || echo logged out");
        assert_eq!(out.stdout, "logged out\n");
    });
}

/// What code inside writes into the login file reaches the user's own file only as tokens of the
/// same login.
#[test]
fn no_file_of_a_session_becomes_the_users() {
    Place::each(|place| {
        place.has_login_inside();
        let victim = place.env.write("home/victim", "precious\n");
        place.mine("auth.json", LOGIN);
        place.mine("config.toml", "model = \"m\"\n");
        for (number, hostile) in [
            login("\"me\"", "\"stranger\""),
            login("\"a1\"", "\"a2\\u001b[2J\""),
            login("\"a1\"", "{\"run\":\"sh\"}"),
            login(
                "\"tokens\"",
                "\"base_url\":\"http://stranger.test\",\"tokens\"",
            ),
            "[]".to_owned(),
            "{".to_owned(),
        ]
        .iter()
        .enumerate()
        {
            place.inside(&format!("cat > ~/.codex/auth.json <<'END'\n{hostile}\nEND"));
            let refused = place.state(&["copy", "codex", "--yes"]);
            assert!(
                refused.stderr.contains("nothing is taken"),
                "{number}: {refused:?}"
            );
            assert_eq!(place.own("auth.json"), LOGIN, "{hostile}");
        }
        let victim_path = victim.display();
        for trick in [
            format!("ln -sf {victim_path} ~/.codex/auth.json"),
            "rm ~/.codex/auth.json; mkfifo ~/.codex/auth.json".to_owned(),
            "rm -rf ~/.codex/auth.json; mkdir ~/.codex/auth.json".to_owned(),
        ] {
            place.inside(&trick);
            place.state(&["copy", "codex", "--yes"]).assert_success();
            assert_eq!(place.own("auth.json"), LOGIN, "{trick}");
        }
        assert_eq!(place.own("config.toml"), "model = \"m\"\n");
        assert_eq!(
            fs::read_to_string(&victim).unwrap_or_default(),
            "precious\n"
        );
        // A reset does not follow a link of the agent's either.
        let outside = place.env.home().join("outside");
        fs::create_dir_all(&outside).expect("the home of a test is writable");
        place.env.own(&outside);
        place.env.write("home/outside/a.md", "precious\n");
        place.mine("prompts/a.md", "mine\n");
        place.inside("true");
        let base = place.env.state().join("agents/codex");
        let key = fs::read_dir(base)
            .expect("it ran")
            .flatten()
            .next()
            .expect("it ran");
        let prompts = key.path().join("__.codex/prompts");
        fs::remove_dir_all(&prompts).expect("it was seeded");
        symlink(&outside, &prompts).expect("it is gone");
        place.state(&["reset", "codex", "--yes"]).assert_success();
        assert!(outside.join("a.md").exists());
    });
}

/// The agent finds the text about the boundary in its instructions, after the user's own, which do
/// not change.
#[test]
fn an_agent_is_told_of_its_boundary() {
    Place::each(|place| {
        let read = "cat ~/.codex/AGENTS.md";
        let alone = place.inside(read);
        assert!(
            alone.stdout.contains("/run/stockade/boundary.md"),
            "{alone:?}"
        );
        place.mine("AGENTS.md", "be brief\n");
        let both = place.inside(read);
        assert!(both.stdout.starts_with("be brief\n"), "{both:?}");
        assert!(both.stdout.contains("/run/stockade/why"), "{both:?}");
        assert_eq!(place.own("AGENTS.md"), "be brief\n");
        // The files that it mentions exist.
        place.inside("test -s /run/stockade/boundary.md && test -x /run/stockade/why");
        let listed = place.listed();
        assert_eq!(listed["differences"], serde_json::json!([]), "{listed}");
    });
}

/// State that a session uses is not reset.
#[test]
fn what_a_session_uses_is_not_reset() {
    Place::each(|place| {
        place.mine("config.toml", "model = \"m\"\n");
        let run = place.env.session(place.repo.path());
        let running = run
            .args(["--profile", "codex"])
            .line("touch ready; sleep 20")
            .spawn();
        let ready = place.repo.path().join("ready");
        stockade_testkit::wait::until_true(std::time::Duration::from_secs(10), || ready.exists());
        let refused = place.state(&["reset", "--yes"]);
        running.signal(rustix::process::Signal::TERM);
        running.wait();
        refused.assert_code(3).assert_stderr("end it first");
        place.state(&["reset", "--yes"]).assert_success();
    });
}
