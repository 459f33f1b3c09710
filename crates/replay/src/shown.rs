//! What requests are grouped by, and how they look in one line.

use stockade_types::{RawText, RequestKind, Target};

pub(crate) fn endpoint(target: &Target) -> Option<(String, u16)> {
    Some((target.host.clone()?, target.port?))
}

/// Returns what requests are grouped by: the host, the program, the directory.
pub(crate) fn target_of(kind: RequestKind, target: &Target) -> String {
    let text = |text: Option<&RawText>| text.map(RawText::display).unwrap_or_default();
    match kind {
        RequestKind::Exec => {
            let mut words = target.argv.iter().map(RawText::display);
            let program = words.next().unwrap_or_default();
            let base = program.rsplit('/').next().unwrap_or_default().to_owned();
            match words
                .next()
                .filter(|word| !word.starts_with('-') && !word.contains('/'))
            {
                Some(word) => format!("{base} {word}"),
                None => base,
            }
        }
        RequestKind::File => {
            let path = text(target.path.as_ref());
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            format!("{parent}/")
        }
        RequestKind::Http => {
            let method = target.method.as_deref().unwrap_or_default();
            format!("{method} {}", host_of(target))
        }
        RequestKind::Net
        | RequestKind::Name
        | RequestKind::Call
        | RequestKind::Port
        | RequestKind::Credential
        | RequestKind::Definition => host_of(target),
        RequestKind::Tool => {
            let tool = text(target.tool.as_ref());
            match &target.server {
                Some(server) => format!("{}/{tool}", server.display()),
                None => tool,
            }
        }
    }
}

fn host_of(target: &Target) -> String {
    let host = target.host.as_deref().unwrap_or_default();
    match target.port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Writes a request in one line.
pub(crate) fn line(kind: RequestKind, target: &Target) -> String {
    match &target.access {
        Some(access) => format!("{kind} {access} {}", target.summary()),
        None => format!("{kind} {}", target.summary()),
    }
}
