//! A registry of packages of every ecosystem, each with the package `demo`, and a repository of git:
//! what clients download and publish, in the forms that they expect. The version 1.0.0 is of the year
//! 2020; version 2.0.0 of npm and Python was published when the registry was started.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::serve_repositories;
use crate::{
    env::{Repo, TestEnv},
    http::{Request, Response},
};

/// What stands for the address of the registry in the texts that name it; the request says it.
const SELF: &str = "{self}";

/// When the old versions were published.
const OLD: &str = "2020-01-01T00:00:00Z";

/// Behind the path of a description of npm without times.
const SHORT: &str = "#short";

/// Makes the packages of `demo` with the tools that every machine has.
const PACK: &str = r#"
import datetime, io, json, os, tarfile, zipfile

def tar(path, files):
    with tarfile.open(path, "w:gz") as out:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            out.addfile(info, io.BytesIO(text.encode()))

def zipped(path, files):
    with zipfile.ZipFile(path, "w") as out:
        for name, text in files.items():
            out.writestr(name, text)

with open("now", "w") as out:
    out.write(datetime.datetime.now(datetime.timezone.utc).isoformat())
wheel = "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
for end, version in {"": "1.0.0", "2": "2.0.0"}.items():
    tar(f"demo{end}.tgz", {"package/package.json": json.dumps({"name": "demo", "version": version}),
                           "package/index.js": "module.exports = 'demo'\n"})
    meta = f"Metadata-Version: 2.1\nName: demo\nVersion: {version}\n"
    info = f"demo-{version}.dist-info/"
    zipped(f"demo{end}.whl", {"demo.py": "name = 'demo'\n", info + "METADATA": meta, info + "WHEEL": wheel,
                              info + "RECORD": "demo.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"})
toml = '[package]\nname = "demo"\nversion = "1.0.0"\nedition = "2021"\n'
tar("demo.crate", {"demo-1.0.0/Cargo.toml": toml, "demo-1.0.0/src/lib.rs": ""})
root = "lab.test/demo@v1.0.0/"
zipped("demo.zip", {root + "go.mod": "module lab.test/demo\n", root + "demo.go": "package demo\n"})
"#;

/// The files of a registry, by their paths, and its repositories.
#[derive(Debug)]
pub struct Registry {
    files: BTreeMap<String, Vec<u8>>,
    repositories: PathBuf,
    /// The crate `own` was published, which cargo waits to see in the index.
    own: AtomicBool,
}

impl Registry {
    /// Makes the packages in a directory of the environment, and serves the remotes of `repo`.
    pub fn new(env: &TestEnv, repo: &Repo) -> Self {
        let directory = env.root().join("registry");
        fs::create_dir_all(&directory).expect("a new directory can be made");
        env.own(&directory);
        let python = env.command("/usr/bin/python3").args(["-c", PACK]);
        python.current_dir(&directory).success();
        debian(env, &directory);
        env.command("git")
            .args(["config", "http.receivepack", "true"])
            .current_dir(repo.origin())
            .success();
        let remotes = repo.origin().parent().expect("a remote has a directory");
        Self {
            files: files(&directory),
            repositories: remotes.to_owned(),
            own: AtomicBool::new(false),
        }
    }

    /// Answers one request: with a file, with git's own answer, or by taking what is published.
    pub fn answer(&self, request: &Request) -> Response {
        if request.path().contains(".git/") {
            return serve_repositories(&self.repositories, request);
        }
        if !["GET", "HEAD"].contains(&request.method.as_str()) {
            self.own
                .fetch_or(request.path() == "/api/v1/crates/new", Ordering::Relaxed);
            return Response::json(200, &json!({"ok": true, "warnings": {}}));
        }
        if request.path() == "/index/3/o/own" && self.own.load(Ordering::Relaxed) {
            return Response::text(200, format!("{}\n", entry("own", "0.1.0", &[])));
        }
        // apt asks for the files of `./` in this way.
        let mut path = request.path().replace("/./", "/");
        // What npm asks for when it installs does not say when versions were published.
        let accepts = request.header("accept").unwrap_or_default();
        if path == "/npm/demo" && accepts.contains("vnd.npm.install-v1+json") {
            path.push_str(SHORT);
        }
        let Some(bytes) = self.files.get(&path) else {
            return Response::text(404, "no such file\n");
        };
        let own = format!("https://{}", request.header("host").unwrap_or_default());
        let body = match std::str::from_utf8(bytes) {
            Ok(text) => text.replace(SELF, &own).into_bytes(),
            Err(_) => bytes.clone(),
        };
        let kind = match path {
            path if path.starts_with("/simple/") => "text/html",
            path if path.starts_with("/npm/") => "application/json",
            path if path.starts_with("/dated/") => "application/vnd.pypi.simple.v1+json",
            _ => "application/octet-stream",
        };
        Response {
            status: 200,
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
            body,
        }
    }
}

/// Makes `demo.deb`.
fn debian(env: &TestEnv, directory: &Path) {
    let control = "Package: demo\nVersion: 1.0.0\nArchitecture: all\nMaintainer: lab <lab@lab.test>\n\
                   Description: lab\n";
    let tree = directory.join("deb/DEBIAN");
    env.write(tree.join("control"), control);
    env.command("chmod")
        .args(["-R", "u=rwX,go=rX"])
        .arg(directory.join("deb"))
        .success();
    env.command("dpkg-deb")
        .args(["--build", "--root-owner-group", "deb", "demo.deb"])
        .current_dir(directory)
        .success();
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &str| {
        fs::read(directory.join(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
    };
    let (package, wheel, archive) = (read("demo.tgz"), read("demo.whl"), read("demo.crate"));
    let (module, deb) = (read("demo.zip"), read("demo.deb"));
    let now = String::from_utf8(read("now")).expect("it is a time");
    let npm = npm(&now);
    let mut short = npm.clone();
    short.as_object_mut().and_then(|all| all.remove("time"));
    let index = entry("demo", "1.0.0", &archive);
    let config = json!({"dl": format!("{SELF}/crates"), "api": SELF});
    let simple = "<!DOCTYPE html><html><body><a href=\"../../files/demo-1.0.0-py3-none-any.whl\">\
                  demo-1.0.0-py3-none-any.whl</a></body></html>";
    let dated = [("1.0.0", OLD), ("2.0.0", now.as_str())].map(|(version, time)| {
        let name = format!("demo-{version}-py3-none-any.whl");
        let url = format!("{SELF}/files/{name}");
        json!({"filename": name, "url": url, "hashes": {}, "upload-time": time})
    });
    let dated = json!({
        "meta": {"api-version": "1.1"}, "name": "demo", "files": dated, "versions": ["1.0.0", "2.0.0"],
    });
    let packages = format!(
        "Package: demo\nVersion: 1.0.0\nArchitecture: all\nMaintainer: lab <lab@lab.test>\n\
         Filename: demo.deb\nSize: {}\nSHA256: {}\nDescription: lab\n\n",
        deb.len(),
        hash(&deb)
    );
    let text = |text: &str| text.as_bytes().to_vec();
    let all: [(&str, Vec<u8>); 19] = [
        ("/file", text("a file\n")),
        ("/npm/demo", text(&npm.to_string())),
        ("/npm/demo#short", text(&short.to_string())),
        ("/npm/demo/-/demo-1.0.0.tgz", package),
        ("/npm/demo/-/demo-2.0.0.tgz", read("demo2.tgz")),
        ("/simple/demo/", text(simple)),
        ("/dated/simple/demo/", text(&dated.to_string())),
        ("/files/demo-1.0.0-py3-none-any.whl", wheel),
        ("/files/demo-2.0.0-py3-none-any.whl", read("demo2.whl")),
        ("/index/config.json", text(&config.to_string())),
        ("/index/de/mo/demo", text(&format!("{index}\n"))),
        ("/crates/demo/1.0.0/download", archive),
        ("/go/lab.test/demo/@v/list", text("v1.0.0\n")),
        (
            "/go/lab.test/demo/@v/v1.0.0.info",
            text("{\"Version\":\"v1.0.0\",\"Time\":\"2020-01-01T00:00:00Z\"}"),
        ),
        (
            "/go/lab.test/demo/@v/v1.0.0.mod",
            text("module lab.test/demo\n"),
        ),
        ("/go/lab.test/demo/@v/v1.0.0.zip", module),
        ("/deb/Packages", text(&packages)),
        ("/deb/demo.deb", deb),
        ("/deb/Release", text("Origin: lab\n")),
    ];
    all.map(|(path, bytes)| (path.to_owned(), bytes))
        .into_iter()
        .collect()
}

/// Makes the description of npm.
fn npm(now: &str) -> Value {
    let version = |version: &str| {
        let tarball = format!("{SELF}/npm/demo/-/demo-{version}.tgz");
        json!({"name": "demo", "version": version, "dist": {"tarball": tarball}})
    };
    json!({
        "name": "demo", "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": version("1.0.0"), "2.0.0": version("2.0.0")},
        "time": {"created": OLD, "modified": now, "1.0.0": OLD, "2.0.0": now},
    })
}

/// Makes the line of the index that says of a crate what it needs.
fn entry(name: &str, version: &str, archive: &[u8]) -> Value {
    json!({
        "name": name, "vers": version, "deps": [], "features": {}, "yanked": false,
        "cksum": hash(archive), "pubtime": OLD,
    })
}

fn hash(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}
