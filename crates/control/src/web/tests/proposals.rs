//! A change of policy on the pages: who writes it, who approves it, and how its rollout is moved.

use serde_json::{Value, json};
use stockade_testkit::browser::faint;
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{
    browser::{AWKWARD, UNREAD, pictures, signed_in},
    lab::{Lab, Person},
};
use crate::now;

const OLD: &str = "schema = 1\n";
const NEW: &str = "schema = 1\n\n[[deny]]\nid = \"no-paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nreason = \"data leaves\"\n";

/// Another place may be reached, one may not any more, and the rule of [`NEW`] is gone.
const WIDER: &str = "schema = 1\n\n[[allow]]\nid = \"wiki\"\nwhat = \"net\"\nhosts = [\"wiki.test\"]\n\n\
    [[deny]]\nid = \"no-mail\"\nwhat = \"net\"\nhosts = [\"mail.test\"]\nreason = \"data leaves\"\n";

/// The fields of an approval with a plan.
fn steps(canaries: &str) -> [(&str, &str); 7] {
    [
        ("do", "approve"),
        ("plan", "steps"),
        ("shadow_minutes", "60"),
        ("canaries", canaries),
        ("canary_minutes", "30"),
        ("min_sessions", "20"),
        ("min_decisions", "500"),
    ]
}

/// Proposes a text, and returns the path of the proposal.
async fn propose(lab: &Lab, person: &Person, text: &str, after: &str) -> String {
    let fields = [
        ("text", text),
        ("message", "no paste sites"),
        ("after", after),
        ("do", "propose"),
    ];
    let answer = lab.post(person, "/policy/proposals", &fields).await.is(303);
    answer.header("location").to_owned()
}

async fn data(lab: &Lab, person: &Person, path: &str) -> Value {
    let answer = lab.get(person, &format!("/api/v1{path}")).await.is(200);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_written_by_one_person_and_approved_by_another() {
    let lab = Lab::start().await;
    let author = lab.person("ann", &["policy-author"]).await;
    let both = lab
        .person("cem", &["policy-author", "policy-approver"])
        .await;
    let approver = lab.person("ben", &["policy-approver"]).await;
    let viewer = lab.person("vera", &["viewer"]).await;
    let path = propose(&lab, &author, OLD, "0").await;
    let approve = [("do", "approve"), ("plan", "now"), ("reason", "fine")];
    // Without the role, and as its author with the role.
    lab.post(&author, &path, &approve).await.is(403);
    lab.post(&viewer, &path, &approve).await.is(403);
    let own = propose(&lab, &both, OLD, "0").await;
    lab.post(&both, &own, &approve).await.is(403);
    // With a sign-in that is too old.
    let id = UserId(approver.id.clone());
    let stale = lab.signed_in(&id, UnixMillis(now().0 - 6 * 60_000)).await;
    let asked = lab.post(&stale, &path, &approve).await;
    assert_eq!(
        (asked.status, asked.header("location").starts_with("/login")),
        (303, true)
    );
    assert_eq!(
        data(&lab, &viewer, "/policy").await["published"],
        Value::Array(Vec::new())
    );
    lab.post(&approver, &path, &approve).await.is(303);
    let one = data(&lab, &viewer, &path).await;
    assert_eq!(
        (&one["state"], &one["serial"], &one["reviewer"]),
        (&"published".into(), &1.into(), &"ben".into())
    );
    // Nobody publishes past a review as long as somebody could make one.
    let publish = [("text", NEW), ("after", "1"), ("do", "publish")];
    lab.post(&approver, "/policy", &publish).await.is(403);
    // The page shows what would change, also what is hostile in it.
    let text = format!("{NEW}# </pre><script>window.ran=1</script>\u{202e}\n");
    let path = propose(&lab, &author, &text, "1").await;
    let page = lab.get(&approver, &path).await.is(200);
    assert!(
        page.body.contains("<ins>") && page.body.contains("no-paste"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("<script>window") && !page.body.contains('\u{202e}'));
    // One that cannot be loaded is shown with its mistakes, and published by nobody.
    let broken = propose(&lab, &author, "schema = 1\nnonsense = 1\n", "1").await;
    let page = lab.get(&approver, &broken).await.is(200);
    assert!(page.body.contains("nonsense"), "{}", page.body);
    lab.post(&approver, &broken, &approve).await.is(400);
    // Rejected, withdrawn, and by the author alone.
    lab.post(&approver, &broken, &[("do", "withdraw")])
        .await
        .is(403);
    lab.post(&author, &broken, &[("do", "withdraw")])
        .await
        .is(303);
    lab.post(
        &approver,
        &own,
        &[("do", "reject"), ("reason", "overtaken")],
    )
    .await
    .is(303);
    assert_eq!(data(&lab, &viewer, &own).await["state"], "rejected");
    lab.post(&approver, &own, &approve).await.is(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lets_more_happen_is_acknowledged_by_who_approves_it() {
    let lab = Lab::start().await;
    let author = lab.person("ann", &["policy-author"]).await;
    let approver = lab.person("ben", &["policy-approver"]).await;
    let approve = ("do", "approve");
    let now = ("plan", "now");
    // Less happens: there is nothing to acknowledge.
    let first = propose(&lab, &author, NEW, "0").await;
    assert_eq!(
        data(&lab, &approver, &first).await["acknowledges"],
        Value::Null
    );
    lab.post(&approver, &first, &[approve, now]).await.is(303);
    // The rule is taken away, another place may be reached, and a third one is denied.
    let path = propose(&lab, &author, WIDER, "1").await;
    let one = data(&lab, &approver, &path).await;
    let changes = one["changes"].as_array().unwrap();
    let of = |direction: &str| {
        let of = changes
            .iter()
            .filter(|change| change["direction"] == direction);
        of.map(|change| change["digest"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    let loosening = of("loosens");
    assert_eq!((loosening.len(), of("tightens").len()), (2, 1), "{one}");
    let page = lab.get(&approver, &path).await.is(200);
    for words in [
        "It lets more happen",
        "wiki.test",
        "newly allowed",
        "newly denied",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    let mark = |digest| ("acknowledged", digest);
    let tightening = of("tightens");
    for marks in [
        vec![],
        vec![mark(loosening[0])],
        vec![mark(loosening[0]), mark(tightening[0])],
        vec![mark("all"), mark("")],
    ] {
        let fields = [&[approve, now], marks.as_slice()].concat();
        lab.post(&approver, &path, &fields).await.is(409);
    }
    assert_eq!(data(&lab, &approver, &path).await["state"], "open");
    let fields = [approve, now, mark(loosening[0]), mark(loosening[1])];
    lab.post(&approver, &path, &fields).await.is(303);
    let one_now = data(&lab, &approver, &path).await;
    let said = one_now["reason"].as_str().unwrap();
    assert!(
        said.starts_with("acknowledged 2 changes that let more happen ("),
        "{said}"
    );
    // All of them by one mark, which is of these changes and of no others.
    let next = propose(&lab, &author, NEW, "2").await;
    let all = |one: &Value| one["acknowledges"].as_str().unwrap().to_owned();
    let (old, new) = (all(&one), all(&data(&lab, &approver, &next).await));
    lab.post(&approver, &next, &[approve, now, mark(&old)])
        .await
        .is(409);
    lab.post(&approver, &next, &[approve, now, mark(&new)])
        .await
        .is(303);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one life of a rollout, step by step")]
async fn a_rollout_is_shown_and_moved_by_who_may() {
    let lab = Lab::start().await;
    let author = lab.person("ann", &["policy-author"]).await;
    let approver = lab.person("ben", &["policy-approver"]).await;
    let developer = lab.person("dev", &["developer"]).await;
    let first = propose(&lab, &author, OLD, "0").await;
    lab.post(&approver, &first, &[("do", "approve"), ("plan", "now")])
        .await
        .is(303);
    let path = propose(&lab, &author, NEW, "1").await;
    // Plans that make no sense.
    for canaries in ["x", "0", "100", "25 5", "-1", "1 2 3 4 5 6 7 8"] {
        lab.post(&approver, &path, &steps(canaries)).await.is(400);
    }
    let rollout = lab.post(&approver, &path, &steps("5 25")).await.is(303);
    let rollout = rollout.header("location").to_owned();
    let page = lab.get(&developer, &rollout).await.is(200);
    for words in [
        "Compare on 100 %",
        "Try on 5 %",
        "In force everywhere",
        "denials of decisions",
        "Held",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    let one = data(&lab, &developer, &rollout).await;
    assert_eq!(
        (&one["state"], &one["step"], &one["next"]["next"]),
        (&"running".into(), &1.into(), &"hold".into())
    );
    assert_eq!(
        data(&lab, &developer, "/policy").await["text"],
        OLD,
        "the candidate is not in force"
    );
    // Who may not, does not.
    for word in ["advance", "halt", "hold", "back"] {
        lab.post(&developer, &rollout, &[("do", word)])
            .await
            .is(403);
        lab.post(&author, &rollout, &[("do", word)]).await.is(403);
    }
    let report = format!("{rollout}/report");
    lab.post(&developer, &report, &[("reason", "")])
        .await
        .is(400);
    lab.post(&developer, &report, &[("reason", "my registry")])
        .await
        .is(303);
    let order = async |word| {
        let done = lab
            .post(&approver, &rollout, &[("do", word), ("why", "seen")])
            .await;
        done.status
    };
    assert_eq!(order("back").await, 409, "it is not done");
    assert_eq!(order("hold").await, 303);
    assert_eq!(order("advance").await, 303);
    let one = data(&lab, &developer, &rollout).await;
    assert_eq!((&one["state"], &one["step"]), (&"held".into(), &2.into()));
    for _ in 0..2 {
        assert_eq!(order("advance").await, 303);
    }
    assert_eq!(data(&lab, &developer, "/policy").await["text"], NEW);
    // Back: a new serial with the old text.
    assert_eq!(order("back").await, 303);
    let policy = data(&lab, &developer, "/policy").await;
    assert_eq!(
        (&policy["text"], &policy["published"][0]["serial"]),
        (&OLD.into(), &3.into())
    );
    let moves = &data(&lab, &developer, &rollout).await["moves"];
    assert_eq!(
        (&moves[0]["by"], &moves[0]["why"]),
        (&"ben".into(), &"seen".into())
    );
}

/// The pages of a change, with one under way, in both colours and at both ends of the widths.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_change_are_readable_in_both_sizes_and_colours() {
    let lab = Lab::start().await;
    let author = lab
        .person("Benedikta von Hohenstein-Langenberg", &["policy-author"])
        .await;
    let approver = lab.person("ben", &["policy-approver"]).await;
    let first = propose(&lab, &author, OLD, "0").await;
    lab.post(&approver, &first, &[("do", "approve"), ("plan", "now")])
        .await
        .is(303);
    let path = propose(&lab, &author, NEW, "1").await;
    let steps = [
        ("do", "approve"),
        ("plan", "steps"),
        ("shadow_minutes", "0"),
        ("canaries", "5 25"),
        ("canary_minutes", "30"),
        ("min_sessions", "20"),
        ("min_decisions", "500"),
    ];
    let rollout = lab.post(&approver, &path, &steps).await.is(303);
    let rollout = rollout.header("location").to_owned();
    let open = propose(
        &lab,
        &author,
        &format!("{NEW}{}", WIDER.replace("schema = 1\n", "")),
        "2",
    )
    .await;
    let mut browser = signed_in(&lab, "Ann Lee").await;
    let pages = [
        ("policy-with-rollout", "/policy"),
        ("proposals", "/policy/proposals"),
        ("proposal", &open),
        ("rollouts", "/rollouts"),
        ("rollout", &rollout),
    ];
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for (width, height) in [(1440, 900), (360, 740)] {
            browser.size(width, height);
            for (name, page) in pages {
                browser.go(&format!("{}{page}", lab.origin));
                browser.picture(&pictures().join(format!("{name}-{scheme}-{width}.png")));
                assert_eq!(
                    browser.eval(&faint(UNREAD)),
                    json!([]),
                    "{page} {scheme} {width}"
                );
                assert_eq!(browser.eval(AWKWARD), json!([]), "{page} {scheme} {width}");
            }
        }
    }
    // By keyboard and form alone: held, with the reason in the list.
    browser.eval("document.getElementById('why').value = 'before the weekend'");
    browser.follow("document.querySelector('button[value=hold]').click()");
    let text = browser
        .eval("document.querySelector('main').textContent")
        .to_string();
    assert!(
        text.contains("held by a person") && text.contains("before the weekend"),
        "{text}"
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
}
