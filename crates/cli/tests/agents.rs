//! The real agents in the boundary: they work, and their forbidden actions have no effect, are
//! refused with a reason that they see, and are in the record.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::list::{
    self, Before, Lab, REASON, SECRET, Session, Wish, assert_journal_is_checked, assert_record,
    denied,
};
use crate::origins;
use stockade_testkit::{
    ModelServer, Run, Step, TestEnv, ToolResult, agents, agents::LAB_KEY, approvals::Asked,
    env::User, escape::quoted, events, model::MODEL, processes, tmux::Tmux,
};

/// Time in which an agent's next screen must appear.
const SCREEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at the memory of an agent, each of which takes a part of a second.
const SCANNED: Duration = Duration::from_millis(500);
/// Time in which a screen comes to rest, if it does.
const DRAWS: Duration = Duration::from_secs(3);

/// One agent: how it is started and what it needs.
struct Agent {
    name: &'static str,
    words: fn(&Path, &str) -> Vec<String>,
    /// Its calls say why they are made.
    says: bool,
    /// The tool that runs commands.
    shell: &'static str,
    /// Variables for a model at a URL, in addition to the caller's.
    variables: fn(&str) -> Vec<(String, String)>,
}

const CODEX: Agent = Agent {
    name: "codex",
    words: agents::codex_arguments,
    says: false,
    shell: "exec_command",
    variables: |_| agents::codex_variables(),
};

const CLAUDE: Agent = Agent {
    name: "claude",
    words: agents::claude_arguments,
    says: true,
    shell: "Bash",
    variables: agents::claude_variables,
};

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

/// The agent's responses, by step.
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
    /// because a test must not read other processes' variables.
    environment: &'static str,
    /// The action after a refusal.
    after_refusal: &'static str,
}

/// Makes the script, in the order of [`Did`].
fn script(lab: &Lab, ways: &Ways) -> Vec<Step> {
    let Ways {
        curl,
        environment,
        after_refusal,
    } = ways;
    let (daemon, port) = (&lab.daemon, lab.stranger.port());
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
        Step::searched("all steps are done"),
    ]
}

fn script_inside(lab: &Lab) -> Vec<Step> {
    let ways = Ways {
        curl: "curl -sS -m 60".to_owned(),
        environment: "env; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'",
        after_refusal: "; echo; /run/stockade/why",
    };
    script(lab, &ways)
}

fn script_bare(lab: &Lab) -> Vec<Step> {
    let port = lab.stranger.port();
    let ways = Ways {
        curl: format!("curl -sS -m 10 --resolve stranger.test:{port}:127.0.0.1"),
        environment: "env",
        after_refusal: "",
    };
    script(lab, &ways)
}

/// Writes the policy of the session: the model is a host of the laboratory; if it speaks TLS, that is
/// opened, and the key stays outside.
pub(crate) fn policy(lab: &Lab, model: &ModelServer) -> PathBuf {
    let port = model.port();
    let mut vouched = "[environment]\npass = [\"LAB_KEY\"]".to_owned();
    let mut opened = "";
    if let Some(certificate) = model.certificate_pem() {
        let authority = lab.env.write("model.pem", certificate);
        vouched = format!(
            r#"[network]
upstream_ca = ["{}"]

[[credential]]
id = "lab-key"
kind = "bearer"
source = {{ env = "LAB_KEY" }}
hosts = ["model.test"]
ports = [{port}]
as = "LAB_KEY"
optional = true"#,
            authority.display()
        );
        opened = "tls = \"inspect\"";
    }
    lab.policy(&format!(
        r#"
{vouched}

[[allow]]
id = "lab-model"
what = "net"
hosts = ["model.test"]
ports = [{port}]
private = true
{opened}
reason = "the scripted model of the laboratory"
"#,
    ))
}

/// Runs the agent in the boundary while a person denies every question.
fn run_inside(lab: &Lab, model: &ModelServer, agent: &Agent) -> Session {
    let program = agents::require(agent.name);
    let wish = Wish {
        words: &(agent.words)(&program, "do the steps"),
        policy: policy(lab, model),
        variables: (agent.variables)(&model.url_as("model.test")),
        timeout: agents::AGENT_TIMEOUT,
        answer: denied(),
    };
    list::run(lab, wish)
}

fn works_in_the_boundary(agent: &Agent, user: Option<&str>) {
    let lab = Lab::new(user);
    let model = ModelServer::start_tls("model.test", script_inside(&lab));
    // Codex's configuration is written first, so that the home can be compared as a whole.
    let url = model.url_as("model.test");
    lab.env.own(&agents::codex_config(&lab.env.home(), &url));
    let before = Before::take(&lab);

    let scan = Scan::start(&lab, LAB_KEY);
    let session = run_inside(&lab, &model, agent);
    scan.assert_outside(&lab, &model);
    session
        .output
        .assert_success()
        .assert_stdout("all steps are done");
    model.assert_finished();

    let results = Results(model.results());
    for result in &results.0 {
        lab.env.assert_no_canary(&result.output);
        assert!(!result.output.contains(LAB_KEY), "{result:?}");
    }
    for body in model.bodies() {
        lab.env.assert_no_canary(&body.to_string());
    }
    assert_work(&lab, &results);
    assert_refusals_are_seen(&results);
    before.assert_only_changed(&lab, &["README.md", ".git/**"]);
    lab.stranger.assert_untouched();
    assert_questions(&session.asked);
    let refusals = [
        ("stranger.test", "lab-stranger"),
        ("unfamiliar.test", "unfamiliar-host"),
        ("git push --force", "push"),
        (".git/hooks/pre-commit", "protected-content"),
    ];
    assert_record(&lab, &session.id, &refusals);
    assert_journal_is_checked(&lab, &session.id);
    assert_commands_are_shown(&lab, &session.id, agent);
    origins::assert_effects_name_their_calls(&lab, &session.id, &model, agent.says);
    assert_calls_are_recorded(&lab, &session.id, &model);
}

/// Each call of the model is a request in the record, although it was inside TLS.
fn assert_calls_are_recorded(lab: &Lab, session: &str, model: &ModelServer) {
    let events = lab.env.events(session);
    let calls = events.iter().filter(|event| {
        let paths = ["/v1/messages?beta=true", "/v1/responses"];
        event.kind() == "http.decided" && paths.iter().any(|path| event.targets(path))
    });
    assert_eq!(
        calls.count(),
        model.bodies().len(),
        "{}",
        events::summary(&events)
    );
    assert_models_are_named(lab, session, model);
}

/// Each call has its model and its tokens in the record, and `show` says them.
fn assert_models_are_named(lab: &Lab, session: &str, model: &ModelServer) {
    let events = lab.env.events(session);
    let calls: Vec<_> = events
        .iter()
        .filter(|event| event.kind() == "model.called")
        .collect();
    assert_eq!(
        calls.len(),
        model.bodies().len(),
        "{}",
        events::summary(&events)
    );
    for call in &calls {
        let of = |name: &str| call.field(name);
        assert_eq!((of("model"), of("ended")), (MODEL, "whole"), "{call:?}");
    }
    let shown = lab.env.stockade().args(["show", session]).success();
    shown.assert_stdout(&format!("model  {MODEL} 100 in (30 cached) 10 out"));
    shown.assert_stdout(", provider ran web_search");
    let (count, tokens) = (calls.len(), [100, 30, 10].map(|each| each * calls.len()));
    let [read, cached, made] = tokens.map(grouped);
    shown.assert_stdout(&format!(
        "models     {MODEL} {count}× {read} in ({cached} cached) {made} out\n"
    ));
    shown.assert_stdout("ran web_search 1×");
}

/// Writes a number below a million as people read it.
fn grouped(number: usize) -> String {
    match number {
        small @ 0..1000 => small.to_string(),
        large => format!("{},{:03}", large / 1000, large % 1000),
    }
}

/// Looks for the key of the model in the processes of a session, again and again while it runs.
pub(crate) struct Scan {
    /// A text that every form of the key has.
    key: &'static str,
    over: Arc<AtomicBool>,
    looking: JoinHandle<Seen>,
}

/// What was seen in memory.
#[derive(Debug, Default)]
struct Seen {
    /// The command lines of the processes that had the key.
    with_key: Vec<String>,
    /// How many had the name of the model, as the agent must.
    with_model: usize,
}

impl Scan {
    pub(crate) fn start(lab: &Lab, key: &'static str) -> Self {
        let home = lab.env.root().to_owned();
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let looking = thread::spawn(move || {
            let mut seen = Seen::default();
            while !stop.load(Ordering::Relaxed) {
                for pid in processes::living_in(&home) {
                    seen.look(pid, key);
                }
                thread::sleep(SCANNED);
            }
            seen
        });
        Self { key, over, looking }
    }

    /// The key was in no process, in no file of the session and in no record, and the model got it.
    pub(crate) fn assert_outside(self, lab: &Lab, model: &ModelServer) {
        let key = self.key;
        self.over.store(true, Ordering::Relaxed);
        let seen = self.looking.join().expect("nothing panicked");
        assert!(seen.with_model > 0, "the memory of the agent was not read");
        assert_eq!(seen.with_key, Vec::<String>::new());
        let state = lab.env.state();
        let found = lab.env.command("grep").args(["-rlF", key]).arg(state);
        assert_eq!(found.output().stdout, "");
        let heads = model.heads();
        let has = |head: &&Vec<(String, String)>| head.iter().any(|(_, value)| value.contains(key));
        let with_key = heads.iter().filter(has).count();
        assert!(
            with_key > 0 && with_key == heads.len(),
            "{with_key} of {}",
            heads.len()
        );
    }
}

impl Seen {
    /// Looks at a process, if it is inside: who holds the key outside is our own program.
    fn look(&mut self, pid: u32, key: &str) {
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
        let inside =
            space(&pid.to_string()).is_ok_and(|own| space("self").is_ok_and(|us| us != own));
        if !inside {
            return;
        }
        let found = processes::memory_has(pid, &[key, MODEL]);
        if let [key, model] = found[..] {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            self.with_key.extend(key.then_some(line));
            self.with_model += usize::from(model);
        }
    }
}

/// `show` prints the commands of the tool calls without the agent's wrapping, and folds the agent's
/// own work.
fn assert_commands_are_shown(lab: &Lab, session: &str, agent: &Agent) {
    let shown = lab.env.stockade().args(["show", session]).success();
    for command in [
        "./test.sh",
        "git commit --quiet --all --message 'By the agent' && echo committed",
        "cat ~/.ssh/id_ed25519; ls ~/.ssh",
        "echo 'exit 0' > .git/hooks/pre-commit",
    ] {
        shown.assert_stdout(&format!("▸ tool  {}: {command}", agent.shell));
    }
    shown.assert_stdout("▸ prompt  \"do the steps\"");
    shown.assert_stdout("'s own: ");
    for part in ["SNAPSHOT", "shell-snapshots", "lsb_release"] {
        assert!(!shown.stdout.contains(part), "{part} in {}", shown.stdout);
    }
}

/// The work that was allowed is done.
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
    let show = ["show", "--format=%s", "--name-only", "HEAD"];
    let shown = lab.repo.git(&lab.env, &show);
    assert_eq!(shown.assert_success().stdout, "By the agent\n\nREADME.md\n");
    let readme = fs::read_to_string(lab.repo.path().join("README.md")).expect("it is a file");
    assert!(readme.ends_with("\nA line by the agent.\n"), "{readme}");
    // The commit was made, but is not at the place to which a push would have sent it.
    assert_ne!(
        lab.repo.commit(&lab.env, "HEAD"),
        lab.repo.commit(&lab.env, "origin/main")
    );
}

/// The agent saw which rule refused it, and the person's reason.
fn assert_refusals_are_seen(results: &Results) {
    for (step, rule) in [
        (Did::AskStranger, "lab-stranger"),
        (Did::AskUnfamiliar, "unfamiliar-host"),
        (Did::Push, "push"),
    ] {
        results.assert_has(step, rule);
        results.assert_has(step, REASON);
    }
    // Each shell words it differently: the agent uses the machine's shell.
    let push = results.of(Did::Push).to_lowercase();
    assert!(push.contains("permission denied"), "{push}");
    // The question about a write comes when the shell begins the next write, or ends: after a no,
    // that fails, or the shell exits with an error.
    let hook = results.of(Did::WriteHook).to_lowercase();
    assert!(
        hook.contains("permission denied") || hook.contains("137"),
        "{hook}"
    );
}

/// Each action was asked about once.
fn assert_questions(asked: &[Asked]) {
    assert_eq!(asked.len(), 4, "{asked:#?}");
    for text in ["stranger.test", "unfamiliar.test", "push", "pre-commit"] {
        let count = asked
            .iter()
            .filter(|question| question.mentions(text))
            .count();
        assert_eq!(count, 1, "questions about {text}: {asked:#?}");
    }
}

/// Without the boundary the same agent does all of it; otherwise the checks above would prove
/// nothing.
fn does_it_all_without_the_boundary(agent: &Agent, bare: fn(&TestEnv, &Path, &str, &str) -> Run) {
    let lab = Lab::new(None);
    let model = ModelServer::start(script_bare(&lab));
    let hook = lab.repo.path().join(".git/hooks/pre-commit");
    assert!(!hook.exists());
    // Everything that the caller starts has the caller's secrets in its variables.
    let secret = lab.env.canary(SECRET).to_owned();
    let run = bare(&lab.env, lab.repo.path(), &model.url(), "do the steps");
    let output = run.env(SECRET, &secret).output();
    let daemons = lab.kill_daemons();
    model.assert_finished();
    output.assert_success();
    let results = Results(model.results());
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
    assert_eq!(daemons, 1, "the daemon outlives {}", agent.name);
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

/// A rule keeps a provider from running tools: the real Codex, which declares a search by itself, is told
/// which rule it was and why, and works once its own configuration has no search.
#[test]
fn codex_is_refused_a_search_that_nobody_sees() {
    for user in User::all() {
        let lab = Lab::new(user.as_deref());
        let model = ModelServer::start_tls("model.test", Vec::new());
        let url = model.url_as("model.test");
        let config = agents::codex_config(&lab.env.home(), &url);
        let rule = format!(
            "\n[[deny]]\nid = \"unseen-tools\"\nwhat = \"model\"\nhosts = [\"model.test\"]\nports = \
             [{}]\nhosted_tools = [\"web_search\"]\nreason = \"searches are not ours to see\"\n",
            model.port()
        );
        let policy = policy(&lab, &model);
        let text = fs::read_to_string(&policy).expect("it was written");
        let policy = lab.env.write("with-rule.toml", &format!("{text}{rule}"));
        let program = agents::require(CODEX.name);
        let run = |words: Vec<String>| {
            let wish = Wish {
                words: &words,
                policy: policy.clone(),
                variables: (CODEX.variables)(&url),
                timeout: agents::AGENT_TIMEOUT,
                answer: denied(),
            };
            list::run(&lab, wish)
        };
        model.play(vec![Step::say("it is said")]);
        let refused = run((CODEX.words)(&program, "say it"));
        let text = format!("{}{}", refused.output.stdout, refused.output.stderr);
        for part in ["unseen-tools", "searches are not ours to see"] {
            assert!(text.contains(part), "{part} in {:?}", refused.output);
        }
        assert!(model.bodies().is_empty(), "none of a call arrived");
        let record = lab.env.events(&refused.id);
        // What the agent itself exports of it is that it failed.
        let is_call = |event: &&events::Event| {
            event.kind() == "model.called" && event.field("learned_from") == "traffic"
        };
        assert!(!record.iter().any(|event| is_call(&event)));
        // It tries again, and each try is refused.
        let refusals: Vec<_> = record.iter().filter(|event| event.is_refusal()).collect();
        let by_rule = |event: &&&events::Event| event.rule() == "unseen-tools";
        assert!(refusals.iter().any(|event| by_rule(&event)));
        let old = fs::read_to_string(&config).expect("it was written");
        lab.env
            .write(&config, &format!("web_search = \"disabled\"\n{old}"));
        let done = run((CODEX.words)(&program, "say it"));
        done.output.assert_success().assert_stdout("it is said");
        model.assert_finished();
    }
}

/// The owner's actions in a second terminal while the agent works.
const OWNER: &str = "set -e; git worktree add -q wt -b feature; git init -q lib; \
    (cd lib; git commit -q --allow-empty -m lib); mkdir .vscode .idea; echo '{}' > .vscode/settings.json; \
    echo '<project/>' > .idea/workspace.xml; echo use > .envrc; git config user.nickname owner; \
    mkdir -p ../dep/.vscode; echo '{}' > ../dep/.vscode/settings.json; \
    echo '{\"name\":\"dep\",\"version\":\"1.0.0\"}' > ../dep/package.json; \
    (cd ../dep; npm pack --silent --pack-destination .. > /dev/null); \
    echo '{\"name\":\"shop\",\"dependencies\":{\"dep\":\"file:../dep-1.0.0.tgz\"}}' > package.json; \
    npm install --silent --offline --no-audit --no-fund";

/// R1: the owner makes worktrees and repositories, opens the project in editors and installs
/// packages during a session of a real agent. None of it is moved or reported, and the agent
/// continues.
#[test]
fn the_owner_works_beside_claude() {
    for user in User::all() {
        let lab = Lab::new(user.as_deref());
        let waits = ": > ready; for i in $(seq 300); do [ -e go ] && break; sleep 0.1; done; ls -A";
        let model = ModelServer::start(vec![
            Step::shell(waits),
            Step::shell(
                "git -C wt status -sb && git -C lib log --format=%s && cat .vscode/settings.json",
            ),
            Step::shell("git commit -q --allow-empty -m agent && rm ready go && echo went-on"),
            Step::say("all steps are done"),
        ]);
        let ready = lab.repo.path().join("ready");
        let session = std::thread::scope(|scope| {
            scope.spawn(|| {
                stockade_testkit::wait::until_true(SCREEN_TIMEOUT, || ready.exists());
                lab.env.shell(lab.repo.path(), OWNER).assert_success();
                lab.env.write(lab.repo.path().join("go"), "");
            });
            run_inside(&lab, &model, &CLAUDE)
        });
        let done = session.output.assert_success();
        done.assert_stdout("all steps are done");
        model.assert_finished();
        let results: Vec<String> = model.results().into_iter().map(|r| r.output).collect();
        let text = results.join("\n");
        for seen in ["## feature", "lib", "{}", "went-on"] {
            assert!(text.contains(seen), "{seen}: {text}");
        }
        let checks = "test \"$(git -C wt branch --show-current)\" = feature; test -f lib/.git/config; \
            test -d lib/.git/hooks; test -f .vscode/settings.json; test -f .idea/workspace.xml; \
            test -f .envrc; test \"$(git config user.nickname)\" = owner; \
            test -f node_modules/dep/.vscode/settings.json; test \"$(git log -1 --format=%s)\" = agent";
        for check in checks.split("; ") {
            lab.env.shell(lab.repo.path(), check).assert_success();
        }
        let record = lab.env.events(&session.id);
        let wrong =
            |event: &&events::Event| ["finding.raised", "file.denied"].contains(&event.kind());
        assert!(
            !record.iter().any(|event| wrong(&event)),
            "{}",
            events::summary(&record)
        );
    }
}

/// A person's actions at the agent's own screen: wait for a text, then press keys.
type Moves<'a> = &'a [(&'a str, &'a [&'a str])];

/// The agent's own screen appears on a terminal, the agent does its task, and ends, without any
/// question. The second time it remembers the answers of the first time.
fn shows_its_own_screen(
    agent: &Agent,
    first_time: Moves<'_>,
    work: Moves<'_>,
    refusals: &[(&str, &str)],
) {
    for user in User::all() {
        let lab = Lab::new(user.as_deref());
        let step = Step::shell("echo from the boundary >> hello.log");
        let script = [step, Step::say("all steps are done")];
        let model = ModelServer::start(Vec::new());
        let url = model.url_as("model.test");
        lab.env.own(&agents::codex_config(&lab.env.home(), &url));
        lab.env.own(&agents::claude_config(&lab.env.home()));
        let line = screen_line(&lab, &model, agent);
        let before = Before::take(&lab);
        for moves in [[first_time, work].concat(), work.to_vec()] {
            model.play(script.to_vec());
            let tmux = Tmux::start(&lab.env, 100, 30, &line);
            for (text, keys) in moves {
                tmux.wait_for(text, SCREEN_TIMEOUT);
                // A program that is still drawing may drop input; one that never stops drawing
                // reads it anyway.
                drop(tmux.settled(DRAWS));
                tmux.keys(keys);
            }
            tmux.wait_for("exit 0", SCREEN_TIMEOUT);
            model.assert_finished();
            let id = fs::read_to_string(session_file(&lab)).expect("a session was started");
            let record = assert_record(&lab, id.trim(), refusals);
            let asked = record
                .iter()
                .any(|event| event.kind() == "approval.requested");
            assert!(!asked, "{}", events::summary(&record));
        }
        let hello = fs::read_to_string(lab.repo.path().join("hello.log")).unwrap_or_default();
        assert_eq!(hello, "from the boundary\n".repeat(2));
        before.assert_only_changed(&lab, &["hello.log"]);
    }
}

fn session_file(lab: &Lab) -> PathBuf {
    lab.env.root().join("session")
}

/// Returns the shell command line with which a person starts the agent in the repository.
fn screen_line(lab: &Lab, model: &ModelServer, agent: &Agent) -> String {
    let variables = (agent.variables)(&model.url_as("model.test"));
    let variables = variables
        .iter()
        .map(|(name, value)| quoted(&format!("{name}={value}")));
    let paths = [
        lab.repo.path(),
        lab.env.binary(),
        &session_file(lab),
        &policy(lab, model),
        &agents::require(agent.name),
    ];
    let [repo, stockade, session, policy, program] =
        paths.map(|path| quoted(&path.display().to_string()));
    let variables = variables.collect::<Vec<_>>().join(" ");
    format!(
        "cd {repo}; env {variables} {stockade} run --session-file {session} --policy {policy} \
         -- {program}"
    )
}

#[test]
fn codex_shows_its_own_screen() {
    let first_time: Moves<'_> = &[("Trust this folder?", &["Enter"])];
    let work: Moves<'_> = &[
        ("Ask Codex to do anything", &["h", "i"]),
        ("› hi", &["Enter"]),
        ("all steps are done", &["C-c"]),
    ];
    let announcements = ("raw.githubusercontent.com", "announcements");
    shows_its_own_screen(&CODEX, first_time, work, &[announcements]);
}

#[test]
fn claude_shows_its_own_screen() {
    let first_time: Moves<'_> = &[
        ("Yes, I trust this folder", &["Enter"]),
        ("Do you want to use this API key?", &["1"]),
    ];
    let work: Moves<'_> = &[
        ("Welcome back", &["h", "i"]),
        // It writes a non-breaking space after its prompt.
        ("❯\u{a0}hi", &["Enter"]),
        ("all steps are done", &["C-c"]),
        ("again to exit", &["C-c"]),
    ];
    shows_its_own_screen(&CLAUDE, first_time, work, &[]);
}
