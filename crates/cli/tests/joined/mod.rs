//! A server, a machine, its agent and sessions, each as a person starts it, and ended with `kill -9`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture must end the test"
)]

mod browsers;
mod newcomer;
mod stopping;
mod terminals;
mod told;
mod votes;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::Signal;
use stockade_testkit::{Repo, TestEnv, browser::key_digest, env::under_test, run::Running};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server of an organisation, and the machine of the environment, which is enrolled there.
struct Joined {
    env: TestEnv,
    repo: Repo,
    data: PathBuf,
    /// Where pages are.
    origin: String,
    /// The secret of the link for the first administrator.
    link: String,
    server: Option<Running>,
    agent: Option<Running>,
}

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Returns what a browser has to know of the server's certificates, which are other ones after each start.
fn authority_of(data: &Path) -> String {
    let pem = fs::read_to_string(data.join("keys/authority.pem")).expect("an authority");
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    key_digest(&STANDARD.decode(lines).expect("PEM"))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(50));
    }
}

impl Joined {
    fn new() -> Self {
        let env = TestEnv::new(under_test());
        let repo = env.repo();
        let data = env.root().join("server");
        let mut init = env.stockade().args(["serve", "init", "--org", "lab"]);
        for option in ["--listen", "--node-listen"] {
            init = init.args([option, &format!("127.0.0.1:{}", port())]);
        }
        let made = init.arg("--data").arg(&data).success().stdout;
        let link = made.lines().last().expect("a link");
        let (origin, link) = link.split_once("/setup?token=").expect("a link");
        let mut joined = Self {
            env,
            repo,
            data,
            origin: origin.to_owned(),
            link: link.to_owned(),
            server: None,
            agent: None,
        };
        joined.start_server();
        joined
    }

    fn start_server(&mut self) {
        let serve = self.env.stockade().args(["serve", "--data"]);
        let serve = serve.arg(&self.data).timeout(PATIENCE * 3);
        self.server = Some(serve.spawn());
    }

    fn start_agent(&mut self) {
        let run = self.env.stockade().args(["node", "run"]);
        self.agent = Some(run.timeout(PATIENCE * 3).spawn());
    }

    fn kill_server(&mut self) {
        let server = self.server.take().expect("it runs");
        server.signal(Signal::KILL);
        server.wait();
    }

    fn kill_agent(&mut self) {
        let agent = self.agent.take().expect("it runs");
        agent.signal(Signal::KILL);
        agent.wait();
    }

    fn enrol(&self) {
        self.enrol_for(&[]);
    }

    /// Enrols the machine, with more options for its token.
    fn enrol_for(&self, options: &[&str]) {
        let token = self.env.stockade().args(["serve", "enrol-token", "--data"]);
        let token = token.arg(&self.data).args(options).success().stdout;
        let token = token.lines().last().expect("a token").to_owned();
        // The server may be starting still.
        until("the machine is enrolled", || {
            let enrol = self.env.stockade().args(["enrol", "--no-agent", "-"]);
            enrol.stdin(token.clone()).output().code() == 0
        });
    }

    /// The journal of the session on the machine, and the server's copy of it.
    fn journals(&self, session: &str) -> (Vec<u8>, Vec<u8>) {
        let here = self.env.state().join("sessions").join(session);
        let here = fs::read(here.join("journal.jsonl")).expect("a journal");
        let nodes = fs::read_dir(self.data.join("evidence/lab"));
        let mut nodes = nodes.into_iter().flatten().flatten();
        let node = nodes.next().map(|node| node.path()).unwrap_or_default();
        let there = node.join("sessions").join(session).join("journal.jsonl");
        (here, fs::read(there).unwrap_or_default())
    }

    fn is_held(&self, session: &str) -> bool {
        let (here, there) = self.journals(session);
        here == there
    }

    fn verified(&self, session: &str) -> String {
        let verify = self.env.stockade().args(["log", "verify", session]);
        verify.output().stdout
    }
}

#[test]
fn a_record_reaches_the_server_whole_whoever_is_killed_meanwhile() {
    let mut joined = Joined::new();
    joined.enrol();
    joined.start_agent();
    let work = "i=0; while [ $i -lt 60 ]; do ls / >/dev/null; sleep 0.1; i=$((i+1)); done";
    let session = joined.env.session(joined.repo.path()).line(work).spawn();
    for round in 0..6_u64 {
        sleep(Duration::from_millis(300 + 170 * round));
        if round % 2 == 0 {
            joined.kill_agent();
            joined.start_agent();
        } else {
            joined.kill_server();
            joined.start_server();
        }
    }
    session.wait().assert_success();
    let id = joined.env.session_id();
    until("the server has all of it", || joined.is_held(&id));
    until("and has said so", || {
        joined
            .verified(&id)
            .contains("held by the server to its end")
    });
    // The agent writes its status every two seconds.
    until("the agent says so", || {
        let status = joined.env.stockade().args(["node", "status"]).output();
        status.code() == 0 && status.stdout.contains("the server holds every journal")
    });
    // Its copy is a record that stands by itself.
    let (here, there) = joined.journals(&id);
    assert!(here == there && !here.is_empty());
    // Whoever writes the journal anew, with the machine's key or without, is found out by the receipt.
    let path = joined
        .env
        .state()
        .join("sessions")
        .join(&id)
        .join("journal.jsonl");
    let lines: Vec<&[u8]> = here.split_inclusive(|byte| *byte == b'\n').collect();
    let shorter = lines.get(..lines.len() / 2).unwrap_or_default().concat();
    fs::write(&path, shorter).expect("a shorter journal");
    let verify = joined.env.stockade().args(["log", "verify", &id]).output();
    verify
        .assert_code(1)
        .assert_stdout("receipt: not what the server holds");
    fs::write(&path, &here).expect("the journal");
    assert!(
        joined
            .verified(&id)
            .contains("held by the server to its end")
    );
}

#[test]
fn without_a_server_sessions_run_and_are_sent_later() {
    let mut joined = Joined::new();
    joined.enrol();
    joined.kill_server();
    joined.start_agent();
    let env = &joined.env;
    env.session(joined.repo.path())
        .line("ls / >/dev/null")
        .success();
    let id = env.session_id();
    until("the agent says that it is not connected", || {
        let status = env.stockade().args(["node", "status"]).output();
        status.code() == 1 && status.stdout.contains("not connected")
    });
    assert!(joined.journals(&id).1.is_empty());
    joined.start_server();
    until("it is sent", || joined.is_held(&id));
    // A machine that has left sends nothing more, and says so.
    joined.kill_agent();
    let env = &joined.env;
    env.stockade().args(["node", "leave"]).success();
    let status = env.stockade().args(["node", "status"]).output();
    status
        .assert_code(3)
        .assert_stderr("belongs to no organisation");
    env.stockade().args(["node", "run"]).output().assert_code(3);
    assert!(
        left(&env.state().join("node")).is_empty(),
        "{:?}",
        left(&env.state())
    );
    assert!(left(&env.state().join("trust")).is_empty());
}

/// The files that are left of an enrolment.
fn left(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "lock").collect()
}

#[test]
fn nothing_inside_a_session_reaches_the_agent_or_what_the_machine_has_pinned() {
    let mut joined = Joined::new();
    joined.enrol();
    joined.start_agent();
    let state = joined.env.state();
    let files = [
        "node/key",
        "node/enrolment.json",
        "trust/node.json",
        "trust/root.json",
    ];
    for file in files {
        let path = state.join(file);
        assert!(
            path.is_file(),
            "the control: it is there, {}",
            path.display()
        );
        let path = path.display();
        let line = format!(
            "cat '{path}' >/dev/null 2>&1 && echo READ; echo x >>'{path}' 2>/dev/null && echo WROTE; \
             rm -f '{path}' 2>/dev/null; mv '{path}' '{path}.x' 2>/dev/null && echo MOVED; echo done"
        );
        let before = fs::read(state.join(file)).expect("it is readable");
        let output = joined.env.session(joined.repo.path()).line(line).success();
        assert_eq!(output.stdout.trim(), "done", "{path}");
        assert_eq!(fs::read(state.join(file)).ok(), Some(before), "{path}");
    }
    // Nor does the server answer there, on either of its ports.
    let settings = fs::read_to_string(joined.data.join("server.json")).expect("settings");
    let ports: Vec<&str> = settings
        .match_indices("127.0.0.1:")
        .filter_map(|(at, found)| settings.get(at + found.len()..))
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .collect();
    assert_eq!(ports.len(), 2, "{settings}");
    for port in ports {
        let line = format!("curl -sk -m 5 -o /dev/null https://localhost:{port}/healthz; echo $?");
        let inside = joined.env.session(joined.repo.path()).line(&line).success();
        assert_ne!(inside.stdout.trim(), "0", "{port}");
        // The control: outside, something speaks TLS there; machines have to show a certificate.
        let line =
            format!("curl -sk -m 5 -o /dev/null https://localhost:{port}/healthz; test $? -ne 7");
        joined.env.shell(joined.repo.path(), &line).assert_success();
    }
    // No process inside sees the agent, so none can end or trace it.
    let agent = joined.agent.as_ref().expect("it runs").pid();
    let line = format!(
        "kill -0 {agent} 2>/dev/null && echo SEEN; ls /proc/{agent} 2>/dev/null; echo done"
    );
    let output = joined.env.session(joined.repo.path()).line(line).success();
    assert_eq!(output.stdout.trim(), "done");
    assert!(!joined.agent.as_mut().expect("it runs").is_over());
}
