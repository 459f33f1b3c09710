//! The machine of a job, from the command line: a rule on the server, a token of the platform, a session, and a
//! wait until the server holds the record. And what the doctor of a server finds.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use stockade_testkit::{
    TestEnv,
    env::under_test,
    issuer::Issuer,
    run::{Output, Running},
    wait,
};

const PATIENCE: Duration = Duration::from_mins(1);
const AUDIENCE: &str = "stockade";

/// A server with a platform whose jobs may enrol machines.
struct Platform {
    env: TestEnv,
    issuer: Issuer,
    server: Option<Running>,
    /// What `serve enrol-rule` printed last: the command of a job.
    line: Vec<String>,
}

fn port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    format!("127.0.0.1:{port}")
}

impl Platform {
    fn new() -> Self {
        let env = TestEnv::new(under_test());
        let (web, node) = (port(), port());
        let init = env.stockade().args(["serve", "init", "--org", "lab"]);
        let init = init.args(["--listen", &web, "--node-listen", &node, "--data"]);
        init.arg(env.root().join("server")).success();
        let mut platform = Self {
            env,
            issuer: Issuer::start(),
            server: None,
            line: Vec::new(),
        };
        fs::write(platform.ca(), platform.issuer.certificate_pem()).expect("it is ours");
        platform.start();
        let added = platform.serve("enrol-rule", &platform.rule(&["--private"]));
        let line = added
            .assert_success()
            .stdout
            .lines()
            .last()
            .unwrap_or_default();
        let words = line.split(' ').map(str::to_owned);
        platform.line = words.collect();
        platform
    }

    fn data(&self) -> PathBuf {
        self.env.root().join("server")
    }

    fn ca(&self) -> PathBuf {
        self.env.root().join("issuer.pem")
    }

    fn rule(&self, more: &[&str]) -> Vec<String> {
        let ca = self.ca().display().to_string();
        let words = [
            "--issuer",
            self.issuer.url(),
            "--audience",
            AUDIENCE,
            "--claim",
            "repository=acme/*",
            "--name",
            "repository",
            "--ca",
            &ca,
        ];
        words
            .iter()
            .chain(more)
            .map(|word| (*word).to_owned())
            .collect()
    }

    fn serve(&self, command: &str, arguments: &[String]) -> Output {
        let run = self.env.stockade().args(["serve", command, "--data"]);
        run.arg(self.data()).args(arguments).output()
    }

    fn start(&mut self) {
        let run = self.env.stockade().args(["serve", "--data"]);
        let server = run.arg(self.data()).timeout(PATIENCE * 4).spawn();
        let listens = || server.stderr().contains("machines on");
        assert!(wait::until_true(PATIENCE, listens), "{}", server.stderr());
        self.server = Some(server);
    }

    fn stop(&mut self) {
        let server = self.server.take().expect("it runs");
        server.signal(Signal::KILL);
        server.wait();
    }

    fn token(&self, jti: &str, repository: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("it is after 1970").as_secs();
        self.issuer.sign(&json!({
            "iss": self.issuer.url(), "aud": AUDIENCE, "sub": "job", "jti": jti, "iat": now,
            "exp": now + 300, "repository": repository,
        }))
    }

    /// Enrols as a job does: by the command that the rule has printed.
    fn enrol(&self, token: &str) -> Output {
        let [_, _, url, ca, digest, ..] = self.line.as_slice() else {
            panic!("{:?}", self.line);
        };
        let run = self.env.stockade().args(["enrol", url, ca, digest]);
        run.args(["--oidc-token", "-"]).stdin(token).output()
    }

    fn flush(&self, seconds: &str) -> Output {
        let run = self.env.stockade().args(["node", "flush", "--seconds"]);
        run.arg(seconds).timeout(PATIENCE * 2).output()
    }

    fn session(&self) {
        let repo = self.env.repo();
        self.env
            .session(repo.path())
            .line("ls / >/dev/null")
            .success();
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal(Signal::KILL);
            server.wait();
        }
    }
}

#[test]
fn a_job_enrols_runs_and_leaves_its_record_with_the_server() {
    let mut platform = Platform::new();
    // Another repository, and a token that is none: nothing is enrolled.
    platform
        .enrol(&platform.token("j-0", "evil/shop"))
        .assert_code(3)
        .assert_stderr("the claims of the token do not match any rule");
    platform.enrol("nonsense").assert_code(3);
    platform.flush("1").assert_code(3);
    // A server of another authority gets no token.
    let [_, _, url, ..] = platform.line.as_slice() else {
        panic!("{:?}", platform.line);
    };
    let other = format!("sha256:{}", "ab".repeat(32));
    let run = platform.env.stockade().args(["enrol", url, "--ca", &other]);
    let token = platform.token("j-1", "acme/shop");
    run.args(["--oidc-token", "-"])
        .stdin(token.as_str())
        .output()
        .assert_code(3)
        .assert_stderr("authority is not the one");
    platform
        .enrol(&token)
        .assert_success()
        .assert_stdout("this machine is `acme/shop n-");
    // The run does not end before the server holds its record, with nothing else beside it.
    platform.session();
    let verify = platform.env.stockade().args(["log", "verify", "--all"]);
    verify
        .success()
        .assert_stdout("held by the server to its end");
    platform
        .flush("60")
        .assert_success()
        .assert_stdout("the server holds every journal");
    // Without the server the run ends with its command's code, says what is not held, and nothing is lost.
    platform.stop();
    let repo = platform.env.repo_named("second");
    let run = platform.env.session(repo.path()).line("exit 7");
    run.timeout(PATIENCE * 3)
        .output()
        .assert_code(7)
        .assert_stderr("the server does not hold");
    platform
        .flush("2")
        .assert_code(1)
        .assert_stdout("the server does not hold");
    platform.start();
    platform.flush("60").assert_success();
    // A rule that is removed lets nobody in any more.
    let list = platform.serve("enrol-rule", &["--list".to_owned()]);
    let list = list.assert_success().stdout.clone();
    let id = list.split(' ').next().expect("a rule").to_owned();
    assert!(list.contains("repository=acme/*"), "{list}");
    let remove = ["--remove".to_owned(), id];
    platform.serve("enrol-rule", &remove).assert_success();
    platform.serve("enrol-rule", &remove).assert_code(3);
    platform.env.stockade().args(["node", "leave"]).success();
    platform
        .enrol(&platform.token("j-2", "acme/shop"))
        .assert_code(3)
        .assert_stderr("no rule is about the issuer");
}

#[test]
fn rules_and_providers_that_do_not_answer_are_not_kept() {
    let platform = Platform::new();
    // In a private network without a word about it, and with a claim that excludes nobody.
    platform
        .serve("enrol-rule", &platform.rule(&[]))
        .assert_code(3)
        .assert_stderr("private network");
    let mut open = platform.rule(&["--private"]);
    for word in &mut open {
        if word.starts_with("repository=") {
            "repository=**".clone_into(word);
        }
    }
    platform
        .serve("enrol-rule", &open)
        .assert_code(3)
        .assert_stderr("more than wildcards");
    let ca = platform.ca().display().to_string();
    let secret = platform.env.root().join("secret");
    fs::write(&secret, "a secret\n").expect("it is ours");
    let words = |issuer: &str| -> Vec<String> {
        let words = [
            "--issuer",
            issuer,
            "--client-id",
            "stockade",
            "--role",
            "ops=admin",
            "--ca",
            &ca,
            "--private",
            "--client-secret-file",
            secret.to_str().expect("text"),
        ];
        words.map(str::to_owned).to_vec()
    };
    let kept = platform.data().join("keys/oidc.json");
    let wrong = format!("{}/other", platform.issuer.url());
    platform.serve("oidc", &words(&wrong)).assert_code(3);
    assert!(!kept.exists());
    let set = platform.serve("oidc", &words(platform.issuer.url()));
    let back = set
        .assert_success()
        .stdout
        .lines()
        .last()
        .unwrap_or_default();
    assert!(back.ends_with("/login/oidc/callback"), "{back}");
    let mode = fs::metadata(&kept)
        .expect("it is kept")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    platform
        .serve("oidc", &["--off".to_owned()])
        .assert_success();
    assert!(!kept.exists());
}

fn standing(findings: &Value, name: &str) -> String {
    let all = findings.as_array().expect("a list").iter();
    let found = all
        .filter(|one| one["name"] == name)
        .map(|one| &one["standing"]);
    found
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_doctor_of_a_server_finds_what_is_wrong() {
    let mut platform = Platform::new();
    platform
        .enrol(&platform.token("j-1", "acme/shop"))
        .assert_success();
    platform.session();
    platform.flush("60").assert_success();
    let doctor = |platform: &Platform| {
        let output = platform.serve("doctor", &["--json".to_owned()]);
        let findings: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
        (output.code(), findings)
    };
    let (code, good) = doctor(&platform);
    assert_eq!(code, 0, "{good}");
    for name in [
        "files", "keys", "disk", "server", "pages", "machines", "state", "evidence", "clock",
        "sign-in",
    ] {
        assert_eq!(standing(&good, name), "good", "{name}: {good}");
    }
    assert_eq!(standing(&good, "host"), "note");
    // A journal that lost bytes that were receipted.
    let sessions = platform.data().join("evidence/lab");
    let node = fs::read_dir(sessions).expect("it is there").next();
    let node = node.expect("a machine").expect("a machine").path();
    let session = fs::read_dir(node.join("sessions"))
        .expect("it is there")
        .next();
    let journal = session.expect("a session").expect("a session").path();
    let journal = journal.join("journal.jsonl");
    let whole = fs::read(&journal).expect("it is there");
    fs::write(&journal, &whole[..whole.len() - 10]).expect("it is ours");
    let (code, cut) = doctor(&platform);
    assert_eq!(
        (code, standing(&cut, "evidence")),
        (1, "bad".to_owned()),
        "{cut}"
    );
    fs::write(&journal, &whole).expect("it is ours");
    // A file of a key that others can read, and a server that does not run.
    platform.stop();
    let key = platform.data().join("keys/policy");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let (code, open) = doctor(&platform);
    assert_eq!(code, 1);
    assert_eq!(standing(&open, "files"), "bad", "{open}");
    assert_eq!(standing(&open, "keys"), "bad", "{open}");
    assert_eq!(standing(&open, "server"), "note", "{open}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let (code, mended) = doctor(&platform);
    assert_eq!(code, 0, "{mended}");
    let text = platform.serve("doctor", &[]);
    text.assert_success().assert_stdout("good  files");
}
