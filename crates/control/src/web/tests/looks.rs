//! Every page with a week of records in Chromium: how it looks, whether everyone can use it, what it weighs,
//! and whether its data has the form that is described.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stockade_testkit::{
    agents,
    browser::{Browser, faint},
    invented,
};

use super::{
    browser::{AWKWARD, UNREAD, heading, pictures, press, signed_in},
    lab::Lab,
    recorded::Machine,
};
use crate::{now, web};

const ALL: u64 = u64::MAX;
/// Bytes of a page with all its files.
pub(super) const WEIGHT_MAX: u64 = 150_000;

/// Returns what axe-core finds that is serious or critical.
pub(super) const VIOLATIONS: &str = "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations \
    .filter((one) => ['serious', 'critical'].includes(one.impact)) \
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.html).slice(0, 3).join(' | ')}`))";

/// A server with two machines and their records of a week.
async fn week(lab: &Lab) -> (Machine, Vec<String>) {
    let lee = lab.person("Lee Min-jun", &["developer"]).await;
    let laptop = lab.machine("laptop-lee", Some(&lee)).await;
    let runner = lab.machine("ci-runner-7", None).await;
    let now_ns = now().0 * 1_000_000;
    let ids = invented::week(&laptop.dir, 0, now_ns);
    invented::week(&runner.dir, 1, now_ns);
    lab.take(&laptop, ALL).await;
    lab.take(&runner, ALL).await;
    lab.indexed().await;
    (laptop, ids)
}

/// Every page and state that an administrator sees: its name, and its path.
async fn pages(lab: &Lab, machine: &Machine, ids: &[String]) -> Vec<(&'static str, String)> {
    let last = machine.path(ids.last().unwrap());
    let ended = machine.path(&ids[3]);
    let query = "kind:net verdict:deny".parse().unwrap();
    let page = crate::index::Page {
        after: None,
        count_max: 1,
    };
    let seen = crate::index::Seen::Of(vec![machine.id.clone()]);
    let found = lab
        .server
        .index
        .search(&query, &seen, now(), page)
        .await
        .unwrap();
    let denied = &found[0];
    let raised = lab.server.index.raised(&seen, 1).await.unwrap();
    let finding = format!("{}/{}/{}", machine.id, raised[0].key.session, raised[0].seq);
    let finding: String = url::form_urlencoded::byte_serialize(finding.as_bytes()).collect();
    let path = |text: &str| text.to_owned();
    vec![
        ("overview", path("/")),
        ("sessions", path("/sessions")),
        ("sessions-broken", path("/sessions?state=broken")),
        ("session-running", last.clone()),
        ("session-ended", ended.clone()),
        ("session-denied", format!("{ended}?verdict=deny")),
        ("session-nothing", format!("{ended}?text=nothing-has-this")),
        ("session-below", format!("{ended}?at=12")),
        ("events", format!("{ended}/events")),
        ("event", format!("{ended}/events/8")),
        (
            "decision",
            format!(
                "/decisions/{}/{}/{}",
                denied.key.node,
                denied.key.session,
                denied.decision.unwrap()
            ),
        ),
        ("flows", path("/flows?days=30")),
        (
            "flows-draft",
            path("/flows?days=30&draft=paste.test&port=443"),
        ),
        ("flows-nothing", path("/flows?host=nothing")),
        ("findings", path("/findings")),
        ("finding", format!("/findings?id={finding}")),
        ("findings-settled", path("/findings?which=settled")),
        ("search", path("/search")),
        ("search-found", path("/search?q=verdict:deny")),
        ("search-mistake", path("/search?q=hots:x")),
        ("search-nothing", path("/search?q=nothing-has-this")),
        ("integrity", path("/integrity")),
        ("record", format!("/integrity/{}/{}", machine.id, ids[3])),
        ("inbox", path("/inbox")),
        ("fleet", path("/fleet")),
        ("machine", format!("/fleet/{}", machine.id)),
        ("policy", path("/policy")),
        ("people", path("/people")),
        ("audit", path("/audit")),
        ("me", path("/me")),
        ("settings-nothing", path("/settings")),
        ("login", path("/login")),
        ("missing", path("/none")),
    ]
}

/// Opens a page, and returns how many bytes it has with all its files.
pub(super) fn open(browser: &mut Browser, origin: &str, path: &str) -> u64 {
    browser.go(&format!("{origin}{path}"));
    let bytes = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')] \
        .reduce((sum, one) => sum + one.encodedBodySize, 0)";
    browser.eval(bytes).as_u64().unwrap_or_default()
}

/// Each page in both colours and at both ends of the widths can be read and touched, breaks no rule of the
/// content policy, and is not heavy; axe-core finds nothing serious.
#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_light_and_usable() {
    look("light", 1440).await;
}

/// The same in the dark, where axe-core looks at the narrow pages.
#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_usable_in_the_dark() {
    look("dark", 360).await;
}

/// Looks at all pages in one colour scheme; axe-core does at one of the widths.
async fn look(scheme: &str, checked: u32) {
    let axe = agents::axe();
    let lab = Lab::start().await;
    let (machine, ids) = week(&lab).await;
    let mut browser = signed_in(&lab, "Ann Lee").await;
    let pages = pages(&lab, &machine, &ids).await;
    let (mut wrong, mut weights) = (BTreeMap::new(), BTreeMap::new());
    for (width, height) in [(1440, 900), (360, 740)] {
        browser.prefer(scheme);
        browser.size(width, height);
        for (name, path) in &pages {
            let bytes = open(&mut browser, &lab.origin, path);
            weights.insert(*name, bytes);
            browser.picture(&pictures().join(format!("{name}-{scheme}-{width}.png")));
            let mut found = vec![
                browser.eval(&faint(UNREAD)),
                browser.eval(AWKWARD),
                json!(std::mem::take(&mut browser.complaints)),
            ];
            if width == checked {
                browser.eval(&axe);
                found.push(browser.eval(VIOLATIONS));
                browser.complaints.clear();
            }
            // A browser says that a page is not there.
            found.retain(|one| *one != json!([]) && *name != "missing");
            if !found.is_empty() {
                wrong.insert(format!("{name} {scheme} {width}"), found);
            }
        }
    }
    std::fs::write(
        pictures().join(format!("weights-{scheme}.json")),
        json!(weights).to_string(),
    )
    .unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (name, bytes) in &weights {
        assert!(
            (20_000..=WEIGHT_MAX).contains(bytes),
            "{name}: {bytes} bytes"
        );
    }
    // A control: a button without a name is found.
    browser.eval(&axe);
    browser.eval("document.querySelector('main').append(document.createElement('button'))");
    let found = browser.eval(VIOLATIONS).to_string();
    assert!(found.contains("button-name"), "{found}");
}

/// With the keyboard alone: to the search, to the pages, along rows, and into one.
#[tokio::test(flavor = "multi_thread")]
async fn keys_lead_everywhere() {
    let lab = Lab::start().await;
    let (_, ids) = week(&lab).await;
    let mut browser = signed_in(&lab, "Ann Lee").await;
    for (key, title) in [
        ("w", "Flows"),
        ("d", "Findings"),
        ("y", "Integrity"),
        ("s", "Sessions"),
    ] {
        browser.eval(&press("g"));
        browser.follow(&press(key));
        assert_eq!(heading(&mut browser), title);
    }
    browser.eval(&press("j"));
    browser.eval(&press("j"));
    let href = browser.eval("document.activeElement.getAttribute('href')");
    let href = href.as_str().unwrap_or_default().to_owned();
    assert!(href.starts_with("/sessions/n-"), "{href}");
    browser.follow("document.activeElement.click()");
    assert!(heading(&mut browser).contains("exec"), "{}", ids.len());
    browser.follow(&press("/"));
    assert_eq!(heading(&mut browser), "Search");
    browser.eval(&press("/"));
    assert_eq!(browser.eval("document.activeElement.id"), "search");
    // What is typed into a field is text.
    browser.keys(&["g", "i"]);
    assert_eq!(browser.eval("document.activeElement.value"), "gi");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// A running session follows its record in an open page.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_session_grows_on_its_page() {
    let lab = Lab::start().await;
    let machine = lab.machine("laptop", None).await;
    let ids = invented::week(&machine.dir, 0, now().0 * 1_000_000);
    lab.take(&machine, 9).await;
    let mut browser = signed_in(&lab, "Ann Lee").await;
    let path = machine.path(ids.last().unwrap());
    browser.go(&format!("{}{path}", lab.origin));
    let rows = "document.querySelectorAll('.tree tbody tr').length";
    let before = browser.eval(rows).as_u64();
    let begun = std::time::Instant::now();
    while browser.eval("document.documentElement.dataset.live") != "open" {
        assert!(begun.elapsed().as_secs() < 30, "{:?}", browser.complaints);
    }
    browser.eval("window.same = 1");
    lab.take(&machine, ALL).await;
    while browser.eval(rows).as_u64() == before {
        assert!(begun.elapsed().as_secs() < 60, "{:?}", browser.complaints);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(browser.eval("window.same"), 1);
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// The description of the API is what the server answers: each member of each answer is described with its
/// type, and each that has to be there is.
#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_described_form() {
    let lab = Lab::start().await;
    let (machine, ids) = week(&lab).await;
    let ann = lab.person("ann", &["admin", "incident-lead"]).await;
    let document = web::description();
    let mut checked = 0;
    for (path, form) in web::openapi::ANSWERS {
        for id in [&ids[3], ids.last().unwrap()] {
            let path = path
                .replace("{node}", machine.id.as_str())
                .replace("{session}", id)
                .replace("{seq}", "8")
                .replace("{decision}", "0");
            let query = match *form {
                "Search" => "?q=since:30d",
                "Flows" => "?days=30&draft=paste.test&port=443",
                "Findings" => "?which=all",
                _ => "",
            };
            let answer = lab.get(&ann, &format!("{path}{query}")).await.is(200);
            let answer: Value = serde_json::from_str(&answer.body).unwrap();
            let pointer = format!("/components/schemas/{form}");
            let form = document.pointer(&pointer).unwrap();
            let mut wrong = Vec::new();
            compare(&document, form, &answer, "answer", &mut wrong);
            assert!(wrong.is_empty(), "{path}: {wrong:#?}");
            checked += 1;
        }
    }
    assert_eq!(checked, web::openapi::ANSWERS.len() * 2);
    // A control: what is not described is found, and what is missing, too.
    let form = document.pointer("/components/schemas/Hour").unwrap();
    for other in [
        json!({"denied": 1}),
        json!({"denied": 1, "asked": "2"}),
        json!({"denied": 1, "asked": 2, "more": 3}),
    ] {
        let mut wrong = Vec::new();
        compare(&document, form, &other, "hour", &mut wrong);
        assert_eq!(wrong.len(), 1, "{other}: {wrong:?}");
    }
}

/// Compares a value with its form.
fn compare(document: &Value, form: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    if let Some(reference) = form["$ref"].as_str() {
        let form = document.pointer(reference.trim_start_matches('#'));
        return compare(document, form.unwrap_or(&Value::Null), value, place, wrong);
    }
    if let Some(forms) = form["anyOf"].as_array() {
        if !value.is_null() {
            compare(document, &forms[0], value, place, wrong);
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types: Vec<&str> = match &form["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    if !types.contains(&kind) {
        wrong.push(format!("{place}: {kind}, not {types:?}"));
        return;
    }
    for item in value.as_array().into_iter().flatten() {
        compare(document, &form["items"], item, place, wrong);
    }
    let Some(members) = value.as_object() else {
        return;
    };
    for (name, member) in members {
        match form["properties"].get(name) {
            Some(form) => compare(document, form, member, &format!("{place}.{name}"), wrong),
            None => wrong.push(format!("{place}.{name}: not described")),
        }
    }
    for name in form["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap_or_default()) {
            wrong.push(format!("{place}.{name}: missing"));
        }
    }
}
