//! Our own resolution, as the host would do it: fixed addresses, the hosts file, name servers.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::rr::{Name, RData, RecordType};
use stockade_policy::Endpoint;
use stockade_types::{Host, HostName, Port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout, timeout_at},
};

use super::message::{Answer, ask, read_answer};
use crate::limits::{
    ALIASES_MAX, DNS_ANSWER_BYTES_MAX, RECORDS_MAX, RESOLVE_ATTEMPT, RESOLVE_TOTAL,
};

/// Largest answer taken in one datagram: more than we announce, for servers that do not care.
const UDP_ANSWER_BYTES_MAX: usize = 4096;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// The name does not exist.
    #[error("the name does not exist")]
    Absent,
    /// The name exists and has no address.
    #[error("the name has no address")]
    Empty,
    /// No name server gave an answer.
    #[error("no name server of this machine gave an answer")]
    NoAnswer,
    /// The machine has no name server.
    #[error("this machine has no name server")]
    NoServer,
}

/// Resolves names for connections that are allowed.
#[derive(Debug)]
pub(crate) struct Resolver {
    fixed: BTreeMap<HostName, IpAddr>,
    /// Services of the machine, by the name and port that programs inside use.
    services: BTreeMap<Endpoint, SocketAddr>,
    hosts: Vec<(HostName, IpAddr)>,
    servers: Vec<SocketAddr>,
}

impl Resolver {
    pub(crate) fn new(
        (fixed, services): (BTreeMap<HostName, IpAddr>, BTreeMap<Endpoint, SocketAddr>),
        hosts: Vec<(HostName, IpAddr)>,
        servers: Vec<SocketAddr>,
    ) -> Self {
        Self {
            fixed,
            services,
            hosts,
            servers,
        }
    }

    /// Tells whether the policy gives `name` a fixed address.
    pub(crate) fn is_fixed(&self, name: &HostName) -> bool {
        self.fixed.contains_key(name) || self.services.keys().any(|service| service.host == *name)
    }

    /// Returns where a service of the machine is that policy gives this name and port.
    pub(crate) fn service(&self, host: &Host, port: Port) -> Option<SocketAddr> {
        let Host::Name(name) = host else { return None };
        let name = Endpoint {
            host: name.clone(),
            port,
        };
        self.services.get(&name).copied()
    }

    /// Returns the addresses that the policy or the hosts file gives `name`, IPv4 first; `None` where
    /// only a name server could know.
    pub(crate) fn known(&self, name: &HostName) -> Option<Vec<IpAddr>> {
        if let Some(address) = self.fixed.get(name) {
            return Some(vec![address.to_canonical()]);
        }
        let mut listed: Vec<IpAddr> = self
            .hosts
            .iter()
            .filter(|(host, _)| host == name)
            .map(|(_, address)| address.to_canonical())
            .collect();
        listed.sort_by_key(IpAddr::is_ipv6);
        (!listed.is_empty()).then_some(listed)
    }

    /// Returns the addresses of `name`, IPv4 first; not checked yet.
    pub(crate) async fn resolve(&self, name: &HostName) -> Result<Vec<IpAddr>, Unresolved> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        if self.servers.is_empty() {
            return Err(Unresolved::NoServer);
        }
        let wire = Name::from_ascii(format!("{name}.")).map_err(|_| Unresolved::Absent)?;
        timeout(RESOLVE_TOTAL, self.query_both(&wire))
            .await
            .map_err(|_| Unresolved::NoAnswer)?
    }

    /// Returns the records of a type that `name` has outside, none of them checked.
    pub(crate) async fn records(
        &self,
        name: &HostName,
        kind: RecordType,
    ) -> Result<Vec<RData>, Unresolved> {
        if self.servers.is_empty() {
            return Err(Unresolved::NoServer);
        }
        let wire = Name::from_ascii(format!("{name}.")).map_err(|_| Unresolved::Absent)?;
        let found = timeout(RESOLVE_TOTAL, self.query(&wire, kind)).await;
        let mut records = found.map_err(|_| Unresolved::NoAnswer)??;
        records.truncate(RECORDS_MAX);
        Ok(records)
    }

    async fn query_both(&self, name: &Name) -> Result<Vec<IpAddr>, Unresolved> {
        let (v4, v6) = tokio::join!(
            self.addresses(name, RecordType::A),
            self.addresses(name, RecordType::AAAA),
        );
        match (v4, v6) {
            (Ok(mut addresses), Ok(more)) => {
                addresses.extend(more);
                addresses.retain(|address| !address.is_unspecified());
                if addresses.is_empty() {
                    Err(Unresolved::Empty)
                } else {
                    Ok(addresses)
                }
            }
            (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) if !addresses.is_empty() => {
                Ok(addresses)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn addresses(&self, name: &Name, kind: RecordType) -> Result<Vec<IpAddr>, Unresolved> {
        let records = self.query(name, kind).await?;
        Ok(records.iter().filter_map(RData::ip_addr).collect())
    }

    async fn query(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>, Unresolved> {
        for server in &self.servers {
            match attempt(*server, name, kind).await {
                Ok(Answer::Records(records)) => return Ok(records),
                Ok(Answer::Absent) => return Err(Unresolved::Absent),
                // This one cannot say; the next one may.
                Ok(Answer::Truncated | Answer::Unable) | Err(_) => {}
            }
        }
        Err(Unresolved::NoAnswer)
    }
}

async fn attempt(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Answer> {
    match over_udp(server, name, kind).await? {
        Answer::Truncated => timed(RESOLVE_ATTEMPT, over_tcp(server, name, kind)).await,
        answer => Ok(answer),
    }
}

async fn timed<T>(wait: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(wait, work)
        .await
        .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

async fn over_udp(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Answer> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A fresh socket has a fresh random port, and connected it takes answers of the server only;
    // with a random id that is what an off-path forger must guess (RFC 5452).
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id = random_id()?;
    let query = ask(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
    socket.send(&query).await?;
    let deadline = Instant::now() + RESOLVE_ATTEMPT;
    let mut buffer = vec![0; UDP_ANSWER_BYTES_MAX];
    loop {
        let received = timeout_at(deadline, socket.recv(&mut buffer))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let bytes = buffer.get(..received).unwrap_or_default();
        if let Some(answer) = read_answer(bytes, id, name, kind, ALIASES_MAX) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let id = random_id()?;
    let query = ask(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream
        .write_all(&[&length.to_be_bytes(), query.as_slice()].concat())
        .await?;
    let expected = usize::from(stream.read_u16().await?).min(DNS_ANSWER_BYTES_MAX);
    let mut bytes = vec![0; expected];
    stream.read_exact(&mut bytes).await?;
    read_answer(&bytes, id, name, kind, ALIASES_MAX).ok_or(io::ErrorKind::InvalidData.into())
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u16::from_be_bytes(bytes))
}
