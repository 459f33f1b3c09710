//! Requests in the form in which they leave the machine.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::Value;
use stockade_policy::{
    Access, DefinitionRequest, Effect, EffectBound, ExecRequest, FileContent, FileRequest, Git,
    GitOperation, HttpRequest, HttpShown, Involved, Meaning, NameRequest, NetRequest, PortRequest,
    Published, Request, ToolRequest, ToolSeen, Variable,
};
use stockade_types::{Digest, Port, ProcessId, RawText, Subject};

use crate::oracle::requests;

/// Programs of other versions read these lines: a request that means something else gets another version.
const GOLDEN: &str = include_str!("golden/requests.jsonl");

fn subject() -> Subject {
    Subject {
        id: Some(ProcessId { pid: 7, start: 99 }),
        exe: RawText::from("/usr/bin/node"),
        argv: vec![RawText::from("node"), RawText::from_bytes(b"\xff")].into(),
        cwd: RawText::from("/w"),
        ancestry: vec![RawText::from("bash")].into(),
    }
}

fn http(path: &str, shown: Option<&str>) -> Request {
    Request::Http(HttpRequest {
        host: "good.test".parse().unwrap(),
        port: Port::new(443).unwrap(),
        method: "POST".to_owned(),
        path: RawText::from(path),
        meaning: vec![Meaning::Git(Git {
            repository: Some("x".to_owned()),
            operation: GitOperation::Push,
            changes: None,
            is_certain: true,
        })],
        shown: shown.map(|shown| {
            Box::new(HttpShown {
                path: RawText::from(shown),
                meaning: Vec::new(),
            })
        }),
        subject: subject(),
    })
}

fn effect(bound: EffectBound) -> Effect {
    Effect {
        label: "to".to_owned(),
        text: RawText::from_bytes(b"good.test\n\xff"),
        bound,
    }
}

fn exec() -> Request {
    Request::Exec(ExecRequest {
        program: RawText::from("/usr/bin/git"),
        invoked_as: RawText::from("/tmp/git"),
        aliases: vec!["git".to_owned()],
        digest: Some(Digest::of(b"git")),
        argv: vec![RawText::from("git"), RawText::from("push")],
        cwd: RawText::from("/w"),
        environment: vec![(RawText::from("A"), RawText::from("1"))],
        differing: vec![
            Variable {
                name: RawText::from("A"),
                value: Some(RawText::from("1")),
            },
            Variable {
                name: RawText::from("B"),
                value: None,
            },
        ],
        involved: vec![Involved {
            path: RawText::from("/lib/x"),
            digest: None,
        }],
        effects: vec![effect(EffectBound::Always), effect(EffectBound::Exact)],
        subject: subject(),
    })
}

/// One request of every kind, with every field.
fn every_kind() -> Vec<Request> {
    let port = Port::new(8080).unwrap();
    let tool = r#"{"a":"b","n":1}"#;
    vec![
        exec(),
        Request::Net(NetRequest {
            host: "192.0.2.1".parse().unwrap(),
            port,
            subject: subject(),
        }),
        http("/a?k=ghp_secret", None),
        Request::Name(NameRequest {
            name: "good.test".parse().unwrap(),
            subject: Subject::default(),
        }),
        Request::File(FileRequest {
            path: RawText::from("/w/.git/config"),
            workspace_relative: Some(RawText::from(".git/config")),
            access: Access::Write,
            content: Some(FileContent::new([], vec![effect(EffectBound::Always)])),
            subject: subject(),
        }),
        Request::Port(PortRequest {
            port,
            subject: subject(),
        }),
        Request::Tool(ToolRequest::new(
            b"Bash",
            Some(b"server"),
            tool.as_bytes(),
            subject(),
        )),
        Request::Definition(DefinitionRequest {
            server: RawText::from("server"),
            form: "messages".to_owned(),
            tools: vec![ToolSeen {
                tool: RawText::from("t"),
                before: Some(Digest::of(b"was")),
                was: Some(RawText::from("was")),
                now: Some(RawText::from("now")),
            }],
            more: 1,
            digest: Digest::of(b"now"),
            unread: None,
            subject: subject(),
        }),
    ]
}

fn read(value: &Value) -> Result<Published, String> {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn requests_are_the_same_lines_for_ever() {
    let published = every_kind().into_iter().map(Published::new);
    let lines = published.map(|one| serde_json::to_string(&one).unwrap() + "\n");
    let written: String = lines.collect();
    assert_eq!(written, GOLDEN, "{written}");
    for (line, request) in GOLDEN.lines().zip(every_kind()) {
        let read: Published = serde_json::from_str(line).unwrap();
        assert_eq!(read.request(), &request);
        assert_eq!(read.digest(), request.digest());
    }
}

/// Calls `check` with the value after each change of `change` to one object or text in it.
fn each_place(value: &Value, change: &dyn Fn(&mut Value) -> bool, check: &mut dyn FnMut(&Value)) {
    fn walk<'v>(value: &'v mut Value, at: &mut usize) -> Option<&'v mut Value> {
        if *at == 0 {
            return Some(value);
        }
        *at -= 1;
        match value {
            Value::Object(fields) => fields.values_mut().find_map(|field| walk(field, at)),
            Value::Array(items) => items.iter_mut().find_map(|item| walk(item, at)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }
    for place in 0.. {
        let mut changed = value.clone();
        let Some(found) = walk(&mut changed, &mut { place }) else {
            assert!(place > 3);
            return;
        };
        if change(found) {
            check(&changed);
        }
    }
}

#[test]
fn nothing_that_is_not_known_is_read() {
    for request in every_kind() {
        let value = serde_json::to_value(Published::new(request)).unwrap();
        assert!(read(&value).is_ok());
        let add = |found: &mut Value| {
            let fields = found.as_object_mut();
            fields.is_some_and(|fields| fields.insert("extra".to_owned(), 1.into()).is_none())
        };
        let mut places = 0;
        each_place(&value, &add, &mut |changed| {
            places += 1;
            assert!(read(changed).is_err(), "{changed}");
        });
        assert!(places >= 3);
        for (name, other) in [
            ("version", Value::from(2)),
            ("digest", Digest::of(b"").to_string().into()),
        ] {
            let mut changed = value.clone();
            changed[name] = other;
            assert!(
                read(&changed).unwrap_err().contains("request has the"),
                "{name}"
            );
        }
    }
}

#[test]
fn a_field_twice_is_not_read() {
    let line = GOLDEN.lines().next().unwrap();
    let twice = line.replacen("\"version\":1", "\"version\":1,\"version\":1", 1);
    assert!(serde_json::from_str::<Published>(&twice).is_err());
    assert!(serde_json::from_str::<Published>(line).is_ok());
}

#[test]
fn what_people_see_of_a_request_is_the_request() {
    let plain = |shown: &str| {
        let Request::Http(mut http) = http("/a?k=ghp_secret&b=1", Some(shown)) else {
            panic!("it is a request of HTTP");
        };
        http.meaning.clear();
        read(&serde_json::to_value(Published::new(Request::Http(http))).unwrap())
    };
    assert!(plain("/a?k=[github-token:5f0c9a11]&b=1").is_ok());
    for lie in [
        "/harmless",
        "/a?k=[github-token:5f0c9a11]&b=2",
        "",
        "/a?k=ghp_secret&b=1 ",
    ] {
        let error = plain(lie).unwrap_err();
        assert!(error.contains("marks in the places of secrets"), "{error}");
    }
}

proptest! {
    #[test]
    fn a_request_comes_back_with_its_digest(request in requests::requests()) {
        let published = Published::new(request.clone());
        let text = serde_json::to_vec(&published).unwrap();
        let back: Published = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(back.request(), &request);
        prop_assert_eq!(back.digest(), request.digest());
        prop_assert_eq!(back, published);
    }
}
