//! What a hostile program or service sends: it is bounded, and says what could not be read.

use stockade_agents::{ENTRIES_MAX, NAME_BYTES_MAX, Place, Request, Response};

fn place(path: &str) -> Place {
    Place::of("POST", path.as_bytes()).unwrap()
}

#[test]
fn places_of_calls_are_told_from_others() {
    for (path, model) in [
        ("/v1/messages?beta=true", Some(None)),
        ("/anthropic/v1/messages/", Some(None)),
        ("/v1/messages/count_tokens", None),
        ("/v1/messages/batches", None),
        ("/backend-api/codex/responses", Some(None)),
        ("/v1/responses/resp_1/cancel", None),
        ("/api/v1/chat/completions", Some(None)),
        ("/v1/completions", None),
        (
            "/v1beta/models/gemini-x:generateContent",
            Some(Some("gemini-x")),
        ),
        (
            "/v1beta/models/gemini-x%3AstreamGenerateContent?alt=sse",
            Some(Some("gemini-x")),
        ),
        ("/v1beta/models/gemini-x:countTokens", None),
        ("/v1internal:streamGenerateContent?alt=sse", Some(None)),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:streamRawPredict",
            Some(Some("claude-x@1")),
        ),
        (
            "/model/lab.model-v1%3A0/invoke",
            Some(Some("lab.model-v1:0")),
        ),
        (
            "/model/arn%3Aaws%3Abedrock%3Ax%2Fy/converse-stream",
            Some(Some("arn:aws:bedrock:x/y")),
        ),
        ("/model/m/other", None),
        ("/other/m/converse", None),
        ("messages", None),
        ("", None),
        ("/%ff/messages", None),
    ] {
        let found = Place::of("POST", path.as_bytes());
        let found = found.map(|place| place.model.map(|model| model.to_string()));
        assert_eq!(found, model.map(|model| model.map(str::to_owned)), "{path}");
    }
}

/// A flood of tool calls with one id, in an answer and in what comes back of them.
#[test]
fn a_flood_of_calls_is_counted() {
    const CALLS: usize = 100_000;
    let event =
        |kind: &str, rest: &str| format!("data: {{\"type\":\"{kind}\",\"index\":0{rest}}}\n\n");
    let block =
        ",\"content_block\":{\"type\":\"tool_use\",\"id\":\"same\",\"name\":\"Bash\",\"input\":{}}";
    let one = [
        event("content_block_start", block),
        event("content_block_stop", ""),
    ]
    .concat();
    let mut response = Response::new(place("/v1/messages").api);
    (0..CALLS).for_each(|_| response.feed(one.as_bytes()));
    let answered = response.finish();
    assert_eq!(answered.calls.count(), CALLS as u64);
    assert_eq!(answered.calls.entries().len(), ENTRIES_MAX);
    assert!(answered.is_cut);

    let mut request = Request::new(place("/v1/messages"));
    request.feed(b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[");
    let result = b"{\"type\":\"tool_result\",\"tool_use_id\":\"same\",\"content\":\"x\"},";
    (0..CALLS).for_each(|_| request.feed(result));
    request.feed(b"{\"type\":\"text\",\"text\":\"last\"}]}],\"stream\":true}");
    let asked = request.finish();
    assert!(asked.is_call && asked.is_truncated && asked.streaming);
    assert_eq!(asked.results.entries().len(), ENTRIES_MAX);
}

/// Calls that begin and never end hold nothing.
#[test]
fn calls_that_never_end_are_bounded() {
    let mut response = Response::new(place("/v1/messages").api);
    for index in 0..100_000 {
        let name = "n".repeat(1000);
        let event = format!(
            "data: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":\
             {{\"type\":\"tool_use\",\"id\":\"{index}\",\"name\":\"{name}\"}}}}\n\n"
        );
        response.feed(event.as_bytes());
    }
    let answered = response.finish();
    assert!(answered.is_truncated && answered.is_cut);
    assert_eq!(answered.calls.count(), 0);
}

#[test]
fn names_are_cut() {
    let long = "m".repeat(100_000);
    let mut request = Request::new(place("/v1/responses"));
    request.feed(format!("{{\"model\":\"{long}\",\"input\":\"x\"}}").as_bytes());
    let asked = request.finish();
    // A name that long is not kept as a text at all, or it is cut.
    assert!(
        asked
            .model
            .is_none_or(|model| model.as_bytes().len() <= NAME_BYTES_MAX)
    );
}
