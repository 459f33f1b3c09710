//! The repository is not trusted: nothing in it loosens a run's policy.

use std::path::Path;

use stockade_testkit::{TestEnv, env::under_test};

/// A policy that allows what the preset asks about.
const LOOSE: &str = "schema = 1\n[[allow]]\nid = \"all\"\nwhat = \"net\"\n\
    hosts = [\"unfamiliar.test\"]\n[[allow]]\nid = \"push\"\nwhat = \"exec\"\n\
    command = [\"git\", \"push\", \"origin\", \"**\"]\n";

/// Returns the verdict of a run in `directory` on a request.
fn verdict(env: &TestEnv, directory: &Path, request: &str) -> String {
    let output = env.stockade().current_dir(directory);
    let output = output
        .args(["policy", "test", "--"])
        .args(request.split(' '))
        .output();
    output
        .stdout
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

// keeps invariant: repository-not-trusted
#[test]
fn files_of_the_repository_are_no_configuration() {
    let env = TestEnv::new(under_test());
    let repo = env.repo();
    let at = |name: &str| repo.path().join(name);
    for name in [
        ".stockade.toml",
        ".stockade/policy.toml",
        ".config/stockade/policy.toml",
    ] {
        env.write(at(name), LOOSE);
    }
    env.write(at(".npmrc"), "registry=https://unfamiliar.test/\n");
    env.write(
        at(".cargo/config.toml"),
        "[source.x]\nregistry = \"sparse+https://unfamiliar.test/\"\n",
    );
    let requests = ["net unfamiliar.test:443", "exec git push origin main"];
    for request in requests {
        assert_eq!(verdict(&env, repo.path(), request), "ask", "{request}");
    }
    // The positive control: the same text in the user's own policy.
    env.write(env.home().join(".config/stockade/policy.toml"), LOOSE);
    for request in requests {
        assert_eq!(verdict(&env, repo.path(), request), "allow", "{request}");
    }
}
