//! The connection to a host: found, checked, recorded, then made.

use std::{sync::Arc, time::Instant};

use stockade_event::Event;
use stockade_policy::{AsRequest, Control, NetRequest, Permitted};
use stockade_types::{ApprovalId, DecisionId, DecisionRecord, Port};
use tokio::time::timeout;

use crate::{
    Proxy as Process,
    alpn::Http,
    closings::Closings,
    dial::{Carries, Route, Silent, Unreachable},
    gate::{Connected, Counters, Server},
    inspection::Unsecured,
    judge::{Allowed, decided},
    limits::HANDSHAKE_WAIT,
    proxies::Proxy,
    unreached::refusal,
    wire::{Decided, Unanswered},
};

/// A connection to a host that policy allowed.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// The way there.
    pub(crate) server: Server,
    /// Which HTTP was agreed on with it.
    pub(crate) http: Http,
    /// The proxy that takes requests for the host.
    pub(crate) forward: Option<Proxy>,
    opened: Opened,
}

/// A connection whose decision is recorded; dropping it, on whatever way, records its end.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What it was made for.
    request: NetRequest,
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
    /// Resolves, checks, records the decision with the address, and connects; or takes what was
    /// `made` for the same request before, whose decision is recorded. `said` is the server name in
    /// a TLS `ClientHello` and what else is known.
    pub(crate) async fn open(
        proxy: &Process,
        allowed: &Allowed<NetRequest>,
        (made, carries): (Option<Self>, Carries),
        said: (Option<String>, Option<String>),
    ) -> Result<Self, Failed> {
        let request = allowed.permitted.get();
        let (sni, detail) = said;
        if let Some(made) = made.filter(|made| made.opened.is_for(request)) {
            return Ok(made);
        }
        let entry = entry(allowed, sni, detail);
        let private = allowed.decision.terms.private;
        let ways = (&proxy.resolver, &proxy.proxies, &*proxy.judge);
        match Box::pin(Route::find(&allowed.permitted, ways, private, carries)).await {
            Ok(route) => Self::dial(proxy, entry, route).await,
            Err(error) => {
                proxy.unreached.note(&request.host, &error);
                Err(not_found(proxy, request.port, entry, error).await)
            }
        }
    }

    /// Records the decision with the address, and connects.
    pub(crate) async fn dial(
        proxy: &Process,
        entry: Decided,
        route: Route<'_>,
    ) -> Result<Self, Failed> {
        let (permitted, carries) = (route.permitted(), route.carries());
        let request = permitted.get().clone();
        let through = route.through();
        let detail = entry.detail.iter().chain(&through);
        let detail: Vec<&str> = detail.map(String::as_str).collect();
        let forward = route.forwards().cloned();
        let entry = Decided {
            address: route.first(),
            detail: (!detail.is_empty()).then(|| detail.join(", ")),
            ..entry
        };
        let record = proxy
            .judge
            .record(entry)
            .await
            .map_err(Failed::Unrecorded)?;
        let mut opened = Opened {
            request,
            record,
            since: Instant::now(),
            counters: Arc::default(),
            closings: proxy.closings.clone(),
            failed: None,
        };
        let connected = match route.dial().await {
            Ok(connected) => connected,
            Err(error) => {
                opened.failed = Some(error.outcome());
                return Err(Failed::Unreachable(error));
            }
        };
        let connected = match carries {
            Carries::Requests | Carries::Bytes => connected,
            Carries::Sealed(best) => match secure(proxy, connected, permitted, best).await {
                Ok(connected) => connected,
                Err(unsecured) => {
                    opened.failed = Some(unsecured.to_string());
                    return Err(unsecured.failed(proxy, permitted.get()).await);
                }
            },
        };
        Ok(Self {
            http: connected.http(),
            server: connected.into_server(Arc::clone(&opened.counters), Arc::clone(&proxy.budgets)),
            forward,
            opened,
        })
    }
}

/// Sets TLS up, where it is opened on our side of the connection.
async fn secure(
    proxy: &Process,
    connected: Connected,
    permitted: &Permitted<NetRequest>,
    best: Http,
) -> Result<Connected, Unsecured> {
    let Some(inspection) = &proxy.inspection else {
        return Err(Unsecured::Broken(
            "TLS is not opened in this session".to_owned(),
        ));
    };
    let secured = connected.secure(permitted, inspection.client(best));
    match timeout(HANDSHAKE_WAIT, secured).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => Err(Unsecured::of(&error)),
        Err(_) => Err(Unsecured::Broken(
            "the TLS handshake took too long".to_owned(),
        )),
    }
}

impl Unsecured {
    /// Records it, where policy is the cause.
    async fn failed(self, proxy: &Process, request: &NetRequest) -> Failed {
        match self {
            Self::Broken(why) => Failed::Unreachable(Unreachable::Refused {
                host: request.host.to_string(),
                how: Silent::Other(why),
            }),
            Self::Certificate(why) => {
                let reason = format!("the certificate of `{}` is not valid: {why}", request.host);
                let remedy = "have the server show a valid one, or name the certificate of its \
                              authority in `network.upstream_ca`";
                let decision = Control::ServerCertificate.denies(reason, remedy);
                let entry = decided(request.as_request(), decision);
                Failed::Refused(Box::new(proxy.judge.record(entry).await))
            }
        }
    }
}

impl Upstream {
    /// Returns the decision that allowed it.
    pub(crate) const fn decision(&self) -> DecisionId {
        self.opened.record.decision
    }

    /// Closes it; what is left tells of its end when it is dropped.
    pub(crate) fn close(self) -> Opened {
        self.opened
    }

    /// Takes it apart; the second part tells of its end when it is dropped.
    pub(crate) fn into_parts(self) -> (Server, Opened) {
        (self.server, self.opened)
    }
}

impl Opened {
    /// Tells whether it is what `request`, which is allowed by itself, asks for. A program that has
    /// closed its end already is not known any more; another one can have got the same port.
    fn is_for(&self, request: &NetRequest) -> bool {
        let own = &self.request;
        (&own.host, own.port) == (&request.host, request.port)
            && (request.subject.id.is_none() || own.subject == request.subject)
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

/// Makes what is recorded of an allowed connection.
pub(crate) fn entry(
    allowed: &Allowed<NetRequest>,
    sni: Option<String>,
    detail: Option<String>,
) -> Decided {
    Decided {
        sni,
        detail,
        approvals: allowed.approval_ids(),
        ..decided(
            allowed.permitted.get().as_request(),
            allowed.decision.clone(),
        )
    }
}

/// Records what became of an allowed connection without an address.
pub(crate) async fn not_found(
    proxy: &Process,
    port: Port,
    entry: Decided,
    error: Unreachable,
) -> Failed {
    if !error.is_refusal() {
        let entry = Decided {
            detail: Some(error.outcome()),
            ..entry
        };
        return match proxy.judge.record(entry).await {
            Ok(_) => Failed::Unreachable(error),
            Err(unanswered) => Failed::Unrecorded(unanswered),
        };
    }
    let decision = refusal(&error, port, &entry.decision);
    let entry = Decided {
        decision,
        approvals: Vec::<ApprovalId>::new(),
        ..entry
    };
    Failed::Refused(Box::new(proxy.judge.record(entry).await))
}
