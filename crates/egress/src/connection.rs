//! One connection of the session, from `accept` to its last byte.
//!
//! | stage | what is known | what comes next |
//! |---|---|---|
//! | accepted | where the packets went | attributed |
//! | attributed | host, port and program; what policy says without a question | heard |
//! | heard | what the client speaks, or that it waits | judged, or refused |
//! | judged | the proof, and what the connection will carry | opened; sealed; passing, for requests |
//! | sealed | that TLS of the client is to be opened | passing its requests; ended, if it does not go along |
//! | opened | the server, with its decision recorded | passing; refused, if the client waited and then says what it must not |
//! | passing | everything | ended; elsewhere, for a client of a proxy |
//! | elsewhere | that the next request is for another host | accepted, at the proxy inside |
//! | refused | the decision | ended: it is recorded and the client is told |
//!
//! A service of the machine is not listened to before it is judged: policy names the service itself,
//! so there is no other host that the bytes could be for. A connection that carries requests is judged
//! before its server is opened, and each of its requests again; the server is opened for the first
//! request that may pass.

mod refusal;

use std::{net::SocketAddr, sync::Arc};

use stockade_policy::{Approvals, AsRequest, Decision, NetRequest};
use stockade_types::{ApprovalId, Verdict};
use tokio::time::timeout;

use crate::{
    Proxy,
    alpn::Http,
    choice::{Plan, choose, tls_plan},
    destination::{impossible, request},
    dial::Carries,
    hold::Early,
    http::{
        Carrier,
        h1::{self, Exchange, Served},
        h2,
    },
    judge::{Allowed, Judgement, Waiter, decided},
    limits::{FIRST_BYTE_WINDOW, HANDSHAKE_WAIT, LINE_PAUSE, RELAY_IDLE},
    relay::{Answers, Cut, relay},
    sniff::{Flight, Patience, Speech, first_flight},
    ssh::Greeting,
    stream::Stream,
    upstream::{Opened, Upstream},
    watch::Watch,
    wire::{Decided, Revocations},
};

/// How far a connection is; the table of this module says what each stage knows.
enum Stage {
    Attributed,
    Heard {
        looked: Box<Decision>,
        flight: Flight,
    },
    Judged(Box<Judged>),
    Sealed(Box<Allowed<NetRequest>>),
    Opened {
        allowed: Box<Allowed<NetRequest>>,
        upstream: Box<Upstream>,
    },
    Passing {
        allowed: Box<Allowed<NetRequest>>,
        what: Passing,
    },
    Refused {
        decision: Box<Decision>,
        flight: Flight,
        /// The connection to the server that is closed already; dropped at the end, which tells of it.
        opened: Option<Box<Opened>>,
    },
    /// The next request is for another host.
    Elsewhere,
    Ended,
}

/// A connection that may be made.
struct Judged {
    allowed: Box<Allowed<NetRequest>>,
    plan: Plan,
}

/// What a connection carries.
enum Passing {
    /// Requests, judged one by one; the server, where it is open already.
    Requests(Option<Box<Upstream>>),
    /// Requests side by side, each judged by itself.
    Streams,
    /// Bytes as they are.
    Bytes(Box<Upstream>),
}

/// A client and where it wants to go.
struct Link<'a> {
    proxy: &'a Arc<Proxy>,
    client: Stream,
    destination: SocketAddr,
    request: NetRequest,
    /// It leads to a service of the machine.
    is_service: bool,
    /// What was read of the client and not passed on.
    head: Vec<u8>,
    /// The connection that was made before the client was connected.
    made: Option<Upstream>,
    /// The approvals that were given to the connection then.
    held: Approvals,
    /// Subscribed before anything is asked, so that no revocation falls between.
    revocations: Revocations,
    /// The client asks us as a proxy, request by request.
    is_proxied: bool,
}

/// A connection whose client said where it wants to go.
pub(crate) struct Asked {
    pub(crate) client: Stream,
    /// The address it connected to.
    pub(crate) destination: SocketAddr,
    pub(crate) request: NetRequest,
    /// What was read of the client and is not for us.
    pub(crate) head: Vec<u8>,
    /// What was settled before the client was told to go on.
    pub(crate) early: Early,
    /// It goes on saying so, with each request.
    pub(crate) is_proxied: bool,
}

/// Serves one accepted connection.
pub(crate) async fn serve(proxy: &Arc<Proxy>, client: Stream, destination: SocketAddr) {
    let Some((request, early)) = find_out(proxy, &client, destination).await else {
        // It is gone already, so there is nothing to judge and nothing passes.
        return client.reset();
    };
    let asked = Asked {
        client,
        destination,
        request,
        head: Vec::new(),
        early,
        is_proxied: false,
    };
    // It leads where its packets went, and nowhere else.
    drop(go_on(proxy, asked).await);
}

/// Serves a connection whose destination is known. If its client then asks as a proxy's does for another
/// one, it comes back, with what it said.
pub(crate) async fn go_on(proxy: &Arc<Proxy>, asked: Asked) -> Option<(Stream, Vec<u8>)> {
    let Asked {
        client,
        destination,
        request,
        head,
        early,
        is_proxied,
    } = asked;
    let service = proxy.resolver.service(&request.host, request.port);
    let mut link = Link {
        proxy,
        client,
        destination,
        // What is said to us as a proxy is no service's to hear.
        is_service: service.is_some() && !is_proxied,
        request,
        head,
        made: early.upstream,
        held: early.held,
        revocations: proxy.supervisor.revocations(),
        is_proxied,
    };
    let mut stage = Stage::Attributed;
    loop {
        // Each in a box of its own: what a connection needs to be judged is not kept while it lasts.
        stage = match stage {
            Stage::Attributed => Box::pin(link.hear()).await,
            Stage::Heard { looked, flight } => Box::pin(link.judge(*looked, flight)).await,
            Stage::Judged(judged) => Box::pin(link.open(*judged)).await,
            Stage::Sealed(allowed) => match Box::pin(link.unseal(allowed)).await {
                Some((unsealed, stage)) => {
                    link = unsealed;
                    stage
                }
                None => return None,
            },
            Stage::Opened { allowed, upstream } => Box::pin(link.turn(allowed, upstream)).await,
            Stage::Passing {
                allowed,
                what: Passing::Streams,
            } => {
                Box::pin(link.streams(allowed)).await;
                return None;
            }
            Stage::Passing { allowed, what } => Box::pin(link.pass(&allowed, what)).await,
            Stage::Refused {
                decision,
                flight,
                opened,
            } => {
                Box::pin(link.refuse(*decision, &flight)).await;
                drop(opened);
                Stage::Ended
            }
            Stage::Elsewhere => return Some((link.client, link.head)),
            Stage::Ended => return None,
        };
    }
}

/// Finds out who wants to go where, and what was made for it already.
async fn find_out(
    proxy: &Proxy,
    client: &Stream,
    destination: SocketAddr,
) -> Option<(NetRequest, Early)> {
    let peer = client.peer_addr().ok()?;
    let early = proxy.made.take(peer, destination);
    let request = request(proxy, peer, destination).await?;
    Some((request, early))
}

impl Link<'_> {
    /// Looks at what policy says, and reads what the client says first.
    async fn hear(&mut self) -> Stage {
        let looked = impossible(&self.request)
            .unwrap_or_else(|| self.proxy.judge.look(&self.request.as_request()));
        self.is_service &= !looked.http_only;
        let flight = if self.is_service {
            Flight::Silent
        } else {
            self.listen(&looked).await
        };
        let looked = Box::new(looked);
        Stage::Heard { looked, flight }
    }

    /// Judges the connection, whose first bytes must be for where it leads.
    async fn judge(&mut self, looked: Decision, flight: Flight) -> Stage {
        if looked.verdict == Verdict::Deny {
            return Stage::refused(looked, flight);
        }
        if looked.verdict == Verdict::Ask
            && !self.is_service
            && let Some(refused) = self.proxy.out_of_reach(&self.request, &looked)
        {
            return Stage::refused(refused, flight);
        }
        let plan = match self.choose(&looked, &flight) {
            Ok(plan) => plan,
            Err(decision) => return Stage::refused(*decision, flight),
        };
        let waiter = Waiter::Connection {
            client: &self.client,
            destination: self.destination,
        };
        let judged = self
            .proxy
            .judge
            .judge(&self.request, &self.held, waiter)
            .await;
        let allowed = match judged {
            Judgement::Permitted(allowed) => allowed,
            Judgement::Denied(decision) => return Stage::refused(*decision, flight),
        };
        let is_read = matches!(plan, Plan::Http | Plan::Inspect);
        if !allowed.decision.http_only || is_read {
            return self.begin(Judged { allowed, plan }, flight);
        }
        // Only the final decision says whether requests must be readable; an ask does not yet.
        let again = if plan == Plan::Listen {
            self.listen(&allowed.decision).await
        } else {
            flight
        };
        match self.choose(&allowed.decision, &again) {
            Ok(plan) => self.begin(Judged { allowed, plan }, again),
            Err(decision) => Stage::refused(*decision, again),
        }
    }

    /// Lets a connection begin, where its rules let out what it carries as a whole; requests on it are
    /// judged by themselves.
    fn begin(&self, judged: Judged, flight: Flight) -> Stage {
        let terms = &judged.allowed.decision.terms;
        match judged.plan {
            Plan::Http | Plan::Inspect => {}
            Plan::Relay { .. } | Plan::Listen => {
                let rate = self.proxy.rates.take(&terms.requests_max);
                let rate = rate.map_err(|more| more.decision);
                let room = || self.proxy.budgets.look(&terms.bytes_max, 1);
                if let Err(decision) = rate.and_then(|()| room()) {
                    return Stage::refused(*decision, flight);
                }
            }
        }
        Stage::Judged(Box::new(judged))
    }

    /// Opens the server, where the first bytes are not to be judged by themselves.
    async fn open(&mut self, judged: Judged) -> Stage {
        let Judged { allowed, plan } = judged;
        let (waits, said) = match plan {
            Plan::Http => {
                let what = Passing::Requests(None);
                return Stage::Passing { allowed, what };
            }
            Plan::Inspect => return Stage::Sealed(allowed),
            Plan::Relay { sni, detail } => (false, (sni, detail)),
            Plan::Listen => {
                let detail = "opaque: the client waited for the server";
                (true, (None, Some(detail.to_owned())))
            }
        };
        let made = (self.made.take(), Carries::Bytes);
        let upstream = match Upstream::open(self.proxy, &allowed, made, said).await {
            Ok(upstream) => Box::new(upstream),
            Err(failed) => {
                self.tell_failed(failed).await;
                return Stage::Ended;
            }
        };
        if waits {
            return Stage::Opened { allowed, upstream };
        }
        let what = Passing::Bytes(upstream);
        Stage::Passing { allowed, what }
    }

    /// Opens the TLS of the client; what is inside are requests.
    async fn unseal(mut self, allowed: Box<Allowed<NetRequest>>) -> Option<(Self, Stage)> {
        let inspection = self.proxy.inspection.as_ref()?;
        let socket = self.client.into_socket()?;
        let head = std::mem::take(&mut self.head);
        match inspection.open(socket, head, &self.request).await {
            Ok(opened) => {
                let http = opened.http();
                self.client = opened;
                let what = match http {
                    Http::Two => Passing::Streams,
                    Http::One | Http::Unsaid if allowed.decision.http_only => {
                        Passing::Requests(None)
                    }
                    Http::One | Http::Unsaid => {
                        let stage = self.inside(allowed, http).await;
                        return Some((self, stage));
                    }
                };
                Some((self, Stage::Passing { allowed, what }))
            }
            Err(decision) => {
                let sni = Some(self.request.host.to_string());
                let entry = decided(self.request.as_request(), *decision);
                // The client is gone either way; the event is for the record.
                drop(self.proxy.judge.record(Decided { sni, ..entry }).await);
                None
            }
        }
    }

    /// Looks at what is inside TLS to a host that is allowed as a whole: what is no HTTP passes as it is,
    /// and the record says so.
    async fn inside(&mut self, allowed: Box<Allowed<NetRequest>>, http: Http) -> Stage {
        let flight = self.listen(&allowed.decision).await;
        if flight == Flight::Speaks(Speech::Http) {
            let what = Passing::Requests(None);
            return Stage::Passing { allowed, what };
        }
        let detail = "opaque in tls that was opened".to_owned();
        let made = (None, Carries::Sealed(http));
        match Upstream::open(self.proxy, &allowed, made, (None, Some(detail))).await {
            Ok(upstream) if flight == Flight::Silent => Stage::Opened {
                allowed,
                upstream: Box::new(upstream),
            },
            Ok(upstream) => {
                let what = Passing::Bytes(Box::new(upstream));
                Stage::Passing { allowed, what }
            }
            Err(failed) => {
                self.tell_failed(failed).await;
                Stage::Ended
            }
        }
    }

    /// Sees who speaks first, for a client that was silent. If it is the client after all, its first
    /// bytes are checked as any other's.
    async fn turn(&mut self, allowed: Box<Allowed<NetRequest>>, upstream: Box<Upstream>) -> Stage {
        let ids = allowed.approval_ids();
        let client_speaks = timeout(RELAY_IDLE, async {
            tokio::select! {
                biased;
                speaks = self.client.speaks() => matches!(speaks, Ok(true)),
                () = upstream.server.speaks() => false,
            }
        });
        let (judge, request) = (&self.proxy.judge, self.request.as_request());
        let denied = || judge.denies_open(&request, &allowed.decision);
        let client_speaks = tokio::select! {
            speaks = client_speaks => speaks.unwrap_or(false),
            closing = self.revocations.any_of(&ids, denied) => {
                judge.closed(self.request.as_request(), closing).await;
                return Stage::Ended;
            }
        };
        if !client_speaks {
            let what = Passing::Bytes(upstream);
            return Stage::Passing { allowed, what };
        }
        let flight = self.listen(&allowed.decision).await;
        let what = match self.choose(&allowed.decision, &flight) {
            // What is inside has a server of its own, with TLS on that side too.
            Ok(Plan::Inspect) => return Stage::Sealed(allowed),
            Ok(Plan::Http) => Passing::Requests(Some(upstream)),
            Ok(Plan::Relay { .. } | Plan::Listen) => Passing::Bytes(upstream),
            Err(decision) => {
                return Stage::Refused {
                    decision,
                    flight,
                    opened: Some(Box::new(upstream.close())),
                };
            }
        };
        Stage::Passing { allowed, what }
    }

    /// Passes requests or bytes until the end, or until what allowed them is taken back.
    async fn pass(&mut self, allowed: &Allowed<NetRequest>, what: Passing) -> Stage {
        let ids = allowed.approval_ids();
        match what {
            Passing::Requests(upstream) => self.requests(allowed, upstream, &ids).await,
            Passing::Bytes(upstream) => {
                self.bytes(allowed, upstream, &ids).await;
                Stage::Ended
            }
            // The client's end goes with them.
            Passing::Streams => Stage::Ended,
        }
    }

    /// Passes requests side by side.
    async fn streams(self, allowed: Box<Allowed<NetRequest>>) {
        let link = h2::Link::new(Arc::clone(self.proxy), allowed);
        if let Some(client) = self.client.into_tls() {
            h2::serve(link, client, self.revocations).await;
        }
    }

    async fn requests(
        &mut self,
        allowed: &Allowed<NetRequest>,
        upstream: Option<Box<Upstream>>,
        ids: &[ApprovalId],
    ) -> Stage {
        let mut upstream = upstream.map(|upstream| *upstream);
        let carries = if self.client.is_sealed() {
            Carries::Sealed(Http::One)
        } else {
            Carries::Requests
        };
        let mut exchange = Exchange {
            carrier: Carrier {
                proxy: self.proxy,
                allowed,
                sealed: carries != Carries::Requests,
            },
            client: &mut self.client,
            destination: self.destination,
            pending: std::mem::take(&mut self.head),
            carries,
            made: self.made.take(),
            upstream: &mut upstream,
            is_proxied: self.is_proxied,
        };
        let (judge, request) = (&self.proxy.judge, self.request.as_request());
        let denied = || judge.denies_open(&request, &allowed.decision);
        tokio::select! {
            served = h1::serve(&mut exchange) => match served {
                Served::Whole => Stage::Ended,
                Served::Elsewhere => {
                    self.head = exchange.pending;
                    Stage::Elsewhere
                }
            },
            closing = self.revocations.any_of(ids, denied) => {
                exchange.client.reset();
                judge.closed(self.request.as_request(), closing).await;
                Stage::Ended
            }
        }
    }

    /// Passes bytes both ways; cut off if the first of them, read on, are what must not pass.
    async fn bytes(
        &mut self,
        allowed: &Allowed<NetRequest>,
        mut upstream: Box<Upstream>,
        ids: &[ApprovalId],
    ) {
        let head = std::mem::take(&mut self.head);
        let watch = Watch::new(&head);
        let place = (&self.request.host, self.request.port);
        let (keys, supervisor) = (&self.proxy.ssh_keys, &self.proxy.supervisor);
        let answers = Greeting::new(keys, supervisor, place, upstream.decision())
            .map_or(Answers::AsIs, Answers::Greeting);
        let (client, server) = (&mut self.client, &mut upstream.server);
        let (judge, request) = (&self.proxy.judge, self.request.as_request());
        let denied = || judge.denies_open(&request, &allowed.decision);
        let ended = tokio::select! {
            ended = relay(client, server, allowed, (head, watch), (Vec::new(), answers)) => ended,
            closing = self.revocations.any_of(ids, denied) => {
                judge.closed(request.clone(), closing).await;
                Ok(())
            }
        };
        // However it ended, both sides are closed and the event says what passed.
        if let Err(Cut::Refused(decision)) = ended {
            let entry = Decided {
                detail: Some("refused while it was open".to_owned()),
                ..decided(self.request.as_request(), *decision)
            };
            drop(self.proxy.judge.record(entry).await);
        }
    }

    /// Says what the connection will carry; a service is passed everything, whatever it speaks.
    fn choose(&self, looked: &Decision, flight: &Flight) -> Result<Plan, Box<Decision>> {
        if self.is_service {
            return Ok(Plan::Relay {
                sni: None,
                detail: Some("service of the machine".to_owned()),
            });
        }
        // What is inside TLS is not looked into once more.
        let is_read = (looked.http_only || looked.terms.inspect) && !self.client.is_sealed();
        match flight {
            Flight::Speaks(Speech::Tls(hello)) if is_read && self.proxy.inspection.is_some() => {
                tls_plan(&self.request, hello).map(|_| Plan::Inspect)
            }
            _ => choose(&self.request, looked, flight),
        }
    }

    /// Reads what the client says first.
    async fn listen(&mut self, looked: &Decision) -> Flight {
        let must_speak = looked.http_only && looked.verdict != Verdict::Deny;
        let patience = if must_speak {
            Patience {
                first_byte: HANDSHAKE_WAIT,
                line: HANDSHAKE_WAIT,
                whole: HANDSHAKE_WAIT,
            }
        } else {
            Patience {
                first_byte: FIRST_BYTE_WINDOW,
                line: LINE_PAUSE,
                whole: HANDSHAKE_WAIT,
            }
        };
        match first_flight(&mut self.client, &mut self.head, patience).await {
            // What it said is all there will be.
            Ok(Flight::Ended) | Err(_) => Flight::ended(&self.head),
            Ok(flight) => flight,
        }
    }
}

impl Stage {
    fn refused(decision: Decision, flight: Flight) -> Self {
        Self::Refused {
            decision: Box::new(decision),
            flight,
            opened: None,
        }
    }
}
