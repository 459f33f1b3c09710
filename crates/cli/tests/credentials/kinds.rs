//! Where each kind of credential stands, in every way that requests are carried.

use stockade_testkit::{
    TestEnv, events,
    lab::{H2Server, HttpServer, TlsServer},
    run::require_tool,
};

use super::lab::{VALUE, for_each_user};

/// A user and a password, for a server that wants both.
const LOGIN: &str = "lab-user:L0gin-p4ssw0rd-marker";
/// What base64 makes of `git-user:` and [`VALUE`], and of [`LOGIN`].
const AS_PASSWORD: &str =
    "Basic Z2l0LXVzZXI6c2stYW50LWFwaTAzLU00cmszck00cmszck00cmszck00cmszck00cmszci1tYXJrZXJfQUE=";
const AS_LOGIN: &str = "Basic bGFiLXVzZXI6TDBnaW4tcDRzc3cwcmQtbWFya2Vy";

/// A kind, its fields, how curl sends its placeholder, and what arrives.
struct Kind {
    word: &'static str,
    fields: &'static str,
    source: &'static str,
    sent: &'static str,
    /// The field and its value; a query where there is no field.
    arrives: (&'static str, String),
}

fn kinds() -> [Kind; 6] {
    let token = "SVC_TOKEN";
    [
        Kind {
            word: "bearer",
            fields: "",
            source: token,
            sent: "-H \"authorization: Bearer $IN\"",
            arrives: ("authorization", format!("Bearer {VALUE}")),
        },
        Kind {
            word: "header",
            fields: "header = \"x-api-key\"",
            source: token,
            sent: "-H \"x-api-key: $IN\"",
            arrives: ("x-api-key", VALUE.to_owned()),
        },
        Kind {
            word: "query",
            fields: "parameter = \"key\"",
            source: token,
            sent: "-G -d one=1 -d \"key=$IN\"",
            arrives: ("", format!("key={VALUE}")),
        },
        Kind {
            word: "basic",
            fields: "user = \"git-user\"",
            source: token,
            sent: "-u \"git-user:$IN\"",
            arrives: ("authorization", AS_PASSWORD.to_owned()),
        },
        Kind {
            word: "basic",
            fields: "",
            source: "SVC_LOGIN",
            sent: "-u \"$IN\"",
            arrives: ("authorization", AS_LOGIN.to_owned()),
        },
        Kind {
            word: "git-https",
            fields: "user = \"git-user\"",
            source: token,
            sent: "-u \"git-user:$IN\"",
            arrives: ("authorization", AS_PASSWORD.to_owned()),
        },
    ]
}

impl Kind {
    /// Writes a credential of this kind for the path `/NAME/NUMBER`.
    fn credential(&self, name: &str, number: usize, ports: &str) -> String {
        let written = match name {
            "written" => format!("as = \"IN_{number}\"\n"),
            _ => String::new(),
        };
        format!(
            "[[credential]]\nid = \"{name}-{number}\"\nkind = \"{}\"\n{}\nsource = {{ env = \"{}\" }}\n\
             hosts = [\"one.test\", \"two.test\", \"plain.test\"]\n{ports}\nplain = true\n\
             paths = [\"/{name}/{number}\"]\n{written}",
            self.word, self.fields, self.source,
        )
    }
}

/// Servers of both protocols, and one without TLS.
struct Lab {
    one: TlsServer,
    two: H2Server,
    plain: HttpServer,
}

impl Lab {
    fn new() -> Self {
        Self {
            one: TlsServer::start(&["one.test"]),
            two: H2Server::start(&["two.test"]),
            plain: HttpServer::start(),
        }
    }

    /// Writes a policy that opens the servers, with `credentials` below it.
    fn policy(&self, env: &TestEnv, credentials: &str) -> String {
        let pem = [self.one.certificate_pem(), self.two.certificate_pem()].concat();
        let pem = env.write("authorities.pem", &pem);
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"one.test\" = \
             \"127.0.0.1\"\n\"two.test\" = \"127.0.0.1\"\n\"plain.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"one.test\", \"two.test\", \
             \"plain.test\"]\n{}\nprivate = true\n{credentials}",
            pem.display(),
            self.ports(),
        );
        env.write("policy.toml", &text).display().to_string()
    }

    fn ports(&self) -> String {
        let (one, two, plain) = (self.one.port(), self.two.port(), self.plain.port());
        format!("ports = [{one}, {two}, {plain}]")
    }

    /// Returns path with query and one field of every request that arrived.
    fn got(&self, field: &str) -> Vec<(String, Option<String>)> {
        let plain = self.plain.requests();
        let one = self.one.requests().into_iter().chain(plain).map(|request| {
            let value = request.header(field).map(str::to_owned);
            (request.target, value)
        });
        let two = self.two.requests().into_iter();
        let two = two.map(|request| (request.path, request.fields.get(field).cloned()));
        one.chain(two).collect()
    }
}

/// Each kind arrives in its place, whichever HTTP the program and the server speak, with TLS and
/// where the credential may go without, whether the program has a placeholder or sends nothing.
#[test]
fn each_kind_stands_in_its_place_in_every_protocol() {
    require_tool("curl");
    for_each_user(|env| {
        let lab = Lab::new();
        let ways = [
            ("--http1.1 https://one.test", lab.one.port()),
            // Translated: this server speaks HTTP/1.1 only.
            ("--http2 https://one.test", lab.one.port()),
            ("--http2 https://two.test", lab.two.port()),
            ("--http1.1 http://plain.test", lab.plain.port()),
        ];
        let (mut credentials, mut line) = (Vec::new(), Vec::new());
        for (number, kind) in kinds().iter().enumerate() {
            credentials.push(kind.credential("written", number, &lab.ports()));
            credentials.push(kind.credential("added", number, &lab.ports()));
            let written = kind.sent.replace("$IN", &format!("$IN_{number}"));
            for (name, sent) in [("written", written.as_str()), ("added", "")] {
                let each = ways.iter().map(|(way, port)| {
                    format!("curl -sS -m 10 -o /dev/null {sent} {way}:{port}/{name}/{number} & ")
                });
                line.push(format!("{} wait", each.collect::<String>()));
            }
        }
        line.push("env; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'".to_owned());
        let policy = lab.policy(env, &credentials.concat());
        let output = env
            .session_with(env.repo().path(), &["--ask", "deny", "--policy", &policy])
            .env("SVC_TOKEN", VALUE)
            .env("SVC_LOGIN", LOGIN)
            .line(line.join("; "))
            .output();
        for (number, kind) in kinds().iter().enumerate() {
            let (field, value) = &kind.arrives;
            for name in ["written", "added"] {
                let path = format!("/{name}/{number}");
                let got = lab.got(field);
                let got: Vec<_> = got.iter().filter(|(at, _)| at.starts_with(&path)).collect();
                assert_eq!(got.len(), ways.len(), "{path}: {got:?} {output:?}");
                for (target, found) in got {
                    let found = found.as_deref().unwrap_or_default();
                    let is_there = if field.is_empty() {
                        target.ends_with(value)
                    } else {
                        found == value
                    };
                    assert!(is_there, "{path}: {target} {found}");
                }
            }
        }
        for text in [VALUE, "L0gin-p4ssw0rd", AS_LOGIN, AS_PASSWORD] {
            assert!(!output.stdout.contains(text), "{output:?}");
        }
        // The user of a login is no secret.
        output.assert_stdout("IN_4=lab-user:");
        let record = env.record();
        let used = record
            .iter()
            .filter(|event| event.kind() == "credential.used");
        let expected = kinds().len() * 2 * ways.len();
        assert_eq!(used.count(), expected, "{}", events::summary(&record));
        let record = format!("{record:?}");
        assert!(!record.contains(VALUE) && !record.contains("L0gin-p4ssw0rd"));
    });
}
