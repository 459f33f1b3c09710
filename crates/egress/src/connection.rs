//! One connection of the session, from `accept` to its last byte.

use std::{net::SocketAddr, sync::PoisonError};

use stockade_policy::{Approvals, Control, Decision, NetRequest, Request};
use stockade_types::{Host, HostName, Port, RawText, Verdict};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::{
    Proxy,
    addresses::is_synthetic_space,
    dial::Carries,
    http::{self, Exchange, linger},
    judge::{Allowed, Judgement, Waiter, decided},
    limits::{FIRST_BYTE_WINDOW, HANDSHAKE_WAIT, LINE_PAUSE, REFUSAL_WAIT, RELAY_IDLE},
    relay::{Cut, relay_watched, reset},
    sniff::{Flight, Patience, Speech, first_flight},
    tls::{self, ALERT_ACCESS_DENIED, ClientHello},
    upstream::{Failed, Upstream},
    watch::Watch,
    wire::{Decided, Protocol, Revocations},
};

/// A client and where it wants to go.
struct Link<'a> {
    proxy: &'a Proxy,
    client: TcpStream,
    destination: SocketAddr,
    request: NetRequest,
    /// What was read of the client and not passed on.
    head: Vec<u8>,
    /// The connection that was made before the client was connected.
    made: Option<Upstream>,
}

/// What will be done with a connection, as far as its first bytes allow to say.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Requests are judged one by one.
    Http,
    /// Bytes are passed on as they are.
    Relay {
        sni: Option<String>,
        detail: Option<String>,
    },
    /// The client waits for the server.
    Listen,
}

/// Serves one accepted connection.
pub(crate) async fn serve(proxy: &Proxy, client: TcpStream, destination: SocketAddr) {
    let Some((request, made)) = find_out(proxy, &client, destination).await else {
        // It is gone already, so there is nothing to judge and nothing passes.
        return reset(&client);
    };
    let mut link = Link {
        proxy,
        client,
        destination,
        request,
        head: Vec::new(),
        made,
    };
    // Subscribed before anything is asked, so that no revocation falls between.
    let mut revocations = proxy.supervisor.revocations();
    let looked = impossible(&link.request, destination)
        .unwrap_or_else(|| proxy.judge.look(&Request::Net(link.request.clone())));
    let is_service = proxy
        .resolver
        .service(&link.request.host, link.request.port);
    if is_service.is_some() && !looked.http_only {
        return Box::pin(link.service(revocations)).await;
    }
    let flight = link.listen(&looked).await;
    if looked.verdict == Verdict::Deny {
        return link.refuse(looked, &flight).await;
    }
    if looked.verdict == Verdict::Ask
        && let Some(refused) = proxy.out_of_reach(&link.request, &looked)
    {
        return link.refuse(refused, &flight).await;
    }
    let plan = match choose(&link.request, &looked, &flight) {
        Ok(plan) => plan,
        Err(decision) => return link.refuse(*decision, &flight).await,
    };
    let request = Request::Net(link.request.clone());
    let waiter = Waiter {
        client: &link.client,
        destination,
    };
    let none = Approvals::none();
    let judged = proxy.judge.judge(&request, &none, waiter).await;
    let allowed = match judged {
        Judgement::Permitted(allowed) => allowed,
        Judgement::Denied(decision) => return link.refuse(*decision, &flight).await,
    };
    let ids = allowed.approval_ids();
    // Only the final decision says whether requests must be readable; an ask does not yet.
    let plan = if allowed.decision.http_only && plan != Plan::Http {
        let again = if plan == Plan::Listen {
            link.listen(&allowed.decision).await
        } else {
            flight
        };
        match choose(&link.request, &allowed.decision, &again) {
            Ok(plan) => plan,
            Err(decision) => return link.refuse(*decision, &again).await,
        }
    } else {
        plan
    };
    match plan {
        Plan::Http => Box::pin(link.http(&allowed, None, revocations.any_of(&ids))).await,
        Plan::Relay { sni, detail } => {
            Box::pin(link.relay(&allowed, (sni, detail), revocations.any_of(&ids))).await;
        }
        Plan::Listen => {
            Box::pin(link.server_first(&allowed, revocations.any_of(&ids))).await;
        }
    }
}

/// Finds out who wants to go where, and what was made for it already.
async fn find_out(
    proxy: &Proxy,
    client: &TcpStream,
    destination: SocketAddr,
) -> Option<(NetRequest, Option<Upstream>)> {
    let peer = client.peer_addr().ok()?;
    let made = proxy.made.take(peer, destination);
    let request = request(proxy, peer, destination).await?;
    Some((request, made))
}

/// Finds out who wants to go where; `None` for a port that none is.
pub(crate) async fn request(
    proxy: &Proxy,
    peer: SocketAddr,
    destination: SocketAddr,
) -> Option<NetRequest> {
    let port = Port::new(destination.port())?;
    let address = destination.ip().to_canonical();
    let name: Option<HostName> = {
        let table = proxy
            .synthetic
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        table.name(address).cloned()
    };
    let host = match name {
        Some(name) => Host::Name(name),
        // What programs reach by any name of their own machine.
        None if address.is_loopback() => {
            local_service(proxy, port).unwrap_or(Host::Address(address))
        }
        None => Host::Address(address),
    };
    // Where it cannot be told who asks, nobody does: rules know how to judge that.
    let subject = proxy
        .supervisor
        .attribute(Protocol::Tcp, peer, destination)
        .await
        .unwrap_or_default();
    Some(NetRequest {
        host,
        port,
        subject,
    })
}

/// Returns the name under which a port of the session's loopback is a service of the machine.
fn local_service(proxy: &Proxy, port: Port) -> Option<Host> {
    let local = Host::Name("localhost".parse().ok()?);
    proxy.resolver.service(&local, port).map(|_| local)
}

/// Returns the refusal of a destination that no rule can open.
pub(crate) fn impossible(request: &NetRequest, destination: SocketAddr) -> Option<Decision> {
    let Host::Address(address) = request.host else {
        return None;
    };
    if address.is_loopback() || destination.ip().is_unspecified() {
        let reason = "loopback of the session is not reached through the network";
        return Some(Control::Loopback.denies(reason, ""));
    }
    is_synthetic_space(address).then(|| {
        let reason = "this address stands for no name of this session";
        Control::UnknownAddress.denies(reason, "look the name up and connect to the answer")
    })
}

impl Link<'_> {
    /// Passes everything between a program and a service of the machine, whatever they speak: policy
    /// names the service itself, so there is no other host that the bytes could be for.
    async fn service(mut self, mut revocations: Revocations) {
        let request = Request::Net(self.request.clone());
        let waiter = Waiter {
            client: &self.client,
            destination: self.destination,
        };
        let none = Approvals::none();
        let judged = self.proxy.judge.judge(&request, &none, waiter).await;
        let allowed = match judged {
            Judgement::Permitted(allowed) => allowed,
            Judgement::Denied(decision) => return self.refuse(*decision, &Flight::Silent).await,
        };
        let ids = allowed.approval_ids();
        let detail = Some("service of the machine".to_owned());
        let made = self.made.take();
        match Upstream::open(self.proxy, &allowed, (made, Carries::Bytes), (None, detail)).await {
            Ok(upstream) => {
                let (server, opened) = upstream.into_parts();
                let counters = opened.counters();
                let relaying = self.proxy.relay.relay(self.client, server, counters);
                tokio::select! {
                    // However it ended, both sides are closed and the event says what passed.
                    _ = relaying => {}
                    () = revocations.any_of(&ids) => {}
                }
                drop(opened);
            }
            Err(_) => reset(&self.client),
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
        match first_flight(&self.client, &mut self.head, patience).await {
            // What it said is all there will be.
            Ok(Flight::Ended) | Err(_) => Flight::ended(&self.head),
            Ok(flight) => flight,
        }
    }

    /// Records a refusal and tells the client in its own language.
    async fn refuse(mut self, decision: Decision, flight: &Flight) {
        let request = Request::Net(self.request.clone());
        let sni = match flight {
            Flight::Speaks(Speech::Tls(hello)) => shown_name(hello),
            _ => None,
        };
        let entry = Decided {
            sni,
            ..decided(request, decision)
        };
        let record = self.proxy.judge.record(entry).await;
        match flight {
            Flight::Speaks(Speech::Http) => {
                let method = if self.head.starts_with(b"HEAD ") {
                    "HEAD"
                } else {
                    "GET"
                };
                http::answer_denied(&mut self.client, method, &record).await;
            }
            Flight::Speaks(Speech::Tls(_) | Speech::BrokenTls(_)) => self.alert().await,
            _ => reset(&self.client),
        }
    }

    async fn http(
        mut self,
        allowed: &Allowed,
        mut upstream: Option<Upstream>,
        revoked: impl Future<Output = ()>,
    ) {
        let proxy = self.proxy;
        tokio::pin!(revoked);
        let mut exchange = Exchange {
            proxy,
            client: &mut self.client,
            destination: self.destination,
            pending: std::mem::take(&mut self.head),
            host: self.request.host.clone(),
            port: self.request.port,
            subject: self.request.subject.clone(),
            allowed,
            made: self.made.take(),
            upstream: &mut upstream,
        };
        let tunnel = tokio::select! {
            tunnel = http::serve(&mut exchange) => tunnel,
            () = &mut revoked => {
                reset(exchange.client);
                false
            }
        };
        let Some((server, opened)) = upstream.map(Upstream::into_parts) else {
            return;
        };
        if tunnel {
            let relaying = proxy.relay.relay(self.client, server, opened.counters());
            tokio::select! {
                // However it ended, both sides are closed and the event says what passed.
                _ = relaying => {}
                () = revoked => {}
            }
        }
        drop(opened);
    }

    async fn relay(
        mut self,
        allowed: &Allowed,
        (sni, detail): (Option<String>, Option<String>),
        revoked: impl Future<Output = ()>,
    ) {
        let made = self.made.take();
        match Upstream::open(self.proxy, allowed, (made, Carries::Bytes), (sni, detail)).await {
            Ok(upstream) => self.pass(upstream, revoked).await,
            Err(failed) => self.tell_failed(failed).await,
        }
    }

    /// Tells a client that speaks TLS that policy is the cause; others see a reset.
    async fn tell_failed(&mut self, failed: Failed) {
        if tls::begins(&self.head) && !matches!(failed, Failed::Unreachable(_)) {
            return self.alert().await;
        }
        reset(&self.client);
    }

    /// Ends a TLS handshake with an alert that names policy as the cause.
    async fn alert(&mut self) {
        let alert = self.client.write_all(&ALERT_ACCESS_DENIED);
        if let Ok(Ok(())) = timeout(REFUSAL_WAIT, alert).await {
            linger(&mut self.client).await;
        }
    }

    /// Passes bytes both ways until the end. What was judged before its first line or its handshake
    /// was whole is read on.
    async fn pass(self, upstream: Upstream, revoked: impl Future<Output = ()>) {
        let mut watch = Watch::new(&self.head);
        let read = watch.read(&self.head);
        if read.is_err() || !watch.is_over() {
            return self
                .pass_watched(upstream, read.map(|()| watch), revoked)
                .await;
        }
        let (mut server, opened) = upstream.into_parts();
        let counters = opened.counters();
        let work = async {
            server.write_all(&self.head).await?;
            counters.add_out(u64::try_from(self.head.len()).unwrap_or(u64::MAX));
            drop(self.head);
            self.proxy.relay.relay(self.client, server, counters).await
        };
        tokio::select! {
            // However it ended, both sides are closed and the event says what passed.
            _ = work => {}
            () = revoked => {}
        }
        drop(opened);
    }

    /// The same with a watch that has read the head; cut off where it finds what must not pass.
    async fn pass_watched(
        mut self,
        upstream: Upstream,
        watch: Result<Watch, Box<Decision>>,
        revoked: impl Future<Output = ()>,
    ) {
        let (mut server, opened) = upstream.into_parts();
        let counters = opened.counters();
        let work = async {
            let watch = watch.map_err(Cut::Refused)?;
            server.write_all(&self.head).await?;
            counters.add_out(u64::try_from(self.head.len()).unwrap_or(u64::MAX));
            relay_watched(&mut self.client, &mut server, &counters, watch).await
        };
        let ended = tokio::select! {
            ended = work => ended,
            () = revoked => Ok(()),
        };
        if let Err(Cut::Refused(decision)) = ended {
            let entry = Decided {
                detail: Some("refused while it was open".to_owned()),
                ..decided(Request::Net(self.request), *decision)
            };
            // Both sides are closed either way; the event is for the record.
            drop(self.proxy.judge.record(entry).await);
            reset(&self.client);
            reset(&server);
        }
        drop((self.client, server, opened));
    }

    /// Connects for a silent client and sees who speaks first. If it is the client after all, its
    /// `ClientHello` is checked as any other.
    async fn server_first(mut self, allowed: &Allowed, revoked: impl Future<Output = ()>) {
        let detail = Some("opaque: the client waited for the server".to_owned());
        let made = self.made.take();
        let upstream =
            match Upstream::open(self.proxy, allowed, (made, Carries::Bytes), (None, detail)).await
            {
                Ok(upstream) => upstream,
                Err(failed) => return self.tell_failed(failed).await,
            };
        let (mut ours, mut theirs) = ([0], [0]);
        let client_speaks = timeout(RELAY_IDLE, async {
            tokio::select! {
                biased;
                read = self.client.peek(&mut ours) => matches!(read, Ok(1..)),
                _ = upstream.stream.peek(&mut theirs) => false,
            }
        });
        if !client_speaks.await.unwrap_or(false) {
            return self.pass(upstream, revoked).await;
        }
        let flight = self.listen(&allowed.decision).await;
        match choose(&self.request, &allowed.decision, &flight) {
            Ok(Plan::Http) => Box::pin(self.http(allowed, Some(upstream), revoked)).await,
            Ok(_) => self.pass(upstream, revoked).await,
            Err(decision) => {
                let (_, opened) = upstream.into_parts();
                self.refuse(*decision, &flight).await;
                drop(opened);
            }
        }
    }
}

/// Holds the first bytes of a client against where it wants to go.
fn choose(
    request: &NetRequest,
    decision: &Decision,
    flight: &Flight,
) -> Result<Plan, Box<Decision>> {
    if decision.http_only && *flight != Flight::Speaks(Speech::Http) {
        return Err(Box::new(Control::NotHttp.denies(
            "the rule for this host allows certain HTTP requests, and this is not readable HTTP",
            "send plain HTTP/1.1 requests, or have the rule allow the whole host",
        )));
    }
    match flight {
        Flight::Speaks(Speech::Http) => Ok(Plan::Http),
        Flight::Speaks(Speech::Opaque) => Ok(Plan::Relay {
            sni: None,
            detail: Some("opaque".to_owned()),
        }),
        Flight::Silent | Flight::Ended => Ok(Plan::Listen),
        Flight::Speaks(Speech::BrokenTls(why)) => {
            let reason = format!("the TLS ClientHello is not valid: {why}");
            Err(Box::new(Control::TlsMalformed.denies(reason, "")))
        }
        Flight::Unfinished => {
            let seconds = HANDSHAKE_WAIT.as_secs();
            let reason = format!(
                "the opening message ended early, or was not complete after {seconds} seconds"
            );
            Err(Box::new(Control::GreetingUnfinished.denies(reason, "")))
        }
        Flight::Speaks(Speech::Tls(hello)) => tls_plan(request, hello),
    }
}

fn tls_plan(request: &NetRequest, hello: &ClientHello) -> Result<Plan, Box<Decision>> {
    const REMEDY: &str = "send the host's own name in the TLS ClientHello";
    let named = |name: &[u8]| {
        std::str::from_utf8(name)
            .ok()
            .and_then(|t| t.parse::<Host>().ok())
    };
    match (&hello.server_name, &request.host) {
        (None, Host::Address(_)) => {}
        (None, Host::Name(name)) => {
            let reason = format!("the TLS ClientHello names no host, and `{name}` was expected");
            return Err(Box::new(Control::NoServerName.denies(reason, REMEDY)));
        }
        (Some(name), host) if named(name).as_ref() == Some(host) => {}
        (Some(name), host) => {
            let sent = RawText::from_bytes(name.as_slice()).display();
            let reason =
                format!("the TLS ClientHello names `{sent}`, but the connection is to `{host}`");
            return Err(Box::new(Control::NameMismatch.denies(reason, REMEDY)));
        }
    }
    let detail = if hello.encrypted_inner {
        "tls with an encrypted inner ClientHello; its outer name was checked"
    } else {
        "tls"
    };
    Ok(Plan::Relay {
        sni: shown_name(hello),
        detail: Some(detail.to_owned()),
    })
}

/// Returns the server name for people; hostile bytes are escaped.
fn shown_name(hello: &ClientHello) -> Option<String> {
    hello
        .server_name
        .as_ref()
        .map(|name| RawText::from_bytes(name.as_slice()).display())
}
