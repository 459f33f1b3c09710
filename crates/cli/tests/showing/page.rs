//! The page: what a browser makes of it, with hostile text, many events, and no network.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use stockade_testkit::{TestEnv, browser::Browser, env::under_test, invented};
use stockade_types::RawText;

/// Where pictures stay, so that a person can look at them.
pub(super) fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_TMPDIR").map(PathBuf::from);
    let user = rustix::process::getuid().as_raw();
    let dir = target
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("stockade-pages-{user}"));
    fs::create_dir_all(&dir).expect("the directory is ours");
    dir
}

pub(super) fn page(env: &TestEnv, id: &str, words: &[&str]) -> PathBuf {
    let file = env.root().join(format!("{id}.html"));
    let shown = env.stockade().args(["show", id, "--html"]).arg(&file);
    shown.args(words).success().assert_stdout("");
    file
}

#[test]
fn a_page_is_read_with_keys_in_both_sizes_and_colours() {
    let env = TestEnv::new(under_test());
    let id = invented::record(&env.state(), 6, &"empty baskets".into());
    let file = page(&env, &id, &[]);
    let mut browser = Browser::start();
    browser.prefer("light");
    browser.open(&file, 1280, 800);
    let chosen = "document.querySelector('[aria-selected=true].row .text').textContent";
    assert_eq!(
        browser.eval(chosen),
        "codex exec in /home/u/src/shop (native, profile codex)"
    );
    browser.keys(&["j", "j", "j"]);
    assert_eq!(browser.eval(chosen), "shell: cargo test --package cart-0");
    let rows =
        "Number(document.getElementById('status').textContent.split(' ')[0].replace(',', ''))";
    let open = browser.eval(rows).as_u64().expect("a number");
    browser.picture(&pictures().join("wide-light.png"));
    browser.keys(&["Enter"]);
    let folded = browser.eval(rows).as_u64().expect("a number");
    assert!(folded + 10 < open, "{folded} {open}");
    browser.keys(&["n"]);
    let refused = browser.eval(chosen);
    assert_eq!(refused, "net  paste.test:443 denied (paste-sites)");
    let detail = browser.eval("document.getElementById('detail').textContent");
    let detail = detail.as_str().expect("a text");
    assert!(
        detail.contains("data leaves the company") && detail.contains("by shell"),
        "{detail}"
    );
    browser.prefer("dark");
    browser.picture(&pictures().join("wide-dark.png"));
    browser.keys(&["/", "p", "a", "r", "t", "-", "7", "Enter"]);
    // Six files, with all that is above them.
    let found = "document.querySelectorAll('.s-changed').length";
    assert_eq!(browser.eval(found), 6);
    browser.picture(&pictures().join("wide-search.png"));
    browser.keys(&["Escape", "3"]);
    browser.picture(&pictures().join("wide-files.png"));
    browser.keys(&["4"]);
    let hosts = "[...document.querySelectorAll('.row')].map((row) => row.innerText).join('|')";
    let hosts = browser.eval(hosts).to_string();
    assert!(
        hosts.contains("packages.test:443") && hosts.contains("24 MB"),
        "{hosts}"
    );
    browser.picture(&pictures().join("wide-network.png"));
    browser.keys(&["2"]);
    assert_eq!(browser.eval(rows), 12);
    browser.picture(&pictures().join("wide-judged.png"));
    browser.keys(&["/", "z", "z", "Enter"]);
    let empty = browser.eval("document.getElementById('empty').textContent");
    assert_eq!(empty, "Nothing matches.");
    browser.prefer("light");
    browser.open(&file, 390, 844);
    browser.keys(&["n"]);
    browser.picture(&pictures().join("narrow-light.png"));
    browser.keys(&["4"]);
    browser.picture(&pictures().join("narrow-network.png"));
    let overflow = "document.documentElement.scrollWidth - innerWidth";
    assert_eq!(browser.eval(overflow), 0);
    // The same filter as for every other form.
    let file = page(&env, &id, &["--verdict", "deny", "--host", "paste.test"]);
    browser.open(&file, 1280, 800);
    browser.keys(&["2"]);
    assert_eq!(browser.eval(rows), 6);
    assert_eq!(
        browser.eval("document.querySelectorAll('.s-asked').length"),
        0
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn text_of_a_session_stays_text() {
    let env = TestEnv::new(under_test());
    let hostile: &[u8] =
        b"<script>window.ran=1</script></script><!--<img src=x onerror=window.ran=1>\
        \x00\xe2\x80\xae\xff'\"&lt;@SCRIPT@ https://leak.test/ ]]>";
    let id = invented::record(&env.state(), 2, &RawText::from_bytes(hostile));
    let file = page(&env, &id, &[]);
    let text = fs::read_to_string(&file).expect("UTF-8");
    assert_eq!(text.matches("</script").count(), 2, "our own two scripts");
    assert!(!text.contains('\0') && !text.contains('\u{202e}') && !text.contains("<img"));
    let mut browser = Browser::start();
    browser.open(&file, 1280, 800);
    assert_eq!(
        browser.eval("window.ran === undefined && document.images.length === 0"),
        true
    );
    assert_eq!(browser.eval("document.scripts.length"), 2);
    let seen = browser
        .eval("document.getElementById('space').textContent")
        .to_string();
    for part in [
        "<script>window.ran=1</script>",
        "\\\\u{202e}",
        "\\\\u{0}",
        "\\\\xff",
        "@SCRIPT@",
    ] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    // A control: the policy is in force, so a script that is not ours does not run, nor is anything
    // fetched or made of text.
    let attempts = "(() => { const tag = document.createElement('script'); let threw = 0; \
        try { tag.textContent = 'window.ran = 1'; document.body.append(tag); } catch { threw++; } \
        try { document.body.innerHTML = '<b>x</b>'; } catch { threw++; } \
        return threw; })()";
    let threw = browser.eval(attempts).as_u64().expect("a number");
    assert!(threw >= 1, "trusted types hold");
    assert_eq!(browser.eval("window.ran"), Value::Null);
    let fetched = "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.name)";
    assert_eq!(browser.eval(fetched), "TypeError");
    browser.picture(&pictures().join("hostile.png"));
}

/// A field of a megabyte, an hour of work, and what is in the way of the file.
#[test]
fn a_large_session_stays_usable() {
    let env = TestEnv::new(under_test());
    let long = RawText::from_bytes(vec![b'<'; 1_000_000]);
    let id = invented::record(&env.state(), 1, &long);
    let file = page(&env, &id, &[]);
    assert!(fs::metadata(&file).expect("it is there").len() < 200_000);
    let id = invented::record(
        &env.state(),
        100_000 / invented::TURN_EVENTS,
        &"baskets".into(),
    );
    let begun = Instant::now();
    let file = page(&env, &id, &[]);
    let written = begun.elapsed();
    let size = fs::metadata(&file).expect("it is there").len();
    // 8 MB for 50,000 events, twice as much for twice as many.
    assert!(size < 16_000_000, "{size} bytes");
    let mut browser = Browser::start();
    let loaded = browser.open(&file, 1280, 800);
    let begun = Instant::now();
    browser.keys(&["G", "k", "n"]);
    let moved = begun.elapsed();
    let begun = Instant::now();
    browser.keys(&["/", "9", "9", "Enter"]);
    let searched = begun.elapsed();
    let script = browser.eval("Number(document.documentElement.dataset.ready)");
    let drawn = browser.eval("document.querySelectorAll('.row').length");
    assert!(drawn.as_u64().is_some_and(|rows| rows < 100), "{drawn}");
    browser.picture(&pictures().join("large.png"));
    assert_eq!(browser.complaints, Vec::<String>::new());
    for (what, took) in [("load", loaded), ("move", moved), ("search", searched)] {
        assert!(took < Duration::from_secs(10), "{what} {took:?}");
    }
    let figures = format!(
        "{size} bytes, written in {written:?}, loaded in {loaded:?} (script {script} ms), moved in \
         {moved:?}, searched in {searched:?}\n"
    );
    fs::write(pictures().join("large.txt"), figures).expect("the target is ours");
}

#[test]
fn a_page_is_written_where_it_is_named_and_nowhere_else() {
    let env = TestEnv::new(under_test());
    let id = invented::record(&env.state(), 1, &"x".into());
    let file = env.root().join("page.html");
    let written = |file: &Path| {
        env.stockade()
            .args(["show", &id, "--html"])
            .arg(file)
            .output()
    };
    fs::write(&file, "old").expect("the root is ours");
    written(&file).assert_success();
    let mode = fs::metadata(&file)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        fs::read_to_string(&file)
            .expect("text")
            .starts_with("<!doctype html>")
    );
    // A session can have left a link with that name in its workspace.
    let precious = env.root().join("precious");
    fs::write(&precious, "kept").expect("the root is ours");
    let link = env.root().join("link.html");
    symlink(&precious, &link).expect("the root is ours");
    written(&link)
        .assert_code(3)
        .assert_stderr("is not a plain file");
    assert_eq!(fs::read_to_string(&precious).expect("text"), "kept");
    written(&env.root().join("none/page.html"))
        .assert_code(3)
        .assert_stderr("cannot write");
    let names: Vec<_> = fs::read_dir(env.root())
        .expect("a directory")
        .flatten()
        .collect();
    let left = |entry: &&fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".page");
    assert_eq!(names.iter().filter(left).count(), 0);
    let printed = env.stockade().args(["show", &id, "--html", "-"]).success();
    assert_eq!(printed.stdout, fs::read_to_string(&file).expect("text"));
}
