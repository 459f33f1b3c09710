//! TLS that is opened, so that rules can look at the requests in it.

use stockade_testkit::{
    Output, TestEnv,
    events::{self, Event},
    lab::TlsServer,
    run::require_tool,
};

use crate::network::{allowed, for_each_user};

/// Servers of both hosts: one whose requests rules look at, and one that is passed through.
struct Lab {
    opened: TlsServer,
    spliced: TlsServer,
    policy: String,
}

impl Lab {
    /// `trusted` is whether the machine vouches for the first server.
    fn new(env: &TestEnv, trusted: Trusted) -> Self {
        let (opened, spliced) = (
            TlsServer::start(&["good.test"]),
            TlsServer::start(&["pinned.test"]),
        );
        let authority = env.write("authority.pem", opened.certificate_pem());
        let vouched = match trusted {
            Trusted::Yes => format!("upstream_ca = [\"{}\"]\n", authority.display()),
            Trusted::No => String::new(),
        };
        let text = format!(
            "schema = 1\n[network]\n{vouched}[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\
             \"other.test\" = \"127.0.0.1\"\n\"pinned.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"api\"\nwhat = \"net\"\nhosts = [\"good.test\", \"other.test\"]\n\
             ports = [{}]\nmethods = [\"GET\"]\npaths = [\"/allowed/**\"]\nprivate = true\n\
             [[allow]]\nid = \"pinned\"\nwhat = \"net\"\nhosts = [\"pinned.test\"]\nports = [{}]\n\
             tls = \"splice\"\nprivate = true\n",
            opened.port(),
            spliced.port()
        );
        let policy = env.write("policy.toml", &text);
        Self {
            opened,
            spliced,
            policy: policy.display().to_string(),
        }
    }

    fn run(&self, env: &TestEnv, line: &str) -> Output {
        let repo = env.repo();
        env.write(
            repo.path().join("pinned.pem"),
            self.spliced.certificate_pem(),
        );
        env.write(
            repo.path().join("origin.pem"),
            self.opened.certificate_pem(),
        );
        env.session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), self.policy.clone()])
            .line(line)
            .output()
    }

    fn paths(server: &TlsServer) -> Vec<String> {
        let requests = server.requests();
        requests.iter().map(|one| one.path().to_owned()).collect()
    }
}

#[derive(Clone, Copy)]
enum Trusted {
    Yes,
    No,
}

fn refused<'r>(record: &'r [Event], rule: &str) -> Vec<&'r Event> {
    let all = record.iter();
    all.filter(|event| event.is_refusal() && event.rule() == rule)
        .collect()
}

/// Requests that a rule allows pass inside TLS with clients as they are; others are answered with the
/// decision, and nothing of them arrives. What is passed through shows the server's own certificate.
#[test]
fn rules_look_at_requests_inside_tls() {
    require_tool("curl");
    require_tool("python3");
    for_each_user(|env| {
        let lab = Lab::new(env, Trusted::Yes);
        let (opened, spliced) = (lab.opened.port(), lab.spliced.port());
        let line = format!(
            "curl -sS -m 10 https://good.test:{opened}/allowed/curl; \
             curl -sS -m 10 -w ' status %{{http_code}}\\n' https://good.test:{opened}/private; \
             curl -sS -m 10 -w ' status %{{http_code}}\\n' -d secret https://good.test:{opened}/allowed/post; \
             python3 -c 'import urllib.request as u; print(\"python\", u.urlopen(\"https://good.test:{opened}/allowed/python\").status)'; \
             curl -sS -m 10 --cacert pinned.pem https://pinned.test:{spliced}/anything; \
             curl -sS -m 10 -H 'Host: pinned.test' https://good.test:{opened}/allowed/front; \
             curl -sS -m 10 --path-as-is https://good.test:{opened}/allowed/../private; echo; \
             grep -c BEGIN $NODE_EXTRA_CA_CERTS; test -r $SSL_CERT_FILE && echo readable; \
             echo x > /run/stockade/ca-bundle.pem || echo kept; grep -l PRIVATE /run/stockade/*.pem; echo end"
        );
        let output = lab.run(env, &line);
        output
            .assert_stdout("python 200")
            .assert_stdout("\"rule\":null")
            .assert_stdout("status 403")
            .assert_stdout("\"rule\":\"name-mismatch\"")
            .assert_stdout("servers read in different ways")
            .assert_stdout("\n2\nreadable\nkept\nend\n");
        assert_eq!(
            Lab::paths(&lab.opened),
            ["/allowed/curl", "/allowed/python"],
            "{output:?}"
        );
        assert_eq!(Lab::paths(&lab.spliced), ["/anything"], "{output:?}");
        let record = env.record();
        let judged = record.iter().filter(|event| event.kind() == "http.decided");
        assert_eq!(judged.count(), 6, "{}", events::summary(&record));
    });
}

/// A client that trusts nobody but the server's own authority is refused, and the remedy names how the
/// owner lets it through.
#[test]
fn a_client_that_does_not_trust_is_told_of_splice() {
    require_tool("curl");
    for_each_user(|env| {
        let lab = Lab::new(env, Trusted::Yes);
        let port = lab.opened.port();
        let line = format!(
            "curl -sS -m 10 --cacert origin.pem https://good.test:{port}/allowed/x; echo curl $?; \
             for i in $(seq 100); do /run/stockade/why | grep splice && break; sleep 0.05; done"
        );
        let output = lab.run(env, &line);
        output
            .assert_stdout("curl 60")
            .assert_stdout("tls = \"splice\"");
        lab.opened.assert_untouched();
        let record = env.record();
        let refused = refused(&record, "tls-untrusted");
        assert_eq!(refused.len(), 1, "{}", events::summary(&record));
        assert!(
            refused[0].reason().contains("does not trust"),
            "{:?}",
            refused[0]
        );
    });
}

/// A server that nobody vouches for, or whose certificate is for another host, is not laundered: no
/// request reaches it, and the program is told why.
#[test]
fn servers_must_show_a_valid_certificate() {
    require_tool("curl");
    for (trusted, host, why) in [
        (Trusted::No, "good.test", "no authority that is trusted"),
        (Trusted::Yes, "other.test", "it is for another host"),
    ] {
        for_each_user(|env| {
            let lab = Lab::new(env, trusted);
            let port = lab.opened.port();
            let line = format!("curl -sS -m 10 https://{host}:{port}/allowed/x");
            let output = lab.run(env, &line);
            output
                .assert_stdout("server-certificate")
                .assert_stdout(why);
            assert!(lab.opened.requests().is_empty(), "{output:?}");
            let record = env.record();
            let refused = refused(&record, "server-certificate");
            assert_eq!(refused.len(), 1, "{}", events::summary(&record));
        });
    }
}

/// A session whose policy looks at no requests has no authority, and programs trust whom they trust.
#[test]
fn sessions_that_open_nothing_have_no_authority() {
    for_each_user(|env| {
        let policy = allowed(env, &["good.test"], &[443]);
        let line = "ls /run/stockade | grep -c pem; env | grep -c /run/stockade/ca; echo end";
        let repo = env.repo();
        let session = env.session_with(repo.path(), &["--ask", "deny"]);
        let output = session.args(&policy).line(line).output();
        output.assert_stdout("0\n0\nend\n");
    });
}
