//! The number of requests that a rule lets out in a minute.

use stockade_testkit::{
    events,
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use crate::network::for_each_user;

/// So many requests pass, in clear and inside TLS together; one more is refused before its server is
/// connected, with what HTTP has for it, whatever connection or host of the rule it comes by.
#[test]
fn no_more_requests_leave_than_a_rule_says() {
    require_tool("curl");
    for_each_user(|env| {
        let plain = HttpServer::start();
        let sealed = TlsServer::start(&["good.test"]);
        let (http, https) = (plain.port(), sealed.port());
        let authority = env.write("authority.pem", sealed.certificate_pem());
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\
             \"good.test\" = \"127.0.0.1\"\n\"more.good.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"good.test\", \"more.good.test\"]\n\
             ports = [{http}, {https}]\nprivate = true\nrequests_per_minute_max = 3\n",
            authority.display()
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        let repo = env.repo();
        // Two on one connection, one inside TLS; then one more of each kind and to another host.
        let line = format!(
            "curl -sS -m 10 http://good.test:{http}/1 http://good.test:{http}/2; \
             curl -sS -m 10 https://good.test:{https}/3; \
             curl -sS -m 10 -i http://more.good.test:{http}/4; \
             curl -sS -m 10 -o answer -w 'status %{{http_code}}\\n' https://good.test:{https}/5; \
             python3 -c 'import socket; s = socket.create_connection((\"good.test\", {http})); \
             s.settimeout(10); s.sendall(bytes([1, 2, 3])); print(s.recv(9))' 2>&1 | tail -1; \
             /run/stockade/why"
        );
        let output = env
            .session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), policy])
            .line(&line)
            .output();
        output
            .assert_stdout("HTTP/1.1 429 Too Many Requests")
            .assert_stdout("\nRetry-After: ")
            .assert_stdout("\"rule\":\"requests-per-minute-max\"")
            .assert_stdout("at most 3 requests a minute may leave by the rule `lab`")
            .assert_stdout("raise `requests_per_minute_max` of the rule `lab`")
            .assert_stdout("status 429")
            .assert_stdout("Connection reset by peer");
        let arrived = |requests: Vec<stockade_testkit::http::Request>| {
            let paths = requests.iter().map(|one| one.path().to_owned());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(arrived(plain.requests()), ["/1", "/2"], "{output:?}");
        assert_eq!(arrived(sealed.requests()), ["/3"], "{output:?}");
        let record = env.record();
        let refused = record
            .iter()
            .filter(|event| event.rule() == "requests-per-minute-max");
        assert_eq!(refused.count(), 3, "{}", events::summary(&record));
    });
}
