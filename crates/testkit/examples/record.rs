//! Makes a real Codex do five tool calls in the boundary, and prints how many bytes of record the
//! session leaves after compression: `record BINARY`, with `STOCKADE_TEST_AGENTS` set. Run by
//! `cargo xtask bench`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a broken fixture must end the program with its reason; the number is its output"
)]

use std::{
    fs,
    time::{Duration, SystemTime},
};

use stockade_testkit::{ModelServer, Step, TestEnv, agents};

/// An agent's commands to look around, change a file, test the change and keep it.
const CALLS: [&str; 5] = [
    "ls -la && git log --oneline | head -5",
    "sed -n 1,80p README.md",
    "printf '\\nA line by the agent.\\n' >> README.md && git diff --stat",
    "./test.sh",
    "git commit --quiet --all --message 'By the agent' && git status --short",
];

fn main() {
    let binary = std::env::args_os().nth(1).expect("the binary under test");
    let env = TestEnv::new(binary);
    let repo = env.repo();
    let calls = CALLS.into_iter().map(Step::shell);
    let model = ModelServer::start(calls.chain([Step::say("all steps are done")]).collect());
    let url = model.url_as("model.test");
    env.own(&agents::codex_config(&env.home(), &url));
    let policy = format!(
        "schema = 1\n[environment]\npass = [\"LAB_KEY\"]\n[network.hosts]\n\"model.test\" = \"127.0.0.1\"\n\
         [[allow]]\nid = \"lab-model\"\nwhat = \"net\"\nhosts = [\"model.test\"]\nports = [{}]\n\
         private = true\nreason = \"the scripted model\"\n",
        model.port()
    );
    let policy = env.write("policy.toml", &policy);
    let program = agents::require("codex");
    env.session(repo.path())
        .arg("--policy")
        .arg(policy)
        .arg("--")
        .args(agents::codex_arguments(&program, "do the steps"))
        .envs(agents::codex_variables())
        .timeout(agents::AGENT_TIMEOUT)
        .success()
        .assert_stdout("all steps are done");
    model.assert_finished();
    let session = env.state().join("sessions").join(env.session_id());
    // A session that is a minute old may still be starting, and is then not compressed.
    let then = SystemTime::now() - Duration::from_mins(2);
    let files = fs::read_dir(&session).expect("the session has a record");
    let paths = files.map(|file| file.expect("a file").path());
    for path in paths.chain([session.clone()]) {
        fs::File::open(path)
            .and_then(|file| file.set_modified(then))
            .expect("our files can be made older");
    }
    env.stockade().arg("prune").success();
    let files = fs::read_dir(session).expect("the session has a record");
    let bytes: u64 = files
        .map(|file| file.and_then(|file| file.metadata()).expect("a file").len())
        .sum();
    println!("{bytes}");
}
