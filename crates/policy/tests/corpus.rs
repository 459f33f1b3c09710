//! Decisions on texts: each file of the corpus is a policy and lines `request => verdict rule`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{fs, path::Path};

use stockade_fuzz::Target;
use stockade_policy::{HostSets, Meaning, Origin, Policy, Probe, Source, builtin, load};

/// Reads the policy from the comment at the top: `policy: builtin:NAME`, then a layer a paragraph.
fn policy(text: &str) -> Policy {
    let mut sources: Vec<Source> = Vec::new();
    for line in text.lines().map_while(|line| line.strip_prefix('#')) {
        let layer = match line.trim() {
            "organisation:" => Some(Origin::Organisation),
            "user:" => Some(Origin::User),
            "session:" => Some(Origin::Session),
            _ => None,
        };
        if let Some(name) = line.trim().strip_prefix("policy: builtin:") {
            let text = builtin(name).unwrap().to_owned();
            sources.push(Source {
                origin: Origin::Builtin,
                name: name.to_owned(),
                text,
            });
        } else if let Some(origin) = layer {
            let name = format!("{origin}.toml");
            sources.push(Source {
                origin,
                name,
                text: String::new(),
            });
        } else if let Some(rule) = line.strip_prefix("   ") {
            let source = sources.last_mut().unwrap();
            source.text.push_str(rule);
            source.text.push('\n');
        }
    }
    load(&sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_corpus_holds() {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/corpus");
    let mut wrong = Vec::new();
    let mut lines = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let policy = policy(&text);
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            lines += 1;
            let (request, expected) = line.split_once(" => ").unwrap();
            let (_, decision) = policy.rehearse(&Probe::parse(request).unwrap());
            let rule = decision.rule.as_ref().map_or("-", |rule| rule.as_str());
            let found = format!("{} {rule}", decision.verdict);
            if found != expected {
                let place = format!("{}:{}", path.display(), number + 1);
                wrong.push(format!("{place}: {request}: {found}, expected {expected}"));
            }
        }
    }
    assert!(lines > 80, "only {lines} lines were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Anyone may have written a policy file, so any text must either be a policy or have a place for
/// each of its mistakes.
#[test]
fn fuzz_policy() {
    let texts =
        ["codex", "generic", "coding-agent"].map(|name| builtin(name).unwrap().as_bytes().to_vec());
    let mut samples: Vec<Vec<u8>> = texts.into();
    samples.push(b"[[deny]]\nid = \"no\"\nwhat = \"exec\"\ncommands = [\"git push *\"]\nreason = \"r\"\n\
        [[ask]]\nid = \"f\"\nwhat = \"file\"\npaths = [\"src/**\"]\naccess = [\"write\"]\nreason = \"r\"\n".to_vec());
    let target = Target {
        name: "policy",
        samples,
        words: &[
            b"[[allow]]\n",
            b"what = \"net\"\n",
            b"hosts = [\"*.test\"]\n",
            b"ports = [65536]\n",
            b"\"\"\"",
            b"= -1\n",
            b"= 1e999\n",
            b"**/**/**",
            b"{a,b,{c",
            b"[^",
            b"\\u{0}",
            b"xn--",
            b"1.2.3.4/33",
            b"999999999999d",
        ],
        tries: 60,
    };
    stockade_fuzz::target(&target, |bytes| {
        let source = Source {
            origin: Origin::User,
            name: "fuzz.toml".to_owned(),
            text: String::from_utf8_lossy(bytes).into_owned(),
        };
        if let Err(problems) = load(&[source], &HostSets::default()) {
            assert!(!problems.to_string().is_empty());
        }
    });
}

/// Whatever the target of a request is, what it means is read from it alone, and a package that it is
/// about has a name.
#[test]
fn fuzz_request_meaning() {
    let text = "schema = 1\n[[allow]]\nid = \"p\"\nwhat = \"package\"\nhosts = [\"lab.test\"]\n\
        ecosystems = [\"npm\", \"pypi\", \"crates\", \"debian\", \"oci\", \"go\"]\noperations = [\"download\"]\nreason = \"r\"\n[[allow]]\nid = \"g\"\nwhat = \"git\"\nhosts = [\"lab.test\"]\n\
        repositories = [\"a/**\"]\noperations = [\"fetch\"]\nreason = \"r\"\n[[allow]]\nid = \"f\"\nwhat = \"forge\"\n\
        hosts = [\"lab.test\"]\noperations = [\"read\"]\nreason = \"r\"\n[[allow]]\nid = \"m\"\nwhat = \"model\"\n\
        hosts = [\"lab.test\"]\nreason = \"r\"\n";
    let source = Source {
        origin: Origin::User,
        name: "meaning.toml".to_owned(),
        text: text.to_owned(),
    };
    let policy = load(&[source], &HostSets::default()).unwrap();
    let host = "lab.test".parse().unwrap();
    let paths = [
        "/@scope%2fname",
        "/name/-/name-1.2.3.tgz",
        "/-/package/name/dist-tags/latest",
        "/simple/name/",
        "/packages/ab/cd/name-1.0-py3-none-any.whl",
        "/api/v1/crates/new",
        "/api/v1/crates/serde/1.0.0/download",
        "/se/rd/serde",
        "/v2/team/image/manifests/latest",
        "/v2/team/image/blobs/uploads/",
        "/debian/pool/main/b/bash/bash_5.2-1_amd64.deb",
        "/team/shop.git/info/refs?service=git-receive-pack",
        "/team/shop.git/git-upload-pack",
        "/repos/team/shop/pulls/1/merge",
        "/api/v4/projects/1/issues",
        "/graphql",
        "/v1/messages",
        "/v1/chat/completions",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        "/github.com/a/b/@v/v1.0.0.zip",
        "/team/shop.git/info/lfs/objects/batch",
    ];
    let target = Target {
        name: "request-meaning",
        samples: paths.map(|path| path.as_bytes().to_vec()).into(),
        words: &[
            b"/",
            b"//",
            b"%2f",
            b"%2F",
            b"%2e%2e/",
            b"..",
            b"@",
            b"/-/",
            b".git",
            b"?",
            b"&",
            b"=",
            b";",
            b"service=git-receive-pack",
            b"/info/refs",
            b".tgz",
            b".whl",
            b"/manifests/",
            b"\xff",
            b"\0",
        ],
        tries: stockade_fuzz::TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let meaning = policy.meaning(&host, method, bytes);
            assert_eq!(meaning, policy.meaning(&host, method, bytes));
            for one in &meaning {
                if let Meaning::Package(package) = one {
                    let name = package.name.as_deref();
                    assert!(name.is_none_or(|name| !name.is_empty()), "{one:?}");
                }
            }
        }
    });
}
