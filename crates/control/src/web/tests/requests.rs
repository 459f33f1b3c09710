//! Which requests are taken, and which headers every answer has.

use axum::http::Method;

use super::lab::{Lab, Person, form};
use crate::web::routes::routes;

/// Every answer of every route, and of those that do not exist, tells the browser the same limits.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers() {
    let lab = Lab::start().await;
    let admin = lab.person("ann", &["admin"]).await;
    let mut asked = 0;
    let unknown = [
        (Method::GET, "/none"),
        (Method::POST, "/people"),
        (Method::GET, "/assets/none"),
    ];
    for person in [&admin, &Person::default()] {
        let known = routes().into_iter().map(|route| (route.method, route.path));
        for (method, path) in known.chain(unknown.clone()) {
            let path = path.replace("/api/v1/stream", "/api/v1/stream?topic=none");
            let path = path.replace("{name}", "page.css");
            let answer = match method {
                Method::GET => lab.get(person, &path).await,
                _ => lab.post(person, &path, &[]).await,
            };
            let policy = answer.header("content-security-policy").to_owned();
            for part in [
                "default-src 'none'",
                "script-src 'nonce-",
                "style-src 'self'",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
                "require-trusted-types-for 'script'",
            ] {
                assert!(policy.contains(part), "{path}: {part} in {policy}");
            }
            assert!(!policy.contains("unsafe"), "{path}: {policy}");
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "same-origin"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
                ("strict-transport-security", "max-age=31536000"),
            ] {
                assert_eq!(answer.header(name), value, "{path}: {name}");
            }
            let kept = if path.starts_with("/assets/page") {
                "public, max-age=3600"
            } else {
                "no-store"
            };
            assert_eq!(answer.header("cache-control"), kept, "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
            asked += 1;
        }
    }
    assert!(asked > 60, "{asked}");
}

/// A nonce is used for one answer.
#[tokio::test(flavor = "multi_thread")]
async fn each_answer_has_its_own_nonce() {
    let lab = Lab::start().await;
    let mut nonces = Vec::new();
    for _ in 0..5 {
        let answer = lab.get(&Person::default(), "/login").await.is(200);
        let policy = answer.header("content-security-policy");
        let nonce = policy
            .split("'nonce-")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        let nonce = nonce.expect("a nonce").to_owned();
        assert!(nonce.len() >= 20, "{nonce}");
        assert!(
            answer.body.contains(&format!("nonce=\"{nonce}\"")),
            "{}",
            answer.body
        );
        assert!(!nonces.contains(&nonce));
        nonces.push(nonce);
    }
}

/// Each change is refused if another page may have made it, on every route that changes something.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_page_changes_anything() {
    let lab = Lab::start().await;
    let admin = lab.person("ann", &["admin"]).await;
    let own = lab.own_headers(&admin.cookie);
    let with_token = form(&[("token", &admin.token)]);
    let change = |name: &'static str, value: Option<&'static str>| {
        let mut headers: Vec<(&'static str, String)> = own.clone();
        headers.retain(|(found, _)| *found != name);
        headers.extend(value.map(|value| (name, value.to_owned())));
        headers
    };
    let attacks = [
        ("no origin", change("origin", None), &with_token),
        (
            "no origin at all",
            change("origin", Some("null")),
            &with_token,
        ),
        (
            "another origin",
            change("origin", Some("https://evil.test")),
            &with_token,
        ),
        (
            "cross-site",
            change("sec-fetch-site", Some("cross-site")),
            &with_token,
        ),
        (
            "same-site",
            change("sec-fetch-site", Some("same-site")),
            &with_token,
        ),
        ("typed", change("sec-fetch-site", Some("none")), &with_token),
        ("not said", change("sec-fetch-site", None), &with_token),
        ("no token", own.clone(), &String::new()),
        ("another token", own.clone(), &form(&[("token", "AAAA")])),
    ];
    let mut tried = 0;
    for route in routes()
        .into_iter()
        .filter(|route| route.method == Method::POST)
    {
        for (attack, headers, body) in &attacks {
            let is_open = route.needs == crate::web::serving::Needs::Nothing;
            if is_open && attack.ends_with("token") {
                continue;
            }
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(a, b)| (*a, b.as_str())).collect();
            let answer = lab.send("POST", route.path, &headers, body).await;
            assert_eq!(answer.status, 403, "{} {attack}: {answer:?}", route.path);
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

/// Our own page does it, and the token of another session does not do.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_page_changes_something() {
    let lab = Lab::start().await;
    let admin = lab.person("ann", &["admin"]).await;
    let done = lab
        .post(
            &admin,
            "/people/invite",
            &[("name", "ben"), ("role", "viewer")],
        )
        .await
        .is(200);
    assert!(done.body.contains("/setup?token="), "{}", done.body);
    let ben = lab.person("cara", &["admin"]).await;
    let mixed = Person {
        token: ben.token.clone(),
        ..admin.clone()
    };
    lab.post(
        &mixed,
        "/people/invite",
        &[("name", "eve"), ("role", "admin")],
    )
    .await
    .is(403);
}

/// A name of a stranger that leads to our address reaches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_host_is_served() {
    let lab = Lab::start().await;
    let admin = lab.person("ann", &["admin"]).await;
    for host in ["evil.test", "localhost", "127.0.0.1", "localhost:1", ""] {
        let request = format!(
            "GET /people HTTP/1.1\r\nhost: {host}\r\ncookie: {}\r\nconnection: close\r\n\r\n",
            admin.cookie
        );
        let answer = lab.raw(&request).await;
        assert!([400, 421].contains(&answer.status), "{host}: {answer:?}");
    }
    lab.get(&admin, "/people").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_is_refused() {
    let lab = Lab::start().await;
    let admin = lab.person("ann", &["admin"]).await;
    let long = "a".repeat(1 << 20);
    lab.post(&admin, "/people/invite", &[("name", &long)])
        .await
        .is(413);
    // Just below, it is read and answered.
    let long = "a".repeat(1 << 19);
    lab.post(&admin, "/people/invite", &[("name", &long)])
        .await
        .is(400);
    // As many fields as one likes are read up to a bound.
    let many = "a=1&".repeat(200_000);
    let headers = lab.own_headers(&admin.cookie);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (*a, b.as_str())).collect();
    lab.send("POST", "/people/invite", &headers, &many)
        .await
        .is(403);
}

/// A link on a page of another site comes without our cookie: the page loads itself again.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_elsewhere_leads_to_the_page() {
    let lab = Lab::start().await;
    let there = [("sec-fetch-site", "cross-site")];
    let answer = lab.send("GET", "/people", &there, "").await.is(200);
    assert_eq!(answer.header("refresh"), "0; url=/people");
    assert!(!answer.body.contains("Invite"), "{}", answer.body);
    // It is no way around: without a session the page loaded again leads to the sign-in.
    let again = [("sec-fetch-site", "same-origin")];
    lab.send("GET", "/people", &again, "").await.is(303);
}

#[test]
fn no_route_is_without_an_operation() {
    let routes = routes();
    let document = crate::web::openapi::document(&routes);
    for route in &routes {
        let method = route.method.as_str().to_lowercase();
        let operation = document
            .get("paths")
            .and_then(|paths| paths.get(route.path)?.get(&method));
        let summary = operation.and_then(|operation| operation.get("summary")?.as_str());
        assert!(
            summary.is_some_and(|text| !text.is_empty()),
            "{method} {}",
            route.path
        );
    }
    let listed = document
        .get("paths")
        .and_then(serde_json::Value::as_object)
        .into_iter()
        .flatten();
    let listed = listed
        .filter_map(|(_, of_path)| of_path.as_object())
        .map(serde_json::Map::len);
    assert_eq!(
        listed.sum::<usize>(),
        routes.len(),
        "two routes have one method and path"
    );
}
