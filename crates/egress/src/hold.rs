//! Connections whose first packet the kernel still holds: where policy lets a program talk to a host
//! whatever it says, the host is dialled first, and the program is told what came of that.
//!
//! What is asked about, judged by its requests or refused goes on at once: its answer is one that the
//! program's own protocol carries, and comes after it is connected.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use stockade_types::Verdict;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use crate::{
    Proxy,
    connection::{impossible, request},
    dial::{Carries, Route, Unreachable},
    limits::MADE_KEPT,
    upstream::{Failed, Upstream, entry, not_found},
    wire::{Connecting, Word},
};

/// The port of web pages over TLS.
const HTTPS: u16 = 443;

/// A connection, as the kernel of the session knows it.
type Ends = (SocketAddr, SocketAddr);

/// Connections that were made for programs whose own connection comes next.
#[derive(Debug, Default)]
pub(crate) struct Made(Mutex<HashMap<Ends, (Upstream, Instant)>>);

/// Packets of connections that are being made: a first packet that gets no answer is sent again.
type Waiting = Arc<Mutex<HashMap<Ends, Vec<u32>>>>;

impl Made {
    /// Takes what was made for a connection that was accepted now.
    pub(crate) fn take(&self, source: SocketAddr, destination: SocketAddr) -> Option<Upstream> {
        let ends = (plain(source), plain(destination));
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.remove(&ends).map(|(upstream, _)| upstream)
    }

    fn put(&self, ends: Ends, upstream: Upstream) -> Instant {
        let now = Instant::now();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(ends, (upstream, now));
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
                Ok(upstream) => (Word::Go, Some(proxy.made.put(ends, upstream))),
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

/// Makes the connection that a program wants, if policy lets it whatever the program says.
async fn make(proxy: &Proxy, (source, destination): Ends) -> Result<Upstream, Word> {
    // What is not understood here is found out, and refused, once it is accepted.
    let request = request(proxy, source, destination).await.ok_or(Word::Go)?;
    if impossible(&request, destination).is_some() {
        return Err(Word::Go);
    }
    let allowed = proxy.judge.permit(&request);
    let allowed = allowed.ok_or(Word::Go)?;
    let is_read = allowed.decision.http_only || allowed.decision.terms.inspect;
    if is_read || allowed.decision.verdict != Verdict::Allow {
        return Err(Word::Go);
    }
    let terms = &allowed.decision.terms;
    if proxy.budgets.look(&terms.bytes_max, 1).is_err() {
        return Err(Word::Go);
    }
    let private = terms.private;
    // Plain HTTP may go to the proxy as requests, which is known when there is one.
    let plain = proxy.proxies.for_host(&request.host, request.port, true);
    if plain.is_some() && request.port.get() != HTTPS {
        return Err(Word::Go);
    }
    let ways = (&proxy.resolver, &proxy.proxies);
    let route = Route::find(&allowed.permitted, ways, private, Carries::Bytes);
    let route = Box::pin(route).await;
    let entry = entry(&allowed, None, Some("before its first byte".to_owned()));
    let route = match route {
        Ok(route) => route,
        Err(error) if error.is_refusal() => return Err(Word::Go),
        Err(error) => {
            proxy.unreached.note(&request.host, &error);
            let word = word(&error);
            return match not_found(proxy, request.port, entry, error).await {
                Failed::Unreachable(_) | Failed::Refused(_) => Err(word),
                Failed::Unrecorded(_) => Err(Word::Go),
            };
        }
    };
    match Upstream::dial(proxy, entry, route).await {
        Ok(upstream) => Ok(upstream),
        Err(Failed::Unreachable(error)) => Err(word(&error)),
        // The journal failed, so that nothing passes: which is said in the program's own protocol.
        Err(Failed::Refused(_) | Failed::Unrecorded(_)) => Err(Word::Go),
    }
}

/// Returns what a program on the host would have been told.
fn word(error: &Unreachable) -> Word {
    match error {
        Unreachable::Refused { how, .. } => how.word(),
        Unreachable::Name { .. } | Unreachable::Private { .. } | Unreachable::Never { .. } => {
            Word::NoHost
        }
    }
}
