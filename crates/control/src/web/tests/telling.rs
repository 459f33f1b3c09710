//! Who is told that something waits or went wrong, by real receivers and relays on loopback.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use stockade_api::node::{Ack, AckState};
use stockade_policy::Escalation;
use stockade_testkit::{
    http::{Request, Response},
    lab::TlsServer,
};
use stockade_trust::Role;
use stockade_types::{ApprovalId, SessionId, Severity, UnixMillis};

use super::{
    inbox::{sent, two_stages},
    lab::{Lab, Person},
    recorded::Machine,
};
use crate::{
    notice::{Channel, Form, Kind},
    notify::new_row,
    now, random,
    state::{ChannelRow, SessionKey, Told, Write},
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A receiver that answers with the status that a test sets, or not at all for a while.
pub(super) struct Receiver {
    pub(super) server: TlsServer,
    status: Arc<AtomicU16>,
    hangs: Arc<AtomicBool>,
}

impl Receiver {
    pub(super) fn start() -> Self {
        Self::leading(String::new())
    }

    /// One whose answers have this `Location`.
    fn leading(location: String) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let hangs = Arc::new(AtomicBool::new(false));
        let (said, held) = (Arc::clone(&status), Arc::clone(&hangs));
        let server = TlsServer::with(&["localhost"], move |_| {
            while held.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let answer = Response::text(said.load(Ordering::Relaxed), "");
            if location.is_empty() {
                return answer;
            }
            answer.header("location", &location)
        });
        Self {
            server,
            status,
            hangs,
        }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn hangs(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/hooks/s3cret?x=1", self.server.port())
    }

    /// Waits until something of each of these kinds was received.
    async fn has(&self, kinds: &[&str]) {
        let begun = Instant::now();
        let is = |kind: &&str| {
            let mut all = self.server.requests().into_iter();
            all.any(|one| one.json()["type"] == **kind)
        };
        while !kinds.iter().all(is) {
            assert!(begun.elapsed() < PATIENCE, "{kinds:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many messages were received, and returns them.
    pub(super) async fn received(&self, count: usize) -> Vec<Request> {
        let begun = Instant::now();
        loop {
            let requests = self.server.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(begun.elapsed() < PATIENCE, "{requests:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.hangs(false);
    }
}

/// A channel to a receiver that hears of everything.
pub(super) fn channel(form: Form, receiver: &Receiver) -> Channel {
    Channel {
        name: "pager".to_owned(),
        form,
        to: receiver.url(),
        kinds: Kind::ALL.iter().map(|(kind, ..)| *kind).collect(),
        roles: BTreeSet::new(),
        details: false,
        private: true,
        authorities: Some(receiver.server.certificate_pem().to_owned()),
    }
}

impl Lab {
    pub(super) async fn add(&self, channel: Channel) -> ChannelRow {
        let row = new_row(channel).await.unwrap();
        assert!(self.state.add_channel(&row, "u-1").await.unwrap());
        row
    }

    /// Has a session of a machine ask one owner and then one of security whether it may reach a host; returns
    /// the id of the question.
    pub(super) async fn asked(&self, machine: &Machine, host: &str) -> String {
        self.asked_with(machine, host, |_| {}).await
    }

    async fn asked_with(
        &self,
        machine: &Machine,
        host: &str,
        change: impl FnOnce(&mut stockade_policy::Review),
    ) -> String {
        let node = self.state.node(&machine.id).await.unwrap().unwrap();
        let key = SessionKey {
            node: machine.id.clone(),
            session: SessionId::from_random(random::bits().unwrap()),
        };
        let mut review = two_stages();
        change(&mut review);
        let approval = ApprovalId::from_random(u32::from_le_bytes(random::bytes().unwrap()));
        let opened = self
            .server
            .open(&node, key.clone(), approval.clone(), sent(review, host))
            .await;
        opened.unwrap().expect("the question is taken");
        let mut reading = self.state.read().await.unwrap();
        let found = self.state.question_of(&mut reading, &key, &approval).await;
        found.unwrap().expect("the question is there").id
    }

    /// Notes so much of one kind, as if many machines had caused it.
    async fn floods(&self, kind: Kind, count: u32) {
        for number in 0..count {
            let mut writing = self.state.write().await.unwrap();
            let notice = crate::notice::Notice::new(kind, now(), "/findings".into());
            let event = format!("test {} {number}", kind.word());
            let told = self.state.tell(&mut writing, &event, &notice).await;
            told.unwrap();
            self.state.commit(writing).await.unwrap();
        }
        let begun = Instant::now();
        while !self.state.unspread().await.unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_mins(1));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Votes in the form of a question.
    async fn votes(&self, person: &Person, question: &str, choice: &str) {
        let row = self.state.question(question).await.unwrap().unwrap();
        let rendered = row.sent.rendered.to_string();
        let fields = [("rendered", rendered.as_str()), ("choice", choice)];
        let path = format!("/inbox/{question}");
        self.post(person, &path, &fields).await.is(303);
    }
}

/// Waits until the deliveries of a channel stand so.
async fn until(lab: &Lab, channel: &str, is: impl Fn(&Told) -> bool) -> Told {
    let begun = Instant::now();
    loop {
        let standing = lab.state.standing_of(channel).await.unwrap();
        if is(&standing) {
            return standing;
        }
        assert!(begun.elapsed() < PATIENCE, "{standing:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Verifies a message as receivers do, by the specification of Standard Webhooks.
fn verified(secret: &str, request: &Request) -> Value {
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap());
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key.unwrap());
    let signed = format!(
        "{}.{}.{}",
        header("webhook-id"),
        header("webhook-timestamp"),
        String::from_utf8(request.body.clone()).unwrap()
    );
    let signature = header("webhook-signature");
    let tag = STANDARD.decode(signature.strip_prefix("v1,").unwrap());
    ring::hmac::verify(&key, signed.as_bytes(), &tag.unwrap()).expect("the signature is right");
    let seconds: u64 = header("webhook-timestamp").parse().unwrap();
    assert!(seconds.abs_diff(now().0 / 1_000) < 60);
    request.json()
}

/// A question is told to the people whose stage waits, each stage when it does; with a signature, a link, and
/// nothing of what is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_told_of_a_question_and_can_verify_it() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let ann = lab.person("ann", &["owner"]).await;
    let machine = lab.machine("laptop-lee", Some(&lee)).await;
    let (all, security, plain) = (Receiver::start(), Receiver::start(), Receiver::start());
    let row = lab.add(channel(Form::Webhook, &all)).await;
    let of_security = Channel {
        roles: BTreeSet::from(["security".to_owned()]),
        ..channel(Form::Webhook, &security)
    };
    lab.add(of_security).await;
    let detailed = Channel {
        details: true,
        ..channel(Form::Webhook, &plain)
    };
    lab.add(detailed).await;
    let begun = Instant::now();
    let question = lab.asked(&machine, "paste.test").await;
    let told = all.received(1).await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let body = verified(&row.secret, &told[0]);
    assert_eq!(body["type"], "question.waiting");
    assert_eq!(body["data"]["role"], "owner");
    assert_eq!(body["data"]["machine"], "laptop-lee");
    assert_eq!(body["data"]["rule"], "paste");
    let link = format!("{}/inbox/{question}", lab.origin);
    assert_eq!(body["data"]["link"], link);
    let text = body.to_string();
    assert!(
        !text.contains("paste.test") && !text.contains("codex"),
        "{text}"
    );
    assert!(!text.contains("window.ran"), "{text}");
    // A channel that is to be told what lists show is told that, and no more.
    let body = plain.received(1).await[0].json();
    let summary = body["data"]["summary"].as_str().unwrap().to_owned();
    assert!(
        summary.contains("codex") && summary.contains("paste.test"),
        "{summary}"
    );
    assert!(!body.to_string().contains("window.ran"), "{body}");
    // The second stage waits once the first has said yes; only then its people are told.
    assert_eq!(security.server.requests().len(), 0);
    lab.votes(&ann, &question, "allow").await;
    let told = security.received(1).await;
    assert_eq!(told[0].json()["data"]["role"], "security");
    assert_eq!(all.received(2).await[1].json()["data"]["role"], "security");
    let ids: BTreeSet<String> = all
        .server
        .requests()
        .iter()
        .map(|one| one.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

/// Everything else that channels can hear of is told, once.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_told_once() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let machine = lab.machine("laptop-lee", Some(&lee)).await;
    let receiver = Receiver::start();
    let of_most = Channel {
        kinds: Kind::ALL
            .iter()
            .map(|(kind, ..)| *kind)
            .filter(|kind| *kind != Kind::QuestionWaiting)
            .collect(),
        ..channel(Form::Webhook, &receiver)
    };
    lab.add(of_most).await;
    // A stage that takes long.
    let late = |review: &mut stockade_policy::Review| {
        for stage in review.paths.iter_mut().flatten() {
            stage.escalation = Some(Escalation {
                after_ms: 200,
                role: Role("on-call".to_owned()),
            });
        }
    };
    lab.asked_with(&machine, "paste.test", late).await;
    let told = receiver.received(1).await;
    assert_eq!(told[0].json()["type"], "case.escalated");
    assert_eq!(told[0].json()["data"]["role"], "on-call");
    // A machine that cannot use a policy, twice.
    for _ in 0..2 {
        let ack = Ack {
            channel: "default".to_owned(),
            serial: 3,
            state: AckState::Failed,
            error: Some("cannot be read".to_owned()),
            session: None,
            rollout: None,
        };
        let write = Write::Acknowledged {
            node: machine.id.clone(),
            ack: Box::new(ack),
            now: now(),
        };
        lab.state.put(vec![write]).await.unwrap();
    }
    // A machine that did what it must not: that is a finding.
    let accused = lab
        .state
        .accuse(&machine.id, None, "text-mismatch", "another text", now());
    accused.await.unwrap();
    let told = receiver.received(3).await;
    let mut kinds: Vec<String> = told
        .iter()
        .map(|one| one.json()["type"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["bundle.refused", "case.escalated", "finding.high"]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(receiver.server.requests().len(), 3);
}

/// Findings of records are told, those that must be looked at alone, and once for each kind in a session; an
/// index that is made again tells of none twice.
#[tokio::test(flavor = "multi_thread")]
async fn findings_of_records_are_told_once() {
    let lab = Lab::start().await;
    let machine = lab.machine("laptop", None).await;
    let receiver = Receiver::start();
    lab.add(Channel {
        details: true,
        ..channel(Form::Webhook, &receiver)
    })
    .await;
    let key = SessionKey {
        node: machine.id.clone(),
        session: SessionId::from_random(3),
    };
    let raised = |seq, severity, at| crate::index::row::Raised {
        seq,
        at,
        kind: "finding.raised",
        severity,
        title: "a secret left".to_owned(),
        detail: "to paste.test".to_owned(),
    };
    let (today, long_ago) = (now().0, now().0 - 31 * 24 * 60 * 60 * 1_000);
    for _ in 0..2 {
        let found = [
            raised(7, Severity::Medium, today),
            raised(8, Severity::High, long_ago),
            raised(9, Severity::High, today),
            raised(10, Severity::High, today),
        ];
        lab.state.tell_findings(&key, &found, now()).await.unwrap();
    }
    let told = receiver.received(1).await;
    let body = told[0].json();
    assert_eq!(body["type"], "finding.high");
    let link = body["data"]["link"].as_str().unwrap();
    assert!(
        link.contains("/findings?which=all&id=n-") && link.ends_with("%2F9"),
        "{link}"
    );
    assert_eq!(body["data"]["summary"], "a secret left: to paste.test");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(receiver.server.requests().len(), 1);
}

/// A receiver that fails is tried 8 times over 28 hours, under one id; then the delivery is on the page, in the
/// record, and can be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_is_tried_again_for_a_day_and_can_be_told_later() {
    let lab = Lab::start().await;
    let admin = lab.person("root", &["admin"]).await;
    let machine = lab.machine("laptop", None).await;
    let receiver = Receiver::start();
    receiver.answers(500);
    let row = lab.add(channel(Form::Webhook, &receiver)).await;
    let accused = lab
        .state
        .accuse(&machine.id, None, "text-mismatch", "another text", now());
    accused.await.unwrap();
    receiver.received(1).await;
    let (mut at, begun) = (now(), now());
    let end = UnixMillis(at.0 + 40 * 60 * 60 * 1_000);
    for attempt in 2..=8 {
        // The first attempt is settled a moment after the receiver has answered.
        let due = loop {
            let due = lab.state.delivery_due(&row.id, end).await.unwrap();
            match due {
                Some(due) if due.attempts + 1 == attempt => break due,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let delay = crate::notify::DELAYS_MS[usize::try_from(attempt).unwrap() - 2];
        // Not a moment before it is due.
        let early = UnixMillis(at.0 + delay - 2_000);
        assert_eq!(lab.state.delivery_due(&row.id, early).await.unwrap(), None);
        at = UnixMillis(at.0 + delay);
        lab.server.deliver(&row, &due, at).await.unwrap();
    }
    let hours = (at.0 - begun.0) / 3_600_000;
    assert_eq!(hours, 27, "the last attempt");
    let requests = receiver.received(8).await;
    assert_eq!(requests.len(), 8);
    let ids: BTreeSet<_> = requests
        .iter()
        .map(|one| one.header("webhook-id"))
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(lab.state.delivery_due(&row.id, end).await.unwrap(), None);
    let page = lab.get(&admin, "/settings").await.is(200);
    assert!(
        page.body.contains("Not delivered") && page.body.contains("500"),
        "{}",
        page.body
    );
    let audit = lab.get(&admin, "/api/v1/settings").await.is(200);
    let data: Value = serde_json::from_str(&audit.body).unwrap();
    let id = data["dead"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(data["dead"][0]["attempts"], 8);
    assert_eq!(Some(id.as_str()), requests[0].header("webhook-id"));
    let metrics = lab.get(&admin, "/metrics").await.is(200).body;
    for line in [
        "stockade_notices_total{form=\"webhook\",outcome=\"failed\"} 7",
        "stockade_notices_total{form=\"webhook\",outcome=\"dead\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // Now it takes it, under the same id.
    receiver.answers(204);
    let path = format!("/settings/deliveries/{id}/again");
    lab.post(&admin, &path, &[]).await.is(303);
    lab.post(&admin, &path, &[]).await.is(404);
    let requests = receiver.received(9).await;
    assert_eq!(requests[8].header("webhook-id"), Some(id.as_str()));
    let standing = until(&lab, &row.id, |standing| standing.sent.is_some()).await;
    assert_eq!((standing.waiting, standing.dead), (0, 0));
}

/// A receiver that does not answer keeps no other waiting, and no question.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_keeps_nobody_waiting() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let machine = lab.machine("laptop", Some(&lee)).await;
    let (stuck, well) = (Receiver::start(), Receiver::start());
    stuck.hangs(true);
    lab.add(channel(Form::Webhook, &stuck)).await;
    lab.add(channel(Form::Webhook, &well)).await;
    for count in 1..=5 {
        let begun = Instant::now();
        lab.asked(&machine, "paste.test").await;
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        well.received(count).await;
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
    }
    // One at a time goes to the one that hangs.
    assert_eq!(stuck.received(1).await.len(), 1);
    stuck.hangs(false);
    stuck.received(5).await;
}

/// What was answered meanwhile is not told any more.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_question_that_is_answered() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let ann = lab.person("ann", &["owner"]).await;
    let machine = lab.machine("laptop", Some(&lee)).await;
    let receiver = Receiver::start();
    receiver.answers(503);
    let row = lab.add(channel(Form::Webhook, &receiver)).await;
    let question = lab.asked(&machine, "paste.test").await;
    receiver.received(1).await;
    lab.votes(&ann, &question, "deny").await;
    receiver.answers(200);
    until(&lab, &row.id, |standing| standing.waiting == 0).await;
    assert_eq!(receiver.server.requests().len(), 1);
    assert_eq!(lab.state.dead(10).await.unwrap(), []);
    // A stage that has said yes is not told again, and the next one is.
    receiver.answers(503);
    let question = lab.asked(&machine, "paste.test").await;
    receiver.received(2).await;
    lab.votes(&ann, &question, "allow").await;
    receiver.answers(200);
    until(&lab, &row.id, |standing| standing.waiting == 0).await;
    let told = receiver.server.requests();
    assert_eq!(told.len(), 3);
    assert_eq!(told[2].json()["data"]["role"], "security");
}

/// No machine and no receiver makes the server keep or tell more than a bound, and one machine does not take
/// the place of others.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let loud = lab.machine("loud", Some(&lee)).await;
    let quiet = lab.machine("quiet", Some(&lee)).await;
    let receiver = Receiver::start();
    receiver.answers(500);
    let row = lab.add(channel(Form::Webhook, &receiver)).await;
    for _ in 0..40 {
        let question = lab.asked(&loud, "paste.test").await;
        let row = lab.state.question(&question).await.unwrap().unwrap();
        lab.server
            .close(&row.key, &row.approval, "gone")
            .await
            .unwrap();
    }
    let mut reading = lab.state.read().await.unwrap();
    let told = "SELECT COUNT(*) FROM notices WHERE source LIKE $1";
    let told = sqlx::query_scalar::<_, i64>(told).bind(format!("{} %", loud.id));
    let told = told.fetch_one(&mut *reading).await.unwrap();
    drop(reading);
    assert_eq!(told, 30);
    // Its questions keep neither what it did from being told, nor what people do.
    let accused = lab
        .state
        .accuse(&loud.id, None, "text-mismatch", "another text", now());
    accused.await.unwrap();
    let question = lab.asked(&loud, "paste.test").await;
    let question = lab.state.question(&question).await.unwrap().unwrap();
    let mut writing = lab.state.write().await.unwrap();
    let told = lab
        .server
        .tell_override(&mut writing, &question, now())
        .await;
    told.unwrap();
    lab.state.commit(writing).await.unwrap();
    receiver.has(&["finding.high", "glass.broken"]).await;
    lab.asked(&quiet, "paste.test").await;
    let is_quiet = |one: &Request| one.json()["data"]["machine"] == "quiet";
    let begun = Instant::now();
    while !receiver.server.requests().iter().any(is_quiet) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A channel that is full takes no more, and says so.
    receiver.hangs(true);
    lab.floods(Kind::FindingHigh, 1_000).await;
    let waiting = lab.state.standing_of(&row.id).await.unwrap().waiting;
    let skipped = lab.state.channel(&row.id).await.unwrap().unwrap().skipped;
    assert!((899..=900).contains(&waiting), "{waiting}");
    assert!(skipped >= 100, "{skipped}");
    // There are places left for what people do, and a bound for these too.
    lab.floods(Kind::GlassBroken, 110).await;
    let waiting = lab.state.standing_of(&row.id).await.unwrap().waiting;
    assert!((999..=1_000).contains(&waiting), "{waiting}");
}

/// A channel leads nowhere that only the server can reach, however the address is written and wherever it
/// leads later; no redirect is followed.
#[tokio::test(flavor = "multi_thread")]
async fn no_channel_leads_where_only_the_server_can_go() {
    let lab = Lab::start().await;
    let admin = lab.person("root", &["admin"]).await;
    let machine = lab.machine("laptop", None).await;
    let (open, closed) = (Receiver::start(), Receiver::start());
    let add = async |to: &str, private: &str| {
        let fields = [
            ("name", "pager"),
            ("form", "webhook"),
            ("to", to),
            ("kind", "finding.high"),
            ("private", private),
            ("authorities", open.server.certificate_pem()),
        ];
        lab.post(&admin, "/settings/channels", &fields).await
    };
    for host in [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "192.168.1.1",
        "[fc00::1]",
        "169.254.169.254",
        "[fe80::1]",
        "0.0.0.0",
    ] {
        let refused = add(&format!("https://{host}:{}/", open.server.port()), "").await;
        assert!(refused.body.contains("leads to"), "{host}: {refused:?}");
        refused.is(400);
    }
    for (to, private) in [
        ("https://169.254.169.254/latest", "yes"),
        ("https://[fd00:ec2::254]/", "yes"),
        ("http://localhost/", "yes"),
        ("https://user@localhost/", "yes"),
        ("file:///etc/passwd", "yes"),
        ("gopher://localhost/", "yes"),
    ] {
        add(to, private).await.is(400);
    }
    assert_eq!(lab.state.channels().await.unwrap(), []);
    // A name that led elsewhere when the channel was made is looked at again for each delivery.
    let mut later = new_row(channel(Form::Webhook, &closed)).await.unwrap();
    later.channel.private = false;
    assert!(lab.state.add_channel(&later, "").await.unwrap());
    // A receiver that leads on is not followed, and counts as one that has failed.
    let leading = Receiver::leading(closed.url());
    leading.answers(307);
    let led = lab.add(channel(Form::Webhook, &leading)).await;
    // The control: with the switch it is told.
    add(&open.url(), "yes").await.is(200);
    let accused = lab.state.accuse(&machine.id, None, "cut", "cut", now());
    accused.await.unwrap();
    open.received(1).await;
    leading.received(1).await;
    for (row, why) in [(&later, "private network"), (&led, "none is followed")] {
        let says = |standing: &Told| standing.error.as_ref().is_some_and(|e| e.contains(why));
        until(&lab, &row.id, says).await;
    }
    closed.server.assert_untouched();
    // Who tries such a channel learns that, and reaches nothing.
    let path = format!("/settings/channels/{}/test", later.id);
    let tried = lab.post(&admin, &path, &[]).await.is(502);
    assert!(tried.body.contains("private network"), "{}", tried.body);
    closed.server.assert_untouched();
}

/// A chat gets a text with a link, in which names are code: no mention, no link and no sign of the dialect.
#[tokio::test(flavor = "multi_thread")]
async fn what_machines_call_themselves_is_code_in_chats() {
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer"]).await;
    let name = "`<!channel> @all [x](https://evil.test)\n*b* & \u{202e}";
    let machine = lab.machine(name, Some(&lee)).await;
    for form in [Form::Slack, Form::Mattermost, Form::Teams] {
        let receiver = Receiver::start();
        let row = lab.add(channel(form, &receiver)).await;
        let question = lab.asked(&machine, "paste.test").await;
        let told = receiver.received(1).await;
        assert_eq!(told[0].header("webhook-signature"), None);
        let body = told[0].json();
        let text = body["text"].as_str().unwrap().to_owned();
        let parts: Vec<&str> = text.split('`').collect();
        assert_eq!(parts.len(), 3, "one span of code: {text}");
        let link = format!("). {}/inbox/{question}", lab.origin);
        assert_eq!(parts[2], link, "{text}");
        assert_eq!(parts[0], "A question waits for owner (machine ");
        assert!(!text.contains(['\n', '\u{202e}']), "{text}");
        assert!(parts[1].contains("evil.test"), "{text}");
        if form != Form::Mattermost {
            assert!(!text.contains(['<', '>']), "{text}");
        }
        assert!(!text.contains("paste.test"), "{text}");
        lab.state.remove_channel(&row.id, "", now()).await.unwrap();
    }
}
