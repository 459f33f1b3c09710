use super::{Extent, Json, Shape};
use crate::{
    limits::{DEPTH_MAX, OUTER_VALUES_MAX, TEXT_BYTES_MAX, TEXTS_BYTES_MAX, VALUES_MAX},
    tree::Tree,
};

fn read(text: &[u8]) -> (Option<Tree>, Extent) {
    let mut json = Json::new(Shape::ALL);
    json.feed(text);
    json.finish()
}

/// The value as it is written, `?` before what was cut, `…` behind what was truncated.
fn written(text: &[u8]) -> String {
    let (tree, extent) = read(text);
    let tree = tree.map(closed).and_then(|tree| tree.arguments());
    let text = tree.as_ref().and_then(|tree| tree.text());
    format!(
        "{}{}{}",
        if extent.is_cut { "?" } else { "" },
        text.map_or("none".into(), String::from_utf8_lossy),
        if extent.is_truncated { "…" } else { "" },
    )
}

/// Leaves out where it was cut.
fn closed(tree: Tree) -> Tree {
    assert_eq!(tree.is_cut(), tree.is_cut() && tree.arguments().is_none());
    match tree {
        Tree::List(items) => {
            let items = items.into_iter().filter(|item| !matches!(item, Tree::Cut));
            Tree::List(items.map(closed).collect())
        }
        Tree::Object(members) => {
            let members = members.into_iter();
            let whole = members.filter(|(_, value)| !matches!(value, Tree::Cut));
            Tree::Object(whole.map(|(name, value)| (name, closed(value))).collect())
        }
        other => other,
    }
}

#[test]
fn texts_are_read_as_far_as_they_are_json() {
    for (text, expected) in [
        (
            r#" {"b": [1, -2.5e3, true], "a": null} "#,
            r#"{"a":null,"b":[1,-2.5e3,true]}"#,
        ),
        (
            r#""\u0041\n\"\\\/\u00e9\ud83d\ude00""#,
            "\"A\\n\\\"\\\\/é😀\"",
        ),
        (
            r#""\ud83d x \ude00\ud83d""#,
            "\"\u{fffd} x \u{fffd}\u{fffd}\"",
        ),
        (r#""\ud83d\n""#, "\"\u{fffd}\\n\""),
        ("[]", "[]"),
        ("{}", "{}"),
        ("7", "7"),
        ("", "?none"),
        ("x", "?none"),
        // What had not ended is left out.
        (r#"{"a":1,"b":"half"#, r#"?{"a":1}"#),
        (r#"{"a":[1,2"#, r#"?{"a":[1]}"#),
        (r#"{"a":1,}"#, r#"?{"a":1}"#),
        (r#"{"a" 1}"#, "?{}"),
        ("[1 2]", "?[1]"),
        (r#"{"a":1]"#, r#"?{"a":1}"#),
        ("[nul]", "?[]"),
        (r#"["\x"]"#, "?[]"),
        (r#"{"a":1} {"b":2}"#, r#"?{"a":1}"#),
    ] {
        assert_eq!(written(text.as_bytes()), expected, "{text}");
        let mut cut = Json::new(Shape::ALL);
        text.bytes().for_each(|byte| cut.feed(&[byte]));
        let (whole, cut) = (read(text.as_bytes()), cut.finish());
        assert_eq!(format!("{whole:?}"), format!("{cut:?}"), "{text}");
    }
    assert_eq!(written(b"\"\xff\xfe\""), "\"\u{fffd}\u{fffd}\"");
}

/// Whatever is sent, a bounded part of it is kept, and it says so.
#[test]
fn of_a_text_of_any_size_a_bounded_part_is_kept() {
    let deep = "[".repeat(1 << 20);
    let (tree, extent) = read(deep.as_bytes());
    assert!(extent.is_cut && extent.is_truncated);
    assert!(tree.unwrap().weight().0 <= 2 * DEPTH_MAX);
    let closed = format!("{deep}{}", "]".repeat(1 << 20));
    assert!(!read(closed.as_bytes()).1.is_cut);

    let many = format!(
        "{{\"a\":[{}],\"model\":\"m\"}}",
        "{},".repeat(1 << 20) + "1"
    );
    let (tree, extent) = read(many.as_bytes());
    let tree = tree.unwrap();
    assert!(!extent.is_cut && extent.is_truncated);
    assert!(tree.weight().0 <= VALUES_MAX + OUTER_VALUES_MAX + 1);
    assert_eq!(tree.text_of("model"), Some(&b"m"[..]), "it comes last");

    let long = "x".repeat(TEXT_BYTES_MAX);
    let texts = (0..100).map(|_| format!("\"{long}\"")).collect::<Vec<_>>();
    let (tree, extent) = read(format!("[{}]", texts.join(",")).as_bytes());
    let tree = tree.unwrap();
    assert!(!extent.is_cut && tree.weight().1 <= TEXTS_BYTES_MAX);
    let digest = stockade_types::Digest::of(long.as_bytes());
    for item in tree.items() {
        let said = item.said().unwrap().content();
        assert_eq!((said.digest(), said.bytes()), (digest, long.len() as u64));
    }
    assert!(
        read(format!("[{}]", "1".repeat(1 << 20)).as_bytes())
            .1
            .is_cut
    );
}

#[test]
fn of_a_conversation_what_is_new_is_kept() {
    let shape = Shape {
        conversations: &["messages"],
        is_models: |entry| entry.is("role", "assistant"),
        unread: &[("tools", "schema"), ("", "system")],
        ..Shape::ALL
    };
    let long = "x".repeat(TEXT_BYTES_MAX);
    let turn = format!(r#"{{"role":"user","text":"{long}"}},{{"role":"assistant"}},"#);
    let turns = turn.repeat(100);
    let text = format!(
        r#"{{"system":[1,"2"],"messages":[{turns}{{"role":"user","text":"new"}}],
        "tools":[{{"name":"a","schema":{{"schema":[{{}}]}}}}]}}"#
    );
    let mut json = Json::new(shape);
    json.feed(text.as_bytes());
    let (tree, extent) = json.finish();
    let tree = tree.unwrap();
    assert_eq!(extent, Extent::default());
    let entries = tree.items_of("messages");
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].text_of("text"), Some(&b"new"[..]));
    assert!(tree.get("system").is_none());
    let tool = &tree.items_of("tools")[0];
    assert!(tool.get("schema").is_none() && tool.is("name", "a"));
}
