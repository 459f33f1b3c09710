//! Questions on the pages: who sees them, who answers, and what an answer binds.

use std::borrow::Cow;

use stockade_api::{NodeId, node::QuestionSent};
use stockade_policy::{
    BreakGlass, Escalation, NetRequest, Request, Review, Role, Scope, Stage, Strength,
};
use stockade_shown::{Grounds, Matter};
use stockade_testkit::browser::Browser;
use stockade_trust::{Nonce, UserId};
use stockade_types::{ApprovalId, Digest, Port, SessionId, Subject, UnixMillis};

use super::lab::{Lab, Person, later};
use crate::{
    now, random,
    state::{LinkKind, QuestionRow, QuestionState, SessionKey},
};

const INTENT: &str = "<script>window.ran=1</script>\u{202e}";

/// Has the session of a person ask one owner, and then one of security.
pub(super) async fn ask(lab: &Lab, requester: &Person, strength: Strength) -> QuestionRow {
    ask_with(lab, requester, strength, None).await
}

/// The same, where one person of a role can override both.
async fn ask_with(
    lab: &Lab,
    requester: &Person,
    strength: Strength,
    break_glass: Option<BreakGlass>,
) -> QuestionRow {
    let stage = |name: &str| Stage {
        name: name.to_owned(),
        role: Role(name.to_owned()),
        need: 1,
        veto: 1,
        strength,
        wait_ms: 0,
        escalation: None,
    };
    let review = Review {
        paths: vec![vec![stage("owner"), stage("security")]],
        scope_max: Scope::Session,
        reason_required: false,
        break_glass,
    };
    ask_review(lab, requester, review).await
}

/// The same with something changed about whom it asks.
async fn ask_changed(
    lab: &Lab,
    requester: &Person,
    change: impl FnOnce(&mut Review),
) -> QuestionRow {
    let mut review = two_stages();
    change(&mut review);
    ask_review(lab, requester, review).await
}

/// One owner, and then one of security.
pub(super) fn two_stages() -> Review {
    let stage = |name: &str| Stage {
        name: name.to_owned(),
        role: Role(name.to_owned()),
        need: 1,
        veto: 1,
        strength: Strength::Session,
        wait_ms: 0,
        escalation: None,
    };
    Review {
        paths: vec![vec![stage("owner"), stage("security")]],
        scope_max: Scope::Session,
        reason_required: false,
        break_glass: None,
    }
}

/// Has a session on a machine ask people of one role.
pub(super) async fn ask_role(
    lab: &Lab,
    node: NodeId,
    requester: &Person,
    role: &str,
) -> QuestionRow {
    let stage = Stage {
        name: "one".to_owned(),
        role: Role(role.to_owned()),
        need: 1,
        veto: 1,
        strength: Strength::Session,
        wait_ms: 0,
        escalation: None,
    };
    let review = Review {
        paths: vec![vec![stage]],
        scope_max: Scope::Session,
        reason_required: false,
        break_glass: None,
    };
    ask_on(lab, node, requester, sent(review, "paste.test")).await
}

/// What the machine of a session sends that wants to reach a host.
pub(super) fn sent(review: Review, host: &str) -> QuestionSent {
    let request = Request::Net(NetRequest {
        host: host.parse().unwrap(),
        port: Port::new(443).unwrap(),
        subject: Subject::default(),
    });
    let grounds = Grounds {
        rule: Some("paste".parse().unwrap()),
        origin: None,
        reason: "data leaves the company".to_owned(),
        nearest_allow: None,
        private: false,
        scope_max: Some(Scope::Session),
        review: Some(review.clone()),
    };
    let matter = Matter {
        request: &request,
        grounds: Cow::Owned(grounds),
        agent: "codex",
        intent: Some(INTENT),
        asked: now(),
        expires: later(),
    };
    let question = matter.canonical();
    QuestionSent {
        rendered: question.shown().digest(),
        question,
        nonce: Nonce::new([3; 16]),
        revision: Digest::of(b"policy"),
        review,
        uid: 1000,
        user: None,
    }
}

async fn ask_review(lab: &Lab, requester: &Person, review: Review) -> QuestionRow {
    ask_for(lab, requester, sent(review, "paste.test")).await
}

/// Has a session of a person ask this.
pub(super) async fn ask_for(lab: &Lab, requester: &Person, sent: QuestionSent) -> QuestionRow {
    ask_on(lab, NodeId::from_random(7), requester, sent).await
}

async fn ask_on(lab: &Lab, node: NodeId, requester: &Person, sent: QuestionSent) -> QuestionRow {
    let row = QuestionRow {
        id: random::name("q-").unwrap(),
        key: SessionKey {
            node,
            session: SessionId::from_random(5),
        },
        approval: ApprovalId::from_random(u32::from_le_bytes(random::bytes().unwrap())),
        sent,
        requesters: vec![UserId(requester.id.clone())],
        state: QuestionState::Open,
        asked: now(),
        expires: later(),
        closed: None,
        why: None,
        delivered: None,
        version: 1,
    };
    let mut writing = lab.state.write().await.unwrap();
    lab.state.add_question(&mut writing, &row).await.unwrap();
    lab.state.commit(writing).await.unwrap();
    row
}

async fn stands(lab: &Lab, row: &QuestionRow) -> QuestionState {
    lab.state.question(&row.id).await.unwrap().unwrap().state
}

/// Without a script: two people in roles say yes in a form, and the grant is there.
#[tokio::test(flavor = "multi_thread")]
async fn people_answer_without_a_script() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let (ann, bob) = (
        lab.person("ann", &["owner"]).await,
        lab.person("bob", &["security"]).await,
    );
    let row = ask(&lab, &lee, Strength::Session).await;
    let path = format!("/inbox/{}", row.id);
    let page = lab.get(&ann, "/inbox").await.is(200);
    assert!(
        page.body.contains("paste.test") && page.body.contains("waits for you"),
        "{}",
        page.body
    );
    let page = lab.get(&ann, &path).await.is(200);
    assert!(
        page.body.contains("data leaves the company"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("<script>window") && !page.body.contains('\u{202e}'));
    let rendered = row.sent.rendered.to_string();
    let yes = [
        ("rendered", rendered.as_str()),
        ("choice", "allow"),
        ("scope", "once"),
    ];
    // It is not the turn of security, and no one answers his own question.
    lab.post(&bob, &path, &yes).await.is(403);
    lab.post(&lee, &path, &yes).await.is(403);
    lab.post(&ann, &path, &yes).await.is(303);
    assert_eq!(stands(&lab, &row).await, QuestionState::Open);
    lab.post(&ann, &path, &yes).await.is(409);
    lab.post(&bob, &path, &yes).await.is(303);
    assert_eq!(stands(&lab, &row).await, QuestionState::Granted);
    assert!(lab.state.grant(&row.id).await.unwrap().is_some());
    let page = lab.get(&bob, &path).await.is(200);
    assert!(
        page.body.contains("Answers so far") && !page.body.contains("Your answer<"),
        "{}",
        page.body
    );
}

/// An answer is for the text that was shown, and no wider than the rule lets it be.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_binds_what_was_shown() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let ann = lab.person("ann", &["owner"]).await;
    let row = ask(&lab, &lee, Strength::Session).await;
    let path = format!("/inbox/{}", row.id);
    let rendered = row.sent.rendered.to_string();
    let other = Digest::of(b"another text").to_string();
    for (fields, status) in [
        (vec![("rendered", other.as_str()), ("choice", "allow")], 409),
        (vec![("choice", "allow")], 400),
        (vec![("rendered", rendered.as_str())], 400),
        (
            vec![("rendered", rendered.as_str()), ("choice", "maybe")],
            400,
        ),
        (
            vec![
                ("rendered", rendered.as_str()),
                ("choice", "allow"),
                ("scope", "all"),
            ],
            400,
        ),
        (
            vec![
                ("rendered", rendered.as_str()),
                ("choice", "allow"),
                ("stage", "security"),
            ],
            409,
        ),
        (
            vec![
                ("rendered", rendered.as_str()),
                ("choice", "allow"),
                ("not_after", "1"),
            ],
            400,
        ),
        (
            vec![
                ("rendered", rendered.as_str()),
                ("choice", "allow"),
                ("passkey", "{}"),
            ],
            400,
        ),
    ] {
        let answer = lab.post(&ann, &path, &fields).await;
        assert_eq!(answer.status, status, "{fields:?}: {answer:?}");
    }
    // An old sign-in leads to a new one, and a deny with its reason reaches the agent.
    let old = UnixMillis(now().0 - 5 * 60 * 1000 - 1);
    let old = lab.signed_in(&UserId(ann.id.clone()), old).await;
    let no = [
        ("rendered", rendered.as_str()),
        ("choice", "deny"),
        ("reason", "open a request instead"),
    ];
    let again = lab.post(&old, &path, &no).await.is(303);
    assert!(again.header("location").starts_with("/login"), "{again:?}");
    assert_eq!(stands(&lab, &row).await, QuestionState::Open);
    lab.post(&ann, &path, &no).await.is(303);
    let denied = lab.state.question(&row.id).await.unwrap().unwrap();
    assert_eq!(denied.state, QuestionState::Denied);
    assert_eq!(denied.why.as_deref(), Some("open a request instead"));
}

/// People whom a question does not concern do not learn that it exists.
#[tokio::test(flavor = "multi_thread")]
async fn questions_of_others_are_not_there() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let row = ask(&lab, &lee, Strength::Session).await;
    let path = format!("/inbox/{}", row.id);
    for (name, roles) in [("mia", &["developer"][..]), ("tom", &["legal"])] {
        let stranger = lab.person(name, roles).await;
        let missing = lab
            .get(&stranger, "/inbox/q-0000000000000000")
            .await
            .is(404);
        let hidden = lab.get(&stranger, &path).await.is(404);
        let plain = |body: &str| body.replace(&row.id, "q-0000000000000000").len();
        assert_eq!(plain(&hidden.body), plain(&missing.body));
        assert!(
            !lab.get(&stranger, "/inbox")
                .await
                .is(200)
                .body
                .contains("paste.test")
        );
        let list = lab.get(&stranger, "/api/v1/questions").await.is(200);
        assert_eq!(
            list.body,
            "{\"questions\":[],\"groups\":[],\"overrides\":[]}"
        );
    }
    // Controls: who asks sees it, and so does an auditor.
    lab.get(&lee, &path).await.is(200);
    let auditor = lab.person("aud", &["auditor"]).await;
    let list = lab.get(&auditor, "/api/v1/questions").await.is(200);
    assert!(list.body.contains(&row.id), "{}", list.body);
}

/// With a passkey in Chromium: the authenticator signs the ballot, and the server issues a grant that it
/// has verified as the machine does.
#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_answers_a_question() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let row = ask(&lab, &lee, Strength::Passkey).await;
    let link = lab.link(LinkKind::Invite, "Ann", &["owner"], later()).await;
    let second = lab
        .link(LinkKind::Invite, "Bob", &["security"], later())
        .await;
    for (link, state) in [
        (link, QuestionState::Open),
        (second, QuestionState::Granted),
    ] {
        let mut browser = Browser::start_for(&lab.origin, Some(&lab.key().await));
        browser.add_authenticator();
        browser.size(1440, 900);
        browser.go(&format!("{}/setup?token={link}", lab.origin));
        browser.follow("document.querySelector('[data-passkey=create]').click()");
        browser.go(&format!("{}/inbox", lab.origin));
        browser.picture(&super::browser::pictures().join("inbox-light-1440.png"));
        browser.follow("document.querySelector('.question').click()");
        // A password would not do here.
        assert_eq!(
            browser.eval("document.querySelector('button[name=choice]')"),
            serde_json::Value::Null
        );
        browser.eval("document.getElementById('reason').value = 'release 4'");
        browser.picture(&super::browser::pictures().join("question-light-1440.png"));
        browser.prefer("dark");
        browser.size(360, 740);
        browser.picture(&super::browser::pictures().join("question-dark-360.png"));
        browser.follow("document.querySelector('[data-choice=allow]').click()");
        let said = browser
            .eval("document.querySelector('main').textContent")
            .to_string();
        assert!(
            said.contains("Your answer counts") && said.contains("release 4"),
            "{said}"
        );
        assert_eq!(stands(&lab, &row).await, state);
        assert_eq!(browser.eval("window.ran"), serde_json::Value::Null);
        assert_eq!(browser.complaints, Vec::<String>::new());
    }
    assert!(lab.state.grant(&row.id).await.unwrap().is_some());
}

/// One person overrides all stages with a passkey and a reason; then another one looks at it, and nobody who
/// had a part in it.
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
#[tokio::test(flavor = "multi_thread")]
async fn one_person_breaks_the_glass_and_another_looks_at_it() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer", "owner"]).await;
    let (ann, bob) = (
        lab.person("ann", &["owner"]).await,
        lab.person("bob", &["security"]).await,
    );
    let dora = lab.person("dora", &["incident-lead"]).await;
    let glass = BreakGlass {
        role: Role("incident-lead".to_owned()),
        strength: Strength::Passkey,
        max_ms: 30 * 60 * 1000,
    };
    let row = ask_with(&lab, &lee, Strength::Passkey, Some(glass)).await;
    let path = format!("/inbox/{}", row.id);
    let rendered = row.sent.rendered.to_string();
    let over = [
        ("rendered", rendered.as_str()),
        ("choice", "allow"),
        ("breaks_glass", "yes"),
        ("reason", "the shop is down"),
    ];
    // Not who owns the code, not who asks, and not by being signed in alone.
    lab.post(&ann, &path, &over).await.is(403);
    lab.post(&lee, &path, &over).await.is(403);
    lab.post(&dora, &path, &over).await.is(400);
    let page = lab.get(&ann, &path).await.is(200);
    assert!(!page.body.contains("Override all stages"), "{}", page.body);
    assert_eq!(stands(&lab, &row).await, QuestionState::Open);
    // Nothing is to be looked at, and nobody can say that it was.
    let said = [("verdict", "justified"), ("note", "it was down")];
    let review = format!("{path}/review");
    lab.post(&ann, &review, &said).await.is(404);

    let link = lab
        .link(LinkKind::Invite, "Ines", &["incident-lead"], later())
        .await;
    let mut browser = Browser::start_for(&lab.origin, Some(&lab.key().await));
    browser.add_authenticator();
    browser.size(1440, 900);
    browser.go(&format!("{}/setup?token={link}", lab.origin));
    browser.follow("document.querySelector('[data-passkey=create]').click()");
    browser.go(&format!("{}{path}", lab.origin));
    browser.eval("document.querySelector('details.glass').open = true");
    browser.eval("document.getElementById('glass-reason').value = 'the shop is down'");
    browser.picture(&super::browser::pictures().join("glass-light-1440.png"));
    browser.follow("document.querySelector('#glass [data-choice=allow]').click()");
    let said_there = browser
        .eval("document.querySelector('main').textContent")
        .to_string();
    assert!(
        said_there.contains("Your answer counts") && said_there.contains("all, overridden"),
        "{said_there}"
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
    assert_eq!(stands(&lab, &row).await, QuestionState::Granted);
    let grant = lab.state.grant(&row.id).await.unwrap().unwrap();
    let grant = serde_json::to_string(&grant).unwrap();
    assert!(grant.contains("payload"), "{grant}");
    let task = lab.state.review_task(&row.id).await.unwrap().unwrap();
    assert_eq!(task.due.0 - task.made.0, 24 * 60 * 60 * 1000);
    assert_eq!(task.done, None);

    for person in [&ann, &bob] {
        let inbox = lab.get(person, "/inbox").await.is(200);
        assert!(
            inbox.body.contains("Overrides to look at"),
            "{}",
            inbox.body
        );
        assert!(
            inbox.body.contains("overridden by") && inbox.body.contains("Ines"),
            "{}",
            inbox.body
        );
    }
    // Who asked has a part in it, although he has the role of a stage; whoever does not answer has none.
    lab.post(&lee, &review, &said).await.is(403);
    let tom = lab.person("tom", &["legal", "viewer"]).await;
    lab.post(&tom, &review, &said).await.is(403);
    lab.post(&ann, &review, &[("verdict", "justified")])
        .await
        .is(400);
    lab.post(&ann, &review, &[("verdict", "fine"), ("note", "x")])
        .await
        .is(400);
    let own = UserId(task.breaker.0.clone());
    let ines = lab.signed_in(&own, now()).await;
    lab.post(&ines, &review, &said).await.is(403);
    let page = lab.get(&ines, &path).await.is(200);
    assert!(!page.body.contains("It was justified"), "{}", page.body);
    lab.post(&ann, &review, &said).await.is(303);
    lab.post(&bob, &review, &said).await.is(409);
    let done = lab.state.review_task(&row.id).await.unwrap().unwrap().done;
    let done = done.expect("it is done");
    assert_eq!(
        (done.by.0.as_str(), done.justified),
        (ann.id.as_str(), true)
    );
    let inbox = lab.get(&bob, "/inbox").await.is(200);
    assert!(!inbox.body.contains("Overrides to look at"));
    let page = lab.get(&bob, &path).await.is(200);
    assert!(page.body.contains("it was down"), "{}", page.body);
}

/// A stage that takes long asks others too, from the time on that it names.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_asked_when_it_takes_long() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let ola = lab.person("ola", &["on-call"]).await;
    let late = |after_ms| {
        move |review: &mut Review| {
            for stage in review.paths.iter_mut().flatten() {
                stage.escalation = Some(Escalation {
                    after_ms,
                    role: Role("on-call".to_owned()),
                });
            }
        }
    };
    let in_an_hour = ask_changed(&lab, &lee, late(3_600_000)).await;
    let soon = ask_changed(&lab, &lee, late(300)).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    for (row, status) in [(&in_an_hour, 409), (&soon, 303)] {
        let path = format!("/inbox/{}", row.id);
        let rendered = row.sent.rendered.to_string();
        let yes = [("rendered", rendered.as_str()), ("choice", "allow")];
        let page = lab.get(&ola, &path).await.is(200);
        assert_eq!(page.body.contains("Your answer<"), status == 303);
        assert_eq!(page.body.contains("is asked too"), status == 303);
        let answer = lab.post(&ola, &path, &yes).await.is(status);
        assert!(
            status == 303 || answer.body.contains("wait until"),
            "{answer:?}"
        );
    }
}
