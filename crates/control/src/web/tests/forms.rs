//! What people write into forms, and what others see of it.

use super::lab::{Lab, Person};

const HOSTILE: &str = "<script>window.ran=1</script><img src=x onerror=alert(1)>'\"&";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_writes_stays_text() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["admin"]).await;
    lab.person(HOSTILE, &["viewer"]).await;
    let page = lab.get(&ann, "/people").await.is(200);
    assert!(
        !page.body.contains("<script>window") && !page.body.contains("<img"),
        "{}",
        page.body
    );
    assert!(
        page.body.contains("&lt;script&gt;window.ran=1"),
        "{}",
        page.body
    );
    // Fields of a form that is shown again.
    let fields = [
        ("name", HOSTILE),
        ("others", "Not-A-Role \u{202e}"),
        ("role", HOSTILE),
    ];
    let again = lab.post(&ann, "/people/invite", &fields).await.is(400);
    assert!(!again.body.contains("<script>window") && !again.body.contains('\u{202e}'));
    let policy = [
        ("text", "</textarea><script>window.ran=1</script>"),
        ("do", "check"),
    ];
    let again = lab.post(&ann, "/policy", &policy).await.is(422);
    assert!(
        !again.body.contains("</textarea><script>"),
        "{}",
        again.body
    );
    // Queries and paths, too.
    for path in [
        "/login?next=%3Cscript%3E",
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/people?done=%3Cb%3E",
    ] {
        let page = lab.get(&Person::default(), path).await;
        assert!(
            !page.body.contains("<script>alert") && !page.body.contains("<b>"),
            "{}",
            page.body
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_checked_with_its_places() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["policy-approver"]).await;
    let wrong = "schema = 1\n[limits]\nmemory = \"lots\"\n";
    let page = lab
        .post(&ann, "/policy", &[("text", wrong), ("do", "check")])
        .await
        .is(422);
    assert!(
        page.body.contains("limits.memory") && page.body.contains("3:"),
        "{}",
        page.body
    );
    let right = "schema = 1\n\n[[deny]]\nid = \"no-paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nreason = \"data leaves\"\n";
    let page = lab
        .post(&ann, "/policy", &[("text", right), ("do", "check")])
        .await
        .is(200);
    assert!(page.body.contains("can be loaded"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_an_invitation_makes_the_person_with_the_roles() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["admin"]).await;
    let fields = [
        ("name", "Ben"),
        ("role", "viewer"),
        ("others", "security code-owner"),
    ];
    let page = lab.post(&ann, "/people/invite", &fields).await.is(200);
    let secret = page
        .body
        .split("/setup?token=")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    let secret = secret.expect("a link").to_owned();
    // The name is the one that was invited, whatever the form says.
    let fields = [
        ("link", secret.as_str()),
        ("name", "ann"),
        ("password", "correct horse battery staple"),
    ];
    lab.post(&Person::default(), "/setup", &fields)
        .await
        .is(303);
    let ben = lab
        .state
        .user_named("Ben")
        .await
        .unwrap()
        .expect("he is there");
    assert_eq!(ben.roles, ["code-owner", "security", "viewer"]);
    lab.post(&Person::default(), "/setup", &fields)
        .await
        .is(409);
}
