//! `what = "net"`: the fields of a rule about connections.

use std::collections::BTreeSet;

use stockade_types::Verdict;
use toml::de::DeValue;

use super::{
    HostAt, NetBody, Ports, RuleTerms, Topic,
    hosts::{self, Bound},
};
use crate::{
    HostSets,
    fields::{Fields, File, expect, missing, shown, values},
    kinds::{program, without_slash},
    pattern::{PathPattern, ProgramPattern},
};

/// Ports of a net rule that names none.
const PORTS: [u16; 2] = [80, 443];

/// The fields of a rule about hosts whose requests are told apart by what they mean.
pub(crate) const SERVICE_FIELDS: [&str; 7] = [
    "hosts",
    "ports",
    "programs",
    "private",
    "tls",
    "bytes_max",
    "requests_per_minute_max",
];

/// The fields that only such a rule has, or has too.
pub(crate) const FIELDS: [&str; 10] = [
    "hosts",
    "ports",
    "methods",
    "paths",
    "programs",
    "private",
    "tls",
    "bytes_max",
    "requests_per_minute_max",
    "content",
];

pub(crate) fn body(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    effect: Verdict,
    (topic, sets): (Option<Topic>, &HostSets),
) -> Option<NetBody> {
    name_hosts(file, fields);
    let methods = methods(file, fields);
    let paths = fields.list(file, "paths", request_path).map(values);
    let programs = fields
        .list(file, "programs", connecting_program)
        .map(values);
    let meaning = topic.map(|topic| topic.read(file, fields, effect));
    let conditions = methods.is_some() || paths.is_some() || meaning.is_some();
    let terms = RuleTerms::read(file, fields, effect, conditions);
    let ports = ports(file, fields, effect);
    let (hosts, ports) = places(file, fields, (effect, ports), sets)?;
    Some(NetBody {
        hosts,
        ports,
        methods,
        paths,
        programs,
        meaning,
        terms,
    })
}

/// Has a rule without hosts say so.
fn name_hosts(file: &mut File<'_>, fields: &Fields<'_>) {
    let why = "name the hosts, for example [\"good.test\"]";
    missing(file, fields, "hosts", why);
}

/// Reads the hosts, at the ports that were read; `None` if either cannot be.
fn places(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    (effect, ports): (Verdict, Option<Ports>),
    sets: &HostSets,
) -> Option<(Vec<HostAt>, Ports)> {
    let texts = fields.texts(file, "hosts")?;
    let ports = ports?;
    let bound = Bound {
        effect,
        ports: &ports,
        are_named: fields.has("ports"),
    };
    let hosts = hosts::hosts(file, &texts, &bound, sets);
    Some((hosts, ports))
}

/// Reads the requests that a credential is for; `effect` is that of a rule with as wide hosts, `port` the
/// one of a credential that names none.
pub(crate) fn bounds(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    (effect, port): (Verdict, u16),
    sets: &HostSets,
) -> Option<NetBody> {
    name_hosts(file, fields);
    let methods = methods(file, fields);
    let paths = fields.list(file, "paths", request_path).map(values);
    let ports = if fields.has("ports") {
        ports(file, fields, effect)
    } else {
        Some(Ports::These(vec![port]))
    };
    let (hosts, ports) = places(file, fields, (effect, ports), sets)?;
    Some(NetBody {
        hosts,
        ports,
        methods,
        paths,
        programs: None,
        meaning: None,
        terms: RuleTerms::default(),
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
/// without them only where the web is.
fn ports(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> Option<Ports> {
    let Some(at) = fields.value("ports") else {
        return Some(match effect {
            Verdict::Deny => Ports::Every,
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
