//! A code host on loopback: bare repositories over HTTP, served by git itself.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{HttpServer, TlsServer};
use crate::{
    env::{Repo, TestEnv},
    http::{Request, Response},
};

/// A running code host; it answers `lab` if a request names no repository.
#[derive(Debug)]
pub struct Forge {
    /// Its web server.
    pub server: HttpServer,
    root: PathBuf,
}

impl Forge {
    /// Serves the remotes of an environment, whose repositories accept pushes.
    pub fn start(env: &TestEnv, repo: &Repo) -> Self {
        Self::on(super::loopback(), env, repo)
    }

    /// The same on an address.
    pub fn on(address: SocketAddr, env: &TestEnv, repo: &Repo) -> Self {
        let root = accepting(env, repo);
        let served = root.clone();
        let server = HttpServer::on(address, move |request| serve(&served, request));
        Self { server, root }
    }

    /// Serves the remotes of an environment behind TLS, under a name.
    pub fn behind_tls(env: &TestEnv, repo: &Repo, name: &str) -> TlsServer {
        let root = accepting(env, repo);
        TlsServer::with(&[name], move |request| serve(&root, request))
    }

    /// Returns the commit of a branch of a repository here.
    pub fn commit(&self, env: &TestEnv, name: &str, branch: &str) -> Option<String> {
        let output = env
            .command("git")
            .args(["rev-parse", "--verify", "-q", branch])
            .current_dir(self.root.join(name))
            .output();
        (output.code() == 0).then(|| output.stdout.trim().to_owned())
    }
}

/// Has the remotes of an environment accept pushes over HTTP; returns the directory that they are in.
fn accepting(env: &TestEnv, repo: &Repo) -> PathBuf {
    env.command("git")
        .args(["config", "http.receivepack", "true"])
        .current_dir(repo.origin())
        .success();
    let root = repo.origin().parent();
    root.expect("a remote lies in a directory").to_owned()
}

/// Answers one request with git's own backend, or with `lab`.
pub fn serve(root: &Path, request: &Request) -> Response {
    if !request.path().contains(".git") {
        return Response::text(200, "lab\n");
    }
    let query = request
        .target
        .split_once('?')
        .map_or("", |(_, query)| query);
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("PATH_INFO", request.path())
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", &request.method)
        .env(
            "CONTENT_TYPE",
            request.header("content-type").unwrap_or_default(),
        )
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("REMOTE_USER", "lab")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env(
            "HTTP_CONTENT_ENCODING",
            request.header("content-encoding").unwrap_or_default(),
        )
        .env(
            "GIT_PROTOCOL",
            request.header("git-protocol").unwrap_or_default(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git is installed");
    let mut input = backend.stdin.take().expect("the input is a pipe");
    let body = request.body.clone();
    let writer = std::thread::spawn(move || drop(input.write_all(&body)));
    let output = backend.wait_with_output().expect("git ends");
    drop(writer.join());
    answer(&output.stdout)
}

/// Parses the backend's output, which has the form of CGI programs (RFC 3875).
fn answer(said: &[u8]) -> Response {
    let split = said.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(at) = split else {
        return Response::text(500, "no head");
    };
    let (head, body) = said.split_at(at);
    let mut status = 200;
    let mut headers = Vec::new();
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        if name == "Status" {
            status = value
                .split(' ')
                .next()
                .and_then(|code| code.parse().ok())
                .unwrap_or(500);
        } else {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Response {
        status,
        headers,
        body: body.get(4..).unwrap_or_default().to_vec(),
    }
}
