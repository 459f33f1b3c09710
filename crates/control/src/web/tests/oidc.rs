//! Signing in at a provider: at a certified one in Chromium, and at one that says whatever it wants.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use stockade_testkit::{
    browser::Browser,
    issuer::{CertifiedProvider, Issuer, ProviderClient},
};
use stockade_trust::UserId;
use stockade_types::Digest;

use super::lab::{Answer, Lab, Person};
use crate::{OidcSettings, now};

const PATIENCE: Duration = Duration::from_secs(30);
const CLIENT: &str = "stockade";

fn settings(issuer: &str, authorities: &str) -> OidcSettings {
    let roles = [("dev", "developer"), ("sec", "security"), ("boss", "admin")];
    let roles = roles.map(|(group, role)| (group.to_owned(), vec![role.to_owned()]));
    OidcSettings {
        issuer: issuer.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: Some("a secret of the lab".to_owned()),
        groups_claim: "groups".to_owned(),
        name_claim: "preferred_username".to_owned(),
        roles: BTreeMap::from(roles),
        private: true,
        authorities: Some(authorities.to_owned()),
    }
}

/// A server, and a provider that says whatever a test wants.
struct Scripted {
    lab: Lab,
    issuer: Issuer,
}

/// An attempt to sign in that has begun.
struct Begun {
    cookie: String,
    state: String,
    nonce: String,
    query: BTreeMap<String, String>,
}

impl Scripted {
    async fn start() -> Self {
        let issuer = Issuer::start();
        let settings = settings(issuer.url(), issuer.certificate_pem());
        Self {
            lab: Lab::start_with(Some(settings)).await,
            issuer,
        }
    }

    /// Begins to sign in, in the browser of a person.
    async fn begin(&self, person: &Person) -> Begun {
        let answer = self.lab.get(person, "/login/oidc?next=/me").await.is(303);
        let place = url::Url::parse(answer.header("location")).unwrap();
        let query: BTreeMap<String, String> = place.query_pairs().into_owned().collect();
        let cookie = answer.header("set-cookie");
        Begun {
            cookie: cookie.split(';').next().unwrap().to_owned(),
            state: query["state"].clone(),
            nonce: query["nonce"].clone(),
            query,
        }
    }

    fn claims(&self, begun: &Begun, subject: &str, groups: &[&str]) -> Value {
        let now = now().0 / 1_000;
        json!({
            "iss": self.issuer.url(), "aud": CLIENT, "sub": subject, "nonce": begun.nonce,
            "iat": now, "exp": now + 300, "auth_time": now, "amr": ["pwd", "hwk"],
            "preferred_username": subject, "groups": groups,
        })
    }

    /// Comes back from the provider with a code, for which it gives a token with these claims.
    async fn back(&self, begun: &Begun, claims: &Value) -> Answer {
        self.issuer.put(self.issuer.sign(claims));
        self.callback(&begun.cookie, &format!("code=c&state={}", begun.state))
            .await
    }

    async fn callback(&self, cookie: &str, query: &str) -> Answer {
        let path = format!("/login/oidc/callback?{query}");
        self.lab.send("GET", &path, &[("cookie", cookie)], "").await
    }

    async fn sign_in(&self, subject: &str, groups: &[&str]) -> Answer {
        let begun = self.begin(&Person::default()).await;
        let claims = self.claims(&begun, subject, groups);
        self.back(&begun, &claims).await
    }

    /// Signs somebody in, so that failures before do not keep this place out.
    async fn settle(&self) {
        self.sign_in("ann", &["dev"]).await.is(303);
    }

    async fn roles(&self, name: &str) -> Vec<String> {
        let user = self.lab.state.user_named(name).await.unwrap();
        user.expect("the person is there").roles
    }
}

fn person(answer: &Answer) -> Person {
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("SameSite=Strict"), "{cookie}");
    Person {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        ..Person::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_give_roles_and_take_them_again() {
    let scripted = Scripted::start().await;
    let ann = scripted
        .sign_in("ann", &["dev", "sec", "unknown"])
        .await
        .is(303);
    assert_eq!(ann.header("location"), "/me");
    let me = scripted.lab.get(&person(&ann), "/api/v1/me").await.is(200);
    let me: Value = serde_json::from_str(&me.body).unwrap();
    assert_eq!(me["name"], "ann");
    assert_eq!(me["roles"], json!(["developer", "security"]));
    assert_eq!(me["signed_in_by"], "oidc:pwd+hwk");
    // A role that an administrator gives stays; those of groups go with the groups.
    let id = UserId(me["id"].as_str().unwrap().to_owned());
    scripted
        .lab
        .state
        .give_role(&id, "viewer", "u-1", now())
        .await
        .unwrap();
    scripted.sign_in("ann", &["boss"]).await.is(303);
    assert_eq!(scripted.roles("ann").await, ["admin", "viewer"]);
    // The same person under another name there is the same person here.
    let begun = scripted.begin(&Person::default()).await;
    let mut claims = scripted.claims(&begun, "ann", &["dev"]);
    claims["preferred_username"] = json!("Ann the second");
    scripted.back(&begun, &claims).await.is(303);
    assert_eq!(scripted.roles("ann").await, ["developer", "viewer"]);
    // Machines learn of people with roles of groups as of all others.
    assert_eq!(scripted.lab.state.users().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_group_that_counts_nobody_is_let_in_and_sessions_end() {
    let scripted = Scripted::start().await;
    let nobody = scripted.sign_in("ben", &["unknown"]).await.is(403);
    assert!(
        nobody.body.contains("none of your groups"),
        "{}",
        nobody.body
    );
    assert!(
        scripted
            .lab
            .state
            .user_named("ben")
            .await
            .unwrap()
            .is_none()
    );
    let first = person(&scripted.sign_in("ben", &["dev"]).await.is(303));
    scripted.lab.get(&first, "/me").await.is(200);
    scripted.sign_in("ben", &[]).await.is(403);
    assert_eq!(scripted.roles("ben").await, [""; 0]);
    // The browser in which he was signed in is signed out.
    scripted.lab.get(&first, "/me").await.is(303);
    scripted.lab.get(&first, "/api/v1/me").await.is(401);
    // With the group he is there again.
    scripted.sign_in("ben", &["dev"]).await.is(303);
    // Who was removed here stays removed, whatever the provider says.
    let ben = scripted
        .lab
        .state
        .user_named("ben")
        .await
        .unwrap()
        .unwrap()
        .id;
    scripted.lab.person("root", &["admin"]).await;
    assert!(
        scripted
            .lab
            .state
            .deactivate_user(&ben, "u-1", now())
            .await
            .unwrap()
    );
    let removed = scripted.sign_in("ben", &["dev"]).await.is(403);
    assert!(
        removed.body.contains("you were removed"),
        "{}",
        removed.body
    );
}

/// Groups that a provider leaves out are not no groups: the person learns what to change.
#[tokio::test(flavor = "multi_thread")]
async fn groups_that_were_left_out_and_names_that_are_taken_are_errors() {
    let scripted = Scripted::start().await;
    let begun = scripted.begin(&Person::default()).await;
    let mut claims = scripted.claims(&begun, "ann", &["dev"]);
    claims.as_object_mut().unwrap().remove("groups");
    claims["_claim_names"] = json!({"groups": "src1"});
    let told = scripted.back(&begun, &claims).await.is(403);
    assert!(told.body.contains("groups overage"), "{}", told.body);
    scripted.lab.person("carl", &["viewer"]).await;
    let told = scripted.sign_in("carl", &["boss"]).await.is(409);
    assert!(told.body.contains("another person here"), "{}", told.body);
    assert_eq!(scripted.roles("carl").await, ["viewer"]);
    // A name that looks like another one by what nobody sees is no name.
    let begun = scripted.begin(&Person::default()).await;
    let mut claims = scripted.claims(&begun, "eve", &["dev"]);
    claims["preferred_username"] = json!("ca\u{200b}rl");
    scripted.back(&begun, &claims).await.is(400);
}

/// An attempt is for one browser, one nonce, one time; the answer is of the provider that was asked.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "one table of what is refused")]
async fn no_other_answer_signs_anybody_in() {
    let scripted = Scripted::start().await;
    let nobody = Person::default();
    let begun = scripted.begin(&nobody).await;
    assert_eq!(begun.query["code_challenge_method"], "S256");
    assert_eq!(begun.query["response_type"], "code");
    assert_eq!(
        begun.query["redirect_uri"],
        format!("{}/login/oidc/callback", scripted.lab.origin)
    );
    let good = scripted.claims(&begun, "ann", &["dev"]);
    scripted.issuer.put(scripted.issuer.sign(&good));
    let other = scripted.begin(&nobody).await;
    let state = &begun.state;
    // Without the cookie, with that of another browser, and with a state that nobody drew. The first ends
    // nothing; the second ends the attempt, because somebody else has its name.
    scripted
        .callback("", &format!("code=c&state={state}"))
        .await
        .is(400);
    scripted
        .callback(&begun.cookie, "code=c&state=nonsense")
        .await
        .is(400);
    scripted.callback(&begun.cookie, "code=c").await.is(400);
    scripted
        .callback(&other.cookie, &format!("code=c&state={state}"))
        .await
        .is(400);
    scripted
        .callback(&begun.cookie, &format!("code=c&state={state}"))
        .await
        .is(400);
    // Five failures make the place wait.
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The positive control, which counts once.
    let begun = scripted.begin(&nobody).await;
    let claims = scripted.claims(&begun, "ann", &["dev"]);
    scripted.back(&begun, &claims).await.is(303);
    scripted.back(&begun, &claims).await.is(400);
    // What the answer and the token can say otherwise.
    for (query, change) in [
        ("code=c&iss=https://evil.test", json!({})),
        ("code=", json!({})),
        ("error=access_denied", json!({})),
        ("code=c", json!({"nonce": "another"})),
        ("code=c", json!({"aud": "another"})),
        ("code=c", json!({"iss": "https://evil.test"})),
        ("code=c", json!({"exp": 1})),
        ("code=c", json!({"sub": ""})),
    ] {
        scripted.settle().await;
        let begun = scripted.begin(&nobody).await;
        let mut claims = scripted.claims(&begun, "ann", &["dev"]);
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        scripted.issuer.put(scripted.issuer.sign(&claims));
        let query = format!("{query}&state={}", begun.state);
        let answer = scripted.callback(&begun.cookie, &query).await.is(400);
        assert_eq!(answer.header("set-cookie"), "", "{query}");
    }
    // A token that is not signed by a key of the provider, or not at all.
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "EdDSA", "kid": "another"}),
        json!({"alg": "EdDSA", "kid": "lab-1", "jku": "https://evil.test/keys"}),
    ] {
        let begun = scripted.begin(&nobody).await;
        let claims = scripted.claims(&begun, "ann", &["dev"]);
        scripted
            .issuer
            .put(scripted.issuer.sign_with(&header, &claims));
        let query = format!("code=c&state={}", begun.state);
        scripted.callback(&begun.cookie, &query).await.is(400);
    }
    scripted.settle().await;
    // What a provider says is shown and not run, and no next page leads to another site.
    let begun = scripted.begin(&nobody).await;
    let query = format!(
        "error=%3Cscript%3Ealert(1)%3C/script%3E&state={}",
        begun.state
    );
    let told = scripted.callback(&begun.cookie, &query).await.is(400);
    assert!(!told.body.contains("<script>alert"), "{}", told.body);
    let away = scripted
        .lab
        .get(&nobody, "/login/oidc?next=//evil.test")
        .await
        .is(303);
    assert!(away.header("location").starts_with(scripted.issuer.url()));
}

/// A person who proves again who it is has to be the same one, and to have done so lately.
#[tokio::test(flavor = "multi_thread")]
async fn proving_again_is_by_the_same_person_and_lately() {
    let scripted = Scripted::start().await;
    let ann = person(&scripted.sign_in("ann", &["dev"]).await.is(303));
    let begun = scripted.begin(&ann).await;
    assert_eq!(begun.query["max_age"], "240");
    let other = scripted.claims(&begun, "ben", &["dev"]);
    scripted.back(&begun, &other).await.is(400);
    scripted.lab.get(&ann, "/me").await.is(200);
    let at = now().0 / 1_000;
    for auth_time in [json!(at - 600), Value::Null] {
        let begun = scripted.begin(&ann).await;
        let mut stale = scripted.claims(&begun, "ann", &["dev"]);
        stale["auth_time"] = auth_time;
        scripted.back(&begun, &stale).await.is(400);
    }
    let begun = scripted.begin(&ann).await;
    let mut claims = scripted.claims(&begun, "ann", &["dev"]);
    claims["auth_time"] = json!(at - 100);
    let again = person(&scripted.back(&begun, &claims).await.is(303));
    let me = scripted.lab.get(&again, "/api/v1/me").await.is(200);
    let me: Value = serde_json::from_str(&me.body).unwrap();
    // It counts from when the provider says, not from when the browser came back.
    assert_eq!(me["signed_in"], json!((at - 100) * 1_000));
    // The session before is over.
    scripted.lab.get(&ann, "/api/v1/me").await.is(401);
    // A provider that does not say when signs in, and proves nothing.
    let begun = scripted.begin(&Person::default()).await;
    let mut claims = scripted.claims(&begun, "ann", &["dev"]);
    claims.as_object_mut().unwrap().remove("auth_time");
    let silent = person(&scripted.back(&begun, &claims).await.is(303));
    let me = scripted.lab.get(&silent, "/api/v1/me").await.is(200);
    let me: Value = serde_json::from_str(&me.body).unwrap();
    assert_eq!(me["signed_in"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_provider_has_no_way_there() {
    let lab = Lab::start().await;
    let nobody = Person::default();
    let page = lab.get(&nobody, "/login").await.is(200);
    assert!(!page.body.contains("/login/oidc"), "{}", page.body);
    lab.get(&nobody, "/login/oidc").await.is(404);
    lab.get(&nobody, "/login/oidc/callback?code=c&state=s")
        .await
        .is(404);
    // A provider that is away is said to be away, and other ways to sign in stay.
    let port = free();
    let away = settings(&format!("https://localhost:{port}"), &certificate().0);
    let lab = Lab::start_with(Some(away)).await;
    let page = lab.get(&nobody, "/login").await.is(200);
    assert!(page.body.contains("/login/oidc?next="), "{}", page.body);
    lab.get(&nobody, "/login/oidc").await.is(502);
    let ann = lab.person("ann", &["viewer"]).await;
    lab.get(&ann, "/").await.is(200);
}

fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Makes a certificate for 127.0.0.1; returns it and its key in PEM, and the key as browsers name it.
fn certificate() -> (String, String, String) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let digest = Digest::of(&rcgen::PublicKeyData::subject_public_key_info(&key));
    (
        certificate.pem(),
        key.serialize_pem(),
        STANDARD.encode(digest.as_bytes()),
    )
}

fn heading(browser: &mut Browser) -> String {
    let text =
        browser.eval("document.querySelector('h1') && document.querySelector('h1').textContent");
    text.as_str().unwrap_or_default().to_owned()
}

fn wait_for(browser: &mut Browser, expression: &str) {
    let begun = Instant::now();
    while browser.eval(expression) != Value::Bool(true) {
        assert!(
            begun.elapsed() < PATIENCE,
            "{expression}: {:?}",
            browser.complaints
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A browser that knows the server and the provider by their keys, at the form to sign in.
async fn browser(lab: &Lab, key: &str) -> Browser {
    let keys = format!("{},{key}", lab.key().await);
    let mut browser = Browser::start_for(&lab.origin, Some(&keys));
    browser.size(1440, 900);
    browser.go(&format!("{}/login?next=/me", lab.origin));
    browser
}

/// Goes to the provider, signs in there as `name` if it asks, and waits for the page of this heading.
fn through(browser: &mut Browser, name: &str, then: &str) {
    browser.eval("document.querySelector('a[href^=\"/login/oidc\"]').click()");
    wait_for(browser, "!!document.querySelector('input[name=login]')");
    browser.eval(&format!(
        "document.querySelector('input[name=login]').value = '{name}'; \
         document.querySelector('button').click()"
    ));
    let there = format!(
        "!!document.querySelector('h1') && document.querySelector('h1').textContent === '{then}'"
    );
    wait_for(browser, &there);
}

async fn at_a_certified_provider(algorithm: &str, secret: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    let (pem, key, name) = certificate();
    let port = free();
    let mut oidc = settings(&format!("https://127.0.0.1:{port}"), &pem);
    oidc.client_secret = secret.map(str::to_owned);
    let lab = Lab::start_with(Some(oidc)).await;
    let client = ProviderClient {
        id: CLIENT,
        secret,
        redirect: &format!("{}/login/oidc/callback", lab.origin),
        algorithm,
    };
    let provider = CertifiedProvider::start(dir.path(), port, (&pem, &key), &client);
    provider.groups(&json!({"ann": ["dev", "sec"]}));
    let mut browser = browser(&lab, &name).await;
    through(&mut browser, "ann", "My account");
    let ann = lab
        .state
        .user_named("ann")
        .await
        .unwrap()
        .expect("she is there");
    assert_eq!(ann.roles, ["developer", "security"]);
    // The cookie of the session is one that no other site can send along.
    assert_eq!(browser.eval("document.cookie"), "");
    // Other groups there are other roles here, at the next sign-in. The provider knows the person still.
    provider.groups(&json!({"ann": ["boss"]}));
    browser.follow("document.querySelector('form[action=\"/logout\"] button').click()");
    assert_eq!(heading(&mut browser), "Sign in");
    browser.eval("document.querySelector('a[href^=\"/login/oidc\"]').click()");
    wait_for(
        &mut browser,
        "!!document.querySelector('h1') && document.querySelector('h1').textContent === 'Overview'",
    );
    assert_eq!(
        lab.state.user_named("ann").await.unwrap().unwrap().roles,
        ["admin"]
    );
    let own = |complaint: &&String| !complaint.contains(provider.url());
    let complaints: Vec<&String> = browser.complaints.iter().filter(own).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_at_a_certified_provider_with_rs256() {
    at_a_certified_provider("RS256", Some("a secret+of/the lab")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_at_a_certified_provider_with_ps256() {
    at_a_certified_provider("PS256", Some("secret")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_at_a_certified_provider_with_es256_and_no_secret() {
    at_a_certified_provider("ES256", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_at_a_certified_provider_with_eddsa() {
    at_a_certified_provider("EdDSA", Some("secret")).await;
}
