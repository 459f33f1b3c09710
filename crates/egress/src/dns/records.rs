//! Records that say where a service of a name is (SRV, RFC 2782) and what it says of itself (TXT): asked
//! of the host's name servers for names that a rule allows whole, and for no others. What an answer
//! names is looked up as any name, and judged then.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use hickory_proto::rr::RecordType;
use stockade_types::{HostName, Subject};

use super::{
    message::{Asked, Reply},
    resolver::Unresolved,
};
use crate::{Proxy, limits::RECORD_NAMES_MAX};

/// Ways to carry a service (RFC 2782, RFC 6335 section 5.2, and what clients write beside them).
const CARRIERS: [&str; 3] = ["_tcp", "_udp", "_tls"];
/// Longest name of a service (RFC 6335 section 5.1).
const SERVICE_BYTES_MAX: usize = 15;

/// What has left: each name and type is a query that outsiders see, so their number is bounded.
#[derive(Debug, Default)]
pub(super) struct Left(Mutex<HashSet<(HostName, RecordType)>>);

impl Left {
    fn takes(&self, name: &HostName, kind: RecordType) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let query = (name.clone(), kind);
        left.contains(&query) || (left.len() < RECORD_NAMES_MAX && left.insert(query))
    }
}

/// Returns the name that decides about a query for such records: its own, or for `_service._tcp.NAME`
/// that one. Any other name with labels in front is judged as it stands.
pub(super) fn about(asked: &Asked) -> Option<HostName> {
    let name = asked.name.as_ref().ok()?;
    match asked.kind {
        RecordType::TXT => Some(name.clone()),
        RecordType::SRV => {
            let (service, rest) = name.as_str().split_once('.')?;
            let (carrier, host) = rest.split_once('.')?;
            let service = service.strip_prefix('_')?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let is_service = (1..=SERVICE_BYTES_MAX).contains(&service.len())
                && service.bytes().all(plain)
                && CARRIERS.contains(&carrier)
                && !host.starts_with('_');
            host.parse().ok().filter(|_| is_service)
        }
        _ => None,
    }
}

/// Finds the records of a name that was judged and recorded; none where `host` is only asked about, or
/// has its address from policy or the hosts file.
pub(super) async fn find(proxy: &Proxy, asked: &Asked, host: &HostName, by: &Subject) -> Reply {
    let Ok(name) = &asked.name else {
        return Reply::Absent;
    };
    let resolver = &proxy.resolver;
    let is_outside = !resolver.is_fixed(host) && resolver.known(host).is_none();
    let leaves =
        is_outside && proxy.judge.reaches(host, by) && proxy.names.left.takes(name, asked.kind);
    if !leaves {
        return Reply::Records(Vec::new());
    }
    match resolver.records(name, asked.kind).await {
        Ok(records) => Reply::Records(records),
        Err(Unresolved::Absent) => Reply::Absent,
        // A machine without name servers leaves its network through a proxy, which tells of none.
        Err(Unresolved::Empty | Unresolved::NoServer) => Reply::Records(Vec::new()),
        Err(Unresolved::NoAnswer) => Reply::Failed,
    }
}
