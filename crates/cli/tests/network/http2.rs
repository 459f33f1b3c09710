//! HTTP/2 inside TLS that is opened.

use stockade_testkit::{
    Output, TestEnv,
    events::{self, Event},
    lab::{H2Server, TlsServer},
    run::require_tool,
};

use crate::network::for_each_user;

/// A server of HTTP/2 and one of HTTP/1, whose requests rules look at.
struct Lab {
    two: H2Server,
    one: TlsServer,
    policy: String,
}

impl Lab {
    fn new(env: &TestEnv, more: &str) -> Self {
        let (two, one) = (
            H2Server::start(&["good.test"]),
            TlsServer::start(&["old.test"]),
        );
        let two_pem = env.write("two.pem", two.certificate_pem());
        let one_pem = env.write("one.pem", one.certificate_pem());
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\", \"{}\"]\n[network.hosts]\n\
             \"good.test\" = \"127.0.0.1\"\n\"old.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"api\"\nwhat = \"net\"\nhosts = [\"good.test\", \"old.test\"]\n\
             ports = [{}, {}]\nmethods = [\"GET\", \"POST\"]\npaths = [\"/echo\", \"/allowed/**\", \
             \"/events\", \"/large/**\", \"/early\", \"/reset\"]\nprivate = true\n{more}",
            two_pem.display(),
            one_pem.display(),
            two.port(),
            one.port()
        );
        let policy = env.write("policy.toml", &text);
        Self {
            two,
            one,
            policy: policy.display().to_string(),
        }
    }

    fn run(&self, env: &TestEnv, line: &str) -> Output {
        let repo = env.repo();
        env.session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), self.policy.clone()])
            .line(line)
            .output()
    }

    fn old_paths(&self) -> Vec<String> {
        let requests = self.one.requests();
        requests.iter().map(|one| one.path().to_owned()).collect()
    }
}

fn judged(record: &[Event]) -> usize {
    let all = record.iter();
    all.filter(|event| event.kind() == "http.decided").count()
}

/// Each request of a connection is judged and answered by itself, whether the server speaks HTTP/2 or
/// not; what is refused does not arrive.
#[test]
fn each_request_is_judged_by_itself() {
    require_tool("curl");
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let (two, one) = (lab.two.port(), lab.one.port());
        let line = format!(
            "f='%{{http_version}} %{{http_code}}\\n'; \
             curl -sS -m 10 --http2 -w \"$f\" https://good.test:{two}/allowed/a https://good.test:{two}/private \
               https://good.test:{two}/allowed/b; \
             curl -sS -m 10 --http2 -w \"front $f\" -H 'Host: old.test' https://good.test:{two}/allowed/front; \
             curl -sS -m 10 --http2 -w \"$f\" -d body https://good.test:{two}/echo; \
             curl -sS -m 10 --http2 -w \"old $f\" https://old.test:{one}/allowed/c; \
             curl -sS -m 10 --http2 -w \"old $f\" https://old.test:{one}/private; \
             curl -sS -m 10 --http2 -w \"known $f\" -d body https://old.test:{one}/allowed/d; \
             echo end"
        );
        let output = lab.run(env, &line);
        output
            .assert_stdout("lab\n2 200\n{\"decision\"")
            .assert_stdout("}\n2 403\nlab\n2 200\n")
            .assert_stdout("\"rule\":\"name-mismatch\"")
            .assert_stdout("front 2 421")
            .assert_stdout("body2 200")
            .assert_stdout("lab\nold 2 200\n")
            .assert_stdout("known 1.1 200");
        assert_eq!(
            lab.two.lines(),
            ["GET /allowed/a", "GET /allowed/b", "POST /echo"],
            "{output:?}"
        );
        let requests = lab.two.requests();
        assert_eq!(requests[0].connection, requests[1].connection);
        assert_eq!(requests[2].body, b"body");
        assert_eq!(lab.old_paths(), ["/allowed/c", "/allowed/d"], "{output:?}");
        let record = env.record();
        assert_eq!(judged(&record), 8, "{}", events::summary(&record));
    });
}
