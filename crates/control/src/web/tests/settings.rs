//! The page of settings: who makes channels, what is shown of them, and what the record says.

use serde_json::{Value, json};
use stockade_policy::Strength;
use stockade_testkit::{agents, browser::faint};
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{
    browser::{AWKWARD, UNREAD, pictures, signed_in},
    lab::{Lab, form, later},
    looks::{VIOLATIONS, WEIGHT_MAX, open},
    telling::{Receiver, channel},
    together::{ask, groups},
};
use crate::{
    notice::{CHANNELS_MAX, Channel, Form, Notice},
    now, random,
    state::{Settled, TokenRow},
};

const HOSTILE: &str = "<script>window.ran=1</script>'\"&";

fn fields<'a>(receiver: &'a Receiver, url: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("name", "pager"),
        ("form", "webhook"),
        ("to", url),
        ("kind", "question.waiting"),
        ("kind", "glass.broken"),
        ("roles", "security owner"),
        ("private", "yes"),
        ("authorities", receiver.server.certificate_pem()),
    ]
}

impl Lab {
    /// Has a delivery over a channel given up, for a reason.
    async fn gives_up(&self, channel: &str, why: &str) {
        let notice = Notice::new(
            crate::notice::Kind::RolloutHalted,
            now(),
            "/rollouts".to_owned(),
        );
        let mut writing = self.state.write().await.unwrap();
        let event = format!("test {channel}");
        self.state
            .tell(&mut writing, &event, &notice)
            .await
            .unwrap();
        self.state.commit(writing).await.unwrap();
        let far = UnixMillis(now().0 + 100_000_000);
        let row = loop {
            if let Some(row) = self.state.delivery_due(channel, far).await.unwrap() {
                break row;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        let why = why.to_owned();
        let settled = Settled::Dead { why };
        self.state
            .settle_delivery(&row, &settled, now())
            .await
            .unwrap();
    }
}

/// Makes a token of a program that is an administrator.
async fn program(lab: &Lab) -> String {
    let text = format!("stkt_{}", random::secret().unwrap());
    let row = TokenRow {
        id: "t-1".to_owned(),
        name: "robot".to_owned(),
        role: "admin".to_owned(),
        created_by: String::new(),
        created: now(),
        expires: later(),
        last_used: None,
        revoked: None,
    };
    let added = lab.state.add_token(&random::hash(&text), &row).await;
    added.unwrap();
    text
}

/// An administrator makes a channel, sees its secret once, tries it, and removes it; each change is in the
/// record, and the secret parts are nowhere but in the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_made_tried_and_removed() {
    let lab = Lab::start().await;
    let admin = lab.person("root", &["admin"]).await;
    let receiver = Receiver::start();
    let url = format!("https://localhost:{}/T0/s3cret", receiver.server.port());
    let made = lab
        .post(&admin, "/settings/channels", &fields(&receiver, &url))
        .await
        .is(200);
    let secret = made.body.split("whsec_").nth(1).expect("a secret");
    let secret = secret.split('<').next().unwrap().to_owned();
    assert!(secret.len() >= 40, "{secret}");
    let page = lab.get(&admin, "/settings").await.is(200).body;
    let data = lab.get(&admin, "/api/v1/settings").await.is(200).body;
    for text in [&page, &data] {
        assert!(
            !text.contains(&secret) && !text.contains("s3cret"),
            "{text}"
        );
        assert!(text.contains("https://localhost:"), "{text}");
    }
    let data: Value = serde_json::from_str(&data).unwrap();
    let one = &data["channels"][0];
    assert_eq!(one["roles"], serde_json::json!(["owner", "security"]));
    assert_eq!(
        one["kinds"],
        serde_json::json!(["question.waiting", "glass.broken"])
    );
    let id = one["id"].as_str().unwrap().to_owned();
    let path = format!("/settings/channels/{id}");
    lab.post(&admin, &format!("{path}/test"), &[]).await.is(303);
    let told = receiver.received(1).await;
    assert_eq!(told[0].json()["type"], "channel.test");
    lab.post(&admin, &format!("{path}/remove"), &[])
        .await
        .is(303);
    lab.post(&admin, &format!("{path}/remove"), &[])
        .await
        .is(404);
    lab.post(&admin, &format!("{path}/test"), &[]).await.is(404);
    assert_eq!(lab.state.channels().await.unwrap(), []);
    // The record says who did what, without the secret parts.
    let mut audit = String::new();
    for _ in 0..200 {
        audit = lab.get(&admin, "/api/v1/audit").await.is(200).body;
        if audit.contains("channel.removed") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(
        audit.contains("channel.added") && audit.contains("channel.removed"),
        "{audit}"
    );
    assert!(audit.contains(&admin.id), "{audit}");
    assert!(
        !audit.contains("s3cret") && !audit.contains(&secret),
        "{audit}"
    );
}

/// Nobody else sees or changes channels; a strange page, an old sign-in and a program change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_makes_a_channel() {
    let lab = Lab::start().await;
    let admin = lab.person("root", &["admin"]).await;
    let receiver = Receiver::start();
    let url = format!("https://localhost:{}/", receiver.server.port());
    let row = lab.add(channel(Form::Webhook, &receiver)).await;
    let fields = fields(&receiver, &url);
    let paths = [
        "/settings/channels".to_owned(),
        format!("/settings/channels/{}/remove", row.id),
        format!("/settings/channels/{}/test", row.id),
        "/settings/deliveries/msg_0/again".to_owned(),
    ];
    for role in [
        "viewer",
        "auditor",
        "privacy-officer",
        "incident-lead",
        "security",
    ] {
        let other = lab.person(role, &[role]).await;
        for path in &paths {
            lab.post(&other, path, &fields).await.is(403);
        }
        let page = lab.get(&other, "/settings").await.is(200);
        assert!(
            !page.body.contains("pager") && !page.body.contains("New channel"),
            "{}",
            page.body
        );
        let data = lab.get(&other, "/api/v1/settings").await.is(200);
        assert!(!data.body.contains("channels"), "{}", data.body);
    }
    // Without the token of the session, and from another page.
    let own = lab.own_headers(&admin.cookie);
    let own: Vec<(&str, &str)> = own.iter().map(|(a, b)| (*a, b.as_str())).collect();
    let bearer = format!("Bearer {}", program(&lab).await);
    let programs = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let old = UnixMillis(now().0 - 5 * 60 * 1_000 - 1);
    let stale = lab.signed_in(&UserId(admin.id.clone()), old).await;
    for path in &paths {
        lab.send("POST", path, &own, &form(&fields)).await.is(403);
        lab.send("POST", path, &programs, &form(&fields))
            .await
            .is(403);
        let again = lab.post(&stale, path, &fields).await.is(303);
        assert!(again.header("location").starts_with("/login"), "{again:?}");
    }
    let channels = lab.state.channels().await.unwrap();
    assert_eq!(channels.len(), 1);
    assert_eq!(receiver.server.requests().len(), 0);
    // The control.
    lab.post(&admin, "/settings/channels", &fields)
        .await
        .is(200);
}

/// What people write into the form is checked, and stays text.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_into_the_form_is_checked() {
    let lab = Lab::start().await;
    let admin = lab.person("root", &["admin"]).await;
    let receiver = Receiver::start();
    let url = format!("https://localhost:{}/", receiver.server.port());
    let with = |name: &'static str, value: &'static str| {
        let mut all = fields(&receiver, &url);
        all.retain(|(found, _)| *found != name);
        all.push((name, value));
        all
    };
    for wrong in [
        with("name", ""),
        with("name", "a\u{202e}b"),
        with("form", "pigeon"),
        with("kind", "everything"),
        with("roles", "Security"),
        with("to", "nobody"),
        with("authorities", "no certificate"),
        with("form", "mail"),
    ] {
        let refused = lab.post(&admin, "/settings/channels", &wrong).await.is(400);
        assert!(refused.body.contains("Next:"), "{}", refused.body);
        assert!(!refused.body.contains('\u{202e}'), "{}", refused.body);
    }
    let page = lab
        .post(&admin, "/settings/channels", &with("name", HOSTILE))
        .await
        .is(200);
    assert!(!page.body.contains("<script>window"), "{}", page.body);
    let page = lab.get(&admin, "/settings").await.is(200);
    assert!(!page.body.contains("<script>window"), "{}", page.body);
    assert!(
        page.body.contains("&lt;script&gt;window.ran=1"),
        "{}",
        page.body
    );
    // No more than so many.
    for _ in 1..CHANNELS_MAX {
        lab.add(channel(Form::Slack, &receiver)).await;
    }
    let full = lab
        .post(&admin, "/settings/channels", &fields(&receiver, &url))
        .await
        .is(409);
    assert!(full.body.contains("64 are there"), "{}", full.body);
}

/// The pages with channels, what was not delivered, and equal questions, in Chromium: both colours, both ends of
/// the widths, and axe-core.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_can_be_read_and_used() {
    let axe = agents::axe();
    let lab = Lab::start().await;
    let receiver = Receiver::start();
    let mut browser = signed_in(&lab, "Ann Lee").await;
    let ann = lab.state.user_named("Ann Lee").await.unwrap().unwrap().id;
    lab.state
        .give_role(&ann, "owner", "u-1", now())
        .await
        .unwrap();
    let ann = lab.signed_in(&ann, now()).await;
    for (form, name) in [
        (Form::Webhook, HOSTILE),
        (Form::Slack, "chat of the people on call, in Lisbon"),
    ] {
        let row = lab
            .add(Channel {
                name: name.to_owned(),
                to: format!(
                    "https://a-long-name-of-a-host.hooks.example.test/{}",
                    "x".repeat(200)
                ),
                private: false,
                ..channel(form, &receiver)
            })
            .await;
        lab.gives_up(&row.id, HOSTILE).await;
    }
    for name in ["lee", "Benedikta Maria von Hohenstein-Langenberg"] {
        let requester = lab.person(name, &["developer"]).await;
        ask(&lab, &requester, "paste.test", Strength::Session).await;
    }
    let group = groups(&lab, &ann).await.remove(0).0;
    let pages = [
        ("settings", "/settings".to_owned()),
        ("inbox-group", "/inbox".to_owned()),
        ("together", format!("/inbox/together/{group}")),
    ];
    for (scheme, width, height) in [
        ("light", 1440, 900),
        ("light", 360, 740),
        ("dark", 1440, 900),
        ("dark", 360, 740),
    ] {
        browser.prefer(scheme);
        browser.size(width, height);
        for (name, path) in &pages {
            let bytes = open(&mut browser, &lab.origin, path);
            assert!(
                (20_000..=WEIGHT_MAX).contains(&bytes),
                "{name}: {bytes} bytes"
            );
            browser.picture(&pictures().join(format!("{name}-{scheme}-{width}.png")));
            let place = format!("{name} {scheme} {width}");
            assert_eq!(browser.eval(&faint(UNREAD)), json!([]), "{place}");
            assert_eq!(browser.eval(AWKWARD), json!([]), "{place}");
            assert_eq!(browser.eval("window.ran"), Value::Null, "{place}");
            assert_eq!(std::mem::take(&mut browser.complaints), [""; 0], "{place}");
            browser.eval(&axe);
            assert_eq!(browser.eval(VIOLATIONS), json!([]), "{place}");
            browser.complaints.clear();
        }
    }
    // Both questions are answered with one click.
    browser.follow("document.querySelector('button[value=allow]').click()");
    let text = browser
        .eval("document.querySelector('main').textContent")
        .to_string();
    assert!(text.contains("Your answers count"), "{text}");
    assert_eq!(groups(&lab, &ann).await, []);
}
