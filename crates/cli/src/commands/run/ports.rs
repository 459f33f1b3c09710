//! Ports of the command line: those of the session on this machine, and services of this machine in
//! the session.

use toml::Value;

/// Ports that are let through the boundary for this one run.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct PortArgs {
    /// Let this machine's loopback reach a port on which a program of the session listens, as the
    /// same port or as another one; repeatable
    #[arg(long, value_name = "PORT[:INSIDE]", value_parser = publish)]
    publish: Vec<(u16, u16)>,
    /// Let the session reach a service of this machine under a name and port, at 127.0.0.1 with that
    /// port or at this address, or a socket (unix:/run/x.sock) in its place; repeatable
    #[arg(long, value_name = "NAME:PORT[=ADDRESS:PORT]", value_parser = service)]
    service: Vec<(String, String)>,
}

impl PortArgs {
    /// Tells whether nothing was given.
    pub(crate) const fn is_empty(&self) -> bool {
        self.publish.is_empty() && self.service.is_empty()
    }

    /// Writes what was given as a part of a policy.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.service.is_empty() {
            text.push_str("[network.services]\n");
        }
        for (name, address) in &self.service {
            text.extend([&quoted(name), " = ", &quoted(address), "\n"]);
        }
        for (outside, inside) in &self.publish {
            let (inside, outside) = (inside.to_string(), outside.to_string());
            text.extend(["[[publish]]\nport = ", &inside, "\nas = ", &outside, "\n"]);
        }
        text
    }
}

/// Writes a text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn publish(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (outside, inside) = text.split_once(':').unwrap_or((text, text));
    match (port(outside), port(inside)) {
        (Some(outside), Some(inside)) => Ok((outside, inside)),
        _ => Err("expected PORT, or PORT:INSIDE, for example 3000 or 8080:3000".to_owned()),
    }
}

/// Reads a service; what its parts mean is checked with the policy.
fn service(text: &str) -> Result<(String, String), String> {
    const WANTED: &str =
        "expected NAME:PORT, or NAME:PORT=ADDRESS:PORT, for example localhost:11434";
    let (name, address) = if let Some((name, address)) = text.split_once('=') {
        (name, address.to_owned())
    } else if text.starts_with("unix:") {
        (text, text.to_owned())
    } else {
        let (_, port) = text.rsplit_once(':').ok_or(WANTED)?;
        (text, format!("127.0.0.1:{port}"))
    };
    if name.is_empty() || address.is_empty() {
        return Err(WANTED.to_owned());
    }
    Ok((name.to_owned(), address))
}

#[cfg(test)]
mod tests {
    use super::{PortArgs, publish, service};

    #[test]
    fn ports_and_services_become_policy() {
        let given = PortArgs {
            publish: vec![publish("3000").unwrap(), publish("8080:80").unwrap()],
            service: vec![
                service("localhost:11434").unwrap(),
                service("db.test:5432=10.0.0.7:5433").unwrap(),
                service("unix:/run/x").unwrap(),
            ],
        };
        assert_eq!(
            given.text(),
            "[network.services]\n\"localhost:11434\" = \"127.0.0.1:11434\"\n\
             \"db.test:5432\" = \"10.0.0.7:5433\"\n\
             \"unix:/run/x\" = \"unix:/run/x\"\n\
             [[publish]]\nport = 3000\nas = 3000\n[[publish]]\nport = 80\nas = 8080\n"
        );
        for text in ["", "0", "x", "80:0", "70000", "1:2:3"] {
            publish(text).unwrap_err();
        }
        for text in ["", "localhost", "=1.2.3.4:5", "a:1="] {
            service(text).unwrap_err();
        }
    }
}
