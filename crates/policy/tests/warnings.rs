//! Entries without effect are reported, with their place and what to write instead.

#![expect(clippy::panic, reason = "tests")]

use stockade_policy::{HostSets, Origin, Places, Policy, Source, builtin, load};

fn source(origin: Origin, name: &str, text: &str) -> Source {
    Source {
        origin,
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn loaded(sources: &[Source]) -> Policy {
    let preset = source(
        Origin::Builtin,
        "generic",
        builtin("generic").unwrap_or_default(),
    );
    let all = [std::slice::from_ref(&preset), sources].concat();
    load(&all, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn warnings(text: &str) -> Vec<String> {
    let text = format!("schema = 1\n{text}");
    loaded(&[source(Origin::User, "team.toml", &text)])
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// One entry without effect each, its line, and a part of the message that helps.
const WITHOUT_EFFECT: &[(&str, u32, &str)] = &[
    (
        "[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"localhost\"]",
        2,
        "own loopback",
    ),
    (
        "[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"127.0.0.1\"]",
        2,
        "own loopback",
    ),
    (
        "[[ask]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"**.local\"]",
        2,
        "do not exist in a session",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"169.254.169.254\"]\nprivate = true",
        2,
        "no rule makes reachable",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"metadata.google.internal\"]",
        2,
        "metadata service",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"224.0.0.0/8\"]",
        2,
        "never dialled",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"10.1.0.0/16\"]",
        2,
        "needs `private = true`",
    ),
    (
        "[network.hosts]\n\"db.test\" = \"10.0.0.7\"\n[[allow]]\nid = \"a\"\nwhat = \"net\"\n\
         hosts = [\"db.test\"]",
        4,
        "needs `private = true`",
    ),
    (
        "[network.hosts]\n\"db.test\" = \"192.0.2.7\"",
        3,
        "never dialled",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"@npm\"]",
        5,
        "stands for no host here",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\npaths = [\"/@scope%2f*\"]",
        2,
        "without encoding",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\npaths = [\"/x;y/**\"]",
        2,
        "a `;`",
    ),
    (
        "[[deny]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"git push\"]",
        2,
        "[\"git\", \"push\"]",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"file\"\npaths = [\".git/hooks/**\"]\n\
         [[ask]]\nid = \"q\"\nwhat = \"file\"\npaths = [\"x\"]",
        2,
        "protected by `.git/hooks/**`",
    ),
    (
        "[[ask]]\nid = \"q\"\nwhat = \"file\"\npaths = [\".git/config\"]",
        2,
        "outside the session",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"file\"\npaths = [\"gen/\"]",
        2,
        "only answers an [[ask]]",
    ),
    (
        "[[deny]]\nid = \"a\"\nwhat = \"file\"\npaths = [\"/etc/passwd\"]",
        2,
        "[filesystem]",
    ),
    (
        "[filesystem]\nhide = [\"~/x\"]\nread = [\"~/x/y\"]",
        4,
        "team.toml:3 hides `~/x`",
    ),
    (
        "[filesystem]\nread = [\"~/x\", \"~//x/.\"]",
        3,
        "already in `read`",
    ),
    ("[environment]\npass = [\"*_TOKEN\"]", 3, "written in full"),
    ("[environment]\npass = [\"LD_*\"]", 3, "written in full"),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.paste.test\"]\n\
         [[deny]]\nid = \"d\"\nwhat = \"net\"\nhosts = [\"**.paste.test\"]",
        2,
        "`d` (team.toml:6) denies all",
    ),
    (
        "[[ask]]\nid = \"q\"\nwhat = \"file\"\npaths = [\"gen/x\"]\naccess = [\"write\"]\n\
         [[deny]]\nid = \"d\"\nwhat = \"file\"\npaths = [\"gen/\"]",
        2,
        "denies all",
    ),
    (
        "[[allow]]\nid = \"a\"\nwhat = \"tool\"\ntools = [\"Bash\"]",
        2,
        "tool calls are allowed already",
    ),
    (
        "[[deny]]\nid = \"a\"\nwhat = \"tool\"\ntools = [\"mcp__git__x\"]\nservers = [\"docs\"]",
        2,
        "no call is both",
    ),
    (
        "[[deny]]\nid = \"a\"\nwhat = \"tool\"\ntools = [\"B*\"]\n[[ask]]\nid = \"b\"\n\
         what = \"tool\"\ntools = [\"Bash\"]\narguments = { command = [\"x\"] }",
        6,
        "denies all that it names",
    ),
];

#[test]
fn what_has_no_effect_is_said_with_its_line() {
    for (text, line, hint) in WITHOUT_EFFECT {
        let found = warnings(text);
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        let at = format!("team.toml:{line}  warning: ");
        assert!(
            found.iter().all(|w| w.starts_with(&at) && w.contains(hint)),
            "{text}\n{found:#?}"
        );
    }
}

#[test]
fn what_has_an_effect_is_left_alone() {
    for text in [
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"good.test\", \"*.good.test\", \"8.8.8.8\"]",
        "[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"10.0.0.0/8\", \"169.254.169.254\"]",
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"10.0.0.0/8\"]\nprivate = true",
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"10.1.0.0/16\"]\n\
         [[ask]]\nid = \"b\"\nwhat = \"net\"\nhosts = [\"10.0.0.0/8\"]\nprivate = true",
        "[network.hosts]\n\"printer.local\" = \"10.0.0.7\"\n[[allow]]\nid = \"a\"\nwhat = \"net\"\n\
         hosts = [\"printer.local\"]\nprivate = true",
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\n\
         paths = [\"/public/**\", \"/a b/*.json\", \"/{a,b}/x\", \"/search?q=*\"]",
        "[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\npaths = [\"/x;y\"]",
        "[[deny]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]",
        "[[deny]]\nid = \"a\"\nwhat = \"file\"\npaths = [\"gen/\", \".git/config\", \"/work/x\"]",
        "[[ask]]\nid = \"q\"\nwhat = \"file\"\npaths = [\"gen/\"]\n\
         [[allow]]\nid = \"a\"\nwhat = \"file\"\npaths = [\"gen/x\"]",
        "[filesystem]\nread = [\"~/x\"]\nhide = [\"~/x/secret\", \"~/y\"]\nwrite = [\"~/z\"]",
        "[environment]\npass = [\"CARGO_*\", \"GITHUB_TOKEN\"]",
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nports = [80, 8080]\n\
         [[deny]]\nid = \"d\"\nwhat = \"net\"\nhosts = [\"**.test\", \"a.test\"]\nports = [80]",
        "[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nports = [80]\n\
         [[deny]]\nid = \"d\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nmethods = [\"POST\"]",
    ] {
        assert_eq!(warnings(text), Vec::<String>::new(), "{text}");
    }
    for name in stockade_policy::builtin_names() {
        let preset = source(Origin::Builtin, name, builtin(name).unwrap_or_default());
        let policy = load(&[preset], &HostSets::default());
        let found = policy.map(|policy| policy.warnings());
        assert_eq!(found, Ok(Vec::new()), "{name}");
    }
}

#[test]
fn an_allow_that_answers_nobody_is_said() {
    let ask =
        "schema = 1\n[[ask]]\nid = \"q\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\n";
    let allow = "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"origin\"]\n";
    let warnings = |asks, allows| {
        loaded(&[
            source(asks, "ask.toml", ask),
            source(allows, "allow.toml", allow),
        ])
        .warnings()
    };
    let found = warnings(Origin::Organisation, Origin::User);
    assert!(
        found
            .iter()
            .any(|w| w.source == "allow.toml:2" && w.message.contains("`q` (ask.toml:2)")),
        "{found:?}"
    );
    assert_eq!(warnings(Origin::User, Origin::User), []);
}

#[test]
fn a_slash_at_the_end_means_all_below() {
    let text = "schema = 1\n[workspace]\nprotect = [\"ci/\", \"a//b\"]\n\
                [[deny]]\nid = \"d\"\nwhat = \"file\"\npaths = [\"gen/\"]\n\
                [tests.t]\ndeny = [\"file write gen/x\", \"file write gen/a/b\", \"file rename gen\", \
                \"file write sub/gen/x\", \"file write ci/x\", \"file create ci\", \"file write a/b\"]\n\
                allow = [\"file write generated\", \"file write a/x\"]\n";
    loaded(&[source(Origin::User, "team.toml", text)]);
}

#[test]
fn paths_of_the_view_have_one_spelling() {
    let text = "schema = 1\n[filesystem]\nhide = [\"~//x\", \"//a/./b//\", \"~/./y/.\"]\n\
                [[filesystem.state]]\npath = \"~//.agent/\"\nseed = [\"a//b\", \"~/./c\"]\n";
    let policy = loaded(&[source(Origin::User, "team.toml", text)]);
    let files = &policy.settings().filesystem;
    let own = files.hide.iter().filter(|at| at.origin == Origin::User);
    let hidden: Vec<&str> = own.map(|at| at.value.as_str()).collect();
    assert_eq!(hidden, ["~/x", "/a/b", "~/y"]);
    let state = files.state.iter().find(|at| at.origin == Origin::User);
    let state = state.map(|at| (at.value.path.as_str(), at.value.seed.join(" ")));
    assert_eq!(state, Some(("~/.agent", "a/b ~/c".to_owned())));
}

fn places() -> Places {
    Places {
        homes: vec!["/home/ann".to_owned(), "/data/ann".to_owned()],
        state: vec!["/home/ann/.local/state/stockade".to_owned()],
        policies: vec![
            "/home/ann/.config/stockade".to_owned(),
            "/etc/stockade".to_owned(),
        ],
    }
}

#[test]
fn what_is_ours_is_shared_in_no_spelling() {
    for (key, path, why) in [
        ("read", "/home/ann", "whole home"),
        ("read", "/home//ann/.", "whole home"),
        ("write", "/home", "whole home"),
        ("read", "/data/ann", "whole home"),
        ("read", "~/.local/state/stockade/sessions", "key that signs"),
        ("write", "/home/ann/.local/state/stockade", "key that signs"),
        (
            "write",
            "~/.config/stockade/policy.toml",
            "policy of the next",
        ),
    ] {
        let text = format!("schema = 1\n[filesystem]\n{key} = [\"{path}\"]\n");
        let policy = loaded(&[source(Origin::User, "team.toml", &text)]);
        let problems = policy.check_places(&places()).err();
        let shown = problems
            .map(|problems| problems.to_string())
            .unwrap_or_default();
        let at = format!("team.toml:3:1  filesystem.{key}: ");
        assert!(
            shown.starts_with(&at) && shown.contains(why),
            "{path}: {shown}"
        );
    }
    for (key, path) in [
        ("read", "~/.config"),
        ("write", "~/.config"),
        ("read", "~/.local"),
        ("write", "/home/ann/.local/state"),
        ("read", "/etc/stockade"),
        ("read", "/home/anna"),
        ("read", "/home/ann/.local/share"),
        ("write", "~/.cache/sccache"),
        ("write", "~/.config/stockades"),
    ] {
        let text = format!("schema = 1\n[filesystem]\n{key} = [\"{path}\"]\n");
        let policy = loaded(&[source(Origin::User, "team.toml", &text)]);
        assert_eq!(policy.check_places(&places()), Ok(()), "{path}");
    }
}
