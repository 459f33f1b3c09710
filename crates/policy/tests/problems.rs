//! Every mistake is reported at once, with its place and its fix.

use stockade_policy::{HostSets, Origin, Problem, Source, load};

fn source(origin: Origin, name: &str, text: &str) -> Source {
    Source {
        origin,
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn problems(sources: &[Source]) -> Vec<Problem> {
    match load(sources, &HostSets::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0,
    }
}

fn of_user(text: &str) -> Vec<String> {
    let source = source(Origin::User, "team.toml", text);
    problems(&[source])
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A rule about a name that does not exist in any session is a mistake, and the message names the
/// right way; a rule that fixes the name, or a deny, is not.
#[test]
fn names_of_one_machine_are_no_hosts() {
    let rule = |effect: &str, host: &str| {
        format!(
            "schema = 1\n[[{effect}]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"{host}\"]\nports = [5432]\n"
        )
    };
    for (effect, host, help) in [
        ("allow", "localhost", "[network.services]"),
        ("ask", "localhost", "--service localhost:PORT"),
        ("allow", "127.0.0.1", "[network.services]"),
        ("ask", "::1", "--service localhost:PORT"),
        ("allow", "127.0.0.0/8", "[network.services]"),
        ("allow", "x.localhost", "[network.services]"),
        ("allow", "db", "[network.hosts]"),
        ("allow", "printer.local", "[network.hosts]"),
    ] {
        let found = of_user(&rule(effect, host));
        let [problem] = found.as_slice() else {
            panic!("{host}: {found:?}");
        };
        assert!(
            problem.starts_with("team.toml:2:1") && problem.contains(help),
            "{problem}"
        );
    }
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(of_user(&rule("deny", host)), Vec::<String>::new());
    }
    let fixed = rule("allow", "db") + "[network.hosts]\n\"db\" = \"10.0.0.7\"\n";
    assert_eq!(of_user(&fixed), Vec::<String>::new());
    let found = of_user(&rule("allow", "good.test").replace("5432", "0"));
    assert!(found.concat().contains("ports"), "{found:?}");
}

/// Mistakes in services and published ports are reported with the field and the right form.
#[test]
fn services_and_ports_are_checked() {
    let entry = |text: &str| of_user(&format!("schema = 1\n[network.services]\n{text}\n")).concat();
    assert_eq!(entry("\"localhost:11434\" = \"127.0.0.1:11434\""), "");
    assert_eq!(entry("\"db.host.test:5432\" = \"10.0.0.7:5433\""), "");
    assert_eq!(entry("\"unix:/run/x\" = \"unix:/run/x\""), "");
    for (text, help) in [
        ("\"localhost\" = \"127.0.0.1:1\"", "a name and a port"),
        ("\"localhost:0\" = \"127.0.0.1:1\"", "a name and a port"),
        ("\"localhost:53\" = \"127.0.0.1:53\"", "the session's own"),
        ("\"a.test:1\" = \"127.0.0.1\"", "127.0.0.1:5432"),
        ("\"a.test:1\" = \"/run/x\"", "a socket with a path"),
        ("\"unix:/run/x\" = \"127.0.0.1:1\"", "a socket with a path"),
        (
            "\"unix:/run/x\" = \"unix:/run/docker.sock\"",
            "starts containers",
        ),
        ("\"unix:/etc/x\" = \"unix:/run/x\"", "below /run"),
        ("\"a.test:1\" = \"169.254.169.254:80\"", "never reached"),
    ] {
        assert!(entry(text).contains(help), "{text}: {}", entry(text));
    }
    for (text, help) in [
        ("as = 1", "publish[0].port"),
        ("port = 0", "above 0"),
        ("port = 70000", "from 1 to 65535"),
        ("port = 3000\nwhen = \"start\"", "listening"),
        (
            "port = 3000\nas = 1\nwhen = \"listening\"",
            "keeps its number",
        ),
        ("port = 80\nwhen = \"listening\"", "from 1024 to 32767"),
        ("port = 3000\nid = \"a b\"", "publish[0].id"),
    ] {
        let found = of_user(&format!("schema = 1\n[[publish]]\n{text}\n")).concat();
        assert!(found.contains(help), "{text}: {found}");
    }
    let preset = Source {
        origin: Origin::Builtin,
        ..source(Origin::User, "p", "schema = 1\n[[publish]]\nport = 1\n")
    };
    assert!(!problems(&[preset]).is_empty());
    let above = source(
        Origin::Organisation,
        "o",
        "schema = 1\n[network]\npublish = false\nproxy = \"none\"\n",
    );
    for text in [
        "[[publish]]\nport = 1",
        "[[publish]]\nport = 3000\nwhen = \"listening\"",
        "[network]\npublish = true",
        "[network]\nproxy = \"environment\"",
    ] {
        let below = source(Origin::User, "u", &format!("schema = 1\n{text}\n"));
        assert!(!problems(&[above.clone(), below]).is_empty(), "{text}");
    }
}

#[test]
fn six_mistakes_are_six_problems() {
    let text = r#"schema = 1

[limits]
memory = "lots"
proceses = 512

[[allow]]
id = "x"
what = "net"
hosts = ["*.co.uk"]
reason = "r"

[[deny]]
id = "x"
what = "netz"
reason = "r"

[[ask]]
id = "y"
what = "exec"
command = []
reason = "r"
"#;
    let found = of_user(text);
    assert_eq!(
        found,
        [
            "team.toml:4:10  limits.memory: `lots` is not a size; write for example \"4GiB\"",
            "team.toml:5:1  limits.proceses: unknown key; did you mean `processes`?",
            "team.toml:10:10  allow[0].hosts[0]: `*.co.uk` is a public suffix and would match \
             strangers; name the domain",
            "team.toml:14:6  deny[0].id: `x` is already used at line 8",
            "team.toml:15:8  deny[0].what: `netz` is not one of net, git, package, forge, model, exec, file, tool; did you mean \
             `net`?",
            "team.toml:21:11  ask[0].command: the list is empty; name the program",
        ]
    );
}

#[test]
fn problems_of_all_files_come_together() {
    let sources = [
        source(Origin::User, "a.toml", "schema = 2\n"),
        source(
            Origin::Session,
            "b.toml",
            "schema = 1\nextends = [\"builtin:codx\"]\n",
        ),
    ];
    let found = problems(&sources);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .any(|p| p.file == "b.toml" && p.message.contains("`codex`")),
        "{found:?}"
    );
}

/// One mistake each, and a part of the message that names the fix.
const MISTAKES: &[(&str, &str)] = &[
    ("", "schema = 1"),
    ("schema = 1\n[limits]\ncpus = 0", "above 0"),
    ("schema = 1\n[limits]\nwall_time = \"soon\"", "15m"),
    (
        "schema = 1\n[limits]\nopen_files = \"many\"",
        "whole number",
    ),
    (
        "schema = 1\n[workspace]\nmode = \"revieww\"",
        "did you mean `review`",
    ),
    ("schema = 1\n[workspace]\nprotect = [\"/etc\"]", "any depth"),
    ("schema = 1\n[workspace]\nunprotect = [\"**\"]", "any depth"),
    (
        "schema = 1\n[workspace]\nunprotect = [\"*/**\"]",
        "any depth",
    ),
    (
        "schema = 1\n[workspace]\npackages = [\"deps*\"]",
        "name of a directory",
    ),
    ("schema = 1\n[filesystem]\nread = [\"~\"]", "begin with"),
    ("schema = 1\n[filesystem]\nread = [\"~/../x\"]", "`..`"),
    ("schema = 1\n[filesystem]\nread = [\"/\"]", "whole machine"),
    (
        "schema = 1\n[filesystem]\nread = [\"//./\"]",
        "whole machine",
    ),
    ("schema = 1\n[filesystem]\nread = [\"~/\"]", "whole home"),
    ("schema = 1\n[filesystem]\nread = [\"~/.\"]", "whole home"),
    ("schema = 1\n[filesystem]\nwrite = [\"~//\"]", "whole home"),
    ("schema = 1\n[filesystem]\nhide = [\"~//x/../y\"]", "`..`"),
    (
        "schema = 1\n[[filesystem.state]]\npath = \"~/.a\"\nseed = [\"~/.\"]",
        "inside the directory",
    ),
    (
        "schema = 1\n[[filesystem.state]]\npath = \"~/.a\"\nseed = [\"./\"]",
        "inside the directory",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"@npmm\"]",
        "did you mean `npm`",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\npaths = [\"/public/\"]",
        "`/public/**` for what lies below",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"x\"]\nprograms = [\"/usr/bin/\"]",
        "`/usr/bin/**` for what lies below",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"x\"]\ncwd = [\"/work/\"]",
        "`/work/**` for what lies below",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"x\"]\ncwd = [\"~/work\"]",
        "cannot know the home",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nports = [65536]",
        "65535",
    ),
    (
        "schema = 1\n[environment]\npass = [\"*\"]",
        "name the variables",
    ),
    (
        "schema = 1\n[require]\nmode = \"review\"",
        "only the organisation",
    ),
    (
        "schema = 1\n[[allow]]\nwhat = \"net\"\nhosts = [\"a.test\"]",
        "name of its own",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nhosts = [\"a.test\"]",
        "net, git, package, forge, model, exec, file, tool",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a b\"\nwhat = \"net\"\nhosts = [\"a.test\"]",
        "rule id",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"metadata\"\nwhat = \"net\"\nhosts = [\"a.test\"]",
        "built-in",
    ),
    ("schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"", "hosts"),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"**\"]",
        "every host",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"0.0.0.0/0\"]",
        "every address",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"*.com\"]",
        "public suffix",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nports = [0]",
        "65535",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\ncommand = [\"x\"]",
        "has no `command`",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\ntls = \"splice\"\nmethods = [\"GET\"]",
        "cannot be kept in TLS that passes as it is",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\ntls = \"inspect\"",
        "a deny has no use for it",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\ntls = \"open\"",
        "inspect",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nbytes_max = 5",
        "expected a text in quotes",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nbytes_max = \"0B\"",
        "at least one byte",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nbytes_max = \"1kB\"",
        "a deny has no use for it",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"x\"]\nbytes_max = \"1kB\"",
        "has no `bytes_max`",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nrequests_per_minute_max = 0",
        "a whole number above 0",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nrequests_per_minute_max = 60001",
        "at most 60000",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nrequests_per_minute_max = 5\ntls = \"splice\"",
        "cannot be kept in TLS that passes as it is",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nrequests_per_minute_max = 5",
        "a deny has no use for it",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\ncontent = \"ask\"",
        "`ask` is not one of record, deny",
    ),
    (
        "schema = 1\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\ncontent = \"deny\"\ntls = \"splice\"",
        "`content` cannot be kept in TLS that passes as it is",
    ),
    (
        "schema = 1\n[[ask]]\nid = \"a\"\nwhat = \"tool\"",
        "name tools, for example",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"file\"\npaths = [\"a\"]\naccess = [\"read\"]",
        "[filesystem]",
    ),
    (
        "schema = 1\n[[deny]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"x\"]\nexpires = \"5m\"",
        "only an [[ask]]",
    ),
    (
        "schema = 1\n[[ask]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"x\"]\nscope_max = \"ever\"",
        "5-uses",
    ),
    (
        "schema = 1\n[tests.t]\nallow = [\"git status\"]",
        "begin with exec",
    ),
    (
        "schema = 1\n[tests.t]\nallow = [\"exec git status\"]",
        "test failed",
    ),
    (
        "schema = 1\n[network.hosts]\n\"a.test\" = \"169.254.169.254\"",
        "metadata",
    ),
    ("schema = 1\n[limits", "team.toml:2"),
    ("schema = 1\nextends = \"builtin:codex\"", "a list of texts"),
];

#[test]
fn each_mistake_names_its_fix() {
    for (text, hint) in MISTAKES {
        let found = of_user(text);
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        assert!(found.iter().any(|p| p.contains(hint)), "{text}\n{found:#?}");
    }
}

#[test]
fn only_own_policies_lift_what_presets_protect() {
    let lift = "schema = 1\n[workspace]\nunprotect = [\".vscode/**\"]\npackages = [\"deps\"]\n";
    let found = problems(&[source(Origin::Session, "run.toml", lift)]);
    let fields: Vec<&str> = found.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, ["workspace.unprotect", "workspace.packages"]);
    assert!(found.iter().all(|p| p.message.contains("your own policy")));

    let pin = "schema = 1\n[require]\nunprotect = \"none\"\n";
    let found = problems(&[
        source(Origin::User, "user.toml", lift),
        source(Origin::Organisation, "org.toml", pin),
    ]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|p| p.message.contains("org.toml:3")));

    // A pattern of a higher layer stays in force, whatever a lower layer calls packages.
    let strict = "schema = 1\n[workspace]\nprotect_outside_packages = [\"x.cfg\"]\n\
                  packages = [\"third\"]\n";
    let policy = load(
        &[
            source(Origin::User, "user.toml", lift),
            source(Origin::Organisation, "org.toml", strict),
        ],
        &HostSets::default(),
    )
    .unwrap();
    let workspace = &policy.settings().workspace;
    assert!(workspace.protects(b"deps/x.cfg").is_some());
    assert!(workspace.protects(b"third/x.cfg").is_none());
}

#[test]
fn a_lower_layer_can_only_tighten() {
    let organisation = r#"schema = 1
[workspace]
mode = "review"
[limits]
memory = "4GiB"
[filesystem]
hide = ["~/.config/company"]
[environment.set]
PROXY = "a"
[network.hosts]
"a.test" = "192.0.2.1"
[process]
debuggers = "none"
"#;
    let user = r#"schema = 1
[workspace]
mode = "direct"
[limits]
memory = "8GiB"
processes = 10
[filesystem]
read = ["~/.config/company/keys"]
[environment.set]
PROXY = "b"
[network.hosts]
"a.test" = "192.0.2.2"
[process]
namespaces = true
"#;
    let found = problems(&[
        source(Origin::User, "user.toml", user),
        source(Origin::Organisation, "org.toml", organisation),
    ]);
    let fields: Vec<&str> = found.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "workspace.mode",
            "limits.memory",
            "filesystem.read[0]",
            "environment.set.PROXY",
            "network.hosts.a.test",
        ]
    );
    assert!(
        found
            .iter()
            .all(|p| p.file == "user.toml" && p.message.contains("org.toml:"))
    );
}

#[test]
fn a_lower_layer_can_tighten() {
    let policy = load(
        &[
            source(
                Origin::Organisation,
                "org.toml",
                "schema = 1\n[limits]\nmemory = \"4GiB\"\n",
            ),
            source(
                Origin::User,
                "user.toml",
                "schema = 1\n[limits]\nmemory = \"2GiB\"\n[workspace]\nmode = \"review\"\n",
            ),
        ],
        &HostSets::default(),
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let memory = policy.settings().limits.memory.clone().unwrap();
    assert_eq!(memory.value.to_string(), "2GiB");
    assert_eq!(
        (memory.origin, memory.source.as_str()),
        (Origin::User, "user.toml:3")
    );
    assert_eq!(policy.settings().workspace.mode.origin, Origin::User);
}

#[test]
fn a_pin_of_the_organisation_holds() {
    let found = problems(&[
        source(
            Origin::Organisation,
            "org.toml",
            "schema = 1\n[require]\nmode = \"review\"\n",
        ),
        source(
            Origin::Session,
            "flag.toml",
            "schema = 1\n[workspace]\nmode = \"direct\"\n",
        ),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found.iter().any(|p| p.file == "flag.toml" && p.line == 3),
        "{found:?}"
    );
}

#[test]
fn tests_of_a_layer_do_not_fail_because_a_lower_one_tightens() {
    let above = "schema = 1\n[[allow]]\nid = \"ls\"\nwhat = \"exec\"\ncommand = [\"ls\", \"**\"]\n\
                 [tests.t]\nallow = [\"exec ls\"]\n";
    let below = "schema = 1\n[[deny]]\nid = \"none\"\nwhat = \"exec\"\ncommand = [\"**\"]\n\
                 [tests.t]\ndeny = [\"exec ls\"]\n";
    let found = problems(&[
        source(Origin::Organisation, "org.toml", above),
        source(Origin::User, "user.toml", below),
    ]);
    assert_eq!(found, []);
}

/// A lower layer can only make the record reach the disk sooner.
#[test]
fn a_lower_layer_cannot_put_the_disk_off() {
    let of = |word: &str| format!("schema = 1\n[record]\nsync = \"{word}\"\n");
    for (above, below, ok) in [
        ("each", "second", false),
        ("each", "each", true),
        ("second", "each", true),
    ] {
        let found = problems(&[
            source(Origin::Organisation, "org.toml", &of(above)),
            source(Origin::User, "user.toml", &of(below)),
        ]);
        assert_eq!(found.is_empty(), ok, "{above} {below}: {found:?}");
    }
    let found = of_user(&of("never")).concat();
    assert!(
        found.contains("second") && found.contains("each"),
        "{found}"
    );
}

/// A key of ssh has fields of its own, and names the users that it is for.
#[test]
fn keys_of_ssh_have_their_own_fields() {
    let key = |change: &str, to: &str| {
        let text = "schema = 1\n[[credential]]\nid = \"deploy\"\nkind = \"ssh-key\"\n\
                    source = { file = \"~/.ssh/deploy\" }\nhosts = [\"git.good.test\"]\nusers = [\"git\"]\n";
        text.replace(change, to)
    };
    assert_eq!(of_user(&key("", "")), Vec::<String>::new());
    let agent = key("file = \"~/.ssh/deploy\"", "agent = \"SHA256:abc\"");
    assert_eq!(of_user(&agent), Vec::<String>::new());
    let users = "users = [\"git\"]";
    let twice = "[[credential]]\nid = \"deploy\"\nkind = \"bearer\"\nsource = { env = \"SVC_TOKEN\" }\n\
                 hosts = [\"svc.good.test\"]\n";
    for (text, help) in [
        (key(users, ""), "the users whom it logs in as"),
        (key("git\"]", "*\"]"), "is not the name of a user"),
        (
            key(users, "users = [\"git\"]\nmethods = [\"GET\"]"),
            "take it out",
        ),
        (key(users, "users = [\"git\"]\nas = \"X\""), "take it out"),
        (key("hosts = [\"git.good.test\"]\n", ""), "name the hosts"),
        (
            key("file = \"~/.ssh/deploy\"", "file = \"~/a\", agent = \"b\""),
            "one of `file` and `agent`",
        ),
        (
            key("file = \"~/.ssh/deploy\"", "agent = \"\""),
            "`ssh-add -l`",
        ),
        (
            key("file = \"~/.ssh/deploy\"", "file = \"deploy\""),
            "deploy",
        ),
        (key("file = \"~/.ssh/deploy\"", "env = \"KEY\""), "env"),
        (key("ssh-key", "sshkey"), "ssh-key"),
        (key("", "") + twice, "already the id of an ssh key"),
        (
            twice.replace("[[", "schema = 1\n[[") + &key("schema = 1\n", ""),
            "already used at",
        ),
        (
            "schema = 1\n".to_owned() + twice + users + "\n",
            "only a credential of kind ssh-key",
        ),
    ] {
        let found = of_user(&text);
        assert!(
            found.iter().any(|problem| problem.contains(help)),
            "{help}: {found:?}\n{text}"
        );
    }
}

/// The tokens of a file are those of one login: another one would not know what the first has covered.
#[test]
fn a_file_is_the_file_of_one_login() {
    let login = |id: &str, access: &str| {
        format!(
            "[[login]]\nid = \"{id}\"\nfile = \"~/.agent/auth.json\"\naccess = \"{access}\"\n\
             refresh = \"{access}r\"\nhosts = [\"good.test\"]\n[login.endpoint]\nhosts = [\"good.test\"]\n\
             paths = [\"/oauth/token\"]\n"
        )
    };
    let state = "schema = 1\n[[filesystem.state]]\npath = \"~/.agent\"\n\
                 [[filesystem.state.logins]]\nfile = \"auth.json\"\ntokens = [\"a\"]\n";
    let one = of_user(&[state, &login("one", "a")].concat());
    assert!(one.is_empty(), "{one:?}");
    let two = of_user(&[state, &login("one", "a"), &login("two", "b")].concat());
    assert!(
        two.iter()
            .any(|problem| problem.contains("is the file of the login `one`")),
        "{two:?}"
    );
}
