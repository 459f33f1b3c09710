//! A policy that is published while sessions run, and a candidate that is compared and tried.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a broken fixture must end the test"
)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use stockade_testkit::{
    Repo, TestEnv, env::under_test, events::Event, people::Organisation, run::require_tool,
    wait::until_true,
};
use stockade_types::UnixMillis;

const PATIENCE: Duration = Duration::from_secs(30);
/// Chunks of the download that both policies allow, after the other one was cut.
const MORE: usize = 10;
const PLAIN: &str = "schema = 1\n";
const NO_UNAME: &str = "schema = 1\n[[deny]]\nid = \"no-uname\"\nwhat = \"exec\"\ncommand = [\"uname\", \"**\"]\nreason = \"not here\"\n";

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.expect("a time after 1970").as_millis();
    UnixMillis(u64::try_from(millis).expect("a time before the end of time"))
}

struct Place {
    env: TestEnv,
    repo: Repo,
    shop: Organisation,
}

impl Place {
    fn new() -> Self {
        let env = TestEnv::new(under_test());
        let repo = env.repo();
        let shop = Organisation::new(now());
        shop.enrol(&env);
        Self { env, repo, shop }
    }

    fn run(&self, line: &str) -> String {
        let run = self.env.session(self.repo.path()).line(line);
        run.success().stdout.trim().to_owned()
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let record = self.env.record();
        let of_kind = record.iter().filter(|event| event.kind() == kind);
        of_kind.map(data).collect()
    }
}

fn data(event: &Event) -> Value {
    event.json.get("data").unwrap_or(&event.json).clone()
}

/// A server that sends a little and a little more: for `/cut` until the connection breaks, for others
/// until some time after that.
#[derive(Default)]
struct Dripping {
    /// Downloads that have begun.
    begun: AtomicUsize,
    /// The one that is to be cut is.
    is_cut: AtomicBool,
}

impl Dripping {
    fn start() -> (Arc<Self>, u16) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = Arc::new(Self::default());
        let own = Arc::clone(&server);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = Arc::clone(&own);
                thread::spawn(move || own.serve(stream));
            }
        });
        (server, port)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap_or_default();
        if read == 0 {
            // Only whether there is a server was tried.
            return;
        }
        let is_to_be_cut = head[..read].starts_with(b"GET /cut");
        let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        if stream.write_all(answer).is_err() {
            return;
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        let mut more = 0;
        while begun.elapsed() < PATIENCE && more < MORE {
            if stream.write_all(b"a chunk of it\n").is_err() {
                if is_to_be_cut {
                    self.is_cut.store(true, Ordering::SeqCst);
                }
                return;
            }
            more += usize::from(!is_to_be_cut && self.is_cut.load(Ordering::SeqCst));
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Policies about the hosts of [`Dripping`]: the second one denies `cut.test`, and allows one host more.
fn policies(port: u16) -> (String, String) {
    let allow = |id: &str, host: &str| {
        format!(
            "[[allow]]\nid = \"{id}\"\nwhat = \"net\"\nhosts = [\"{host}\"]\nports = [{port}]\nprivate = true\n"
        )
    };
    let hosts = "[network.hosts]\n\"cut.test\" = \"127.0.0.1\"\n\"kept.test\" = \"127.0.0.1\"\n\"later.test\" = \"127.0.0.1\"\n";
    let first = format!(
        "schema = 1\n{hosts}{}{}",
        allow("cut", "cut.test"),
        allow("kept", "kept.test")
    );
    let second = format!(
        "schema = 1\n{hosts}{}{}{NO_CUT}",
        allow("kept", "kept.test"),
        allow("later", "later.test")
    );
    (first, second)
}

/// The record says what was cut, and that alone.
fn is_recorded(place: &Place) {
    let tightened = place.events("policy.tightened");
    assert_eq!(tightened.len(), 1, "{tightened:?}");
    assert_eq!(
        (&tightened[0]["serial"], &tightened[0]["denies"]),
        (&2.into(), &true.into())
    );
    let cut = |event: &&Value| event["detail"] == "cut while it was open";
    let decided: Vec<Value> = ["connection.decided", "http.decided"]
        .into_iter()
        .flat_map(|kind| place.events(kind))
        .collect();
    let all: Vec<&Value> = decided.iter().filter(cut).collect();
    assert!(!all.is_empty(), "{decided:?}");
    for one in all {
        assert_eq!(one["target"]["host"], "cut.test", "{one}");
        assert_eq!(one["verdict"], "deny", "{one}");
    }
}

/// A download is under way as a policy is published that denies its host: it is cut and recorded. The one
/// to a host that both policies allow goes on to its end, and what the new one would allow beyond the old
/// one waits for the next session.
#[test]
fn a_policy_that_is_published_cuts_what_it_denies_in_running_sessions() {
    require_tool("curl");
    let place = Place::new();
    let (server, port) = Dripping::start();
    let (first, second) = policies(port);
    place.shop.publish(&place.env, 1, &first);
    let get = |host: &str, path: &str| format!("curl -sS -N -m 60 http://{host}:{port}/{path}");
    let line = format!(
        "({} > /dev/null; echo cut=$?) & ({} | tail -n 1; echo kept) & wait; {} || echo again=$?; {} || echo later=$?",
        get("cut.test", "cut"),
        get("kept.test", "kept"),
        get("cut.test", "again"),
        get("later.test", "later"),
    );
    let options = ["--ask", "deny"];
    let run = place
        .env
        .session_with(place.repo.path(), &options)
        .line(&line);
    let running = run.spawn();
    let begun = until_true(PATIENCE, || server.begun.load(Ordering::SeqCst) == 2);
    assert!(begun, "{}", running.stderr());
    thread::sleep(Duration::from_millis(1_500));
    assert!(
        !server.is_cut.load(Ordering::SeqCst),
        "nothing is cut before"
    );
    place.shop.publish(&place.env, 2, &second);
    let published = Instant::now();
    let cut = until_true(PATIENCE, || server.is_cut.load(Ordering::SeqCst));
    assert!(cut, "{}", running.stderr());
    assert!(
        published.elapsed() < Duration::from_secs(5),
        "{:?}",
        published.elapsed()
    );
    let output = running.wait();
    output
        .assert_stdout("a chunk of it")
        .assert_stdout("kept")
        .assert_stdout("again=")
        .assert_stdout("later=");
    assert!(!output.stdout.contains("cut=0"), "{output:?}");
    is_recorded(&place);
    // The next session has it.
    let next = place.env.session_with(place.repo.path(), &options);
    let line = format!("{} | tail -n 1", get("later.test", "later"));
    next.line(&line).output().assert_stdout("a chunk of it");
}

const NO_CUT: &str = "[[deny]]\nid = \"no-cut\"\nwhat = \"net\"\nhosts = [\"cut.test\"]\nreason = \"not any more\"\n";

/// Executions too: one that the session's own policy allows is denied from the moment on, and allowed again
/// once that policy is in force again.
#[test]
fn programs_are_denied_from_then_on_and_no_longer_than_the_policy_is_in_force() {
    let place = Place::new();
    place.shop.publish(&place.env, 1, PLAIN);
    let line = "uname; until [ -e one ]; do sleep 0.1; done; uname || echo denied; touch seen; until [ -e two ]; do sleep 0.1; done; uname; echo over";
    let running = place.env.session(place.repo.path()).line(line).spawn();
    let says = |text: &str, count: usize| {
        until_true(PATIENCE, || running.stdout().matches(text).count() == count)
    };
    assert!(says("Linux", 1), "{}", running.stderr());
    place.shop.publish(&place.env, 2, NO_UNAME);
    let kinds =
        |count: usize| until_true(PATIENCE, || place.events("policy.tightened").len() == count);
    assert!(kinds(1), "it is followed");
    std::fs::write(place.repo.path().join("one"), "").expect("a file");
    assert!(says("denied", 1), "{}", running.stderr());
    place.shop.publish(&place.env, 3, PLAIN);
    assert!(kinds(2), "it is followed back");
    std::fs::write(place.repo.path().join("two"), "").expect("a file");
    running.wait().assert_success().assert_stdout("over");
    assert_eq!(place.events("policy.tightened")[1]["denies"], false);
}

#[test]
fn a_candidate_is_compared_then_tried_then_in_force() {
    let place = Place::new();
    place.shop.roll_out(&place.env, 7, PLAIN, NO_UNAME);
    let line = "uname || echo denied; echo over";
    let loaded = |place: &Place| {
        let loaded = place.events("policy.loaded");
        loaded.last().expect("a policy")["bundle"]["rollout"].clone()
    };
    // Without a pointer the policy in force decides alone.
    assert_eq!(place.run(line), "Linux\nover");
    assert_eq!(loaded(&place)["arm"], "control");
    assert!(place.events("policy.compared").is_empty());
    place.shop.point(&place.env, 7, 1, now());
    assert_eq!(place.run(line), "Linux\nover", "it decides nothing");
    assert_eq!(
        (&loaded(&place)["arm"], &loaded(&place)["step"]),
        (&"shadow".into(), &1.into())
    );
    let differed = place.events("policy.differed");
    let uname = differed
        .iter()
        .find(|event| event["candidate_rule"] == "no-uname")
        .expect("it would have been denied");
    assert_eq!(
        (&uname["verdict"], &uname["candidate_verdict"]),
        (&"allow".into(), &"deny".into())
    );
    let compared = place.events("policy.compared");
    let counts = &compared.last().expect("it was compared")["counts"];
    assert_eq!(
        (&counts["candidate_denied"], &counts["denied"]),
        (&1.into(), &0.into()),
        "{counts}"
    );
    place.shop.point(&place.env, 7, 2, now());
    assert_eq!(place.run(line), "denied\nover");
    assert_eq!(loaded(&place)["arm"], "canary");
    // Halted: the policy in force decides alone again.
    place.shop.point(&place.env, 7, 0, now());
    assert_eq!(place.run(line), "Linux\nover");
    // A pointer that has expired leads nowhere, except that the last step stays.
    let long_ago = UnixMillis(now().0 - 2 * 60 * 60 * 1_000);
    place.shop.point(&place.env, 7, 2, long_ago);
    assert_eq!(place.run(line), "Linux\nover");
    place.shop.point(&place.env, 7, 3, long_ago);
    assert_eq!(place.run(line), "denied\nover");
    assert_eq!(loaded(&place)["arm"], "enforced");
    // One for another serial is none, and one that was changed stops every session.
    place.shop.point(&place.env, 8, 3, now());
    assert_eq!(place.run(line), "Linux\nover");
    place
        .env
        .write(place.env.state().join("trust/pointer.json"), "{");
    place
        .env
        .session(place.repo.path())
        .line(line)
        .output()
        .assert_code(125)
        .assert_stderr("pointer.json");
}
