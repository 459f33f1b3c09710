//! Exporters that want to harm: what they send is bounded, counted, and changes nothing.

use std::{fs, time::Duration};

use stockade_testkit::{
    Run, TestEnv,
    events::{self, Event},
    processes,
    run::require_tool,
    wait,
};

use super::of_kind;

/// What the attacks use.
const LIBRARY: &str = r#"
import gzip, json, os, socket, struct, sys, threading, time, urllib.request, urllib.error
TO = ("198.19.255.1", 4318)
def post(body, kind="application/x-protobuf", path="/v1/logs", **more):
    headers = {"content-type": kind, **{k.replace("_", "-"): v for k, v in more.items()}}
    r = urllib.request.Request("http://%s:%d%s" % (TO[0], TO[1], path), body, headers)
    try: return urllib.request.urlopen(r, timeout=60).status
    except urllib.error.HTTPError as e: return e.code
    except OSError as e: return type(e).__name__
def varint(n):
    out = b""
    while n > 127: out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def field(n, b): return bytes([n << 3 | 2]) + varint(len(b)) + b
def attribute(k, v): return field(6, field(1, k) + field(2, field(1, v)))
def record(**a): return field(2, b"".join(attribute(k.replace("__", ".").encode(), v) for k, v in a.items()))
def export(*records): return field(1, field(2, b"".join(records)))
def prompt(text): return record(event__name=b"codex.user_prompt", prompt=text)
def call(id, arguments): return record(event__name=b"codex.tool_result", call_id=id, tool_name=b"exec_command", arguments=arguments, output=b"x")
"#;

/// Runs an attack in a session; returns what it printed, the record, and by how much the memory of the
/// egress process grew at most, in KiB.
fn attack(script: &str) -> (String, Vec<Event>, u64) {
    require_tool("python3");
    let env = TestEnv::of(None);
    let repo = env.repo();
    env.write(
        repo.path().join("attack.py"),
        &format!("{LIBRARY}\n{script}"),
    );
    let run: Run = env
        .session(repo.path())
        .line("echo ready; sleep 1; python3 attack.py; touch over; sleep 1")
        .timeout(Duration::from_mins(5));
    let mut running = run.spawn();
    let egress = wait::until(Duration::from_mins(1), || {
        let ready = running.stdout().contains("ready");
        let mut all = processes::descendants(running.pid()).into_iter();
        all.find(|pid| ready && is_egress(*pid))
    });
    let egress = egress.expect("a session has an egress process");
    let before = peak_kib(egress).expect("it is there");
    let mut most = before;
    while !running.is_over() {
        most = most.max(peak_kib(egress).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = running.wait();
    output.assert_success();
    let record = env.record();
    (output.stdout.clone(), record, most - before)
}

fn is_egress(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .any(|word| word == b"__egress")
}

/// Returns the most memory that a process has had.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// What the memory may grow by: what is held, a body that is read, and what comes of both.
const GROWTH_KIB_MAX: u64 = 160 * 1024;

fn assert_lost(record: &[Event]) {
    let lost = of_kind(record, "events.lost");
    let own = lost
        .iter()
        .filter(|event| event.field("lost_source") == "otlp");
    assert!(own.count() > 0, "{}", events::summary(record));
}

/// Nothing of what is exported is taken for more than a claim.
fn assert_nothing_exact(record: &[Event]) {
    for event in record {
        assert!(!event.json.to_string().contains("\"exact\""), "{event:?}");
    }
}

/// A gigabyte in one body, in many, in one that unpacks to it, and many bodies that never end.
#[test]
fn a_gigabyte_is_not_held() {
    let (said, record, grown) = attack(
        r#"
print("one", post(export(prompt(b"before"))))
def chunks():
    piece = b"\0" * (1 << 20)
    for _ in range(1024): yield piece
s = socket.create_connection(TO)
s.sendall(b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1073741824\r\n\r\n")
sent = 0
try:
    for piece in chunks(): s.sendall(piece); sent += len(piece)
except OSError: pass
s.settimeout(5)
try: print("long", s.recv(64).split(b"\r\n")[0].decode())
except OSError as e: print("long", type(e).__name__)
s.close()
bomb = gzip.compress(b"\0" * (1 << 26)) * 16
print("bomb", post(bomb, content_encoding="gzip"))
held = []
for _ in range(80):
    try:
        h = socket.create_connection(TO); h.settimeout(2)
        h.sendall(b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 4000000\r\n\r\n" + b"\x0a" * 3000000)
    except OSError: pass
    held.append(h)
for h in held: h.close()
big = export(*[prompt(b"p" * 200000)] * 20)
codes = [post(big) for _ in range(60)]
print("many", sorted(set(codes), key=str))
time.sleep(4)
print("after", post(export(prompt(b"after"))))
"#,
    );
    assert!(said.contains("one 200\n"), "{said}");
    assert!(
        said.contains("long HTTP/1.1 413") || said.contains("long "),
        "{said}"
    );
    assert!(said.contains("bomb 413\n"), "{said}");
    assert!(said.contains("429"), "{said}");
    assert!(said.contains("after 200\n"), "{said}");
    assert_lost(&record);
    let prompts = of_kind(&record, "prompt.submitted");
    let has = |text: &str| {
        prompts
            .iter()
            .any(|event| event.json.to_string().contains(text))
    };
    assert!(
        has("before") && has("after"),
        "{}",
        events::summary(&record)
    );
    assert_nothing_exact(&record);
    assert!(
        grown < GROWTH_KIB_MAX,
        "the egress process grew by {grown} KiB"
    );
}

/// A million records, and ids that collide or belong to another session.
#[test]
fn a_million_claims_are_counted_and_name_nothing_exactly() {
    let (said, record, grown) = attack(
        r#"
import subprocess
print("lie", post(export(call(b"call_1", b'{"cmd":"touch lied"}'), call(b"call_1", b'{"cmd":"touch other"}'), call(b"toolu_of_another_session", b'{"cmd":"true"}'))))
subprocess.run(["sh", "-c", "touch lied"])
one = prompt(b"x")
batch = export(*[one] * 100000)
codes = [post(batch) for _ in range(10)]
print("codes", sorted(set(codes), key=str))
time.sleep(4)
print("utf-8", post(export(prompt(b"\xff\xfe\x00bad"))))
print("after", post(export(prompt(b"after"))))
"#,
    );
    assert!(said.contains("lie 200\n"), "{said}");
    assert!(
        said.contains("utf-8 200\n") && said.contains("after 200\n"),
        "{said}"
    );
    assert_lost(&record);
    assert_nothing_exact(&record);
    // The lie is of a program inside a command: it is recorded, and nothing is bound by it.
    let calls = of_kind(&record, "tool.called");
    assert!(calls.iter().any(|event| event.field("id") == "call_1"));
    assert!(of_kind(&record, "scope.bound").is_empty());
    assert!(
        grown < GROWTH_KIB_MAX,
        "the egress process grew by {grown} KiB"
    );
}

/// What cannot be read is refused, and the next export is taken.
#[test]
fn what_cannot_be_read_is_refused_in_the_exporters_protocol() {
    let (said, record, _) = attack(
        r#"
deep = b'{"resourceLogs":' + b'[{"x":' * 500000 + b'}]' * 500000 + b'}'
print("deep", post(deep, "application/json"))
value = b"x"
for _ in range(3000): value = field(5, field(1, value))
print("nested", post(export(field(2, field(5, value)))))
print("cut", post(export(prompt(b"y" * 100))[:-50]))
print("junk", post(b"\xff" * 1000), post(b"{", "application/json"), post(b"x", content_encoding="gzip"), post(b"x", content_encoding="br"))
print("form", post(b"x", "text/plain"), post(b"x", path="/other"))
s = socket.create_connection(TO); s.settimeout(5)
s.sendall(b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 5000\r\n\r\nabc"); s.close()
s = socket.create_connection(TO); s.settimeout(5); s.sendall(b"GET / HTTP/1.1\nbad\n\n"); print("bad", s.recv(20)); s.close()
print("json", post(b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"claude_code.user_prompt"},"attributes":[{"key":"prompt","value":{"stringValue":"in json"}}]}]}]}]}', "application/json; charset=utf-8"))
print("gzip", post(gzip.compress(export(prompt(b"in gzip"))), content_encoding="gzip"))
print("metrics", post(export(b""), path="/v1/metrics"))
"#,
    );
    for line in [
        "deep 400",
        "nested 200",
        "cut 400",
        "junk 400 400 400 400",
        "form 415 404",
        "bad b'HTTP/1.1 400",
        "json 200",
        "gzip 200",
        "metrics 200",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let prompts = of_kind(&record, "prompt.submitted");
    assert_eq!(prompts.len(), 2, "{prompts:#?}");
    assert_lost(&record);
}

/// gRPC as exporters speak it: curl sends a message over HTTP/2 without TLS.
#[test]
fn exports_over_grpc_are_taken() {
    require_tool("curl");
    let (said, record, _) = attack(
        r#"
import subprocess
def grpc(body, path="opentelemetry.proto.collector.logs.v1.LogsService/Export", *more):
    open("body", "wb").write(body)
    r = subprocess.run(["curl", "-sS", "-m", "20", "--http2-prior-knowledge", "-D", "-", "-o", "answer", "-H", "content-type: application/grpc", "-H", "te: trailers", *more, "--data-binary", "@body", "http://198.19.255.1:4317/" + path], capture_output=True, text=True)
    return [l.strip() for l in r.stdout.splitlines() if "grpc-status" in l] or r.stderr
def message(m, flag=0): return struct.pack(">BI", flag, len(m)) + m
m = export(prompt(b"over grpc"))
print("plain", grpc(message(m)))
print("gzip", grpc(message(gzip.compress(export(prompt(b"in gzip"))), 1), "opentelemetry.proto.collector.logs.v1.LogsService/Export", "-H", "grpc-encoding: gzip"))
print("other", grpc(message(m), "other.Service/Call"))
print("cut", grpc(message(m)[:-3]))
print("two", grpc(message(m) * 2))
print("bomb", grpc(message(gzip.compress(b"\0" * (1 << 26)), 1), "opentelemetry.proto.collector.logs.v1.LogsService/Export", "-H", "grpc-encoding: gzip"))
print("after", grpc(message(export(prompt(b"after")))))
"#,
    );
    for line in [
        "plain ['grpc-status: 0']",
        "gzip ['grpc-status: 0']",
        "other ['grpc-status: 12']",
        "cut ['grpc-status: 3']",
        "two ['grpc-status: 3']",
        "bomb ['grpc-status: 8']",
        "after ['grpc-status: 0']",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let prompts = of_kind(&record, "prompt.submitted");
    assert_eq!(prompts.len(), 3, "{prompts:#?}");
}
