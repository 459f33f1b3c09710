//! Calls in the form in which real agents and services write them, with invented content: each file has
//! the place of the call, its request and its answer, and what is claimed of them.

use std::{fmt::Write as _, fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use stockade_agents::{Answered, Asked, Content, HostedTool, Place, Request, Response};

/// What stands between the parts of a file.
const REQUEST: &str = "--- request\n";
const ANSWER: &str = "--- answer\n";
const CLAIMS: &str = "--- claims\n";

/// One file.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Vec<u8>,
    claims: String,
}

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden")
}

/// Reads all files.
pub(crate) fn all() -> Vec<Golden> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let (place, rest) = text.split_once(REQUEST).unwrap();
        let (request, rest) = rest.split_once(ANSWER).unwrap();
        let (answer, claims) = rest.split_once(CLAIMS).unwrap();
        let answer = answer.as_bytes().to_vec();
        let is_framed = path.to_string_lossy().contains("bedrock-stream");
        Golden {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            path: place.trim().to_owned(),
            request: request.trim_end().as_bytes().to_vec(),
            answer: if is_framed { framed(&answer) } else { answer },
            claims: claims.to_owned(),
        }
    };
    files.iter().map(read).collect()
}

/// Writes lines with a kind and JSON as frames; a chunk has its JSON as text.
fn framed(lines: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for line in std::str::from_utf8(lines).unwrap().lines() {
        let (kind, json) = line.split_once(' ').unwrap();
        let payload = match kind {
            "chunk" => format!("{{\"bytes\":\"{}\"}}", BASE64_STANDARD.encode(json)),
            _ => json.to_owned(),
        };
        let mut headers = Vec::new();
        for (name, value) in [(":event-type", kind), (":content-type", "application/json")] {
            headers.push(u8::try_from(name.len()).unwrap());
            headers.extend_from_slice(name.as_bytes());
            headers.push(7);
            headers.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
        all.extend(length(16 + headers.len() + payload.len()));
        all.extend(length(headers.len()));
        all.extend([0; 4]);
        all.extend_from_slice(&headers);
        all.extend_from_slice(payload.as_bytes());
        all.extend([0; 4]);
    }
    all
}

/// Reads a call that comes in pieces of these sizes.
pub(crate) fn claims(golden: &Golden, sizes: &[usize]) -> (Asked, Answered) {
    let place = Place::of("POST", golden.path.as_bytes()).unwrap();
    let mut response = Response::new(place.api);
    let mut request = Request::new(place);
    pieces(&golden.request, sizes, |piece| request.feed(piece));
    pieces(&golden.answer, sizes, |piece| response.feed(piece));
    (request.finish(), response.finish())
}

/// Cuts bytes into pieces of these sizes, again and again.
pub(crate) fn pieces(mut bytes: &[u8], sizes: &[usize], mut take: impl FnMut(&[u8])) {
    let mut sizes = sizes.iter().copied().cycle();
    while !bytes.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, bytes.len());
        let (piece, rest) = bytes.split_at(size);
        take(piece);
        bytes = rest;
    }
}

fn content(content: &Content) -> String {
    let text = content.text().map(String::from_utf8_lossy);
    text.map_or_else(|| format!("{content:?}"), |text| format!("{text:?}"))
}

fn tools(tools: &[HostedTool]) -> String {
    let one = |tool: &HostedTool| {
        let server = tool.server.as_ref().map(|server| format!(" at {server}"));
        format!(
            "{}{} {}×",
            tool.name,
            server.unwrap_or_default(),
            tool.count
        )
    };
    tools.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Writes what is claimed, a line each; what is not known is left out.
fn shown((asked, answered): &(Asked, Answered)) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            writeln!(text, "{label}: {value}").unwrap();
        }
    };
    let flags = |flags: &[(&str, bool)]| {
        let set = flags.iter().filter(|(_, is)| *is).map(|(name, _)| *name);
        Some(set.collect::<Vec<_>>().join(", "))
    };
    let name = |name: &Option<_>| name.as_ref().map(ToString::to_string);
    line(
        "asked",
        flags(&[
            ("call", asked.is_call),
            ("streaming", asked.streaming),
            ("truncated", asked.is_truncated),
        ]),
    );
    line("asked model", name(&asked.model));
    line("provider may run", Some(tools(asked.hosted.entries())));
    let functions = asked.functions.entries().iter().map(ToString::to_string);
    line("functions", Some(functions.collect::<Vec<_>>().join(", ")));
    for prompt in asked.prompts.entries() {
        line("prompt", Some(content(prompt)));
    }
    for result in asked.results.entries() {
        line(
            "result",
            Some(format!("{} {}", result.call, content(&result.content))),
        );
    }
    line(
        "answered",
        flags(&[
            ("answer", answered.is_answer),
            ("truncated", answered.is_truncated),
            ("cut", answered.is_cut),
        ]),
    );
    line("id", name(&answered.id));
    line("model", name(&answered.model));
    let usage = &answered.usage;
    let tokens = [
        ("in", usage.input),
        ("cached", usage.cached),
        ("cache written", usage.cache_written),
        ("out", usage.output),
        ("reasoning", usage.reasoning),
    ];
    let tokens = tokens
        .iter()
        .filter_map(|(name, count)| Some(format!("{} {name}", (*count)?)));
    line("tokens", Some(tokens.collect::<Vec<_>>().join(", ")));
    line("finish", name(&answered.finish));
    line("error", name(&answered.error));
    line("provider ran", Some(tools(answered.hosted.entries())));
    for call in answered.calls.entries() {
        let arguments = call.arguments.as_ref().map(content).unwrap_or_default();
        line(
            "call",
            Some(format!("{} {} {arguments}", call.id, call.name)),
        );
    }
    line("said", answered.said.as_ref().map(content));
    text
}

#[test]
fn calls_are_read_as_agents_and_services_write_them() {
    for golden in all() {
        let shown = shown(&claims(&golden, &[usize::MAX]));
        if std::env::var_os("STOCKADE_GOLDEN").is_some() {
            let path = folder().join(format!("{}.txt", golden.name));
            let text = fs::read_to_string(&path).unwrap();
            let kept = text.split_once(CLAIMS).unwrap().0;
            fs::write(&path, format!("{kept}{CLAIMS}{shown}")).unwrap();
        } else {
            assert_eq!(shown, golden.claims, "{}", golden.name);
        }
    }
}

/// A call that is cut anywhere gives what was whole of it, and says so.
#[test]
fn an_answer_that_is_cut_says_so() {
    for golden in all() {
        let (_, whole) = claims(&golden, &[usize::MAX]);
        if whole.is_cut {
            continue;
        }
        for length in 0..golden.answer.len() {
            let mut response =
                Response::new(Place::of("POST", golden.path.as_bytes()).unwrap().api);
            response.feed(golden.answer.get(..length).unwrap_or_default());
            let cut = response.finish();
            for call in cut.calls.entries() {
                assert!(
                    whole.calls.entries().contains(call),
                    "{} {length}",
                    golden.name
                );
            }
            // What may come behind the end of an answer is how many tokens it had.
            if !cut.is_cut {
                let usage = whole.usage;
                assert_eq!(Answered { usage, ..cut }, whole, "{} {length}", golden.name);
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// However the bytes come, the same is claimed.
    #[test]
    fn however_a_call_is_cut_the_same_is_claimed(sizes in proptest::collection::vec(1_usize..40, 1..12)) {
        for golden in all() {
            let whole = claims(&golden, &[usize::MAX]);
            proptest::prop_assert_eq!(claims(&golden, &sizes), whole, "{}", golden.name);
        }
    }
}
