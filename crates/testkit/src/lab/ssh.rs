//! An OpenSSH server on loopback with one repository, like that of a code host.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use super::loopback;
use crate::{
    env::{Repo, TestEnv, User},
    run::Running,
    wait,
};

/// The server must be called by its full path.
const SERVER: &str = "/usr/sbin/sshd";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);

/// A running server; it runs as the ordinary user if the tests run as root, and admits only clients
/// with the one key.
#[derive(Debug)]
pub struct SshServer {
    port: u16,
    login: String,
    repo: Repo,
    host_key: String,
    /// Ends before its directory is removed.
    running: Running,
    keeper: TestEnv,
}

impl SshServer {
    /// Starts a server on a free port of 127.0.0.1 that admits the owner of `public_key`.
    pub fn start(public_key: &str) -> Self {
        Self::with_host_key(public_key, &ED25519)
    }

    /// The same, with a host key that `kind` describes to `ssh-keygen`.
    pub fn with_host_key(public_key: &str, kind: &[&str]) -> Self {
        let user = rustix::process::geteuid()
            .is_root()
            .then(User::ordinary_name);
        let keeper = TestEnv::of(user.as_deref());
        let login = user.unwrap_or_else(|| User::current().name);
        let repo = keeper.repo();
        let key = keeper.root().join("host-key");
        make_key_of(&keeper, &key, kind);
        let public = fs::read_to_string(key.with_extension("pub")).expect("it was just made");
        let host_key = public
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        let listener = TcpListener::bind(loopback()).expect("a free port");
        let port = listener
            .local_addr()
            .expect("a listener has an address")
            .port();
        drop(listener);
        let authorized = keeper.write("authorized", public_key);
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             UsePAM no\nStrictModes no\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
            key.display(),
            authorized.display()
        );
        let settings = keeper.write("sshd_config", &settings);
        let running = keeper
            .command(SERVER)
            .args(["-D", "-e", "-f"])
            .arg(settings)
            .spawn();
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(
            wait::until_true(START, listens),
            "the server does not listen: {}",
            running.stderr()
        );
        Self {
            port,
            login,
            repo,
            host_key,
            running,
            keeper,
        }
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the name of the user to log in as.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Returns the path of its bare repository.
    pub fn repository(&self) -> &Path {
        self.repo.origin()
    }

    /// Returns the `known_hosts` line for one of its names.
    pub fn known_as(&self, name: &str) -> String {
        format!("{name} {}\n", self.host_key)
    }

    /// Returns what the server has logged about its clients.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Returns the commit of a branch of its repository.
    pub fn commit(&self, branch: &str) -> Option<String> {
        let output = self
            .keeper
            .command("git")
            .args(["rev-parse", "--verify", "-q", branch])
            .current_dir(self.repository())
            .output();
        (output.code() == 0).then(|| output.stdout.trim().to_owned())
    }
}

/// The ordinary kind of key.
const ED25519: [&str; 2] = ["-t", "ed25519"];

/// Makes a key without a passphrase, and returns the public half.
pub fn make_key(env: &TestEnv, path: &Path) -> String {
    make_key_of(env, path, &ED25519)
}

/// The same for a key that `kind` describes to `ssh-keygen`.
pub fn make_key_of(env: &TestEnv, path: &Path, kind: &[&str]) -> String {
    env.command("ssh-keygen")
        .args(kind)
        .args(["-q", "-N", "", "-f"])
        .arg(path)
        .success();
    let public: PathBuf = path.with_extension("pub");
    fs::read_to_string(public).expect("it was just made")
}
