//! Pages about what happened: who sees what, what is found, and that the index is only an index.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    time::Instant,
};

use serde_json::Value;
use stockade_journal::layout::{JOURNAL_FILE, session_dir};
use stockade_testkit::invented;
use stockade_trust::UserId;
use stockade_types::{RawText, UnixMillis};

use super::{
    lab::{Lab, Person},
    recorded::Machine,
};
use crate::{now, state::SessionKey};

pub(super) const ALL: u64 = u64::MAX;

/// A server with a person, her machine, and a week of records on it.
pub(super) async fn week() -> (Lab, Person, Machine, Vec<String>) {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let machine = lab.machine("laptop", Some(&lee)).await;
    let ids = invented::week(&machine.dir, 0, now().0 * 1_000_000);
    lab.take(&machine, ALL).await;
    lab.indexed().await;
    (lab, lee, machine, ids)
}

pub(super) async fn data(lab: &Lab, person: &Person, path: &str) -> Value {
    let answer = lab.get(person, path).await.is(200);
    serde_json::from_str(&answer.body).unwrap()
}

pub(super) fn list<'v>(value: &'v Value, name: &str) -> &'v Vec<Value> {
    value[name]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: {value}"))
}

/// Each page says what the records say, and its data the same.
#[tokio::test(flavor = "multi_thread")]
async fn pages_say_what_the_records_say() {
    let (lab, _, machine, ids) = week().await;
    let ann = lab.person("ann", &["viewer"]).await;
    let last = ids.last().unwrap();
    let session = data(&lab, &ann, &format!("/api/v1{}", machine.path(last))).await;
    assert!(list(&session, "rows").len() > 10, "{session}");
    assert_eq!(session["live"], true);
    let page = lab.get(&ann, &machine.path(last)).await.is(200);
    for part in [
        "chat.hooks.test:443 denied",
        "held to event",
        "data-live=\"session/",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let flows = data(&lab, &ann, "/api/v1/flows?days=7").await;
    let denied = list(&flows, "flows")
        .iter()
        .find(|flow| flow["host"] == "paste.test")
        .unwrap();
    assert_eq!(denied["verdict"], "deny");
    assert_eq!(denied["new"], true);
    let allowed = list(&flows, "flows")
        .iter()
        .find(|flow| flow["host"] == "registry.test")
        .unwrap();
    assert!(allowed["bytes_in"].as_u64() > Some(40_000), "{allowed}");
    assert!(
        allowed["connections"].as_u64() == allowed["decisions"].as_u64(),
        "{allowed}"
    );
    let draft = "/flows?days=7&draft=paste.test&port=443";
    let page = lab.get(&ann, draft).await.is(200);
    assert!(
        page.body.contains("[[allow]]") && page.body.contains("hosts = "),
        "{}",
        page.body
    );
    // A host that is not among the flows is not drafted.
    let page = lab
        .get(&ann, "/flows?draft=other.test&port=443")
        .await
        .is(200);
    assert!(!page.body.contains("Draft of a rule"));
    let findings = data(&lab, &ann, "/api/v1/findings").await;
    assert_eq!(list(&findings, "findings")[0]["severity"], "high");
    assert!(
        list(&findings, "findings")
            .iter()
            .any(|one| one["kind"] == "secret.sent")
    );
    let integrity = data(&lab, &ann, "/api/v1/integrity").await;
    let sessions: u64 = list(&integrity, "days")
        .iter()
        .filter_map(|day| day["sessions"].as_u64())
        .sum();
    assert_eq!(sessions, u64::try_from(ids.len()).unwrap());
    assert!(list(&integrity, "faults").is_empty());
    let overview = data(&lab, &ann, "/api/v1/overview").await;
    assert_eq!(overview["running"], 1);
    assert_eq!(list(&overview, "hours").len(), 24);
    assert!(!list(&overview, "new_hosts").is_empty());
}

/// A decision is told in words, with its answer, and with a rule that would allow it.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_says_why() {
    let (lab, lee, machine, _) = week().await;
    let found = data(&lab, &lee, "/api/v1/search?q=kind:net+verdict:deny").await;
    let one = &list(&found, "events")[0];
    let path = format!(
        "/decisions/{}/{}/{}",
        machine.id,
        one["session"].as_str().unwrap(),
        one["decision"]
    );
    let page = lab.get(&lee, &path).await.is(200);
    for part in [
        "denied",
        "data leaves the company",
        "no-paste",
        "ask security for a rule",
        "[[allow]]",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let decision = data(&lab, &lee, &format!("/api/v1{path}")).await;
    assert_eq!(decision["decision"]["verdict"], "deny");
    let asked = data(&lab, &lee, "/api/v1/search?q=kind:approval.requested").await;
    let one = &list(&asked, "events")[0];
    let event = format!(
        "{}/events/{}",
        machine.path(one["session"].as_str().unwrap()),
        one["seq"]
    );
    lab.get(&lee, &event).await.is(200);
    let missing = format!(
        "/decisions/{}/{}/99999",
        machine.id,
        one["session"].as_str().unwrap()
    );
    lab.get(&lee, &missing).await.is(404);
}

/// What people and models said needs a role, a reason and a fresh sign-in; the person concerned sees who
/// read it and why, and so does the record of the server.
#[tokio::test(flavor = "multi_thread")]
async fn words_need_a_role_a_reason_and_a_fresh_sign_in() {
    let (lab, lee, machine, ids) = week().await;
    let words = "baskets";
    let id = &ids[0];
    let path = machine.path(id);
    let (page, content) = (path.clone(), format!("{path}/content"));
    // Her own.
    let own = lab.get(&lee, &page).await.is(200);
    assert!(own.body.contains(words), "the control: she sees them");
    for (name, role) in [
        ("ann", "viewer"),
        ("adm", "admin"),
        ("aud", "auditor"),
        ("ana", "analyst"),
    ] {
        let person = lab.person(name, &[role]).await;
        for path in [
            page.clone(),
            format!("/api/v1{page}"),
            format!("/api/v1{page}/events"),
            format!("{page}?kind=prompt&text={words}"),
        ] {
            let seen = lab.get(&person, &path).await.is(200);
            let shown = seen.body.replace(&format!("value=\"{words}\""), "");
            assert!(!shown.contains(words), "{role} {path}");
        }
        lab.post(&person, &content, &[("reason", "because I can")])
            .await
            .is(403);
    }
    let rea = lab.person("rea", &["content-reader"]).await;
    assert!(!lab.get(&rea, &page).await.is(200).body.contains(words));
    lab.post(&rea, &content, &[]).await.is(400);
    lab.post(&rea, &content, &[("reason", "short")])
        .await
        .is(400);
    let old = UnixMillis(now().0 - 5 * 60 * 1000 - 1);
    let stale = lab.signed_in(&UserId(rea.id.clone()), old).await;
    let reason = [("reason", "incident 42 <script>window.ran=1</script>")];
    let again = lab.post(&stale, &content, &reason).await.is(303);
    assert!(again.header("location").starts_with("/login"));
    assert!(!lab.get(&rea, &page).await.is(200).body.contains(words));
    lab.post(&rea, &content, &reason).await.is(303);
    assert!(lab.get(&rea, &page).await.is(200).body.contains(words));
    stays_with_its_reason(&lab, (&rea, &lee), &machine, (id.as_str(), ids[6].as_str())).await;
}

/// What may be read is one session, by one person, for some time; and it is told.
async fn stays_with_its_reason(
    lab: &Lab,
    (rea, lee): (&Person, &Person),
    machine: &Machine,
    (id, other): (&str, &str),
) {
    let (words, page) = ("baskets", machine.path(id));
    let other = machine.path(other);
    assert!(!lab.get(rea, &other).await.is(200).body.contains(words));
    let zoe = lab.person("zoe", &["content-reader"]).await;
    assert!(!lab.get(&zoe, &page).await.is(200).body.contains(words));
    let key = SessionKey {
        node: machine.id.clone(),
        session: id.parse().unwrap(),
    };
    let by = UserId(rea.id.clone());
    let at = |minutes: u64| UnixMillis(now().0 + minutes * 60_000);
    assert!(
        lab.state
            .may_read_content(&key, &by, at(14))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        lab.state
            .may_read_content(&key, &by, at(16))
            .await
            .unwrap()
            .is_none()
    );
    let me = lab.get(lee, "/me").await.is(200);
    assert!(
        me.body.contains("rea") && me.body.contains("incident 42 &lt;script&gt;"),
        "{}",
        me.body
    );
    let aud = lab.person("auditor", &["auditor"]).await;
    let begun = Instant::now();
    loop {
        let audit = lab.get(&aud, "/audit").await.is(200);
        if audit.body.contains("content.read") {
            break;
        }
        assert!(begun.elapsed().as_secs() < 20, "{}", audit.body);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Whoever sees only own sessions learns nothing of others: not by a page, not by a search, not by a count.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_others_are_not_there() {
    let (lab, lee, machine, ids) = week().await;
    let mia = lab.person("mia", &["developer"]).await;
    let (own, none) = (
        machine.path(&ids[0]),
        format!("/sessions/{}/0000000000000000", machine.id),
    );
    for end in ["", "/events", "/events/1"] {
        for front in ["", "/api/v1"] {
            lab.get(&lee, &format!("{front}{own}{end}")).await.is(200);
            let hidden = lab.get(&mia, &format!("{front}{own}{end}")).await.is(404);
            let missing = lab.get(&mia, &format!("{front}{none}{end}")).await.is(404);
            assert_eq!(hidden.body.len(), missing.body.len(), "{front}{end}");
        }
    }
    let decision = format!("/decisions/{}/{}/0", machine.id, ids[0]);
    lab.get(&lee, &decision).await.is(200);
    lab.get(&mia, &decision).await.is(404);
    let record = format!("/integrity/{}/{}", machine.id, ids[0]);
    lab.get(&lee, &record).await.is(200);
    lab.get(&mia, &record).await.is(404);
    lab.post(&mia, &record, &[]).await.is(404);
    lab.post(&mia, &format!("{own}/stop"), &[]).await.is(404);
    let stream = format!("/api/v1/stream?topic=session/{}/{}", machine.id, ids[0]);
    lab.get(&mia, &stream).await.is(404);
    for (path, name) in [
        ("/api/v1/search?q=verdict:deny", "events"),
        ("/api/v1/search?q=machine:laptop", "events"),
        ("/api/v1/flows?days=90", "flows"),
        ("/api/v1/findings?which=all", "findings"),
        ("/api/v1/integrity", "days"),
        ("/api/v1/sessions", "sessions"),
        ("/api/v1/me", "sessions"),
    ] {
        let (seen, hidden) = (data(&lab, &lee, path).await, data(&lab, &mia, path).await);
        assert!(!list(&seen, name).is_empty(), "the control: {path}");
        assert!(list(&hidden, name).is_empty(), "{path}: {hidden}");
    }
    let overview = data(&lab, &mia, "/api/v1/overview").await;
    assert_eq!(
        (&overview["running"], &overview["new_hosts"]),
        (&Value::from(0), &Value::Null)
    );
}

/// A finding is settled by who may, after a fresh sign-in, and only one that is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_finding_is_settled_once_it_exists() {
    let (lab, lee, machine, _) = week().await;
    let ana = lab.person("ana", &["analyst"]).await;
    let findings = data(&lab, &ana, "/api/v1/findings").await;
    let id = list(&findings, "findings")[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let form = |id: &'static str| [("id", id), ("state", "expected"), ("note", "it was a test")];
    lab.post(&ana, "/findings", &form("n-99")).await.is(404);
    let wrong = format!("{}/0000000000000000/3", machine.id);
    lab.post(&ana, "/findings", &[("id", &wrong), ("state", "expected")])
        .await
        .is(404);
    lab.post(&ana, "/findings", &[("id", &id), ("state", "fine")])
        .await
        .is(400);
    lab.post(&lee, "/findings", &[("id", &id), ("state", "expected")])
        .await
        .is(403);
    let settle = [
        ("id", id.as_str()),
        ("state", "expected"),
        ("note", "it was a test"),
        ("mine", "1"),
    ];
    lab.post(&ana, "/findings", &settle).await.is(303);
    let open = data(&lab, &ana, "/api/v1/findings").await;
    assert!(
        list(&open, "findings")
            .iter()
            .all(|one| one["id"] != id.as_str())
    );
    let settled = data(&lab, &ana, "/api/v1/findings?which=settled").await;
    let one = list(&settled, "findings")
        .iter()
        .find(|one| one["id"] == id.as_str())
        .unwrap();
    assert_eq!(
        (&one["note"], &one["assignee"]),
        (&"it was a test".into(), &"ana".into())
    );
}

/// A journal on the disk of the server that was changed is found when a person has it verified.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_changed_here_is_found() {
    let (lab, _, machine, ids) = week().await;
    let aud = lab.person("aud", &["auditor"]).await;
    let path = format!("/integrity/{}/{}", machine.id, ids[1]);
    let good = lab.post(&aud, &path, &[]).await.is(200);
    assert!(
        good.body
            .contains("Every line is as it was signed, to the signed end"),
        "{}",
        good.body
    );
    let file = session_dir(&machine.dir, &ids[1].parse().unwrap()).join(JOURNAL_FILE);
    let bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    let mut opened = OpenOptions::new().write(true).open(&file).unwrap();
    opened.seek(SeekFrom::Start(at as u64)).unwrap();
    opened.write_all(&[bytes[at] ^ 1]).unwrap();
    let bad = lab.post(&aud, &path, &[]).await.is(200);
    assert!(
        bad.body.contains("is not as it was signed") && bad.body.contains("line "),
        "{}",
        bad.body
    );
    // A shorter one has no fault of its own, and is not what was receipted.
    fs::write(
        &file,
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .take(9)
            .flatten()
            .copied()
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let short = lab.post(&aud, &path, &[]).await.is(200);
    assert!(
        short
            .body
            .contains("not the one that this server has signed a receipt for"),
        "{}",
        short.body
    );
}

/// A session is ended from its page by who may, after a fresh sign-in.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_ended_by_who_may() {
    let (lab, lee, machine, ids) = week().await;
    let running = machine.path(ids.last().unwrap());
    let stop = format!("{running}/stop");
    let button = "End this session";
    for (name, role, status) in [
        ("ann", "viewer", 403),
        ("aud", "auditor", 403),
        ("sec", "security", 403),
    ] {
        let person = lab.person(name, &[role]).await;
        lab.post(&person, &stop, &[]).await.is(status);
        let page = lab.get(&person, &running).await;
        assert!(!page.body.contains(button), "{role}");
    }
    assert!(lab.get(&lee, &running).await.is(200).body.contains(button));
    let old = UnixMillis(now().0 - 5 * 60 * 1000 - 1);
    let stale = lab.signed_in(&UserId(lee.id.clone()), old).await;
    let again = lab.post(&stale, &stop, &[]).await.is(303);
    assert!(again.header("location").starts_with("/login"));
    let orders = async || lab.state.orders(&machine.id, now()).await.unwrap().len();
    assert_eq!(orders().await, 0);
    let told = lab.post(&lee, &stop, &[]).await.is(303);
    assert!(told.header("location").ends_with("?done=waits"), "{told:?}");
    assert_eq!(orders().await, 1);
    let lead = lab.person("lead", &["incident-lead"]).await;
    lab.post(&lead, &stop, &[]).await.is(303);
    assert_eq!(orders().await, 2);
    // One that has ended is not.
    lab.post(&lead, &format!("{}/stop", machine.path(&ids[0])), &[])
        .await
        .is(409);
}

/// Markup, control characters, and texts of a megabyte are on no page but as text, and no page is too long.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_session_is_text_on_every_page() {
    let hostile = "<script>window.ran=1</script><img src=x onerror=window.ran=1>\u{202e}\u{0}\u{1b}[2J'\"&lt;{{x}}";
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer", "admin"]).await;
    let machine = lab.machine(hostile, Some(&lee)).await;
    let text = RawText::from(hostile);
    let id = invented::record(&machine.dir, 2, &text);
    let long = RawText::from(format!("{hostile}{}", "x".repeat(1 << 20)).as_str());
    let second = invented::record(&machine.dir, 3, &long);
    lab.take(&machine, ALL).await;
    lab.indexed().await;
    let mut paths = vec![
        "/".to_owned(),
        "/sessions".to_owned(),
        "/flows?days=90".to_owned(),
        "/findings?which=all".to_owned(),
        "/search?q=verdict:deny".to_owned(),
        format!(
            "/search?q={}",
            url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect::<String>()
        ),
        "/integrity".to_owned(),
        "/fleet".to_owned(),
        "/me".to_owned(),
    ];
    for id in [&id, &second] {
        let path = machine.path(id);
        paths.extend([
            path.clone(),
            format!("{path}/events"),
            format!("{path}?kind=prompt"),
            format!("{path}?text=%3Cscript%3E"),
        ]);
        paths.extend((1..30).map(|seq| format!("{path}/events/{seq}")));
        paths.extend((1..30).map(|seq| format!("{path}?at={seq}")));
        paths.push(format!("/decisions/{}/{id}/1", machine.id));
        paths.push(format!("/integrity/{}/{id}", machine.id));
    }
    let mut seen = 0;
    for path in paths {
        let page = lab.get(&lee, &path).await.is(200);
        for wrong in ["<script>window", "<img", "\u{202e}", "\u{0}", "\u{1b}"] {
            assert!(!page.body.contains(wrong), "{path}: {wrong:?}");
        }
        seen += usize::from(page.body.contains("&lt;script&gt;window"));
        assert!(page.body.len() < 400_000, "{path}: {}", page.body.len());
    }
    assert!(
        seen > 20,
        "the control: it is there as text, on {seen} pages"
    );
}

/// A session of 100,000 events opens at once, and goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_session_opens_in_pages() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["viewer"]).await;
    let machine = lab.machine("laptop", None).await;
    let id = invented::record(
        &machine.dir,
        100_000 / invented::TURN_EVENTS,
        &"baskets".into(),
    );
    lab.take(&machine, ALL).await;
    let path = machine.path(&id);
    let begun = Instant::now();
    let page = lab.get(&ann, &path).await.is(200);
    let cold = begun.elapsed();
    assert!(page.body.len() < 120_000, "{}", page.body.len());
    let begun = Instant::now();
    lab.get(&ann, &format!("{path}?at=90000")).await.is(200);
    let warm = begun.elapsed();
    let begun = Instant::now();
    lab.get(&ann, &format!("{path}?verdict=deny")).await.is(200);
    let filtered = begun.elapsed();
    let times = format!("100,000 events: first {cold:?}, then {warm:?}, filtered {filtered:?}\n");
    fs::write(super::browser::pictures().join("times.txt"), times).unwrap();
    assert!(
        warm < cold,
        "what was folded is not folded again: {cold:?} {warm:?}"
    );
    lab.indexed().await;
}
