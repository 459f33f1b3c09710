//! What the command line itself adds to policy: variables and hosts of this one run.

use std::{ffi::OsString, net::IpAddr, os::unix::ffi::OsStrExt as _};

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use stockade_policy::{AddressClass, Origin, Source, classify};
use stockade_types::RawText;

use super::ports::{PortArgs, quoted};

/// Name of the layer in messages and in the record.
const LAYER: &str = "command line";
/// Ports of a host that names none: those of web pages.
const PORTS: [u16; 2] = [80, 443];
/// Variables that the boundary sets itself.
const FIXED: [&str; 6] = [
    "HOME",
    "LOGNAME",
    "PWD",
    "STOCKADE_SESSION",
    "TMPDIR",
    "USER",
];

/// Variables and hosts of the command line.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct GivenArgs {
    /// Pass a variable of yours, or one with this value, even if its name looks like a secret;
    /// repeatable
    #[arg(
        long,
        value_name = "NAME[=VALUE]",
        value_parser = OsStringValueParser::new().try_map(|text| variable(&text))
    )]
    env: Vec<Variable>,
    /// Allow a host without a question, on ports 80 and 443 or on this one; with `,private`, even
    /// if its addresses are private; repeatable
    #[arg(long, value_name = "HOST[:PORT]", value_parser = host)]
    allow_host: Vec<HostPort>,
    #[command(flatten)]
    ports: PortArgs,
}

#[derive(Debug, Clone)]
struct Variable {
    name: String,
    value: Option<OsString>,
}

#[derive(Debug, Clone)]
struct HostPort {
    host: String,
    ports: Vec<u16>,
    private: bool,
}

impl GivenArgs {
    /// Writes what was given as a policy; `None` where nothing was.
    pub(crate) fn source(&self) -> Option<Source> {
        if self.env.is_empty() && self.allow_host.is_empty() && self.ports.is_empty() {
            return None;
        }
        let names = self.env.iter().map(|variable| quoted(&variable.name));
        let names: Vec<String> = names.collect();
        // A value is no part of policy: it can be a secret, and policies are printed.
        let mut text = "schema = 1\n".to_owned();
        if !names.is_empty() {
            text.extend(["[environment]\npass = [", &names.join(", "), "]\n"]);
        }
        let hosts = self.allow_host.iter().enumerate();
        text.extend(hosts.map(|(number, given)| {
            let HostPort {
                host,
                ports,
                private,
            } = given;
            let number = number + 1;
            let host = quoted(host);
            format!(
                "[[allow]]\nid = \"allow-host-{number}\"\nwhat = \"net\"\nhosts = [{host}]\nports = {ports:?}\n\
                 private = {private}\nreason = \"named on the command line\"\n",
            )
        }));
        text.push_str(&self.ports.text());
        Some(Source {
            origin: Origin::Session,
            name: LAYER.to_owned(),
            text,
        })
    }

    /// Puts the values into the caller's variables; returns what is to be said of names without one.
    pub(crate) fn apply(&self, environment: &mut Vec<(RawText, RawText)>) -> Vec<String> {
        let mut notes = Vec::new();
        for Variable { name, value } in &self.env {
            let name = RawText::from(name.as_str());
            if let Some(value) = value {
                environment.retain(|(known, _)| *known != name);
                environment.push((name, RawText::from_os(value)));
            } else if !environment.iter().any(|(known, _)| *known == name) {
                notes.push(format!("--env {name}: there is no such variable here"));
            }
        }
        notes
    }
}

/// Whether a host is written as an address that needs `private`: whoever writes it means it. What a
/// name stands for is found out later, and by others.
fn is_private(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.parse();
    address.is_ok_and(|address| classify(address) == AddressClass::Private)
}

fn variable(text: &std::ffi::OsStr) -> Result<Variable, String> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=');
    let name = bytes.get(..at.unwrap_or(bytes.len())).unwrap_or_default();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && name.as_bytes().iter().all(plain))
        .ok_or("expected the name of a variable, letters, digits and `_`, or NAME=VALUE")?;
    if FIXED.contains(&name) {
        return Err(format!("{name} is set by the boundary"));
    }
    let value = at.and_then(|at| bytes.get(at + 1..));
    Ok(Variable {
        name: name.to_owned(),
        value: value.map(|value| std::ffi::OsStr::from_bytes(value).to_owned()),
    })
}

fn host(text: &str) -> Result<HostPort, String> {
    if text.contains("://") || text.contains('/') {
        return Err("expected a host, or HOST:PORT, without `https://` and path".to_owned());
    }
    let (text, private) = match text.split_once(',') {
        None => (text, false),
        Some((text, "private")) => (text, true),
        Some((_, other)) => return Err(format!("`,{other}` means nothing; write `,private`")),
    };
    let bare = |host: &str| {
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned()
    };
    // An address of version 6 has colons of its own.
    let is_bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let with_port = text
        .rsplit_once(':')
        .filter(|_| !is_bare_v6 && !text.ends_with(']'));
    let Some((name, port)) = with_port else {
        return Ok(HostPort {
            private: private || is_private(&bare(text)),
            host: bare(text),
            ports: PORTS.to_vec(),
        });
    };
    let port: u16 = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("`{port}` is not a port; write HOST or HOST:PORT"))?;
    Ok(HostPort {
        private: private || is_private(&bare(name)),
        host: bare(name),
        ports: vec![port],
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{GivenArgs, host, variable};

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, name, ports) in [
            ("good.test", "good.test", &[80, 443][..]),
            ("good.test:8443", "good.test", &[8443]),
            ("*.good.test", "*.good.test", &[80, 443]),
            ("2001:db8::1", "2001:db8::1", &[80, 443]),
            ("[2001:db8::1]:81", "2001:db8::1", &[81]),
            ("[2001:db8::1]", "2001:db8::1", &[80, 443]),
            ("10.0.0.7:5432", "10.0.0.7", &[5432]),
        ] {
            let read = host(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(
                (read.host.as_str(), &read.ports[..]),
                (name, ports),
                "{text}"
            );
        }
        assert!(host("good.test:81,private").unwrap().private);
        for text in [
            "good.test,public",
            "https://good.test",
            "good.test/x",
            "good.test:0",
            "good.test:x",
        ] {
            host(text).unwrap_err();
        }
    }

    #[test]
    fn values_are_no_part_of_policy() {
        let variable = |text: &str| variable(OsStr::new(text));
        let given = GivenArgs {
            env: vec![variable("A_KEY=s3cret=x").unwrap(), variable("B").unwrap()],
            allow_host: vec![host("10.0.0.7:5432").unwrap(), host("good.test").unwrap()],
            ports: super::PortArgs::default(),
        };
        let text = given.source().unwrap().text;
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("pass = [\"A_KEY\", \"B\"]\n"), "{text}");
        assert_eq!(text.matches("private = true").count(), 1, "{text}");
        let mut environment = vec![("A_KEY".into(), "old".into())];
        let notes = given.apply(&mut environment);
        assert_eq!(environment, [("A_KEY".into(), "s3cret=x".into())]);
        assert_eq!(notes, ["--env B: there is no such variable here"]);
        for text in [
            "",
            "=x",
            "A-B",
            "HOME=/x",
            "A B=c",
            "STOCKADE_SESSION=x",
            "*_KEY",
        ] {
            variable(text).unwrap_err();
        }
    }
}
