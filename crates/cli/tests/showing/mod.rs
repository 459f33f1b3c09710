//! How people see a session: the timeline, the tree, the filters, the page, and the replay.

mod looks;
mod page;
mod replay;
mod stats;

use serde_json::Value;
use stockade_testkit::{TestEnv, env::under_test, invented};

#[test]
fn a_tree_says_what_came_of_what() {
    let env = TestEnv::new(under_test());
    let id = invented::record(&env.state(), 2, &"empty baskets".into());
    let shown = |words: &[&str]| {
        let run = env.stockade().env("TZ", "UTC").args(["show", &id]);
        run.args(words).success().stdout.clone()
    };
    insta::assert_snapshot!("tree", cut_summary(&shown(&["--tree"])));
    insta::assert_snapshot!(
        "refusals",
        cut_summary(&shown(&["--tree", "--verdict", "deny"]))
    );
    let timeline = shown(&["--tool", "APPLY_PATCH"]);
    insta::assert_snapshot!("one_tool", cut_summary(&timeline));
    let json = |words: &[&str]| -> Value {
        let text = shown(&[words, &["--json"]].concat());
        serde_json::from_str(&text).expect("one object")
    };
    // One value, whatever its form.
    for (words, nodes) in [
        (&[][..], 0),
        (&["--host", "paste.test"], 1),
        (&["--path", "src/cart-1"], 1),
        (&["--kind", "process.started"], 0),
        (&["--since", "10:00:03"], 0),
        (&["--host", "nowhere.test"], 0),
    ] {
        let tree = json(&[words, &["--tree"]].concat());
        let text = shown(&[words, &["--tree"]].concat());
        assert_eq!(tree.pointer("/summary/asked"), Some(&2.into()));
        let all = tree.pointer("/tree/nodes").and_then(Value::as_array);
        let all = all.expect("a list");
        let lines = text.lines().take_while(|line| !line.is_empty()).count();
        assert!(all.len() >= nodes && lines > 0, "{words:?}: {tree}");
        for node in all {
            let words = node.get("text").and_then(Value::as_str).expect("a text");
            let start: String = words.chars().take(24).collect();
            let is_below_own = !text.contains(&start) && start == "git status";
            assert!(text.contains(&start) || is_below_own, "{start}: {text}");
        }
    }
    env.stockade()
        .args(["show", &id, "--since", "soon"])
        .output()
        .assert_code(2)
        .assert_stderr("expected a span (`10m`)");
}

/// Leaves out the totals, which have a test of their own.
fn cut_summary(text: &str) -> String {
    text.lines()
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}
