//! Entries of a policy that have no effect: they are well-formed, but certainly not meant like
//! that.

use stockade_types::{Host, HostName, Verdict};

use crate::{
    AddressClass, EnvironmentSettings, FilesystemSettings, Origin, Policy, Settings, Sourced,
    Warning,
    address::{classify, is_localhost, is_metadata_name, is_special_name},
    kinds::{Body, exec::ExecBody, file::FileBody, net::NetBody, tool::ToolBody},
    pattern::{HostPattern, PathPattern, host::last_address},
    protect::hides_secret,
    request_path::RequestPath,
    rule::Rule,
};

/// Most pairs of patterns that are compared: one comparison takes less than a microsecond, and a
/// hint is not worth a wait.
const PAIRS_MAX: usize = 200_000;

/// Directories of the system, in which sessions are never started, so that no workspace is there.
const NO_WORKSPACE: [&str; 12] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr",
];

impl Policy {
    /// Returns the entries of the files that have no effect on any machine; presets are left out.
    ///
    /// Entries that depend on the files of a machine, such as a `hide` of a missing file, are not
    /// checked here: each entry of [`Policy::settings`] keeps its layer and line for callers that
    /// can.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut found = self.noted().to_vec();
        let settings = self.settings();
        filesystem(&settings.filesystem, &mut found);
        environment(&settings.environment, &mut found);
        addresses(settings, &mut found);
        let rules = self.rule_list();
        let context = Context {
            settings,
            private: rules
                .iter()
                .filter(|rule| rule.effect != Verdict::Deny && rule.is_private())
                .filter_map(Rule::net)
                .collect(),
            asks_about_files: rules
                .iter()
                .any(|rule| rule.effect == Verdict::Ask && matches!(rule.body, Body::File(_))),
            asks_about_tools: rules.iter().any(|rule| {
                rule.effect == Verdict::Ask && matches!(rule.body, Body::Tool(_) | Body::Cedar(_))
            }),
        };
        let own = |rule: &&Rule| rule.origin != Origin::Builtin;
        for rule in rules.iter().filter(own) {
            let mut say = |message: String| {
                found.push(Warning {
                    source: rule.place.clone(),
                    message: format!("rule `{}`: {message}", rule.id),
                });
            };
            match &rule.body {
                Body::Net(body) => net(rule, body, &context, &mut say),
                Body::Exec(body) => exec(body, &mut say),
                Body::File(body) => file(rule, body, &context, &mut say),
                Body::Tool(body) => tool(rule, body, &context, &mut say),
                Body::Cedar(_) | Body::Control => {}
            }
        }
        reviews(settings, rules, &mut found);
        overridden(rules, &mut found);
        found
    }
}

/// The facts about other rules that the check of one rule needs.
struct Context<'p> {
    settings: &'p Settings,
    /// Rules that open private addresses.
    private: Vec<&'p NetBody>,
    /// Some rule asks about files.
    asks_about_files: bool,
    /// Some rule asks about tools.
    asks_about_tools: bool,
}

impl Context<'_> {
    /// Returns whether some rule opens the private addresses of a pattern.
    fn opens(&self, pattern: &HostPattern) -> bool {
        let covers = |own: &HostPattern| own.contains(pattern);
        self.private
            .iter()
            .any(|body| body.hosts.iter().any(|at| covers(&at.pattern)))
    }
}

/// Reports entries that another one covers.
fn filesystem(files: &FilesystemSettings, found: &mut Vec<Warning>) {
    let own = |at: &&Sourced<String>| at.origin != Origin::Builtin;
    for (key, list) in [
        ("read", &files.read),
        ("write", &files.write),
        ("caches", &files.caches),
        ("hide", &files.hide),
    ] {
        for (place, at) in list.iter().enumerate().filter(|(_, at)| own(at)) {
            let twin = list.iter().take(place).find(|old| old.value == at.value);
            let hide = files
                .hide
                .iter()
                .find(|hide| key != "hide" && is_within(&at.value, &hide.value));
            let message = match (twin, hide) {
                (_, Some(hide)) => format!(
                    "`{}` has no effect in `{key}`: {} hides `{}`",
                    at.value, hide.source, hide.value
                ),
                (Some(twin), None) => {
                    format!("`{}` is already in `{key}`: {}", at.value, twin.source)
                }
                (None, None) => continue,
            };
            found.push(Warning {
                source: at.source.clone(),
                message: format!("filesystem.{key}: {message}"),
            });
        }
    }
}

fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reports globs that match only names that must be written in full.
fn environment(settings: &EnvironmentSettings, found: &mut Vec<Warning>) {
    for at in &settings.pass {
        if at.origin != Origin::Builtin && at.value.contains('*') && hides_secret(&at.value) {
            found.push(Warning {
                source: at.source.clone(),
                message: format!(
                    "environment.pass: `{}` passes nothing: a name that looks like a secret or \
                     makes code run must be written in full",
                    at.value
                ),
            });
        }
    }
}

/// Reports people whom no rule asks.
fn reviews(settings: &Settings, rules: &[Rule], found: &mut Vec<Warning>) {
    let asked = || {
        rules
            .iter()
            .filter_map(|rule| rule.stage.as_ref()?.review.as_ref())
    };
    for (name, stage) in &settings.stages {
        let is_asked = asked().any(|review| review.stage(name).is_some());
        if stage.origin != Origin::Builtin && !is_asked {
            found.push(Warning {
                source: stage.source.clone(),
                message: format!(
                    "stages.{name}: no rule asks it; name it in `stages` of an [[ask]]"
                ),
            });
        }
    }
    for (name, stage) in &settings.stages {
        let open = rules.iter().filter_map(|rule| {
            let asks = rule.stage.as_ref()?;
            asks.review.as_ref()?.stage(name)?;
            Some(asks.expires.millis())
        });
        let then = stage.value.escalation.as_ref();
        if let (Some(then), Some(longest)) = (then, open.max())
            && then.after_ms >= longest
        {
            found.push(Warning {
                source: stage.source.clone(),
                message: format!(
                    "stages.{name}: `escalate_to` is never asked: each question that has the stage \
                     expires before; give the rule a longer `expires`"
                ),
            });
        }
    }
    let glass = settings.break_glass.as_ref();
    let is_used = asked().any(|review| review.break_glass.is_some());
    if let Some(glass) = glass.filter(|glass| glass.origin != Origin::Builtin && !is_used) {
        found.push(Warning {
            source: glass.source.clone(),
            message:
                "break_glass: no rule of this layer or below has `stages`, so there is nothing to \
                      override"
                    .to_owned(),
        });
    }
}

/// Reports fixed addresses that are never dialled.
fn addresses(settings: &Settings, found: &mut Vec<Warning>) {
    for (name, at) in &settings.network.hosts {
        if at.origin != Origin::Builtin && classify(at.value).is_never_reached() {
            found.push(Warning {
                source: at.source.clone(),
                message: format!(
                    "network.hosts.{name}: no host has the address {}, so it is never dialled",
                    at.value
                ),
            });
        }
    }
}

fn net(rule: &Rule, body: &NetBody, context: &Context<'_>, say: &mut impl FnMut(String)) {
    let settings = context.settings;
    let allows = rule.effect != Verdict::Deny;
    for at in &body.hosts {
        let pattern = &at.pattern;
        let message = match pattern {
            HostPattern::Name(name) => name_message(name, allows, settings).or_else(|| {
                let message = fixed_message(name, settings)?;
                (allows && !context.opens(pattern)).then_some(message)
            }),
            HostPattern::OneLabel(name) | HostPattern::Below(name) => {
                below_message(pattern, name, allows, settings)
            }
            HostPattern::Address(_) | HostPattern::Network { .. } if allows => {
                address_message(pattern, context)
            }
            // In an allow or an ask it is an error.
            HostPattern::Address(_) | HostPattern::Network { .. } => loopback_message(pattern),
            HostPattern::AnyName => None,
        };
        if let Some(message) = message {
            say(message);
        }
    }
    if rule.effect == Verdict::Allow {
        for path in body.paths.iter().flatten() {
            if let Some(message) = path_message(path) {
                say(message);
            }
        }
    }
}

/// Returns what an allow or an ask of a file says about names that do not exist in any session: a
/// place and a text for each.
pub(crate) fn dead_names(rules: &[Rule], settings: &Settings) -> Vec<(String, String)> {
    let own = rules
        .iter()
        .filter(|rule| rule.origin != Origin::Builtin && rule.effect != Verdict::Deny);
    let mut found = Vec::new();
    for rule in own {
        for at in rule.net().into_iter().flat_map(|body| &body.hosts) {
            let pattern = &at.pattern;
            let message = match pattern {
                HostPattern::Name(name)
                    if is_special_name(name) && !settings.network.names(name) =>
                {
                    name_message(name, true, settings)
                }
                HostPattern::Address(_) | HostPattern::Network { .. } => loopback_message(pattern),
                HostPattern::Name(_)
                | HostPattern::OneLabel(_)
                | HostPattern::Below(_)
                | HostPattern::AnyName => None,
            };
            if let Some(message) = message {
                found.push((rule.place.clone(), format!("rule `{}`: {message}", rule.id)));
            }
        }
    }
    found
}

fn name_message(name: &HostName, allows: bool, settings: &Settings) -> Option<String> {
    if allows && is_metadata_name(name) {
        return Some(format!(
            "`{name}` is a metadata service, which no rule makes reachable"
        ));
    }
    if !is_special_name(name) || settings.network.names(name) {
        return None;
    }
    if is_localhost(name) {
        return Some(own_loopback(name));
    }
    Some(format!(
        "`{name}` means something on one machine only and does not exist in a session; write the \
         full name, or fix its address in `[network.hosts]`"
    ))
}

/// The message for a rule about the session's own loopback.
fn own_loopback(host: &dyn std::fmt::Display) -> String {
    format!(
        "`{host}` is the session's own loopback, which no rule opens or closes; for a service of this \
         machine write `[network.services]` with `\"localhost:PORT\" = \"127.0.0.1:PORT\"`, or `run \
         --service localhost:PORT`"
    )
}

/// Returns the message for addresses that are all loopback.
fn loopback_message(pattern: &HostPattern) -> Option<String> {
    let is_loopback = match pattern {
        HostPattern::Address(address) => address.is_loopback(),
        HostPattern::Network { base, bits } => {
            base.is_loopback() && last_address(*base, *bits).is_loopback()
        }
        HostPattern::Name(_)
        | HostPattern::OneLabel(_)
        | HostPattern::Below(_)
        | HostPattern::AnyName => false,
    };
    is_loopback.then(|| own_loopback(pattern))
}

fn below_message(
    pattern: &HostPattern,
    name: &HostName,
    allows: bool,
    settings: &Settings,
) -> Option<String> {
    let below: HostName = format!("x.{name}").parse().ok()?;
    if allows && is_metadata_name(&below) {
        return Some(format!(
            "`{pattern}` is below a metadata service, which no rule makes reachable"
        ));
    }
    let fixed = || {
        let mut names = settings.network.hosts.keys();
        names.any(|name| pattern.matches(&Host::Name(name.clone())))
    };
    (is_special_name(&below) && !fixed()).then(|| {
        format!(
            "names of `{pattern}` mean something on one machine only and do not exist in a \
             session; fix their addresses in `[network.hosts]`"
        )
    })
}

/// The message for a name with a fixed address.
fn fixed_message(name: &HostName, settings: &Settings) -> Option<String> {
    let fixed = settings.network.hosts.get(name)?;
    (classify(fixed.value) == AddressClass::Private).then(|| {
        format!(
            "`{name}` is fixed to the private address {} ({}), so the rule needs `private = true`",
            fixed.value, fixed.source
        )
    })
}

fn address_message(pattern: &HostPattern, context: &Context<'_>) -> Option<String> {
    let (first, last) = match pattern {
        HostPattern::Address(address) => (*address, *address),
        HostPattern::Network { base, bits } => (*base, last_address(*base, *bits)),
        _ => return None,
    };
    match (classify(first), classify(last)) {
        (AddressClass::Metadata, AddressClass::Metadata) => Some(format!(
            "`{pattern}` is a metadata service or link-local, which no rule makes reachable"
        )),
        (AddressClass::Unusable, AddressClass::Unusable) => Some(format!(
            "`{pattern}` is no address of a host, and never dialled"
        )),
        (AddressClass::Private, AddressClass::Private) if !context.opens(pattern) => Some(format!(
            "`{pattern}` is private, so the rule needs `private = true`"
        )),
        _ => None,
    }
}

/// The message for a path that an allow never matches, because servers read it in different ways.
fn path_message(path: &PathPattern) -> Option<String> {
    let text = path.text();
    // Braces and escapes would have to be expanded first.
    if text.contains(['{', '\\']) {
        return None;
    }
    let sample = text.replace("**", "x").replace('*', "x");
    let what = RequestPath::new(sample.as_bytes()).ambiguity()?;
    Some(format!(
        "`{text}` has {what}, and servers read such paths in different ways: no request is allowed \
         by it; write the path as it reads without encoding"
    ))
}

fn exec(body: &ExecBody, say: &mut impl FnMut(String)) {
    for command in &body.commands {
        let names = command.program_names().unwrap_or_default();
        let words = names.iter().find(|name| name.contains(&b' '));
        if let Some(name) = words {
            let name = String::from_utf8_lossy(name);
            let tokens: Vec<String> = name
                .split_whitespace()
                .map(|word| format!("{word:?}"))
                .collect();
            say(format!(
                "no program is called `{name}`; write each word as a token: [{}]",
                tokens.join(", ")
            ));
        }
    }
}

fn file(rule: &Rule, body: &FileBody, context: &Context<'_>, say: &mut impl FnMut(String)) {
    for path in &body.paths {
        let text = path.text();
        let first = text
            .strip_prefix('/')
            .and_then(|rest| rest.split('/').next());
        if first.is_some_and(|first| NO_WORKSPACE.contains(&first)) {
            say(format!(
                "`{text}` is a place of the system, and rules for files judge the workspace alone; \
                 what else exists is `[filesystem]`"
            ));
        }
        // A name that no pattern of protected paths contains.
        let sample = text.replace("**", "x-x").replace('*', "x-x");
        let protecting = context.settings.workspace.protects(sample.as_bytes());
        if let Some(pattern) = protecting.filter(|_| rule.effect != Verdict::Deny) {
            say(format!(
                "`{text}` is protected by `{pattern}`, which no rule lifts: make such a change \
                 yourself, outside the session"
            ));
        }
    }
    if rule.effect == Verdict::Allow && !context.asks_about_files {
        say(
            "files of the workspace may be changed already; an [[allow]] about files only answers \
             an [[ask]], and there is none"
                .to_owned(),
        );
    }
}

fn tool(rule: &Rule, body: &ToolBody, context: &Context<'_>, say: &mut impl FnMut(String)) {
    for (tool, server) in body.impossible() {
        say(format!(
            "`{tool}` names a server that is none of `{server}`, so no call is both; leave `servers` out"
        ));
    }
    if rule.effect == Verdict::Allow && !context.asks_about_tools {
        say(
            "tool calls are allowed already; an [[allow]] about tools only answers an [[ask]], and \
             there is none"
                .to_owned(),
        );
    }
}

/// Reports rules that a deny overrides completely, and allows that never answer a question.
fn overridden(rules: &[Rule], found: &mut Vec<Warning>) {
    let mut pairs = 0;
    let stronger: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.effect != Verdict::Allow && rule.body.patterns() > 0)
        .collect();
    let patterns: usize = stronger.iter().map(|rule| rule.body.patterns()).sum();
    for rule in rules {
        if rule.origin == Origin::Builtin
            || rule.effect == Verdict::Deny
            || rule.body.patterns() == 0
        {
            continue;
        }
        pairs += patterns * rule.body.patterns();
        if pairs > PAIRS_MAX {
            return;
        }
        let over = stronger.iter().find(|other| {
            let above = other.origin.authority() > rule.origin.authority();
            let counts = other.effect == Verdict::Deny || (above && rule.effect == Verdict::Allow);
            counts && rule.is_covered_by(other)
        });
        if let Some(other) = over {
            let what = match other.effect {
                Verdict::Deny => "denies all that it names",
                Verdict::Ask | Verdict::Allow => {
                    "asks about all that it names, and only its own layer answers"
                }
            };
            found.push(Warning {
                source: rule.place.clone(),
                message: format!(
                    "rule `{}` has no effect: `{}` ({}) {what}",
                    rule.id, other.id, other.place
                ),
            });
        }
    }
}
