//! The proxy on the session's own loopback, for programs that want one: the same decisions as without.

use stockade_testkit::{
    TestEnv,
    events::{self, Event},
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use crate::network::{allowed, for_each_user};

/// The port of the proxy in these tests.
const PORT: u16 = 3128;

/// Adds the proxy to a policy of [`allowed`].
fn with_proxy(env: &TestEnv, policy: &[String; 2], more: &str) -> [String; 2] {
    let text = std::fs::read_to_string(&policy[1]).expect("the policy");
    let network = format!("[network]\ninside_proxy = {PORT}\n{more}\n[network.hosts]");
    env.write("policy.toml", &text.replace("[network.hosts]", &network));
    policy.clone()
}

/// curl reaches allowed hosts through it, whatever it speaks to it, and no other host; what it names
/// by address leads to the same host.
#[test]
fn curl_reaches_what_it_reaches_without() {
    require_tool("curl");
    for_each_user(|env| {
        let (plain, tls) = (HttpServer::start(), TlsServer::start(&["good.test"]));
        let (port, secure) = (plain.port(), tls.port());
        let policy = with_proxy(env, &allowed(env, &["good.test"], &[port, secure]), "");
        let repo = env.repo();
        env.write(repo.path().join("ca.pem"), tls.certificate_pem());
        let line = format!(
            "for way in '-x http' '-x socks5' '-x socks5h' '-p -x http'; do \
             case $way in *socks5*) proxy=${{way#-x }}; set -- ;; *-p*) proxy=http; set -- -p;; \
             *) proxy=http; set --;; esac; \
             curl -sS -m 10 $@ -x $proxy://127.0.0.1:{PORT} http://good.test:{port}/ -o /dev/null \
             -w \"$proxy %{{http_code}}\\n\"; \
             curl -sS -m 10 -x $proxy://localhost:{PORT} --cacert ca.pem \
             https://good.test:{secure}/ -o /dev/null -w \"$proxy %{{http_code}}\\n\"; \
             curl -s -m 10 $@ -x $proxy://127.0.0.1:{PORT} http://evil.test:{port}/ -o /dev/null \
             -w \"evil %{{http_code}} %{{exitcode}}\\n\"; done"
        );
        let run = env.session_with(repo.path(), &["--ask", "deny"]);
        let output = run.args(&policy).line(&line).output();
        let record = env.record();
        let shown = format!("{output:?} {}", events::summary(&record));
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(
            lines,
            [
                "http 200",
                "http 200",
                "evil 403 0",
                "socks5 200",
                "socks5 200",
                "evil 000 97",
                "socks5h 200",
                "socks5h 200",
                "evil 000 97",
                "http 200",
                "http 200",
                "evil 000 56"
            ],
            "{shown}"
        );
        assert_eq!(plain.requests().len(), 4, "{shown}");
        assert_eq!(tls.requests().len(), 4, "{shown}");
        let refused = |event: &&Event| event.is_refusal() && event.targets("evil.test");
        assert_eq!(record.iter().filter(refused).count(), 4, "{shown}");
    });
}
