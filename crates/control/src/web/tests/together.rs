//! Equal questions of several sessions: one card, one form, and a vote for each text that was shown.

use serde_json::Value;
use stockade_policy::{Scope, Strength};
use stockade_trust::{Choice, UserId};
use stockade_types::{Digest, UnixMillis};

use super::{
    inbox::{ask_for, sent, two_stages},
    lab::{Lab, Person},
};
use crate::{
    now,
    state::{QuestionRow, QuestionState},
};

/// Has a session of a person ask an owner and then security whether it may reach a host.
pub(super) async fn ask(
    lab: &Lab,
    requester: &Person,
    host: &str,
    strength: Strength,
) -> QuestionRow {
    let mut review = two_stages();
    for stage in review.paths.iter_mut().flatten() {
        stage.strength = strength;
    }
    ask_for(lab, requester, sent(review, host)).await
}

pub(super) async fn groups(lab: &Lab, person: &Person) -> Vec<(String, Vec<String>)> {
    let data = lab.get(person, "/api/v1/questions").await.is(200);
    let data: Value = serde_json::from_str(&data.body).unwrap();
    let all = data["groups"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|group| {
        let questions = group["questions"].as_array().unwrap();
        (text(&group["id"]), questions.iter().map(text).collect())
    })
    .collect()
}

fn of(row: &QuestionRow) -> String {
    format!("{} {}", row.id, row.sent.rendered)
}

async fn voted(lab: &Lab, row: &QuestionRow) -> usize {
    lab.state.votes(&row.id).await.unwrap().len()
}

/// Without a script: three sessions ask the same, and one form gives each its own vote for its own text. A
/// question that came after the form was drawn gets none.
#[tokio::test(flavor = "multi_thread")]
async fn one_form_votes_for_exactly_what_it_showed() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["owner"]).await;
    let mut rows = Vec::new();
    for name in ["lee", "mia", "tom"] {
        let requester = lab.person(name, &["developer"]).await;
        rows.push(ask(&lab, &requester, "paste.test", Strength::Session).await);
    }
    let lee = lab.person("another", &["developer"]).await;
    let other = ask(&lab, &lee, "other.test", Strength::Session).await;
    let found = groups(&lab, &ann).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let (id, ids) = &found[0];
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains(&other.id));
    let inbox = lab.get(&ann, "/inbox").await.is(200).body;
    assert!(
        inbox.contains("3 equal questions") && inbox.contains("Answer together"),
        "{inbox}"
    );
    for row in &rows {
        assert_eq!(
            inbox.matches(&format!("/inbox/{}\"", row.id)).count(),
            1,
            "{inbox}"
        );
    }
    let path = format!("/inbox/together/{id}");
    let page = lab.get(&ann, &path).await.is(200).body;
    assert_eq!(page.matches("data leaves the company").count(), 3, "{page}");
    assert!(
        !page.contains("<script>window") && !page.contains('\u{202e}'),
        "{page}"
    );
    // The form has these three, and no other.
    let names: Vec<String> = rows.iter().map(of).collect();
    assert!(names.iter().all(|name| page.contains(name)), "{page}");
    assert_eq!(page.matches("name=\"of\"").count(), 3);
    // One more joins now, after the form was drawn.
    let late = ask(&lab, &lee, "paste.test", Strength::Session).await;
    assert_eq!(groups(&lab, &ann).await[0].1.len(), 4);
    let mut fields = vec![
        ("stage", "owner"),
        ("choice", "allow"),
        ("reason", "release 4"),
    ];
    fields.extend(names.iter().map(|name| ("of", name.as_str())));
    let answer = lab.post(&ann, &path, &fields).await.is(303);
    assert_eq!(answer.header("location"), "/inbox?done=together");
    for row in &rows {
        let votes = lab.state.votes(&row.id).await.unwrap();
        assert_eq!(votes.len(), 1);
        assert_eq!(votes[0].user, UserId(ann.id.clone()));
        assert_eq!(votes[0].choice, Choice::Allow);
        assert_eq!(votes[0].scope, Scope::Once);
        assert_eq!(votes[0].reason.as_deref(), Some("release 4"));
    }
    assert_eq!(voted(&lab, &late).await, 0);
    assert_eq!(voted(&lab, &other).await, 0);
    // What is left is no group, but can still be looked at.
    assert_eq!(groups(&lab, &ann).await, []);
    let page = lab.get(&ann, &path).await.is(200).body;
    assert_eq!(page.matches("name=\"of\"").count(), 1);
}

/// The same twice, another text, a question of one's own, or one that is over: none of these is a vote, and the
/// others count.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_count_alone_does_not_count_together() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let ann = lab.person("ann", &["owner", "developer"]).await;
    let bob = lab.person("bob", &["security"]).await;
    let good = ask(&lab, &lee, "paste.test", Strength::Session).await;
    let changed = ask(&lab, &lee, "paste.test", Strength::Session).await;
    let own = ask(&lab, &ann, "paste.test", Strength::Session).await;
    let strong = ask(&lab, &lee, "paste.test", Strength::Passkey).await;
    ask(&lab, &lee, "paste.test", Strength::Key).await;
    let over = ask(&lab, &lee, "paste.test", Strength::Session).await;
    let mut writing = lab.state.write().await.unwrap();
    let closed = QuestionState::Closed;
    lab.state
        .settle_question(&mut writing, &over, closed, None, now())
        .await
        .unwrap();
    lab.state.commit(writing).await.unwrap();
    let found = groups(&lab, &ann).await;
    assert_eq!(found.len(), 1);
    let (id, ids) = &found[0];
    assert_eq!(
        ids.len(),
        2,
        "not one's own, none that needs a passkey or a key, none that is over"
    );
    let path = format!("/inbox/together/{id}");
    let text = format!("{} {}", changed.id, Digest::of(b"another text"));
    let all = [of(&good), of(&good), text, of(&own), of(&strong), of(&over)];
    let missing = format!("q-0000000000000000 {}", good.sent.rendered);
    let mut fields = vec![("stage", "owner"), ("choice", "allow")];
    fields.extend(all.iter().chain([&missing]).map(|one| ("of", one.as_str())));
    // Somebody whose turn it is not, and a stranger, vote for none.
    let page = lab.post(&bob, &path, &fields).await.is(409).body;
    assert!(page.contains("0 of 6 votes count"), "{page}");
    // A sign-in that is too old, and a form without a choice.
    let old = UnixMillis(now().0 - 5 * 60 * 1_000 - 1);
    let stale = lab.signed_in(&UserId(ann.id.clone()), old).await;
    lab.post(&stale, &path, &fields).await.is(303);
    lab.post(&ann, &path, &fields[..2]).await.is(400);
    lab.post(&ann, &path, &fields[1..]).await.is(400);
    lab.post(&ann, &path, &[("stage", "owner"), ("of", all[0].as_str())])
        .await
        .is(400);
    for row in [&good, &changed, &own, &strong] {
        assert_eq!(voted(&lab, row).await, 0);
    }
    let page = lab.post(&ann, &path, &fields).await.is(409).body;
    assert!(page.contains("1 of 6 votes count"), "{page}");
    assert_eq!(voted(&lab, &good).await, 1);
    for row in [&changed, &own, &strong, &over] {
        assert_eq!(voted(&lab, row).await, 0, "{}", row.id);
    }
    // Nobody for whom nothing waits sees the group.
    for stranger in [&lee, &bob] {
        lab.get(stranger, &path).await.is(404);
    }
}

/// One form answers no more than it can show.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_has_a_bounded_number_of_questions() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let ann = lab.person("ann", &["owner"]).await;
    let mut all = Vec::new();
    for _ in 0..25 {
        all.push(of(&ask(&lab, &lee, "paste.test", Strength::Session).await));
    }
    let (id, ids) = groups(&lab, &ann).await.remove(0);
    assert_eq!(ids.len(), 25);
    let path = format!("/inbox/together/{id}");
    let page = lab.get(&ann, &path).await.is(200).body;
    assert_eq!(page.matches("name=\"of\"").count(), 20);
    assert!(page.contains("5 more of these wait"), "{page}");
    let mut fields = vec![("stage", "owner"), ("choice", "deny")];
    fields.extend(all.iter().map(|one| ("of", one.as_str())));
    lab.post(&ann, &path, &fields).await.is(400);
    lab.post(&ann, &path, &fields[..22]).await.is(303);
    let page = lab.get(&ann, &path).await.is(200).body;
    assert_eq!(page.matches("name=\"of\"").count(), 5);
}
