//! The session's resolver. It never forwards a query.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use stockade_event::{Durability, Event};
use stockade_policy::{Control, Decision, NameRequest, Request, is_special_name};
use stockade_types::{HostName, LimitName, RawText, Subject, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OnceCell,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    message::{Asked, Received, Reply, answer, read},
    records,
};
use crate::{
    Datagrams, Proxy,
    judge::decided,
    limits::{
        ACCEPT_PAUSE, DNS_QUERIES_MAX, DNS_QUERY_BYTES_MAX, DNS_STREAM_IDLE, SEEN_QUERIES_MAX,
        SYNTHETIC_NAMES_MAX,
    },
    wire::{Decided, Protocol},
};

/// Names that mean this machine (RFC 6761 section 6.3).
const LOCALHOST: &str = "localhost";

/// A name that is certainly nobody's (RFC 6761 section 6.4); stands in for what is not a name.
const NOBODY: &str = "invalid";

/// Repetitions of a query are reported at this number and at each power of ten after it.
const REPEATS_REPORTED_FIRST: u64 = 100;

/// What the resolver remembers.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By the name, the program and the verdict: a command that may run can open a name for a while.
    seen: Mutex<HashMap<(String, RawText, Verdict), Arc<Seen>>>,
    full_reported: AtomicBool,
    pub(super) left: records::Left,
}

/// A query that was met before: its first occurrence is recorded, the others are counted.
#[derive(Debug, Default)]
struct Seen {
    recorded: OnceCell<()>,
    count: AtomicU64,
}

/// Serves one datagram socket; never ends by itself.
pub(crate) async fn serve_udp(proxy: Arc<Proxy>, socket: Arc<dyn Datagrams>) {
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DNS_QUERY_BYTES_MAX];
    loop {
        let receive =
            |context: &mut Context<'_>| -> Poll<_> { socket.poll_receive(context, &mut buffer) };
        let Ok(datagram) = std::future::poll_fn(receive).await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while tasks.try_join_next().is_some() {}
        // A client without an answer asks again, so dropping is safe where too many wait.
        if tasks.len() >= DNS_QUERIES_MAX {
            continue;
        }
        let bytes = buffer.get(..datagram.bytes).unwrap_or_default().to_vec();
        let (proxy, socket) = (Arc::clone(&proxy), Arc::clone(&socket));
        tasks.spawn(async move {
            let (peer, local) = (datagram.peer, datagram.local);
            if let Some(reply) = respond(&proxy, &bytes, Protocol::Udp, peer, local).await {
                // As with any datagram, one that does not go out is asked for again.
                drop(socket.try_send(&reply, peer, local));
            }
        });
    }
}

/// Serves one DNS over TCP connection (RFC 7766) until the client ends it.
pub(crate) async fn serve_stream(
    proxy: &Proxy,
    stream: TcpStream,
    local: SocketAddr,
) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let answer =
        |bytes: Vec<u8>| async move { respond(proxy, &bytes, Protocol::Tcp, peer, local).await };
    answer_stream(stream, DNS_STREAM_IDLE, answer).await
}

/// Answers the queries of a connection that is never silent, nor unread, for longer than `idle`.
pub(super) async fn answer_stream<F: Future<Output = Option<Vec<u8>>>>(
    mut stream: TcpStream,
    idle: Duration,
    answer: impl Fn(Vec<u8>) -> F,
) -> io::Result<()> {
    loop {
        let Ok(prefix) = timeout(idle, stream.read_u16()).await else {
            return Ok(());
        };
        let length = usize::from(match prefix {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            prefix => prefix?,
        });
        if length > DNS_QUERY_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        let body = timeout(idle, stream.read_exact(&mut bytes)).await;
        body.map_err(|_| io::ErrorKind::TimedOut)??;
        let Some(reply) = answer(bytes).await else {
            return Ok(());
        };
        let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let bytes = [&length.to_be_bytes(), reply.as_slice()].concat();
        // A client that does not read would keep one of the few places for ever.
        let written = timeout(idle, stream.write_all(&bytes)).await;
        written.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

async fn respond(
    proxy: &Proxy,
    bytes: &[u8],
    protocol: Protocol,
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<Vec<u8>> {
    match read(bytes) {
        Received::Query(asked) => {
            let reply = decide(proxy, &asked, protocol, peer, local).await;
            answer(&asked, reply, protocol)
        }
        Received::Error(reply) => Some(reply),
        Received::Nothing => None,
    }
}

async fn decide(
    proxy: &Proxy,
    asked: &Asked,
    protocol: Protocol,
    peer: SocketAddr,
    local: SocketAddr,
) -> Reply {
    if let Ok(name) = &asked.name
        && name.labels_rev().next() == Some(LOCALHOST)
    {
        return Reply::Addresses(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    }
    // Where it cannot be told who asks, nobody does: the refusal is recorded all the same.
    let subject = proxy.supervisor.attribute(protocol, peer, local).await;
    let subject = subject.unwrap_or_default();
    let about = records::about(asked);
    let Some((request, shown, decision)) =
        judge(proxy, asked, about.as_ref(), subject.clone()).await
    else {
        return Reply::Failed;
    };
    let verdict = decision.verdict;
    if !note(proxy, request, shown, decision).await {
        return Reply::Failed;
    }
    match (verdict, &asked.name, &about) {
        (Verdict::Allow | Verdict::Ask, _, Some(host)) => {
            records::find(proxy, asked, host, &subject).await
        }
        (Verdict::Allow | Verdict::Ask, Ok(name), None) => synthetic(proxy, name).await,
        (Verdict::Allow | Verdict::Ask, Err(_), None) | (Verdict::Deny, ..) => Reply::Absent,
    }
}

async fn judge(
    proxy: &Proxy,
    asked: &Asked,
    about: Option<&HostName>,
    subject: Subject,
) -> Option<(Request, Option<String>, Decision)> {
    const REMEDY: &str = "fix its address in `[network.hosts]` of the policy if it must be reached";
    match &asked.name {
        Err(raw) => {
            let name = NOBODY.parse().ok()?;
            let decision = Control::NotAHostName.denies("this is not the name of a host", "");
            let request = Request::Name(NameRequest { name, subject });
            Some((request, Some(raw.clone()), decision))
        }
        Ok(whole) => {
            let name = about.unwrap_or(whole);
            let shown = (name != whole).then(|| whole.to_string());
            let request = NameRequest {
                name: name.clone(),
                subject,
            };
            let decision = if is_special_name(name) && !proxy.resolver.is_fixed(name) {
                Control::SpecialName.denies("this name has no meaning outside one machine", REMEDY)
            } else {
                proxy.judge.name(&request).await
            };
            Some((Request::Name(request), shown, decision))
        }
    }
}

/// Sees to it that the decision is in the journal once per name and program. Returns whether it is.
async fn note(proxy: &Proxy, request: Request, shown: Option<String>, decision: Decision) -> bool {
    let name = shown
        .clone()
        .or_else(|| request.target().host)
        .unwrap_or_default();
    let key = (name, request.subject().exe.clone(), decision.verdict);
    let seen = {
        let mut all = proxy
            .names
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SEEN_QUERIES_MAX && !all.contains_key(&key) {
            // Not remembered, so it is recorded each time: more events, never fewer.
            Arc::default()
        } else {
            Arc::clone(all.entry(key.clone()).or_default())
        }
    };
    let record = || async {
        let entry = Decided {
            shown,
            ..decided(request, decision)
        };
        proxy.judge.record(entry).await.map(|_| ())
    };
    // The address queries of one lookup arrive together; the second waits for the first's event.
    if seen.recorded.get_or_try_init(record).await.is_err() {
        return false;
    }
    let count = seen.count.fetch_add(1, Ordering::Relaxed);
    if count >= REPEATS_REPORTED_FIRST && is_power_of_ten(count) {
        let reason = format!("`{}` was looked up this often again by one program", key.0);
        // What the report before this one counted is no second loss.
        let before = count / 10;
        let told = if before < REPEATS_REPORTED_FIRST {
            0
        } else {
            before
        };
        let event = Event::EventsLost {
            source: "names".to_owned(),
            count: count - told,
            reason,
        };
        return proxy
            .supervisor
            .record(event, Durability::Written)
            .await
            .is_ok();
    }
    true
}

fn is_power_of_ten(mut number: u64) -> bool {
    while number >= 10 && number.is_multiple_of(10) {
        number /= 10;
    }
    number == 1
}

async fn synthetic(proxy: &Proxy, name: &HostName) -> Reply {
    match stand_in(proxy, name).await {
        Some((v4, v6)) => Reply::Addresses(v4, v6),
        None => Reply::Failed,
    }
}

/// Returns the addresses that stand for a name in this session; none for one beyond its bound.
pub(crate) async fn stand_in(proxy: &Proxy, name: &HostName) -> Option<(Ipv4Addr, Ipv6Addr)> {
    let assigned = proxy
        .synthetic
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .assign(name);
    if let Ok(addresses) = assigned {
        return Some(addresses);
    }
    // Told once: every further name would say the same.
    if !proxy.names.full_reported.swap(true, Ordering::Relaxed) {
        let limit = u64::try_from(SYNTHETIC_NAMES_MAX).unwrap_or(u64::MAX);
        let event = Event::LimitReached {
            limit: LimitName::Names,
            configured: limit,
            usage: limit,
            detail: format!("`{name}` and all further new names do not resolve"),
        };
        // The name is refused whether or not this can be told.
        drop(proxy.supervisor.record(event, Durability::Written).await);
    }
    None
}
