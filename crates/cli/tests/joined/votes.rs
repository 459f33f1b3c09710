//! People in roles answer a question of a session on a machine, each in a browser of their own, which curl
//! plays.

use std::{fs, path::PathBuf, thread, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use stockade_testkit::{
    approvals::{self, Answer},
    run::{Running, require_tool},
};

use super::{Joined, PATIENCE, until};

/// Who is asked about `uname`.
const POLICY: &str = r#"schema = 1

[stages.owner]
who = "role:code-owner"

[stages.security]
who = "role:security"
need = 2

[[ask]]
id = "system"
what = "exec"
command = ["uname", "**"]
stages = ["owner", "security"]
reason = "looks at the system"
"#;

/// The same with one person who is asked.
const ONE: &str = r#"schema = 1

[stages.owner]
who = "role:code-owner"

[[ask]]
id = "system"
what = "exec"
command = ["uname", "**"]
stages = ["owner"]
reason = "looks at the system"
"#;

const PASSWORD: &str = "several words are good";

impl Joined {
    /// Returns a person who has signed in before.
    pub(super) fn person(&self, name: &str) -> Person<'_> {
        Person {
            joined: self,
            jar: self.env.root().join(format!("{name}.cookies")),
        }
    }
}

/// A person in a browser.
pub(super) struct Person<'j> {
    joined: &'j Joined,
    jar: PathBuf,
}

impl<'j> Person<'j> {
    /// Redeems a link.
    pub(super) fn new(joined: &'j Joined, name: &str, link: &str) -> Self {
        let person = joined.person(name);
        let form = [("link", link), ("name", name), ("password", PASSWORD)];
        until("the server answers", || {
            person.curl(&["--output", "/dev/null", "/healthz"]).is_ok()
        });
        person.post("/setup", &form).expect("signed in");
        person
    }

    /// Asks the server; the error is what it says, or that it is not there. The last argument is a path.
    pub(super) fn curl(&self, arguments: &[&str]) -> Result<String, String> {
        let origin = &self.joined.origin;
        let (path, options) = arguments.split_last().expect("a path");
        let run = self.joined.env.command(require_tool("curl"));
        let run = run.args(["-sS", "--fail-with-body", "--max-time", "20", "--cacert"]);
        let run = run.arg(self.joined.data.join("keys/authority.pem"));
        let run = run.arg("--cookie").arg(&self.jar);
        let run = run.arg("--cookie-jar").arg(&self.jar).args(options);
        let output = run.arg(format!("{origin}{path}")).output();
        if output.code() == 0 {
            Ok(output.stdout)
        } else {
            Err(output.stdout + &output.stderr)
        }
    }

    fn get(&self, path: &str) -> String {
        self.curl(&[path])
            .unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    pub(super) fn data(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).expect("JSON")
    }

    pub(super) fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<String, String> {
        let origin = format!("Origin: {}", self.joined.origin);
        let mut arguments = vec!["-H", origin.as_str(), "-H", "Sec-Fetch-Site: same-origin"];
        let fields: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        for field in &fields {
            arguments.extend(["--data-urlencode", field]);
        }
        arguments.push(path);
        self.curl(&arguments)
    }

    /// Returns the value of a hidden field of a page.
    pub(super) fn field(&self, page: &str, name: &str) -> String {
        let page = self.get(page);
        let begin = format!("name=\"{name}\" value=\"");
        let (_, rest) = page.split_once(&begin).expect("the field");
        rest.split('"').next().unwrap_or_default().to_owned()
    }

    /// Invites a person with a role, and returns the secret of the link.
    pub(super) fn invitation(&self, name: &str, role: &str) -> String {
        let token = self.field("/people", "token");
        let form = [("token", token.as_str()), ("name", name), ("others", role)];
        let page = self.post("/people/invite", &form).expect("an invitation");
        let (_, link) = page.split_once("/setup?token=").expect("a link");
        link.split('<').next().unwrap_or_default().to_owned()
    }

    /// Invites a person with a role, who then signs in.
    pub(super) fn invites(&self, name: &str, role: &str) -> Person<'j> {
        Person::new(self.joined, name, &self.invitation(name, role))
    }

    /// Returns the one open question.
    pub(super) fn question(&self) -> Option<String> {
        let all = self.curl(&["/api/v1/questions"]).ok()?;
        let all: Value = serde_json::from_str(&all).expect("JSON");
        let all = all.get("questions")?.as_array()?;
        let open = all.iter().find(|one| one["state"] == "open")?;
        Some(open["id"].as_str()?.to_owned())
    }

    /// Answers a question; the error is what the server says then.
    pub(super) fn votes(&self, question: &str, choice: &str) -> Result<(), String> {
        self.casts(&self.reads(question), choice)
    }

    /// Reads a question, to answer it.
    fn reads(&self, question: &str) -> Read {
        let seen = self.data(&format!("/api/v1/questions/{question}"));
        Read {
            page: format!("/inbox/{question}"),
            token: self.field("/me", "token"),
            rendered: seen["rendered"].as_str().expect("a text").to_owned(),
        }
    }

    fn casts(&self, read: &Read, choice: &str) -> Result<(), String> {
        let form = [
            ("token", read.token.as_str()),
            ("rendered", read.rendered.as_str()),
            ("scope", "once"),
            ("reason", "looked at"),
            ("choice", choice),
        ];
        self.post(&read.page, &form).map(|_| ())
    }
}

/// What an answer takes from the pages.
struct Read {
    page: String,
    token: String,
    rendered: String,
}

/// A session that asks, on the machine.
fn asking(joined: &Joined) -> Running {
    asking_as(joined, POLICY, "uname -s || /run/stockade/why")
}

/// A session that asks one person, on the machine.
pub(super) fn asking_one(joined: &Joined, line: &str) -> Running {
    asking_as(joined, ONE, line)
}

fn asking_as(joined: &Joined, policy: &str, line: &str) -> Running {
    let file = joined
        .env
        .write("policy.toml", policy)
        .display()
        .to_string();
    let options = ["--ask", "server", "--policy", file.as_str()];
    let session = joined.env.session_with(joined.repo.path(), &options);
    session.line(line).timeout(PATIENCE * 3).spawn()
}

/// Waits until a person sees the question that is open.
pub(super) fn asked(person: &Person<'_>) -> String {
    let mut question = None;
    until("the question is there", || {
        question = person.question();
        question.is_some()
    });
    question.expect("a question")
}

fn assert_refused(voted: Result<(), String>, why: &str) {
    let said = voted.expect_err(why);
    assert!(said.contains(why), "expected {why}, saw {said}");
}

#[test]
fn people_in_roles_answer_a_machine_though_agent_and_server_are_killed() {
    let mut joined = Joined::new();
    let admin = Person::new(&joined, "lee", &joined.link);
    // The owner of the machine has the role that is asked, and still no vote.
    admin.invites("ola", "code-owner");
    joined.enrol_for(&["--owner", "ola"]);
    joined.start_agent();
    let session = asking(&joined);
    let question = {
        let (lee, ola) = (joined.person("lee"), joined.person("ola"));
        let ann = lee.invites("ann", "code-owner");
        let ben = lee.invites("ben", "security");
        lee.invites("cara", "security");
        let question = asked(&ann);
        assert_refused(ola.votes(&question, "allow"), "the session is yours");
        assert_refused(lee.votes(&question, "allow"), "role");
        assert_refused(
            ben.votes(&question, "allow"),
            "no role that this question asks",
        );
        ann.votes(&question, "allow").expect("her stage is open");
        assert_refused(ann.votes(&question, "allow"), "you have voted");
        ben.votes(&question, "allow")
            .expect("his stage is open now");
        question
    };
    joined.kill_agent();
    joined.kill_server();
    joined.start_server();
    joined.start_agent();
    let cara = joined.person("cara");
    until("the server answers again", || {
        cara.curl(&["/healthz"]).is_ok()
    });
    assert!(
        !session.stdout().contains("Linux"),
        "two of three is not enough"
    );
    cara.votes(&question, "allow").expect("one is missing");
    let output = session.wait();
    output.assert_success().assert_stdout("Linux");
    // The statement of all three is in the journal, on both sides.
    let id = joined.env.session_id();
    until("the server has the record", || joined.is_held(&id));
    let (here, there) = joined.journals(&id);
    assert!(here == there && !here.is_empty());
    let text = String::from_utf8_lossy(&here).into_owned();
    assert!(
        text.contains("application/vnd.stockade.grant.1+json"),
        "{text}"
    );
    assert!(joined.verified(&id).contains("intact"));
}

#[test]
fn a_no_of_a_person_reaches_the_agent_with_its_reason() {
    let mut joined = Joined::new();
    Person::new(&joined, "lee", &joined.link);
    joined.enrol_for(&["--owner", "lee"]);
    joined.start_agent();
    let session = asking(&joined);
    let ann = joined.person("lee").invites("ann", "code-owner");
    ann.votes(&asked(&ann), "deny").expect("her stage is open");
    let output = session.wait();
    output.assert_stdout("looked at");
    assert!(!output.stdout.contains("Linux"));
    let id = joined.env.session_id();
    until("the server has the record", || joined.is_held(&id));
}

/// A server, a machine of lee with its agent, and a session on it whose question waits for ann.
pub(super) fn waiting_for_ann(line: &str) -> (Joined, Running, String) {
    let mut joined = Joined::new();
    Person::new(&joined, "lee", &joined.link);
    joined.enrol_for(&["--owner", "lee"]);
    joined.start_agent();
    joined.person("lee").invites("ann", "code-owner");
    let session = asking_as(&joined, ONE, line);
    let question = asked(&joined.person("ann"));
    (joined, session, question)
}

#[test]
fn an_answer_is_not_lost_while_nobody_carries_it() {
    let (mut joined, mut session, question) = waiting_for_ann("uname -s || /run/stockade/why");
    joined.kill_agent();
    let voted = joined.person("ann").votes(&question, "allow");
    voted.expect("her stage is open");
    joined.kill_server();
    assert!(!session.is_over(), "nobody has brought an answer");
    // The machine comes back before the server does.
    joined.start_agent();
    joined.start_server();
    session.wait().assert_success().assert_stdout("Linux");
    let id = joined.env.session_id();
    until("the server has the record", || joined.is_held(&id));
    assert!(joined.verified(&id).contains("intact"));
}

#[test]
fn whoever_denies_at_the_machine_ends_the_question_for_all() {
    let (joined, session, question) = waiting_for_ann("uname -s || /run/stockade/why");
    let asked = approvals::pending(&joined.env);
    let [one] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    let reason = "not today".to_owned();
    approvals::answer(&joined.env, &one.id, &Answer::Deny { reason }).assert_success();
    let output = session.wait();
    output.assert_stdout("not today");
    assert!(!output.stdout.contains("Linux"));
    let ann = joined.person("ann");
    until("the server knows", || {
        ann.data(&format!("/api/v1/questions/{question}"))["state"] == "closed"
    });
    assert_refused(ann.votes(&question, "allow"), "not open any more");
}

#[test]
fn a_server_with_another_key_allows_nothing() {
    let (mut joined, mut session, question) = waiting_for_ann("uname -s || /run/stockade/why");
    // Somebody has everything of the server but the key that machines have pinned.
    let other = joined.env.root().join("other");
    let init = joined.env.stockade().args(["serve", "init", "--data"]);
    init.arg(&other).success();
    joined.kill_server();
    let key = "keys/server";
    fs::copy(other.join(key), joined.data.join(key)).expect("another key");
    joined.start_server();
    let ann = joined.person("ann");
    until("the server answers again", || {
        ann.curl(&["/healthz"]).is_ok()
    });
    ann.votes(&question, "allow")
        .expect("that server believes itself");
    until("the session does not take it", || {
        let agent = joined.agent.as_ref().expect("it runs");
        agent.stderr().contains("this does not allow question")
    });
    assert!(!session.is_over());
    let asked = approvals::pending(&joined.env);
    let [one] = asked.as_slice() else {
        panic!("the question stays open: {asked:?}");
    };
    let reason = "not today".to_owned();
    approvals::answer(&joined.env, &one.id, &Answer::Deny { reason }).assert_success();
    let output = session.wait();
    assert!(!output.stdout.contains("Linux"));
    let record = joined.env.record();
    let refused = record
        .iter()
        .find(|event| event.json.to_string().contains("refused-grant"));
    assert!(refused.is_some(), "{record:#?}");
}

#[test]
fn a_policy_that_is_published_holds_in_the_next_session_without_a_server_too() {
    let mut joined = Joined::new();
    Person::new(&joined, "lee", &joined.link);
    joined.enrol();
    joined.start_agent();
    let runs = |joined: &Joined| {
        let run = joined.env.session(joined.repo.path());
        run.line("uname || echo denied").success().stdout
    };
    assert!(runs(&joined).contains("Linux"), "the control");
    let lee = joined.person("lee");
    let text = "schema = 1\n[[deny]]\nid = \"no-uname\"\nwhat = \"exec\"\ncommand = [\"uname\", \"**\"]\nreason = \"not here\"\n";
    let token = lee.field("/policy", "token");
    let form = [
        ("token", token.as_str()),
        ("after", "0"),
        ("text", text),
        ("message", "nobody looks"),
        ("do", "publish"),
    ];
    lee.post("/policy", &form).expect("published");
    until("the machine has said that it has it", || {
        lee.get("/policy").contains("1 stored")
    });
    assert_eq!(runs(&joined).trim(), "denied");
    joined.kill_server();
    joined.kill_agent();
    assert_eq!(runs(&joined).trim(), "denied");
}

/// How often somebody is killed while a vote is under way.
const KILLS: u32 = 8;

#[test]
fn kills_at_any_time_of_a_vote_lose_no_answer_and_make_none() {
    let line = format!("for i in $(seq {KILLS}); do uname -s; done");
    let (mut joined, session, mut question) = waiting_for_ann(&line);
    for round in 0..KILLS {
        let is_server = round % 2 == 0;
        thread::scope(|scope| {
            let ann = joined.person("ann");
            let read = ann.reads(&question);
            // It reaches the server or not, and the answer reaches the machine or not.
            scope.spawn(move || drop(ann.casts(&read, "allow")));
            thread::sleep(Duration::from_millis(12) * round);
            let killed = [&joined.agent, &joined.server][usize::from(is_server)];
            killed.as_ref().expect("it runs").signal(Signal::KILL);
        });
        if is_server {
            joined.kill_server();
            joined.start_server();
        } else {
            joined.kill_agent();
            joined.start_agent();
        }
        let ann = joined.person("ann");
        until("the server answers", || ann.curl(&["/healthz"]).is_ok());
        if let Err(why) = ann.votes(&question, "allow") {
            let has_voted = ["you have voted", "not open any more"];
            assert!(has_voted.iter().any(|said| why.contains(said)), "{why}");
        }
        assert_eq!(
            ann.data(&format!("/api/v1/questions/{question}"))["state"],
            "granted"
        );
        if round + 1 < KILLS {
            question = asked(&ann);
        }
    }
    let output = session.wait();
    let lines = output.assert_success().stdout.matches("Linux").count();
    assert_eq!(u32::try_from(lines).ok(), Some(KILLS));
    let id = joined.env.session_id();
    until("the server has the record", || joined.is_held(&id));
    let text = String::from_utf8_lossy(&joined.journals(&id).0).into_owned();
    let grants = text
        .matches("application/vnd.stockade.grant.1+json")
        .count();
    assert_eq!(
        u32::try_from(grants).ok(),
        Some(KILLS),
        "each is written down once"
    );
    assert!(joined.verified(&id).contains("intact"));
}
