//! Connections whose first packet the kernel still holds: where policy lets a program talk to a host
//! whatever it says, the host is dialled first, and the program is told what came of that. Where no
//! rule lets the program reach the host and port, whatever it says, or a person would have to be asked
//! and nobody can be, it is refused before it is connected.
//!
//! What is asked about or judged by its requests goes on at once: its answer is one that the program's
//! own protocol carries, and comes after it is connected.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use stockade_policy::{Approvals, AsRequest, Decision, NetRequest, is_telemetry};
use stockade_types::{Host, HostName, Port, ProcessId};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use crate::{
    Proxy,
    destination::{impossible, request},
    dial::{Carries, Route, Unreachable},
    judge::{Allowed, Judgement, decided},
    limits::{MADE_KEPT, REFUSED_KEPT, REFUSED_NAMES_MAX},
    upstream::{Failed, Upstream, entry, not_found},
    wire::{Connecting, Word},
};

/// The port of web pages over TLS.
const HTTPS: u16 = 443;

/// A connection, as the kernel of the session knows it.
type Ends = (SocketAddr, SocketAddr);

/// Connections that were made for programs whose own connection comes next.
#[derive(Debug, Default)]
pub(crate) struct Made(Mutex<HashMap<Ends, (Early, Instant)>>);

/// What was settled of a connection before its program was connected.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// The connection to the host.
    pub(crate) upstream: Option<Upstream>,
    /// The approvals that the connection rests on.
    pub(crate) held: Approvals,
}

/// Why a connection was not made.
#[derive(Debug)]
pub(crate) enum Unmade {
    /// Policy is the cause; it is not recorded yet.
    Denied(Box<Decision>),
    /// The network is the cause, which is recorded.
    Unreachable(Unreachable),
}

impl Early {
    fn is_nothing(&self) -> bool {
        self.upstream.is_none() && self.held.is_empty()
    }
}

/// Packets of connections that are being made: a first packet that gets no answer is sent again.
type Waiting = Arc<Mutex<HashMap<Ends, Vec<u32>>>>;

impl Made {
    /// Takes what was made for a connection that was accepted now.
    pub(crate) fn take(&self, source: SocketAddr, destination: SocketAddr) -> Early {
        let ends = (plain(source), plain(destination));
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.remove(&ends)
            .map(|(early, _)| early)
            .unwrap_or_default()
    }

    fn put(&self, ends: Ends, early: Early) -> Instant {
        let now = Instant::now();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(ends, (early, now));
        now
    }

    /// Closes what nobody came for.
    fn drop_if(&self, ends: Ends, since: Instant) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.get(&ends).is_some_and(|(_, at)| *at == since) {
            made.remove(&ends);
        }
    }
}

/// Names that programs were refused at one of their two addresses a moment ago: a client then tries the
/// other one, which is the same attempt and no second event.
#[derive(Debug, Default)]
pub(crate) struct RefusedNames(Mutex<HashMap<Attempt, (bool, Instant)>>);

/// Who wanted to go where.
type Attempt = (ProcessId, HostName, Port);

impl RefusedNames {
    /// Tells whether the same attempt was refused at the name's other address. Each event stands for one
    /// further refusal at most.
    fn is_told(&self, request: &NetRequest, destination: SocketAddr) -> bool {
        let (Some(process), Host::Name(name)) = (request.subject.id, &request.host) else {
            return false;
        };
        let key = (process, name.clone(), request.port);
        let family = destination.is_ipv4();
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((other, since)) = names.remove(&key)
            && other != family
            && since.elapsed() < REFUSED_KEPT
        {
            return true;
        }
        if names.len() >= REFUSED_NAMES_MAX {
            names.clear();
        }
        names.insert(key, (family, Instant::now()));
        false
    }
}

/// A listener of both families sees IPv4 peers in their mapped form.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Serves held connections until the supervisor is gone.
pub(crate) async fn serve(proxy: Arc<Proxy>, mut connecting: mpsc::Receiver<Connecting>) {
    let mut tasks = JoinSet::new();
    let waiting = Waiting::default();
    while let Some(one) = connecting.recv().await {
        while tasks.try_join_next().is_some() {}
        let ends = (plain(one.source), plain(one.destination));
        let mut all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let packets = all.entry(ends).or_default();
        packets.push(one.packet);
        if packets.len() > 1 {
            continue;
        }
        drop(all);
        let (proxy, waiting) = (Arc::clone(&proxy), Arc::clone(&waiting));
        tasks.spawn(async move {
            let (word, kept) = match Box::pin(make(&proxy, ends)).await {
                Ok(early) if early.is_nothing() => (Word::Go, None),
                Ok(early) => (Word::Go, Some(proxy.made.put(ends, early))),
                Err(word) => (word, None),
            };
            let packets = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&ends);
            for packet in packets.unwrap_or_default() {
                proxy.supervisor.release(packet, word).await;
            }
            if let Some(since) = kept {
                sleep(MADE_KEPT).await;
                proxy.made.drop_if(ends, since);
            }
        });
    }
}

/// Judges the connection that a program wants, and makes it if policy lets it whatever the program
/// says.
async fn make(proxy: &Proxy, (source, destination): Ends) -> Result<Early, Word> {
    if is_telemetry(destination.ip(), destination.port()) {
        // It ends here, so there is nothing to judge.
        return match proxy.receiver {
            Some(_) => Ok(Early::default()),
            None => Err(Word::Refused),
        };
    }
    // What is not understood here is found out, and refused, once it is accepted.
    let Some(request) = request(proxy, source, destination).await else {
        return Ok(Early::default());
    };
    match prepare(proxy, &request).await {
        Ok(early) => Ok(early),
        Err(Unmade::Denied(decision)) => Err(refuse(proxy, &request, destination, *decision).await),
        Err(Unmade::Unreachable(error)) => Err(word(&error)),
    }
}

/// Settles as much of a connection as can be, without a word of the program: what nothing can allow is
/// denied, and where policy lets the program talk to the host whatever it says, that is dialled.
pub(crate) async fn prepare(proxy: &Proxy, request: &NetRequest) -> Result<Early, Unmade> {
    if let Some(decision) = impossible(request) {
        return Err(Unmade::Denied(Box::new(decision)));
    }
    let allowed = match proxy.judge.judge_early(request).await {
        Some(Judgement::Permitted(allowed)) => allowed,
        Some(Judgement::Denied(decision)) => return Err(Unmade::Denied(decision)),
        None => return Ok(Early::default()),
    };
    let dialled = Box::pin(dial(proxy, request, &allowed)).await;
    Ok(Early {
        upstream: dialled.map_err(Unmade::Unreachable)?,
        held: allowed.approvals,
    })
}

/// Records the refusal of what no request on it could be allowed for.
async fn refuse(
    proxy: &Proxy,
    request: &NetRequest,
    destination: SocketAddr,
    decision: Decision,
) -> Word {
    if proxy.refused.is_told(request, destination) {
        return Word::Refused;
    }
    // The program is refused whether or not that can be recorded.
    drop(
        proxy
            .judge
            .record(decided(request.as_request(), decision))
            .await,
    );
    Word::Refused
}

/// Makes an allowed connection, unless what the program says decides about it; the error is recorded.
async fn dial(
    proxy: &Proxy,
    request: &NetRequest,
    allowed: &Allowed<NetRequest>,
) -> Result<Option<Upstream>, Unreachable> {
    if allowed.decision.http_only || allowed.decision.terms.inspect {
        return Ok(None);
    }
    let terms = &allowed.decision.terms;
    if proxy.budgets.look(&terms.bytes_max, 1).is_err() {
        return Ok(None);
    }
    let private = terms.private;
    // Plain HTTP may go to the proxy as requests, which is known when there is one.
    let plain = proxy.proxies.for_host(&request.host, request.port, true);
    if plain.is_some() && request.port.get() != HTTPS {
        return Ok(None);
    }
    let ways = (&proxy.resolver, &proxy.proxies, &*proxy.judge);
    let route = Route::find(&allowed.permitted, ways, private, Carries::Bytes);
    let route = Box::pin(route).await;
    let entry = entry(allowed, None, Some("before its first byte".to_owned()));
    let route = match route {
        Ok(route) => route,
        Err(error) if error.is_refusal() => return Ok(None),
        Err(error) => {
            proxy.unreached.note(&request.host, &error);
            return match not_found(proxy, request.port, entry, error).await {
                Failed::Unreachable(error) => Err(error),
                Failed::Refused(_) | Failed::Unrecorded(_) => Ok(None),
            };
        }
    };
    match Upstream::dial(proxy, entry, route).await {
        Ok(upstream) => Ok(Some(upstream)),
        Err(Failed::Unreachable(error)) => Err(error),
        // The journal failed, so that nothing passes: which is said in the program's own protocol.
        Err(Failed::Refused(_) | Failed::Unrecorded(_)) => Ok(None),
    }
}

/// Returns what a program on the host would have been told.
pub(crate) fn word(error: &Unreachable) -> Word {
    match error {
        Unreachable::Refused { how, .. } => how.word(),
        Unreachable::Name { .. }
        | Unreachable::Private { .. }
        | Unreachable::Never { .. }
        | Unreachable::Denied { .. } => Word::NoHost,
    }
}
