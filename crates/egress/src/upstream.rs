//! The connection to a host: found, checked, recorded, then made.

use std::{sync::Arc, time::Instant};

use stockade_event::{Durability, Event};
use stockade_policy::Request;
use stockade_types::{ApprovalId, DecisionRecord};
use tokio::net::TcpStream;

use crate::{
    Proxy,
    closings::Closings,
    dial::{Route, Unreachable},
    judge::{Allowed, decided},
    relay::Counters,
    unreached::refusal,
    wire::{Decided, Unanswered},
};

/// A connection to a host that policy allowed.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// The connection.
    pub(crate) stream: TcpStream,
    /// Bytes that passed.
    pub(crate) counters: Arc<Counters>,
    opened: Opened,
}

/// A connection whose decision is recorded; dropping it, on whatever way, records its end.
#[derive(Debug)]
pub(crate) struct Opened {
    record: DecisionRecord,
    since: Instant,
    counters: Arc<Counters>,
    closings: Closings,
    /// Why it could not be made.
    failed: Option<String>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Policy is the cause: recorded as a deny.
    Refused(Box<Result<DecisionRecord, Unanswered>>),
    /// The network is the cause.
    Unreachable(Unreachable),
    /// The decision could not be recorded.
    Unrecorded(Unanswered),
}

impl Upstream {
    /// Resolves, checks, records the decision with the address, and connects.
    pub(crate) async fn open(
        proxy: &Proxy,
        allowed: &Allowed,
        sni: Option<String>,
        detail: Option<String>,
    ) -> Result<Self, Failed> {
        let request = allowed.permitted.get();
        let decision = &allowed.decision;
        let entry = Decided {
            sni,
            detail,
            approvals: allowed.approval_ids(),
            ..decided(request.clone(), decision.clone())
        };
        let route = match Box::pin(Route::find(
            &allowed.permitted,
            &proxy.resolver,
            decision.private,
        ))
        .await
        {
            Ok(route) => route,
            Err(error) => {
                if let Request::Net(net) = request {
                    proxy.unreached.note(&net.host, &error);
                }
                return Err(not_found(proxy, entry, error).await);
            }
        };
        let entry = Decided {
            address: route.first(),
            ..entry
        };
        let record = proxy
            .judge
            .record(entry)
            .await
            .map_err(Failed::Unrecorded)?;
        let mut opened = Opened {
            record,
            since: Instant::now(),
            counters: Arc::default(),
            closings: proxy.closings.clone(),
            failed: None,
        };
        let stream = match route.dial().await {
            Ok(stream) => stream,
            Err(error) => {
                opened.failed = Some(error.full());
                return Err(Failed::Unreachable(error));
            }
        };
        Ok(Self {
            stream,
            counters: opened.counters(),
            opened,
        })
    }

    /// Takes the stream out; what is left tells of the end.
    pub(crate) fn into_parts(self) -> (TcpStream, Opened) {
        (self.stream, self.opened)
    }
}

impl Opened {
    /// Returns the counters.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let target = self.record.target.clone();
        self.closings.add(Event::ConnectionClosed {
            host: target.host.unwrap_or_default(),
            port: target.port.unwrap_or_default(),
            decision: self.record.decision,
            bytes_out: self.counters.bytes_out(),
            bytes_in: self.counters.bytes_in(),
            duration_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            failed: self.failed.take(),
        });
    }
}

/// Records what became of an allowed connection without an address.
async fn not_found(proxy: &Proxy, entry: Decided, error: Unreachable) -> Failed {
    if !error.is_refusal() {
        let entry = Decided {
            detail: Some(error.full()),
            ..entry
        };
        return match proxy.judge.record(entry).await {
            Ok(_) => Failed::Unreachable(error),
            Err(unanswered) => Failed::Unrecorded(unanswered),
        };
    }
    let decision = refusal(&error, &entry.decision);
    let entry = Decided {
        decision,
        approvals: Vec::<ApprovalId>::new(),
        durability: Durability::Written,
        ..entry
    };
    Failed::Refused(Box::new(proxy.judge.record(entry).await))
}
