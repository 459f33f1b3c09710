//! Git has the same effects inside as outside.
#![expect(
    clippy::expect_used,
    reason = "a broken fixture must end the test with its reason"
)]
mod asked;
mod checkout;
mod settings;
mod signing;
mod table;
mod worktrees;

use stockade_testkit::{TestEnv, env::User};

/// Runs `body` in a fresh environment for every user that the tests can become.
fn for_each_user(body: impl Fn(&TestEnv)) {
    for user in User::all() {
        body(&TestEnv::of(user.as_deref()));
    }
}
