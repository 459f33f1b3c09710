//! Calls of models in the record: what passed is named, however it was carried, and nothing that is sent
//! to a model's address harms the session.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use stockade_testkit::{
    Output, Repo, TestEnv,
    events::{self, Event},
    lab::{H2Server, TlsServer},
    run::require_tool,
};

use crate::network::for_each_user;

/// Both a call and its answer.
const BOTH: &str = r#"{"type":"message","id":"msg-1","model":"lab-1","messages":[{"role":"user","content":"hi"}],"usage":{"input_tokens":34,"cache_creation_input_tokens":300,"cache_read_input_tokens":900,"output_tokens":56},"stop_reason":"tool_use","content":[{"type":"tool_use","id":"c-1","name":"Bash","input":{}},{"type":"server_tool_use","name":"web_search"}],"tools":[{"name":"Bash","input_schema":{}},{"type":"web_search_20250305","name":"web_search"}],"mcp_servers":[{"url":"https://u:p@mcp.test/x"}]}"#;

/// Time in which what a server has sent must have arrived; it takes a few milliseconds.
const ARRIVES: Duration = Duration::from_secs(20);

/// A server of HTTP/1 that sends back what it gets, in the coding in which it came, and one of HTTP/2.
pub(super) struct Lab {
    pub(super) one: TlsServer,
    pub(super) two: H2Server,
    pub(super) policy: PathBuf,
}

impl Lab {
    pub(super) fn new(env: &TestEnv, more: &str) -> Self {
        let one = TlsServer::writing(&["one.test"], |request, out| {
            let coding = request.header("content-encoding");
            let coding = coding.map(|coding| format!("Content-Encoding: {coding}\r\n"));
            let (status, length) = match request.path() {
                "/error/v1/messages" => (529, request.body.len()),
                "/cut/v1/messages" => (200, request.body.len() + 100),
                _ => (200, request.body.len()),
            };
            let head = format!(
                "HTTP/1.1 {status} Lab\r\n{}Content-Length: {length}\r\n\r\n",
                coding.unwrap_or_default()
            );
            out.write_all(head.as_bytes())?;
            out.write_all(&request.body)?;
            out.flush()?;
            if length > request.body.len() {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
        let two = H2Server::start(&["two.test"]);
        let pem = env.write("one.pem", one.certificate_pem());
        let other = env.write("two.pem", two.certificate_pem());
        let hosts = format!(
            "hosts = [\"one.test\", \"two.test\"]\nports = [{}, {}]\n",
            one.port(),
            two.port()
        );
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\", \"{}\"]\n[network.hosts]\n\"one.test\" = \
             \"127.0.0.1\"\n\"two.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\n{hosts}\
             private = true\ntls = \"inspect\"\n{}",
            pem.display(),
            other.display(),
            more.replace("HOSTS", &hosts)
        );
        let policy = env.write("policy.toml", &text);
        Self { one, two, policy }
    }

    pub(super) fn run(&self, env: &TestEnv, repo: &Repo, line: &str) -> Output {
        require_tool("curl");
        env.session_with(repo.path(), &["--ask", "deny"])
            .args(&["--policy".to_owned(), self.policy.display().to_string()])
            .line(line)
            .timeout(Duration::from_mins(2))
            .output()
    }

    /// Replaces the names of the servers by their addresses.
    pub(super) fn addresses(&self, line: &str) -> String {
        let curl = "curl -sS -m 60 -o got -w '%{http_code} ' --data-binary";
        line.replace("CURL", curl)
            .replace("ONE", &format!("https://one.test:{}", self.one.port()))
            .replace("TWO", &format!("https://two.test:{}", self.two.port()))
    }
}

fn calls(record: &[Event]) -> Vec<&Event> {
    let calls = record.iter();
    calls
        .filter(|event| event.kind() == "model.called")
        .collect()
}

/// What an event says of a call, in one line.
fn said(event: &Event) -> String {
    let value = &event.json;
    let number = |path: &str| {
        value
            .pointer(path)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    format!(
        "{}/{} {} {} {} in {} cached {} out {}",
        event.field("provider"),
        event.field("api"),
        event.field("model"),
        number("/status"),
        number("/usage/input"),
        number("/usage/cached"),
        number("/usage/output"),
        event.field("ended"),
    )
}

/// However a call is carried and coded, it is in the record once; what only has its address is not.
#[test]
fn calls_are_named_however_they_are_carried() {
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let repo = env.repo();
        env.write(repo.path().join("both.json"), BOTH);
        let chat = r#"{"model":"lab-2","messages":[],"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
        env.write(repo.path().join("chat.json"), chat);
        let content = r#"{"contents":[],"candidates":[{"finishReason":"STOP"}],"modelVersion":"lab-3","usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":5}}"#;
        env.write(repo.path().join("content.json"), content);
        require_tool("zstd");
        let line = "gzip -k both.json; CURL @both.json ONE/v1/messages; \
            CURL @both.json.gz -H 'Content-Encoding: gzip' 'ONE/v1/messages?beta=true'; \
            zstd -q both.json; CURL @both.json.zst -H 'Content-Encoding: zstd' ONE/v1/messages; \
            CURL @both.json -H 'Transfer-Encoding: chunked' ONE/proxy/v1/messages; \
            CURL @both.json TWO/echo/v1/messages; \
            CURL @both.json TWO/v1/messages; \
            CURL @chat.json ONE/v1/chat/completions; \
            CURL @content.json ONE/v1beta/models/lab-3:generateContent; \
            CURL @both.json ONE/error/v1/messages; \
            CURL @both.json ONE/cut/v1/messages 2> /dev/null; \
            CURL '{\"text\":\"to a room\"}' ONE/room/messages; \
            CURL x ONE/v1/messages; CURL @both.json ONE/v1/models; curl -sS -o got ONE/v1/messages";
        let output = lab.run(env, &repo, &lab.addresses(line));
        output.assert_stdout("200 200 200 200 200 200 200 200 529 200 200 200 200");
        let record = env.record();
        let whole = "anthropic/messages lab-1 200 1234 in 900 cached 56 out whole";
        let expected = [
            whole,
            whole,
            whole,
            whole,
            whole,
            // What this server answers is no answer of a model.
            "anthropic/messages  200  in  cached  out cut",
            "openai/chat-completions lab-2 200 3 in  cached 2 out whole",
            "gemini/generate-content lab-3 200 4 in  cached 5 out whole",
            "anthropic/messages lab-1 529 1234 in 900 cached 56 out whole",
            "anthropic/messages lab-1 200 1234 in 900 cached 56 out cut",
        ];
        let seen: Vec<String> = calls(&record).into_iter().map(said).collect();
        assert_eq!(seen, expected, "{}", events::summary(&record));
        let shown = env.stockade().args(["show", "last"]).success();
        shown.assert_stdout("model  lab-1 1,234 in (900 cached) 56 out, ");
        shown.assert_stdout(
            "stop: tool_use, calls Bash, provider ran web_search, provider may run web_search, mcp at \
             mcp.test",
        );
        shown.assert_stdout("lab-1 ");
        // Nothing of a login in an address is kept.
        assert!(!format!("{record:?}").contains("u:p@"));
        let json = env.stockade().args(["show", "last", "--json"]).success();
        json.assert_stdout("\"tokens_cached\":");
    });
}

/// What an agent inside could send to break who reads along: each is passed on or refused as before, is
/// bounded, and the session goes on.
#[test]
fn hostile_calls_are_bounded_and_recorded() {
    require_tool("python3");
    for_each_user(|env| {
        let lab = Lab::new(env, "");
        let repo = env.repo();
        env.write(repo.path().join("both.json"), BOTH);
        let script = "import sys\n\
            def put(name, parts):\n\
            \x20   with open(name, 'wb') as f:\n\
            \x20       for part in parts: f.write(part)\n\
            head = b'{\"model\":\"lab-1\",\"type\":\"message\",\"messages\":[{\"role\":\"user\",\"content\":['\n\
            result = b'{\"type\":\"tool_result\",\"tool_use_id\":\"same\",\"content\":\"x\"},'\n\
            put('many', [head, result * 100000, b'{}]}]}'])\n\
            put('large', [b'{\"model\":\"lab-1\",\"messages\":\"'] + [b'x' * 2**20] * 40 + [b'\"}'])\n\
            put('deep', [b'{\"model\":\"lab-1\",\"messages\":', b'[' * 2**22])\n\
            put('bytes', [b'{\"model\":\"\\xff\\x1b[2J\\\\u202e\",\"messages\":[]}'])\n\
            put('bomb', [b'\\0' * 2**26])\n";
        env.write(repo.path().join("make.py"), script);
        let line = "python3 make.py && gzip bomb; for f in many large deep bytes; do \
            CURL @$f ONE/v1/messages; done; CURL @bomb.gz -H 'Content-Encoding: gzip' ONE/v1/messages; \
            CURL @both.json -H 'Content-Encoding: x-lab' ONE/v1/messages; \
            CURL @both.json -H 'Content-Encoding: gzip' ONE/v1/messages; \
            CURL @both.json ONE/v1/messages";
        let output = lab.run(env, &repo, &lab.addresses(line));
        output.assert_stdout("200 200 200 200 200 200 200 200");
        let record = env.record();
        let all = calls(&record);
        assert_eq!(all.len(), 8, "{}", events::summary(&record));
        let unread = |index: usize| all[index].field("unread").to_owned();
        for (index, part) in [
            (0, "request: more than is read"),
            (1, "request: more than is read"),
            (2, "request: more than is read"),
            (4, "request: more than is unpacked"),
            (5, "request: a coding that is not known"),
            (6, "request: its coding is not valid"),
        ] {
            assert!(unread(index).contains(part), "{index}: {}", unread(index));
        }
        assert_eq!(unread(7), "");
        let results = all[0].json.pointer("/results/first").cloned();
        let kept = results.and_then(|list| list.as_array().map(Vec::len));
        assert_eq!(kept, Some(64));
        // All that was sent arrived as it was.
        let arrived: Vec<usize> = lab
            .one
            .requests()
            .iter()
            .map(|one| one.body.len())
            .collect();
        assert!(
            arrived[1] > 40 << 20 && arrived[7] == BOTH.len(),
            "{arrived:?}"
        );
        let shown = env.stockade().args(["show", "last"]).success();
        assert!(!shown.stdout.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    });
}

/// A service cannot have a credential written into the record by sending it back as a name.
#[test]
fn no_name_brings_a_credential_into_the_record() {
    for_each_user(|env| {
        let credential = "[[credential]]\nid = \"key\"\nkind = \"header\"\nheader = \"x-api-key\"\nsource = \
            { env = \"LAB_KEY\" }\nhosts = [\"one.test\"]\nports = [PORT]\nas = \"LAB_KEY\"\n";
        let key = "lab-value-0123456789abcdef";
        let server = TlsServer::writing(&["one.test"], |request, out| {
            let key = request.header("x-api-key").unwrap_or_default();
            let body = format!(
                "{{\"type\":\"message\",\"id\":\"{key}\",\"model\":\"m-{key}\",\"stop_reason\":\"{key}\",\
                 \"content\":[{{\"type\":\"tool_use\",\"id\":\"{key}\",\"name\":\"{key}\"}}]}}"
            );
            let head = format!("HTTP/1.1 200 Lab\r\nContent-Length: {}\r\n\r\n", body.len());
            out.write_all(&[head.as_bytes(), body.as_bytes()].concat())
        });
        let pem = env.write("one.pem", server.certificate_pem());
        let port = server.port();
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"one.test\" = \
             \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"one.test\"]\nports = \
             [{port}]\nprivate = true\n{}",
            pem.display(),
            credential.replace("PORT", &port.to_string())
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        let line = format!(
            "curl -sS -m 60 -H \"x-api-key: $LAB_KEY\" --data-binary '{{\"model\":\"m\",\"messages\":[]}}' \
             https://one.test:{port}/v1/messages"
        );
        let run = env.session_with(env.repo().path(), &["--ask", "deny", "--policy", &policy]);
        let output = run.env("LAB_KEY", key).line(line).output();
        output.assert_success().assert_stdout("\"model\":\"m-");
        let sent = server.requests();
        let sent = sent.first().and_then(|one| one.header("x-api-key"));
        assert_eq!(sent, Some(key), "the service got it");
        let record = env.record();
        let call = calls(&record);
        let [call] = call.as_slice() else {
            panic!("{}", events::summary(&record));
        };
        assert_eq!(call.field("ended"), "whole");
        assert!(!format!("{record:?}").contains(key));
        let state = env.state();
        let found = env.command("grep").args(["-rlF", key]).arg(state);
        assert_eq!(found.output().stdout, "");
    });
}

/// A refused call is a refusal in the record and no call, and none of it arrives.
#[test]
fn a_refused_call_is_no_call() {
    for_each_user(|env| {
        let deny =
            "[[deny]]\nid = \"unseen\"\nwhat = \"model\"\nHOSTShosted_tools = [\"web_search\"]\n";
        let lab = Lab::new(env, deny);
        let repo = env.repo();
        env.write(repo.path().join("both.json"), BOTH);
        let own = r#"{"model":"lab-1","messages":[],"tools":[{"name":"Bash","input_schema":{}}]}"#;
        env.write(repo.path().join("own.json"), own);
        env.write(repo.path().join("none.json"), "{}");
        require_tool("zstd");
        // Behind an unlike end, or in two parts, nobody can say what the service reads.
        let line = "for f in both own none; do gzip -nk $f.json; zstd -q $f.json; done; \
            cat own.json.gz both.json.gz > two.gz; (cat own.json.zst; printf x) > end.zst; \
            head -c 40 own.json.gz > cut.gz; \
            CURL @both.json ONE/v1/messages; CURL @own.json ONE/v1/messages; \
            for f in both.json own.json two cut; do \
            CURL @$f.gz -H 'Content-Encoding: gzip' ONE/v1/messages; done; \
            for f in both.json own.json end; do \
            CURL @$f.zst -H 'Content-Encoding: zstd' ONE/v1/messages; done; \
            CURL @own.json.gz -H 'Content-Encoding: zstd' ONE/v1/messages; \
            CURL @own.json.gz -H 'Content-Encoding: gzip, gzip' ONE/v1/messages; \
            CURL @own.json -H 'Content-Encoding: x-lab' ONE/v1/messages";
        let output = lab.run(env, &repo, &lab.addresses(line));
        output.assert_stdout("403 200 403 200 403 403 403 200 403 403 403 403");
        let record = env.record();
        let refused = record.iter().filter(|event| event.is_refusal());
        let by_rule = refused.filter(|event| event.rule() == "unseen");
        assert_eq!(by_rule.count(), 9, "{}", events::summary(&record));
        assert_eq!(calls(&record).len(), 3, "{}", events::summary(&record));
        let read = |name: &str| std::fs::read(repo.path().join(name)).unwrap_or_default();
        let arrived: Vec<Vec<u8>> = lab.one.requests().into_iter().map(|one| one.body).collect();
        let expected = [
            own.as_bytes().to_vec(),
            read("own.json.gz"),
            read("own.json.zst"),
        ];
        assert_eq!(arrived, expected, "byte for byte");
    });
}

/// Each piece of an answer passes when it is there: the server sends the next one only once the program
/// has the one before.
#[test]
fn pieces_of_an_answer_pass_as_they_come() {
    for_each_user(|env| {
        let file = Arc::new(OnceLock::<PathBuf>::new());
        let waits: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let (seen, times) = (Arc::clone(&file), Arc::clone(&waits));
        let server = TlsServer::writing(&["one.test"], move |_, out| {
            out.write_all(b"HTTP/1.1 200 Lab\r\nContent-Type: text/event-stream\r\n\r\n")?;
            for number in 0..20 {
                let piece = format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
                     \"delta\":{{\"type\":\"text_delta\",\"text\":\"piece {number};\"}}}}\n\n"
                );
                let sent = Instant::now();
                out.write_all(piece.as_bytes())?;
                out.flush()?;
                let has = || {
                    let text = seen.get().map(std::fs::read).and_then(Result::ok);
                    let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
                    text.contains(&format!("piece {number};"))
                };
                while !has() {
                    if sent.elapsed() > ARRIVES {
                        return Err(std::io::ErrorKind::TimedOut.into());
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
                let mut times = times.lock().expect("no thread panicked");
                times.push(sent.elapsed());
            }
            out.write_all(b"data: {\"type\":\"message_stop\"}\n\n")?;
            // The end of the connection is the end of the answer.
            Err(std::io::ErrorKind::BrokenPipe.into())
        });
        let repo = env.repo();
        file.set(repo.path().join("got")).expect("it is set once");
        let pem = env.write("one.pem", server.certificate_pem());
        let policy = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"one.test\" = \
             \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"one.test\"]\nports = \
             [{}]\nprivate = true\ntls = \"inspect\"\n",
            pem.display(),
            server.port()
        );
        let policy = env.write("policy.toml", &policy).display().to_string();
        let line = format!(
            "curl -sSN -m 60 -o got --data-binary '{{\"model\":\"lab-1\",\"messages\":[],\"stream\":true}}' \
             https://one.test:{}/v1/messages",
            server.port()
        );
        let run = env.session_with(repo.path(), &["--ask", "deny", "--policy", &policy]);
        let _ended = run.line(line).output();
        let waits = waits.lock().expect("no thread panicked").clone();
        assert_eq!(waits.len(), 20, "a piece did not arrive by itself");
        let mut sorted = waits;
        sorted.sort();
        println!(
            "pieces arrive after {:?} (median), {:?} (most)",
            sorted[10], sorted[19]
        );
        let record = env.record();
        let calls = calls(&record);
        assert_eq!(calls.len(), 1, "{}", events::summary(&record));
        assert_eq!(calls[0].json.pointer("/said/bytes"), Some(&170.into()));
    });
}
