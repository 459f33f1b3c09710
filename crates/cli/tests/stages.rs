//! Rules that ask people in roles, and what an organisation requires of who answers.

use std::time::Duration;

use stockade_testkit::{
    Output, Repo, TestEnv,
    approvals::{self, Answer},
    env::under_test,
};

/// How long a session may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is asked about `uname`.
const POLICY: &str = r#"schema = 1

[stages.owner]
who = "role:code-owner"

[stages.security]
who = "role:security"
need = 2
strength = "passkey"

[stages.manager]
who = "role:security-manager"

[break_glass]
who = "role:incident-lead"
max = "30m"

[[ask]]
id = "system"
what = "exec"
command = ["uname", "**"]
stages = ["owner", "security"]
alternatives = [["manager"]]
reason_required = true
reason = "looks at the system"

[tests.system]
ask = ["exec uname -a"]
stages = ["owner", "security"]
alternatives = [["manager"]]
"#;

fn place() -> (TestEnv, Repo) {
    let env = TestEnv::new(under_test());
    let repo = env.repo();
    (env, repo)
}

fn policy(env: &TestEnv, repo: &Repo, words: &[&str]) -> Output {
    let run = env.stockade().current_dir(repo.path()).arg("policy");
    run.args(words).output()
}

#[test]
fn the_policy_commands_say_who_is_asked() {
    let (env, repo) = place();
    let file = env.write("team.toml", POLICY).display().to_string();
    policy(&env, &repo, &["check", &file])
        .assert_success()
        .assert_stdout("good, 1 rule, revision");
    let asked = policy(
        &env,
        &repo,
        &["test", "--policy", &file, "--", "exec", "uname", "-a"],
    );
    asked.assert_success();
    let lines: Vec<&str> = asked.stdout.lines().collect();
    let [verdict, rule, asks, why, change] = lines.as_slice() else {
        panic!("{}", asked.stdout);
    };
    assert_eq!(*verdict, "ask     exec uname -a");
    assert!(rule.starts_with("rule    system (session, "), "{rule}");
    let who = "owner, then two of security; or manager";
    assert_eq!(*asks, format!("asks    {who}, with a reason"));
    assert_eq!(*why, "why     looks at the system");
    assert_eq!(
        *change,
        format!("change  wait for the answer: it asks {who}")
    );
    let shown = policy(&env, &repo, &["show", "--policy", &file]);
    for line in [
        "[stages]\n",
        "  manager: 1 of role security-manager, 1 no denies, session\n",
        "  owner: 1 of role code-owner, 1 no denies, session\n",
        "  security: 2 of role security, 1 no denies, passkey\n",
        "[break_glass]\n  one of role incident-lead, for at most 30m, passkey\n",
        &format!("; asks {who}\n"),
    ] {
        shown.assert_stdout(line);
    }
    let json = policy(
        &env,
        &repo,
        &["test", "--json", "--policy", &file, "--", "exec", "uname"],
    );
    json.assert_stdout("\"review\":{\"paths\":[[{\"name\":\"owner\"")
        .assert_stdout("\"break_glass\":{\"role\":\"incident-lead\"");
    // A rule without stages says nothing of them.
    let plain = policy(&env, &repo, &["test", "--", "exec", "git", "push"]);
    assert!(!plain.stdout.contains("asks "), "{}", plain.stdout);
}

#[test]
fn a_policy_whose_test_expects_other_people_does_not_load() {
    let (env, repo) = place();
    let other = POLICY.replace(
        "stages = [\"owner\", \"security\"]\nalternatives = [[\"manager\"]]\nreason_required",
        "stages = [\"owner\"]\nreason_required",
    );
    assert_ne!(other, POLICY);
    let file = env.write("team.toml", &other).display().to_string();
    policy(&env, &repo, &["check", &file])
        .assert_code(1)
        .assert_stdout("test failed: `exec uname -a` asks `owner`, expected `owner, then security` or `manager`");
}

/// Runs a line in a session whose rule asks about `uname`.
fn asking(env: &TestEnv, repo: &Repo, text: &str, ask: &str, line: &str) -> stockade_testkit::Run {
    let file = env.write("policy.toml", text).display().to_string();
    let options = ["--ask", ask, "--policy", file.as_str()];
    env.session_with(repo.path(), &options).line(line)
}

#[test]
fn nobody_here_answers_for_people_in_roles() {
    TestEnv::each(|env, repo| {
        let line = "uname -s || /run/stockade/why";
        let refused = asking(&env, &repo, POLICY, "inbox", line).output();
        let who = "owner, then two of security; or manager";
        refused.assert_stdout(&format!("it asks {who}"));
        assert!(!refused.stdout.contains("Linux"), "{}", refused.stdout);
        assert!(approvals::pending(&env).is_empty());
        let shown = env.stockade().args(["show", "last"]).success();
        shown.assert_stdout(&format!("it asks {who}"));
        // The same question without stages waits for whoever is here.
        let keys = ["stages =", "alternatives =", "reason_required ="];
        let is_plain = |line: &&str| !keys.iter().any(|key| line.starts_with(key));
        let plain: Vec<&str> = POLICY.lines().filter(is_plain).collect();
        let plain = plain.join("\n");
        let running = asking(&env, &repo, &plain, "inbox", line).spawn();
        let begun = std::time::Instant::now();
        let asked = loop {
            if let Some(asked) = approvals::pending(&env).into_iter().next() {
                break asked;
            }
            assert!(begun.elapsed() < ASK_TIMEOUT, "{}", running.stderr());
            std::thread::sleep(Duration::from_millis(50));
        };
        let once = Answer::Allow {
            scope: "once".to_owned(),
        };
        approvals::answer(&env, &asked.id, &once).assert_success();
        running.wait().assert_success().assert_stdout("Linux");
    });
}

/// Runs `true` under an organisation that requires something.
fn required(env: &TestEnv, repo: &Repo, pin: &str, options: &[&str]) -> Output {
    let text = format!("schema = 1\n[require]\n{pin}\n");
    let file = env.write("organisation.toml", &text);
    env.session_with(repo.path(), options)
        .env("STOCKADE_ORG_POLICY", file)
        .line("true")
        .output()
}

/// Makes the machine look enrolled by its user.
fn enrol(env: &TestEnv) {
    let file = env.write(env.state().join("trust/node.json"), "{}\n");
    if let Some(trust) = file.parent() {
        env.own(trust);
    }
    env.own(&env.state());
}

#[test]
fn only_an_enrolled_machine_asks_the_server() {
    TestEnv::each(|env, repo| {
        let pin = "ask = \"server\"";
        let elsewhere = required(&env, &repo, pin, &["--ask", "inbox"]);
        elsewhere
            .assert_code(125)
            .assert_stderr("organisation.toml:3: ask must be `server` and is `inbox`; run with `--ask server` or `--ask deny`");
        required(&env, &repo, pin, &["--ask", "deny"]).assert_success();
        let alone = required(&env, &repo, pin, &["--ask", "server"]);
        alone
            .assert_code(125)
            .assert_stderr("`--ask server` needs a machine that an organisation has enrolled")
            .assert_stderr("trust/node.json");
        enrol(&env);
        required(&env, &repo, pin, &["--ask", "server"]).assert_success();
        // Nobody here can answer what has no stages.
        let options = ["--ask", "server"];
        let line = "curl -sm 5 http://unfamiliar.test/ || /run/stockade/why";
        let asked = env.session_with(repo.path(), &options).line(line).output();
        asked.assert_stdout("name no `stages`");
    });
}

#[test]
fn where_the_record_goes_is_required_at_the_start() {
    TestEnv::each(|env, repo| {
        let options = ["--ask", "deny"];
        required(&env, &repo, "journal = \"local\"", &options).assert_success();
        for place in ["server", "agent"] {
            let pin = format!("journal = \"{place}\"");
            required(&env, &repo, &pin, &options)
                .assert_code(125)
                .assert_stderr(&format!(
                    "organisation.toml:3: require.journal is `{place}`"
                ))
                .assert_stderr("trust/node.json");
        }
        for unknown in ["server-live", "cloud"] {
            let pin = format!("journal = \"{unknown}\"");
            required(&env, &repo, &pin, &options)
                .assert_code(125)
                .assert_stderr("write local, agent or server");
        }
        enrol(&env);
        required(&env, &repo, "journal = \"server\"", &options).assert_success();
        // A copy under another user needs more than what this user has written.
        required(&env, &repo, "journal = \"agent\"", &options)
            .assert_code(125)
            .assert_stderr("enrol it as root");
    });
}
