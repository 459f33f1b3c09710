//! git and a private repository over HTTPS, without a login inside.

use stockade_testkit::{
    Output, Repo, TestEnv, events,
    http::Response,
    lab::{TlsServer, serve_repositories},
    run::require_tool,
};

use super::lab::{VALUE, for_each_user};

/// What base64 makes of `x-access-token:` and [`VALUE`].
const LOGIN: &str = "Basic eC1hY2Nlc3MtdG9rZW46c2stYW50LWFwaTAzLU00cmszck00cmszck00cmszck00cmszck00cmszci1tYXJrZXJfQUE=";

/// A private repository behind TLS.
struct Lab<'e> {
    env: &'e TestEnv,
    repo: Repo,
    server: TlsServer,
    /// A policy without a credential.
    base: String,
}

impl<'e> Lab<'e> {
    fn new(env: &'e TestEnv) -> Self {
        let repo = env.repo();
        env.command("git")
            .args(["config", "http.receivepack", "true"])
            .current_dir(repo.origin())
            .success();
        let root = env.root().join("remotes");
        let server = TlsServer::with(&["git.test"], move |request| {
            if request.header("authorization") == Some(LOGIN) {
                return serve_repositories(&root, request);
            }
            Response::text(401, "no\n").header("WWW-Authenticate", "Basic realm=\"lab\"")
        });
        // Helpers of the caller, which must not answer inside.
        let stored = format!("https://lab:{VALUE}@git.test\n");
        env.write("home/.git-credentials", &stored);
        repo.git(env, &["config", "--global", "credential.helper", "store"])
            .assert_success();
        let authority = env.write("authority.pem", server.certificate_pem());
        let base = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"git.test\" = \
             \"127.0.0.1\"\n[[allow]]\nid = \"push\"\nwhat = \"exec\"\ncommand = [[\"git\", \"push\", \
             \"**\"], [\"git\", \"send-pack\", \"**\"]]\n[[allow]]\nid = \"shop\"\nwhat = \"git\"\nhosts \
             = [\"git.test\"]\nports = [{}]\nprivate = true\nrepositories = [\"shop\"]\n",
            authority.display(),
            server.port()
        );
        Self {
            env,
            repo,
            server,
            base,
        }
    }

    /// Returns a credential for the repositories below a path.
    fn credential(&self, path: &str) -> String {
        format!(
            "[[credential]]\nid = \"git\"\nkind = \"git-https\"\nsource = {{ env = \"GIT_TOKEN\" }}\n\
             hosts = [\"git.test\"]\nports = [{}]\npaths = [\"{path}\"]\n",
            self.server.port()
        )
    }

    /// Clones into `name`, pushes a commit to a branch of that name and fetches.
    fn run(&self, more: &str, login: &str, name: &str) -> Output {
        let (text, port) = ([self.base.as_str(), more].concat(), self.server.port());
        let policy = self.env.write("policy.toml", &text).display().to_string();
        let url = format!("https://{login}git.test:{port}/shop.git");
        let line = format!(
            "export GIT_TERMINAL_PROMPT=0; git clone -q {url} {name} && cd {name} && git commit -q \
             --allow-empty -m {name} && git push -q origin HEAD:refs/heads/{name}; echo {name} $?; git \
             fetch -q; echo fetched $?; cd ..; \
             printf 'protocol=https\\nhost=git.test:{port}\\n\\n' | git credential fill; env; cat \
             /proc/*/environ | tr '\\0' '\\n'; cat {name}/.git/config"
        );
        let options = ["--ask", "deny", "--policy", policy.as_str()];
        let run = self.env.session_with(self.repo.path(), &options);
        run.env("GIT_TOKEN", VALUE).line(line).output()
    }

    /// Returns whether a branch of the repository is there.
    fn has(&self, branch: &str) -> bool {
        let line = format!("git rev-parse -q --verify {branch}");
        self.env.shell(self.repo.origin(), &line).code() == 0
    }
}

/// A private repository is cloned, fetched from and pushed to: by git as it is, and by git that has a
/// placeholder in the address of its remote. No helper inside gives the value away, and without the
/// credential, or with one for another repository, the server turns git away.
#[test]
fn git_uses_a_private_repository_without_a_login() {
    require_tool("git");
    for_each_user(|env| {
        let lab = Lab::new(env);
        let credential = lab.credential("/shop.git/**");
        let written = format!("{credential}as = \"GIT_TOKEN\"\n");
        for (more, login, name) in [
            (&credential, "", "added"),
            (&written, "x-access-token:$GIT_TOKEN@", "written"),
        ] {
            let output = lab.run(more, login, name);
            output
                .assert_stdout(&format!("{name} 0\n"))
                .assert_stdout("fetched 0\n");
            assert!(lab.has(name));
            let seen = [output.stdout.as_str(), &output.stderr].concat();
            assert!(
                !seen.contains(VALUE) && !seen.contains("\npassword="),
                "{seen}"
            );
            let record = env.record();
            assert!(!format!("{record:?}").contains(VALUE));
            let used = record.iter().filter(|one| one.kind() == "credential.used");
            assert!(used.count() >= 6, "{}", events::summary(&record));
        }
        let other = lab.credential("/other.git/**");
        for (more, name) in [("", "bare"), (&other, "other")] {
            let output = lab.run(more, "", name);
            output
                .assert_stdout(&format!("{name} 128\n"))
                .assert_stderr("could not read Username");
            assert!(!lab.has(name));
        }
    });
}
