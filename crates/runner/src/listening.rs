//! Ports on which programs of the session listen, so that a person learns how to reach one from outside.
//! It only looks: nothing is opened by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use stockade_plan::{LaunchPlan, Step};
use stockade_policy::NetworkSettings;

/// The first port that programs are given which want any (`net.ipv4.ip_local_port_range`).
const EPHEMERAL_FIRST: u16 = 32_768;
/// Looks, a second apart, at which a server must be there: one that ends at once is nobody's to visit.
const LOOKS_MIN: u32 = 2;
/// Ports that are named.
const NAMED_MAX: usize = 4;
/// The state of a socket that listens (linux/tcp_states.h), as proc(5) writes it.
const LISTENS: &str = "0A";

/// What was seen.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Number of the session's first process, outside: its network is looked at.
    first: u32,
    /// Ports that are the boundary's own, or open outside already.
    known: BTreeSet<u16>,
    seen: BTreeMap<u16, u32>,
}

impl Listening {
    pub(crate) fn new(first: u32, plan: &LaunchPlan, settings: &NetworkSettings) -> Self {
        let own = plan.steps.iter().filter_map(|step| match step {
            Step::Listen { ports, local } => Some(ports.iter().chain(local)),
            _ => None,
        });
        let published = settings.publish.iter().map(|at| at.value.inside.get());
        Self {
            first,
            known: own.flatten().copied().chain(published).collect(),
            seen: BTreeMap::new(),
        }
    }

    /// Looks once.
    pub(crate) fn look(&mut self) {
        let mut ports = BTreeSet::new();
        for family in ["tcp", "tcp6"] {
            let text = fs::read_to_string(format!("/proc/{}/net/{family}", self.first));
            // A session that ends has no network any more.
            ports.extend(text.unwrap_or_default().lines().filter_map(listens_on));
        }
        for port in ports {
            if port < EPHEMERAL_FIRST && port != 53 && !self.known.contains(&port) {
                *self.seen.entry(port).or_default() += 1;
            }
        }
    }

    /// Says how the ports are reached from this machine; `None` where no server stayed.
    pub(crate) fn told(&self) -> Option<String> {
        let stayed = self.seen.iter().filter(|(_, looks)| **looks >= LOOKS_MIN);
        let stayed: Vec<String> = stayed.map(|(port, _)| port.to_string()).collect();
        let first = stayed.first()?;
        let named: Vec<&str> = stayed.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = if stayed.len() > NAMED_MAX {
            ", …"
        } else {
            ""
        };
        Some(format!(
            "programs inside listened on {}{more}; `run --publish {first}` opens that port on this \
             machine's loopback",
            named.join(", ")
        ))
    }
}

/// Reads the port of a line of `/proc/PID/net/tcp` (proc(5)) whose socket listens.
fn listens_on(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    (state == LISTENS)
        .then(|| u16::from_str_radix(port, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Listening, listens_on};

    #[test]
    fn listeners_are_read_as_the_kernel_writes_them() {
        let line =
            "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1";
        assert_eq!(listens_on(line), Some(3000));
        let six = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(listens_on(six), Some(8080));
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(listens_on(&connected), None);
        assert_eq!(listens_on("  sl  local_address rem_address   st"), None);
        assert_eq!(listens_on(""), None);
    }

    #[test]
    fn who_stays_is_told_of_and_nobody_else() {
        let of = |seen: &[(u16, u32)]| Listening {
            first: 1,
            known: BTreeSet::new(),
            seen: seen.iter().copied().collect::<BTreeMap<_, _>>(),
        };
        assert_eq!(of(&[(3000, 1)]).told(), None);
        let told = of(&[(3000, 2), (5432, 9), (1, 1)]).told().unwrap();
        assert!(
            told.contains("listened on 3000, 5432; `run --publish 3000`"),
            "{told}"
        );
    }
}
