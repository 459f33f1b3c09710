//! HTTP/2 inside TLS that is opened.

use stockade_testkit::{
    Output, Repo, TestEnv,
    events::{self, Event},
    lab::{H2Server, TlsServer},
    run::require_tool,
};

use crate::network::for_each_user;

/// A server of HTTP/2 and one of HTTP/1, whose requests rules look at.
pub(super) struct Lab {
    pub(super) two: H2Server,
    one: TlsServer,
    pub(super) policy: String,
}

impl Lab {
    pub(super) fn new(env: &TestEnv, more: &str) -> Self {
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
        self.run_in(env, &env.repo(), line)
    }

    /// Runs a script of node in a session.
    fn node(&self, env: &TestEnv, script: &str) -> Output {
        let repo = env.repo();
        env.write(repo.path().join("h2.js"), script);
        self.run_in(env, &repo, "node h2.js")
    }

    fn run_in(&self, env: &TestEnv, repo: &Repo, line: &str) -> Output {
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

/// What a program of the session does with the module of node for HTTP/2: `client(host, port)` connects,
/// `ask(client, headers, body)` makes a request and says what came of it.
const NODE: &str = r"
const http2 = require('http2');
const client = (host, port) => {
  const c = http2.connect(`https://${host}:${port}`);
  c.on('error', e => console.log('connection', e.code));
  return c;
};
const ask = (c, headers, body, trailers) => new Promise(done => {
  const r = c.request(headers, { waitForTrailers: !!trailers });
  const got = { body: '', early: [] };
  r.on('headers', h => got.early.push(h[':status']));
  r.on('response', h => { got.status = h[':status']; });
  r.on('trailers', t => { got.trailers = { ...t }; });
  r.on('data', d => { got.body += d; });
  r.on('error', e => { got.error = e.code; });
  r.on('close', () => { got.code = r.rstCode; done(got); });
  if (trailers) r.on('wantTrailers', () => r.sendTrailers(trailers));
  r.end(body);
});
";

/// A client that asks a server of HTTP/2 on the port `two`, and one of HTTP/1.1 on `one`.
fn side_by_side(two: u16, one: u16) -> String {
    format!(
        r"{NODE}
(async () => {{
  const c = client('good.test', {two});
  const never = ask(c, {{ ':path': '/allowed/never' }});
  const call = {{ ':path': '/echo', ':method': 'POST', 'content-type': 'application/grpc', 'te': 'trailers' }};
  const r = await ask(c, call, 'message', {{ 'grpc-status': '0' }});
  console.log('grpc', r.status, r.body, JSON.stringify(r.trailers['grpc-status']));
  console.log('early', (await ask(c, {{ ':path': '/early' }})).early.join());
  const reset = await ask(c, {{ ':path': '/reset' }});
  console.log('reset', reset.status, reset.code);
  const big = await ask(c, {{ ':path': '/large/6000000' }});
  console.log('large', big.status, big.body.length);
  const up = await ask(c, {{ ':path': '/echo', ':method': 'POST' }}, 'y'.repeat(3000000));
  console.log('up', up.status, up.body.length);
  const many = [...Array(60).keys()].map(n => ask(c, {{ ':path': n % 2 ? `/allowed/${{n}}` : `/private/${{n}}` }}));
  const statuses = (await Promise.all(many)).map(r => r.status);
  console.log('many', statuses.filter(s => s === 200).length, statuses.filter(s => s === 403).length);
  console.log('bye', (await ask(c, {{ ':path': '/allowed/bye' }})).status);
  console.log('again', (await ask(c, {{ ':path': '/allowed/again' }})).status);
  const connect = await ask(c, {{ ':method': 'CONNECT', ':authority': 'good.test:{two}' }}).catch(e => ({{ status: e.code }}));
  console.log('connect', connect.status);
  const other = await ask(c, {{ ':path': '/allowed/x', ':scheme': 'http' }});
  console.log('scheme', other.status);
  const wrong = await ask(c, {{ ':path': '/allowed/x', 'x-original-url': '/private' }});
  console.log('override', wrong.status);
  const old = client('old.test', {one});
  const answers = await Promise.all([...Array(5).keys()].map(n => ask(old, {{ ':path': `/allowed/old${{n}}`, ':method': 'POST' }}, 'z'.repeat(100000))));
  console.log('old', answers.map(r => r.status + r.body.trim()).join());
  c.destroy(); old.destroy();
}})();
"
    )
}

/// Bodies, trailers, hints and ends pass as the server sends them, many requests side by side, and a
/// server that takes no more over a connection is connected to again.
#[test]
fn requests_pass_side_by_side_as_they_come() {
    require_tool("node");
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let (two, one) = (lab.two.port(), lab.one.port());
        let script = side_by_side(two, one);
        let output = lab.node(env, &script);
        output
            .assert_stdout("grpc 200 message \"0\"\n")
            .assert_stdout("early 103\n")
            .assert_stdout("reset undefined 11\n")
            .assert_stdout("large 200 6000000\n")
            .assert_stdout("up 200 3000000\n")
            .assert_stdout("many 30 30\n")
            .assert_stdout("bye 200\nagain 200\n")
            .assert_stdout("connect 400\n")
            .assert_stdout("scheme 400\n")
            .assert_stdout("override 403\n")
            .assert_stdout("old 200lab,200lab,200lab,200lab,200lab\n");
        let requests = lab.two.requests();
        let of = |path: &str| {
            let mut all = requests.iter();
            all.find(|one| one.path == path)
                .expect("it arrived")
                .clone()
        };
        assert!(requests.iter().all(|one| !one.path.contains("private")));
        assert_eq!(of("/echo").trailers["grpc-status"], "0");
        assert_eq!(of("/echo").fields["te"], "trailers");
        // What the client takes back is taken back from the server.
        assert!(of("/allowed/never").ended.is_some_and(|e| e != "whole"));
        let (bye, again) = (of("/allowed/bye"), of("/allowed/again"));
        assert_eq!((bye.connection, again.connection), (0, 1));
        let old = lab.one.requests();
        assert!(
            old.iter().all(|one| one.body.len() == 100_000),
            "{output:?}"
        );
        assert_eq!(lab.old_paths().len(), 5);
    });
}

/// Events of a server arrive when they are sent, and do not wait for the next one, which comes 300 ms later.
#[test]
fn events_are_not_held_back() {
    require_tool("node");
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let script = format!(
            r"{NODE}
const c = client('good.test', {});
const r = c.request({{ ':path': '/events' }});
const late = [];
r.on('data', d => late.push(Math.round((performance.timeOrigin + performance.now()) * 1000) - Number(/data: (\d+)/.exec(d)[1])));
r.on('close', () => {{ console.log('events', late.length, Math.min(...late) < 150_000 ? 'in time' : late); c.destroy(); }});
r.end();
",
            lab.two.port()
        );
        let output = lab.node(env, &script);
        output.assert_stdout("events 3 in time\n");
    });
}

/// A WebSocket passes over HTTP/2 once the server has said that it takes them there; its stream is a
/// `GET` to rules.
#[test]
fn websockets_pass_over_http2() {
    require_tool("node");
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let script = format!(
            r"{NODE}
(async () => {{
  const c = client('good.test', {0});
  await ask(c, {{ ':path': '/allowed/first' }});
  if (!c.remoteSettings.enableConnectProtocol) await new Promise(done => c.on('remoteSettings', s => s.enableConnectProtocol && done()));
  const open = path => new Promise(done => {{
    const ws = c.request({{ ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':authority': 'good.test:{0}', ':path': path }}, {{ endStream: false }});
    let got = '';
    ws.on('response', h => {{ got = h[':status'] + ' '; ws.write('ping'); }});
    ws.on('data', d => {{ got += d; ws.end(); }});
    ws.on('error', () => {{}});
    ws.on('close', () => done(got));
  }});
  console.log('websocket', await open('/allowed/socket'));
  console.log('refused', (await open('/private/socket')).slice(0, 4));
  const d = client('good.test', {0});
  await new Promise(done => d.on('remoteSettings', done));
  console.log('known', d.remoteSettings.enableConnectProtocol);
  c.destroy(); d.destroy();
}})();
",
            lab.two.port()
        );
        let output = lab.node(env, &script);
        output
            .assert_stdout("websocket 200 ping\n")
            .assert_stdout("refused 403 \n")
            .assert_stdout("known true\n");
        let sockets: Vec<_> = lab.two.lines();
        assert_eq!(sockets, ["GET /allowed/first", "CONNECT /allowed/socket"]);
    });
}

/// No more leaves by a rule with `bytes_max` over HTTP/2 than over HTTP/1.
#[test]
fn what_may_leave_is_bounded() {
    require_tool("curl");
    for_each_user(|env| {
        let lab = Lab::new(env, "bytes_max = \"20KiB\"\n");
        let port = lab.two.port();
        let line = format!(
            "head -c 9000 /dev/zero > small; head -c 90000 /dev/zero > large; \
             u=https://good.test:{port}/allowed/up; \
             curl -sS -m 10 --http2 --data-binary @small $u; \
             curl -sS -m 10 --http2 --data-binary @large $u; \
             cat large | curl -sS -m 10 --http2 -T - -X POST $u; echo; echo end"
        );
        let output = lab.run(env, &line);
        output
            .assert_stdout("lab\n{\"decision\"")
            .assert_stdout("\"rule\":\"bytes-max\"");
        let requests = lab.two.requests();
        let bytes: usize = requests.iter().map(|one| one.body.len()).sum();
        assert!((9000..20 * 1024).contains(&bytes), "{bytes}");
        let whole = requests
            .iter()
            .filter(|one| one.ended.as_deref() == Some("whole"));
        assert_eq!(whole.count(), 1, "{requests:?}");
        let record = env.record();
        let refused = record.iter().filter(|event| event.rule() == "bytes-max");
        assert_eq!(refused.count(), 2, "{}", events::summary(&record));
    });
}
