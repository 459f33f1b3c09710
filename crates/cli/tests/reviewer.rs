//! Questions that the automatic reviewer sees, with a model that says what the test wants.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken fixture must end the test"
)]

use std::{
    io::{BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use stockade_testkit::{Output, Repo, TestEnv, http};

/// What the model does with a call.
type Does = dyn Fn(&Value, &mut TcpStream) + Send + Sync;

/// A model on loopback. It keeps the calls that it got.
struct Model {
    port: u16,
    calls: Arc<Mutex<Vec<http::Request>>>,
}

impl Model {
    fn new(does: impl Fn(&Value, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (kept, does): (_, Arc<Does>) = (Arc::clone(&calls), Arc::new(does));
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, does) = (Arc::clone(&kept), Arc::clone(&does));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut input = BufReader::new(stream.try_clone().unwrap());
                    let Ok(Some(request)) = http::read(&mut input, &mut stream) else {
                        return;
                    };
                    let call = request.json();
                    kept.lock().unwrap().push(request);
                    does(&call, &mut stream);
                });
            }
        });
        Self { port, calls }
    }

    /// One that answers with these words, for the question that it is asked.
    fn answering(outcome: &'static str, risk: &'static str, authorisation: &'static str) -> Self {
        Self::new(move |call, stream| {
            let answer = json!({
                "question": asked(call)["question"],
                "risk": risk,
                "authorisation": authorisation,
                "outcome": outcome,
                "rationale": "It prints the name of the kernel.",
            });
            say(stream, &answer.to_string());
        })
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

fn asked(call: &Value) -> Value {
    let text = call["messages"][1]["content"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

/// Answers with one completion.
fn say(stream: &mut TcpStream, content: &str) {
    let body = json!({
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
    });
    http::Response::json(200, &body).write(stream).ok();
    stream.flush().ok();
}

fn policy(model: &Model, reviewer: &str, more: &str) -> String {
    format!(
        "schema = 1\n[reviewer]\nendpoint = \"http://127.0.0.1:{}/v1\"\nmodel = \"lab\"\ntimeout = \"1500ms\"\n\
         key_file = \"~/reviewer-key\"\n{more}\n[[ask]]\nid = \"system\"\nwhat = \"exec\"\n\
         command = [\"uname\", \"**\"]\nreviewer = \"{reviewer}\"\nreviewer_allows = \"medium\"\n\
         expires = \"20s\"\nreason = \"looks at the system\"\n",
        model.port
    )
}

fn run(env: &TestEnv, repo: &Repo, text: &str, line: &str) -> Output {
    use std::os::unix::fs::PermissionsExt as _;
    let key = env.write(env.home().join("reviewer-key"), "sk-reviewer-0001\n");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    env.own(&key);
    let file = env.write("policy.toml", text).display().to_string();
    let options = ["--ask", "inbox", "--policy", file.as_str()];
    env.session_with(repo.path(), &options).line(line).output()
}

/// The events about what the reviewer said: what it came to, and why.
fn reviewed(env: &TestEnv) -> Vec<(String, String)> {
    let events = env.record();
    let all = events
        .iter()
        .filter(|event| event.kind() == "approval.reviewed");
    all.map(|event| {
        (
            event.verdict().to_owned(),
            event.field("rationale").to_owned(),
        )
    })
    .collect()
}

const LINE: &str = "uname -s || /run/stockade/why";

#[test]
fn a_model_allows_what_the_rule_lets_it() {
    TestEnv::each(|env, repo| {
        let model = Model::answering("allow", "low", "implied");
        let done = run(&env, &repo, &policy(&model, "bot", ""), LINE);
        done.assert_success().assert_stdout("Linux");
        assert_eq!(model.calls(), 1);
        let calls = model.calls.lock().unwrap();
        let call = calls.first().unwrap();
        assert_eq!(call.path(), "/v1/chat/completions");
        assert_eq!(
            call.header("authorization"),
            Some("Bearer sk-reviewer-0001")
        );
        let text = asked(&call.json())["evidence"].to_string();
        assert!(text.contains("uname -s"), "{text}");
        let said = reviewed(&env);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, "allow");
        env.stockade()
            .args(["show", "last"])
            .success()
            .assert_stdout("reviewer");
    });
}

/// Models whose answers come, and are none.
fn liars() -> Vec<(&'static str, Model)> {
    let with = |key: &'static str, value: Value| {
        Model::new(move |call, stream| {
            let mut answer = json!({
                "question": asked(call)["question"], "risk": "low", "authorisation": "explicit",
                "outcome": "allow", "rationale": "fine",
            });
            answer[key] = value.clone();
            say(stream, &answer.to_string());
        })
    };
    vec![
        ("high risk", with("risk", json!("high"))),
        ("contradiction", with("authorisation", json!("none"))),
        ("other question", with("question", json!("00000000"))),
        ("more fields", with("approved_by", json!("the user"))),
        ("words", Model::new(|_, stream| say(stream, "allow"))),
    ]
}

/// Models that do not answer as a server does.
fn breakers() -> Vec<(&'static str, Model)> {
    vec![
        (
            "silence",
            Model::new(|_, _| thread::sleep(Duration::from_mins(1))),
        ),
        (
            "drips",
            Model::new(|_, stream| {
                for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
                    .iter()
                    .cycle()
                {
                    if stream.write_all(&[*byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }),
        ),
        (
            "breaks off",
            Model::new(|_, stream| {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\"")
                    .ok();
            }),
        ),
        (
            "busy",
            Model::new(|_, stream| {
                http::Response::text(429, "later").write(stream).ok();
            }),
        ),
        (
            "redirect",
            Model::new(|_, stream| {
                let answer =
                    http::Response::text(307, "").header("location", "http://127.0.0.1:1/");
                answer.write(stream).ok();
            }),
        ),
        (
            "floods",
            Model::new(|_, stream| {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n")
                    .ok();
                while stream.write_all(&[b' '; 4096]).is_ok() {}
            }),
        ),
    ]
}

/// Whatever else it does, nothing is allowed: it says more than it may, lies about the question, says nothing
/// in time, breaks off, contradicts itself, redirects, or answers at length.
#[test]
fn a_model_that_misbehaves_allows_nothing() {
    let models: Vec<(&str, Model)> = liars().into_iter().chain(breakers()).collect();
    TestEnv::each(|env, repo| {
        for (what, model) in &models {
            let done = run(&env, &repo, &policy(model, "bot", ""), LINE);
            assert!(!done.stdout.contains("Linux"), "{what}: {}", done.stdout);
            done.assert_stdout("reviewer");
            assert!(model.calls() >= 1, "{what}: it was asked");
            let said = reviewed(&env);
            assert_eq!(said.len(), 1, "{what}: {said:?}");
            assert_eq!(said[0].0, "", "{what}: {said:?}");
        }
        // Nobody listens there, or its key is missing: no call, and nothing is allowed.
        let gone = Model {
            port: 1,
            calls: Arc::default(),
        };
        let done = run(&env, &repo, &policy(&gone, "bot", ""), LINE);
        assert!(!done.stdout.contains("Linux"), "{}", done.stdout);
        let (_, model) = &models[0];
        let no_key = policy(model, "bot", "").replace("~/reviewer-key", "~/no-such-key");
        let before = model.calls();
        let done = run(&env, &repo, &no_key, LINE);
        assert!(!done.stdout.contains("Linux"), "{}", done.stdout);
        assert_eq!(model.calls(), before);
    });
}

/// A denial reaches the agent with its reason; after three in a row the reviewer is off, and its budget ends.
#[test]
fn denials_and_the_budget_end_its_work() {
    TestEnv::each(|env, repo| {
        let model = Model::answering("deny", "high", "none");
        let line = "for word in s n r v m; do uname -$word || /run/stockade/why; done";
        let text = policy(&model, "bot", "").replace("expires = \"20s\"", "expires = \"1s\"");
        let done = run(&env, &repo, &text, line);
        assert!(!done.stdout.contains("Linux"), "{}", done.stdout);
        done.assert_stdout("It prints the name of the kernel.");
        // The fourth and the fifth go to people, of whom there are none here.
        assert_eq!(model.calls(), 3);
        let off = env.record();
        let off = off
            .iter()
            .filter(|event| event.field("action") == "reviewer-off");
        assert_eq!(off.count(), 1);

        let model = Model::answering("allow", "low", "explicit");
        let done = run(
            &env,
            &repo,
            &policy(&model, "bot", "budget = 1"),
            "uname -s; uname -n || /run/stockade/why",
        );
        done.assert_stdout("Linux")
            .assert_stdout("its budget of 1 questions is used up");
        assert_eq!(model.calls(), 1);
    });
}

/// What a lower layer sets up has no say about rules of the organisation.
#[test]
fn a_lower_layer_chooses_no_model_for_the_organisation() {
    TestEnv::each(|env, repo| {
        let model = Model::answering("allow", "low", "explicit");
        let whole = policy(&model, "bot", "");
        let at = whole.find("[[ask]]").unwrap();
        let (table, rule) = whole.split_at(at);
        let organisation = env.write("organisation.toml", &format!("schema = 1\n{rule}"));
        let file = env.write("mine.toml", table).display().to_string();
        let options = ["--ask", "inbox", "--policy", file.as_str()];
        let done = env
            .session_with(repo.path(), &options)
            .env("STOCKADE_ORG_POLICY", organisation)
            .line(LINE)
            .output();
        assert!(!done.stdout.contains("Linux"), "{}", done.stdout);
        assert_eq!(model.calls(), 0);
        // The twin: the organisation's own model.
        let organisation = env.write(
            "organisation.toml",
            &whole.replace("key_file = \"~/reviewer-key\"\n", ""),
        );
        let done = env
            .session_with(repo.path(), &["--ask", "inbox"])
            .env("STOCKADE_ORG_POLICY", organisation)
            .line(LINE)
            .output();
        done.assert_stdout("Linux");
    });
}
