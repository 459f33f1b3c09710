//! Options on the command line of `run` have their stated effect: arguments of presets, variables,
//! hosts.

use std::path::Path;

use stockade_testkit::{TestEnv, env::User, lab::HttpServer};

/// Tries `body` as every user that the tests can become.
fn for_each_user(body: impl Fn(&TestEnv)) {
    for user in User::all() {
        body(&TestEnv::of(user.as_deref()));
    }
}

/// Writes a program below the home's own programs that prints its arguments.
fn program(env: &TestEnv, path: &str) -> String {
    let at = env.write(path, "#!/bin/sh\nfor word; do echo \"<$word>\"; done\n");
    env.shell(env.root(), &format!("chmod 755 {}", at.display()))
        .assert_success();
    at.display().to_string()
}

fn run(
    env: &TestEnv,
    workspace: &Path,
    options: &[&str],
    command: &[&str],
) -> stockade_testkit::Run {
    env.session(workspace).args(options).arg("--").args(command)
}

/// A preset's arguments are only for its agent, at any place in the command.
#[test]
fn arguments_of_a_preset_are_for_its_agent() {
    for_each_user(|env| {
        let repo = env.repo();
        let other = run(
            env,
            repo.path(),
            &["--profile", "codex"],
            &["sh", "-c", "echo hi"],
        );
        assert_eq!(other.output().assert_success().stdout, "hi\n");
        let agent = program(env, "home/.local/bin/codex");
        let line = format!("exec {agent} exec hi");
        for command in [
            &[agent.as_str(), "exec", "hi"][..],
            &["env", "A=b", &agent, "exec", "hi"],
            &["timeout", "60", &agent, "exec", "hi"],
            &["sh", "-c", &line],
        ] {
            // The preset is also selected without an option.
            let output = run(env, repo.path(), &[], command).output();
            output.assert_success();
            assert!(
                output.stdout.contains("<sandbox_mode=danger-full-access>"),
                "{command:?}: {output:?}"
            );
            assert!(output.stdout.ends_with("<exec>\n<hi>\n"), "{output:?}");
            let kept = run(env, repo.path(), &["--own-questions"], command).output();
            assert!(!kept.stdout.contains("approval_policy"), "{kept:?}");
            assert!(
                output.stdout.contains("approval_policy=never"),
                "{output:?}"
            );
        }
    });
}

/// `--env` passes the named variable, whatever its name, and nothing else.
#[test]
fn a_variable_passes_when_it_is_given() {
    for_each_user(|env| {
        let repo = env.repo();
        let show = &["sh", "-c", "echo $LAB_KEY $OTHER_KEY $IS_SANDBOX"];
        let with = |options: &[&str]| {
            let run = run(env, repo.path(), options, show);
            let variables = [
                ("LAB_KEY", "mine"),
                ("OTHER_KEY", "no"),
                ("IS_SANDBOX", "0"),
            ];
            run.envs(variables).output()
        };
        assert_eq!(with(&[]).stdout, "\n", "the control");
        assert_eq!(with(&["--env", "LAB_KEY"]).stdout, "mine\n");
        assert_eq!(with(&["--env", "LAB_KEY=a b=c"]).stdout, "a b=c\n");
        // A value that a preset sets is a default.
        let claude = with(&["--profile", "claude"]);
        assert_eq!(claude.stdout, "1\n", "{claude:?}");
        let own = with(&["--profile", "claude", "--env", "IS_SANDBOX"]);
        assert_eq!(own.stdout, "0\n", "{own:?}");
        let absent = with(&["--env", "NO_SUCH"]);
        absent
            .assert_success()
            .assert_stderr("--env NO_SUCH: there is no such variable here");
        for (wrong, why) in [
            ("HOME=/x", "set by the boundary"),
            ("A-B=c", "expected the name of a variable"),
        ] {
            let refused = with(&["--env", wrong]);
            refused.assert_code(125).assert_stderr(why);
        }
        // Its value is not in any printed policy or record.
        let value = "value-that-is-in-no-record";
        let given = format!("LAB_KEY={value}");
        let quiet = run(env, repo.path(), &["--env", &given], &["true"]).output();
        assert!(!quiet.assert_success().stderr.contains(value), "{quiet:?}");
        let layers = env
            .record()
            .iter()
            .map(|e| e.json.to_string())
            .collect::<String>();
        assert!(layers.contains("command line"), "{layers}");
    });
}

/// `--allow-host` is a rule of the session: no question, and nothing beyond its text.
#[test]
fn a_host_is_allowed_when_it_is_given() {
    for_each_user(|env| {
        let repo = env.repo();
        let server = HttpServer::start();
        let port = server.port();
        let policy = env.write(
            "policy.toml",
            &format!(
                "schema = 1\n[network.hosts]\n\"docs.test\" = \"127.0.0.1\"\n[[ask]]\nid = \"lab\"\n\
                 what = \"net\"\nhosts = [\"**\"]\nports = [{port}]\n"
            ),
        );
        let policy = policy.display().to_string();
        let get =
            format!("curl -s -m 20 -o /dev/null -w '%{{http_code}}\\n' http://docs.test:{port}/");
        let with = |options: &[&str]| {
            let options = [&["--policy", policy.as_str()], options].concat();
            run(env, repo.path(), &options, &["sh", "-c", &get]).output()
        };
        assert_eq!(with(&[]).stdout, "000\n", "nobody to ask");
        let given = format!("docs.test:{port},private");
        let given_one = with(&["--allow-host", &given]);
        assert_eq!(given_one.stdout, "200\n", "{given_one:?}");
        let public = format!("docs.test:{port}");
        let refused = with(&["--allow-host", &public]);
        assert_ne!(
            refused.stdout, "200\n",
            "its address is private: {refused:?}"
        );
        assert_eq!(
            with(&["--allow-host", "docs.test"]).stdout,
            "000\n",
            "another port"
        );
        let denied = env.write(
            "deny.toml",
            "schema = 1\n[[deny]]\nid = \"no\"\nwhat = \"net\"\nhosts = [\"docs.test\"]\n",
        );
        let denied = denied.display().to_string();
        let refused = with(&["--policy", &denied, "--allow-host", &given]);
        assert_ne!(refused.stdout, "200\n", "no allow lifts a deny");
        for wrong in ["https://docs.test/", "docs.test:0", "*.com", "**"] {
            let refused = with(&["--allow-host", wrong]);
            assert_eq!(refused.code(), 125, "{wrong}: {refused:?}");
        }
    });
}

/// Important variables that are withheld are listed once, with the option that passes them.
#[test]
fn variables_that_matter_and_are_withheld_are_named() {
    for_each_user(|env| {
        let repo = env.repo();
        env.write(
            "home/.codex/config.toml",
            "[model_providers.lab]\nenv_key = \"LAB_KEY\"\n",
        );
        let with = |options: &[&str], command: &str| {
            let run = run(env, repo.path(), options, &[command]);
            let variables = [("LAB_KEY", "secret-value"), ("OTHER_KEY", "x")];
            run.envs(variables).output()
        };
        let agent = program(env, "home/.local/bin/codex");
        let named = with(&[], &agent);
        let line = "LAB_KEY (~/.codex/config.toml names it)";
        named.assert_success().assert_stderr(line);
        assert_eq!(named.stderr.matches(line).count(), 1, "{named:?}");
        assert!(named.stderr.contains("--env "), "{named:?}");
        for kept in ["secret-value", "OTHER_KEY"] {
            assert!(!named.stderr.contains(kept), "{named:?}");
        }
        let passed = with(&["--env", "LAB_KEY"], &agent);
        assert!(!passed.stderr.contains("LAB_KEY"), "{passed:?}");
        // Another command has no such configuration.
        let other = with(&[], "true");
        assert!(!other.stderr.contains("LAB_KEY"), "{other:?}");
    });
}

/// A model server of the machine in the agent's configuration is reported with the option that
/// offers it.
#[test]
fn local_model_servers_are_named() {
    for_each_user(|env| {
        let repo = env.repo();
        let agent = program(env, "home/.local/bin/codex");
        let start = || run(env, repo.path(), &[], &[&agent]).output();
        assert!(!start().stderr.contains("--service"), "the control");
        env.write(
            "home/.codex/config.toml",
            "[model_providers.ollama]\nbase_url = \"http://127.0.0.1:11434/v1\"\n",
        );
        let named = start();
        let line = "~/.codex/config.toml names a server of this machine at localhost:11434";
        named.assert_success().assert_stderr(line);
        named.assert_stderr("--service localhost:11434");
    });
}
