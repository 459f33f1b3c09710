//! Attacks on the boundary: each is shown to work without it, then tried inside, and what came of
//! it is looked at from the host.
#![expect(
    clippy::expect_used,
    reason = "a broken fixture must end the test with its reason"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a table of attempts is data, read in one piece"
)]

mod approvals;
mod commands;
mod deputy;
mod egress;
mod ends;
mod files;
mod kernel;
mod lifecycle;
mod limits;
mod matrix;
mod meaning;
mod network;
mod once;
mod own;
mod owner;
mod programs;
mod record;
mod requests;
mod rules;
mod secrets;
mod sequences;
mod shared;
mod state;
mod storm;
mod view;

use std::path::PathBuf;

use stockade_testkit::{TestEnv, env::User};

/// Returns the binary under test.
fn binary() -> PathBuf {
    stockade_testkit::env::under_test()
}

/// Makes an environment of one of [`User::all`].
fn environment(user: Option<&str>) -> TestEnv {
    let env = TestEnv::new(binary());
    match user {
        Some(user) => env.as_user(user),
        None => env,
    }
}

/// Does `body` in a fresh environment of every user that the tests can become.
fn for_each_user(body: impl Fn(&TestEnv)) {
    for user in User::all() {
        body(&environment(user.as_deref()));
    }
}
