//! The pages in Chromium: passkeys, keys, changes by themselves, hostile text, and how they look.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stockade_testkit::browser::{Browser, faint};

use super::lab::{Lab, later};
use crate::state::LinkKind;

const PATIENCE: Duration = Duration::from_secs(30);
/// Each page that an administrator sees.
const PAGES: [&str; 12] = [
    "/",
    "/sessions",
    "/fleet",
    "/policy",
    "/policy/proposals",
    "/rollouts",
    "/people",
    "/audit",
    "/me",
    "/settings",
    "/keys",
    "/device",
];

/// Where pictures stay, so that a person can look at them.
pub(super) fn pictures() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("stockade-server-pages-{user}"));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Opens a browser in which a new administrator has signed in with a passkey.
pub(super) async fn signed_in(lab: &Lab, name: &str) -> Browser {
    let link = lab.link(LinkKind::Setup, "", &["admin"], later()).await;
    let mut browser = Browser::start_for(&lab.origin, Some(&lab.key().await));
    browser.add_authenticator();
    browser.size(1440, 900);
    browser.go(&format!("{}/setup?token={link}", lab.origin));
    let value = Value::from(name);
    browser.eval(&format!("document.getElementById('name').value = {value}"));
    browser.follow("document.querySelector('[data-passkey=create]').click()");
    assert_eq!(
        heading(&mut browser),
        "Overview",
        "{:?}",
        browser.complaints
    );
    browser
}

pub(super) fn heading(browser: &mut Browser) -> String {
    let text = browser.eval("document.querySelector('h1').textContent");
    text.as_str().unwrap_or_default().to_owned()
}

pub(super) fn press(key: &str) -> String {
    format!(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_sets_up_signs_in_and_proves_again() {
    let lab = Lab::start().await;
    let mut browser = signed_in(&lab, "Ann Lee").await;
    let ann = lab
        .state
        .user_named("Ann Lee")
        .await
        .unwrap()
        .expect("she is there");
    assert_eq!(ann.roles, ["admin"]);
    assert_eq!(lab.state.passkeys(&ann.id).await.unwrap().len(), 1);
    assert_eq!(lab.state.secret(&ann.id, "password").await.unwrap(), None);
    // The script has no access to the cookie.
    assert_eq!(browser.eval("document.cookie"), "");
    browser.follow("document.querySelector('form[action=\"/logout\"] button').click()");
    assert_eq!(heading(&mut browser), "Sign in");
    browser.go(&format!("{}/people", lab.origin));
    assert_eq!(heading(&mut browser), "Sign in");
    browser.follow("document.querySelector('[data-passkey=get]').click()");
    // It goes on to where it was asked for.
    assert_eq!(heading(&mut browser), "People");
    // With the keys.
    browser.eval(&press("g"));
    browser.follow(&press("f"));
    assert_eq!(heading(&mut browser), "Fleet");
    browser.eval(&press("?"));
    assert_eq!(browser.eval("document.getElementById('keys').open"), true);
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// A page follows what happens, and neither the focus nor what is being written is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_follows_what_happens() {
    let lab = Lab::start().await;
    let mut browser = signed_in(&lab, "Ann Lee").await;
    let begun = Instant::now();
    while browser.eval("document.documentElement.dataset.live") != "open" {
        assert!(begun.elapsed() < PATIENCE, "{:?}", browser.complaints);
    }
    browser.eval("document.querySelector('main a').focus(); window.same = 1");
    lab.person("ben", &["viewer"]).await;
    while browser.eval("document.getElementById('announcer').textContent")
        != "The page was updated."
    {
        assert!(begun.elapsed() < PATIENCE, "{:?}", browser.complaints);
    }
    let focused =
        "document.activeElement === document.querySelector('main a') && window.same === 1";
    assert_eq!(browser.eval(focused), true);
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// What others write is shown as text, on every page, and runs nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_shown_and_never_executed() {
    let lab = Lab::start().await;
    let hostile = "<script>window.ran=1</script><img src=x onerror=window.ran=1>\u{202e}\u{0}\u{1b}[2J'\"&lt;{{x}}";
    lab.person(hostile, &["viewer"]).await;
    let mut browser = signed_in(&lab, "Ann <b onclick=window.ran=1>").await;
    for page in PAGES {
        browser.go(&format!("{}{page}", lab.origin));
        let harmless = "window.ran === undefined && document.images.length === 0 \
            && !document.querySelector('[onclick], [onerror], b[onclick]') && document.scripts.length === 4";
        assert_eq!(browser.eval(harmless), true, "{page}");
        let text = browser.eval("document.body.textContent").to_string();
        assert!(
            !text.contains('\u{202e}') && !text.contains("\\u0000"),
            "{page}: {text}"
        );
    }
    browser.go(&format!("{}/people", lab.origin));
    let seen = browser
        .eval("document.querySelector('main').textContent")
        .to_string();
    for part in [
        "<script>window.ran=1</script>",
        "\\\\u{202e}",
        "\\\\u{0}",
        "\\\\u{1b}",
        "&lt;{{x}}",
    ] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    // A control: the policy is in force, so neither text nor a script of ours makes another one run.
    let attempts = "(() => { let threw = 0; const tag = document.createElement('script'); \
        try { tag.textContent = 'window.ran = 1'; document.body.append(tag); } catch { threw++; } \
        try { document.body.innerHTML = '<img src=x onerror=window.ran=1>'; } catch { threw++; } \
        try { document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click(); } catch { threw++; } \
        return threw; })()";
    let threw = browser.eval(attempts).as_u64();
    assert!(threw >= Some(3), "{threw:?}");
    assert_eq!(browser.eval("window.ran"), Value::Null);
    let sent = "fetch('https://127.0.0.1:9/').then(() => 'sent', (error) => error.name)";
    assert_eq!(browser.eval(sent), "TypeError");
    assert!(
        !browser.complaints.is_empty(),
        "the browser says what it refused"
    );
}

/// What is no text to read.
pub(super) const UNREAD: &str = "script, style, :disabled";

/// What is wider than the window, has no name, or is too small to be touched.
pub(super) const AWKWARD: &str = r"(() => {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push('page is wider than the window');
  for (const node of document.querySelectorAll('main button, main input:not([type=hidden]), main select, main textarea')) {
    const box = node.getBoundingClientRect();
    if (!box.width) continue;
    const label = node.labels && node.labels.length ? node.labels[0].textContent : node.textContent;
    if (!label.trim() && !node.getAttribute('aria-label')) found.push(`no name: ${node.outerHTML.slice(0, 80)}`);
    const least = node.matches('.small, [type=checkbox], [type=radio]') ? 20 : 44;
    if (box.height < least) found.push(`${box.height} high: ${node.outerHTML.slice(0, 80)}`);
  }
  if (document.querySelectorAll('h1').length !== 1) found.push('not one h1');
  if (document.querySelectorAll('main').length !== 1) found.push('not one main');
  const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
  if (new Set(ids).size !== ids.length) found.push('an id is there twice');
  return found;
})()";

/// Each page in both colours and at both ends of the widths: all text can be read, and nothing is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn each_page_is_readable_in_both_sizes_and_colours() {
    let lab = Lab::start().await;
    lab.person(
        "Benedikta Maria von Hohenstein-Langenberg",
        &["viewer", "security", "code-owner"],
    )
    .await;
    let mut browser = signed_in(&lab, "Ann Lee").await;
    let person = lab
        .state
        .user_named("Ann Lee")
        .await
        .unwrap()
        .expect("she is there");
    let one = format!("/people/{}", person.id.0);
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for (width, height) in [(1440, 900), (360, 740)] {
            browser.size(width, height);
            for page in PAGES
                .iter()
                .copied()
                .chain([one.as_str(), "/none", "/login"])
            {
                browser.go(&format!("{}{page}", lab.origin));
                let name = page.split('/').nth(1).unwrap_or_default();
                let name = if name.is_empty() { "overview" } else { name };
                let name = if page == one { "person" } else { name };
                browser.picture(&pictures().join(format!("{name}-{scheme}-{width}.png")));
                assert_eq!(
                    browser.eval(&faint(UNREAD)),
                    json!([]),
                    "{page} {scheme} {width}"
                );
                assert_eq!(browser.eval(AWKWARD), json!([]), "{page} {scheme} {width}");
            }
        }
    }
    // Controls: both measures find something.
    browser.eval("document.querySelector('h1').style.color = '#777'; document.body.append(document.createElement('main'))");
    assert_ne!(browser.eval(&faint(UNREAD)), json!([]));
    assert_ne!(browser.eval(AWKWARD), json!([]));
}
