//! The first minutes of somebody who has read nothing: three commands, and a browser.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use stockade_testkit::{TestEnv, browser::Browser, env::under_test};

use super::{PATIENCE, authority_of, port, until};

/// How long all of it may take.
const MINUTE: Duration = Duration::from_mins(1);

/// What is published on the page.
const POLICY: &str = "schema = 1\n\n[stages.owner]\nwho = \"role:code-owner\"\n\n[[ask]]\nid = \"system\"\n\
    what = \"exec\"\ncommand = [\"uname\", \"**\"]\nstages = [\"owner\"]\nreason = \"looks at the system\"\n";

/// Says what a page shows.
fn shown(browser: &mut Browser) -> String {
    let text = browser.eval("document.querySelector('main').textContent");
    text.as_str().unwrap_or_default().to_owned()
}

fn fill(browser: &mut Browser, field: &str, text: &str) {
    let text = Value::from(text);
    browser.eval(&format!("document.querySelector('{field}').value = {text}"));
}

fn text_of(browser: &mut Browser, element: &str) -> String {
    let text = browser.eval(&format!("document.querySelector('{element}').textContent"));
    text.as_str().expect("it is there").to_owned()
}

fn with_passkey(origin: &str, key: &str, link: &str) -> Browser {
    let mut browser = Browser::start_for(origin, Some(key));
    browser.add_authenticator();
    browser.size(1440, 900);
    browser.go(link);
    browser
}

#[test]
fn three_commands_lead_from_nothing_to_an_approved_question_in_a_minute() {
    let env = TestEnv::new(under_test());
    let repo = env.repo();
    let data = env.root().join("server");
    let begun = Instant::now();

    // The first command.
    let mut init = env.stockade().args(["serve", "init", "--start"]);
    for option in ["--listen", "--node-listen"] {
        init = init.args([option, &format!("127.0.0.1:{}", port())]);
    }
    let server = init.arg("--data").arg(&data).timeout(PATIENCE * 3).spawn();
    until("the server answers", || {
        server.stderr().contains("pages on")
    });
    let link = server.stdout().trim().to_owned();
    let (origin, _) = link.split_once("/setup?").expect("a link");
    let key = authority_of(&data);

    let mut lee = with_passkey(origin, &key, &link);
    fill(&mut lee, "#name", "lee");
    lee.follow("document.querySelector('[data-passkey=create]').click()");
    // A second person, whom the policy asks.
    lee.go(&format!("{origin}/people"));
    fill(&mut lee, "#invite-name", "ann");
    fill(&mut lee, "input[name=others]", "code-owner");
    lee.follow("document.querySelector('form[action=\"/people/invite\"] button').click()");
    let mut ann = with_passkey(origin, &key, text_of(&mut lee, "#link").trim());
    ann.follow("document.querySelector('[data-passkey=create]').click()");
    lee.go(&format!("{origin}/policy"));
    fill(&mut lee, "textarea[name=text]", POLICY);
    lee.follow("document.querySelector('button[value=publish]').click()");
    assert!(shown(&mut lee).contains("published"), "{}", shown(&mut lee));
    lee.go(&format!("{origin}/fleet"));
    lee.follow("document.querySelector('form[action=\"/fleet/enrol\"] button').click()");
    let command = text_of(&mut lee, "#command");

    // The second one is copied from the page.
    let words = command.split_whitespace().skip(1);
    let enrolled = env.stockade().args(words).success();
    enrolled.assert_stderr("its agent runs in the background and is connected");
    lee.go(&format!("{origin}/fleet"));
    assert!(shown(&mut lee).contains("connected"), "{}", shown(&mut lee));

    // The third one.
    let session = env.session_with(repo.path(), &["--ask", "server"]);
    let session = session.line("uname -s").timeout(PATIENCE * 2).spawn();
    until("the question is on the page", || {
        ann.go(&format!("{origin}/inbox"));
        ann.eval("!!document.querySelector('.question')") == Value::Bool(true)
    });
    lee.go(&format!("{origin}/sessions"));
    assert!(shown(&mut lee).contains("running"), "{}", shown(&mut lee));
    ann.follow("document.querySelector('.question').click()");
    ann.follow("document.querySelector('[data-choice=allow], button[value=allow]').click()");
    session.wait().assert_success().assert_stdout("Linux");
    let took = begun.elapsed();
    assert!(took < MINUTE, "it took {took:?}");
    for browser in [&lee, &ann] {
        assert_eq!(browser.complaints, Vec::<String>::new());
    }

    // What was started ends.
    let stopped = env.stockade().args(["node", "stop"]).success();
    stopped.assert_stderr("the agent has ended");
    let status = env.stockade().args(["node", "status"]).output();
    status.assert_code(1).assert_stdout("no agent runs");
    env.stockade()
        .args(["node", "stop"])
        .success()
        .assert_stderr("no agent runs");
    server.signal(Signal::TERM);
    server.wait().assert_success();
}
