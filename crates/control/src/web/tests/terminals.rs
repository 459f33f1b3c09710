//! Terminals: signing in by a code, what their tokens are good for, and approver keys.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use stockade_api::terminal::key_message;
use stockade_trust::{Directory, SecretKey, UserId};
use stockade_types::UnixMillis;

use super::lab::{Answer, Lab, Person, form};
use crate::{
    keys::only,
    now,
    web::{routes::routes, serving::Needs},
};

impl Lab {
    /// Sends what a terminal sends that has no token.
    async fn terminal(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let headers = self.own_headers("");
        let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (*a, b.as_str())).collect();
        self.send("POST", path, &headers, &form(fields)).await
    }

    async fn begins(&self) -> (String, String) {
        let answer = self.terminal("/api/v1/device/code", &[("machine", "laptop")]);
        let said: Value = serde_json::from_str(&answer.await.is(200).body).unwrap();
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        assert_eq!(said["expires_in"], 600);
        (text("device_code"), text("user_code"))
    }

    async fn confirms(&self, person: &Person, code: &str) -> Answer {
        let fields = [("code", code), ("choice", "confirm")];
        self.post(person, "/device", &fields).await
    }

    /// Signs a terminal in, and returns its token.
    async fn token(&self, person: &Person) -> String {
        let (device, code) = self.begins().await;
        self.confirms(person, &code).await.is(303);
        let fields = [("device_code", device.as_str()), ("person", &person.id)];
        let answer = self.terminal("/api/v1/device/token", &fields).await.is(200);
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        said["token"].as_str().unwrap().to_owned()
    }

    async fn with(&self, token: &str, method: &str, path: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.send(method, path, &headers, "").await.status
    }

    async fn people(&self) -> Directory {
        let envelope = self.server.directory().await.unwrap();
        envelope.open(&only(&self.server.keys.people)).unwrap()
    }
}

fn kind(answer: &Answer) -> String {
    let said: Value = serde_json::from_str(&answer.body).unwrap();
    said["type"].as_str().unwrap().to_owned()
}

/// The line by which a person registers a key.
fn line(key: &SecretKey, org: &str, person: &str) -> String {
    let message = key_message(org, &UserId(person.to_owned()), &key.public());
    let signature = URL_SAFE_NO_PAD.encode(key.sign(&message));
    format!("{} {signature}", key.public())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_the_token_of_who_confirms_once() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["security"]).await;
    let eve = lab.person("eve", &["security"]).await;
    let (device, code) = lab.begins().await;
    let asks = [("device_code", device.as_str())];
    let early = lab.terminal("/api/v1/device/token", &asks).await.is(400);
    assert_eq!(kind(&early), "slow_down");
    let as_ann = [("device_code", device.as_str()), ("person", &ann.id)];
    let nobody = lab.terminal("/api/v1/device/token", &as_ann).await.is(400);
    assert_eq!(kind(&nobody), "expired_token");
    // The page shows what asks, and what it means; a GET confirms nothing.
    let page = lab.get(&ann, &format!("/device?code={code}")).await.is(200);
    assert!(page.body.contains(&code));
    let page = lab.post(&ann, "/device", &[("code", &code)]).await.is(200);
    for part in ["laptop", "127.0.0.1", "would answer in your name"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let nobody = lab.terminal("/api/v1/device/token", &as_ann).await.is(400);
    assert_eq!(kind(&nobody), "expired_token");
    lab.confirms(&ann, &code.to_lowercase().replace('-', " "))
        .await
        .is(303);
    lab.confirms(&eve, &code).await.is(400);
    // Who does not name the person gets no token.
    let as_eve = [("device_code", device.as_str()), ("person", &eve.id)];
    lab.terminal("/api/v1/device/token", &as_eve).await.is(400);
    let taken = lab.terminal("/api/v1/device/token", &as_ann).await.is(200);
    assert!(taken.body.contains("stkp_"), "{}", taken.body);
    let again = lab.terminal("/api/v1/device/token", &as_ann).await.is(400);
    assert_eq!(kind(&again), "expired_token");
    // The state has a hash, and the record each step.
    let said: Value = serde_json::from_str(&taken.body).unwrap();
    let token = said["token"].as_str().unwrap();
    assert_eq!(lab.with(token, "GET", "/api/v1/terminal").await, 200);
    assert!(lab.state.terminal(token, now()).await.unwrap().is_none());
    let admin = lab.person("lee", &["admin"]).await;
    let begun = std::time::Instant::now();
    loop {
        let record = lab.get(&admin, "/api/v1/audit").await.is(200).body;
        let steps = ["device.asked", "device.confirmed", "terminal.signed_in"];
        if steps.iter().all(|step| record.contains(step)) {
            assert!(!record.contains(token) && !record.contains(&device));
            break;
        }
        assert!(begun.elapsed().as_secs() < 20, "{record}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_needs_a_fresh_sign_in_and_no_guess_and_can_be_refused() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["security"]).await;
    let (device, code) = lab.begins().await;
    let id = UserId(ann.id.clone());
    let old = lab.signed_in(&id, UnixMillis(now().0 - 6 * 60_000)).await;
    let stale = lab.confirms(&old, &code).await.is(303);
    assert!(stale.header("location").starts_with("/login"));
    let stranger = lab.confirms(&Person::default(), &code).await.is(303);
    assert!(stranger.header("location").starts_with("/login"));
    let fields = [("code", code.as_str()), ("choice", "refuse")];
    let refused = lab.post(&ann, "/device", &fields).await.is(303);
    assert!(refused.header("location").contains("refused"));
    lab.confirms(&ann, &code).await.is(400);
    let as_ann = [("device_code", device.as_str()), ("person", &ann.id)];
    lab.terminal("/api/v1/device/token", &as_ann).await.is(400);
    // The one above was the first wrong code.
    for _ in 0..4 {
        lab.confirms(&ann, "ZZZZ-ZZZZ").await.is(400);
    }
    let (_, right) = lab.begins().await;
    lab.confirms(&ann, &right).await.is(429);
    let ben = lab.person("ben", &["security"]).await;
    lab.confirms(&ben, &right).await.is(303);
    // No page of others begins one, and no place begins many.
    let elsewhere = [
        ("origin", "https://evil.test"),
        ("sec-fetch-site", "cross-site"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let path = "/api/v1/device/code";
    lab.send("POST", path, &elsewhere, "machine=x")
        .await
        .is(403);
    for name in ["", "a\u{202e}b", "a\nb", &"x".repeat(65)] {
        lab.terminal(path, &[("machine", name)]).await.is(400);
    }
    let mut begun = 2;
    while lab.terminal(path, &[("machine", "x")]).await.status == 200 {
        begun += 1;
        assert!(begun <= 10);
    }
    assert_eq!(begun, 10);
}

/// The token of a terminal sees and answers questions; whatever else its person may do, it may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_good_for_questions_alone() {
    let lab = Lab::start().await;
    let roles = [
        "admin",
        "security",
        "incident-lead",
        "auditor",
        "fleet-operator",
    ];
    let ann = lab.person("ann", &roles).await;
    let token = lab.token(&ann).await;
    let (mut open, mut closed) = (0, 0);
    for route in routes() {
        if route.needs == Needs::Nothing || route.path == "/api/v1/terminal/logout" {
            continue;
        }
        let path = route.path.replace("{question}", "q-0000000000000000");
        let path = path.replace(['{', '}'], "");
        let status = lab.with(&token, route.method.as_str(), &path).await;
        let is_of_terminals = ["/api/v1/questions", "/api/v1/terminal"]
            .iter()
            .any(|base| path.starts_with(base));
        if is_of_terminals {
            assert_ne!(status, 403, "{path}");
            open += 1;
        } else {
            assert_eq!(status, 403, "{path}");
            closed += 1;
        }
    }
    assert!(open >= 6 && closed > 40, "{open} {closed}");
    for path in [
        "/api/v1/questionsx",
        "/api/v1/questions/../people",
        "/api/v1/terminal/../people",
    ] {
        let status = lab.with(&token, "GET", path).await;
        assert!([403, 404].contains(&status), "{path}: {status}");
    }
}

/// Revoked, signed out, or removed: it is over at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_out_at_once() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["security"]).await;
    let token = lab.token(&ann).await;
    let others = [
        lab.token(&ann).await,
        lab.token(&ann).await,
        lab.token(&ann).await,
    ];
    let own = lab
        .state
        .terminals(&UserId(ann.id.clone()), now())
        .await
        .unwrap();
    assert_eq!(own.len(), 4);
    assert_eq!(
        lab.with(&others[0], "POST", "/api/v1/terminal/logout")
            .await,
        200
    );
    assert_eq!(lab.with(&others[0], "GET", "/api/v1/terminal").await, 401);
    let eve = lab.person("eve", &["security"]).await;
    let id = own
        .iter()
        .find(|row| row.id != own[0].id)
        .unwrap()
        .id
        .clone();
    lab.post(&eve, "/me/terminals/revoke", &[("id", &id)])
        .await
        .is(404);
    lab.post(&ann, "/me/terminals/revoke", &[("id", &id)])
        .await
        .is(303);
    let mut alive = Vec::new();
    for token in [&token, &others[1], &others[2]] {
        alive.push(lab.with(token, "GET", "/api/v1/terminal").await);
    }
    alive.sort_unstable();
    assert_eq!(alive, [200, 200, 401]);
    let admin = lab.person("lee", &["admin"]).await;
    lab.post(&admin, &format!("/people/{}/remove", ann.id), &[])
        .await
        .is(303);
    for token in [&token, &others[1], &others[2]] {
        assert_eq!(lab.with(token, "GET", "/api/v1/terminal").await, 401);
    }
}

/// Lines that register nothing: without a signature, for another person or organisation.
fn not_hers(key: &SecretKey, (org, ann, lee): (&str, &str, &str)) -> Vec<String> {
    let other = SecretKey::from_seed(&[6; 32]);
    let (own, others) = (key.public().to_string(), other.public().to_string());
    vec![
        String::new(),
        own.clone(),
        format!("{own} AAAA"),
        line(key, org, lee),
        line(key, "other", ann),
        line(&other, org, ann).replacen(&others, &own, 1),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_once_another_person_has_approved_it() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["security"]).await;
    let lee = lab.person("lee", &["admin"]).await;
    let mia = lab.person("mia", &["admin"]).await;
    let org = lab.state.org().to_owned();
    let key = SecretKey::from_seed(&[5; 32]);
    let add = async |person: &Person, line: &str| {
        lab.post(person, "/me/keys", &[("key", line), ("label", "laptop")])
            .await
            .status
    };
    for wrong in not_hers(&key, (&org, &ann.id, &lee.id)) {
        assert_eq!(add(&ann, &wrong).await, 400, "{wrong}");
    }
    let old = lab
        .signed_in(&UserId(ann.id.clone()), UnixMillis(now().0 - 6 * 60_000))
        .await;
    assert_eq!(add(&old, &line(&key, &org, &ann.id)).await, 303);
    assert!(
        lab.state.approver_keys().await.unwrap().is_empty(),
        "it only leads to the sign-in"
    );
    assert_eq!(add(&ann, &line(&key, &org, &ann.id)).await, 303);
    assert_eq!(add(&ann, &line(&key, &org, &ann.id)).await, 409);
    let known = async || {
        let people = lab.people().await;
        let keys = people.people.iter().flat_map(|user| user.keys.clone());
        keys.collect::<Vec<_>>()
    };
    assert!(known().await.is_empty(), "nobody has approved it");
    let id = lab.state.approver_keys().await.unwrap()[0].id.clone();
    lab.post(&ann, "/keys/approve", &[("id", &id)])
        .await
        .is(403);
    lab.post(&lee, "/keys/approve", &[("id", "x")])
        .await
        .is(404);
    let page = lab.get(&lee, "/keys").await.is(200);
    assert!(page.body.contains(&key.public().to_string()));
    lab.post(&lee, "/keys/approve", &[("id", &id)])
        .await
        .is(303);
    assert_eq!(known().await, [key.public()]);
    lab.post(&mia, "/keys/approve", &[("id", &id)])
        .await
        .is(409);
    // Who manages people does not approve an own one.
    let own = SecretKey::from_seed(&[7; 32]);
    assert_eq!(add(&lee, &line(&own, &org, &lee.id)).await, 303);
    let own_id = lab.state.approver_keys().await.unwrap()[0].id.clone();
    lab.post(&lee, "/keys/approve", &[("id", &own_id)])
        .await
        .is(403);
    lab.post(&mia, "/keys/approve", &[("id", &own_id)])
        .await
        .is(303);
    assert_eq!(known().await.len(), 2);
    revoked(
        &lab,
        (&ann, &mia),
        [&id, &own_id],
        &line(&key, &org, &ann.id),
    )
    .await;
    // As many as fit.
    for seed in 20..25 {
        let next = SecretKey::from_seed(&[seed; 32]);
        assert_eq!(add(&ann, &line(&next, &org, &ann.id)).await, 303);
    }
    let next = SecretKey::from_seed(&[30; 32]);
    assert_eq!(add(&ann, &line(&next, &org, &ann.id)).await, 409);
}

/// Nobody else revokes a key but who manages people, and it never comes back.
async fn revoked(lab: &Lab, (ann, mia): (&Person, &Person), [id, own_id]: [&str; 2], again: &str) {
    lab.post(ann, "/me/keys/revoke", &[("id", own_id)])
        .await
        .is(404);
    lab.post(ann, "/keys/revoke", &[("id", own_id)])
        .await
        .is(403);
    lab.post(ann, "/me/keys/revoke", &[("id", id)])
        .await
        .is(303);
    lab.post(mia, "/keys/revoke", &[("id", own_id)])
        .await
        .is(303);
    let people = lab.people().await.people;
    assert!(people.iter().all(|user| user.keys.is_empty()));
    lab.post(ann, "/me/keys", &[("key", again)]).await.is(409);
}
