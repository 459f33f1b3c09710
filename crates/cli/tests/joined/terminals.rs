//! People in roles answer from a terminal, with approver keys.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use stockade_testkit::{
    Output, Run,
    approvals::{self, Answer},
    run::Running,
};

use super::{
    Joined, PATIENCE, until,
    votes::{Person, asked},
};

/// Who is asked about `uname`, with a key at least.
const POLICY: &str = r#"schema = 1

[stages.owner]
who = "role:code-owner"
strength = "key"

[[ask]]
id = "system"
what = "exec"
command = ["uname", "**"]
stages = ["owner"]
reason = "looks at the system"
"#;

/// The terminal of a person, on a machine of the person's own.
struct Terminal<'j> {
    joined: &'j Joined,
    state: PathBuf,
}

impl<'j> Terminal<'j> {
    fn new(joined: &'j Joined, name: &str) -> Self {
        let state = joined.env.root().join(format!("{name}.state"));
        fs::create_dir_all(&state).expect("a directory");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("its mode");
        Self { joined, state }
    }

    fn run(&self, words: &[&str]) -> Run {
        let run = self.joined.env.stockade().args(words);
        run.env("STOCKADE_STATE_DIR", &self.state).timeout(PATIENCE)
    }

    fn says(&self, words: &[&str]) -> Output {
        self.run(words).output()
    }

    fn data(&self, words: &[&str]) -> Value {
        let all = [words, &["--json"]].concat();
        let output = self.says(&all);
        output.assert_success();
        let line = output.stdout.lines().next().unwrap_or_default();
        serde_json::from_str(line).expect("JSON")
    }

    /// Begins to sign in, and returns the code that the terminal shows.
    fn begins(&self, person: &str) -> (Running, String) {
        let ca = self
            .joined
            .data
            .join("keys/authority.pem")
            .display()
            .to_string();
        let origin = self.joined.origin.as_str();
        let words = ["login", origin, "--ca", &ca, "--person", person, "--json"];
        let login = self.run(&words).spawn();
        until("the terminal shows a code", || {
            login.stdout().contains("code")
        });
        let shown: Value =
            serde_json::from_str(login.stdout().lines().next().expect("a line")).expect("JSON");
        let code = shown["code"].as_str().expect("a code").to_owned();
        (login, code)
    }

    fn signs_in(&self, person: &Person<'_>, name: &str) -> Output {
        let (login, code) = self.begins(name);
        person.confirms(&code).expect("the code is right");
        login.wait()
    }

    /// Answers as a person does who has read the text.
    fn answers(&self, question: &str, words: &[&str]) -> Output {
        let shown = self.data(&["approvals", "--server", "show", question]);
        let digest = shown["shown"].as_str().expect("a digest").to_owned();
        let answer = [
            "approvals",
            "--server",
            words[0],
            question,
            "--shown",
            &digest,
        ];
        self.says(&[&answer[..], &words[1..]].concat())
    }
}

impl Person<'_> {
    fn confirms(&self, code: &str) -> Result<String, String> {
        let token = self.field("/device", "token");
        let mut form = vec![("token", token.as_str()), ("code", code)];
        let page = self.post("/device", &form)?;
        assert!(page.contains("would answer in your name"), "{page}");
        form.push(("choice", "confirm"));
        self.post("/device", &form)
    }

    fn registers(&self, line: &str) -> Result<String, String> {
        let token = self.field("/me", "token");
        let form = [
            ("token", token.as_str()),
            ("key", line),
            ("label", "laptop"),
        ];
        self.post("/me/keys", &form)
    }

    /// Approves the one key that waits.
    fn approves(&self) -> Result<String, String> {
        let keys = self.data("/api/v1/keys");
        let waits = keys["keys"].as_array().expect("a list").iter();
        let mut waits = waits.filter(|key| key["approved"].is_null());
        let id = waits.next().expect("one waits")["id"]
            .as_str()
            .expect("an id");
        let token = self.field("/keys", "token");
        self.post("/keys/approve", &[("token", token.as_str()), ("id", id)])
    }
}

/// A session of lee's that asks, and goes on with what was answered.
fn asking(joined: &Joined, line: &str) -> Running {
    let file = joined
        .env
        .write("policy.toml", POLICY)
        .display()
        .to_string();
    let options = ["--ask", "server", "--policy", file.as_str()];
    let session = joined.env.session_with(joined.repo.path(), &options);
    session.line(line).timeout(PATIENCE * 3).spawn()
}

/// The one statement in a journal.
fn statement(journal: &[u8]) -> Value {
    let text = String::from_utf8_lossy(journal);
    let kind = "application/vnd.stockade.grant.1+json";
    let line = text
        .lines()
        .find(|line| line.contains(kind))
        .expect("a statement");
    let (_, rest) = line.split_once("\"payload\":\"").expect("a payload");
    let payload = rest.split('"').next().unwrap_or_default();
    serde_json::from_slice(&STANDARD.decode(payload).expect("base64")).expect("JSON")
}

/// The statement in both copies of the journal names the key.
fn recorded(joined: &Joined) {
    let id = joined.env.session_id();
    until("the server has the record", || joined.is_held(&id));
    let (here, there) = joined.journals(&id);
    assert!(here == there && !here.is_empty());
    let grant = statement(&here);
    assert_eq!(grant["votes"][0]["proof"]["by"], "key", "{grant}");
    assert_eq!(grant["votes"][0]["stage"], "owner");
    assert!(joined.verified(&id).contains("intact"));
}

/// Whoever has not read a question does not allow it, and nobody twice.
fn allows_what_was_shown(terminal: &Terminal<'_>, question: &str) {
    let (allow, other) = (["approvals", "--server", "allow", question], "0".repeat(64));
    terminal
        .says(&allow)
        .assert_code(2)
        .assert_stderr("--shown");
    let with_other = [&allow[..], &["--shown", &other]].concat();
    terminal
        .says(&with_other)
        .assert_code(1)
        .assert_stderr("not the one that was shown");
    let listed = terminal.says(&["approvals", "--server", "list"]);
    listed
        .assert_success()
        .assert_stdout("waits for you")
        .assert_stdout(question);
    terminal
        .answers(question, &["allow"])
        .assert_success()
        .assert_stdout("allowed (once)");
    terminal
        .says(&allow)
        .assert_code(1)
        .assert_stderr("is settled: granted");
}

#[test]
fn a_person_answers_from_a_terminal_with_a_key() {
    let mut joined = Joined::new();
    let lee = Person::new(&joined, "lee", &joined.link);
    lee.invites("ann", "code-owner");
    joined.enrol_for(&["--owner", "lee"]);
    joined.start_agent();
    let (lee, ann) = (joined.person("lee"), joined.person("ann"));
    let terminal = Terminal::new(&joined, "ann");
    terminal
        .says(&["approvals", "--server", "list"])
        .assert_code(3)
        .assert_stderr("stockade login");
    let signed = terminal.signs_in(&ann, "ann");
    signed.assert_success().assert_stdout("\"name\":\"ann\"");
    let kept = fs::metadata(terminal.state.join("terminal/login.json")).expect("a file");
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let session = asking(
        &joined,
        "uname -s || /run/stockade/why; uname -s || /run/stockade/why",
    );
    let question = asked(&ann);
    // A sign-in is not enough for this stage, nor is a key that nobody has approved.
    terminal
        .answers(&question, &["allow"])
        .assert_code(1)
        .assert_stderr("key create");
    let made = terminal.data(&["approvals", "key", "create", "--no-passphrase"]);
    let line = made["line"].as_str().expect("a line");
    lee.registers(line).expect_err("it is not his");
    ann.registers(line).expect("it is hers");
    terminal
        .answers(&question, &["allow"])
        .assert_code(1)
        .assert_stderr("does not have");
    lee.approves().expect("he manages people");
    terminal
        .says(&["approvals", "key", "show"])
        .assert_success()
        .assert_stdout("counts");
    allows_what_was_shown(&terminal, &question);
    until("the first command runs", || {
        session.stdout().contains("Linux")
    });
    // Its key is revoked: what was allowed once stays, and nothing more is.
    let second = asked(&ann);
    let id = ann.data("/api/v1/me")["keys"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let token = ann.field("/me", "token");
    let form = [("token", token.as_str()), ("id", id.as_str())];
    ann.post("/me/keys/revoke", &form).expect("it is hers");
    terminal
        .answers(&second, &["allow"])
        .assert_code(1)
        .assert_stderr("does not have");
    ann.registers(line)
        .expect_err("a revoked key does not come back");
    let here = approvals::pending(&joined.env);
    let reason = "nobody can answer".to_owned();
    approvals::answer(&joined.env, &here[0].id, &Answer::Deny { reason }).assert_success();
    let output = session.wait();
    output.assert_success().assert_stdout("nobody can answer");
    assert_eq!(output.stdout.matches("Linux").count(), 1);
    recorded(&joined);
}

/// Whoever else confirms a code, the terminal says so and takes nothing; and a terminal that is signed out
/// does nothing more.
#[test]
fn a_terminal_goes_on_only_as_the_person_it_expects() {
    let joined = Joined::new();
    let lee = Person::new(&joined, "lee", &joined.link);
    let ann = lee.invites("ann", "code-owner");
    let terminal = Terminal::new(&joined, "ann");
    let (login, code) = terminal.begins("ann");
    lee.confirms(&code).expect("he is signed in");
    let refused = login.wait();
    refused
        .assert_code(1)
        .assert_stderr("`lee`")
        .assert_stderr("not signed in");
    assert!(!terminal.state.join("terminal/login.json").exists());
    assert_eq!(
        lee.data("/api/v1/me")["terminals"].as_array().map(Vec::len),
        Some(0)
    );
    // The control.
    terminal.signs_in(&ann, "ann").assert_success();
    terminal
        .says(&["login", "--status"])
        .assert_success()
        .assert_stdout("`ann`");
    terminal
        .says(&["approvals", "--server=https://other.test", "list"])
        .assert_code(3)
        .assert_stderr("is signed in at");
    terminal.says(&["logout"]).assert_success();
    terminal.says(&["login", "--status"]).assert_code(3);
    // Another authority is not believed, and nothing is asked.
    let other = joined.env.root().join("other");
    joined
        .env
        .stockade()
        .args(["serve", "init", "--data"])
        .arg(&other)
        .success();
    let ca = other.join("keys/authority.pem").display().to_string();
    let words = [
        "login",
        joined.origin.as_str(),
        "--ca",
        &ca,
        "--person",
        "ann",
    ];
    terminal
        .says(&words)
        .assert_code(3)
        .assert_stderr("cannot connect");
    // The token of a browser is taken away: the terminal is out at once.
    terminal.signs_in(&ann, "ann").assert_success();
    let id = ann.data("/api/v1/me")["terminals"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let token = ann.field("/me", "token");
    let form = [("token", token.as_str()), ("id", id.as_str())];
    ann.post("/me/terminals/revoke", &form).expect("it is hers");
    let over = terminal.says(&["approvals", "--server", "list"]);
    over.assert_code(3).assert_stderr("is over");
}
