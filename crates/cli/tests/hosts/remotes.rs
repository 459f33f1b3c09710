//! The repository's own remote: git reaches it without a question, but only as its owner set it.

use std::path::Path;

use stockade_testkit::lab::{Forge, HttpServer};

use super::Place;

/// Returns the hosts of `@remote` in a workspace.
fn hosts(place: &Place, workspace: &Path) -> String {
    let show = place
        .env
        .stockade()
        .args(["policy", "show"])
        .current_dir(workspace)
        .success();
    let line = show.stdout.lines().find_map(|line| {
        let line = line.trim().strip_prefix("allow remote net ")?;
        Some(line.split(" on ").next()?.trim().to_owned())
    });
    line.unwrap_or_default()
}

/// A fetch causes no question, only git can connect, and only to the port of the remote.
#[test]
fn git_reaches_the_owners_remote_without_a_question() {
    Place::each(|place| {
        let forge = Forge::start(&place.env, &place.repo);
        let other = HttpServer::start();
        let name = place.repo.origin().file_name().expect("it has a name");
        let name = name.to_string_lossy();
        let url = format!("http://forge.test:{}/{name}", forge.server.port());
        place
            .repo
            .git(&place.env, &["remote", "set-url", "origin", &url])
            .assert_success();
        place.own_policy(
            "[network.hosts]\n\"forge.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"private\"\nwhat = \"net\"\n\
             hosts = [\"@remote\"]\nprivate = true\nprograms = [\"/usr/**/git-remote-http*\"]\n",
        );
        let line = format!(
            "git fetch -q origin && git ls-remote -q origin > /dev/null && echo fetched; \
             curl -s -o /dev/null -w '%{{http_code}} ' {url}; \
             git ls-remote -q http://forge.test:{}/x 2> /dev/null || echo refused; \
             git push -q origin HEAD:refs/heads/x 2> /dev/null || echo not pushed",
            other.port()
        );
        let run = place
            .env
            .session_with(place.repo.path(), &["--ask", "deny"]);
        let output = run.line(&line).output();
        output.assert_stdout("fetched\n000 refused\nnot pushed\n");
        other.assert_untouched();
    });
}

/// A remote that a session adds to settings, in any way, does not count as the owner's in a later
/// session.
#[test]
fn a_remote_that_a_session_added_is_not_the_owners() {
    const ADD: &str = "remote add evil https://evil.test:8443/x";
    Place::each(|place| {
        let top = place.repo.path();
        let own = ["remote", "add", "mine", "https://mine.test/x"];
        place.repo.git(&place.env, &own).assert_success();
        assert_eq!(hosts(place, top), "mine.test");
        let line = format!(
            "git {ADD} && git config --get remote.evil.url; \
             git init -q made && git -C made {ADD} && git -C made config --get remote.evil.url; \
             git clone -q . clone 2>/dev/null && git -C clone {ADD} && git -C clone config --get remote.evil.url; \
             git init -q /tmp/t && git -C /tmp/t {ADD}; cp -r /tmp/t copied 2>/dev/null; \
             tar -C /tmp -cf /tmp/t.tar t; tar xf /tmp/t.tar 2>/dev/null; \
             git init -q --bare bare && git -C bare {ADD}; mkdir moved; mv bare moved/.git 2>/dev/null; \
             mkdir linked; ln -s ../bare linked/.git; mkdir led; echo 'gitdir: ../bare' > led/.git; true"
        );
        let url = "https://evil.test:8443/x\n";
        let output = place.env.session(top).line(&line).output();
        output.assert_success().assert_stdout(&url.repeat(3));
        assert_eq!(hosts(place, top), "mine.test");
        for name in ["made", "clone", "copied", "t", "moved", "linked", "led"] {
            assert_eq!(hosts(place, &top.join(name)), "", "{name}");
        }
        // The control: a remote that the owner adds counts, even there.
        let made = top.join("made");
        let own = place.env.command("git").current_dir(&made);
        own.args(["remote", "add", "o", "http://own.test:81/"])
            .success();
        assert_eq!(hosts(place, &made), "own.test:81");
        // A kept answer is a rule of the owner, and needs no remote.
        place.own_policy("[[allow]]\nid = \"always-1\"\nwhat = \"net\"\nhosts = [\"evil.test\"]\nports = [8443]\n");
        place.assert(&[("evil.test:8443", "allow")]);
    });
}
