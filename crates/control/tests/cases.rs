//! Questions, votes, and the grants that come of them.

use std::borrow::Cow;

use hyper::{Method, Request as HttpRequest};
use stockade_api::{
    Problem,
    node::{Answered, Down, QuestionAnswer, QuestionSent},
};
use stockade_control::{
    cases::{CaseError, Choosing, Voter},
    state::{LinkKind, LinkRow, QuestionState},
};
use stockade_policy::{NetRequest, Request, Review, Role, Scope, Stage, Strength};
use stockade_shown::{Grounds, Matter};
use stockade_trust::{Asked, Ballot, Choice, Directory, Envelope, Nonce, Proof, Root, UserId};
use stockade_types::{ApprovalId, Digest, SessionId, Subject, UnixMillis};

use crate::common::{Lab, Machine, read};

/// Makes a person with roles, as the pages do.
pub(crate) async fn person(lab: &Lab, name: &str, roles: &[&str]) -> UserId {
    let now = stockade_control::now();
    let secret = stockade_control::secret().unwrap();
    let link = LinkRow {
        kind: LinkKind::Invite,
        name: name.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        created_by: "test".to_owned(),
        expires: UnixMillis(now.0 + 60_000),
    };
    let hash = stockade_control::hash(&secret);
    let state = &lab.server.state;
    state.add_link(&hash, &link, now).await.unwrap();
    let id = UserId(stockade_control::name("u-").unwrap());
    let user = state.redeem_link(&hash, &id, name, now).await.unwrap();
    assert_eq!(user.unwrap().name, name);
    assert_eq!(
        state.redeem_link(&hash, &id, "again", now).await.unwrap(),
        None
    );
    id
}

pub(crate) fn stage(name: &str, need: u32, strength: Strength) -> Stage {
    Stage {
        name: name.to_owned(),
        role: Role(name.to_owned()),
        need,
        veto: 1,
        strength,
        wait_ms: 0,
        escalation: None,
    }
}

/// `owner`, then two of `security`.
fn review() -> Review {
    Review {
        paths: vec![vec![
            stage("owner", 1, Strength::Session),
            stage("security", 2, Strength::Session),
        ]],
        scope_max: Scope::Session,
        reason_required: false,
        break_glass: None,
    }
}

pub(crate) fn sent(review: Review) -> QuestionSent {
    let now = stockade_control::now();
    let request = Request::Net(NetRequest {
        host: "paste.test".parse().unwrap(),
        port: stockade_types::Port::new(443).unwrap(),
        subject: Subject::default(),
    });
    let matter = Matter {
        request: &request,
        grounds: Cow::Owned(Grounds {
            rule: Some("paste".parse().unwrap()),
            origin: None,
            reason: "look".to_owned(),
            nearest_allow: None,
            private: false,
            scope_max: Some(Scope::Session),
            review: Some(review.clone()),
        }),
        agent: "codex",
        intent: None,
        asked: now,
        expires: UnixMillis(now.0 + 60_000),
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

pub(crate) fn choosing(sent: &QuestionSent, choice: Choice) -> Choosing {
    Choosing {
        stage: None,
        breaks_glass: false,
        choice,
        scope: Scope::Once,
        not_after: None,
        reason: Some("because".to_owned()),
        rendered: sent.rendered,
    }
}

fn path(number: u32) -> (SessionId, ApprovalId, String) {
    let (session, approval) = (SessionId::from_random(1), ApprovalId::from_random(number));
    let path = format!("/node/v1/questions/{session}/{}", approval.as_str());
    (session, approval, path)
}

/// Sends a question, and returns its id here.
pub(crate) async fn ask(
    lab: &Lab,
    machine: &mut Machine,
    number: u32,
    sent: &QuestionSent,
) -> String {
    let (_, approval, path) = path(number);
    let answer = machine.client.json(Method::PUT, &path, sent).await;
    assert_eq!(answer.0, 200, "{}", String::from_utf8_lossy(&answer.1));
    let rows = lab.server.state.questions(1_000).await.unwrap();
    let row = rows
        .iter()
        .find(|row| row.approval == approval && row.key.node == machine.id);
    row.unwrap().id.clone()
}

async fn vote(
    lab: &Lab,
    user: &UserId,
    id: &str,
    choosing: &Choosing,
) -> Result<QuestionState, CaseError> {
    let voter = Voter {
        user: user.clone(),
        signed_in: stockade_control::now(),
    };
    let voted = lab.server.vote(&voter, id, choosing, Proof::Session {});
    voted.await.unwrap()
}

/// Checks a grant as the machine does, by what it has pinned at its enrolment and heard since.
fn verified(
    machine: &Machine,
    directory: &Envelope,
    sent: &QuestionSent,
    number: u32,
    owner: &UserId,
    envelope: &Envelope,
) -> bool {
    let now = stockade_control::now();
    let root = Root::open(&machine.answer.root, now).unwrap();
    let directory: Directory = root.directory(directory, 1, now).unwrap();
    let (session, approval, _) = path(number);
    let asked = Asked {
        ballot: Ballot {
            org: "acme",
            node: machine.id.as_str(),
            session: &session,
            approval: &approval,
            nonce: sent.nonce,
            request: sent.question.request_digest(),
            revision: sent.revision,
            rendered: sent.rendered,
        },
        review: &sent.review,
        requesters: std::slice::from_ref(owner),
        requesters_are_known: true,
        directory: &directory,
        servers: machine.servers(),
        party: &machine.answer.party,
        since: sent.question.asked,
        now,
    };
    asked.verify(envelope).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_in_roles_allow_and_the_machine_verifies_it() {
    let lab = Lab::new().await;
    let lee = person(&lab, "lee", &["developer"]).await;
    let ann = person(&lab, "ann", &["owner"]).await;
    let (bob, cat) = (
        person(&lab, "bob", &["security"]).await,
        person(&lab, "cat", &["security"]).await,
    );
    let mut machine = lab.machine(Some("lee")).await;
    let mut down = machine.client.stream().await;
    let sent = sent(review());
    let id = ask(&lab, &mut machine, 1, &sent).await;
    // The same again is the same.
    assert_eq!(ask(&lab, &mut machine, 1, &sent).await, id);
    let yes = choosing(&sent, Choice::Allow);
    assert_eq!(vote(&lab, &ann, &id, &yes).await, Ok(QuestionState::Open));
    assert_eq!(vote(&lab, &bob, &id, &yes).await, Ok(QuestionState::Open));
    assert_eq!(
        vote(&lab, &cat, &id, &yes).await,
        Ok(QuestionState::Granted)
    );
    let mut directory = machine.answer.directory.clone();
    let mut standings = Vec::new();
    let envelope = loop {
        match down.news().await.unwrap() {
            Down::Directory { envelope } => directory = envelope,
            Down::Case { stages, .. } => {
                let one = &stages[0];
                standings.push((one.name.clone(), one.have, one.need));
            }
            Down::Answer {
                answer: Answered::Granted { envelope },
                ..
            } => break envelope,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        standings,
        [("security".to_owned(), 0, 2), ("security".to_owned(), 1, 2)]
    );
    assert!(verified(&machine, &directory, &sent, 1, &lee, &envelope));
    // For anything else it is worth nothing.
    assert!(!verified(&machine, &directory, &sent, 2, &lee, &envelope));
    assert!(!verified(&machine, &directory, &sent, 1, &bob, &envelope));
    // Who was away gets it again, until the machine says that it has it.
    let again = machine.client.json(Method::PUT, &path(1).2, &sent).await;
    let again: QuestionAnswer = read(&again);
    assert_eq!(
        again.answer,
        Some(Answered::Granted {
            envelope: envelope.clone()
        })
    );
    let mut second = machine.client.stream().await;
    let told = second.news().await;
    assert!(
        matches!(told, Some(Down::Directory { .. } | Down::Answer { .. })),
        "{told:?}"
    );
    let close = format!("{}?why=answered", path(1).2);
    let closed = machine
        .client
        .send(
            HttpRequest::builder().method(Method::DELETE),
            &close,
            vec![],
        )
        .await;
    assert_eq!(closed.0, 200);
    let row = lab.server.state.question(&id).await.unwrap().unwrap();
    assert_eq!(row.state, QuestionState::Granted);
    assert!(row.delivered.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_not_answer_does_not() {
    let lab = Lab::new().await;
    // The owner of the machine has every role, and still no vote.
    let lee = person(&lab, "lee", &["owner", "security"]).await;
    let ann = person(&lab, "ann", &["owner", "security"]).await;
    let dan = person(&lab, "dan", &["viewer"]).await;
    let mut machine = lab.machine(Some("lee")).await;
    let sent = sent(review());
    let id = ask(&lab, &mut machine, 1, &sent).await;
    let yes = choosing(&sent, Choice::Allow);
    assert_eq!(vote(&lab, &lee, &id, &yes).await, Err(CaseError::Requester));
    assert_eq!(vote(&lab, &dan, &id, &yes).await, Err(CaseError::Role));
    assert_eq!(
        vote(&lab, &UserId("u-nobody".to_owned()), &id, &yes).await,
        Err(CaseError::Role)
    );
    let other_text = Choosing {
        rendered: Digest::of(b"harmless"),
        ..yes.clone()
    };
    assert_eq!(
        vote(&lab, &ann, &id, &other_text).await,
        Err(CaseError::Text)
    );
    let later = Choosing {
        stage: Some("security".to_owned()),
        ..yes.clone()
    };
    assert_eq!(
        vote(&lab, &ann, &id, &later).await,
        Err(CaseError::Stage("security".to_owned()))
    );
    let long = Choosing {
        not_after: Some(UnixMillis(u64::MAX)),
        ..yes.clone()
    };
    assert!(matches!(
        vote(&lab, &ann, &id, &long).await,
        Err(CaseError::Scope(_))
    ));
    let glass = Choosing {
        breaks_glass: true,
        ..yes.clone()
    };
    assert_eq!(vote(&lab, &ann, &id, &glass).await, Err(CaseError::NoGlass));
    let stale = Voter {
        user: ann.clone(),
        signed_in: UnixMillis(stockade_control::now().0 - 301_000),
    };
    let stale = lab
        .server
        .vote(&stale, &id, &yes, Proof::Session {})
        .await
        .unwrap();
    assert_eq!(stale, Err(CaseError::Stale));
    assert_eq!(
        vote(&lab, &ann, "q-0000000000000000", &yes).await,
        Err(CaseError::Unknown)
    );
    // The twin: the same person, in time, with the right text.
    assert_eq!(vote(&lab, &ann, &id, &yes).await, Ok(QuestionState::Open));
    assert_eq!(vote(&lab, &ann, &id, &yes).await, Err(CaseError::Twice));
    let no = choosing(&sent, Choice::Deny);
    assert_eq!(vote(&lab, &ann, &id, &no).await, Err(CaseError::Twice));
    // A machine without an owner: nobody could be kept from answering his own question.
    let mut ownerless = lab.machine(None).await;
    let id = ask(&lab, &mut ownerless, 1, &sent).await;
    assert_eq!(
        vote(&lab, &ann, &id, &yes).await,
        Err(CaseError::RequesterUnknown)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_for_passkeys_takes_no_session() {
    let lab = Lab::new().await;
    person(&lab, "lee", &[]).await;
    let ann = person(&lab, "ann", &["owner"]).await;
    let mut machine = lab.machine(Some("lee")).await;
    let mut strong = review();
    strong.paths = vec![vec![stage("owner", 1, Strength::Passkey)]];
    let sent = sent(strong);
    let id = ask(&lab, &mut machine, 1, &sent).await;
    let yes = choosing(&sent, Choice::Allow);
    assert!(matches!(
        vote(&lab, &ann, &id, &yes).await,
        Err(CaseError::Proof(_))
    ));
    assert!(lab.server.state.votes(&id).await.unwrap().is_empty());
    // What is to be signed binds the choice.
    let draft = |choosing: Choosing| {
        let (server, ann, id) = (lab.server.clone(), ann.clone(), id.clone());
        async move {
            server
                .ballot(&ann, &id, &choosing)
                .await
                .unwrap()
                .unwrap()
                .1
        }
    };
    let reach = yes.clone();
    let (one, other) = (
        draft(yes).await,
        draft(Choosing {
            choice: Choice::Deny,
            ..reach
        })
        .await,
    );
    assert_ne!(one, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_what_the_server_makes_of_it() {
    let lab = Lab::new().await;
    person(&lab, "lee", &[]).await;
    let mut machine = lab.machine(Some("lee")).await;
    let good = sent(review());
    // Another text than the request has.
    let mut other = good.clone();
    other.rendered = Digest::of(b"list the files");
    let refused = machine.client.json(Method::PUT, &path(1).2, &other).await;
    assert_eq!(
        (refused.0, read::<Problem>(&refused).kind.as_str()),
        (422, "question-text")
    );
    // Other people than those whom the text names.
    let mut fewer = good.clone();
    for path in &mut fewer.review.paths {
        path.truncate(1);
    }
    let refused = machine.client.json(Method::PUT, &path(1).2, &fewer).await;
    assert_eq!(
        (refused.0, read::<Problem>(&refused).kind.as_str()),
        (422, "question-review")
    );
    // A request that is not what its digest says.
    let mut changed = serde_json::to_value(&good).unwrap();
    let text = serde_json::to_string(&changed)
        .unwrap()
        .replace("paste.test", "other.test");
    changed = serde_json::from_str(&text).unwrap();
    let refused = machine.client.json(Method::PUT, &path(1).2, &changed).await;
    assert_eq!(refused.0, 400, "{}", String::from_utf8_lossy(&refused.1));
    // Too late, too long, and a review that nobody can answer.
    for mut wrong in [
        QuestionSent {
            review: Review {
                paths: vec![],
                ..review()
            },
            ..good.clone()
        },
        QuestionSent {
            question: expiring(&good, 0),
            ..good.clone()
        },
        QuestionSent {
            question: expiring(&good, 48 * 60 * 60 * 1_000),
            ..good.clone()
        },
    ] {
        wrong.question.grounds.review = Some(wrong.review.clone());
        wrong.rendered = wrong.question.shown().digest();
        let refused = machine.client.json(Method::PUT, &path(1).2, &wrong).await;
        assert_eq!(refused.0, 400, "{}", String::from_utf8_lossy(&refused.1));
    }
    ask(&lab, &mut machine, 1, &good).await;
    let mut again = good.clone();
    again.nonce = Nonce::new([4; 16]);
    let refused = machine.client.json(Method::PUT, &path(1).2, &again).await;
    assert_eq!(
        (refused.0, read::<Problem>(&refused).kind.as_str()),
        (409, "question-changed")
    );
}

fn expiring(sent: &QuestionSent, after_ms: u64) -> stockade_shown::CanonicalQuestion {
    let mut question = sent.question.clone();
    question.expires = UnixMillis(stockade_control::now().0 + after_ms);
    question
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_final_and_so_is_the_end_of_time() {
    let lab = Lab::new().await;
    person(&lab, "lee", &[]).await;
    let (ann, eve) = (
        person(&lab, "ann", &["owner"]).await,
        person(&lab, "eve", &["owner"]).await,
    );
    let mut machine = lab.machine(Some("lee")).await;
    let mut down = machine.client.stream().await;
    let denied = sent(review());
    let id = ask(&lab, &mut machine, 1, &denied).await;
    let no = choosing(&denied, Choice::Deny);
    assert_eq!(vote(&lab, &ann, &id, &no).await, Ok(QuestionState::Denied));
    let yes = choosing(&denied, Choice::Allow);
    assert_eq!(vote(&lab, &eve, &id, &yes).await, Err(CaseError::Over));
    assert_eq!(lab.server.state.grant(&id).await.unwrap(), None);
    let mut short = sent(review());
    short.question = expiring(&short, 400);
    short.rendered = short.question.shown().digest();
    let id = ask(&lab, &mut machine, 2, &short).await;
    let mut answers = Vec::new();
    while answers.len() < 2 {
        if let Down::Answer {
            answer: Answered::Denied { reason, .. },
            ..
        } = down.news().await.unwrap()
        {
            answers.push(reason.unwrap());
        }
    }
    assert_eq!(answers, ["because", "nobody answered in time"]);
    let yes = choosing(&short, Choice::Allow);
    assert_eq!(vote(&lab, &ann, &id, &yes).await, Err(CaseError::Over));
}

/// Random histories of votes, roles that are taken, ends and repetitions: what was once settled stays so,
/// nobody has two votes, and each grant is one that the machine verifies.
#[tokio::test(flavor = "multi_thread")]
async fn no_history_leads_out_of_a_settled_question() {
    let lab = Lab::new().await;
    let lee = person(&lab, "lee", &["owner", "security"]).await;
    let mut people = vec![lee.clone()];
    for (name, roles) in [
        ("ann", vec!["owner"]),
        ("bob", vec!["security"]),
        ("cat", vec!["security"]),
        ("dan", vec!["owner", "security"]),
        ("eve", vec!["viewer"]),
    ] {
        people.push(person(&lab, name, &roles).await);
    }
    let mut machine = lab.machine(Some("lee")).await;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(below).unwrap()).unwrap()
    };
    let mut settled = [0; 5];
    for number in 0..40 {
        let asked = sent(review());
        let id = ask(&lab, &mut machine, number, &asked).await;
        let mut last = QuestionState::Open;
        for _ in 0..14 {
            let user = &people[next(people.len())];
            if next(24) == 0 {
                let close = format!("{}?why=gone", path(number).2);
                let request = HttpRequest::builder().method(Method::DELETE);
                machine.client.send(request, &close, vec![]).await;
            }
            let choice = if next(8) == 0 {
                Choice::Deny
            } else {
                Choice::Allow
            };
            let voted = vote(&lab, user, &id, &choosing(&asked, choice)).await;
            let row = lab.server.state.question(&id).await.unwrap().unwrap();
            if last != QuestionState::Open {
                assert_eq!(row.state, last);
                assert_eq!(voted, Err(CaseError::Over));
            }
            last = row.state;
            let votes = lab.server.state.votes(&id).await.unwrap();
            let mut voters: Vec<&str> = votes.iter().map(|vote| vote.user.0.as_str()).collect();
            voters.sort_unstable();
            let all = voters.len();
            voters.dedup();
            assert_eq!(voters.len(), all);
            assert!(!voters.contains(&lee.0.as_str()));
            let grant = lab.server.state.grant(&id).await.unwrap();
            assert_eq!(grant.is_some(), row.state == QuestionState::Granted);
            if let Some(grant) = grant {
                let directory = lab.server.directory().await.unwrap();
                assert!(verified(&machine, &directory, &asked, number, &lee, &grant));
            }
        }
        settled[last as usize] += 1;
    }
    // The histories reach what they are about.
    let granted = settled[QuestionState::Granted as usize];
    let denied = settled[QuestionState::Denied as usize];
    assert!(granted > 3 && denied > 3, "{settled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_reaches_its_machine_signed() {
    let lab = Lab::new().await;
    let ann = person(&lab, "ann", &["admin"]).await;
    let mut machine = lab.machine(None).await;
    let session = SessionId::from_random(5);
    // It waits for a machine that is away.
    assert!(!lab.server.stop(&machine.id, &session, &ann).await.unwrap());
    let mut down = machine.client.stream().await;
    loop {
        if let Down::Order { envelope } = down.news().await.unwrap() {
            let order: stockade_api::Order = envelope.open(machine.servers()).unwrap();
            assert_eq!(
                (order.node, order.session, order.by),
                (machine.id.clone(), session.clone(), ann.clone())
            );
            break;
        }
    }
    assert!(lab.server.stop(&machine.id, &session, &ann).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_checked_signed_and_said() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let mut down = machine.client.stream().await;
    let wrong = lab
        .server
        .publish("schema = 1\n[[deny]]\nhots = 1\n", "", "ann", 0)
        .await
        .unwrap();
    assert!(wrong.is_err());
    let text = "schema = 1\n[[deny]]\nid = \"paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nreason = \"no\"\n";
    let first = lab
        .server
        .publish(text, "no pastes", "ann", 0)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.serial, 1);
    let root = Root::open(&machine.answer.root, stockade_control::now()).unwrap();
    loop {
        if let Down::Bundle { envelope } = down.news().await.unwrap() {
            assert_eq!(root.bundle(&envelope, 0).unwrap().text, text);
            break;
        }
    }
    // Who has not seen the first one does not replace it.
    assert!(
        lab.server
            .publish(text, "", "bob", 0)
            .await
            .unwrap()
            .is_err()
    );
    let second = lab
        .server
        .publish(text, "", "bob", 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.serial, 2);
    // Whoever takes another name of the state for the newest has a lower serial, and is refused.
    assert!(root.bundle(&first.envelope, 2).is_err());
}

/// The server's own record holds what people did, and is verified as every journal is.
#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_is_in_the_record() {
    let lab = Lab::new().await;
    person(&lab, "lee", &["owner"]).await;
    let machine = lab.machine(Some("lee")).await;
    let id = machine.id.clone();
    let dir = lab.end().await;
    let record = dir.path().join("data/server-journal");
    let key = stockade_journal::SigningKey::load(&record.join("key")).unwrap();
    let mut actions = Vec::new();
    for session in std::fs::read_dir(record.join("sessions")).unwrap() {
        let path = session.unwrap().path();
        let session = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let verified = stockade_journal::verify(&path, &session, &key.verifying_key()).unwrap();
        assert!(
            matches!(
                verified.verdict,
                stockade_journal::VerificationVerdict::Intact
            ),
            "{verified:?}"
        );
        for event in stockade_journal::read(&path).unwrap().flatten() {
            if let stockade_event::Event::OperatorActed { action, detail, .. } = event.event {
                actions.push(format!("{action} {detail}"));
            }
        }
    }
    for wanted in [
        "server.started",
        "link.issued",
        "user.added",
        "role.given",
        "token.issued",
        "directory.published",
    ] {
        assert!(
            actions.iter().any(|action| action.starts_with(wanted)),
            "{wanted}: {actions:?}"
        );
    }
    let enrolled = actions
        .iter()
        .find(|action| action.starts_with("node.enrolled"))
        .unwrap();
    assert!(enrolled.contains(id.as_str()), "{enrolled}");
    // A second run has a record of its own, and begins where the state left off.
    let lab = Lab::start(dir).await;
    assert_eq!(lab.server.state.nodes().await.unwrap().len(), 1);
}

/// A policy whose questions nobody could answer is not published, and is as soon as there are people for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_asks_for_more_people_than_there_are_is_not_published() {
    let lab = Lab::new().await;
    let text = "schema = 1\n[stages.security]\nwho = \"role:security\"\nneed = 2\n\
                [[ask]]\nid = \"paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nstages = [\"security\"]\n";
    person(&lab, "bob", &["security"]).await;
    let publish = || async { lab.server.publish(text, "", "ann", 0).await.unwrap() };
    let refused = publish().await.unwrap_err().to_string();
    assert!(
        refused.contains("stage `security` needs 2 different people, and there are 1"),
        "{refused}"
    );
    person(&lab, "cat", &["security"]).await;
    assert_eq!(publish().await.unwrap().serial, 1);
}
