//! The readers of calls against changed inputs.

use stockade_agents::{Call, DEFINITIONS_MAX, Definitions, Place, Request, Response};
use stockade_fuzz::{TRIES, Target};

use super::golden::{all, pieces};

const PATHS: [&str; 6] = [
    "/v1/messages",
    "/v1/responses",
    "/v1/chat/completions",
    "/v1beta/models/m:streamGenerateContent",
    "/model/m/invoke-with-response-stream",
    "/model/m/converse-stream",
];

const WORDS: &[&[u8]] = &[
    b"\n\n",
    b"\r\n",
    b"data: ",
    b"event: ",
    b"data: [DONE]\n\n",
    b"\"type\":",
    b"\"index\":1,",
    b"\\ud83d",
    b"\\u00",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b"null",
    b"-1e999",
    b"18446744073709551616",
];

/// Whatever is sent, it is read without a failure, and the same comes of it however it is cut.
#[test]
fn fuzz_model_bodies() {
    let mut samples: Vec<Vec<u8>> = Vec::new();
    for golden in all() {
        samples.extend([golden.request, golden.answer]);
    }
    let target = Target {
        name: "model-bodies",
        samples,
        words: WORDS,
        tries: TRIES / 2,
    };
    stockade_fuzz::target(&target, |body| {
        for path in PATHS {
            let read = |sizes: &[usize]| {
                let place = Place::of("POST", path.as_bytes()).unwrap();
                let mut response = Response::new(place.api);
                let mut request = Request::new(place);
                let mut told = Vec::new();
                pieces(body, sizes, |piece| {
                    request.feed(piece);
                    response.feed(piece);
                    told.extend(response.new_calls());
                });
                let answered = response.finish();
                // Calls are told of in their order, as they become whole.
                let calls = answered.calls.entries();
                assert_eq!(calls.get(..told.len()), Some(told.as_slice()));
                let intents: Vec<_> = calls.iter().map(Call::intent).collect();
                (request.finish(), answered, intents)
            };
            assert_eq!(read(&[usize::MAX]), read(&[1, 7, 2]));
        }
    });
}

/// No path makes it fail, and none of another method is a call.
#[test]
fn fuzz_model_place() {
    let samples = PATHS.map(|path| path.as_bytes().to_vec()).to_vec();
    let target = Target {
        name: "model-place",
        samples,
        words: &[
            b"/",
            b"%2f",
            b"%",
            b":",
            b"?",
            b"/models/",
            b"messages",
            b"rawPredict",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |path| {
        assert_eq!(Place::of("GET", path), None);
        if let Some(place) = Place::of("POST", path) {
            assert!(
                place
                    .model
                    .is_none_or(|model| model.as_bytes().len() <= 128)
            );
        }
    });
}

/// Whatever a request defines, the same is read of it however it is cut, and what nobody can read is said:
/// where another reader finds a tool of a server, this one does, or says that it could not.
#[test]
fn fuzz_tool_definitions() {
    let tool = br#"{"model":"m","tools":[{"name":"mcp__notes__add","description":"Adds\u200b","input_schema":{"a":[1,true,null]}},{"type":"namespace","name":"mcp__notes","description":"x","tools":[{"name":"add"}]}],"messages":[]}"#;
    let mut samples: Vec<Vec<u8>> = all().into_iter().map(|golden| golden.request).collect();
    samples.push(tool.to_vec());
    let mut words = WORDS.to_vec();
    words.extend([b"\"tools\":[" as &[u8], b"\"name\":\"mcp__a__b\"", b"mcp__"]);
    let target = Target {
        name: "tool-definitions",
        samples,
        words: words.leak(),
        tries: TRIES / 2,
    };
    stockade_fuzz::target(&target, |body| {
        for path in PATHS {
            let api = Place::of("POST", path.as_bytes()).unwrap().api;
            let read = |sizes: &[usize]| {
                let mut definitions = Definitions::new(api);
                let mut found = Vec::new();
                pieces(body, sizes, |piece| found.extend(definitions.feed(piece)));
                (found, definitions.has_ended(), definitions.unread())
            };
            let (found, has_ended, unread) = read(&[usize::MAX]);
            assert!(found.len() <= DEFINITIONS_MAX);
            assert_eq!((found.clone(), has_ended, unread), read(&[1, 7, 2]));
            let Ok(whole) = serde_json::from_slice::<serde_json::Value>(body) else {
                continue;
            };
            // Nothing but the end of its text ends a number that stands alone.
            if whole.is_number() {
                continue;
            }
            assert!(has_ended, "what another reader takes for whole has ended");
            let tools = whole.get("tools").and_then(serde_json::Value::as_array);
            let named = |tool: &serde_json::Value| {
                let name = tool.get("name").and_then(serde_json::Value::as_str);
                name.is_some_and(|name| name.starts_with("mcp__a__"))
            };
            if path == "/v1/messages" && tools.is_some_and(|tools| tools.iter().any(named)) {
                assert!(!found.is_empty() || unread.is_some());
            }
        }
    });
}
