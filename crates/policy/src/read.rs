//! The rules of one file: TOML to checked [`Rule`]s.

use std::collections::{BTreeMap, BTreeSet};

use stockade_types::{RuleId, Span, Verdict};
use toml::de::DeValue;

use crate::{
    Access, AskStage, HostSets, Reviewer, Scope,
    controls::Control,
    fields::{At, Fields, File, did_you_mean, expect, shown, text_of},
    pattern::{CommandPattern, PathPattern, ProgramPattern, VariablePattern},
    read_hosts::{self, Bound},
    rule::{Body, ExecBody, FileBody, NetBody, Ports, Rule},
};

/// Ports of a net rule that names none.
const PORTS: [u16; 2] = [80, 443];
/// Ports of an allow rule with conditions on requests that names none: TLS is not opened, so a
/// request can only be read without it.
const READABLE_PORTS: [u16; 1] = [80];

const KINDS: [&str; 6] = ["net", "exec", "file", "credential", "tool", "model"];
const COMMON: [&str; 4] = ["id", "what", "reason", "quiet"];
const ASK: [&str; 4] = ["reviewer", "stage", "expires", "scope_max"];
const NET: [&str; 10] = [
    "hosts",
    "ports",
    "methods",
    "paths",
    "programs",
    "private",
    "inspect",
    "splice",
    "bytes_max",
    "requests_per_minute_max",
];
const EXEC: [&str; 5] = ["command", "unless", "programs", "cwd", "environment"];
const FILE: [&str; 2] = ["paths", "access"];
/// Known fields that no enforcement point of this version keeps.
const NOT_ENFORCED: [(&str, &str); 5] = [
    ("inspect", "TLS is not opened yet"),
    ("splice", "TLS is always passed through as it is"),
    ("bytes_max", "bytes are counted, but not limited yet"),
    ("requests_per_minute_max", "requests are not counted yet"),
    ("stage", "one reviewer answers; name it in `reviewer`"),
];

/// Reads `[[allow]]`, `[[ask]]` and `[[deny]]`.
pub(crate) fn rules(file: &mut File<'_>, top: &Fields<'_>, sets: &HostSets) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (key, effect) in [
        ("allow", Verdict::Allow),
        ("ask", Verdict::Ask),
        ("deny", Verdict::Deny),
    ] {
        let known: Vec<&str> = COMMON
            .iter()
            .chain(&ASK)
            .chain(&NET)
            .chain(&EXEC)
            .chain(&FILE)
            .copied()
            .collect();
        for fields in top.tables(file, key, &known) {
            let id = rule_id(file, &fields, &mut seen);
            let body = body(file, &fields, effect, sets);
            let stage = stage(file, &fields, effect);
            let reason = fields.text(file, "reason");
            let quiet = quiet(file, &fields, effect);
            let place = file.place(&fields.span());
            if let (Some(id), Some(body)) = (id, body) {
                let reason =
                    reason.map_or_else(|| format!("rule `{id}` of {place} says so"), |at| at.value);
                rules.push(Rule {
                    id,
                    effect,
                    origin: file.source.origin,
                    place,
                    reason,
                    stage,
                    quiet,
                    body,
                });
            }
        }
    }
    rules
}

/// Reads whether a refusal is only counted where people look.
fn quiet(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> bool {
    let Some(quiet) = fields.flag(file, "quiet") else {
        return false;
    };
    if effect != Verdict::Deny {
        let message = "only a `[[deny]]` can be quiet; take it out";
        file.problem(&quiet.span, &quiet.field, message);
    }
    quiet.value
}

fn rule_id(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    seen: &mut BTreeMap<String, String>,
) -> Option<RuleId> {
    let Some(text) = fields.text(file, "id") else {
        if !fields.has("id") {
            let message = "missing; every rule needs a name of its own";
            file.problem(&fields.span(), &fields.field("id"), message);
        }
        return None;
    };
    if Control::is_name(&text.value) {
        let message = format!(
            "`{}` is the name of a built-in control; choose another",
            text.value
        );
        file.problem(&text.span, &text.field, message);
        return None;
    }
    let place = file.place(&text.span);
    if let Some(other) = seen.get(&text.value) {
        let line = other.rsplit(':').next().unwrap_or_default();
        let message = format!("`{}` is already used at line {line}", shown(&text.value));
        file.problem(&text.span, &text.field, message);
        return None;
    }
    seen.insert(text.value.clone(), place);
    match text.value.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            file.problem(&text.span, &text.field, error.to_string());
            None
        }
    }
}

fn stage(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> Option<AskStage> {
    let reviewers = [Reviewer::Bot, Reviewer::Human, Reviewer::BotThenHuman]
        .map(|reviewer| (reviewer.as_str(), reviewer));
    if effect != Verdict::Ask {
        for key in ASK {
            if let Some(at) = fields.value(key) {
                let message = format!("only an [[ask]] rule has `{key}`, and this is a {effect}");
                file.problem(&at.span, &at.field, message);
            }
        }
        return None;
    }
    let reviewer = fields
        .word(file, "reviewer", &reviewers)
        .map_or(Reviewer::Human, |at| at.value);
    // `bot-then-human` is kept by asking the human, `bot` by nobody.
    if reviewer == Reviewer::Bot
        && let Some(at) = fields.value("reviewer")
    {
        let message = "not enforceable on this backend: there is no bot yet; write \"human\"";
        file.problem(&at.span, &at.field, message);
    }
    let expires = fields.parsed::<Span>(file, "expires");
    if let Some(at) = expires.as_ref().filter(|at| at.value.millis() == 0) {
        file.problem(
            &at.span,
            &at.field,
            "a question must stay open for a while, for example \"5m\"",
        );
    }
    let scope_max = fields.parsed::<Scope>(file, "scope_max");
    if let Some(at) = scope_max
        .as_ref()
        .filter(|at| matches!(at.value, Scope::Until(_)))
    {
        let message = "a point in time cannot be a bound; write `once`, `5-uses` or `session`";
        file.problem(&at.span, &at.field, message);
    }
    Some(AskStage {
        reviewer,
        expires: expires.map_or(AskStage::EXPIRES, |at| at.value),
        scope_max: scope_max.map_or(Scope::Session, |at| at.value),
    })
}

fn body(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    effect: Verdict,
    sets: &HostSets,
) -> Option<Body> {
    for (key, why) in NOT_ENFORCED {
        if let Some(at) = fields.value(key) {
            let message = format!("not enforceable on this backend: {why}");
            file.problem(&at.span, &at.field, message);
        }
    }
    let Some(what) = fields.text(file, "what") else {
        if !fields.has("what") {
            file.problem(
                &fields.span(),
                &fields.field("what"),
                "missing; one of net, exec, file",
            );
        }
        return None;
    };
    let own: &[&str] = match what.value.as_str() {
        "net" => &NET,
        "exec" => &EXEC,
        "file" => &FILE,
        "credential" | "tool" | "model" => {
            let message = format!(
                "not enforceable on this backend: nothing judges `{}` yet",
                what.value
            );
            file.problem(&what.span, &what.field, message);
            return None;
        }
        _ => {
            let message = format!(
                "`{}` is not one of net, exec, file{}",
                shown(&what.value),
                did_you_mean(&what.value, &KINDS)
            );
            file.problem(&what.span, &what.field, message);
            return None;
        }
    };
    for key in NET.iter().chain(&EXEC).chain(&FILE) {
        if let Some(at) = fields.value(key).filter(|_| !own.contains(key)) {
            let message = format!("a rule about `{}` has no `{key}`", what.value);
            file.problem(&at.span, &at.field, message);
        }
    }
    match what.value.as_str() {
        "net" => net_body(file, fields, effect, sets).map(Body::Net),
        "exec" => exec_body(file, fields, effect).map(Body::Exec),
        _ => file_body(file, fields).map(Body::File),
    }
}

fn missing(file: &mut File<'_>, fields: &Fields<'_>, key: &str, hint: &str) {
    if !fields.has(key) {
        file.problem(
            &fields.span(),
            &fields.field(key),
            format!("missing; {hint}"),
        );
    }
}

fn net_body(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    effect: Verdict,
    sets: &HostSets,
) -> Option<NetBody> {
    missing(
        file,
        fields,
        "hosts",
        "name the hosts, for example [\"good.test\"]",
    );
    let methods = methods(file, fields);
    let paths = fields.list(file, "paths", request_path).map(values);
    let programs = fields
        .list(file, "programs", connecting_program)
        .map(values);
    let private = fields.flag(file, "private").is_some_and(|at| at.value);
    if private && effect == Verdict::Deny {
        file.problem(
            &fields.span(),
            &fields.field("private"),
            "a deny has no use for it",
        );
    }
    let conditions = methods.is_some() || paths.is_some();
    let ports = ports(file, fields, effect, conditions);
    let texts = fields.texts(file, "hosts")?;
    let ports = ports?;
    let bound = Bound {
        effect,
        ports: &ports,
        are_named: fields.has("ports"),
        is_readable: effect == Verdict::Allow && conditions,
    };
    let hosts = read_hosts::hosts(file, &texts, &bound, sets);
    Some(NetBody {
        hosts,
        ports,
        methods,
        paths,
        programs,
        private,
    })
}

fn methods(file: &mut File<'_>, fields: &Fields<'_>) -> Option<Vec<String>> {
    let method = |text: &str| {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !text.is_empty() && !text.contains('*') && text.bytes().all(token) {
            return Ok(text.to_ascii_uppercase());
        }
        Err(format!(
            "`{}` is not a method; write for example \"GET\"",
            shown(text)
        ))
    };
    fields.list(file, "methods", method).map(values)
}

/// Refuses a slash at the end of a path that names one thing.
fn without_slash(text: &str) -> Result<(), String> {
    let plain = text.trim_end_matches('/');
    if plain.is_empty() || plain == text {
        return Ok(());
    }
    let (text, plain) = (shown(text), shown(plain));
    Err(format!(
        "`{text}`: write `{plain}` for that path itself, `{plain}/**` for what lies below it"
    ))
}

fn request_path(text: &str) -> Result<PathPattern, String> {
    without_slash(text)?;
    let pattern = PathPattern::parse(text).map_err(|error| error.to_string())?;
    if pattern.is_rooted() {
        return Ok(pattern);
    }
    Err(format!(
        "`{}` must begin with `/`, as the path of a request does",
        shown(text)
    ))
}

fn program(text: &str) -> Result<ProgramPattern, String> {
    without_slash(text)?;
    ProgramPattern::parse(text).map_err(|error| error.to_string())
}

fn directory(text: &str) -> Result<PathPattern, String> {
    without_slash(text)?;
    without_home(text)?;
    PathPattern::parse(text).map_err(|error| error.to_string())
}

/// Refuses the home, which a rule would take for a name.
fn without_home(text: &str) -> Result<(), String> {
    if !text.starts_with('~') {
        return Ok(());
    }
    Err(format!(
        "`{}`: a rule cannot know the home; write a path from the workspace, or from `/`",
        shown(text)
    ))
}

fn connecting_program(text: &str) -> Result<ProgramPattern, String> {
    match program(text)? {
        ProgramPattern::Digest(_) => Err(
            "not enforceable on this backend: a connection's program is known by its path; \
             write an absolute path"
                .to_owned(),
        ),
        path @ ProgramPattern::Path(_) => Ok(path),
    }
}

/// Reads the ports. What is refused without ports is refused everywhere, and what is allowed
/// without them only where the web is. An allow rule whose conditions need readable requests cannot
/// have 443.
fn ports(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    effect: Verdict,
    conditions: bool,
) -> Option<Ports> {
    let readable = effect == Verdict::Allow && conditions;
    let Some(at) = fields.value("ports") else {
        return Some(match effect {
            Verdict::Deny => Ports::Every,
            _ if readable => Ports::These(READABLE_PORTS.to_vec()),
            Verdict::Allow | Verdict::Ask => Ports::These(PORTS.to_vec()),
        });
    };
    let items = at.items(file, "a list of ports")?;
    if items.is_empty() {
        file.problem(
            &at.span,
            &at.field,
            "the list is empty; leave the key out or fill it",
        );
    }
    let mut ports = BTreeSet::new();
    for one in items {
        let port = match one.value {
            DeValue::Integer(n) => u16::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => None,
        };
        let Some(port) = expect(
            file,
            &one,
            port.filter(|p| *p > 0),
            "a port from 1 to 65535",
        ) else {
            continue;
        };
        if readable && port == 443 {
            let message = "not enforceable on this backend: `methods` and `paths` cannot be seen \
                           inside TLS; leave 443 out, or leave the conditions out";
            file.problem(&one.span, &one.field, message);
        }
        if !ports.insert(port) {
            file.problem(
                &one.span,
                &one.field,
                format!("{port} is already in the list"),
            );
        }
    }
    Some(Ports::These(ports.into_iter().collect()))
}

fn exec_body(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> Option<ExecBody> {
    missing(
        file,
        fields,
        "command",
        "for example [\"git\", \"push\", \"**\"]",
    );
    let programs = fields.list(file, "programs", program).map(values);
    let cwd = fields.list(file, "cwd", directory).map(values);
    let environment = fields
        .list(file, "environment", VariablePattern::parse)
        .map(values);
    let unless = commands(file, fields, "unless");
    if let Some(at) = fields.value("unless").filter(|_| effect == Verdict::Allow) {
        let message = "an allow matches what it names and nothing else; name less in `command`";
        file.problem(&at.span, &at.field, message);
    }
    let commands = commands(file, fields, "command")?;
    Some(ExecBody {
        commands,
        unless: unless.unwrap_or_default(),
        programs,
        cwd,
        environment,
    })
}

/// Reads one list of tokens, or a list of such lists.
fn commands(file: &mut File<'_>, fields: &Fields<'_>, key: &str) -> Option<Vec<CommandPattern>> {
    let at = fields.value(key)?;
    let wanted = "a list of tokens or a list of such lists";
    let items = at.items(file, wanted)?;
    if items.is_empty() {
        file.problem(&at.span, &at.field, "the list is empty; name the program");
        return None;
    }
    let nested = items.iter().all(|item| item.value.is_array());
    if !nested {
        return command(file, &at).map(|one| vec![one]);
    }
    let mut commands = Vec::new();
    for one in items {
        commands.extend(command(file, &one));
    }
    Some(commands)
}

fn command<'d>(file: &mut File<'_>, at: &At<&'d DeValue<'d>>) -> Option<CommandPattern> {
    let mut tokens = Vec::new();
    for one in at.items(file, "a list of tokens")? {
        tokens.push(text_of(file, &one)?.value);
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    match CommandPattern::parse(&tokens) {
        Ok(command) => Some(command),
        Err(error) => {
            file.problem(&at.span, &at.field, error.to_string());
            None
        }
    }
}

fn file_body(file: &mut File<'_>, fields: &Fields<'_>) -> Option<FileBody> {
    missing(file, fields, "paths", "for example [\"deploy/**\"]");
    let path = |text: &str| -> Result<Vec<PathPattern>, String> {
        without_home(text)?;
        let pattern = PathPattern::parse(text).map_err(|error| error.to_string())?;
        let directory = text.strip_suffix('/').map(|dir| dir.trim_end_matches('/'));
        let Some(directory) = directory.filter(|dir| !dir.is_empty()) else {
            return Ok(vec![pattern]);
        };
        // A slash at the end means the directory and all that lies below it.
        let below = PathPattern::parse(&format!("{directory}/**"));
        let itself = PathPattern::parse(directory);
        Ok(vec![
            itself.map_err(|error| error.to_string())?,
            below.map_err(|error| error.to_string())?,
        ])
    };
    let access = |text: &str| match text {
        "read" | "execute" => Err(format!(
            "not enforceable on this backend: what can be {text} is fixed at launch by \
             [filesystem]"
        )),
        _ => Access::ALL
            .into_iter()
            .find(|access| access.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Access::ALL.iter().map(|access| access.as_str()).collect();
                format!(
                    "`{}` is not one of {}{}",
                    shown(text),
                    names.join(", "),
                    did_you_mean(text, &names)
                )
            }),
    };
    let paths = fields.list(file, "paths", path).map(values);
    let paths = paths.map(|paths| paths.concat());
    let access = fields.list(file, "access", access).map(values);
    Some(FileBody {
        paths: paths?,
        access,
    })
}

fn values<T>(items: Vec<At<T>>) -> Vec<T> {
    items.into_iter().map(|at| at.value).collect()
}
