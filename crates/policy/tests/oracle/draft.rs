//! Rules from the generator: data that the reference reads, and the TOML for the program.

use std::fmt::Write as _;

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::select,
};
use stockade_policy::{HostSets, Origin, Policy, Source, load};
use stockade_types::Verdict;

pub(crate) type Words = Vec<&'static str>;

#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) layer: Origin,
    pub(crate) effect: Verdict,
    pub(crate) body: Body,
    pub(crate) asks: Option<Asks>,
}

/// People whom a rule asks.
#[derive(Clone, Debug)]
pub(crate) struct Asks {
    /// Ways to a yes, each a list of stages.
    pub(crate) paths: Vec<Words>,
    pub(crate) once: bool,
    pub(crate) reason: bool,
}

/// The stages that there are.
pub(crate) const STAGES: [&str; 4] = ["a", "b", "c", "d"];

/// Absent lists are `None`.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Net {
        hosts: Words,
        ports: Option<Vec<u16>>,
        methods: Option<Words>,
        paths: Option<Words>,
        programs: Option<Words>,
        private: bool,
        bytes_max: Option<u64>,
    },
    Exec {
        commands: Vec<Words>,
        unless: Vec<Words>,
        programs: Option<Words>,
        cwd: Option<Words>,
        environment: Option<Words>,
    },
    File {
        paths: Words,
        access: Option<Words>,
    },
}

/// The digest of the program in one of the requests.
pub(crate) const DIGEST: &str =
    "sha256:2222222222222222222222222222222222222222222222222222222222222222";

impl Draft {
    pub(crate) fn new(layer: Origin, effect: Verdict, body: Body) -> Self {
        Self {
            id: String::new(),
            layer,
            effect,
            body,
            asks: None,
        }
    }

    fn to_toml(&self) -> String {
        let mut text = format!(
            "[[{}]]\nid = \"{}\"\nreason = \"r\"\n",
            self.effect, self.id
        );
        if let Some(asks) = &self.asks {
            let (first, more) = asks.paths.split_first().unwrap();
            writeln!(text, "stages = {first:?}").unwrap();
            if !more.is_empty() {
                writeln!(text, "alternatives = {more:?}").unwrap();
            }
            writeln!(text, "reason_required = {}", asks.reason).unwrap();
            if asks.once {
                text.push_str("scope_max = \"once\"\n");
            }
        }
        let mut list = |key: &str, words: &Option<Words>| {
            if let Some(words) = words {
                writeln!(text, "{key} = {words:?}").unwrap();
            }
        };
        match &self.body {
            Body::Net {
                hosts,
                ports,
                methods,
                paths,
                programs,
                private,
                bytes_max,
            } => {
                list("hosts", &Some(hosts.clone()));
                list("methods", methods);
                list("paths", paths);
                list("programs", programs);
                if let Some(ports) = ports {
                    writeln!(text, "ports = {ports:?}").unwrap();
                }
                if *private {
                    text.push_str("private = true\n");
                }
                if let Some(bytes) = bytes_max {
                    writeln!(text, "bytes_max = \"{bytes}B\"").unwrap();
                }
                text.push_str("what = \"net\"\n");
            }
            Body::Exec {
                commands,
                unless,
                programs,
                cwd,
                environment,
            } => {
                list("programs", programs);
                list("cwd", cwd);
                list("environment", environment);
                writeln!(text, "command = {commands:?}").unwrap();
                if !unless.is_empty() {
                    writeln!(text, "unless = {unless:?}").unwrap();
                }
                text.push_str("what = \"exec\"\n");
            }
            Body::File { paths, access } => {
                list("paths", &Some(paths.clone()));
                list("access", access);
                text.push_str("what = \"file\"\n");
            }
        }
        text
    }
}

pub(crate) const ALL: &[Origin] = &[
    Origin::Builtin,
    Origin::Organisation,
    Origin::User,
    Origin::Session,
];
pub(crate) const BELOW: &[Origin] = &[Origin::User, Origin::Session];

/// Usually nothing, otherwise some of the words.
fn some(words: &[&'static str]) -> impl Strategy<Value = Option<Words>> + use<> {
    let words = words.to_vec();
    prop_oneof![4 => Just(None), 1 => vec(select(words), 1..3).prop_map(|mut list| {
        list.sort_unstable();
        list.dedup();
        Some(list)
    })]
}

fn net() -> impl Strategy<Value = Body> {
    let host = select(vec![
        "a.test",
        "www.a.test",
        "b.a.test",
        "c.b.a.test",
        "*.a.test",
        "**.a.test",
        "**.b.a.test",
        "d.test",
        "203.0.113.7",
        "8.8.8.8",
        "8.8.8.0/24",
        "8.8.0.0/16",
        "10.0.0.1",
        "10.0.0.0/8",
        "2600:1::/32",
        "**",
    ]);
    let ports = select(vec![
        None,
        None,
        Some(vec![80]),
        Some(vec![8080]),
        Some(vec![80, 443, 8080]),
    ]);
    let programs = some(&["/usr/bin/curl", "/usr/bin/*", "/opt/**", "/usr/bin/git"]);
    let parts = (
        vec(host, 1..3),
        ports,
        some(&["GET", "POST"]),
        some(&["/public/**", "/public/x", "/admin", "/*"]),
        programs,
        any::<bool>(),
        select(vec![None, None, Some(10), Some(20)]),
    );
    parts.prop_map(
        |(mut hosts, ports, methods, paths, programs, private, bytes_max)| {
            hosts.dedup();
            Body::Net {
                hosts,
                ports,
                methods,
                paths,
                programs,
                private,
                bytes_max,
            }
        },
    )
}

fn exec() -> impl Strategy<Value = Body> {
    let command = select(vec![
        vec!["**"],
        vec!["*", "**"],
        vec!["git", "**"],
        vec!["/usr/bin/git", "**"],
        vec!["git", "push", "**"],
        vec!["git", "push", "origin"],
        vec!["git", "push", "origin", "agent/*"],
        vec!["{git,ls}", "*"],
        vec!["*", "push", "**"],
        vec!["git", "**", "--force*", "**"],
        vec!["g*", "push"],
        vec!["git", "push", "**[--force ...]"],
        vec!["git", "*[...]", "*[-n origin]"],
    ]);
    let harmless = select(vec![
        vec![],
        vec![vec!["git", "push", "-n"]],
        vec![vec!["git", "push", "**[...]", "-n", "**[...]"]],
        vec![vec!["ls", "**"], vec!["/usr/bin/git", "push"]],
    ]);
    let parts = (
        vec(command, 1..3),
        harmless,
        some(&["/usr/bin/git", "/usr/**", "/tmp/*", DIGEST]),
        some(&["/workspace", "/workspace/**", "src"]),
        some(&["CI", "CI=1", "C*=*"]),
    );
    parts.prop_map(
        |(commands, unless, programs, cwd, environment)| Body::Exec {
            commands,
            unless,
            programs,
            cwd,
            environment,
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let path = select(vec![
        "src/**",
        "src/a",
        "/etc/**",
        "/workspace/src/*",
        "*.rs",
        "**",
    ]);
    let file = (vec(path, 1..3), some(&["write", "create", "remove"]));
    let file = file.prop_map(|(mut paths, access)| {
        paths.dedup();
        Body::File { paths, access }
    });
    prop_oneof![4 => net(), 3 => exec(), 1 => file]
}

/// Usually nobody in a role, otherwise some.
fn asks() -> impl Strategy<Value = Option<Asks>> {
    let path = vec(select(STAGES.to_vec()), 1..4).prop_map(|mut path| {
        path.sort_unstable();
        path.dedup();
        path
    });
    let asks = (vec(path, 1..4), any::<bool>(), any::<bool>());
    let asks = asks.prop_map(|(paths, once, reason)| Asks {
        paths,
        once,
        reason,
    });
    prop_oneof![3 => Just(None), 2 => asks.prop_map(Some)]
}

pub(crate) fn drafts(layers: &'static [Origin]) -> impl Strategy<Value = Vec<Draft>> {
    let effect = || select(vec![Verdict::Allow, Verdict::Ask, Verdict::Deny]);
    let draft = (select(layers.to_vec()), effect(), body(), asks());
    let draft = draft.prop_map(|(layer, effect, body, asks)| Draft {
        asks: asks.filter(|_| effect == Verdict::Ask),
        ..Draft::new(layer, effect, body)
    });
    // Exceptions need several rules about the same subject.
    let again = (any::<usize>(), select(layers.to_vec()), effect(), asks());
    (vec(draft, 0..8), vec(again, 0..3)).prop_map(|(mut drafts, again)| {
        for (which, layer, effect, asks) in again {
            if !drafts.is_empty() {
                let body = drafts[which % drafts.len()].body.clone();
                drafts.push(Draft {
                    asks: asks.filter(|_| effect == Verdict::Ask),
                    ..Draft::new(layer, effect, body)
                });
            }
        }
        drafts
    })
}

/// Gives each draft an id, and removes what the checks refuse: an allow of every host, `private` and `bytes_max` of a deny, `unless` of an allow.
pub(crate) fn kept(drafts: &[Draft]) -> Vec<Draft> {
    let numbered = drafts.iter().enumerate().map(|(number, draft)| Draft {
        id: format!("r{number}"),
        ..draft.clone()
    });
    numbered.filter_map(accepted).collect()
}

fn accepted(mut draft: Draft) -> Option<Draft> {
    match (&mut draft.body, draft.effect) {
        (Body::Net { hosts, .. }, Verdict::Allow) => {
            hosts.retain(|host| *host != "**");
            (!hosts.is_empty()).then_some(draft)
        }
        (
            Body::Net {
                private, bytes_max, ..
            },
            Verdict::Deny,
        ) => {
            (*private, *bytes_max) = (false, None);
            Some(draft)
        }
        (Body::Exec { unless, .. }, Verdict::Allow) => {
            unless.clear();
            Some(draft)
        }
        _ => Some(draft),
    }
}

fn source(origin: Origin, drafts: &[Draft]) -> Source {
    let own = drafts.iter().filter(|draft| draft.layer == origin);
    let rules: String = own.map(Draft::to_toml).collect();
    let stages = STAGES.map(|name| format!("[stages.{name}]\nwho = \"role:{name}\"\n"));
    // The layer that is read first defines them for all.
    let stages = if origin == Origin::Builtin {
        stages.concat()
    } else {
        String::new()
    };
    Source {
        origin,
        name: format!("{origin}.toml"),
        text: format!("schema = 1\n{rules}{stages}"),
    }
}

pub(crate) fn policy(kept: &[Draft]) -> Policy {
    let sources: Vec<Source> = ALL.iter().map(|origin| source(*origin, kept)).collect();
    load(&sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}
