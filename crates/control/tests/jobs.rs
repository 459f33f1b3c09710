//! How machines of jobs enrol by the tokens of their platform, and how certificates go on.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::Method;
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use stockade_api::{
    Problem,
    node::{
        CertificateAnswer, ExpiredRequest, Install, JobEnrolAnswer, JobEnrolRequest, NewMachine,
    },
    proof_message, renewal_message,
};
use stockade_control::{
    EnrolRule,
    state::{LinkKind, LinkRow, RuleRow},
};
use stockade_journal::SigningKey;
use stockade_testkit::issuer::Issuer;
use stockade_trust::{SecretKey, UserId};
use stockade_types::UnixMillis;

use crate::common::{Client, Lab, Machine, facts, read, seed};

const AUDIENCE: &str = "https://stockade.test";

fn rule(issuer: &Issuer, claims: &[&str]) -> EnrolRule {
    EnrolRule {
        issuer: issuer.url().to_owned(),
        audience: AUDIENCE.to_owned(),
        claims: claims.iter().map(|text| text.parse().unwrap()).collect(),
        person: Some("actor".to_owned()),
        name: "repository".to_owned(),
        private: true,
        authorities: Some(issuer.certificate_pem().to_owned()),
        team: None,
    }
}

fn claims(issuer: &Issuer, jti: &str) -> Value {
    let now = stockade_control::now().0 / 1_000;
    json!({
        "iss": issuer.url(), "aud": AUDIENCE, "sub": "repo:acme/shop:ref:refs/heads/main", "jti": jti,
        "iat": now, "exp": now + 300, "repository": "acme/shop", "actor": "lee", "run_attempt": 1,
    })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn machine(lab: &Lab, seed: &[u8; 32], token: &str) -> NewMachine {
    let key = SecretKey::from_seed(seed);
    let journal = SigningKey::load_or_create(&lab.dir.path().join("journal-key")).unwrap();
    NewMachine {
        proof: URL_SAFE_NO_PAD.encode(key.sign(&proof_message(token))),
        key: key.public(),
        facts: facts(),
        journal_key: journal.verifying_key().to_string(),
        install: Install::User,
    }
}

async fn add(lab: &Lab, id: &str, rule: EnrolRule) {
    rule.check().unwrap();
    let row = RuleRow {
        id: id.to_owned(),
        rule,
        created: stockade_control::now(),
    };
    assert!(lab.server.state.add_rule(&row).await.unwrap());
}

async fn enrol(lab: &Lab, token: &str, seed: &[u8; 32]) -> (u16, Vec<u8>) {
    let request = JobEnrolRequest {
        token: token.to_owned(),
        machine: machine(lab, seed, token),
    };
    let mut stranger = lab.stranger().await;
    stranger
        .json(Method::POST, "/node/v1/enrol/job", &request)
        .await
}

async fn person(lab: &Lab, name: &str) -> UserId {
    let secret = stockade_control::secret().unwrap();
    let hash = stockade_control::hash(&secret);
    let now = stockade_control::now();
    let link = LinkRow {
        kind: LinkKind::Invite,
        name: name.to_owned(),
        roles: vec!["developer".to_owned()],
        created_by: String::new(),
        expires: UnixMillis(now.0 + 60_000),
    };
    lab.server.state.add_link(&hash, &link, now).await.unwrap();
    let id = UserId(format!("u-{name}"));
    let made = lab.server.state.redeem_link(&hash, &id, name, now).await;
    made.unwrap().unwrap().id
}

/// Returns the lines of the server's record that say that a machine was refused, in their order.
pub(crate) async fn refusals(lab: &Lab) -> Vec<String> {
    let record = lab.data().join("server-journal");
    // What was noted is in the record a moment later.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let mut all = Vec::new();
    for session in std::fs::read_dir(record.join("sessions")).unwrap() {
        let text = std::fs::read_to_string(session.unwrap().path().join("journal.jsonl")).unwrap();
        let refused = text.lines().filter(|line| line.contains("node.refused"));
        all.extend(refused.map(str::to_owned));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_enrols_once_with_the_token_of_its_platform() {
    let (lab, issuer) = (Lab::new().await, Issuer::start());
    let lee = person(&lab, "lee").await;
    add(
        &lab,
        "r-1",
        rule(&issuer, &["repository=acme/*", "run_attempt=1"]),
    )
    .await;
    let token = issuer.sign(&claims(&issuer, "j-1"));
    let own = seed();
    let answer = enrol(&lab, &token, &own).await;
    assert_eq!(answer.0, 200, "{}", String::from_utf8_lossy(&answer.1));
    let answer: JobEnrolAnswer = read(&answer);
    let node = &answer.answer.node;
    assert_eq!(answer.name, format!("acme/shop {node}"));
    // The person who has caused the job is the one whose vote does not count.
    assert_eq!(answer.answer.owner, Some(lee));
    let own_certificate = (answer.answer.certificate.as_str(), &own);
    let mut client = Client::connect(&lab, Some(own_certificate)).await.unwrap();
    // It is known by its certificate, and gets no other one: it ends with the job.
    let renewed = client.json(Method::POST, "/node/v1/cert", &()).await;
    assert_eq!(
        (renewed.0, read::<Problem>(&renewed).kind.as_str()),
        (403, "renewal-job")
    );
    // The same token again, with another key and with the same one.
    for seed in [seed(), own] {
        let again = enrol(&lab, &token, &seed).await;
        assert_eq!(
            (again.0, read::<Problem>(&again).kind.as_str()),
            (403, "enrol-token-used")
        );
    }
    // Another token of the same job, with the key of the machine that is there.
    let second = issuer.sign(&claims(&issuer, "j-2"));
    let taken = enrol(&lab, &second, &own).await;
    assert_eq!(read::<Problem>(&taken).kind, "enrol-key-taken");
    // A token that was refused is not used up: it failed for the key, not for itself.
    assert_eq!(enrol(&lab, &second, &seed()).await.0, 200);
    assert_eq!(refusals(&lab).await.len(), 3);
    // A person whom nobody knows here is nobody.
    let stranger = with(claims(&issuer, "j-3"), "actor", json!("mallory"));
    let answer: JobEnrolAnswer = read(&enrol(&lab, &issuer.sign(&stranger), &seed()).await);
    assert_eq!(answer.answer.owner, None);
    // When its certificate is over, the machine of a job is retired.
    let state = &lab.server.state;
    let node = answer.answer.node;
    lab.server
        .retire_jobs(stockade_control::now())
        .await
        .unwrap();
    assert!(state.node(&node).await.unwrap().unwrap().retired.is_none());
    let tomorrow = UnixMillis(stockade_control::now().0 + 25 * 60 * 60 * 1_000);
    lab.server.retire_jobs(tomorrow).await.unwrap();
    assert!(state.node(&node).await.unwrap().unwrap().retired.is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "one table of what is refused")]
async fn no_other_job_and_no_other_token_enrols_a_machine() {
    let (lab, issuer, other) = (Lab::new().await, Issuer::start(), Issuer::start());
    add(
        &lab,
        "r-1",
        rule(
            &issuer,
            &["repository=acme/*", "sub=repo:acme/*:ref:refs/heads/main"],
        ),
    )
    .await;
    let token = |name: &str, value: Value| issuer.sign(&with(claims(&issuer, name), name, value));
    let now = stockade_control::now().0 / 1_000;
    let good = claims(&issuer, "good");
    let rows: Vec<(&str, String)> = vec![
        ("enrol-rule-claims", token("repository", json!("evil/shop"))),
        ("enrol-rule-claims", token("repository", json!("acme/a/b"))),
        (
            "enrol-rule-claims",
            token("repository", json!(["acme/shop"])),
        ),
        ("enrol-rule-claims", token("repository", Value::Null)),
        (
            "enrol-rule-claims",
            token("sub", json!("repo:acme/shop:pull_request")),
        ),
        (
            "enrol-rule-claims",
            token(
                "sub",
                json!("repo:acme/x:environment:y:ref:refs/heads/main"),
            ),
        ),
        (
            "enrol-token-refused",
            token("aud", json!("https://another.test")),
        ),
        (
            "enrol-token-refused",
            token("aud", json!([AUDIENCE, "https://another.test"])),
        ),
        ("enrol-token-refused", token("exp", json!(now - 120))),
        ("enrol-token-refused", token("iat", json!(now + 3_600))),
        ("enrol-token-refused", token("jti", Value::Null)),
        (
            "enrol-token-refused",
            token("exp", json!(now + 2 * 24 * 3_600)),
        ),
        (
            "enrol-rule-unknown",
            token("iss", json!("https://evil.test")),
        ),
        ("enrol-rule-unknown", other.sign(&claims(&other, "other"))),
        // Signed by another who says it is this one.
        ("enrol-token-refused", other.sign(&good)),
        (
            "enrol-token-refused",
            issuer.sign_with(&json!({"alg": "none"}), &good),
        ),
        (
            "enrol-token-refused",
            issuer.sign_with(
                &json!({"alg": "EdDSA", "kid": "lab-1", "jku": other.url()}),
                &good,
            ),
        ),
        ("enrol-token-refused", "a.b.c".to_owned()),
        ("enrol-token-refused", String::new()),
        ("enrol-token-refused", format!("{}.x", issuer.sign(&good))),
        ("enrol-token-refused", "x".repeat(17 << 10)),
    ];
    let count = rows.len();
    for (kind, token) in rows {
        let refused = enrol(&lab, &token, &seed()).await;
        let problem: Problem = read(&refused);
        assert_eq!(
            (refused.0, problem.kind.as_str()),
            (403, kind),
            "{problem:?} {token}"
        );
    }
    // One event each.
    assert_eq!(refusals(&lab).await.len(), count);
    // The key has to have signed this token.
    let token = issuer.sign(&good);
    let mut request = JobEnrolRequest {
        machine: machine(&lab, &seed(), "another token"),
        token: token.clone(),
    };
    let mut stranger = lab.stranger().await;
    let path = "/node/v1/enrol/job";
    let unproved = stranger.json(Method::POST, path, &request).await;
    assert_eq!(
        (unproved.0, read::<Problem>(&unproved).kind.as_str()),
        (400, "enrol-request")
    );
    request.machine = machine(&lab, &seed(), &token);
    let mut strange = serde_json::to_value(&request).unwrap();
    strange["machine"]["owner"] = json!("lee");
    assert_eq!(stranger.json(Method::POST, path, &strange).await.0, 400);
    // None of this has used the token, and nobody else was asked anything.
    assert_eq!(stranger.json(Method::POST, path, &request).await.0, 200);
    assert!(other.requests().is_empty());
}

#[test]
fn a_rule_that_excludes_nobody_is_refused() {
    let issuer = Issuer::start();
    assert!(rule(&issuer, &["repository=acme/*"]).check().is_ok());
    for claims in [
        &[][..],
        &["repository=*"][..],
        &["repository=**", "actor=*"][..],
    ] {
        assert!(rule(&issuer, claims).check().is_err(), "{claims:?}");
    }
    let mut plain = rule(&issuer, &["repository=acme/*"]);
    plain.issuer = "http://login.test".to_owned();
    assert!(plain.check().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_in_a_private_network_is_asked_only_if_a_rule_says_so() {
    let (lab, issuer) = (Lab::new().await, Issuer::start());
    let mut closed = rule(&issuer, &["repository=acme/*"]);
    closed.private = false;
    add(&lab, "r-1", closed).await;
    let refused = enrol(&lab, &issuer.sign(&claims(&issuer, "j-1")), &seed()).await;
    assert_eq!(
        (refused.0, read::<Problem>(&refused).kind.as_str()),
        (503, "enrol-issuer")
    );
    assert!(issuer.requests().is_empty());
}

fn renewal(lab: &Lab, machine: &Machine, seed: &[u8; 32], at: UnixMillis) -> ExpiredRequest {
    let key = SecretKey::from_seed(seed);
    let message = renewal_message(&lab.server.settings.org, &machine.id, at);
    ExpiredRequest {
        node: machine.id.clone(),
        at,
        proof: URL_SAFE_NO_PAD.encode(key.sign(&message)),
    }
}

async fn ask(lab: &Lab, request: &ExpiredRequest) -> (u16, Vec<u8>) {
    let mut stranger = lab.stranger().await;
    stranger
        .json(Method::POST, "/node/v1/cert/expired", request)
        .await
}

/// A machine that was away gets a certificate by its key alone; nobody else does.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "one table of what is refused")]
async fn a_machine_that_was_away_is_let_in_again_by_its_key() {
    let lab = Lab::new().await;
    let machine = lab.machine(None).await;
    let now = stockade_control::now();
    let good = renewal(&lab, &machine, &machine.seed, now);
    let renewed: CertificateAnswer = read(&ask(&lab, &good).await);
    let certificate = (renewed.certificate.as_str(), &machine.seed);
    let mut client = Client::connect(&lab, Some(certificate)).await.unwrap();
    assert_eq!(client.json(Method::POST, "/node/v1/cert", &()).await.0, 200);
    // What was sent once can be sent again by anybody; the certificate is for the machine's key.
    let again: CertificateAnswer = read(&ask(&lab, &good).await);
    let thief = (again.certificate.as_str(), &seed());
    if let Ok(mut client) = Client::connect(&lab, Some(thief)).await {
        assert_eq!(client.json(Method::POST, "/node/v1/cert", &()).await.0, 0);
    }
    let second = lab.machine(None).await;
    let mut other_node = renewal(&lab, &machine, &machine.seed, now);
    other_node.node = second.id.clone();
    let mut other_time = good.clone();
    other_time.at = UnixMillis(now.0 + 1);
    let mut unknown = good.clone();
    unknown.node = stockade_api::NodeId::from_random(7);
    for (kind, wrong) in [
        (
            "renewal-unknown",
            renewal(&lab, &machine, &second.seed, now),
        ),
        ("renewal-unknown", other_node),
        ("renewal-unknown", other_time),
        ("renewal-unknown", unknown),
        (
            "renewal-time",
            renewal(&lab, &machine, &machine.seed, UnixMillis(now.0 - 600_000)),
        ),
        (
            "renewal-time",
            renewal(&lab, &machine, &machine.seed, UnixMillis(now.0 + 600_000)),
        ),
    ] {
        let refused = ask(&lab, &wrong).await;
        assert_eq!(
            (refused.0, read::<Problem>(&refused).kind.as_str()),
            (403, kind)
        );
    }
    assert_eq!(refusals(&lab).await.len(), 6);
    // Six days after the end of its certificate it is let in, and eight days after it not.
    let day = 24 * 60 * 60 * 1_000;
    for (days, status) in [(6, 200), (8, 403)] {
        let now = stockade_control::now().0;
        let old = UnixMillis(now - (days + 1) * day);
        let key = SecretKey::from_seed(&machine.seed).public();
        let old = lab
            .server
            .authority
            .node_at(&machine.id, &key, old)
            .unwrap();
        // All newer ones are forgotten.
        let later = UnixMillis(now + 2 * day);
        let state = &lab.server.state;
        state
            .add_certificate(&machine.id, &old, later)
            .await
            .unwrap();
        let asked = ask(
            &lab,
            &renewal(&lab, &machine, &machine.seed, UnixMillis(now)),
        )
        .await;
        assert_eq!(
            asked.0,
            status,
            "{days} days: {}",
            String::from_utf8_lossy(&asked.1)
        );
        if status == 403 {
            assert_eq!(read::<Problem>(&asked).kind, "renewal-late");
        }
    }
    // A machine that was retired is not let in, whatever it has.
    assert!(lab.server.retire(&machine.id, "test").await.unwrap());
    let now = stockade_control::now();
    let retired = ask(&lab, &renewal(&lab, &machine, &machine.seed, now)).await;
    assert_eq!(
        (retired.0, read::<Problem>(&retired).kind.as_str()),
        (403, "renewal-unknown")
    );
}

/// A hundred days of a machine: the certificate that it has is always one that TLS and the state accept; when
/// it was away for some days it is let in again, and for more than a week it is not.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_go_on_for_a_hundred_days() {
    const HOUR: u64 = 60 * 60 * 1_000;
    let lab = Lab::new().await;
    let machine = lab.machine(None).await;
    let (server, key) = (&lab.server, SecretKey::from_seed(&machine.seed).public());
    let begun = stockade_control::now();
    let roots = {
        let mut roots = RootCertStore::empty();
        roots.add(server.authority.certificate().clone()).unwrap();
        Arc::new(roots)
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let verifier = verifier.build().unwrap();
    let is_valid = |pem: &str, at: UnixMillis| {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_millis(at.0));
        verifier.verify_client_cert(&der, &[], at).is_ok()
    };
    let mut current = server.authority.node_at(&machine.id, &key, begun).unwrap();
    server
        .state
        .add_certificate(&machine.id, &current, begun)
        .await
        .unwrap();
    let mut renewals = 0;
    for hour in 1..=100 * 24 {
        let now = UnixMillis(begun.0 + hour * HOUR);
        assert!(is_valid(&current.pem, now), "hour {hour}");
        let known = server
            .state
            .node_of(&current.fingerprint, now)
            .await
            .unwrap();
        assert!(known.is_some(), "hour {hour}");
        if hour % 12 == 0 {
            current = server.authority.node_at(&machine.id, &key, now).unwrap();
            server
                .state
                .add_certificate(&machine.id, &current, now)
                .await
                .unwrap();
            renewals += 1;
        }
    }
    assert_eq!(renewals, 200);
    let end = UnixMillis(begun.0 + 100 * 24 * HOUR);
    // After a day without renewal it is over, for TLS and for the state.
    let day = UnixMillis(end.0 + 24 * HOUR + 1);
    assert!(!is_valid(&current.pem, UnixMillis(day.0 + 1_000)));
    assert!(
        server
            .state
            .node_of(&current.fingerprint, day)
            .await
            .unwrap()
            .is_none()
    );
    // The server still knows until when it had one, to say whether a request by its key comes too late.
    let last = server.state.last_certificate(&machine.id).await.unwrap();
    assert_eq!(last, Some(current.not_after));
}
