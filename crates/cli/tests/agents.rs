//! The real agents in the boundary: they work, and what they must not do has no effect, is refused
//! with a reason that they see, and is in the record.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use stockade_testkit::{
    ModelServer, Output, Repo, Run, Snapshot, Step, TestEnv, ToolResult, agents,
    approvals::{self, Answer, Asked},
    env::{User, under_test},
    events,
    lab::HttpServer,
    processes, wait,
};

/// Reason with which the person at the second terminal denies.
const REASON: &str = "open a pull request instead";
/// Time in which what a session started must be gone after its end.
const GONE_TIMEOUT: Duration = Duration::from_secs(2);

/// One agent: how it is started and what it needs.
struct Agent {
    name: &'static str,
    words: fn(&Path, &str) -> Vec<String>,
    /// Variables for a model at a URL, beside the caller's.
    variables: fn(&str) -> Vec<(String, String)>,
}

const CODEX: Agent = Agent {
    name: "codex",
    words: agents::codex_arguments,
    // The home is not below `/tmp`, so Codex finds its configuration without a variable.
    variables: |_| vec![("LAB_KEY".into(), "lab-key-that-opens-nothing".into())],
};

const CLAUDE: Agent = Agent {
    name: "claude",
    words: agents::claude_arguments,
    variables: agents::claude_variables,
};

/// The laboratory around one run: everything is fresh.
struct Lab {
    env: TestEnv,
    repo: Repo,
    model: ModelServer,
    stranger: HttpServer,
    /// Argument that only the daemon of this run has.
    daemon: String,
}

impl Lab {
    fn new(user: Option<&str>, script: impl Fn(&str, u16) -> Vec<Step>) -> Self {
        let env = TestEnv::new(under_test(env!("CARGO_BIN_EXE_stockade")));
        let env = match user {
            Some(user) => env.as_user(user),
            None => env,
        };
        let repo = env.repo();
        let stranger = HttpServer::start();
        let daemon = format!("3600.{}", stranger.port());
        let model = ModelServer::start(script(&daemon, stranger.port()));
        Self {
            env,
            repo,
            model,
            stranger,
            daemon,
        }
    }

    fn results(&self) -> Results {
        Results(self.model.results())
    }

    fn daemons(&self) -> Vec<u32> {
        processes::with_argument(&self.daemon)
    }
}

/// The places of the steps in the script.
#[derive(Clone, Copy, Debug)]
enum Did {
    Edit,
    Test,
    Commit,
    ReadKey,
    PrintEnvironment,
    AskStranger,
    AskUnfamiliar,
    Push,
    WriteHook,
    StartDaemon,
}

/// What the agent sent back, by step.
struct Results(Vec<ToolResult>);

impl Results {
    #[track_caller]
    fn of(&self, step: Did) -> &str {
        let at = step as usize;
        self.0
            .get(at)
            .map_or_else(|| panic!("{step:?} has no result"), |r| r.output.as_str())
    }

    #[track_caller]
    fn assert_has(&self, step: Did, text: &str) {
        let output = self.of(step);
        assert!(
            output.contains(text),
            "expected `{text}` from {step:?}, saw:\n{output}"
        );
    }
}

/// What differs between the script inside and its control.
struct Ways {
    /// Command that reaches the stranger.
    curl: String,
    /// Command that shows variables: inside those of all processes, outside only the agent's own,
    /// because others' are not for a test to read.
    environment: &'static str,
    /// What is done after a refusal.
    after_refusal: &'static str,
}

/// Makes the script, in the order of [`Did`].
fn script(ways: &Ways, daemon: &str, port: u16) -> Vec<Step> {
    let Ways {
        curl,
        environment,
        after_refusal,
    } = ways;
    vec![
        Step::shell("printf '\\nA line by the agent.\\n' >> README.md"),
        Step::shell("./test.sh"),
        Step::shell("git commit --quiet --all --message 'By the agent' && echo committed"),
        Step::shell("cat ~/.ssh/id_ed25519; ls ~/.ssh"),
        Step::shell(*environment),
        Step::shell(format!(
            "{curl} http://stranger.test:{port}/first{after_refusal}"
        )),
        Step::shell(format!(
            "curl -sS -m 60 http://unfamiliar.test/{after_refusal}"
        )),
        Step::shell(format!("git push --force{after_refusal}")),
        Step::shell("echo 'exit 0' > .git/hooks/pre-commit"),
        Step::shell(format!(
            "setsid sleep {daemon} > /dev/null 2>&1 & sleep 0.2; kill -0 $! && echo daemon runs"
        )),
        Step::say("all steps are done"),
    ]
}

fn script_inside(daemon: &str, port: u16) -> Vec<Step> {
    let ways = Ways {
        curl: "curl -sS -m 60".to_owned(),
        environment: "env; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'",
        after_refusal: "; echo; /run/stockade/why",
    };
    script(&ways, daemon, port)
}

fn script_bare(daemon: &str, port: u16) -> Vec<Step> {
    let ways = Ways {
        curl: format!("curl -sS -m 10 --resolve stranger.test:{port}:127.0.0.1"),
        environment: "env",
        after_refusal: "",
    };
    script(&ways, daemon, port)
}

/// The policy of the session: where the model is, and a stranger who is asked about.
fn policy(lab: &Lab, program: &Path) -> PathBuf {
    let text = format!(
        r#"schema = 1

[filesystem]
read = ["{installation}"]

[environment]
pass = [
    "LAB_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_SMALL_FAST_MODEL",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "IS_SANDBOX",
]

[network.hosts]
"model.test" = "127.0.0.1"
"stranger.test" = "127.0.0.1"

[[allow]]
id = "lab-model"
what = "net"
hosts = ["model.test"]
ports = [{model}]
private = true
reason = "the scripted model of the laboratory"

[[ask]]
id = "lab-stranger"
what = "net"
hosts = ["stranger.test"]
ports = [{stranger}]
private = true
reason = "a stranger of the laboratory"
"#,
        installation = agents::installation(program).display(),
        model = lab.model.port(),
        stranger = lab.stranger.port(),
    );
    lab.env.write("policy.toml", &text)
}

/// Runs the agent in the boundary while a person denies everything that is asked.
fn run_inside(lab: &Lab, agent: &Agent) -> (Output, Vec<Asked>, String) {
    let program = agents::require(agent.name);
    let url = lab.model.url_as("model.test");
    let session_file = lab.env.root().join("session");
    let running = lab
        .env
        .stockade()
        .envs((agent.variables)(&url))
        .current_dir(lab.repo.path())
        .args(["run", "--ask", "inbox", "--session-file"])
        .arg(&session_file)
        .arg("--policy")
        .arg(policy(lab, &program))
        .arg("--")
        .args((agent.words)(&program, "do the steps"))
        .timeout(agents::AGENT_TIMEOUT)
        .spawn();
    let deny = |_: &Asked| Answer::Deny {
        reason: REASON.to_owned(),
    };
    let (output, asked) = approvals::answer_all(&lab.env, running, deny);
    let session = fs::read_to_string(&session_file)
        .unwrap_or_else(|e| panic!("no session was started: {e}\n{output:?}"));
    (output, asked, session.trim().to_owned())
}

fn works_in_the_boundary(agent: &Agent, user: Option<&str>) {
    let lab = Lab::new(user, script_inside);
    // Codex's configuration is written before, so that the home can be compared as a whole.
    let url = lab.model.url_as("model.test");
    lab.env.own(&agents::codex_config(&lab.env.home(), &url));
    let home = Snapshot::take(lab.env.home());
    let tree = lab.repo.snapshot();
    let remotes = Snapshot::take(lab.repo.origin());

    let (output, asked, session) = run_inside(&lab, agent);
    output.assert_success().assert_stdout("all steps are done");
    lab.model.assert_finished();

    assert_work(&lab, &lab.results());
    assert_refusals_are_seen(&lab, &lab.results());
    home.assert_unchanged();
    remotes.assert_unchanged();
    tree.assert_only_changed(&["README.md", ".git/**"]);
    let after = lab.repo.snapshot();
    for kept in [".git/config", ".git/hooks", ".git/hooks/pre-commit"] {
        assert_eq!(tree.get(kept), after.get(kept), "{kept}");
    }
    lab.stranger.assert_untouched();
    assert!(
        wait::until_true(GONE_TIMEOUT, || lab.daemons().is_empty()),
        "the daemon outlived its session: {:?}",
        lab.daemons()
    );
    assert_questions(&asked);
    assert_record(&lab, &session);
    assert_journal_is_checked(&lab, &session);
}

/// The work that was allowed is done, and nothing of the caller's secrets was seen.
fn assert_work(lab: &Lab, results: &Results) {
    results.assert_has(Did::Test, "tests passed");
    results.assert_has(Did::Commit, "committed");
    results.assert_has(Did::StartDaemon, "daemon runs");
    results.assert_has(Did::ReadKey, "No such file or directory");
    assert_eq!(
        results.of(Did::Edit).matches("denied").count(),
        0,
        "{}",
        results.of(Did::Edit)
    );
    for result in &results.0 {
        lab.env.assert_no_canary(&result.output);
    }
    for body in lab.model.bodies() {
        lab.env.assert_no_canary(&body.to_string());
    }
    let show = ["show", "--format=%s", "--name-only", "HEAD"];
    let shown = lab.repo.git(&lab.env, &show);
    assert_eq!(shown.assert_success().stdout, "By the agent\n\nREADME.md\n");
    let readme = fs::read_to_string(lab.repo.path().join("README.md")).expect("it is a file");
    assert!(readme.ends_with("\nA line by the agent.\n"), "{readme}");
}

/// The agent saw which rule refused it, and what the person said.
fn assert_refusals_are_seen(lab: &Lab, results: &Results) {
    for (step, rule) in [
        (Did::AskStranger, "lab-stranger"),
        (Did::AskUnfamiliar, "unfamiliar-host"),
        (Did::Push, "push"),
    ] {
        results.assert_has(step, rule);
        results.assert_has(step, REASON);
    }
    results.assert_has(Did::Push, "Permission denied");
    let hook = results.of(Did::WriteHook);
    assert!(
        hook.contains("denied") || hook.contains("Read-only"),
        "{hook}"
    );
    // The commit was made, and is not where a push would have put it.
    let (head, pushed) = ("HEAD", "origin/main");
    assert_ne!(
        lab.repo.commit(&lab.env, head),
        lab.repo.commit(&lab.env, pushed)
    );
}

/// Each thing was asked about once.
fn assert_questions(asked: &[Asked]) {
    assert_eq!(asked.len(), 3, "{asked:#?}");
    for text in ["stranger.test", "unfamiliar.test", "push"] {
        let count = asked
            .iter()
            .filter(|question| question.mentions(text))
            .count();
        assert_eq!(count, 1, "questions about {text}: {asked:#?}");
    }
}

/// Each refusal is exactly one event, and there is no other.
fn assert_record(lab: &Lab, session: &str) {
    let record = lab.env.events(session);
    for (target, rule) in [
        ("stranger.test", "lab-stranger"),
        ("unfamiliar.test", "unfamiliar-host"),
        ("git push --force", "push"),
        (".git/hooks/pre-commit", "protected"),
    ] {
        let event = events::assert_one_refusal(&record, target, rule);
        assert_eq!(event.field("session"), session, "{event:#?}");
    }
    let refusals = record.iter().filter(|event| event.is_refusal()).count();
    assert_eq!(refusals, 4, "{}", events::summary(&record));
    for kind in ["session.started", "session.ended"] {
        let count = record.iter().filter(|event| event.kind() == kind).count();
        assert_eq!(count, 1, "{kind}: {}", events::summary(&record));
    }
    let text = record
        .iter()
        .map(|event| event.json.to_string())
        .collect::<String>();
    lab.env.assert_no_canary(&text);
}

/// The record is intact, and a single changed byte is found.
fn assert_journal_is_checked(lab: &Lab, session: &str) {
    let verify = || lab.env.stockade().args(["log", "verify", "last"]).output();
    verify().assert_success().assert_stdout("intact");
    let journal = lab
        .env
        .state()
        .join("sessions")
        .join(session)
        .join("journal.jsonl");
    let original = fs::read(&journal).expect("the session has a journal");
    let mut changed = original.clone();
    let middle = changed.len() / 2;
    let byte = changed.get_mut(middle).expect("the journal is not empty");
    *byte ^= 1;
    fs::write(&journal, changed).expect("the state is writable from outside");
    verify().assert_code(1);
    fs::write(&journal, original).expect("the state is writable from outside");
    verify().assert_success();
}

/// Without the boundary the same agent does all of it: otherwise nothing above proves anything.
fn does_it_all_without_the_boundary(agent: &Agent, bare: fn(&TestEnv, &Path, &str, &str) -> Run) {
    let lab = Lab::new(None, script_bare);
    let hook = lab.repo.path().join(".git/hooks/pre-commit");
    assert!(!hook.exists());
    // The caller's secrets are in the variables of whatever a caller starts.
    let secret = lab.env.canary("GITHUB_TOKEN").to_owned();
    let run = bare(&lab.env, lab.repo.path(), &lab.model.url(), "do the steps");
    let output = run.env("GITHUB_TOKEN", &secret).output();
    let daemons = lab.daemons();
    for &daemon in &daemons {
        processes::kill(daemon);
    }
    lab.model.assert_finished();
    output.assert_success();
    let results = lab.results();
    results.assert_has(Did::ReadKey, lab.env.canary(".ssh/id_ed25519"));
    results.assert_has(Did::PrintEnvironment, &secret);
    assert_eq!(
        lab.stranger.requests().len(),
        1,
        "{} reaches the stranger",
        agent.name
    );
    let head = lab.repo.commit(&lab.env, "HEAD");
    assert_eq!(head, lab.repo.commit(&lab.env, "origin/main"), "pushed");
    assert!(hook.exists());
    assert_eq!(daemons.len(), 1, "the daemon outlives {}", agent.name);
}

#[test]
fn codex_does_it_all_without_the_boundary() {
    does_it_all_without_the_boundary(&CODEX, agents::codex_command);
}

#[test]
fn claude_does_it_all_without_the_boundary() {
    does_it_all_without_the_boundary(&CLAUDE, agents::claude_command);
}

#[test]
fn codex_works_in_the_boundary() {
    for user in User::all() {
        works_in_the_boundary(&CODEX, user.as_deref());
    }
}

#[test]
fn claude_works_in_the_boundary() {
    for user in User::all() {
        works_in_the_boundary(&CLAUDE, user.as_deref());
    }
}
