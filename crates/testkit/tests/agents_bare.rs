//! The real agents complete a script without any boundary: the positive control of every test that
//! puts one around them.

use stockade_testkit::{
    ModelServer, Run, Step, TestEnv, agents,
    env::{Repo, User},
};

/// Makes the run of one agent: environment, work tree, URL of the model, prompt.
type Start = fn(&TestEnv, &std::path::Path, &str, &str) -> Run;

fn script() -> Vec<Step> {
    vec![
        Step::shell("echo first step"),
        Step::shell("printf '# More\\n' >> README.md && ./test.sh"),
        Step::shell("git commit --quiet --all --message 'Say more' && git log --oneline | wc -l"),
        Step::say("all three steps are done"),
    ]
}

fn plays_the_script(start: Start, user: Option<&str>) {
    let mut env = TestEnv::new("/bin/true");
    if let Some(user) = user {
        env = env.as_user(user);
    }
    let repo = env.repo();
    let server = ModelServer::start(script());
    let output = start(&env, repo.path(), &server.url(), "do the three steps").success();
    server.assert_finished();
    output.assert_stdout("all three steps are done");
    let results = server.results();
    let expected = ["first step", "tests passed", "2"];
    assert_eq!(results.len(), expected.len(), "{results:#?}");
    for (result, expected) in results.iter().zip(expected) {
        assert!(result.output.contains(expected), "{result:#?}");
    }
    assert_work_is_done(&env, &repo);
}

fn assert_work_is_done(env: &TestEnv, repo: &Repo) {
    let log = repo.git(env, &["log", "--format=%s"]);
    assert_eq!(log.assert_success().stdout, "Say more\nStart the shop\n");
    let status = repo.git(env, &["status", "--porcelain"]);
    assert_eq!(status.assert_success().stdout, "");
}

#[test]
fn codex_plays_the_script() {
    for user in User::all() {
        plays_the_script(agents::codex_command, user.as_deref());
    }
}

#[test]
fn claude_plays_the_script() {
    for user in User::all() {
        plays_the_script(agents::claude_command, user.as_deref());
    }
}
