//! Policy files as the commands treat them: none is skipped, none can control the terminal, and the
//! verdict on a tried request is that of a run.

use std::{fs, os::unix::fs::symlink};

use stockade_testkit::{
    Output, Repo, Run, TestEnv, UNATTENDED, env::under_test, lab::HttpServer, run::require_tool,
};

struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    fn new() -> Self {
        let env = TestEnv::new(under_test());
        let repo = env.repo();
        Self { env, repo }
    }

    fn stockade(&self) -> Run {
        self.env.stockade().current_dir(self.repo.path())
    }

    fn policy(&self, words: &[&str]) -> Output {
        self.stockade().arg("policy").args(words).output()
    }
}

/// Text that a terminal obeys or hides: CSI, OSC with BEL, C1, a bidirectional override.
const HOSTILE: &str = "\\u001b[2J \\u001b]0;pwn\\u0007 \\u009b2J rev\\u202e line\\nbreak";

/// Ends the test if `output` has anything that a terminal obeys, or lines from the file.
#[track_caller]
fn assert_harmless(output: &Output) {
    let bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(bad), "{text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("break")),
            "{text}"
        );
    }
}

/// The same, if part of it must be shown.
#[track_caller]
fn assert_escaped(output: &Output) {
    assert_harmless(output);
    let all = format!("{}{}", output.stdout, output.stderr);
    assert!(all.contains("\\u{1b}"), "nothing hostile was shown: {all}");
}

#[test]
fn mistakes_of_a_hostile_policy_are_harmless() {
    let place = Place::new();
    let files = [
        format!("schema = 1\n\"{HOSTILE}\" = 1\n"),
        format!("schema = 1\n[limits]\nmemory = \"{HOSTILE}\"\n"),
        format!("schema = 1\nextends = [\"{HOSTILE}\"]\n"),
        format!("schema = 1\n[[deny]]\nid = \"{HOSTILE}\"\nwhat = \"{HOSTILE}\"\nreason = \"r\"\n"),
        format!(
            "schema = 1\n[[deny]]\nid = \"d\"\nwhat = \"net\"\nhosts = [\"{HOSTILE}\"]\nreason = \"r\"\n"
        ),
        format!("schema = 1\n[tests.\"{HOSTILE}\"]\nallow = [\"{HOSTILE}\"]\n"),
        format!("schema = 1\n[tests.t]\nallow = [\"net {HOSTILE}\"]\n"),
        // The failing test quotes the reason of the rule.
        format!(
            "schema = 1\n[[deny]]\nid = \"d\"\nwhat = \"exec\"\ncommand = [\"x\"]\n\
             reason = \"{HOSTILE}\"\n[tests.t]\nallow = [\"exec x\"]\n"
        ),
    ];
    for text in files {
        let file = place.env.write("hostile.toml", &text).display().to_string();
        let check = place.policy(&["check", &file]);
        check.assert_code(1);
        assert_escaped(&check);
        assert_escaped(&place.policy(&["show", "--policy", &file]));
        let run = place
            .stockade()
            .args(["run", "--policy", &file, "--", "true"]);
        let output = run.output();
        output.assert_code(125);
        assert_escaped(&output);
    }
    // In other places than strings, too.
    let raw = "schema = 1\n# \u{1b}[2J\u{202e}\n\u{1b}[2J = 1\n";
    let raw = place.env.write("hostile.toml", raw).display().to_string();
    assert_harmless(&place.policy(&["check", &raw]));
    // The name of a file is foreign text too.
    let named = place.env.write("a\u{1b}[2J\u{202e}.toml", "schema = 2\n");
    let named = named.display().to_string();
    assert_escaped(&place.policy(&["check", &named]));
    assert_escaped(&place.policy(&["check", &format!("{named}.none")]));
}

#[test]
fn what_a_hostile_policy_says_is_harmless() {
    let place = Place::new();
    let text = format!(
        "schema = 1\n[[deny]]\nid = \"x\"\nwhat = \"exec\"\ncommand = [\"uname\", \"{HOSTILE}*\"]\n\
         reason = \"{HOSTILE}\"\n[[deny]]\nid = \"y\"\nwhat = \"file\"\npaths = [\"{HOSTILE}\", \"no\"]\n\
         reason = \"{HOSTILE}\"\n[[allow]]\nid = \"z\"\nwhat = \"net\"\nhosts = [\"near.test\"]\n\
         paths = [\"/{HOSTILE}\"]\nmethods = [\"GET\"]\nreason = \"{HOSTILE}\"\n[environment]\n\
         set = {{ FOO = \"{HOSTILE}\" }}\n[filesystem]\nread = [\"/{HOSTILE}\"]\n"
    );
    let file = place.env.write("hostile.toml", &text).display().to_string();
    place.policy(&["check", &file]).assert_success();
    for options in [&[][..], &["--origin"], &["--cedar"]] {
        let mut words = vec!["show", "--policy", &file];
        words.extend(options);
        let output = place.policy(&words);
        output.assert_success();
        assert_escaped(&output);
    }
    for request in [
        &["file", "write", "no"][..],
        &["net", "GET", "http://near.test/x"],
        &["file", "write", "\u{1b}[2J\u{202e}"],
        &["exec", "\u{1b}[2J\u{202e}"],
        &["bogus\u{1b}", "\u{1b}[2J"],
        &["net", "\u{1b}[2J"],
    ] {
        let mut words = vec!["test", "--policy", &file, "--"];
        words.extend(request);
        assert_harmless(&place.policy(&words));
    }
    let run = place
        .stockade()
        .args(["run", "--ask", "deny", "--policy", &file]);
    let output = run.line("echo x > no; /run/stockade/why").output();
    assert_escaped(&output);
    let plan = place
        .stockade()
        .args(["run", "--plan", "--policy", &file, "--", "true"]);
    assert_harmless(&plan.output());
    assert_escaped(&place.stockade().arg("show").output());
    let events = place.stockade().args(["events", "--json"]).output();
    let record = stockade_testkit::events::Event::parse_lines(&events.stdout);
    let refused = record.iter().find(|event| event.is_refusal());
    let refused = refused.expect("the write was refused");
    let number = refused.field("decision").to_owned();
    let explained = place.policy(&["explain", &number]);
    explained.assert_success();
    assert_escaped(&explained);
}

#[test]
fn a_policy_that_is_a_dangling_link_is_no_absent_policy() {
    let place = Place::new();
    let file = place.env.home().join(".config/stockade/policy.toml");
    let run = || place.stockade().args(UNATTENDED).args(["--", "true"]);
    run().success();
    let folder = file.parent().expect("it has one");
    fs::create_dir_all(folder).expect("the home is ours");
    symlink("/nowhere/policy.toml", &file).expect("the home is ours");
    for output in [run().output(), place.policy(&["show"])] {
        assert_ne!(output.code(), 0, "{output:?}");
        output.assert_stderr("cannot read the policy `~/.config/stockade/policy.toml`");
    }
    fs::remove_file(&file).expect("the home is ours");
    // So is a folder above it.
    fs::remove_dir(folder).expect("the home is ours");
    symlink("nowhere", folder).expect("the home is ours");
    run().output().assert_code(125);
    fs::remove_file(folder).expect("the home is ours");
    run().success();
    // A base that is a plain file cannot contain a policy, which is certainly a mistake.
    let base = place.env.write("base", "x");
    let output = run().env("XDG_CONFIG_HOME", &base).output();
    output.assert_code(125).assert_stderr("Not a directory");
}

/// The user's policy is that of the session's home, with and without `HOME`.
#[test]
fn without_home_the_users_policy_still_holds() {
    require_tool("unshare");
    let place = Place::new();
    let deny = "schema = 1\n[[deny]]\nid = \"of-the-user\"\nwhat = \"exec\"\ncommand = [\"x\"]\n\
                reason = \"r\"\n";
    place.env.write("home/.config/stockade/policy.toml", deny);
    // In a namespace where this user is root, the home in /etc/passwd is /root.
    let script = "mount --bind \"$1\" /root && unset HOME XDG_CONFIG_HOME && shift && exec \"$@\"";
    let home = place.env.home().display().to_string();
    let binary = place.env.binary().display().to_string();
    let run = place.env.as_root_of("--mount", script);
    let run = run.args([&home, &binary, "policy", "show"]);
    run.success().assert_stdout("of-the-user");
    // A value that names no place at all is not a reason to run without the policy.
    let output = place
        .stockade()
        .env("HOME", "relative")
        .args(["policy", "show"])
        .output();
    output
        .assert_code(3)
        .assert_stderr("cannot tell where your policy is");
}

#[test]
fn files_are_tried_as_a_run_sees_them() {
    let place = Place::new();
    let policy = "schema = 1\n[[deny]]\nid = \"generated\"\nwhat = \"file\"\n\
                  paths = [\"src/generated\", \"src/generated/**\"]\nreason = \"made by the build\"\n\
                  [tests.t]\ndeny = [\"file write src/x/../generated/a\", \"file write /etc/passwd\"]\n\
                  allow = [\"file write src/generated/../a\"]\n";
    let file = place
        .env
        .write("generated.toml", policy)
        .display()
        .to_string();
    place.policy(&["check", &file]).assert_success();
    let workspace = place.repo.path().display().to_string();
    let own = |rest: &str| format!("{workspace}/{rest}");
    let cases = [
        ("src/generated/a".to_owned(), Some("generated")),
        ("src/x/../generated/a".to_owned(), Some("generated")),
        ("./src//generated/./a".to_owned(), Some("generated")),
        (own("src/generated/a"), Some("generated")),
        (own("src/x/../generated/a"), Some("generated")),
        (
            ".git/hooks/../hooks/pre-commit".to_owned(),
            Some("protected"),
        ),
        (
            "../x".to_owned(),
            Some("outside of it a session finds only"),
        ),
        (
            "/etc/passwd".to_owned(),
            Some("outside of it a session finds only"),
        ),
        (own("../x"), Some("outside of it a session finds only")),
        ("src/generated/../a".to_owned(), None),
        (own("src/a"), None),
        ("/tmp/x".to_owned(), None),
        ("~/x".to_owned(), None),
        (place.env.home().join("x").display().to_string(), None),
    ];
    for (path, refused) in cases {
        let output = place.policy(&["test", "--policy", &file, "--", "file", "write", &path]);
        match refused {
            Some(text) => output.assert_code(1).assert_stdout(text),
            None => output.assert_success(),
        };
        let said = output.stdout.contains("lies within the writable view");
        assert!(!said || !path.contains("/etc"), "{path}: {output:?}");
    }
}

/// An entry without effect is reported by `policy check` and at the start of a run, which
/// continues.
#[test]
fn what_has_no_effect_is_said() {
    let place = Place::new();
    let text = "schema = 1\n[[allow]]\nid = \"hooks\"\nwhat = \"file\"\npaths = [\".git/hooks/**\"]\n\
                [[ask]]\nid = \"q\"\nwhat = \"file\"\npaths = [\"asked\"]\n\
                [[allow]]\nid = \"local\"\nwhat = \"net\"\nhosts = [\"metadata.google.internal\"]\n";
    let file = place.env.write("team.toml", text).display().to_string();
    let check = place.policy(&["check", &file]);
    check.assert_success();
    let said = [
        format!("{file}:2  warning: rule `hooks`: `.git/hooks/**` is protected"),
        format!(
            "{file}:10  warning: rule `local`: `metadata.google.internal` is a metadata service"
        ),
    ];
    for line in &said {
        check.assert_stdout(line);
    }
    check.assert_stdout("good, 3 rules, 2 warnings");
    let json = place.policy(&["check", "--json", &file]).stdout;
    let report: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(report["warnings"][0]["source"], format!("{file}:2"));
    let run = place
        .stockade()
        .args(["run", "--ask", "deny", "--policy", &file, "--", "true"])
        .output();
    run.assert_success();
    for line in &said {
        run.assert_stderr(line);
    }
    // The control: a policy whose entries all have an effect causes no message.
    let plain = "schema = 1\n[[deny]]\nid = \"d\"\nwhat = \"file\"\npaths = [\"gen/\"]\n";
    let plain = place.env.write("plain.toml", plain).display().to_string();
    let check = place.policy(&["check", &plain]);
    assert!(!check.stdout.contains("warning"), "{check:?}");
}

/// The home, the state and the place of policies cannot be shared in any spelling.
#[test]
fn what_is_ours_is_shared_in_no_spelling() {
    let place = Place::new();
    let home = place.env.home().display().to_string();
    let state = place.env.state().display().to_string();
    for (key, path, why) in [
        ("read", "~/.".to_owned(), "the whole home"),
        ("read", "~//".to_owned(), "the whole home"),
        ("read", format!("{home}/."), "whole home"),
        ("read", format!("/.{home}"), "whole home"),
        ("read", "~/../home".to_owned(), "`..`"),
        ("read", state.clone(), "key that signs"),
        ("read", format!("{state}/sessions"), "key that signs"),
        (
            "write",
            "/etc/stockade".to_owned(),
            "policy of the next one",
        ),
    ] {
        let text = format!("schema = 1\n[filesystem]\n{key} = [\"{path}\"]\n");
        let file = place.env.write("wide.toml", &text).display().to_string();
        let check = place.policy(&["check", &file]);
        check
            .assert_code(1)
            .assert_stdout(why)
            .assert_stdout("wide.toml:3:");
        let run = place
            .stockade()
            .args(["run", "--ask", "deny", "--policy", &file, "--", "true"]);
        run.output().assert_code(125).assert_stderr(why);
        let show = place.policy(&["show", "--policy", &file]);
        assert_ne!(show.code(), 0, "{show:?}");
    }
    // The twin: a file of the home in every spelling.
    place.env.write("home/shared/x", "shown\n");
    for path in [
        "~/shared".to_owned(),
        "~//./shared/".to_owned(),
        format!("{home}//shared"),
    ] {
        let text = format!("schema = 1\n[filesystem]\nread = [\"{path}\"]\n");
        let file = place.env.write("narrow.toml", &text).display().to_string();
        place.policy(&["check", &file]).assert_success();
        let run = place
            .stockade()
            .args(["run", "--ask", "deny", "--policy", &file]);
        run.line("cat ~/shared/x").output().assert_stdout("shown");
    }
}

/// Another spelling of the same place has the same effect.
#[test]
fn other_spellings_hide_and_deny_as_well() {
    let place = Place::new();
    place.env.write("home/shared/secret", "canary\n");
    place.env.write("home/shared/open", "shown\n");
    place.env.own(&place.env.home().join("shared"));
    for hide in ["~/shared/secret", "~//shared/secret", "~/./shared/secret/."] {
        let text = format!(
            "schema = 1\n[filesystem]\nread = [\"~/shared\"]\nhide = [\"{hide}\"]\n\
             [[deny]]\nid = \"gen\"\nwhat = \"file\"\npaths = [\"gen/\"]\n"
        );
        let file = place.env.write("hide.toml", &text).display().to_string();
        let run = place
            .stockade()
            .args(["run", "--ask", "deny", "--policy", &file]);
        let output = run
            .line("cat ~/shared/open ~/shared/secret; mkdir -p gen; echo x > gen/x; echo y > generated; :")
            .output();
        output.assert_stdout("shown");
        assert!(!output.stdout.contains("canary"), "{hide}: {output:?}");
        assert!(
            !place.repo.path().join("gen/x").exists(),
            "{hide}: {output:?}"
        );
        assert!(
            place.repo.path().join("generated").exists(),
            "{hide}: {output:?}"
        );
    }
}

/// What a rule in Cedar refuses is refused by the real kernel and reported with its name, and
/// everything else works.
#[test]
fn a_rule_in_cedar_holds_in_a_session_and_is_named() {
    let place = Place::new();
    let policy = place.env.write(
        "cedar.toml",
        r#"schema = 1
[[cedar]]
id = "no-cat"
reason = "cats are kept out"
text = 'forbid (principal, action == Action::"exec", resource) when { context.names.contains("cat") };'
[[cedar]]
id = "keys"
text = 'forbid (principal, action == Action::"file", resource) when { context.path like "keys/*" };'
"#,
    );
    let policy = policy.display().to_string();
    let line = "mkdir keys; echo open > notes; (echo x > keys/a) 2>/dev/null || echo kept; \
                cp /bin/cat ./dog; ./dog notes 2>/dev/null || echo refused; wc -l < notes; \
                /run/stockade/why || true";
    let run = |options: &[&str]| {
        let run = place.stockade().args(["run", "--ask", "deny"]);
        let run = run.args(options).args(["--", "/bin/sh", "-c", line]);
        run.output()
    };
    let control = run(&[]);
    control.assert_success().assert_stdout("open\n1\n");
    let kept = place.repo.path().join("keys/a");
    assert!(kept.exists(), "without the rule the file is made");
    fs::remove_dir_all(place.repo.path().join("keys")).unwrap();
    let held = run(&["--policy", &policy]);
    held.assert_success()
        .assert_stdout("kept\nrefused\n1\n")
        .assert_stdout("rule    no-cat")
        .assert_stdout("cats are kept out");
    assert!(!kept.exists(), "the rule holds");
    let tried = place.policy(&["test", "--policy", &policy, "--", "cat", "notes"]);
    assert!(tried.stdout.contains("no-cat"), "{tried:?}");
    let shown = place.policy(&["show", "--policy", &policy]);
    assert!(shown.stdout.contains("context.path like"), "{shown:?}");
}

/// Rules in Cedar about connections and requests apply in the egress process: by method, and by the
/// connecting program, whatever the name of its copy.
#[test]
fn a_rule_in_cedar_about_requests_and_programs_holds_on_the_wire() {
    let place = Place::new();
    require_tool("curl");
    let server = HttpServer::start();
    let port = server.port();
    let lab = |id: &str, rules: &str| {
        let text = format!(
            "schema = 1\n[network.hosts]\n\"docs.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\n\
             what = \"net\"\nhosts = [\"docs.test\"]\nports = [{port}]\nprivate = true\n{rules}"
        );
        place.env.write(id, &text).display().to_string()
    };
    let rule = |id: &str, text: &str| format!("[[cedar]]\nid = \"{id}\"\ntext = '''{text}'''\n");
    let line = format!(
        "cp $(command -v curl) ./fetch; for get in 'curl -X GET' 'curl -X PUT' './fetch -X GET'; do \
         $get -s -m 20 -o /dev/null -w '%{{http_code}} ' http://docs.test:{port}/ || true; done"
    );
    let codes = |policy: &str| {
        let run = place
            .stockade()
            .args(["run", "--ask", "deny", "--policy", policy]);
        run.args(["--", "/bin/sh", "-c", &line]).output().stdout
    };
    assert_eq!(codes(&lab("open.toml", "")), "200 200 200 ", "the control");
    let methods = rule(
        "no-put",
        r#"forbid (principal, action == Action::"http", resource)
           when { context.host == "docs.test" && context.method == "PUT" };"#,
    );
    assert_eq!(codes(&lab("methods.toml", &methods)), "200 403 200 ");
    let programs = rule(
        "curl-alone",
        r#"forbid (principal, action in Action::"net", resource)
           when { context.host == "docs.test" } unless { context.program like "*/bin/curl" };"#,
    );
    let held = codes(&lab("programs.toml", &programs));
    assert!(
        held.starts_with("200 200 ") && !held.ends_with("200 "),
        "{held}"
    );
}
