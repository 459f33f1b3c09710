//! Hosts that need no question: package sources, and the repository's own remote.
#![expect(
    clippy::expect_used,
    reason = "a broken fixture must end the test with its reason"
)]

mod clients;
mod remotes;

use std::path::{Path, PathBuf};

use stockade_testkit::{Repo, Run, TestEnv, env::User};

/// A home, a workspace, and a search path that begins with programs of the home.
struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    fn new(user: Option<&str>) -> Self {
        let env = TestEnv::of(user);
        let repo = env.repo();
        Self { env, repo }
    }

    /// Makes one for every user that the tests can become.
    fn each(body: impl Fn(&Self)) {
        for user in User::all() {
            body(&Self::new(user.as_deref()));
        }
    }

    /// Makes one for the first of these users: the results do not depend on the user.
    fn one() -> Self {
        Self::new(User::all().first().and_then(Option::as_deref))
    }

    fn write(&self, path: impl AsRef<Path>, text: &str) -> PathBuf {
        self.env.write(self.env.home().join(path), text)
    }

    fn own_policy(&self, text: &str) {
        self.write(
            ".config/stockade/policy.toml",
            &format!("schema = 1\n{text}"),
        );
    }

    fn search_path(&self) -> String {
        format!(
            "{}/lab/bin:/usr/local/bin:/usr/bin:/bin",
            self.env.home().display()
        )
    }

    /// Returns the verdict on a connection; `run` can extend the command.
    fn verdict_with(&self, endpoint: &str, run: impl FnOnce(Run) -> Run) -> String {
        let command = self
            .env
            .stockade()
            .args(["policy", "test", "--", "net", endpoint])
            .env("PATH", self.search_path())
            .current_dir(self.repo.path());
        let output = run(command).output();
        let word = output.stdout.split_whitespace().next();
        word.expect("a verdict is printed").to_owned()
    }

    fn verdict(&self, endpoint: &str) -> String {
        self.verdict_with(endpoint, |run| run)
    }

    fn assert(&self, expected: &[(&str, &str)]) {
        for (endpoint, verdict) in expected {
            assert_eq!(self.verdict(endpoint), *verdict, "{endpoint}");
        }
    }
}
