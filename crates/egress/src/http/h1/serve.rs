//! Serving one client connection that speaks HTTP/1: each request is judged, then passed on.

use std::net::SocketAddr;

use stockade_policy::{AsRequest as _, NetRequest};
use tokio::time::timeout;

use super::{
    Malformed,
    answer::send_answer,
    head::{OTHER_UPGRADE, RequestHead, parse_request},
    lines::Scanner,
    proxied::leads_elsewhere,
};
use crate::{
    dial::Carries,
    http::{Admitted, Carrier, Way},
    judge::Waiter,
    limits::{HANDSHAKE_WAIT, HEAD_READ_BYTES, KEEP_ALIVE_WAIT},
    stream::Stream,
    upstream::Upstream,
};

/// A client connection that speaks HTTP, and where it leads.
pub(crate) struct Exchange<'a> {
    /// Its connection.
    pub(crate) carrier: Carrier<'a>,
    /// The client.
    pub(crate) client: &'a mut Stream,
    /// The address it connected to.
    pub(crate) destination: SocketAddr,
    /// What was read of it and not used.
    pub(crate) pending: Vec<u8>,
    /// How the server is reached.
    pub(crate) carries: Carries,
    /// The connection that was made before the client was connected.
    pub(crate) made: Option<Upstream>,
    /// The connection to the host, once there is one.
    pub(crate) upstream: &'a mut Option<Upstream>,
    /// The client asks us as a proxy: each request says where it goes, and is read here as long as that
    /// is where the connection leads.
    pub(crate) is_proxied: bool,
}

/// How the requests of a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// With its connection.
    Whole,
    /// With one, not used, that is for another host.
    Elsewhere,
}

/// What comes next of a client.
enum Heard {
    Request(RequestHead),
    /// A request for another host, which stays unread.
    Elsewhere,
}

/// What becomes of the client after one request.
pub(super) enum Next {
    /// It may send another request.
    Another,
    /// Its connection is to be closed.
    Close,
}

/// Serves requests until the connection ends, or one is for another host.
pub(crate) async fn serve(exchange: &mut Exchange<'_>) -> Served {
    let mut first = true;
    loop {
        let head = match read_head(exchange, first).await {
            Ok(Some(Heard::Request(head))) => head,
            Ok(Some(Heard::Elsewhere)) => return Served::Elsewhere,
            Ok(None) => return Served::Whole,
            Err(malformed) => {
                exchange.refuse_malformed(malformed).await;
                return Served::Whole;
            }
        };
        match exchange.request(head, first).await {
            Next::Another => first = false,
            Next::Close => return Served::Whole,
        }
    }
}

/// Reads the next request head; `None` when there will be none.
async fn read_head(exchange: &mut Exchange<'_>, first: bool) -> Result<Option<Heard>, Malformed> {
    if exchange.pending.is_empty() && !first && !next_request_comes(exchange).await {
        return Ok(None);
    }
    let (mut scanner, mut wishes) = (Scanner::default(), Scanner::default());
    let NetRequest { host, port, .. } = exchange.carrier.request();
    let here = exchange.is_proxied.then_some((host, port.get()));
    let (mut client, _) = exchange.client.split();
    let pending = &mut exchange.pending;
    let whole = async {
        loop {
            if let Some(here) = here
                && leads_elsewhere(&mut wishes, pending, here)?
            {
                return Ok(Some(Heard::Elsewhere));
            }
            if let Some((head, length)) = parse_request(&mut scanner, pending)? {
                pending.drain(..length);
                let head = match here {
                    Some(_) => head.without_proxy_fields(),
                    None => head,
                };
                return Ok(Some(Heard::Request(head)));
            }
            match client.fill(pending, HEAD_READ_BYTES).await {
                Ok(0) if !pending.is_empty() => {
                    return Err(Malformed("the client ended before its head did"));
                }
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    };
    timeout(HANDSHAKE_WAIT, whole)
        .await
        .unwrap_or(Err(Malformed("the head was not complete in time")))
}

/// Waits on a kept connection; false when either side ends it.
async fn next_request_comes(exchange: &mut Exchange<'_>) -> bool {
    let server = async {
        match exchange.upstream.as_ref() {
            Some(upstream) => upstream.server.speaks().await,
            None => std::future::pending().await,
        }
    };
    let either = async {
        tokio::select! {
            biased;
            speaks = exchange.client.speaks() => matches!(speaks, Ok(true)),
            // A server that speaks unasked ends the connection (RFC 9112 section 9.5).
            () = server => false,
        }
    };
    timeout(KEEP_ALIVE_WAIT, either).await.unwrap_or(false)
}

impl Exchange<'_> {
    async fn request(&mut self, head: RequestHead, first: bool) -> Next {
        if self.carrier.renews(&head.head) {
            return Box::pin(self.renew(head)).await;
        }
        let RequestHead { head, carried } = head;
        let mut opening = self.read_opening(&head, carried.framing).await;
        let waiter = Waiter::Connection {
            client: self.client,
            destination: self.destination,
        };
        let ages = &self.carrier.proxy.ages;
        Box::pin(ages.complete(self.carrier, &head, &mut opening.meaning, waiter)).await;
        let request = self.carrier.addressed(head, carried, opening);
        let way = match &self.upstream {
            Some(_) => Way::Open,
            None => Way::Closed(Box::pin(async {
                let detail = match self.carries {
                    Carries::Sealed(_) => "http in tls that was opened",
                    Carries::Requests | Carries::Bytes => "http",
                };
                let Carrier { proxy, allowed, .. } = &self.carrier;
                let made = (self.made.take(), self.carries);
                let said = (None, Some(detail.to_owned()));
                *self.upstream = Some(Upstream::open(proxy, allowed, made, said).await?);
                Ok(())
            })),
        };
        // In a box of its own: what a request needs to be judged is not kept while it is sent.
        let admitted = Box::pin(self.carrier.admit(&request, waiter, way)).await;
        let Admitted {
            allowed,
            mut revocations,
            uses,
            decision,
        } = match admitted {
            Ok(admitted) => admitted,
            Err(answer) => {
                send_answer(self.client, &request.head.method, &answer).await;
                return Next::Close;
            }
        };
        let ids = allowed.approval_ids();
        let (proxy, http) = (self.carrier.proxy, allowed.permitted.get().as_request());
        let judge = &proxy.judge;
        let denied = || judge.denies_open(&http, &allowed.decision);
        tokio::select! {
            next = self.forward((&allowed, &uses, decision), first) => next,
            closing = revocations.any_of(&ids, denied) => {
                self.client.reset();
                judge.closed(http.clone(), closing).await;
                Next::Close
            }
        }
    }

    pub(super) async fn refuse_malformed(&mut self, malformed: Malformed) {
        let remedy = if malformed == OTHER_UPGRADE {
            "name the server as a service of the machine in `[network.services]`: what is said to one \
             is passed on as it is"
        } else {
            "send the request in strict HTTP/1.1"
        };
        let answer = self.carrier.malformed(malformed.0, remedy).await;
        send_answer(self.client, "GET", &answer).await;
    }

    /// Records that a server's answer was not passed on, and says so where nothing of it was.
    pub(super) async fn refuse_answer(&mut self, malformed: Malformed, started: bool) {
        let answer = self.carrier.bad_answer(malformed.0).await;
        if started {
            // Half an answer must not look like a whole one.
            return self.client.reset();
        }
        send_answer(self.client, "GET", &answer).await;
    }
}
