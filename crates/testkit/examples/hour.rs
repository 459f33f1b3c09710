//! Two scripted hours of ordinary work, and the number of questions they cause: on the first day,
//! and on the next day after each was answered `always`. Run by `cargo xtask hour`, as root.
//!
//! The servers are in their own network, at addresses that are public there and are not routed
//! elsewhere. `curl` to the configured hosts replaces package managers, and scripts with their
//! names replace the clients of code hosts and clusters: the count is of the questions, not of the
//! work.
#![expect(
    clippy::expect_used,
    reason = "a broken fixture must end the program with its reason"
)]

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use stockade_testkit::{
    Repo, TestEnv,
    approvals::{self, Answer, Asked},
    http::Response,
    lab::{HttpServer, serve_repositories},
};

/// Set if the network is already our own.
const INSIDE: &str = "STOCKADE_HOUR_NETWORK";
/// The user of the sessions.
const USER: &str = "stockade-test";
/// The address of all servers; public, so that no rule needs `private`.
const SERVERS: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 2);
/// Longest time of one hour, in which the script never pauses.
const HOUR_TIMEOUT: Duration = Duration::from_mins(4);

const HOSTS: [&str; 12] = [
    "forge.test",
    "api.forge.test",
    "npm.registry.test",
    "pip.registry.test",
    "index.crates.test",
    "docs.one.test",
    "docs.two.test",
    "docs.three.test",
    "docs.four.test",
    "docs.five.test",
    "www.docs.five.test",
    "cluster.test",
];

/// A step of an hour: its subject, and its shell command line.
type Step = (&'static str, &'static str);

const FIRST: &[Step] = &[
    ("fetch", "git fetch -q origin && git ls-remote -q origin"),
    (
        "npm",
        "curl -sS http://npm.registry.test/left-pad && curl -sS http://npm.registry.test/jest",
    ),
    ("pip", "curl -sS http://pip.registry.test/simple/pytest/"),
    ("cargo", "curl -sS http://index.crates.test/se/rd/serde"),
    (
        "documentation",
        "for n in one two three four five; do curl -sS http://docs.$n.test:443/; done; \
         curl -sS http://www.docs.five.test:443/; curl -sS http://docs.one.test/",
    ),
    (
        "development server",
        "python3 -m http.server 8000 --bind 127.0.0.1 2>/dev/null & s=$!; sleep 1; \
         curl -sS http://127.0.0.1:8000/ >/dev/null; kill $s",
    ),
    (
        "commits",
        "git checkout -q -B work; for n in 1 2 3 4 5; do git commit -q --allow-empty -m \"push $n\"; done",
    ),
    (
        "push",
        "git push -q --dry-run origin work; git push -q origin work; git commit -q --allow-empty -m x; git push -q origin work; git push -q -u origin work",
    ),
    (
        "code host",
        "gh auth status; gh api repos/a/b; gh pr list; gh pr view 1; gh pr create --fill; \
         gh pr comment 1 --body done; gh api repos/a/b/pulls",
    ),
];

const SECOND: &[Step] = &[
    (
        "build",
        "printf 'all:\\n\\t@echo made\\n' > Makefile; make; make -n publish; git add alias.rs 2>/dev/null; true",
    ),
    (
        "cluster",
        "kubectl get pods; kubectl rollout status deployment/x; kubectl apply -f x.yaml --dry-run=client; kubectl --help",
    ),
    (
        "infrastructure",
        "terraform plan; terraform state list; terraform apply --help",
    ),
    (
        "packages",
        "npm publish --dry-run; npm owner ls x; cargo publish --dry-run; cargo owner --list; gradle build -x publish",
    ),
    (
        "images",
        "docker build -t x .; docker run x --push; docker push --help",
    ),
    ("apply", "kubectl apply -f x.yaml; kubectl apply -f x.yaml"),
    (
        "documentation",
        "curl -sS http://docs.one.test/; curl -sS http://docs.one.test:443/",
    ),
];

/// Replaced programs; those that talk to a server name it.
const STAND_INS: [(&str, &str); 8] = [
    ("gh", "curl -sS http://api.forge.test/"),
    ("kubectl", "curl -sS http://cluster.test/"),
    ("terraform", "true"),
    ("npm", "true"),
    ("cargo", "true"),
    ("gradle", "true"),
    ("docker", "true"),
    ("helm", "true"),
];

/// Most questions of an hour: on the first day apart from those about documentation, and on the
/// next day.
const FIRST_DAY_MAX: usize = 4;
const NEXT_DAY_MAX: usize = 1;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [role, root] if role == "serve" => serve(Path::new(root)),
        [binary] if std::env::var_os(INSIDE).is_some() => hours(&PathBuf::from(binary)),
        [binary] => own_network(binary),
        _ => fail("the one argument is the binary under test"),
    }
}

#[expect(clippy::print_stderr, reason = "what is wrong is for whoever runs it")]
fn fail(why: &str) -> ExitCode {
    eprintln!("hour: {why}");
    ExitCode::FAILURE
}

/// Runs this program again in its own network.
fn own_network(binary: &str) -> ExitCode {
    let this = std::env::current_exe().expect("a program knows where it is");
    let status = Command::new("unshare")
        .arg("--net")
        .arg(this)
        .arg(binary)
        .env(INSIDE, "1")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&format!("unshare: {error}")),
    }
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {line}");
}

/// Serves everything until standard input ends.
#[expect(clippy::print_stdout, reason = "says that it is ready")]
fn serve(root: &Path) -> ExitCode {
    for _ in 0..100 {
        if PathBuf::from("/sys/class/net/lab1").exists() || links().contains("lab1") {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ip(&format!("addr add {SERVERS}/24 dev lab1"));
    ip("link set lo up");
    ip("link set lab1 up");
    let _servers: Vec<HttpServer> = [80, 443]
        .into_iter()
        .map(|port| {
            let root = root.to_owned();
            HttpServer::on(SocketAddr::from((SERVERS, port)), move |request| {
                if request.path().contains(".git") {
                    serve_repositories(&root, request)
                } else {
                    Response::text(200, "lab\n")
                }
            })
        })
        .collect();
    println!("ready");
    drop(io::stdin().read_to_end(&mut Vec::new()));
    ExitCode::SUCCESS
}

fn links() -> String {
    let output = Command::new("ip").args(["-o", "link"]).output();
    output.map_or_else(
        |_| String::new(),
        |o| String::from_utf8_lossy(&o.stdout).into_owned(),
    )
}

/// Starts the servers in their own network, which is joined to ours.
fn start_servers(root: &Path) -> Child {
    let this = std::env::current_exe().expect("a program knows where it is");
    ip("link set lo up");
    ip("link add lab0 type veth peer name lab1");
    ip("addr add 11.0.0.1/24 dev lab0");
    ip("link set lab0 up");
    let mut child = Command::new("unshare")
        .arg("--net")
        .arg(this)
        .arg("serve")
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare is installed");
    // It is in its network once it has executed the other program.
    std::thread::sleep(Duration::from_millis(500));
    ip(&format!("link set lab1 netns {}", child.id()));
    let mut line = String::new();
    let said = child.stdout.take().expect("its output is a pipe");
    BufReader::new(said)
        .read_line(&mut line)
        .expect("it says that it is ready");
    assert_eq!(line, "ready\n");
    child
}

/// The questions of one day, by step and rule.
type Counts = BTreeMap<(String, String), usize>;

#[expect(clippy::print_stdout, reason = "the table is its output")]
fn hours(binary: &Path) -> ExitCode {
    let mut failed = false;
    println!("| hour | about | rule | the first day | the next day, after `always` |");
    println!("|---|---|---|---:|---:|");
    for (name, steps) in [("the usual one", FIRST), ("with other tools", SECOND)] {
        let env = TestEnv::new(binary).as_user(USER);
        let repo = prepare(&env);
        let servers = start_servers(repo.origin().parent().expect("it lies in a directory"));
        let (first, next) = (day(&env, &repo, steps), day(&env, &repo, steps));
        end(servers);
        let keys = first
            .keys()
            .chain(next.keys())
            .collect::<std::collections::BTreeSet<_>>();
        for (about, rule) in keys {
            let key = &(about.clone(), rule.clone());
            let of = |day: &Counts| day.get(key).copied().unwrap_or(0);
            println!(
                "| {name} | {about} | {rule} | {} | {} |",
                of(&first),
                of(&next)
            );
        }
        let beside: usize = first
            .iter()
            .filter(|((about, _), _)| about != "documentation")
            .map(|(_, count)| count)
            .sum();
        let all: usize = next.values().sum();
        println!(
            "| {name} | **all, and without documentation** | | **{}, {beside}** | **{all}** |",
            first.values().sum::<usize>()
        );
        failed |= beside > FIRST_DAY_MAX || all > NEXT_DAY_MAX;
    }
    if failed {
        return fail(&format!(
            "more than {FIRST_DAY_MAX} questions the first day beside documentation, or {NEXT_DAY_MAX} the next"
        ));
    }
    ExitCode::SUCCESS
}

fn end(mut servers: Child) {
    drop(servers.stdin.take());
    drop(servers.wait());
    // It disappears with the network at its other end, a moment later or already now.
    if links().contains("lab0") {
        drop(Command::new("ip").args(["link", "del", "lab0"]).status());
    }
}

/// Makes the home of a person who works with these tools.
fn prepare(env: &TestEnv) -> Repo {
    let repo = env.repo();
    let mut policy = String::from("schema = 1\n[network.hosts]\n");
    for host in HOSTS {
        policy.extend(["\"", host, "\" = \"", &SERVERS.to_string(), "\"\n"]);
    }
    env.write("home/.config/stockade/policy.toml", &policy);
    env.write("home/.npmrc", "registry=http://npm.registry.test/\n");
    env.write(
        "home/.config/pip/pip.conf",
        "[global]\nindex-url = http://pip.registry.test/simple\n",
    );
    env.write(
        "home/.cargo/config.toml",
        "[source.main]\nregistry = \"sparse+http://index.crates.test/\"\n",
    );
    for (name, line) in STAND_INS {
        let path = env.write(
            format!("home/.local/bin/{name}"),
            &format!("#!/bin/sh\n{line}\n"),
        );
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("it was just written");
    }
    for line in [
        vec!["config", "http.receivepack", "true"],
        vec!["config", "http.uploadpack", "true"],
    ] {
        env.command("git")
            .args(line)
            .current_dir(repo.origin())
            .success();
    }
    let url = ["remote", "set-url", "origin", "http://forge.test/shop.git"];
    repo.git(env, &url).assert_success();
    repo
}

/// Runs all steps in one session and answers `always`; counts the questions.
fn day(env: &TestEnv, repo: &Repo, steps: &[Step]) -> Counts {
    let mut script = String::from("export PATH=$HOME/.local/bin:$PATH\n");
    for (about, line) in steps {
        script.extend(["echo '", about, "' > step\n{ ", line, "; }\n"]);
    }
    let counts = std::cell::RefCell::new(Counts::new());
    let run = env
        .session_with(repo.path(), &["--ask", "inbox"])
        .timeout(HOUR_TIMEOUT)
        .line(&script);
    let (output, _) = approvals::answer_all(env, run.spawn(), |asked: &Asked| {
        let about = std::fs::read_to_string(repo.path().join("step")).unwrap_or_default();
        let show = env
            .stockade()
            .args(["approvals", "show", &asked.id])
            .output()
            .stdout;
        let rule = show
            .lines()
            .find_map(|line| line.trim().strip_prefix("why asked rule "));
        let rule = rule
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or("?")
            .to_owned();
        let what = show.lines().nth(1).unwrap_or_default().trim().to_owned();
        note(&format!("asked at {}: {what}", about.trim()));
        *counts
            .borrow_mut()
            .entry((about.trim().to_owned(), rule))
            .or_insert(0) += 1;
        let words = ["approvals", "allow", &asked.id, "--scope", "always"];
        let given = env.stockade().args(words).output();
        if given.code() != 0 {
            note(&format!("{given:?}"));
        }
        Answer::Deny {
            reason: "it is answered".to_owned(),
        }
    });
    note(&format!("{}{}", output.stdout, output.stderr));
    counts.into_inner()
}

#[expect(clippy::print_stderr, reason = "says what happens while it runs")]
fn note(text: &str) {
    eprintln!("{text}");
}
