//! A small git repository as an agent finds it.

use std::path::{Path, PathBuf};

use super::{Snapshot, TestEnv, set_mode};
use crate::run::{Output, require_tool};

/// Settings that make git behave the same everywhere; they are in the home, as for most people.
const GIT_CONFIG: &str = "[user]\n\tname = Lab Tester\n\temail = tester@good.test\n\
                          [init]\n\tdefaultBranch = main\n[commit]\n\tgpgsign = false\n\
                          [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n";

const FILES: [(&str, &str, u32); 4] = [
    (
        "README.md",
        "# Shop\n\nPrints the price of a basket. Run `./test.sh` to test it.\n",
        0o644,
    ),
    (
        "src/total.sh",
        "#!/bin/sh\n# Adds the prices on the command line.\ntotal=0\n\
         for price in \"$@\"; do total=$((total + price)); done\necho \"$total\"\n",
        0o755,
    ),
    (
        "test.sh",
        "#!/bin/sh\n# Tests the shop.\nset -eu\ncd \"$(dirname \"$0\")\"\n\
         [ \"$(sh src/total.sh 1 2 3)\" = 6 ]\n[ \"$(sh src/total.sh)\" = 0 ]\n\
         echo 'tests passed'\n",
        0o755,
    ),
    (".gitignore", "*.log\n", 0o644),
];

/// A repository with one commit on `main`, an identity, and a bare remote `origin` beside it.
#[derive(Clone, Debug)]
pub struct Repo {
    path: PathBuf,
    origin: PathBuf,
}

impl Repo {
    pub(super) fn create(env: &TestEnv, name: &str) -> Self {
        require_tool("git");
        let path = env.root().join("work").join(name);
        let origin = env.root().join("remotes").join(format!("{name}.git"));
        env.write("home/.gitconfig", GIT_CONFIG);
        for (file, text, mode) in FILES {
            let file = env.write(path.join(file), text);
            set_mode(&file, mode);
        }
        env.write(origin.join("placeholder"), "");
        std::fs::remove_file(origin.join("placeholder")).expect("the file was just written");
        let repo = Self { path, origin };
        let bare = repo.origin.to_str().expect("the path of a test is text");
        for arguments in [
            vec!["init", "--quiet", "--bare", bare],
            vec!["init", "--quiet"],
            vec!["add", "--all"],
            vec!["commit", "--quiet", "--message", "Start the shop"],
            vec!["remote", "add", "origin", bare],
            vec!["push", "--quiet", "--set-upstream", "origin", "main"],
        ] {
            repo.git(env, &arguments).assert_success();
        }
        repo
    }

    /// Returns the work tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bare repository of the remote `origin`.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Runs git in the work tree, without any boundary.
    pub fn git(&self, env: &TestEnv, arguments: &[&str]) -> Output {
        env.command("git")
            .args(arguments)
            .current_dir(&self.path)
            .output()
    }

    /// Returns the commit that `revision` names in the work tree.
    pub fn commit(&self, env: &TestEnv, revision: &str) -> String {
        self.git(env, &["rev-parse", revision])
            .assert_success()
            .stdout
            .trim()
            .to_owned()
    }

    /// Takes a snapshot of the work tree.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use crate::TestEnv;

    #[test]
    fn the_repository_is_committed_pushed_and_passes_its_test() {
        let env = TestEnv::new("/bin/true");
        let repo = env.repo();
        assert_eq!(
            repo.git(&env, &["status", "--porcelain"])
                .assert_success()
                .stdout,
            ""
        );
        assert_eq!(repo.commit(&env, "HEAD"), repo.commit(&env, "origin/main"));
        assert!(repo.origin().join("HEAD").exists());
        env.shell(repo.path(), "./test.sh")
            .assert_success()
            .assert_stdout("tests passed");
        let broken = env.shell(repo.path(), "echo 'echo 7' > src/total.sh; ./test.sh");
        assert!(!broken.status.success(), "{broken:?}");
    }
}
