//! A server that gets the value, a policy that binds it, and the value itself.

use std::io::{self, Write};

use stockade_testkit::{
    Output, Run, TestEnv,
    env::User,
    http::{Request, Response},
    lab::TlsServer,
};

/// The value that no program inside may have.
pub(super) const VALUE: &str = "sk-ant-api03-M4rk3rM4rk3rM4rk3rM4rk3rM4rk3r-marker_AA";

/// Runs `body` in a fresh environment for every user that the tests can become.
pub(super) fn for_each_user(body: impl Fn(&TestEnv)) {
    for user in User::all() {
        body(&TestEnv::of(user.as_deref()));
    }
}

/// A host that the credential is for, another one, and a policy that opens both.
pub(super) struct Lab {
    pub(super) good: TlsServer,
    pub(super) evil: TlsServer,
    policy: String,
}

impl Lab {
    /// `credential` holds the fields of the credential other than its name and hosts.
    pub(super) fn new(env: &TestEnv, credential: &str) -> Self {
        Self::answering(env, credential, |_, mut out| {
            Response::text(200, "lab\n").write(&mut out)
        })
    }

    /// `answer` writes the answers of the good host.
    pub(super) fn answering(
        env: &TestEnv,
        credential: &str,
        answer: impl Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let good = TlsServer::writing(&["good.test"], answer);
        let evil = TlsServer::start(&["evil.test"]);
        let pem = [good.certificate_pem(), evil.certificate_pem()].concat();
        let authorities = env.write("authorities.pem", &pem);
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\
             \"good.test\" = \"127.0.0.1\"\n\"evil.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"good.test\", \"evil.test\"]\n\
             ports = [{good}, {evil}]\ntls = \"inspect\"\nprivate = true\n\
             [[credential]]\nid = \"svc\"\nhosts = [\"good.test\"]\nports = [{good}]\n{credential}",
            authorities.display(),
            good = good.port(),
            evil = evil.port(),
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        Self { good, evil, policy }
    }

    /// Runs a line in a session of a caller who has the value in `SVC_TOKEN`.
    pub(super) fn run(&self, env: &TestEnv, line: &str) -> Output {
        self.start(env, line).env("SVC_TOKEN", VALUE).output()
    }

    /// The same of a caller who has no value.
    pub(super) fn start(&self, env: &TestEnv, line: &str) -> Run {
        let workspace = env.root().join("work");
        env.write(workspace.join("README.md"), "lab\n");
        env.session_with(workspace, &["--ask", "deny"])
            .args(["--policy", &self.policy])
            .line(
                line.replace("GOOD", &format!("https://good.test:{}", self.good.port()))
                    .replace("EVIL", &format!("https://evil.test:{}", self.evil.port())),
            )
    }

    /// Returns what the good host got in a field, request by request.
    pub(super) fn got(&self, field: &str) -> Vec<Option<String>> {
        let requests = self.good.requests();
        let values = requests
            .iter()
            .map(|one| one.header(field).map(str::to_owned));
        values.collect()
    }
}
