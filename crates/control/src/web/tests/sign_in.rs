//! Signing in: links, passwords, codes, sessions.

use stockade_types::UnixMillis;

use super::lab::{Lab, Person, later};
use crate::{now, random, state::LinkKind, web::totp};

const PASSWORD: &str = "correct horse battery staple";

/// Returns the person whom an answer has signed in.
fn signed(answer: &super::lab::Answer) -> Person {
    let cookie = answer.header("set-cookie");
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    assert!(cookie.len() > 40, "{answer:?}");
    Person {
        cookie,
        ..Person::default()
    }
}

async fn set_up(lab: &Lab) -> String {
    let secret = lab.link(LinkKind::Setup, "", &["admin"], later()).await;
    let fields = [
        ("link", secret.as_str()),
        ("name", "Ann Lee"),
        ("password", PASSWORD),
    ];
    lab.post(&Person::default(), "/setup", &fields)
        .await
        .is(303);
    secret
}

async fn try_in(lab: &Lab, name: &str, password: &str) -> super::lab::Answer {
    let fields = [("name", name), ("password", password), ("next", "/me")];
    lab.post(&Person::default(), "/login", &fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_makes_one_administrator_once_and_in_time() {
    let lab = Lab::start().await;
    let late = lab
        .link(LinkKind::Setup, "", &["admin"], UnixMillis(now().0 - 1))
        .await;
    let nobody = Person::default();
    for wrong in [late.as_str(), "", "AAAA"] {
        lab.get(&nobody, &format!("/setup?token={wrong}"))
            .await
            .is(409);
        let fields = [("link", wrong), ("name", "Eve"), ("password", PASSWORD)];
        lab.post(&nobody, "/setup", &fields).await.is(409);
    }
    let (first, second) = (
        lab.link(LinkKind::Setup, "", &["admin"], later()).await,
        lab.link(LinkKind::Setup, "", &["admin"], later()).await,
    );
    lab.get(&nobody, &format!("/setup?token={first}"))
        .await
        .is(200);
    // What is not accepted leaves the link as it is.
    for (name, password) in [("", PASSWORD), ("Ann", "short"), ("Ann\u{202e}", PASSWORD)] {
        let fields = [
            ("link", first.as_str()),
            ("name", name),
            ("password", password),
        ];
        lab.post(&nobody, "/setup", &fields).await.is(400);
    }
    let fields = [
        ("link", first.as_str()),
        ("name", "Ann"),
        ("password", PASSWORD),
    ];
    let ann = signed(&lab.post(&nobody, "/setup", &fields).await.is(303));
    lab.get(&ann, "/people").await.is(200);
    // It is used up, and there is an administrator: no link makes another one.
    for link in [&first, &second] {
        let fields = [
            ("link", link.as_str()),
            ("name", "Eve"),
            ("password", PASSWORD),
        ];
        lab.post(&nobody, "/setup", &fields).await.is(409);
    }
    assert_eq!(lab.state.users().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_use_one_link_at_a_time_make_one_person() {
    let lab = Lab::start().await;
    let link = lab.link(LinkKind::Setup, "", &["admin"], later()).await;
    let nobody = Person::default();
    let use_it = |name: &'static str, password: &'static str| {
        let fields = [
            ("link", link.as_str()),
            ("name", name),
            ("password", password),
        ];
        let (lab, nobody) = (&lab, &nobody);
        async move { lab.post(nobody, "/setup", &fields).await.status }
    };
    let both = tokio::join!(
        use_it("Ann", PASSWORD),
        use_it("Eve", "another horse battery staple")
    );
    let mut both = [both.0, both.1];
    both.sort_unstable();
    assert_eq!(both, [303, 409]);
    let users = lab.state.users().await.unwrap();
    assert_eq!(users.len(), 1);
    // Each has the password of the one who made it, and no other.
    let name = users[0].name.clone();
    let (own, other) = if name == "Ann" {
        (PASSWORD, "another horse battery staple")
    } else {
        ("another horse battery staple", PASSWORD)
    };
    try_in(&lab, &name, other).await.is(401);
    try_in(&lab, &name, own).await.is(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_bound_to_this_host_and_hidden_from_scripts() {
    let lab = Lab::start().await;
    set_up(&lab).await;
    let answer = try_in(&lab, "Ann Lee", PASSWORD).await.is(303);
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-stockade="), "{cookie}");
    for part in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    // What is kept is not what the browser shows.
    let secret = cookie
        .trim_start_matches("__Host-stockade=")
        .split(';')
        .next()
        .unwrap_or_default();
    assert!(
        lab.state
            .web_session(secret, now())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        lab.state
            .web_session(&random::hash(secret), now())
            .await
            .unwrap()
            .is_some()
    );
}

/// A session that a stranger has put into the browser is not the one that the person signs in to.
#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_fixed_before_a_sign_in() {
    let lab = Lab::start().await;
    set_up(&lab).await;
    let planted = Person {
        cookie: "__Host-stockade=planted".to_owned(),
        ..Person::default()
    };
    let fields = [("name", "Ann Lee"), ("password", PASSWORD)];
    let answer = lab.post(&planted, "/login", &fields).await.is(303);
    let ann = signed(&answer);
    assert_ne!(ann.cookie, planted.cookie);
    lab.get(&planted, "/me").await.is(303);
    let page = lab.get(&ann, "/me").await.is(200);
    let token = page.body.split("name=\"token\" value=\"").nth(1);
    let token = token
        .and_then(|rest| rest.split('"').next())
        .expect("a token")
        .to_owned();
    let ann = Person { token, ..ann };
    // To prove again who one is makes a new session, and ends the old one.
    let again = signed(&lab.post(&ann, "/login", &fields).await.is(303));
    lab.get(&ann, "/me").await.is(303);
    lab.get(&again, "/me").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_leads_to_no_other_site() {
    let lab = Lab::start().await;
    set_up(&lab).await;
    for (next, place) in [
        ("/inbox?x=1", "/inbox?x=1"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("https://evil.test/", "/"),
        ("/\r\nset-cookie: a=b", "/"),
        ("javascript:alert(1)", "/"),
    ] {
        let fields = [("name", "Ann Lee"), ("password", PASSWORD), ("next", next)];
        let answer = lab
            .post(&Person::default(), "/login", &fields)
            .await
            .is(303);
        assert_eq!(answer.header("location"), place, "{next:?}");
    }
}

/// Guessing gets slower and slower; others are not kept out, and the right password does not help while the
/// wait lasts.
#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_limited() {
    let lab = Lab::start().await;
    set_up(&lab).await;
    let mut texts = Vec::new();
    for guess in 0..5 {
        let wrong = format!("wrong horse battery staple {guess}");
        texts.push(try_in(&lab, "Ann Lee", &wrong).await.is(401).body);
    }
    let late = try_in(&lab, "Ann Lee", PASSWORD).await.is(429);
    assert!(late.body.contains("too many attempts"), "{}", late.body);
    // A name that nobody has is answered with the same words.
    let nobody = try_in(&lab, "Nobody", "wrong horse battery staple")
        .await
        .is(401);
    let said = |body: &str| {
        body.split("note bad")
            .nth(1)
            .map(|rest| rest[..200].to_owned())
    };
    assert_eq!(said(&nobody.body), said(&texts[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_once() {
    let lab = Lab::start().await;
    set_up(&lab).await;
    let user = lab
        .state
        .user_named("Ann Lee")
        .await
        .unwrap()
        .expect("she is there");
    let secret = [7_u8; totp::SECRET_BYTES];
    let kept = {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        URL_SAFE_NO_PAD.encode(secret)
    };
    lab.state
        .set_secret(&user.id, "totp", &kept, now())
        .await
        .unwrap();
    try_in(&lab, "Ann Lee", PASSWORD).await.is(401);
    let code = format!("{:06}", totp::code_of(&secret, now().0 / 30_000));
    let with = [
        ("name", "Ann Lee"),
        ("password", PASSWORD),
        ("code", code.as_str()),
    ];
    lab.post(&Person::default(), "/login", &with).await.is(303);
    lab.post(&Person::default(), "/login", &with).await.is(401);
}

/// After the sign-in is old, changes lead to a new one; reading goes on.
#[tokio::test(flavor = "multi_thread")]
async fn changes_need_a_sign_in_of_the_last_minutes() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["admin"]).await;
    let old = UnixMillis(now().0 - 5 * 60 * 1000 - 1);
    let old = lab
        .signed_in(&stockade_trust::UserId(ann.id.clone()), old)
        .await;
    lab.get(&old, "/people").await.is(200);
    let fields = [("name", "ben"), ("role", "viewer")];
    let answer = lab.post(&old, "/people/invite", &fields).await.is(303);
    assert!(
        answer.header("location").starts_with("/login?next="),
        "{answer:?}"
    );
    lab.post(&ann, "/people/invite", &fields).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_is_out() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["admin"]).await;
    let answer = lab.post(&ann, "/logout", &[]).await.is(303);
    assert!(
        answer.header("set-cookie").contains("Max-Age=0"),
        "{answer:?}"
    );
    lab.get(&ann, "/people").await.is(303);
}
