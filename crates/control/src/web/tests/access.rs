//! Who may do what, on every route.

use super::lab::{Lab, Person};
use crate::{
    now, random,
    state::TokenRow,
    web::{routes::routes, serving::Needs},
};
use axum::http::Method;

/// A path with names in it that name nothing.
fn path(pattern: &str) -> String {
    pattern
        .replace("{name}", "page.css")
        .replace("{node}", "n-0000000000000000")
        .replace("{session}", "0000000000000000")
        .replace("{question}", "q-0000000000000000")
        .replace("{user}", "u-0000000000000000")
        .replace("{proposal}", "p-0000000000000000")
        .replace("{rollout}", "r-0000000000000000")
        .replace("{group}", "00000000000000000000000000000000")
        .replace("{channel}", "c-0000000000000000")
        .replace("{delivery}", "msg_0000000000000000")
        .replace("{seq}", "1")
        .replace("{decision}", "1")
}

async fn ask(lab: &Lab, person: &Person, method: &Method, pattern: &str) -> u16 {
    let path = path(pattern);
    // A stream has no end; that its permissions are kept is another test.
    let path = path.replace("/api/v1/stream", "/api/v1/stream?topic=none");
    let answer = match *method {
        Method::GET => lab.get(person, &path).await,
        _ => lab.post(person, &path, &[]).await,
    };
    answer.status
}

/// Without a sign-in, no route that needs one answers: a page leads to the sign-in, data says so.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_is_not_signed_in_gets_anything() {
    let lab = Lab::start().await;
    let strangers = [
        Person::default(),
        Person {
            cookie: "__Host-stockade=AAAA".to_owned(),
            ..Person::default()
        },
        Person {
            cookie: "__Host-stockade=".to_owned(),
            ..Person::default()
        },
        Person {
            cookie: "stockade=x; __Host-stockadex=1".to_owned(),
            ..Person::default()
        },
    ];
    for person in &strangers {
        for route in routes() {
            if route.needs == Needs::Nothing {
                continue;
            }
            let status = ask(&lab, person, &route.method, route.path).await;
            let expected = if route.path.starts_with("/api/") {
                401
            } else {
                303
            };
            assert_eq!(status, expected, "{} {}", route.method, route.path);
        }
    }
    let answer = lab.get(&strangers[0], "/people?done=roles").await.is(303);
    assert_eq!(
        answer.header("location"),
        "/login?next=%2Fpeople%3Fdone%3Droles"
    );
    // A control: a person gets in.
    let person = lab.person("ann", &["admin"]).await;
    lab.get(&person, "/people").await.is(200);
}

/// A person who was removed, or whose role was taken, is out at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_gone_at_once() {
    let lab = Lab::start().await;
    let admin = lab.person("ann", &["admin"]).await;
    let ben = lab.person("ben", &["viewer"]).await;
    lab.get(&ben, "/sessions").await.is(200);
    let path = format!("/people/{}/roles", ben.id);
    let version = lab.version(&ben).await;
    let fields = [("others", "security"), ("version", version.as_str())];
    lab.post(&admin, &path, &fields).await.is(303);
    lab.get(&ben, "/fleet").await.is(403);
    lab.get(&ben, "/sessions").await.is(200);
    lab.post(&admin, &format!("/people/{}/remove", ben.id), &[])
        .await
        .is(303);
    lab.get(&ben, "/sessions").await.is(303);
    // The last administrator cannot go.
    lab.post(&admin, &format!("/people/{}/remove", admin.id), &[])
        .await
        .is(409);
    let version = lab.version(&admin).await;
    let fields = [("version", version.as_str())];
    lab.post(&admin, &format!("/people/{}/roles", admin.id), &fields)
        .await
        .is(409);
    lab.get(&admin, "/people").await.is(200);
}

/// A token of a program reads what its role may, without a cookie and without our page, and changes nothing
/// that a person has to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_with_its_token() {
    let lab = Lab::start().await;
    let secret = format!("stkt_{}", random::secret().unwrap());
    let row = TokenRow {
        id: "t-1".to_owned(),
        name: "dashboard".to_owned(),
        role: "admin".to_owned(),
        created_by: String::new(),
        created: now(),
        expires: super::lab::later(),
        last_used: None,
        revoked: None,
    };
    lab.state
        .add_token(&random::hash(&secret), &row)
        .await
        .unwrap();
    let bearer = format!("Bearer {secret}");
    let with = [("authorization", bearer.as_str())];
    let answer = lab.send("GET", "/api/v1/people", &with, "").await.is(200);
    assert!(answer.body.contains("\"people\""), "{}", answer.body);
    let refused = lab
        .send("POST", "/people/invite", &with, "name=eve")
        .await
        .is(403);
    assert!(
        refused.body.contains("a person has to do this"),
        "{}",
        refused.body
    );
    for wrong in [
        "Bearer stkt_x",
        "Bearer ",
        "Bearer t-1",
        &bearer[..bearer.len() - 1],
    ] {
        let with = [("authorization", wrong)];
        lab.send("GET", "/api/v1/people", &with, "").await.is(401);
    }
    // One that was revoked works no more.
    let revoked = lab.state.revoke_token(&row.id, "", now()).await.unwrap();
    assert!(revoked);
    lab.send("GET", "/api/v1/people", &with, "").await.is(401);
}
