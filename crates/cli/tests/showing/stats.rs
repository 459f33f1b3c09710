//! What many sessions came to: the numbers, the filters, the prices, and how long that takes.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::time::{Duration, Instant};

use serde_json::Value;
use stockade_testkit::{
    TestEnv,
    env::{User, under_test},
    invented,
};

fn json(env: &TestEnv, words: &[&str]) -> Value {
    let run = env
        .stockade()
        .args(["stats", "--json"])
        .args(words)
        .success();
    serde_json::from_str(&run.stdout).expect("one object")
}

fn number(value: &Value, path: &str) -> u64 {
    let number = value.pointer(path).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no number at {path}: {value}"))
}

#[test]
fn sessions_are_added_up() {
    let env = TestEnv::new(under_test());
    let none = env.stockade().arg("stats").success();
    none.assert_stdout("");
    none.assert_stderr("no sessions yet; `stockade run -- CMD` makes one");
    invented::record(&env.state(), 2, &"empty\u{1b}[2J baskets".into());
    invented::record(&env.state(), 3, &"other".into());
    let shown = env.stockade().env("TZ", "UTC").arg("stats").success();
    assert!(shown.stdout.lines().all(|line| line.chars().count() <= 80));
    assert!(!shown.stdout.contains('\u{1b}'));
    insta::assert_snapshot!("stats", shown.stdout);
    let all = json(&env, &[]);
    for (path, expected) in [
        ("/sessions", 2),
        ("/prompts", 5),
        ("/asked", 5),
        ("/answers/allowed once", 3),
        ("/answers/denied", 2),
        ("/refused", 5),
        ("/rules/paste-sites", 5),
        ("/targets/paste.test:443", 5),
        ("/hosts/packages.test:443/connections", 5),
        ("/tools/shell/calls", 5),
        ("/tools/shell/refused", 5),
        ("/tools/apply_patch/calls", 5),
        ("/median_answer_ms", 140),
    ] {
        assert_eq!(number(&all, path), expected, "{path}");
    }
    // They began long ago, and elsewhere.
    assert_eq!(number(&json(&env, &["--since", "1h"]), "/sessions"), 0);
    let quiet = env.stockade().args(["stats", "--since", "1h"]).success();
    quiet.assert_stderr("no session began since then; try a longer --since");
    assert_eq!(
        number(&json(&env, &["--workspace", "/home/u/src"]), "/sessions"),
        2
    );
    assert_eq!(
        number(
            &json(&env, &["--workspace", "/home/u/src/sho"]),
            "/sessions"
        ),
        0
    );
    env.stockade()
        .args(["stats", "--since", "soon"])
        .output()
        .assert_code(2);
}

/// Costs come from the table, the owner's entries first; a model that no table names has none.
#[test]
fn calls_of_models_have_a_price_or_none() {
    let env = TestEnv::new(under_test());
    invented::models(&env.state(), &["claude-sonnet-4-5-20250929", "lab-1"]);
    let all = json(&env, &[]);
    // 3,000,000 tokens at 3 dollars less what was cached, and 1,000,000 at 15.
    assert_eq!(number(&all, "/bill/total_micro_usd"), 21_300_000);
    assert_eq!(
        all.pointer("/bill/unknown"),
        Some(&serde_json::json!(["lab-1"]))
    );
    let shown = env.stockade().arg("stats").success();
    assert!(shown.stdout.contains("$21.30"), "{}", shown.stdout);
    assert!(
        shown.stdout.contains("no price is known of 1 model"),
        "{}",
        shown.stdout
    );
    let own = "[[price]]\nmodel = \"lab-1\"\ninput = 1\noutput = 2\n";
    let file = env.write("own.toml", own);
    let file = file.display().to_string();
    let all = json(&env, &["--prices", &file]);
    assert_eq!(number(&all, "/bill/total_micro_usd"), 26_300_000);
    assert_eq!(all.pointer("/bill/unknown"), Some(&serde_json::json!([])));
    let file = env.write("wrong.toml", "[[price]]\nmodel = \"lab-1\"\ninput = 1\n");
    env.stockade()
        .args(["stats", "--prices"])
        .arg(&file)
        .output()
        .assert_stderr("missing field `output`");
}

/// The index keeps what each session came to, so that a second look reads no journal.
#[test]
fn many_sessions_are_added_up_at_once() {
    let env = TestEnv::new(under_test());
    invented::many(&env.state(), 200, 4);
    assert_eq!(number(&json(&env, &[]), "/sessions"), 200);
    let begun = Instant::now();
    assert_eq!(number(&json(&env, &[]), "/prompts"), 800);
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(2), "{taken:?}");
}

/// A session says what the supervisor and the egress process used.
#[test]
fn a_session_says_what_it_costs() {
    for user in User::all() {
        let env = &TestEnv::of(user.as_deref());
        let repo = env.repo();
        let run = env.session(repo.path()).line("true").output();
        run.assert_code(0);
        let all = json(env, &[]);
        assert_eq!(number(&all, "/own_known"), 1);
        let own = number(&all, "/own_usage/cpu_user_us") + number(&all, "/own_usage/cpu_system_us");
        // It is not nothing, and less than all of the time on two processors.
        assert!((1_000..60_000_000).contains(&own), "{own}");
        let shown = env.stockade().arg("stats").success();
        assert!(
            shown.stdout.contains("(supervisor and egress, 1 session)"),
            "{}",
            shown.stdout
        );
    }
}
