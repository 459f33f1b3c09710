//! How a session looks: the page in both sizes and colours, measured, and the screens of a terminal. The
//! pictures stay, so that a person can look at them; fonts differ, so no test compares pixels.

use std::time::Duration;

use serde_json::{Value, json};
use stockade_testkit::{
    TestEnv,
    browser::{Browser, faint},
    env::under_test,
    invented,
    tmux::Tmux,
};

use super::page::{page, pictures};

const TIMEOUT: Duration = Duration::from_secs(30);
/// The windows of a desk, of a small one, of a telephone and of a small one.
const SIZES: [(&str, u32, u32); 4] = [
    ("desk", 1440, 900),
    ("wide", 1280, 800),
    ("narrow", 390, 844),
    ("small", 360, 640),
];

/// What is no text to read: what is hidden, and controls that cannot be used now.
const UNREAD: &str = "script, style, noscript, option, :disabled";

/// What is wider than the window, and whether the chosen view's name is seen in full.
const WIDE: &str = r"(() => {
  const wide = [];
  if (document.documentElement.scrollWidth > innerWidth) wide.push('page');
  const list = document.getElementById('list');
  if (list.scrollWidth > list.clientWidth) wide.push('list');
  for (const node of document.querySelectorAll('header, nav, #tools > *, #detail, footer')) {
    const box = node.getBoundingClientRect();
    if (box.width && (box.left < -0.5 || box.right > innerWidth + 0.5)) wide.push(node.id || node.tagName);
  }
  const tab = document.querySelector('#tabs [aria-selected=true]').getBoundingClientRect();
  if (tab.left < -0.5 || tab.right > innerWidth + 0.5) wide.push('chosen view');
  return wide;
})()";

/// How far each heading is from the cells of its column: their right ends, or the left ones where text
/// begins on the left.
const ASKEW: &str = r"(() => {
  const cells = (node) => [...node.querySelectorAll('.cell')];
  const row = document.querySelector('#list .row.cells');
  const heads = document.getElementById('heads');
  if (!row || !heads.classList.contains('shown')) return null;
  const [above, below] = [cells(heads), cells(row)];
  if (above.length !== below.length) return ['columns'];
  const side = (node) => {
    const box = node.getBoundingClientRect();
    return node.classList.contains('wide') ? box.left : box.right;
  };
  const askew = above.map((head, at) => `${head.textContent}: ${Math.round(side(head) - side(below[at]))}`);
  return askew.filter((text) => !text.endsWith(': 0'));
})()";

fn measure(browser: &mut Browser, name: &str) {
    browser.picture(&pictures().join(format!("looks-{name}.png")));
    assert_eq!(browser.eval(&faint(UNREAD)), json!([]), "{name}");
    assert_eq!(browser.eval(WIDE), json!([]), "{name}");
    let askew = browser.eval(ASKEW);
    assert!(askew == json!([]) || askew.is_null(), "{name}: {askew}");
}

/// Each view in each size and colour: nothing is wider than the window, and all text can be read.
#[test]
fn each_view_is_readable_in_both_sizes_and_colours() {
    let env = TestEnv::new(under_test());
    let id = invented::record(&env.state(), 6, &"empty baskets".into());
    let file = page(&env, &id, &[]);
    let mut browser = Browser::start();
    // A control: faint text is found.
    browser.open(&file, 1280, 800);
    browser.eval("document.getElementById('facts').style.color = '#999'; 1");
    let found = browser.eval(&faint(UNREAD));
    assert!(
        found.as_array().is_some_and(|all| !all.is_empty()),
        "{found}"
    );
    let rows = "document.querySelectorAll('.row').length";
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for (size, width, height) in SIZES {
            browser.open(&file, width, height);
            for (view, least) in [("1", 15), ("2", 12), ("3", 15), ("4", 3)] {
                browser.keys(&[view, "j"]);
                measure(&mut browser, &format!("{size}-{scheme}-{view}"));
                let rows = browser.eval(rows).as_u64().expect("a number");
                assert!(rows >= least, "{rows} in view {view}");
            }
        }
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// The same with 50,000 events, long names and characters of other scripts.
#[test]
fn many_events_are_readable_too() {
    let env = TestEnv::new(under_test());
    let text = format!("{} 空のかご سلة فارغة", "a-very-long-name".repeat(20));
    let id = invented::record(
        &env.state(),
        50_000 / invented::TURN_EVENTS,
        &text.as_str().into(),
    );
    let file = page(&env, &id, &[]);
    let mut browser = Browser::start();
    for (size, width, height) in SIZES {
        browser.open(&file, width, height);
        let events = browser.eval("document.getElementById('status').textContent");
        assert!(events.to_string().contains("of 50,003 events"), "{events}");
        for (view, keys) in [("1", ["n", "n"]), ("3", ["G", "k"])] {
            browser.keys(&[view]);
            browser.keys(&keys);
            measure(&mut browser, &format!("many-{size}-{view}"));
            // Where there is a scroll bar, headings stand above their columns all the same.
            let headed = browser.eval(ASKEW);
            assert_eq!(headed.is_null(), view == "1", "{headed}");
            let drawn = browser.eval("document.querySelectorAll('.row').length");
            assert!(
                drawn.as_u64().is_some_and(|rows| (10..100).contains(&rows)),
                "{drawn}"
            );
        }
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// The screens of a terminal of 80 and of 120 columns.
#[test]
fn screens_fit_the_terminal() {
    let env = TestEnv::new(under_test());
    let id = invented::record(&env.state(), 1, &"empty baskets".into());
    for columns in [80_u16, 120] {
        for (name, words) in [
            ("show", format!("show {id}")),
            ("tree", format!("show {id} --tree")),
            ("replay", format!("replay {id} --speed 1000")),
            ("stats", "stats".to_owned()),
        ] {
            let line = format!("TZ=UTC NO_COLOR=1 {} {words}", env.binary().display());
            let tmux = Tmux::start(&env, columns, 70, &line);
            tmux.wait_for("exit 0", TIMEOUT);
            let screen: Vec<String> = (tmux.text().lines())
                .map(|line| line.trim_end().to_owned())
                .collect();
            let screen = screen.join("\n");
            let widest = screen.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(usize::from(columns)), "{name}: {screen}");
            insta::assert_snapshot!(format!("screen_{name}_{columns}"), screen.trim_end());
        }
    }
}

#[test]
fn a_control_of_the_measures() {
    let mut browser = Browser::start();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wide.html");
    std::fs::write(
        &file,
        "<!doctype html><html data-ready=1><body><div id=list></div><div id=tabs>\
         <b aria-selected=true style='position:absolute;left:2000px'>x</b></div></body></html>",
    )
    .expect("the directory is ours");
    browser.open(&file, 390, 844);
    let wide = browser.eval(WIDE);
    assert_eq!(
        wide.as_array()
            .map(|all| all.contains(&Value::from("chosen view"))),
        Some(true)
    );
}
