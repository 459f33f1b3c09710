//! Machines that can leave their network only through a proxy: without it, names do not resolve.

use stockade_testkit::{
    Output, Repo, TestEnv,
    events::{self, Event},
    lab::{HttpServer, Proxy, TlsServer},
    run::require_tool,
};

use crate::network::{allowed, for_each_user};

/// Names that no resolver knows, so that only a proxy can reach them.
const HOSTS: [&str; 2] = ["missing-a.test", "missing-b.test"];

fn inside(
    env: &TestEnv,
    repo: &Repo,
    (name, value): (&str, &str),
    policy: &[String],
    line: &str,
) -> Output {
    env.session_with(repo.path(), &["--ask", "deny"])
        .args(policy)
        .env(name, value)
        .line(line)
        .output()
}

/// curl, git and python reach allowed hosts through the proxy of the caller's variables, with and
/// without TLS; other hosts are not even requested from the proxy, and nothing inside reveals it.
#[test]
fn hosts_are_reached_through_the_callers_proxy() {
    for tool in ["curl", "git", "python3"] {
        require_tool(tool);
    }
    for_each_user(|env| {
        let (proxy, server) = (Proxy::start(), HttpServer::start());
        let tls = TlsServer::start(&["missing-b.test"]);
        let (plain, secure) = (server.port(), tls.port());
        let policy = allowed(env, &HOSTS, &[plain, secure]);
        let repo = env.repo();
        env.write(repo.path().join("ca.pem"), tls.certificate_pem());
        let line = format!(
            "curl -sS -m 10 http://missing-a.test:{plain}/one; \
             curl -sS -m 10 --cacert ca.pem https://missing-b.test:{secure}/two; \
             git ls-remote http://missing-a.test:{plain}/three 2>&1 | head -1; \
             python3 -c 'import urllib.request as u; print(u.urlopen(\"http://missing-a.test:{plain}/four\").status)'; \
             curl -sS -m 5 http://missing-c.test:{plain}/five; env | grep -ci proxy"
        );
        let url = proxy.url();
        let variables = |name| inside(env, &repo, (name, &url), &policy, &line);
        let output = variables("ALL_PROXY");
        output.assert_stdout("200\n").assert_stdout("0\n");
        let paths: Vec<String> = server
            .requests()
            .iter()
            .map(|r| r.path().to_owned())
            .collect();
        assert_eq!(paths.len(), 3, "{paths:?} {output:?}");
        assert_eq!(tls.requests().len(), 1, "{output:?}");
        let heads = proxy.heads();
        assert!(
            heads
                .iter()
                .any(|head| head.starts_with("CONNECT missing-b.test:")),
            "{heads:?}"
        );
        assert!(
            heads
                .iter()
                .any(|head| head.starts_with("GET http://missing-a.test:")),
            "{heads:?}"
        );
        assert!(!heads.concat().contains("missing-c"), "{heads:?}");
        let record = env.record();
        let through = |event: &&Event| event.field("detail").contains("through the proxy");
        assert!(
            record.iter().any(|event| through(&event)),
            "{}",
            events::summary(&record)
        );
    });
}

/// A login comes from a file or the address, and reaches only the proxy. A host that the proxy
/// cannot reach is reported as such, and a program's own headers for proxies do not get there.
#[test]
fn a_login_reaches_the_proxy_alone() {
    require_tool("curl");
    for_each_user(|env| {
        let proxy = Proxy::locked("Basic bWU6cEBzcw==");
        let server = HttpServer::start();
        let port = server.port();
        let login = env.write("login", "me:p@ss\n");
        let policy = allowed(env, &HOSTS, &[port, 1]);
        let text = std::fs::read_to_string(&policy[1]).expect("the policy");
        let named = format!(
            "[network]\nproxy = \"{}\"\nproxy_auth_file = \"{}\"\n[network.hosts]",
            proxy.url(),
            login.display()
        );
        env.write("policy.toml", &text.replace("[network.hosts]", &named));
        let repo = env.repo();
        let line = format!(
            "curl -sS -m 10 -H 'Proxy-Authorization: Basic eDp5' http://missing-a.test:{port}/; \
             curl -s -m 10 http://missing-a.test:1/ -o /dev/null -w '%{{http_code}}\\n'; \
             cat {}",
            login.display()
        );
        let output = inside(env, &repo, ("NO_PROXY", "elsewhere.test"), &policy, &line);
        assert_eq!(server.requests().len(), 1, "{output:?}");
        output.assert_stdout("502\n").assert_stderr("No such file");
        assert!(
            !proxy.heads().concat().contains("eDp5"),
            "{:?}",
            proxy.heads()
        );
    });
}

/// An organisation forbids the proxy, or names it; exceptions are dialled directly.
#[test]
fn policy_and_exceptions_say_who_goes_through_it() {
    require_tool("curl");
    for_each_user(|env| {
        let (proxy, server) = (Proxy::start(), HttpServer::start());
        let port = server.port();
        let policy = allowed(env, &["good.test", "missing-a.test"], &[port]);
        let repo = env.repo();
        let none = env.write(
            "organisation.toml",
            "schema = 1\n[network]\nproxy = \"none\"\n",
        );
        let line = format!(
            "curl -sS -m 5 http://missing-a.test:{port}/ -o /dev/null; echo rc $?; \
             curl -sS -m 5 http://good.test:{port}/ -o /dev/null; echo fixed $?"
        );
        let run = |name: &str, value: &str| {
            env.session_with(repo.path(), &["--ask", "deny"])
                .args(&policy)
                .env("HTTP_PROXY", proxy.url())
                .env("HTTPS_PROXY", proxy.url())
                .env(name, value)
                .line(&line)
                .output()
        };
        run("STOCKADE_ORG_POLICY", &none.display().to_string()).assert_stdout("rc 7\nfixed 0\n");
        run("NO_PROXY", ".test").assert_stdout("rc 7\nfixed 0\n");
        assert_eq!(proxy.heads(), Vec::<String>::new());
        run("NO_PROXY", "other.test")
            .assert_stdout("rc 0\nfixed 0\n")
            .assert_stderr("go out through HTTPS_PROXY; programs inside do not see it");
        assert_eq!(proxy.heads().len(), 1, "{:?}", proxy.heads());
    });
}
