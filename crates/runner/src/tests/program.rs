//! The files that programs may bring along, and those that they may not.

use std::{
    ffi::OsString,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use stockade_plan::ProgramFacts;
use stockade_types::{AbsPath, RawText};

use super::Ground;
use crate::RunError;

/// A home with a workspace, of which only the workspace is shown.
struct Lab {
    _dir: tempfile::TempDir,
    base: PathBuf,
    ground: Ground,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        for name in ["ws", "home/.ssh", "home/.local/state/stockade"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        let at = |name: &str| AbsPath::new(base.join(name)).unwrap();
        let (uid, gid) = stockade_sys::identity::own();
        let mut shown = vec![at("ws")];
        shown.extend(["/usr", "/bin", "/lib", "/etc"].map(|p| AbsPath::new(p).unwrap()));
        let ground = Ground {
            writable: vec![at("ws")],
            shown,
            homes: vec![at("home")],
            closed: vec![at("home/.ssh"), at("home/.local/state/stockade")],
            owners: vec![0, uid],
            group: gid,
        };
        Self {
            _dir: dir,
            base,
            ground,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace("BASE", self.base.to_str().unwrap())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, name: &str, target: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target.replace("BASE", self.base.to_str().unwrap()), path).unwrap();
    }

    /// Looks for a command from the workspace; `path` are directories of the lab.
    fn find(&self, name: &str, path: &[&str]) -> Result<ProgramFacts, RunError> {
        let name = name.replace("BASE", self.base.to_str().unwrap());
        let directories = path.iter().map(|name| self.at(name));
        let search: OsString =
            std::env::join_paths(directories.chain(["/usr/bin".into()])).unwrap();
        let name = RawText::from(name.as_str());
        super::find(&name, &self.at("ws"), Some(&search), &self.ground)
    }

    /// Returns the roots and links of a command that is found, below the lab.
    fn brought(&self, name: &str, path: &[&str]) -> (Vec<String>, Vec<String>) {
        let found = self.find(name, path).unwrap();
        let short = |path: &AbsPath| {
            let path = path.as_path();
            let below = path.strip_prefix(&self.base).unwrap_or(path);
            below.display().to_string()
        };
        let links = found.links.iter().map(|link| short(&link.path));
        (found.roots.iter().map(short).collect(), links.collect())
    }
}

#[test]
fn nothing_that_a_session_wrote_names_anything_outside() {
    let lab = Lab::new();
    lab.file("home/Documents/tax.txt", "secret", 0o644);
    lab.file("home/.local/bin/x", "#!/bin/sh\n", 0o755);
    lab.file("home/.local/lib/python3.11/y", "", 0o644);
    let first_lines = [
        "#!/usr/bin/env -S -C BASE/home sh",
        "#!/usr/bin/env -S BASE/home sh",
        "#!/usr/bin/env BASE/home",
        "#!BASE/home/Documents",
        "#!BASE/home/Documents/tax.txt",
        "#!/run",
        "#!/bin/sh",
    ];
    for (number, line) in first_lines.iter().enumerate() {
        let name = format!("ws/s{number}");
        lab.file(&name, &format!("{line}\n"), 0o755);
        let name = format!("./s{number}");
        assert_eq!(lab.brought(&name, &[]), (vec![], vec![]), "{line}");
    }
    // If the file exists as a program outside, the error names it.
    lab.file("ws/s", "#!BASE/home/.local/bin/x\n", 0o755);
    lab.file("ws/env", "#!/usr/bin/env x\n", 0o755);
    lab.link("ws/tool", "BASE/home/.local/bin/x");
    lab.link("ws/out", "BASE/home/.local");
    lab.link("ws/bin/x", "../tool");
    lab.link("home/bin/back", "BASE/ws/tool");
    let cases: [(&str, &[&str]); 7] = [
        ("./s", &[]),
        ("./env", &["home/.local/bin"]),
        ("./tool", &[]),
        ("./out/bin/x", &[]),
        ("x", &["ws/bin"]),
        ("x", &["ws/out/bin"]),
        ("back", &["home/bin"]),
    ];
    for (name, path) in cases {
        let refused = lab.find(name, path).unwrap_err();
        assert!(
            matches!(refused, RunError::NamedBySession { .. }),
            "{name}: {refused}"
        );
    }
    // A program outside whose interpreter is in the workspace may use only what exists inside.
    lab.file("home/bin/agent", "#!/usr/bin/env python9\n", 0o755);
    lab.link("ws/venv/bin/python9", "BASE/home/.local/bin/x");
    assert!(lab.find("agent", &["home/bin", "ws/venv/bin"]).is_err());
    lab.file("ws/pyvenv.cfg", "home = BASE/home\n", 0o644);
    lab.file("ws/bin/python8", "\x7fELF", 0o755);
    assert_eq!(lab.brought("python8", &["ws/bin"]), (vec![], vec![]));
}

#[test]
fn what_is_no_program_is_not_brought_along() {
    let lab = Lab::new();
    lab.file("home/.ssh/x", "#!/bin/sh\n", 0o755);
    lab.file("home/open", "#!/bin/sh\n", 0o757);
    lab.file("home/.local/state/stockade/agents/x", "#!/bin/sh\n", 0o755);
    for name in [
        "BASE/home/.ssh/x",
        "BASE/home/open",
        "BASE/home/.local/state/stockade/agents/x",
    ] {
        let refused = lab.find(name, &[]).unwrap_err();
        assert!(
            matches!(refused, RunError::ProgramUnsafe { .. }),
            "{name}: {refused}"
        );
    }
    // A FIFO or a directory does not count as an interpreter, and no read of it blocks.
    let fifo = lab.at("home/fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o755),
        0,
    )
    .unwrap();
    lab.file("home/s", "#!BASE/home/fifo\n", 0o755);
    assert_eq!(
        lab.brought("BASE/home/s", &[]),
        (vec!["home/s".to_owned()], vec![])
    );
    assert!(super::first_line(&fifo).is_none());
    assert!(lab.find("BASE/home/fifo", &[]).is_err());
    lab.file("home/d", "#!BASE/home\n", 0o755);
    assert_eq!(
        lab.brought("BASE/home/d", &[]),
        (vec!["home/d".to_owned()], vec![])
    );
}

const ELF: &str = "\x7fELF";

#[test]
fn packages_of_npm_bring_themselves_and_node() {
    let lab = Lab::new();
    let node = ELF;
    // `n`, or a tarball: a prefix that contains only node.
    lab.file("home/n/bin/node", node, 0o755);
    lab.file(
        "home/n/lib/node_modules/npm/bin/npm-cli.js",
        "#!/usr/bin/env node\n",
        0o755,
    );
    lab.link("home/n/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js");
    let n = ["home/n".to_owned()];
    assert_eq!(lab.brought("npm", &["home/n/bin"]), (n.to_vec(), vec![]));
    // npm with its own prefix, and with the home as its prefix.
    for prefix in ["home/.npm-global", "home/.local", "home"] {
        lab.file(
            &format!("{prefix}/lib/node_modules/@lab/agent/cli.js"),
            "#!/usr/bin/env node\n",
            0o755,
        );
        lab.link(
            &format!("{prefix}/bin/agent"),
            "../lib/node_modules/@lab/agent/cli.js",
        );
        let bin = format!("{prefix}/bin");
        let mut roots = vec![
            format!("{prefix}/lib/node_modules/@lab/agent"),
            n[0].clone(),
        ];
        roots.sort();
        let links = vec![format!("{prefix}/bin/agent")];
        assert_eq!(
            lab.brought("agent", &[&bin, "home/n/bin"]),
            (roots, links),
            "{prefix}"
        );
    }
    // node itself in the user's own prefix.
    lab.file("home/.local/bin/node", node, 0o755);
    lab.file(
        "home/.local/lib/node_modules/npm/bin/npm-cli.js",
        "#!/usr/bin/env node\n",
        0o755,
    );
    lab.link(
        "home/.local/bin/npm",
        "../lib/node_modules/npm/bin/npm-cli.js",
    );
    let roots =
        ["bin/node", "lib/node_modules/npm/bin/npm-cli.js"].map(|p| format!("home/.local/{p}"));
    let found = lab.brought("node", &["home/.local/bin"]);
    assert_eq!(
        found,
        (roots.to_vec(), vec!["home/.local/bin/npm".to_owned()])
    );
}

#[test]
fn other_installers_bring_what_they_need_and_no_more() {
    let lab = Lab::new();
    lab.file("home/.local/lib/python3.11/x.py", "", 0o644);
    // yarn and bun: everything beside each other.
    lab.file(
        "home/.config/yarn/global/node_modules/agent/cli.js",
        "#!/bin/sh\n",
        0o755,
    );
    lab.link(
        "home/.config/yarn/global/node_modules/.bin/agent",
        "../agent/cli.js",
    );
    lab.link(
        "home/.yarn/bin/agent",
        "BASE/home/.config/yarn/global/node_modules/.bin/agent",
    );
    let found = lab.brought("agent", &["home/.yarn/bin"]);
    let yarn = "home/.config/yarn/global/node_modules".to_owned();
    assert_eq!(found, (vec![yarn], vec!["home/.yarn/bin/agent".to_owned()]));
    // The native installer: one file of a version, or a directory.
    lab.file("home/.local/share/native/versions/1.2.3", ELF, 0o755);
    lab.link(
        "home/.local/bin/native",
        "BASE/home/.local/share/native/versions/1.2.3",
    );
    let found = lab.brought("native", &["home/.local/bin"]);
    assert_eq!(
        found.0,
        [
            "home/.local/lib/python3.11",
            "home/.local/share/native/versions/1.2.3"
        ]
    );
}

#[test]
fn pythons_bring_their_libraries() {
    let lab = Lab::new();
    let elf = "\x7fELF";
    // pip --user: a script, and the user's packages.
    lab.file("home/.local/bin/agent", "#!/usr/bin/python3\n", 0o755);
    lab.file(
        "home/.local/lib/python3.11/site-packages/agent.py",
        "",
        0o644,
    );
    lab.file("home/.local/share/keyrings/login", "secret", 0o600);
    let roots = ["bin/agent", "lib/python3.11"].map(|p| format!("home/.local/{p}"));
    assert_eq!(
        lab.brought("agent", &["home/.local/bin"]),
        (roots.to_vec(), vec![])
    );
    // pipx and uv: an environment with a system python, and a link to its script.
    lab.file(
        "home/.local/share/pipx/venvs/tool/pyvenv.cfg",
        "home = /usr/bin\n",
        0o644,
    );
    lab.link(
        "home/.local/share/pipx/venvs/tool/bin/python",
        "/usr/bin/env",
    );
    let line = "#!BASE/home/.local/share/pipx/venvs/tool/bin/python\n";
    lab.file("home/.local/share/pipx/venvs/tool/bin/tool", line, 0o755);
    lab.link(
        "home/.local/bin/tool",
        "BASE/home/.local/share/pipx/venvs/tool/bin/tool",
    );
    let (roots, links) = lab.brought("tool", &["home/.local/bin"]);
    assert!(
        roots.contains(&"home/.local/share/pipx/venvs/tool".to_owned()),
        "{roots:?}"
    );
    assert!(!roots.iter().any(|root| root == "home/.local"), "{roots:?}");
    assert_eq!(links, ["home/.local/bin/tool"]);
    // A separate python: pyenv, asdf, a build.
    lab.file("home/.pyenv/versions/3.12/bin/python3.12", elf, 0o755);
    lab.file("home/.pyenv/versions/3.12/lib/python3.12/os.py", "", 0o644);
    lab.link("home/.pyenv/versions/3.12/bin/python3", "python3.12");
    let found = lab.brought("python3", &["home/.pyenv/versions/3.12/bin"]);
    assert_eq!(
        found,
        (vec!["home/.pyenv/versions/3.12".to_owned()], vec![])
    );
    // The socket of a service in a prefix keeps the prefix out, but not the program.
    let _socket = UnixListener::bind(lab.at("home/.pyenv/versions/3.12/lib/s")).unwrap();
    let (roots, _) = lab.brought("python3", &["home/.pyenv/versions/3.12/bin"]);
    let expected = ["bin/python3.12", "lib/python3.12"];
    assert_eq!(
        roots,
        expected.map(|p| format!("home/.pyenv/versions/3.12/{p}"))
    );
}

#[test]
fn what_env_takes_apart_is_told_or_not_at_all() {
    let cases = [
        ("node", Some("node")),
        ("-S node --flag", Some("node")),
        ("-Snode --flag", Some("node")),
        ("-S A=1 B=2 node", Some("node")),
        ("A=1 node", Some("node")),
        ("-S -C /home sh", None),
        ("-S -i sh", None),
        ("-u X sh", None),
        ("-S \"sh\"", None),
        ("-S ${HOME}/x", None),
        ("", None),
    ];
    for (words, name) in cases {
        let mut words = words.split_ascii_whitespace();
        assert_eq!(super::env_name(&mut words), name);
    }
}

#[test]
fn missing_and_not_executable_are_told_apart() {
    let lab = Lab::new();
    lab.file("ws/plain", "text", 0o644);
    let find = |name: &str| lab.find(name, &["ws"]);
    assert!(matches!(find("absent"), Err(RunError::CommandNotFound(_))));
    assert!(matches!(
        find("./absent"),
        Err(RunError::CommandNotFound(_))
    ));
    assert!(matches!(
        find("plain"),
        Err(RunError::CommandNotExecutable { .. })
    ));
    assert!(fs::metadata(Path::new("/usr/bin/env")).unwrap().uid() == 0);
}
