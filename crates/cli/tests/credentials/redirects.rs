//! Redirects: the program repeats its request elsewhere, and the value does not go along.

use stockade_testkit::{
    events,
    http::Response,
    lab::{HttpServer, TlsServer},
    run::require_tool,
};

use super::lab::{VALUE, for_each_user};

/// A server sends programs on to another host, to another port of its own host and to its own host
/// without TLS. What has a placeholder is refused there; what has none arrives without the value.
#[test]
fn no_value_follows_a_redirect() {
    require_tool("curl");
    for_each_user(|env| {
        let evil = TlsServer::start(&["evil.test"]);
        let other = TlsServer::start(&["good.test"]);
        let plain = HttpServer::start();
        let good = TlsServer::with(&["good.test"], |request| {
            match request.target.split_once('=') {
                Some((_, to)) => Response::text(302, "").header("Location", to),
                None => Response::text(200, "lab\n"),
            }
        });
        let pem = [
            good.certificate_pem(),
            evil.certificate_pem(),
            other.certificate_pem(),
        ];
        let authorities = env.write("authorities.pem", &pem.concat());
        let (at, hosts) = (good.port(), "hosts = [\"good.test\"]");
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"good.test\" = \
             \"127.0.0.1\"\n\"evil.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\n\
             hosts = [\"good.test\", \"evil.test\"]\nports = [{at}, {}, {}, {}]\nprivate = true\n\
             tls = \"inspect\"\n\
             [[credential]]\nid = \"key\"\nkind = \"header\"\nheader = \"x-api-key\"\nsource = {{ env = \
             \"SVC_TOKEN\" }}\n{hosts}\nports = [{at}]\nas = \"SVC_TOKEN\"\n\
             [[credential]]\nid = \"bearer\"\nkind = \"bearer\"\nsource = {{ env = \"SVC_TOKEN\" }}\n\
             {hosts}\nports = [{at}]\nas = \"SVC_TOKEN\"\n\
             [[credential]]\nid = \"added\"\nkind = \"header\"\nheader = \"x-added\"\nsource = {{ env = \
             \"SVC_TOKEN\" }}\n{hosts}\nports = [{at}]\npaths = [\"/added/**\", \"/next\"]\n",
            authorities.display(),
            evil.port(),
            other.port(),
            plain.port()
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        let places = [
            format!("https://evil.test:{}/next", evil.port()),
            format!("https://good.test:{}/next", other.port()),
            format!("http://good.test:{}/next", plain.port()),
        ];
        let mut line = Vec::new();
        for place in &places {
            for (path, sent) in [
                ("key", "-H \"x-api-key: $SVC_TOKEN\""),
                (
                    "bearer",
                    "--location-trusted --oauth2-bearer \"$SVC_TOKEN\"",
                ),
                ("added/x", ""),
            ] {
                for version in ["--http1.1", "--http2"] {
                    line.push(format!(
                        "curl -sS -m 10 -o /dev/null -w '{path} %{{http_code}}\\n' -L {version} {sent} \
                         \"https://good.test:{at}/{path}?to={place}\""
                    ));
                }
            }
        }
        // Control: a redirect on the host itself takes the value along.
        line.push(format!(
            "curl -sS -m 10 -L -H \"x-api-key: $SVC_TOKEN\" \"https://good.test:{at}/key?to=/next\""
        ));
        let output = env
            .session_with(env.repo().path(), &["--ask", "deny", "--policy", &policy])
            .env("SVC_TOKEN", VALUE)
            .line(line.join("; "))
            .output();
        for (text, count) in [("key 403\n", 6), ("bearer 403\n", 6), ("added/x 200\n", 6)] {
            assert_eq!(output.stdout.matches(text).count(), count, "{output:?}");
        }
        let mut away = evil.requests();
        away.extend(other.requests());
        away.extend(plain.requests());
        // Only what had no placeholder, and without the value.
        assert_eq!(away.len(), 6, "{away:?}");
        let sent = format!("{away:?}");
        assert!(!sent.contains(VALUE) && !sent.contains("sk-ant"), "{sent}");
        let with = |field: &str| {
            let requests = good.requests();
            let got = requests.iter().filter_map(|one| one.header(field));
            let got: Vec<_> = got.map(str::to_owned).collect();
            assert!(got.iter().all(|value| value.ends_with(VALUE)), "{got:?}");
            got.len()
        };
        assert_eq!(
            (with("x-api-key"), with("authorization"), with("x-added")),
            (8, 6, 7),
            "{output:?}"
        );
        let record = env.record();
        let refused = record
            .iter()
            .filter(|one| one.rule() == "credential-misuse");
        assert_eq!(refused.count(), 12, "{}", events::summary(&record));
    });
}
