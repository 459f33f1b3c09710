//! Questions that people in roles answer, and the policy that their organisation publishes.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use stockade_approval::{Answer, Case, Client, Progress};
use stockade_policy::Scope;
use stockade_testkit::{
    Repo, TestEnv,
    env::under_test,
    events::Event,
    people::{Organisation, PRESENT_AND_VERIFIED},
    run::Running,
    wait::until,
};
use stockade_trust::{Envelope, Grant, Nonce, Proof, Vote};
use stockade_types::{Digest, SessionId, UnixMillis};

/// How long a session may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is asked about `uname`.
const POLICY: &str = r#"schema = 1

[stages.owner]
who = "role:code-owner"

[stages.security]
who = "role:security"
need = 2
strength = "key"

[break_glass]
who = "role:incident-lead"
max = "10m"

[[ask]]
id = "system"
what = "exec"
command = ["uname", "**"]
stages = ["owner", "security"]
scope_max = "2-uses"
reason = "looks at the system"
"#;

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.expect("a time after 1970").as_millis();
    UnixMillis(u64::try_from(millis).expect("a time before the end of time"))
}

fn data(event: &Event) -> &Value {
    event.json.get("data").unwrap_or(&event.json)
}

struct Place {
    env: TestEnv,
    repo: Repo,
    shop: Organisation,
}

impl Place {
    fn new() -> Self {
        let env = TestEnv::new(under_test());
        let repo = env.repo();
        let shop = Organisation::new(now());
        shop.enrol(&env);
        Self { env, repo, shop }
    }

    /// Starts a session that asks, and returns its question as the agent of the machine gets it.
    fn asks(&self, line: &str) -> (Running, Client, Case, SessionId) {
        let file = self.env.write("policy.toml", POLICY).display().to_string();
        let options = ["--ask", "inbox", "--policy", file.as_str()];
        let run = self.env.session_with(self.repo.path(), &options);
        let running = run.line(line).spawn();
        let (directory, session) = self.directory();
        let mut client = Client::connect(&directory).expect("the session listens");
        let case = until(ASK_TIMEOUT, || {
            let asked = client.list().expect("a list");
            let one = asked.iter().find(|one| one.waits_for.is_some())?;
            Some(client.case(&one.id).expect("a case"))
        });
        let case = case.expect("the session asks people");
        (running, client, case, session)
    }

    fn directory(&self) -> (PathBuf, SessionId) {
        let sessions = self.env.state().join("sessions");
        let found = until(ASK_TIMEOUT, || {
            let all = fs::read_dir(&sessions).ok()?.filter_map(Result::ok);
            let mut all = all.filter(|one| one.path().join("control.sock").exists());
            let one = all.next()?;
            let id = one.file_name().to_str()?.parse().ok()?;
            Some((one.path(), id))
        });
        found.expect("a session begins")
    }

    fn sealed(&self, grant: &Grant) -> Answer {
        granted(Organisation::seal(grant, &self.shop.server))
    }
}

fn granted(envelope: Envelope) -> Answer {
    Answer::Granted {
        envelope: Box::new(envelope),
    }
}

#[test]
fn people_in_roles_answer_and_nobody_else_does() {
    let place = Place::new();
    let (running, mut client, case, session) = place.asks("uname; echo $?");
    // The text is made of what leaves the machine, alone.
    let sent = serde_json::to_string(&case).expect("JSON");
    let read: Case = serde_json::from_str(&sent).expect("a case");
    assert_eq!(read.question.shown().digest(), case.rendered);
    let text = case.question.shown().to_string();
    assert!(
        text.contains("asks      owner, then two of security"),
        "{text}"
    );
    // Whoever is at the machine can only deny, and sees who is waited for.
    let id = case.id.to_string();
    let approvals = |words: &[&str]| place.env.stockade().arg("approvals").args(words).output();
    approvals(&["allow", &id])
        .assert_code(1)
        .assert_stderr("answered by people in roles: owner, then two of security");
    let progress = Progress {
        stage: "security".to_owned(),
        have: 1,
        need: 2,
        until: None,
        also: None,
    };
    client.progress(&case.id, progress).expect("it is shown");
    approvals(&["list"])
        .assert_stdout("waiting for owner, then two of security; now security, 1 of 2");
    approvals(&["show", &id]).assert_stdout("waits for owner, then two of security");
    for (what, forged) in forgeries(&place, &case, &session) {
        let error = client.answer(&case.id, forged).expect_err(what).to_string();
        assert!(error.contains("stays open"), "{what}: {error}");
        assert_eq!(client.list().expect("a list").len(), 1, "{what}");
    }
    let votes = place.shop.votes(&case, &session);
    let grant = Organisation::grant(&case, &session, votes);
    let answer = place.sealed(&grant);
    client
        .answer(&case.id, answer.clone())
        .expect("they have allowed it");
    assert!(client.answer(&case.id, answer).is_err(), "once");
    running.wait().assert_success().assert_stdout("Linux\n0\n");
    recorded(&place, &session, &grant);
}

/// The record has their statement as they signed it, and each one that was none.
fn recorded(place: &Place, session: &SessionId, grant: &Grant) {
    let events = place.env.record();
    let decided = events
        .iter()
        .find(|event| event.kind() == "approval.decided");
    let data = data(decided.expect("an answer"));
    assert_eq!(data["by"], "people ann, ben, cara", "{data}");
    let envelope: Envelope =
        serde_json::from_value(data["statement"].clone()).expect("an envelope");
    assert_eq!(envelope, Organisation::seal(grant, &place.shop.server));
    let refused = events
        .iter()
        .filter(|event| event.kind() == "operator.acted");
    let refused: Vec<String> = refused.map(|event| event.json.to_string()).collect();
    assert_eq!(refused.len(), FORGERIES, "{refused:#?}");
    assert!(
        refused.iter().all(|one| one.contains("refused-grant")),
        "{refused:#?}"
    );
    let verify = ["log", "verify", session.as_str()];
    place.env.stockade().args(verify).success();
}

/// How many ways to lie there are below.
const FORGERIES: usize = 15;

/// Statements that somebody between the people and the machine, or the server itself, could make.
fn forgeries(place: &Place, case: &Case, session: &SessionId) -> Vec<(&'static str, Answer)> {
    let shop = &place.shop;
    let ballot = Organisation::ballot(case, session);
    let votes = || shop.votes(case, session);
    let [ann, ben, cara] = <[Vote; 3]>::try_from(votes()).expect("three votes");
    let with = |change: &dyn Fn(&mut Grant)| {
        let mut grant = Organisation::grant(case, session, votes());
        change(&mut grant);
        place.sealed(&grant)
    };
    let voted = |votes: Vec<Vote>| place.sealed(&Organisation::grant(case, session, votes));
    let unverified = shop.with(&ballot, &shop.ben, shop.vote(case, "ben", "security"), 0x01);
    let mut weak = ben.clone();
    weak.proof = Proof::Session {};
    // Ben's passkey signed another text.
    let other = stockade_trust::Ballot {
        rendered: Digest::of(b"harmless"),
        ..ballot
    };
    let vote = shop.vote(case, "ben", "security");
    let misled = shop.with(&other, &shop.ben, vote, PRESENT_AND_VERIFIED);
    let otto = shop.vote(case, "otto", "owner");
    vec![
        (
            "another asking",
            with(&|grant| grant.nonce = Nonce::new([0; 16])),
        ),
        (
            "another request",
            with(&|grant| grant.request = Digest::of(b"x")),
        ),
        (
            "another policy",
            with(&|grant| grant.revision = Digest::of(b"x")),
        ),
        (
            "another text",
            with(&|grant| grant.rendered = Digest::of(b"x")),
        ),
        (
            "another session",
            with(&|grant| grant.session = SessionId::from_random(1)),
        ),
        (
            "another machine",
            with(&|grant| "n-2".clone_into(&mut grant.node)),
        ),
        ("a wider scope", with(&|grant| grant.scope = Scope::Session)),
        (
            "a time that is over",
            with(&|grant| grant.not_after = UnixMillis(1)),
        ),
        ("another server", {
            let grant = Organisation::grant(case, session, votes());
            granted(Organisation::seal(&grant, &shop.cara))
        }),
        ("one of two", voted(vec![ann.clone(), ben.clone()])),
        (
            "one twice",
            voted(vec![ann.clone(), ben.clone(), ben.clone()]),
        ),
        ("no passkey", voted(vec![ann.clone(), weak, cara.clone()])),
        (
            "a passkey that signed another text",
            voted(vec![ann.clone(), misled, cara.clone()]),
        ),
        ("who asks", voted(vec![otto, ben, cara.clone()])),
        (
            "a passkey without its person",
            voted(vec![ann, unverified, cara]),
        ),
    ]
}

#[test]
fn one_person_breaks_the_glass_with_a_passkey_for_a_short_time() {
    let place = Place::new();
    let (running, mut client, case, session) = place.asks("uname");
    let ballot = Organisation::ballot(&case, &session);
    let mut vote = place.shop.vote(&case, "dora", "");
    vote.at = now();
    vote.not_after = UnixMillis(vote.at.0 + 240_000);
    let vote = place
        .shop
        .with(&ballot, &place.shop.dora, vote, PRESENT_AND_VERIFIED);
    let mut grant = Organisation::grant(&case, &session, vec![vote.clone()]);
    grant.broken_glass = true;
    grant.not_after = UnixMillis(vote.at.0 + 3_600_000);
    let error = client
        .answer(&case.id, place.sealed(&grant))
        .expect_err("too long");
    assert!(error.to_string().contains("dora"), "{error}");
    grant.not_after = vote.not_after;
    client
        .answer(&case.id, place.sealed(&grant))
        .expect("it is an emergency");
    running.wait().assert_success().assert_stdout("Linux");
}

#[test]
fn anyone_at_the_machine_denies() {
    let place = Place::new();
    let (running, mut client, case, _) = place.asks("uname || echo denied");
    let reason = Some("not today".to_owned());
    client
        .answer(&case.id, Answer::Deny { reason })
        .expect("a deny");
    running.wait().assert_stdout("denied");
}

#[test]
fn a_published_policy_holds_and_its_serial_is_in_the_record() {
    let place = Place::new();
    let text = "schema = 1\n[[deny]]\nid = \"no-uname\"\nwhat = \"exec\"\ncommand = [\"uname\", \"**\"]\nreason = \"not here\"\n";
    place.shop.publish(&place.env, 42, text);
    let run = || {
        place
            .env
            .session(place.repo.path())
            .line("uname || echo denied")
            .output()
    };
    run().assert_success().assert_stdout("denied");
    let events = place.env.record();
    let loaded = events.iter().find(|event| event.kind() == "policy.loaded");
    let data = data(loaded.expect("a policy"));
    assert_eq!(data["bundle"]["channel"], "ci");
    assert_eq!(data["bundle"]["serial"], 42);
    let digest = Digest::of(text.as_bytes()).to_string();
    assert_eq!(data["bundle"]["digest"], digest.as_str());
    // Changed by one byte, or writable for others, it stops every session.
    let file = place.env.state().join("trust/bundle.json");
    let whole = fs::read_to_string(&file).expect("a bundle");
    let at = whole.find("payload\":\"").expect("a payload") + 40;
    let mut changed = whole.clone().into_bytes();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    fs::write(&file, &changed).expect("it can be written");
    run().assert_code(125).assert_stderr("bundle.json");
    fs::write(&file, &whole).expect("it can be written");
    run().assert_success().assert_stdout("denied");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("a mode");
    run().assert_code(125).assert_stderr("chmod go-w");
}
