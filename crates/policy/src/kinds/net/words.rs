//! The words about connections in decisions.

use stockade_types::{Host, Port};

use super::{NetBody, NetFeatures};
use crate::kinds::Miss;

impl NetFeatures<'_> {
    /// Says the smallest rule that would allow this.
    pub(crate) fn suggestion(&self) -> String {
        let usual = self.port == 443 || self.port == 80 || self.port == 0;
        let ports = if usual {
            String::new()
        } else {
            format!(", ports = [{}]", self.port)
        };
        format!(
            "an [[allow]] rule with what = \"net\", hosts = [\"{}\"]{ports}",
            self.host
        )
    }

    /// Says that no rule names what `target` is, or which condition failed.
    pub(crate) fn unmatched(&self, target: &str, miss: Miss) -> String {
        match (miss, self.host) {
            (Miss::Host, Host::Address(_)) => {
                format!("{target} is an address, and rules name hosts")
            }
            (Miss::Host, Host::Name(_)) => format!("{target} is not named by any rule"),
            (other, _) => format!("{target} fails the condition on {}", other.as_str()),
        }
    }

    /// Says what of the path of a request has no one meaning.
    pub(crate) fn ambiguity(&self) -> Option<String> {
        let what = self.http.as_ref()?.path.ambiguity()?;
        Some(format!(
            "the path has {what}, which servers read in different ways"
        ))
    }
}

impl NetBody {
    /// Writes what one of the hosts allows, as the request would look.
    pub(crate) fn example(&self, pattern: usize) -> Option<String> {
        let at = self.hosts.get(pattern)?;
        let (host, own) = (&at.pattern, at.port.map(Port::get));
        let ports = self.ports.named();
        let port = || ports.iter().find(|port| **port == 443).or(ports.first());
        let port = own.or_else(|| port().copied())?;
        let method = self.methods.as_ref().and_then(|methods| methods.first());
        let path = self.paths.as_ref().and_then(|paths| paths.first());
        let method = method
            .map(|method| format!("{method} "))
            .unwrap_or_default();
        Some(format!(
            "{method}{host}:{port}{}",
            path.map_or("", |path| path.text())
        ))
    }
}
