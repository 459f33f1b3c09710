//! The server of an organisation, from its command line.

use std::{fs, path::PathBuf, time::Duration};

use rustix::process::Signal;
use stockade_testkit::{
    TestEnv,
    env::under_test,
    run::{Output, Running},
    wait,
};

/// How long a server may take to begin on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

struct Site {
    env: TestEnv,
}

impl Site {
    fn new() -> Self {
        let env = TestEnv::new(under_test());
        let site = Self { env };
        site.init().assert_success();
        site
    }

    fn data(&self) -> PathBuf {
        self.env.root().join("server")
    }

    /// Runs a command of the server on its directory.
    fn serve(&self, command: &str, arguments: &[&str]) -> Output {
        let run = self.env.stockade().args(["serve", command, "--data"]);
        run.arg(self.data()).args(arguments).output()
    }

    fn init(&self) -> Output {
        self.serve("init", &["--org", "acme"])
    }

    /// Starts the server of a directory, on ports that are free.
    fn start(&self, data: PathBuf) -> Running {
        let any = ["--listen", "127.0.0.1:0", "--node-listen", "127.0.0.1:0"];
        let run = self
            .env
            .stockade()
            .args(["serve", "--data"])
            .arg(data)
            .args(any);
        let server = run.timeout(Duration::from_mins(4)).spawn();
        let listens = || server.stderr().contains("machines on");
        assert!(wait::until_true(PATIENCE, listens), "{}", server.stderr());
        server
    }

    /// Verifies the server's own record, and returns what `log verify` says.
    fn verify(&self) -> Output {
        let record = self.data().join("server-journal");
        let run = self.env.stockade().args(["log", "verify", "--all"]);
        run.env("STOCKADE_STATE_DIR", record).output()
    }
}

fn last_line(output: &Output) -> String {
    output.assert_success();
    output.stdout.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_server_is_made_once_and_prints_its_secrets_last() {
    let site = Site::new();
    // As long as nobody is administrator there is another link.
    let (first, second) = (last_line(&site.init()), last_line(&site.init()));
    assert!(
        first.starts_with("https://localhost:7444/setup?token="),
        "{first}"
    );
    assert_ne!(first, second);
    let token = last_line(&site.serve("token", &["--role", "viewer", "--name", "ci"]));
    assert!(token.starts_with("stkt_") && token.len() > 40, "{token}");
    let enrol = last_line(&site.serve("enrol-token", &[]));
    assert!(enrol.starts_with("stk1."), "{enrol}");
    // A token that is revoked is listed so, and is revoked once.
    let list = site.serve("token", &["--list"]).stdout;
    assert!(
        list.contains("ci  as viewer") && list.contains("works"),
        "{list}"
    );
    let id = list.split(' ').next().unwrap().to_owned();
    site.serve("token", &["--revoke", &id]).assert_success();
    site.serve("token", &["--revoke", &id]).assert_code(3);
    assert!(site.serve("token", &["--list"]).stdout.contains("revoked"));
    site.serve("token", &[]).assert_code(2);
    // Nothing of them is on the disk.
    let state = fs::read(site.data().join("state.db")).unwrap();
    let secret = first.rsplit('=').next().unwrap();
    for secret in [secret, &token["stkt_".len()..]] {
        let found = state
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{secret}");
    }
    for (command, arguments, wrong) in [
        (
            "enrol-token",
            ["--owner", "nobody"].as_slice(),
            "the owner `nobody`",
        ),
        ("enrol-token", ["--minutes", "1441"].as_slice(), "1 to 1440"),
        (
            "token",
            ["--role", "a b", "--name", "x"].as_slice(),
            "the role `a b`",
        ),
        (
            "token",
            ["--role", "viewer", "--name", "x", "--days", "91"].as_slice(),
            "1 to 90",
        ),
    ] {
        site.serve(command, arguments)
            .assert_code(3)
            .assert_stderr(wrong);
    }
    site.env
        .stockade()
        .args(["serve", "--data", "/nowhere"])
        .output()
        .assert_code(3)
        .assert_stderr("stockade serve init --data /nowhere");
    site.env.stockade().args(["serve"]).output().assert_code(2);
}

#[test]
fn a_server_is_alone_survives_kills_and_leaves_a_record() {
    let site = Site::new();
    let server = site.start(site.data());
    let any = ["--listen", "127.0.0.1:0", "--node-listen", "127.0.0.1:0"];
    let second = site
        .env
        .stockade()
        .args(["serve", "--data"])
        .arg(site.data());
    second
        .args(any)
        .output()
        .assert_code(3)
        .assert_stderr("another server uses");
    // Commands work beside it, with the ports that it has.
    assert!(last_line(&site.serve("enrol-token", &[])).starts_with("stk1."));
    assert!(!last_line(&site.init()).contains(":7444/"));
    server.signal(Signal::KILL);
    server.wait();
    // It begins again; the record of the killed run is unfinished, and nothing of it is wrong.
    let again = site.start(site.data());
    again.signal(Signal::TERM);
    again.wait().assert_success();
    site.verify().assert_stdout("intact");
    assert!(
        !site.verify().stdout.contains("broken"),
        "{:?}",
        site.verify()
    );
}

#[test]
fn a_backup_of_a_running_server_is_a_server() {
    let site = Site::new();
    let server = site.start(site.data());
    let token = last_line(&site.serve("token", &["--role", "viewer", "--name", "ci"]));
    let (copy, back) = (site.env.root().join("copy"), site.env.root().join("back"));
    site.serve("backup", &[copy.to_str().unwrap()])
        .assert_success();
    // It never writes over anything.
    site.serve("backup", &[copy.to_str().unwrap()])
        .assert_code(3);
    server.signal(Signal::TERM);
    server.wait().assert_success();
    let restore = |to: &PathBuf, from: &PathBuf| {
        let run = site.env.stockade().args(["serve", "restore", "--data"]);
        run.arg(to).arg(from).output()
    };
    restore(&back, &copy).assert_success();
    for name in ["keys/root", "keys/authority.pem", "server.json"] {
        let read = |dir: PathBuf| fs::read(dir.join(name)).unwrap();
        assert_eq!(read(site.data()), read(back.clone()), "{name}");
    }
    let server = site.start(back.clone());
    server.signal(Signal::TERM);
    server.wait().assert_success();
    // The state came along.
    let state = fs::read(back.join("state.db")).unwrap();
    assert!(state.windows(2).any(|window| window == b"ci"), "{token}");
    // A copy that is not whole makes no server.
    fs::write(copy.join("state.db"), vec![7; 8_192]).unwrap();
    restore(&site.env.root().join("other"), &copy).assert_code(3);
    assert!(!site.env.root().join("other").exists());
    fs::remove_file(copy.join("keys/policy")).unwrap();
    restore(&site.env.root().join("other"), &copy)
        .assert_code(3)
        .assert_stderr("keys/policy");
}
