//! `[[credential]]`: the fields of a credential.

use stockade_types::RuleId;

use super::{
    AWS_VARIABLES, CREDENTIALS_MAX, Credential, CredentialKind, CredentialSource, EFFECT, SshKey,
    names, ssh_key,
};
use crate::{
    HostSets, Origin,
    fields::{At, Fields, File, choose, missing, shown},
    kinds::net,
    view_path::view_path,
};

/// The port of a credential that names none.
const PORT: u16 = 443;
/// User whom forges expect where the password is a token.
const GIT_USER: &str = "x-access-token";

const FIELDS: [&str; 17] = [
    "id",
    "kind",
    "source",
    "hosts",
    "ports",
    "methods",
    "paths",
    "as",
    "header",
    "parameter",
    "user",
    "region",
    "service",
    "plain",
    "optional",
    "address",
    "users",
];
/// The words for kinds.
const KINDS: [(&str, Word); 7] = [
    ("bearer", Word::Bearer),
    ("basic", Word::Basic),
    ("header", Word::Header),
    ("query", Word::Query),
    ("git-https", Word::GitHttps),
    ("aws-sigv4", Word::AwsSigv4),
    (ssh_key::KIND, Word::SshKey),
];
/// Fields that the gate or HTTP itself sets, so that they cannot hold a credential.
const NOT_HEADERS: [&str; 9] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "range",
    "transfer-encoding",
    "upgrade",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Bearer,
    Basic,
    Header,
    Query,
    GitHttps,
    AwsSigv4,
    /// Stands in no request, and is read by itself.
    SshKey,
}

/// Reads one file's credentials into those of the layers above it.
pub(crate) fn read(
    file: &mut File<'_>,
    top: &Fields<'_>,
    sets: &HostSets,
    (known, keys): (&mut Vec<Credential>, &mut Vec<SshKey>),
) {
    for fields in top.tables(file, "credential", &FIELDS) {
        if ssh_key::is_one(&fields) {
            ssh_key::read(file, &fields, sets, (known, keys));
            continue;
        }
        let Some(new) = credential(file, &fields, sets) else {
            continue;
        };
        let twin = known.iter().position(|old| old.id == new.id);
        let message = match twin.and_then(|at| known.get(at)) {
            // What a preset says is a default.
            Some(old) if old.origin == Origin::Builtin && new.origin != Origin::Builtin => {
                known.retain(|old| old.id != new.id);
                known.push(new);
                continue;
            }
            Some(old) => format!("`{}` is already used at {}", new.id, old.place),
            None if keys.iter().any(|key| key.id == new.id) => {
                format!("`{}` is already the id of an ssh key", new.id)
            }
            None if known.iter().any(|old| is_other_access_key(old, &new)) => {
                "clients of AWS have one access key in a session; give both the same `source`"
                    .to_owned()
            }
            None if known.len() >= CREDENTIALS_MAX => {
                format!("more credentials than a session can have ({CREDENTIALS_MAX})")
            }
            None => {
                known.push(new);
                continue;
            }
        };
        file.problem(&fields.span(), &fields.field("id"), message);
    }
}

fn credential(file: &mut File<'_>, fields: &Fields<'_>, sets: &HostSets) -> Option<Credential> {
    let before = file.problems.len();
    for (key, why) in [
        ("id", "a name for messages and records"),
        ("kind", "in which part of a request it stands"),
        (
            "source",
            "where its value is, for example { env = \"SVC_TOKEN\" }",
        ),
    ] {
        missing(file, fields, key, why);
    }
    let id = fields.parsed::<RuleId>(file, "id");
    let kind = kind(file, fields);
    let source = source(file, fields);
    let variable = match &kind {
        Some(CredentialKind::AwsSigv4 { .. }) => aws_variable(file, fields),
        _ => variable(file, fields, "as"),
    };
    let address = variable_of_address(file, fields);
    let plain = fields.flag(file, "plain").is_some_and(|at| at.value);
    let optional = fields.flag(file, "optional");
    if let Some(at) = optional.as_ref().filter(|at| at.value)
        && source
            .as_ref()
            .is_some_and(|own| !matches!(own, CredentialSource::Variable(_)))
    {
        let message = "only a credential from a variable can be optional; leave it out";
        file.problem(&at.span, &at.field, message);
    }
    let bounds = net::bounds(file, fields, (EFFECT, PORT), sets);
    let (Some(id), Some(kind), Some(source), Some(bounds)) = (id, kind, source, bounds) else {
        return None;
    };
    (file.problems.len() == before).then(|| Credential {
        id: id.value,
        kind,
        source,
        variable,
        origin: file.source.origin,
        place: file.place(&fields.span()),
        plain,
        optional: optional.is_some_and(|at| at.value),
        address,
        bounds,
    })
}

fn kind(file: &mut File<'_>, fields: &Fields<'_>) -> Option<CredentialKind> {
    let text = fields.text(file, "kind")?;
    let word = choose(file, &text, &KINDS)?;
    for (key, words) in [
        ("header", &["header"][..]),
        ("parameter", &["query"]),
        ("user", &["basic", "git-https"]),
        ("region", &["aws-sigv4"]),
        ("service", &["aws-sigv4"]),
        ("users", &[ssh_key::KIND]),
    ] {
        if let Some(at) = fields
            .value(key)
            .filter(|_| !words.contains(&text.value.as_str()))
        {
            let message = format!(
                "only a credential of kind {} has it; take it out",
                names(words)
            );
            file.problem(&at.span, &at.field, message);
        }
    }
    let user = user(file, fields);
    Some(match word {
        Word::Bearer => CredentialKind::Bearer,
        Word::Basic => CredentialKind::Basic { user },
        Word::Header => CredentialKind::Header {
            name: header(file, fields)?,
        },
        Word::Query => CredentialKind::Query {
            parameter: parameter(file, fields)?,
        },
        Word::GitHttps => CredentialKind::GitHttps {
            user: user.unwrap_or_else(|| GIT_USER.to_owned()),
        },
        Word::AwsSigv4 => CredentialKind::AwsSigv4 {
            region: fields.text(file, "region").map(|at| at.value),
            service: fields.text(file, "service").map(|at| at.value),
        },
        Word::SshKey => return None,
    })
}

/// Returns the variable of AWS with a placeholder; `as` names no other.
fn aws_variable(file: &mut File<'_>, fields: &Fields<'_>) -> Option<String> {
    if let Some(at) = fields.value("as") {
        let message = format!(
            "clients of AWS have a placeholder in {}; take it out",
            names(&AWS_VARIABLES)
        );
        file.problem(&at.span, &at.field, message);
    }
    AWS_VARIABLES.first().map(|name| (*name).to_owned())
}

/// Tells whether two credentials are different access keys of AWS.
fn is_other_access_key(one: &Credential, other: &Credential) -> bool {
    let is_key = |own: &Credential| matches!(own.kind, CredentialKind::AwsSigv4 { .. });
    is_key(one) && is_key(other) && one.source != other.source
}

fn header(file: &mut File<'_>, fields: &Fields<'_>) -> Option<String> {
    missing(
        file,
        fields,
        "header",
        "the field that holds the value, for example \"x-api-key\"",
    );
    let at = fields.text(file, "header")?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let name = at.value.to_ascii_lowercase();
    let message = if name.is_empty() || !name.bytes().all(token) {
        format!("`{}` is not the name of a header field", shown(&at.value))
    } else if name == "authorization" {
        "write kind = \"bearer\" or \"basic\" for this field".to_owned()
    } else if NOT_HEADERS.contains(&name.as_str()) {
        format!("`{name}` says how a request is sent, and holds no credential")
    } else {
        return Some(name);
    };
    file.problem(&at.span, &at.field, message);
    None
}

fn parameter(file: &mut File<'_>, fields: &Fields<'_>) -> Option<String> {
    missing(
        file,
        fields,
        "parameter",
        "the parameter of the query that holds the value, for example \"key\"",
    );
    let at = fields.text(file, "parameter")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if !at.value.is_empty() && at.value.bytes().all(plain) {
        return Some(at.value);
    }
    let message = format!(
        "`{}` is not the name of a parameter: letters, digits, `-`, `.`, `_` and `~`",
        shown(&at.value)
    );
    file.problem(&at.span, &at.field, message);
    None
}

fn user(file: &mut File<'_>, fields: &Fields<'_>) -> Option<String> {
    let at = fields.text(file, "user")?;
    let plain = |b: u8| b.is_ascii_graphic() && b != b':';
    if !at.value.is_empty() && at.value.bytes().all(plain) {
        return Some(at.value);
    }
    let message = "expected a name without spaces and `:`; the value is the password";
    file.problem(&at.span, &at.field, message);
    None
}

fn source(file: &mut File<'_>, fields: &Fields<'_>) -> Option<CredentialSource> {
    let table = fields.table(file, "source", &["env", "file", "exec"])?;
    let env = variable(file, &table, "env");
    let path = table.text(file, "file");
    let exec = table.texts(file, "exec");
    if table.keys().len() != 1 {
        let message =
            "expected one of `env`, `file` and `exec`, for example { env = \"SVC_TOKEN\" }";
        file.problem(&table.span(), table.path(), message);
        return None;
    }
    if let Some(name) = env {
        return Some(CredentialSource::Variable(name));
    }
    let message = match (path, exec) {
        (Some(at), _) => match view_path(&at.value) {
            Ok(path) => return Some(CredentialSource::File(path)),
            Err(message) => (at, message),
        },
        (None, Some(argv)) => {
            let first = argv.first()?;
            let is_named =
                first.value.starts_with('/') && !argv.iter().any(|at| at.value.contains('\0'));
            if is_named {
                let argv = argv.into_iter().map(|at| at.value).collect();
                return Some(CredentialSource::Command(argv));
            }
            let message = format!(
                "`{}` must be an absolute path: the program runs outside, with your rights",
                shown(&first.value)
            );
            (first.clone(), message)
        }
        (None, None) => return None,
    };
    let (at, message) = message;
    file.problem(&at.span, &at.field, message);
    None
}

/// Reads the name of a variable.
fn variable(file: &mut File<'_>, fields: &Fields<'_>, key: &str) -> Option<String> {
    let at: At<String> = fields.text(file, key)?;
    let mut bytes = at.value.bytes();
    let starts = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Some(at.value);
    }
    let message = format!("`{}` is not the name of a variable", shown(&at.value));
    file.problem(&at.span, &at.field, message);
    None
}

/// Reads the variable with the address that clients use a credential for.
fn variable_of_address(file: &mut File<'_>, fields: &Fields<'_>) -> Option<String> {
    let name = variable(file, fields, "address")?;
    if file.source.origin != Origin::Builtin
        && let Some(at) = fields.value("address")
    {
        let message = "only presets follow the address of a client; name the hosts";
        file.problem(&at.span, &at.field, message);
        return None;
    }
    Some(name)
}
