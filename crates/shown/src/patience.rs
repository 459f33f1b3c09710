//! How long programs wait for a connection before they give up, if their names show it.

use std::{ffi::OsStr, path::Path, time::Duration};

use stockade_policy::Request;
use stockade_types::RawText;

/// Programs by the name of their executable, and how long their usual clients wait. Every
/// connection is accepted at once, so this is the time they allow for the greeting or the first
/// answer.
///
/// Node's `fetch` (undici, `connect.timeout`) 10 s; pip and Python's usual clients 15 s (pip
/// `--timeout`); cargo 30 s (`http.timeout`).
const CLIENTS: [(&str, Duration); 3] = [
    ("node", Duration::from_secs(10)),
    ("python", Duration::from_secs(15)),
    ("cargo", Duration::from_secs(30)),
];

/// Returns how long the program that asks usually waits; `None` if that is not known.
pub(super) fn of(request: &Request) -> Option<Duration> {
    let waits = matches!(request, Request::Net(_) | Request::Http(_));
    let exe = file_name(&request.subject().exe).filter(|_| waits)?;
    let known = CLIENTS.iter().find(|(name, _)| {
        let rest = exe.strip_prefix(name);
        rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    });
    known.map(|(_, patience)| *patience)
}

fn file_name(path: &RawText) -> Option<String> {
    let path = path.to_os();
    let name = Path::new(&path).file_name().and_then(OsStr::to_str);
    name.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stockade_policy::{NetRequest, Request};
    use stockade_types::{Port, Subject};

    use super::of;

    fn patience(exe: &str) -> Option<u64> {
        let request = Request::Net(NetRequest {
            host: "good.test".parse().unwrap(),
            port: Port::new(443).unwrap(),
            subject: Subject {
                exe: exe.into(),
                ..Subject::default()
            },
        });
        of(&request).as_ref().map(Duration::as_secs)
    }

    #[test]
    fn what_is_known_is_known_by_the_file_that_runs() {
        assert_eq!(patience("/usr/bin/node"), Some(10));
        assert_eq!(patience("/usr/bin/python3.11"), Some(15));
        assert_eq!(patience("/home/u/.cargo/bin/cargo"), Some(30));
        for unknown in ["/usr/bin/curl", "/usr/bin/node-gyp", "/opt/pythonista", ""] {
            assert_eq!(patience(unknown), None, "{unknown}");
        }
    }
}
