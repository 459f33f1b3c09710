use stockade_fuzz::{TRIES, Target};

use super::{Answer, Answers, Message, Messages, Read, ToolCall, refusal};
use crate::Unread;

fn read(text: &[u8]) -> Read {
    let mut messages = Messages::default();
    text.chunks(3).for_each(|piece| messages.feed(piece));
    assert!(messages.has_ended(), "{}", String::from_utf8_lossy(text));
    messages.finish()
}

fn answers(text: &str) -> Vec<Answer> {
    let mut answers = Answers::new("notes".into());
    let mut all = Vec::new();
    for piece in text.as_bytes().chunks(5) {
        answers.feed(piece);
        all.extend(answers.take());
    }
    all
}

fn calls(read: &Read) -> Vec<&ToolCall> {
    let calls = read.messages.iter().filter_map(|message| match message {
        Message::Call(call) => Some(call),
        Message::List { .. } | Message::Cancel { .. } | Message::Other { .. } => None,
    });
    calls.collect()
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"text":"x","path":"/w/a"},"_meta":{"claudecode/toolUseId":"toolu_1"}}}"#;

#[test]
fn a_call_is_read_however_it_is_written() {
    let read = read(CALL.as_bytes());
    assert_eq!((read.problem, read.is_batch), (None, false));
    let [call] = calls(&read)[..] else {
        panic!("{read:?}")
    };
    assert_eq!(call.id, Some("7".into()));
    assert_eq!(call.tool, "add".into());
    assert_eq!(call.use_id, Some("toolu_1".into()));
    assert_eq!(call.arguments.json, br#"{"path":"/w/a","text":"x"}"#);
    assert!(call.arguments.is_whole);
    assert_eq!(call.intent().paths, ["/w/a".into()]);
    assert_eq!(call.name(&"notes".into()), "mcp__notes__add".into());
    for other in [
        r#" [{"method":"tools/call","id":"a","params":{"name":"add"}}]"#,
        "\u{feff}{\"params\":{\"name\":\"add\"},\"id\":\"a\",\"method\":\"\\u0074ools/call\"}",
        r#"{"method":"tools/call","id":"a","params":{"name":"add"}} trailing"#,
    ] {
        let read = self::read(other.as_bytes());
        let [call] = calls(&read)[..] else {
            panic!("{other} {read:?}")
        };
        assert_eq!(call.id, Some("\"a\"".into()), "{other}");
    }
}

/// What another reader could take for a call, or for another one, is said to be unreadable.
#[test]
fn what_others_could_read_otherwise_is_no_plain_call() {
    let wide: Vec<u8> = CALL.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide_other: Vec<u8> = CALL.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for text in [
        CALL.replace("\"method\"", "\"method\":\"ping\",\"method\"")
            .as_bytes(),
        CALL.replace("\"method\"", "\"Method\"").as_bytes(),
        CALL.replace("\"params\"", "\"param\u{17f}\"").as_bytes(),
        CALL.replace("\"name\"", "\"name\":\"list\",\"name\"")
            .as_bytes(),
        CALL.replace("\"arguments\"", "\"Arguments\"").as_bytes(),
        CALL.replace("\"x\"", "NaN").as_bytes(),
        CALL.replace("\"add\"", "5").as_bytes(),
        CALL.replace("\"x\"", "'x'").as_bytes(),
        &wide,
        &wide_other,
    ] {
        let read = read(text);
        assert!(
            read.problem.is_some(),
            "{} {read:?}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn what_is_no_call_has_no_problem() {
    for text in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"name":"a","Name":"b"}}"#,
        r#"{"method":"put","Method":"get"}"#,
        "{\"event\":1}\n{\"event\":2}",
        r#"{"a":NaN}"#,
        "[1,2,3]",
    ] {
        let read = read(text.as_bytes());
        assert_eq!((read.problem, calls(&read).len()), (None, 0), "{text}");
    }
    for text in [
        "name=x",
        "<x/>",
        "PACK\0\0",
        "\0\0\0\0\x20abc",
        "\0\0\0{\x10abcd",
    ] {
        let mut messages = Messages::default();
        messages.feed(text.as_bytes());
        assert!(!messages.can_be(), "{text}");
    }
    let cancel = r#"{"method":"notifications/cancelled","params":{"requestId":7}}"#;
    assert_eq!(
        read(cancel.as_bytes()).messages,
        [Message::Cancel { of: "7".into() }]
    );
}

#[test]
fn only_answers_are_taken_of_what_a_server_says() {
    let call = CALL;
    let result = r#"{"result":{"content":[{"type":"text","text":"one "},{"type":"text","text":"two"}],"isError":true},"jsonrpc":"2.0","id":7}"#;
    let error = r#"{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":"no"}}"#;
    for text in [
        format!("[{call},{result},{error}]"),
        format!("event: message\ndata: {call}\n\ndata: {result}\n\ndata: {error}\n\n"),
    ] {
        let all = answers(&text);
        let [first, second] = &all[..] else {
            panic!("{text} {all:?}")
        };
        assert_eq!(
            (first.id.clone(), first.bytes, first.is_error),
            ("7".into(), 7, true)
        );
        let content = first.content.as_ref().and_then(|content| content.text());
        assert_eq!(content, Some(b"one two".as_slice()));
        assert_eq!((second.id.clone(), second.is_error), ("\"a\"".into(), true));
    }
    // A result that has a method too is a request to who reads that first.
    let both = r#"{"id":7,"method":"tools/call","result":{"content":[]}}"#;
    assert_eq!(answers(both), []);
}

#[test]
fn tools_are_read_as_their_server_says_them() {
    let text = |tools: &str| format!(r#"{{"id":2,"result":{{"tools":{tools}}}}}"#);
    let tool = r#"{"name":"add","description":"Adds.","inputSchema":{"type":"object"}}"#;
    let unread = |tools: &str| {
        let all = answers(&text(tools));
        let defined = all[0].defined.as_ref().unwrap();
        (defined.tools.len(), defined.unread)
    };
    assert_eq!(unread(&format!("[{tool}]")), (1, None));
    assert_eq!(
        unread(&format!("[{tool},{tool}]")),
        (2, Some(Unread::Doubled))
    );
    assert_eq!(unread("{}"), (0, Some(Unread::NoJson)));
    assert_eq!(unread(r#"[{"name":5}]"#), (0, Some(Unread::TooMuch)));
    let all = answers(&text(&format!("[{tool}]")));
    let one = &all[0].defined.as_ref().unwrap().tools[0];
    assert_eq!(
        (one.server.clone(), one.tool.clone()),
        ("notes".into(), "add".into())
    );
    let kept = one.content.text().unwrap();
    assert_eq!(
        kept,
        br#"{"description":"Adds.","schema":{"type":"object"}}"#
    );
}

#[test]
fn a_refusal_answers_each_request_in_its_form() {
    let reason = "denied by the rule `x`: no \"adding\"\n";
    let one = refusal(&read(CALL.as_bytes()), reason).unwrap();
    let one: serde_json::Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(one["id"], 7);
    assert_eq!(one["error"]["message"], reason);
    let batch = format!(r#"[{CALL},{{"id":"b","method":"ping"}},{{"method":"x"}}]"#);
    let all = refusal(&read(batch.as_bytes()), reason).unwrap();
    let all: serde_json::Value = serde_json::from_slice(&all).unwrap();
    assert_eq!(
        (all[0]["id"].clone(), all[1]["id"].clone()),
        (7.into(), "b".into())
    );
    assert_eq!(all.as_array().unwrap().len(), 2);
    let silent = r#"{"method":"tools/call","params":{"name":"add"}}"#;
    assert_eq!(refusal(&read(silent.as_bytes()), reason), None);
}

/// However a text is cut, the same is read of it, and nothing is kept beyond bounds.
#[test]
fn fuzz_mcp_messages() {
    let batch = format!("[{CALL},{CALL}]");
    let result = r#"{"id":7,"result":{"tools":[{"name":"a"}],"content":[{"text":"x"}]}}"#;
    let events = format!("data: {result}\n\n");
    let samples = [CALL, &batch, result, &events];
    let target = Target {
        name: "mcp-messages",
        samples: samples.map(|text| text.as_bytes().to_vec()).to_vec(),
        words: &[
            b"\"method\"",
            b"tools/call",
            b"\"params\"",
            b"\"name\"",
            b"\\u0074",
            b"\0",
            b"data:",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |text| {
        let both = |size: usize| {
            let (mut messages, mut answers) = (Messages::default(), Answers::new("s".into()));
            let mut all = Vec::new();
            for piece in text.chunks(size) {
                messages.feed(piece);
                answers.feed(piece);
                all.extend(answers.take());
            }
            let is_over = messages.has_ended();
            (is_over.then(|| messages.finish()), all)
        };
        let whole = both(usize::MAX);
        assert_eq!(whole, both(1));
        if let Some(read) = &whole.0
            && let Some(refused) = refusal(read, "no")
        {
            serde_json::from_slice::<serde_json::Value>(&refused).unwrap();
        }
    });
}
