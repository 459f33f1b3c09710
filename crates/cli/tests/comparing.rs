//! `policy diff` and `policy replay`: what another policy would change, and what it would have said in sessions
//! that ran.
#![expect(clippy::panic, reason = "a broken fixture must end the test")]

use serde_json::Value;
use stockade_testkit::{
    Output, Repo, Run, TestEnv, env::under_test, lab::HttpServer, run::require_tool,
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

    fn policy(&self, words: &[&str]) -> Run {
        self.env
            .stockade()
            .current_dir(self.repo.path())
            .arg("policy")
            .args(words)
    }

    fn write(&self, name: &str, text: &str) -> String {
        self.env
            .write(self.env.root().join(name), &format!("schema = 1\n{text}"))
            .display()
            .to_string()
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const PUBLISH: &str =
    "[[deny]]\nid = \"publish\"\nwhat = \"exec\"\ncommand = [\"make\", \"release\", \"**\"]\n";

#[test]
fn a_comparison_says_what_is_looser_and_exits_as_diff_does() {
    let place = Place::new();
    let old = place.write("old.toml", PUBLISH);
    let same = place.write(
        "same.toml",
        &format!(
            "# moved\n{}",
            PUBLISH.replace("publish\"\nwhat", "renamed\"\nwhat")
        ),
    );
    let new = place.write("new.toml", "[limits]\nopen_files = 100\n");
    let diff = place.policy(&["diff", &old, &same]).output();
    diff.assert_code(0)
        .assert_stdout("the policies do the same");
    let diff = place.policy(&["diff", &old, &new]).output();
    diff.assert_code(1)
        .assert_stdout("loosens: no longer deny exec make release **")
        .assert_stdout("newly allowed (was denied): for example `exec make release`")
        .assert_stdout("tightens: limits.open_files: 100")
        .assert_stdout("whoever approves acknowledges");
    let whole = json(&place.policy(&["diff", &old, &new, "--json"]).output());
    assert_eq!(whole["same"], false);
    assert_eq!(whole["changes"][0]["direction"], "loosens");
    assert!(whole["acknowledges"].is_string());
    // What is in force has neither.
    place
        .policy(&["diff", "current", &old])
        .output()
        .assert_code(1)
        .assert_stdout("tightens: deny exec make");
    place
        .policy(&["diff", "current", "current"])
        .output()
        .assert_code(0);
    let piped = place
        .policy(&["diff", "-", &same])
        .stdin(format!("schema = 1\n{PUBLISH}"))
        .output();
    piped.assert_code(0);
}

#[test]
fn what_cannot_be_compared_says_why() {
    let place = Place::new();
    let good = place.write("good.toml", PUBLISH);
    let bad = place.write("bad.toml", "[[deny]]\nid = \"x\"\n");
    place
        .policy(&["diff", &good, &bad])
        .output()
        .assert_code(3)
        .assert_stderr("bad.toml");
    place
        .policy(&["diff", "-", "-"])
        .output()
        .assert_code(2)
        .assert_stderr("only one");
    place.policy(&["diff", &good]).output().assert_code(2);
    place
        .policy(&["diff", &good, "nowhere.toml"])
        .output()
        .assert_code(3)
        .assert_stderr("nowhere.toml");
    place
        .policy(&["replay", &bad])
        .output()
        .assert_code(3)
        .assert_stderr("bad.toml");
    place.policy(&["replay", &good]).output().assert_code(3);
    // The organisation's words are no user's.
    let pins = place.write("pins.toml", "[require]\nask = \"deny\"\n");
    place
        .policy(&["diff", "current", &pins])
        .output()
        .assert_code(3)
        .assert_stderr("only the organisation");
    let diff = place
        .policy(&["diff", "current", &pins, "--layer", "organisation"])
        .output();
    diff.assert_code(1)
        .assert_stdout("tightens: require.ask: deny instead of not pinned");
}

#[test]
fn what_a_hostile_policy_says_is_harmless_in_a_comparison() {
    let place = Place::new();
    let hostile = "\\u001b[2J rev\\u202e line\\nbreak";
    let file = place.write(
        "hostile.toml",
        &format!(
            "[[deny]]\nid = \"d\"\nwhat = \"file\"\npaths = [\"{hostile}\"]\nreason = \"r\"\n"
        ),
    );
    let diff = place.policy(&["diff", "current", &file]).output();
    diff.assert_code(1);
    assert!(!diff.stdout.contains(['\u{1b}', '\u{202e}']), "{diff:?}");
    assert!(
        diff.stdout.contains("\\u{1b}"),
        "nothing hostile was shown: {diff:?}"
    );
}

/// Sessions of the real binary with git, curl, npm, files and requests: replayed under the policy that was in
/// force, everything exact is as it was.
#[test]
fn what_ran_is_judged_as_it_was_under_the_same_policy() {
    require_tool("curl");
    require_tool("npm");
    let place = Place::new();
    let server = HttpServer::start();
    let port = server.port();
    let own = place.write(
        "own.toml",
        &format!(
            "[network.hosts]\n\"files.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"files\"\nwhat = \"net\"\nhosts = [\"files.test\"]\nports = [{port}]\nprivate = true\n\
             [[deny]]\nid = \"posts\"\nwhat = \"net\"\nhosts = [\"files.test\"]\nports = [{port}]\nmethods = [\"POST\"]\n\
             [[deny]]\nid = \"paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\n\
             [[deny]]\nid = \"keys\"\nwhat = \"file\"\npaths = [\"keys/**\"]\n{PUBLISH}"
        ),
    );
    let script = format!(
        "git status; git log --oneline; echo x > new.txt; mkdir -p keys && echo k > keys/a; rm new.txt; \
         curl -s http://files.test:{port}/ok; curl -s -X POST http://files.test:{port}/no; \
         curl -s https://paste.test/; npm --version; make release; echo y > .git/hooks/pre-commit; git push origin main; true"
    );
    let run = place
        .env
        .session_with(place.repo.path(), &["--ask", "deny", "--policy", &own]);
    run.args(["--", "bash", "-c", &script]).output();
    let replay = json(
        &place
            .policy(&["replay", "current", "--session", "last", "--json"])
            .output(),
    );
    let groups = replay["groups"].as_array().expect("groups");
    let of = |kind: &str, exact: bool| -> u64 {
        let groups = groups
            .iter()
            .filter(|one| one["kind"] == kind && one["inexact"].is_null() == exact);
        groups
            .map(|one| one["count"].as_u64().expect("a count"))
            .sum()
    };
    for group in groups.iter().filter(|group| group["inexact"].is_null()) {
        assert_eq!(group["outcome"], "unchanged", "{group:#}");
    }
    for kind in ["exec", "file", "net", "http", "name"] {
        assert!(of(kind, true) > 0, "no exact {kind}: {replay:#}");
    }
    assert!(replay["exact"].as_u64() > Some(20), "{replay:#}");
    // The positive control: another policy says something else, and the examples are events of the session.
    let other = place.write(
        "other.toml",
        "[[deny]]\nid = \"no-git\"\nwhat = \"exec\"\ncommand = [\"git\", \"status\", \"**\"]\n",
    );
    let output = place.policy(&["replay", &other, "--since", "1h"]).output();
    output
        .assert_code(1)
        .assert_stdout("newly denied: ")
        .assert_stdout("exec git status  by `no-git`");
}

#[test]
fn a_session_without_its_own_policy_is_inexact() {
    let place = Place::new();
    let own = place.write("own.toml", PUBLISH);
    let run = place
        .env
        .session_with(place.repo.path(), &["--ask", "deny", "--policy", &own]);
    run.args(["--", "true"]).output().assert_code(0);
    let exact = || {
        let report = json(&place.policy(&["replay", "current", "--json"]).output());
        report["exact"].as_u64().expect("a number")
    };
    assert!(exact() > 0);
    place.write("own.toml", "");
    assert_eq!(exact(), 0);
}

/// Every command of `docs/howto/run-in-ci.md`, in its order.
#[test]
fn the_commands_for_ci_work() {
    require_tool("npm");
    let place = Place::new();
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let page = std::path::PathBuf::from(here).join("../../docs/howto/run-in-ci.md");
    let page = std::fs::read_to_string(page).expect("the page exists");
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split_once("```").map(|(block, _)| block));
    let lines: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(lines.len() >= 7, "{lines:?}");
    let in_repo = |name: &str, text: &str| {
        let path = place.repo.path().join(name);
        place.env.write(path, text);
    };
    in_repo("old.toml", "schema = 1\n");
    in_repo("team.toml", &format!("schema = 1\n{PUBLISH}"));
    in_repo("package.json", "{\"scripts\":{\"test\":\"true\"}}\n");
    for line in lines {
        let words = line.strip_prefix("stockade ").expect("a command of ours");
        let output = place
            .env
            .stockade()
            .current_dir(place.repo.path())
            .args(words.split(' '))
            .output();
        let code = i32::from(line.contains("policy diff"));
        assert!(output.code() == code, "`{line}`\n{output:?}");
    }
}
