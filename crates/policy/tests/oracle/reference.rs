//! The documentation of the crate, word by word: all rules, no index, no Cedar, no shared matcher.

use stockade_policy::{ExecRequest, FileRequest, Origin, Request};
use stockade_types::{RawText, Verdict};

use super::{
    approved::Given,
    draft::{Body, Draft, Words},
    matching::{
        ANY_CASE, How, PLAIN, SURE, command_within, glob, host, host_within, is_any_path, path,
        path_within, request_path, split, words,
    },
    requests::{HOSTS, TARGETS},
};

/// The reference's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) http_only: bool,
    /// The rules whose question is open, if the verdict is ask.
    pub(crate) open: Vec<String>,
    /// How many bytes may leave by which rules, by their ids.
    pub(crate) limits: Vec<(String, u64)>,
}

/// The connecting program.
#[derive(Clone, Copy, PartialEq)]
enum Who<'r> {
    Known(&'r str),
    Unknown,
    Anybody,
}

/// A rule that matches, with the patterns that do.
struct Match<'d> {
    rule: &'d Draft,
    patterns: Vec<usize>,
}

/// The rules that match, and those that could match a request on this connection.
struct Found<'d> {
    now: Vec<Match<'d>>,
    later: Vec<Match<'d>>,
}

fn text(raw: &RawText) -> &str {
    std::str::from_utf8(raw.as_bytes()).unwrap()
}

pub(crate) fn decide(rules: &[Draft], request: &Request, given: &[Given]) -> Answer {
    match request {
        Request::Name(name) => {
            let at = |port: u16| connection(rules, name.name.as_str(), port, Who::Anybody, None);
            let known = ports(rules).into_iter().any(|port| {
                let found = at(port);
                answer(&found, name.name.as_str(), request, given).verdict != Verdict::Deny
            });
            Answer {
                verdict: if known { Verdict::Allow } else { Verdict::Deny },
                http_only: false,
                open: Vec::new(),
                limits: Vec::new(),
            }
        }
        Request::Net(net) => {
            let name = net.host.to_string();
            let found = connection(rules, &name, net.port.get(), who(&net.subject.exe), None);
            answer(&found, &name, request, given)
        }
        Request::Http(http) => {
            let name = http.host.to_string();
            let seen = Some((http.method.as_str(), text(&http.path)));
            let found = connection(rules, &name, http.port.get(), who(&http.subject.exe), seen);
            answer(&found, &name, request, given)
        }
        Request::Exec(exec) => {
            let found = found(rules, |rule| (exec_patterns(rule, exec), false));
            answer(&found, "", request, given)
        }
        Request::File(file) => {
            let found = found(rules, |rule| (file_patterns(rule, file), false));
            answer(&found, "", request, given)
        }
        Request::Port(_) | Request::Definition(_) => panic!("no rule is about these"),
        Request::Tool(_) => panic!("tools are compared in tests of their own"),
    }
}

fn who(exe: &RawText) -> Who<'_> {
    match text(exe) {
        "" => Who::Unknown,
        removed if removed.ends_with(" (deleted)") => Who::Unknown,
        exe => Who::Known(exe),
    }
}

/// Every port that an allow or an ask about hosts names or has by default.
fn ports(rules: &[Draft]) -> Vec<u16> {
    let open = rules.iter().filter(|rule| rule.effect != Verdict::Deny);
    open.filter_map(own_ports).flatten().collect()
}

/// The ports of a rule about hosts; a deny without ports has all of them, and names none.
fn own_ports(rule: &Draft) -> Option<Vec<u16>> {
    let Body::Net { ports, .. } = &rule.body else {
        return None;
    };
    Some(match (ports, rule.effect) {
        (Some(ports), _) => ports.clone(),
        (None, Verdict::Deny) => Vec::new(),
        (None, Verdict::Allow | Verdict::Ask) => vec![80, 443],
    })
}

fn found(rules: &[Draft], fits: impl Fn(&Draft) -> (Vec<usize>, bool)) -> Found<'_> {
    let mut found = Found {
        now: Vec::new(),
        later: Vec::new(),
    };
    for rule in rules {
        let (patterns, later) = fits(rule);
        if !patterns.is_empty() {
            let list = if later {
                &mut found.later
            } else {
                &mut found.now
            };
            list.push(Match { rule, patterns });
        }
    }
    found
}

fn which<T>(list: &[T], fits: impl Fn(&T) -> bool) -> Vec<usize> {
    (0..list.len()).filter(|at| fits(&list[*at])).collect()
}

// --- which rules match -------------------------------------------------------------------------

fn connection<'d>(
    rules: &'d [Draft],
    name: &str,
    port: u16,
    who: Who<'_>,
    seen: Option<(&str, &str)>,
) -> Found<'d> {
    found(rules, |rule| {
        let Body::Net {
            hosts,
            ports,
            methods,
            paths,
            programs,
            ..
        } = &rule.body
        else {
            return (Vec::new(), false);
        };
        let every = ports.is_none() && rule.effect == Verdict::Deny;
        let reached = every || own_ports(rule).is_some_and(|ports| ports.contains(&port));
        let by_program = programs.as_ref().is_none_or(|programs| match who {
            Who::Known(exe) => programs.iter().any(|own| path(own, exe, PLAIN)),
            Who::Unknown => rule.effect != Verdict::Allow,
            Who::Anybody => rule.effect != Verdict::Deny,
        });
        let fits = reached
            && by_program
            && seen.is_none_or(|(method, target)| {
                has_method(rule.effect, methods.as_ref(), method)
                    && has_path(rule.effect, paths.as_ref(), target)
            });
        let patterns = which(hosts, |own| fits && host(own, name));
        let conditions = methods.is_some() || paths.is_some();
        (patterns, conditions && seen.is_none())
    })
}

fn has_method(effect: Verdict, methods: Option<&Words>, method: &str) -> bool {
    methods.is_none_or(|methods| {
        methods.iter().any(|own| match effect {
            Verdict::Allow => *own == method,
            Verdict::Ask | Verdict::Deny => own.to_lowercase() == method.to_lowercase(),
        })
    })
}

fn has_path(effect: Verdict, paths: Option<&Words>, target: &str) -> bool {
    let Some(paths) = paths else { return true };
    let known = TARGETS.iter().find(|(text, _)| *text == target);
    match (known.unwrap().1, effect) {
        (plain, Verdict::Allow) => {
            plain.is_some_and(|plain| paths.iter().any(|own| path(own, plain, PLAIN)))
        }
        (None, Verdict::Ask | Verdict::Deny) => true,
        (Some(plain), Verdict::Ask | Verdict::Deny) => paths
            .iter()
            .any(|own| request_path(own, plain) || request_path(own, target)),
    }
}

fn exec_patterns(rule: &Draft, exec: &ExecRequest) -> Vec<usize> {
    let Body::Exec {
        commands,
        unless,
        programs,
        cwd,
        environment,
    } = &rule.body
    else {
        return Vec::new();
    };
    let digest = exec.digest.map(|digest| format!("sha256:{digest}"));
    let by_program = programs.as_ref().is_none_or(|programs| {
        programs
            .iter()
            .any(|own| Some((*own).to_owned()) == digest || path(own, text(&exec.program), PLAIN))
    });
    let by_place = cwd
        .as_ref()
        .is_none_or(|cwd| cwd.iter().any(|own| path(own, text(&exec.cwd), PLAIN)));
    let has = |wanted: &&'static str| {
        let (name, value) = wanted.split_once('=').unwrap_or((wanted, "*"));
        exec.environment
            .iter()
            .any(|(own, is)| glob(name, text(own), PLAIN) && glob(value, text(is), PLAIN))
    };
    let by_variable = environment.as_ref().is_none_or(|wanted| match rule.effect {
        Verdict::Allow => wanted.iter().all(&has),
        Verdict::Ask | Verdict::Deny => wanted.iter().any(has),
    });
    which(commands, |command| {
        let fits = match rule.effect {
            Verdict::Allow => is_surely(command, exec, SURE),
            Verdict::Ask | Verdict::Deny => could_be(command, unless, exec),
        };
        fits && by_program && by_place && by_variable
    })
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn arguments(exec: &ExecRequest) -> Vec<&str> {
    exec.argv.iter().skip(1).map(text).collect()
}

fn is_program(pattern: &str, name: &str) -> bool {
    pattern == "**" || glob(pattern, name, PLAIN)
}

/// Whether the program's own name and the one it is called by both match.
fn is_surely_named(command: &[&str], exec: &ExecRequest) -> bool {
    let (program, _) = split(command);
    if program.contains('/') {
        return is_program(program, text(&exec.program));
    }
    let aliases = exec.aliases.iter().map(String::as_str);
    let mut own = std::iter::once(text(&exec.program)).chain(aliases);
    own.any(|own| is_program(program, base(own)))
        && is_program(program, base(text(&exec.invoked_as)))
}

fn is_surely(command: &[&str], exec: &ExecRequest, how: How) -> bool {
    is_surely_named(command, exec) && words(&split(command).1, &arguments(exec), how)
}

/// Whether any name of the file, its path or `argv[0]` matches, in any reading of the words.
fn could_be(command: &[&str], unless: &[Words], exec: &ExecRequest) -> bool {
    let (program, tokens) = split(command);
    let aliases = exec.aliases.iter().map(String::as_str);
    let paths: Vec<&str> = [text(&exec.program), text(&exec.invoked_as)]
        .into_iter()
        .chain(aliases)
        .collect();
    let mut names: Vec<&str> = paths.iter().map(|path| base(path)).collect();
    names.push(base(text(&exec.argv[0])));
    let meant: Vec<&str> = if program.contains('/') {
        let by_path = paths.iter().any(|path| is_program(program, path));
        names.into_iter().filter(|_| by_path).collect()
    } else {
        names
            .into_iter()
            .filter(|name| is_program(program, name))
            .collect()
    };
    if meant.is_empty() {
        return false;
    }
    let given = arguments(exec);
    let mut plain = vec![given.clone()];
    let mut bare = Vec::new();
    for tool in meant
        .into_iter()
        .filter(|name| ["git", "npm"].contains(name))
    {
        // If it is unknown whether an option has a value, it is read both ways.
        for has_value in [is_known_option(tool), &|word: &str| !word.contains('=')] {
            plain.extend(given.first().filter(|w| w.starts_with('-')).map(|_| {
                let front = leading(&given, has_value);
                given[front..].to_vec()
            }));
            bare.push(without_options(&given, has_value));
        }
    }
    plain.retain(|reading| words(&tokens, reading, PLAIN));
    if plain.is_empty() {
        return given.iter().any(|word| word.starts_with('-'))
            && bare.iter().any(|reading| words(&tokens, reading, PLAIN));
    }
    !plain.iter().all(|reading| {
        unless
            .iter()
            .any(|own| is_surely_named(own, exec) && words(&split(own).1, reading, PLAIN))
    })
}

/// Options of git and npm in these requests that take the next word.
fn is_known_option(tool: &str) -> &'static dyn Fn(&str) -> bool {
    match tool {
        "git" => &|word| word == "-c",
        _ => &|_| false,
    }
}

/// Returns how many leading words are options or their values.
fn leading(given: &[&str], has_value: &dyn Fn(&str) -> bool) -> usize {
    match given.first() {
        Some(word) if word.starts_with('-') => {
            let own = if has_value(word) { 2 } else { 1 }.min(given.len());
            own + leading(&given[own..], has_value)
        }
        _ => 0,
    }
}

fn without_options<'w>(given: &[&'w str], has_value: &dyn Fn(&str) -> bool) -> Vec<&'w str> {
    let rest = &given[leading(given, has_value)..];
    match rest.split_first() {
        Some((word, after)) => [vec![*word], without_options(after, has_value)].concat(),
        None => Vec::new(),
    }
}

fn file_patterns(rule: &Draft, file: &FileRequest) -> Vec<usize> {
    let Body::File { paths, access } = &rule.body else {
        return Vec::new();
    };
    let fits = access
        .as_ref()
        .is_none_or(|access| access.contains(&file.access.as_str()));
    which(paths, |own| {
        let below = file
            .workspace_relative
            .as_ref()
            .filter(|_| !own.starts_with('/'));
        fits && path(own, text(below.unwrap_or(&file.path)), ANY_CASE)
    })
}

// --- how they combine --------------------------------------------------------------------------

fn answer(found: &Found<'_>, name: &str, request: &Request, given: &[Given]) -> Answer {
    let is_connection = matches!(request, Request::Net(_));
    let (verdict, open) = combine(&found.now, &found.later, name, request, given);
    let strict = found
        .later
        .iter()
        .any(|at| at.rule.effect != Verdict::Allow);
    let plain = || combine(&found.now, &[], name, request, given).0;
    let http_only = is_connection
        && verdict == Verdict::Allow
        && !found.later.is_empty()
        && (strict || plain() != Verdict::Allow);
    let limit = |at: &Match<'_>| match at.rule.body {
        Body::Net {
            bytes_max: Some(bytes),
            ..
        } => Some((at.rule.id.clone(), bytes)),
        _ => None,
    };
    let mut limits = Vec::new();
    if verdict != Verdict::Deny {
        // A deny has no limits.
        limits.extend(found.now.iter().chain(&found.later).filter_map(limit));
        limits.sort();
    }
    Answer {
        verdict,
        http_only,
        open,
        limits,
    }
}

fn combine(
    now: &[Match<'_>],
    later: &[Match<'_>],
    name: &str,
    request: &Request,
    given: &[Given],
) -> (Verdict, Vec<String>) {
    let both = || now.iter().chain(later);
    let of = |effect| move |at: &&Match<'_>| at.rule.effect == effect;
    let sort = HOSTS
        .iter()
        .find(|(host, _)| *host == name)
        .map(|(_, sort)| *sort);
    let is_opened = |at: &Match<'_>| {
        at.rule.effect != Verdict::Deny && matches!(at.rule.body, Body::Net { private: true, .. })
    };
    let refused = match sort {
        Some('n') => true,
        Some('i') => !both().any(is_opened),
        _ => false,
    };
    if refused || now.iter().any(|at| of(Verdict::Deny)(&at)) {
        return (Verdict::Deny, Vec::new());
    }
    let allows = || both().filter(of(Verdict::Allow));
    let asks: Vec<&Match<'_>> = now.iter().filter(of(Verdict::Ask)).collect();
    let is_approved = |ask: &Match<'_>| {
        let about_connections = matches!(
            &ask.rule.body,
            Body::Net {
                methods: None,
                paths: None,
                ..
            }
        );
        given
            .iter()
            .any(|one| one.answers(&ask.rule.id, about_connections, request))
    };
    let open: Vec<String> = asks
        .iter()
        .filter(|ask| !is_approved(ask) && !allows().any(|allow| is_exception(allow, ask)))
        .map(|ask| ask.rule.id.clone())
        .collect();
    if !open.is_empty() {
        return (Verdict::Ask, open);
    }
    let opened = later.iter().any(|at| at.rule.effect != Verdict::Deny);
    let approved = asks.iter().any(|ask| is_approved(ask));
    let within_the_view = matches!(request, Request::File(_));
    if allows().next().is_some() || opened || approved || within_the_view {
        (Verdict::Allow, open)
    } else {
        (Verdict::Deny, open)
    }
}

const fn authority(layer: Origin) -> u8 {
    match layer {
        Origin::Builtin => 0,
        Origin::Session => 1,
        Origin::User => 2,
        Origin::Organisation => 3,
    }
}

/// Whether one pattern of the allow is an exception to all patterns of the ask that match.
fn is_exception(allow: &Match<'_>, ask: &Match<'_>) -> bool {
    let (rule, question) = (allow.rule, ask.rule);
    if authority(rule.layer) < authority(question.layer) {
        return false;
    }
    let default = question.layer == Origin::Builtin && rule.layer != Origin::Builtin;
    allow.patterns.iter().any(|own| {
        let within = ask
            .patterns
            .iter()
            .all(|asked| lies_within(rule, *own, question, *asked));
        let equal = ask
            .patterns
            .iter()
            .any(|asked| lies_within(question, *asked, rule, *own));
        within
            && if default {
                names_something(rule, *own)
            } else {
                !equal
            }
    })
}

fn names_something(rule: &Draft, pattern: usize) -> bool {
    match &rule.body {
        Body::Net { hosts, .. } => hosts[pattern] != "**",
        Body::Exec { commands, .. } => !["*", "**"].contains(&commands[pattern][0]),
        Body::File { paths, .. } => !is_any_path(paths[pattern]),
    }
}

/// Whether each entry of a list lies within one of the other; no list means no condition.
fn all_within(
    inner: Option<&Words>,
    outer: Option<&Words>,
    within: impl Fn(&str, &str) -> bool,
) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => inner.iter().all(|i| outer.iter().any(|o| within(i, o))),
    }
}

fn program_within(inner: &str, outer: &str) -> bool {
    let is_digest = |text: &str| text.starts_with("sha256:");
    inner == outer || (!is_digest(inner) && !is_digest(outer) && path_within(inner, outer))
}

fn lies_within(rule: &Draft, pattern: usize, outer: &Draft, other: usize) -> bool {
    match (&rule.body, &outer.body) {
        (
            Body::Net {
                hosts,
                methods,
                paths,
                programs,
                ..
            },
            Body::Net {
                hosts: h,
                methods: m,
                paths: p,
                programs: g,
                ..
            },
        ) => {
            host_within(hosts[pattern], h[other])
                && (m.is_none() || methods.is_some())
                && all_within(paths.as_ref(), p.as_ref(), path_within)
                && all_within(programs.as_ref(), g.as_ref(), program_within)
        }
        (
            Body::Exec {
                commands,
                programs,
                cwd,
                environment,
                ..
            },
            Body::Exec {
                commands: c,
                programs: g,
                cwd: d,
                environment: e,
                ..
            },
        ) => {
            command_within(&commands[pattern], &c[other])
                && all_within(cwd.as_ref(), d.as_ref(), path_within)
                && all_within(programs.as_ref(), g.as_ref(), program_within)
                && (e.is_none() || environment == e)
        }
        (
            Body::File { paths, access },
            Body::File {
                paths: p,
                access: a,
            },
        ) => path_within(paths[pattern], p[other]) && (a.is_none() || access.is_some()),
        _ => false,
    }
}
