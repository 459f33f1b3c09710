//! Receivers and a relay of mail that the command line sets, and a server that is killed while it tells.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use stockade_testkit::{
    http::Response,
    lab::{Relay, RelayRules, TlsServer},
    run::Output,
};

use super::{Joined, until, votes::waiting_for_ann};

impl Joined {
    fn serve(&self, command: &str, arguments: &[&str]) -> Output {
        let run = self.env.stockade().args(["serve", command, "--data"]);
        run.arg(&self.data).args(arguments).output()
    }

    /// Adds a channel that hears of questions for one role.
    fn pager(&self, url: &str, ca: &str) -> Output {
        let what = ["--name", "pager", "--form", "webhook", "--private"];
        let whom = ["--kind", "question.waiting", "--role", "code-owner"];
        let place = ["--to", url, "--ca", ca];
        self.serve("channel", &[&what[..], &whom, &place].concat())
    }
}

/// A receiver that answers once it may.
fn receiver() -> (TlsServer, Arc<AtomicBool>) {
    let may = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&may);
    let server = TlsServer::with(&["localhost"], move |_| {
        while !held.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        Response::text(204, "")
    });
    (server, may)
}

/// A server that is killed while a receiver has not answered tells it again after its start, under the same id;
/// then it is told no more.
#[test]
fn a_kill_while_somebody_is_told_loses_nothing() {
    let (mut joined, session, question) = waiting_for_ann("uname -s");
    let (receiver, may) = receiver();
    let ca = joined.env.write("receiver.pem", receiver.certificate_pem());
    let ca = ca.display().to_string();
    let url = format!("https://localhost:{}/hook", receiver.port());
    let made = joined.pager(&url, &ca);
    made.assert_success();
    let secret = made.stdout.lines().last().unwrap_or_default();
    assert!(
        secret.starts_with("whsec_") && secret.len() > 40,
        "{secret}"
    );
    // The question from before is not told; the next one is, to a server that was not started again.
    joined
        .person("ann")
        .votes(&question, "allow")
        .expect("her stage is open");
    session.wait().assert_success();
    let session = super::votes::asking_one(&joined, "uname -s");
    until("the receiver is told", || !receiver.requests().is_empty());
    joined.kill_server();
    may.store(true, Ordering::Relaxed);
    joined.start_server();
    until("the receiver is told again", || {
        receiver.requests().len() >= 2
    });
    let told = receiver.requests();
    let ids: Vec<_> = told.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].is_some_and(|id| id.starts_with("msg_")), "{ids:?}");
    assert_eq!(told[0].body, told[1].body);
    let link = told[0].json()["data"]["link"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (_, question) = link.rsplit_once('/').expect("a link to the question");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(receiver.requests().len(), 2);
    let ann = joined.person("ann");
    until("the server answers", || ann.curl(&["/healthz"]).is_ok());
    ann.votes(question, "allow").expect("her stage is open");
    session.wait().assert_success().assert_stdout("Linux");
    // The list does not have what is secret; a channel that is removed is told no more.
    let list = joined.serve("channel", &["--list"]).stdout;
    assert!(
        list.contains("pager") && list.contains("question.waiting"),
        "{list}"
    );
    assert!(
        !list.contains("/hook") && !list.contains("whsec_"),
        "{list}"
    );
    let id = list.split(' ').next().unwrap_or_default().to_owned();
    joined.serve("channel", &["--remove", &id]).assert_success();
    joined.serve("channel", &["--remove", &id]).assert_code(3);
    assert_eq!(joined.serve("channel", &["--list"]).stdout, "");
}

/// What is not accepted changes nothing, and says what is.
#[test]
fn channels_and_relays_are_checked_before_they_are_kept() {
    let joined = Joined::new();
    let add = |arguments: &[&str]| joined.serve("channel", arguments);
    let to = ["--name", "x", "--kind", "glass.broken", "--form"];
    let with = |rest: &[&str]| add(&[&to[..], rest].concat());
    with(&["webhook", "--to", "http://hooks.test/"])
        .assert_code(3)
        .assert_stderr("expected `https://HOST/…`");
    with(&["webhook", "--to", "https://127.0.0.1:1/"])
        .assert_code(3)
        .assert_stderr("private network");
    with(&["webhook", "--to", "https://169.254.169.254/", "--private"])
        .assert_code(3)
        .assert_stderr("never asked");
    with(&["mail", "--to", "a@b\r\nBcc: c@d"]).assert_code(3);
    with(&["webhook"]).assert_code(3).assert_stderr("`--to`");
    with(&["pigeon", "--to", "https://hooks.test/"]).assert_code(2);
    add(&[
        "--name", "x", "--form", "mail", "--to", "a@b", "--kind", "all",
    ])
    .assert_code(2);
    assert_eq!(add(&["--list"]).stdout, "");
    // A relay is kept once it has taken the login, and not before.
    let relay = Relay::start(RelayRules {
        login: Some(("stockade".to_owned(), "pass word".to_owned())),
        ..RelayRules::default()
    });
    let ca = joined.env.write("relay.pem", relay.certificate_pem());
    let (ca, port) = (ca.display().to_string(), relay.port().to_string());
    let file = joined.data.join("keys/mail.json");
    for (password, code) in [("guess\n", 3), ("pass word\n", 0)] {
        let password = joined.env.write("password", password);
        let password = password.display().to_string();
        let set = joined.serve(
            "mail",
            &[
                "--host",
                "localhost",
                "--port",
                &port,
                "--from",
                "stockade@acme.test",
                "--user",
                "stockade",
                "--password-file",
                &password,
                "--domain",
                "acme.test",
                "--private",
                "--ca",
                &ca,
            ],
        );
        set.assert_code(code);
        assert_eq!(file.exists(), code == 0, "{set:?}");
        assert!(!set.stderr.contains("pass word"), "{set:?}");
    }
    let mode = fs::metadata(&file)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    joined.serve("mail", &["--off"]).assert_success();
    assert!(!file.exists());
}
