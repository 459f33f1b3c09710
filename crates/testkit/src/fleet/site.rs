//! The server, as a person starts it.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use stockade_api::{EnrolToken, NodeId};
use stockade_journal::layout;
use stockade_types::SessionId;
use tempfile::TempDir;

use super::{Browser, Usage};
use crate::wait;

/// The password of every person.
pub const PASSWORD: &str = "several words are good";
/// How long the server may take to begin.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server of the organisation `lab` in a directory of its own.
pub struct Site {
    program: PathBuf,
    dir: TempDir,
    link: String,
    web: u16,
    node: u16,
    server: Option<Child>,
}

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Site {
    /// Makes and starts a server of the program.
    pub fn new(program: &Path) -> Self {
        let mut site = Self {
            program: program.to_owned(),
            dir: tempfile::tempdir().expect("a directory"),
            link: String::new(),
            web: port(),
            node: port(),
            server: None,
        };
        let (web, node) = (site.web, site.node);
        let made = site.command(&["init", "--org", "lab"], |command| {
            command.args(["--listen", &format!("127.0.0.1:{web}")]);
            command.args(["--node-listen", &format!("127.0.0.1:{node}")]);
        });
        let link = made
            .lines()
            .last()
            .and_then(|line| line.split_once("token="));
        let (_, link) = link.expect("a link");
        link.clone_into(&mut site.link);
        site.start();
        site
    }

    /// Runs a command of the server to its end; returns what it printed.
    fn command(&self, words: &[&str], more: impl FnOnce(&mut Command)) -> String {
        let mut command = Command::new(&self.program);
        command.arg("serve").args(words).arg("--data");
        command.arg(self.data());
        more(&mut command);
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "serve {words:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Returns the directory of the server.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Returns what the server has said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Starts the server, and waits until it listens.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log());
        let server = Command::new(&self.program)
            .args(["serve", "--data"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        self.server = Some(server.expect("the program starts"));
        let listens = || TcpStream::connect(("127.0.0.1", self.node)).is_ok();
        assert!(wait::until_true(PATIENCE, listens), "{}", self.said());
    }

    /// Ends the server with `kill -9`.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().expect("it is ours");
        server.wait().expect("it is ours");
    }

    /// Ends the server in order.
    pub fn stop(&mut self) {
        let mut server = self.server.take().expect("it runs");
        let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::TERM).expect("it is ours");
        server.wait().expect("it is ours");
    }

    /// Returns what the server has used.
    pub fn usage(&self) -> Usage {
        Usage::of(self.server.as_ref().expect("it runs").id())
    }

    /// Makes tokens for machines of a person.
    pub fn tokens(&self, count: usize, owner: Option<&str>) -> Vec<EnrolToken> {
        let made = self.command(&["enrol-token"], |command| {
            command.args(["--count", &count.to_string(), "--minutes", "120"]);
            if let Some(owner) = owner {
                command.args(["--owner", owner]);
            }
        });
        let tokens = made.lines().filter_map(|line| line.parse().ok());
        let tokens: Vec<EnrolToken> = tokens.collect();
        assert_eq!(tokens.len(), count, "{made}");
        tokens
    }

    /// Makes a token by which a program uses the server as a role.
    pub fn token(&self, role: &str) -> String {
        let made = self.command(&["token"], |command| {
            command.args(["--role", role, "--name", role]);
        });
        made.lines().last().expect("a token").to_owned()
    }

    /// Returns a browser that is not signed in.
    pub async fn browser(&self) -> Browser {
        let ca = fs::read(self.data().join("keys/authority.pem")).expect("an authority");
        Browser::open(self.web, &ca).await
    }

    /// Returns the browser of the first administrator, `lead`.
    pub async fn lead(&self) -> Browser {
        let mut browser = self.browser().await;
        browser.redeem(&self.link, "lead").await;
        browser
    }

    /// Returns a browser with the session of another one, whose connection is gone.
    pub async fn browser_of(&self, other: &Browser) -> Browser {
        self.browser().await.with_session_of(other)
    }

    /// Returns the server's copy of a journal.
    pub fn copy(&self, node: &NodeId, session: &SessionId) -> PathBuf {
        let node = self.node_dir(node);
        layout::session_dir(&node, session).join(layout::JOURNAL_FILE)
    }

    /// Returns the directory of a machine's journals on the server; it is a state directory.
    pub fn node_dir(&self, node: &NodeId) -> PathBuf {
        self.data().join("evidence/lab").join(node.as_str())
    }

    /// Returns the program.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let ended = server.kill().and_then(|()| server.wait());
            stockade_types::ignored(ended, "it has ended by itself");
        }
    }
}
