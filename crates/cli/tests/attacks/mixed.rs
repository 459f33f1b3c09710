//! Ten thousand actions of every kind, four at a time (family T): each is one event, and no event is
//! without its action.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    time::Duration,
};

use serde_json::Value;
use stockade_testkit::{
    TestEnv,
    env::User,
    events::{self, Event},
    http::Response,
    lab::HttpServer,
    run::require_tool,
};

use crate::attacks::{build, environment};

const ACTIONS: usize = 10_000;
const WORKERS: usize = 4;
/// Actions of the control, which shows that they work without the boundary.
const CONTROL: usize = 400;
/// Draws the kinds and their order; another one is as good.
const SEED: usize = 1;
/// Most time of the session.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Ends at once.
const PLAIN: &str =
    "void _start(void) { __asm__ volatile(\"syscall\" : : \"a\"(231), \"D\"(0)); }\n";

/// What there is to know of a kind of action.
struct Kind {
    name: &'static str,
    /// What the program is told inside.
    inside: &'static str,
    /// The events that name one such action: kind, verdict and rule, empty if it has none.
    events: &'static [(&'static str, &'static str, &'static str)],
}

const fn kind(
    name: &'static str,
    inside: &'static str,
    events: &'static [(&'static str, &'static str, &'static str)],
) -> Kind {
    Kind {
        name,
        inside,
        events,
    }
}

/// Every kind of `mixed.py`.
const KINDS: [Kind; 14] = [
    kind("create", "done", &[("file.changed", "", "")]),
    kind("remove", "done", &[("file.changed", "", "")]),
    // From where, and to where.
    kind(
        "rename",
        "done",
        &[("file.changed", "", ""), ("file.changed", "", "")],
    ),
    kind("directory", "done", &[("file.changed", "", "")]),
    kind("link", "done", &[("file.changed", "", "")]),
    kind(
        "execute",
        "done",
        &[
            ("exec.decided", "allow", "programs"),
            ("process.started", "", ""),
            ("process.ended", "", ""),
        ],
    ),
    kind("create-kept", "refused", &[("file.denied", "deny", "kept")]),
    kind("rename-kept", "refused", &[("file.denied", "deny", "kept")]),
    kind("remove-kept", "refused", &[("file.denied", "deny", "kept")]),
    kind(
        "execute-refused",
        "refused",
        &[("exec.decided", "deny", "no-asked")],
    ),
    kind(
        "name",
        "refused",
        &[("name.decided", "deny", "unfamiliar-host")],
    ),
    kind(
        "connect",
        "refused",
        &[("connection.decided", "deny", "never-reached")],
    ),
    kind("get", "done", &[("http.decided", "allow", "read")]),
    kind("delete", "refused", &[("http.decided", "deny", "")]),
];

fn policy(port: u16) -> String {
    format!(
        r#"schema = 1
[network.hosts]
"friend.test" = "127.0.0.1"
[[deny]]
id = "no-asked"
what = "exec"
command = [["asked1", "**"]]
reason = "lab"
[[deny]]
id = "kept"
what = "file"
paths = ["kept/**"]
reason = "lab"
[[allow]]
id = "read"
what = "net"
hosts = ["friend.test"]
ports = [{port}]
methods = ["GET"]
private = true
reason = "lab"
"#
    )
}

/// Makes the files that actions need, and takes away what a run before left.
fn prepare(env: &TestEnv, place: &std::path::Path) {
    for directory in ["old", "new", "kept"] {
        let path = place.join(directory);
        if path.exists() {
            fs::remove_dir_all(&path).expect("the session is over");
        }
    }
    let line = format!(
        "mkdir -p old new kept/old && cd old && seq -f 'q%05gx' 0 {} | tee list | xargs touch && \
         cd ../kept/old && xargs touch < ../../old/list && rm ../../old/list",
        ACTIONS - 1
    );
    env.shell(place, &line).assert_success();
}

/// Reads what the program was told of each action: number, kind and `done` or `refused`.
fn account(place: &std::path::Path) -> BTreeMap<usize, (String, String)> {
    let mut all = BTreeMap::new();
    for worker in 0..WORKERS {
        let text = fs::read_to_string(place.join(format!("account-{worker}")));
        for line in text.expect("each worker writes one").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [number, kind, came] = words.try_into().expect("a line has three words");
            let number = number.parse().expect("it is a number");
            all.insert(number, (kind.to_owned(), came.to_owned()));
        }
    }
    all
}

/// Returns the number of the action that an event is about, which stands in its own target and not in
/// who did it.
fn action(event: &Event) -> Option<usize> {
    let about = match event.kind() {
        "file.changed" => event.json.get("path"),
        "process.started" | "process.ended" => event.json.pointer("/process/argv"),
        _ => event.json.get("target"),
    };
    let text = about?.to_string();
    let found = text.match_indices('q').find_map(|(at, _)| {
        let digits = text.get(at + 1..at + 6)?;
        let is_mark = digits.bytes().all(|byte| byte.is_ascii_digit())
            && text.get(at + 6..at + 7) == Some("x");
        is_mark.then(|| digits.parse().ok()).flatten()
    });
    found.or_else(|| address(event))
}

/// The number of a connection is in its address and port.
fn address(event: &Event) -> Option<usize> {
    let host = event.json.pointer("/target/host")?.as_str()?;
    let network: usize = host.strip_prefix("198.51.100.")?.parse().ok()?;
    let port = event.json.pointer("/target/port")?.as_u64()?;
    let port = usize::try_from(port).ok()?;
    Some((network - 1) * 1000 + port.checked_sub(20_000)?)
}

/// A refusal says who, what, by which rule and when.
fn assert_complete(event: &Event, session: &str) {
    assert_eq!(event.field("session"), session);
    assert!(!event.reason().is_empty(), "{:#}", event.json);
    for field in [
        "/seq",
        "/time",
        "/mono_ns",
        "/process/pid",
        "/process/exe",
        "/process/argv/0",
        "/process/cwd",
        "/process/ancestry/0",
        "/decision",
        "/target",
        "/policy_revision",
    ] {
        let value = event.json.pointer(field).unwrap_or(&Value::Null);
        assert!(!value.is_null(), "{field}: {:#}", event.json);
    }
}

/// Returns the last of [`User::all`]: this is about many actions, and not about who makes them.
fn environment_of_a_user() -> TestEnv {
    environment(User::all().into_iter().next_back().flatten().as_deref())
}

// keeps the promise that nothing is missing: the program's own account is compared with the record.
#[test]
fn t01_ten_thousand_mixed_actions_are_each_recorded_once() {
    require_tool("python3");
    let env = &environment_of_a_user();
    let server = HttpServer::with(|_| Response::text(200, "lab"));
    let repo = env.repo();
    build(env, &repo, &[("plain1", PLAIN), ("asked1", PLAIN)]);
    let program = env.write(repo.path().join("mixed.py"), include_str!("mixed.py"));
    let words = |actions: usize, host: &str| {
        let numbers = [actions, WORKERS, SEED].map(|number| number.to_string());
        let port = server.port().to_string();
        [&numbers[..], &[host.to_owned(), port]].concat()
    };
    // Without the boundary everything is done, except names and connections, which lead nowhere.
    prepare(env, repo.path());
    let control = env.command("/usr/bin/python3").arg(&program);
    let control = control.args(words(CONTROL, "127.0.0.1"));
    control.current_dir(repo.path()).success();
    for (name, came) in account(repo.path()).values() {
        let leads_nowhere = matches!(name.as_str(), "name" | "connect");
        assert_eq!(
            came,
            if leads_nowhere { "refused" } else { "done" },
            "{name}"
        );
    }
    let before = server.requests().len();
    assert!(before > 0);
    prepare(env, repo.path());
    let policy = env.write("mixed.toml", &policy(server.port()));
    let output = env
        .session(repo.path())
        .arg("--policy")
        .arg(policy)
        .args(["--", "/usr/bin/python3"])
        .arg(program)
        .args(words(ACTIONS, "friend.test"))
        .timeout(TIMEOUT)
        .output();
    output.assert_success();
    let account = account(repo.path());
    assert_eq!(account.len(), ACTIONS, "{output:?}");

    let record = env.record();
    let session = env.session_id();
    let mut found: HashMap<usize, Vec<&Event>> = HashMap::new();
    for event in &record {
        if event.is_refusal() {
            assert_complete(event, &session);
        }
        if let Some(number) = action(event) {
            found.entry(number).or_default().push(event);
        }
    }
    for (number, (name, came)) in &account {
        let kind = KINDS.iter().find(|kind| kind.name == name);
        let kind = kind.expect("the program and the table know the same kinds");
        assert_eq!(came, kind.inside, "{number} {name}: {output:?}");
        let events = found.remove(number).unwrap_or_default();
        let seen: Vec<_> = events
            .iter()
            .map(|event| (event.kind(), event.verdict(), event.rule()))
            .collect();
        assert_eq!(seen, kind.events, "{number} {name}");
    }
    assert!(found.is_empty(), "events without an action: {found:#?}");
    assert_totals(&record, &account);
    // What arrived is what the record allowed.
    let arrived = server.requests().len() - before;
    let asked = account.values().filter(|(kind, _)| kind == "get").count();
    assert_eq!(arrived, asked);
    env.stockade()
        .args(["log", "verify", "last"])
        .success()
        .assert_stdout("intact");
}

/// The totals at the end are those of the account, no event was lost, and every kind is there.
fn assert_totals(record: &[Event], account: &BTreeMap<usize, (String, String)>) {
    let end = record.last().expect("there is an end");
    let refused = account.values().filter(|(_, came)| came == "refused");
    assert_eq!(
        end.json.pointer("/counts/denials"),
        Some(&refused.count().into()),
        "{:#}",
        end.json
    );
    for kind in ["events.lost", "refusal.repeated"] {
        let some = record.iter().find(|event| event.kind() == kind);
        assert!(some.is_none(), "{some:#?}");
    }
    for kind in &KINDS {
        let count = account.values().filter(|(name, _)| name == kind.name);
        assert!(count.count() > ACTIONS / 100, "{}", kind.name);
    }
    assert!(record.len() > ACTIONS, "{}", events::summary(record));
}
