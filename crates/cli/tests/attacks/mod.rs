//! Attacks on the boundary: each is shown to work without it, then tried inside, and the result is
//! checked from the host.
#![expect(
    clippy::expect_used,
    reason = "a broken fixture must end the test with its reason"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a table of attempts is data, read in one piece"
)]

mod approvals;
mod claims;
mod commands;
mod deputy;
mod egress;
mod ends;
mod exfil;
mod files;
mod hosts;
mod interfaces;
mod internet;
mod kernel;
mod lifecycle;
mod limits;
mod lives;
mod matrix;
mod meaning;
mod mixed;
mod network;
mod once;
mod own;
mod owner;
mod programs;
mod record;
mod requests;
mod rules;
mod scopes;
mod secrets;
mod sequences;
mod shared;
mod sink;
mod smuggling;
mod state;
mod storm;
mod tracing;
mod view;

use std::path::PathBuf;

use stockade_testkit::{Repo, TestEnv, env::User, events::Event, run::require_tool};

/// Returns the binary under test.
fn binary() -> PathBuf {
    stockade_testkit::env::under_test()
}

/// Makes an environment for one of [`User::all`].
fn environment(user: Option<&str>) -> TestEnv {
    TestEnv::of(user)
}

/// Runs `body` in a fresh environment for every user that the tests can become.
fn for_each_user(body: impl Fn(&TestEnv)) {
    for user in User::all() {
        body(&environment(user.as_deref()));
    }
}

/// Builds small static programs in a repository from pairs of a name and a C source.
fn build(env: &TestEnv, repo: &Repo, programs: &[(&str, &str)]) {
    require_tool("gcc");
    for (name, text) in programs {
        let source = env.write(format!("{name}.c"), text);
        env.command("gcc")
            .args(["-O1", "-static", "-pthread"])
            .args(text.contains("_start").then_some("-nostartfiles"))
            .arg("-o")
            .arg(repo.path().join(name))
            .arg(source)
            .success();
    }
}

/// Returns the number of events of a kind in a record.
fn count(record: &[Event], kind: &str) -> usize {
    record.iter().filter(|event| event.kind() == kind).count()
}
