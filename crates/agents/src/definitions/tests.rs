use super::{Definition, Definitions, Unread};
use crate::{
    limits::{DEFINITIONS_MAX, TEXT_BYTES_MAX},
    place::Api,
};

/// The definitions of a body, read in pieces of some size, and why there may be more.
fn read(api: Api, body: &[u8], size: usize) -> (Vec<Definition>, Option<Unread>) {
    let mut definitions = Definitions::new(api);
    let mut all = Vec::new();
    for piece in body.chunks(size) {
        all.extend(definitions.feed(piece));
    }
    (all, definitions.unread())
}

/// Server, tool and text of each.
fn shown(api: Api, body: &str) -> Vec<String> {
    let whole = read(api, body.as_bytes(), usize::MAX);
    assert_eq!(whole, read(api, body.as_bytes(), 3), "however it is cut");
    assert_eq!(whole.1, None);
    let line = |one: &Definition| {
        let text = one.content.text().map(String::from_utf8_lossy);
        format!("{}/{} {}", one.server, one.tool, text.unwrap_or_default())
    };
    whole.0.iter().map(line).collect()
}

#[test]
fn tools_of_servers_are_found_in_each_form() {
    let messages = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","tools":[{"name":"mcp__no__no"}]}]}],
        "tools":[{"name":"Bash","description":"own","input_schema":{}},
        {"name":"mcp__notes__add","input_schema":{"b":1,"a":[true,null]},"description":"Adds","cache_control":{"type":"ephemeral"}}]}"#;
    let added = r#"notes/add {"description":"Adds","schema":{"a":[true,null],"b":1}}"#;
    assert_eq!(shown(Api::Messages, messages), [added]);
    let responses = r#"{"input":[{"type":"message","content":"x"},{"type":"tool_search_output","tools":[
        {"type":"function","name":"mcp__late__x","description":"Late"}]}],"tools":[
        {"type":"function","name":"exec_command"},
        {"type":"namespace","name":"mcp__notes__","description":"Notes of the owner","tools":[
        {"type":"function","name":"add","description":"Adds","parameters":{"b":1,"a":[true,null]}}]}]}"#;
    assert_eq!(
        shown(Api::Responses, responses),
        [
            r#"late/x {"description":"Late"}"#,
            added,
            r#"notes/ {"description":"Notes of the owner"}"#
        ]
    );
    let chat = r#"{"messages":[],"tools":[{"type":"function","function":{"name":"mcp__notes__add","description":"Adds","parameters":{"a":[true,null],"b":1}}}]}"#;
    assert_eq!(shown(Api::Chat, chat), [added]);
    let generate = r#"{"request":{"tools":[{"functionDeclarations":[{"name":"read_file"},
        {"name":"mcp_notes_add","description":"Adds","parametersJsonSchema":{"a":[true,null],"b":1}}]}]}}"#;
    assert_eq!(shown(Api::Generate, generate), [added]);
    let converse = r#"{"toolConfig":{"tools":[{"toolSpec":{"name":"mcp__notes__add","description":"Adds","inputSchema":{"a":[true,null],"b":1}}}]}}"#;
    assert_eq!(shown(Api::Converse, converse), [added]);
}

fn tool(name: &str, rest: &str) -> String {
    format!(r#"{{"tools":[{{"name":"{name}"{rest}}}]}}"#)
}

/// Order and blanks say nothing; every word, and every other member that a model reads, does.
#[test]
fn a_digest_is_of_what_a_model_reads() {
    let digest = |rest: &str| {
        let body = tool("mcp__a__b", rest);
        let (all, unread) = read(Api::Messages, body.as_bytes(), usize::MAX);
        assert!(matches!(unread, None | Some(Unread::TooMuch)), "{rest}");
        all.first().map(|one| one.content.digest())
    };
    let first = digest(r#","description":"Adds","input_schema":{"a":{"x":1},"b":"c"}"#);
    assert!(first.is_some());
    for same in [
        r#" , "input_schema" : { "b" : "c" , "a" : {"x":1} } , "description" : "\u0041dds" "#,
        r#","description":"Adds","cache_control":{"type":"x"},"input_schema":{"a":{"x":1},"b":"c"}"#,
    ] {
        assert_eq!(digest(same), first, "{same}");
    }
    for other in [
        r#","description":"Adds ","input_schema":{"a":{"x":1},"b":"c"}"#,
        r#","description":"Adds","input_schema":{"a":{"x":2},"b":"c"}"#,
        r#","description":"Adds","input_schema":{"a":{"x":1},"b":"c","b":"d"}"#,
        r#","description":"Adds","input_schema":{"a":{"x":1},"b":"c"},"input_examples":[1]"#,
        r#","description":"Adds\u200b","input_schema":{"a":{"x":1},"b":"c"}"#,
    ] {
        assert_ne!(digest(other), first, "{other}");
    }
    let long = |end: &str| {
        let text = "x".repeat(TEXT_BYTES_MAX);
        digest(&format!(r#","description":"{text}{end}""#))
    };
    assert_eq!(long("a"), long("a"));
    assert_ne!(
        long("a"),
        long("b"),
        "a text that is too long to be kept counts too"
    );
}

#[test]
fn what_is_hidden_is_noticed() {
    for (rest, is_hiding) in [
        (r#","description":"Adds""#, false),
        (r#","description":"Adds\u200b""#, true),
        (
            r#","input_schema":{"properties":{"a":{"description":"x\udb40\udc41"}}}"#,
            true,
        ),
        (r#","input_schema":{"properties":{"a\u202e":{}}}"#, true),
    ] {
        let body = tool("mcp__a__b", rest);
        let (all, _) = read(Api::Messages, body.as_bytes(), usize::MAX);
        assert_eq!(all.first().unwrap().is_hiding, is_hiding, "{rest}");
    }
    let mut body = tool("mcp__a__b", "").into_bytes();
    let at = body.windows(3).position(|part| part == b"__b").unwrap() + 2;
    body.splice(at..at, *b"\xff");
    let (all, _) = read(Api::Messages, &body, usize::MAX);
    assert!(all.first().unwrap().is_hiding, "bytes that are no text");
}

/// What was not read is said, and a body that is for no model is not.
#[test]
fn what_is_not_read_is_said() {
    let deep = format!(r#","input_schema":{}{}"#, "[".repeat(100), "]".repeat(100));
    let wide = format!(r#","input_schema":[{}0]"#, "0,".repeat(100_000));
    let twice = r#"{"tools":[{"name":"mcp__a__b__c"},{"name":"mcp__a__b__c","description":"y"}]}"#;
    let long = tool(&format!("mcp__a__{}", "b".repeat(1000)), "");
    for (body, expected) in [
        (tool("mcp__a__b", &deep), Some(Unread::TooMuch)),
        (tool("mcp__a__b", &wide), Some(Unread::TooMuch)),
        (long, Some(Unread::TooMuch)),
        (twice.to_owned(), Some(Unread::Doubled)),
        (
            tool("mcp__a__b", r#","description":NaN"#),
            Some(Unread::NoJson),
        ),
        (tool("mcp__a__b", "") + "x", Some(Unread::NoJson)),
        (r#"{"tools":[{"name":"mcp__a__b""#.to_owned(), None),
        ("text=hello&tools=none".to_owned(), None),
        (String::new(), None),
    ] {
        let (_, unread) = read(Api::Messages, body.as_bytes(), usize::MAX);
        let start: String = body.chars().take(80).collect();
        assert_eq!(unread, expected, "{start}");
    }
}

/// A million tools, and ten megabytes of definitions: bounded, and no silent rest.
#[test]
fn floods_are_bounded() {
    let mut definitions = Definitions::new(Api::Messages);
    definitions.feed(br#"{"tools":["#);
    let mut count = 0;
    for number in 0..1_000_000 {
        let one = format!(r#"{{"name":"mcp__a__t{number}"}},"#);
        count += definitions.feed(one.as_bytes()).len();
    }
    definitions.feed(br#"{"name":"last"}]}"#);
    assert_eq!(count, DEFINITIONS_MAX);
    assert_eq!(definitions.unread(), Some(Unread::TooMuch));
    let mut definitions = Definitions::new(Api::Messages);
    definitions.feed(br#"{"tools":[{"name":"mcp__a__b","description":""#);
    let part = vec![b'x'; 64 * 1024];
    (0..160).for_each(|_| drop(definitions.feed(&part)));
    let all = definitions.feed(br#""}]}"#);
    assert!(definitions.has_ended());
    assert_eq!(definitions.unread(), Some(Unread::TooMuch));
    let text = all.first().and_then(|one| one.content.text());
    assert!(text.unwrap().starts_with(br#"{"description":#10485760:"#));
}
