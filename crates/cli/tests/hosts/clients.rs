//! The package sources of clients, as configured or by default.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use stockade_testkit::lab::HttpServer;

use super::Place;

const PIP: &str = "lib/python3.11/site-packages/pip/_internal/models/index.py";
const PIP_TEXT: &str =
    "PyPI = PackageIndex(\"https://index.pip.test/\", file_storage_domain=\"files.pip2.test\")\n";
const NPM: &str = "node_modules/@npmcli/config/lib/definitions/definitions.js";
const NPM_TEXT: &str =
    "  registry: new Definition('registry', {\n    default: 'https://registry.npm.test/',\n";

/// Puts replacements for installed clients, with their defaults, in a directory.
fn install(place: &Place, root: &Path) {
    let file = |name: &str, text: &str| {
        let path = place.env.write(root.join(name), text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it was just written");
    };
    for name in ["npm", "python3", "go", "yarn"] {
        file(&format!("bin/{name}"), "");
    }
    file(NPM, NPM_TEXT);
    file(
        "lib/cli.js",
        "var YARN_REGISTRY = 'https://registry.yarn.test';\n",
    );
    file(PIP, PIP_TEXT);
    file("go.env", "# x\nGOPROXY=https://proxy.go.test,direct\n");
    file("bin/cargo", "sparse+https://index.cargo.test/config.json");
    file(
        "bin/uv",
        "The default package index (by default: <https://simple.uv.test/simple>)",
    );
}

/// F4, R13: a source in the owner's settings opens that host at that port, and nothing else.
#[test]
fn a_source_is_its_host_and_its_port() {
    let place = Place::one();
    place.write(
        ".npmrc",
        "registry=http://corp.lab.test:4873/\n@x:registry=https://x.lab.test/\n",
    );
    place.write(
        ".config/pip/pip.conf",
        "[global]\nextra-index-url = https://u:p@pip.lab.test:8443/simple\n",
    );
    place.write(
        ".cargo/config.toml",
        "[registries.own]\nindex = \"sparse+https://cargo.lab.test:8444/\"\n",
    );
    place.write(".config/go/env", "GOPROXY=http://go.lab.test:3000\n");
    place.write(".gemrc", ":sources:\n- https://gem.lab.test:8445/\n");
    place.assert(&[
        ("corp.lab.test:4873", "allow"),
        ("corp.lab.test:443", "ask"),
        ("corp.lab.test:4874", "deny"),
        ("x.lab.test:443", "allow"),
        ("x.lab.test:4873", "deny"),
        ("pip.lab.test:8443", "allow"),
        ("pip.lab.test:443", "ask"),
        ("cargo.lab.test:8444", "allow"),
        ("go.lab.test:3000", "allow"),
        ("gem.lab.test:8445", "allow"),
        ("other.lab.test:4873", "deny"),
    ]);
    // Sources on the machine itself are not in any rule, and a policy with the set is valid.
    place.write(".yarnrc", "registry \"http://localhost:4873/\"\n");
    place.own_policy("[[allow]]\nid = \"x\"\nwhat = \"net\"\nhosts = [\"@npm\"]\n");
    place.assert(&[("corp.lab.test:4873", "allow")]);
    // A rule with ports means only those, and a deny means the whole host.
    place.own_policy(
        "[[deny]]\nid = \"no-npm\"\nwhat = \"net\"\nhosts = [\"@npm\"]\n\
         [[ask]]\nid = \"tls\"\nwhat = \"net\"\nhosts = [\"@go\"]\nports = [443]\n",
    );
    place.assert(&[
        ("corp.lab.test:4873", "deny"),
        ("corp.lab.test:443", "deny"),
        ("go.lab.test:3000", "allow"),
    ]);
}

/// The port of a source can also be reached from a session.
#[test]
fn a_session_reaches_a_source_at_its_port() {
    Place::each(|place| {
        let (source, other) = (HttpServer::start(), HttpServer::start());
        let url = format!("http://corp.lab.test:{}/", source.port());
        place.write(".npmrc", &format!("registry={url}\n"));
        place.own_policy(
            "[network.hosts]\n\"corp.lab.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"private\"\nwhat = \"net\"\nhosts = [\"@npm\"]\nprivate = true\n",
        );
        let line = format!(
            "for u in {url} http://corp.lab.test:{}/; do curl -s -o /dev/null -w '%{{http_code}} ' $u; done",
            other.port()
        );
        let output = place
            .env
            .session_with(place.repo.path(), &["--ask", "deny"]);
        output.line(&line).output().assert_stdout("200 000 ");
        assert_eq!(source.requests().len(), 1);
        other.assert_untouched();
    });
}

/// F4, A2: if nothing is configured, the defaults of installed clients count, and are then taken
/// from the cache.
#[test]
fn clients_without_settings_have_their_defaults() {
    Place::each(|place| {
        let lab = place.env.home().join("lab");
        let defaults = [
            ("registry.npm.test:443", "allow"),
            ("registry.yarn.test:443", "allow"),
            ("index.pip.test:443", "allow"),
            ("files.pip2.test:443", "allow"),
            ("simple.uv.test:443", "allow"),
            ("index.cargo.test:443", "allow"),
            ("proxy.go.test:443", "allow"),
            ("other.npm.test:443", "ask"),
            ("registry.npm.test:8443", "deny"),
        ];
        place.assert(&[("registry.npm.test:443", "ask")]);
        install(place, &lab);
        place.assert(&defaults);
        let session = place.env.session(place.repo.path());
        session
            .env("PATH", place.search_path())
            .line("true")
            .success();
        let kept = fs::read_to_string(place.env.state().join("clients.json")).unwrap();
        assert!(
            kept.contains("registry.npm.test") && kept.contains("files.pip2.test"),
            "{kept}"
        );
        place.assert(&defaults);
        // The file is not read again while it is unchanged, and is read when it is another one.
        let change = |text: &str, same: bool| {
            let file = lab.join(NPM);
            let time = fs::metadata(&file).unwrap().modified().unwrap();
            fs::write(&file, text).unwrap();
            if same {
                fs::File::open(&file).unwrap().set_modified(time).unwrap();
            }
        };
        let other = NPM_TEXT.replace("registry.npm", "registry.new");
        change(&other, true);
        place.assert(&[("registry.npm.test:443", "allow")]);
        change(&format!("{other} "), false);
        place.assert(&[
            ("registry.new.test:443", "allow"),
            ("registry.npm.test:443", "ask"),
        ]);
    });
}

/// A company's own source excludes the public default, because strangers may have packages of the
/// same names there.
#[test]
fn a_source_in_the_place_of_the_default_is_alone() {
    let place = Place::one();
    install(&place, &place.env.home().join("lab"));
    place.assert(&[
        ("registry.npm.test:443", "allow"),
        ("index.pip.test:443", "allow"),
    ]);
    place.write(".npmrc", "registry=https://corp.lab.test/\n");
    place.write(".config/go/env", "GOPROXY=off\n");
    place.assert(&[
        ("corp.lab.test:443", "allow"),
        ("registry.npm.test:443", "ask"),
        ("registry.yarn.test:443", "ask"),
        ("proxy.go.test:443", "ask"),
    ]);
    let replaced = |name: &str, host: &str| {
        place.verdict_with(&format!("{host}:443"), |run| {
            run.env(name, "https://corp.lab.test/simple")
        })
    };
    assert_eq!(replaced("PIP_INDEX_URL", "index.pip.test"), "ask");
    assert_eq!(replaced("PIP_INDEX_URL", "files.pip2.test"), "ask");
    assert_eq!(replaced("PIP_EXTRA_INDEX_URL", "index.pip.test"), "allow");
    place.write(
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"x\"\n",
    );
    place.assert(&[("index.cargo.test:443", "ask")]);
}

/// Packages of Cargo can be on a different host from the index: the index stated it when the owner
/// used it, and only the owner's own copy is trusted.
#[test]
fn the_index_that_the_owner_used_says_where_packages_are() {
    let place = Place::one();
    install(&place, &place.env.home().join("lab"));
    let index = |host: &str, dl: &str| {
        let path = format!(".cargo/registry/index/{host}-1949cf8c6b5b557f/config.json");
        place.write(
            path,
            &format!("{{\"dl\":\"https://{dl}/x\",\"api\":\"https://api.{dl}\"}}"),
        );
    };
    index("index.cargo.test", "static.cargo.test");
    index("index.stranger.test", "files.stranger.test");
    place.assert(&[
        ("static.cargo.test:443", "allow"),
        ("api.static.cargo.test:443", "ask"),
        ("files.stranger.test:443", "ask"),
    ]);
}

/// Files that a session could have written do not count: neither in its workspace, nor in that of
/// an earlier one, nor at a place that a policy makes writable.
#[test]
fn what_a_session_could_have_written_says_nothing() {
    Place::each(|place| {
        let [before, open, own] = ["before", "open", "own"].map(|name| place.env.home().join(name));
        for root in [&before, &open, &own, &place.repo.path().join("lab")] {
            install(place, root);
        }
        let with = |root: &Path| {
            let path = format!("{}/bin:/usr/bin:/bin", root.display());
            place.verdict_with("registry.npm.test:443", |run| run.env("PATH", path))
        };
        assert_eq!(with(&own), "allow");
        assert_eq!(with(&open), "allow");
        assert_eq!(with(&before), "allow");
        assert_eq!(with(&place.repo.path().join("lab")), "ask", "the workspace");
        place.env.session(&before).line("true").success();
        assert_eq!(with(&before), "ask", "the workspace of an earlier session");
        place.own_policy("[filesystem]\nwrite = [\"~/open\"]\n");
        assert_eq!(with(&open), "ask", "what the policy opens");
        assert_eq!(with(&own), "allow");
        fs::set_permissions(own.join(NPM), fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(with(&own), "ask", "what everybody can write");
        // Neither settings nor an index in the workspace count if a variable points there.
        let index = "registry/index/index.cargo.test-1/config.json";
        let json = "{\"dl\":\"https://evil.test/\"}";
        place.env.write(place.repo.path().join(index), json);
        let config = "[registries.x]\nindex = \"sparse+https://evil.test/\"\n";
        place
            .env
            .write(place.repo.path().join("config.toml"), config);
        let verdict = place.verdict_with("evil.test:443", |run| {
            run.env("CARGO_HOME", place.repo.path())
        });
        assert_eq!(verdict, "ask");
    });
}

/// An organisation can make every host set empty for others, and use them in its own rules.
#[test]
fn an_organisation_can_switch_host_sets_off() {
    let place = Place::one();
    install(&place, &place.env.home().join("lab"));
    place.own_policy("[[allow]]\nid = \"mine\"\nwhat = \"net\"\nhosts = [\"@pip\"]\n");
    let rules = "[[allow]]\nid = \"go\"\nwhat = \"net\"\nhosts = [\"@go\"]\n";
    let [off, on] = ["[require]\nhost_sets = \"none\"\n", ""].map(|pin| {
        place.write(
            format!("{}.toml", pin.len()),
            &format!("schema = 1\n{pin}{rules}"),
        )
    });
    for (policy, expected) in [(&on, "allow"), (&off, "ask")] {
        for (host, verdict) in [
            ("registry.npm.test:443", expected),
            ("index.pip.test:443", expected),
            ("proxy.go.test:443", "allow"),
        ] {
            let found = place.verdict_with(host, |run| run.env("STOCKADE_ORG_POLICY", policy));
            assert_eq!(found, verdict, "{host}");
        }
    }
}
