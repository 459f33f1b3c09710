//! A proxy for programs that want one, on the session's own loopback: HTTP (`CONNECT`, and requests in
//! absolute form) and SOCKS 5 on one port, told apart by the first byte.
//!
//! It is no second way out. What it reads is where the client wants to go; that takes the place of the
//! address of a packet, and the connection then goes through the stages of `connection.rs` as every
//! other one does.
//!
//! | the client | is told of a refusal | goes on |
//! |---|---|---|
//! | `CONNECT` | 403; 400 if it is no request, 421 if its `Host` names another host | as bytes to that host |
//! | absolute form | as on any connection that carries requests | request by request, each to its host |
//! | SOCKS 5 | a reply that is not zero | as bytes to that host |
//! | SOCKS 4, TLS | a rejection; an alert | not at all |

mod socks;

use std::{net::SocketAddr, sync::Arc};

use stockade_policy::{AsRequest, Control, Decision, NetRequest, is_special_name};
use stockade_types::{Host, Port};
use tokio::time::timeout;

use self::socks::{Reply, VERSION, VERSION_4};
use crate::{
    Proxy,
    connection::{Asked, go_on},
    destination::{host_at, subject},
    dial::Unreachable,
    dns::stand_in,
    hold::{Early, Unmade, prepare, word},
    http::{
        Answer,
        h1::{Malformed, Scanner, Wish, linger, read_wish, send_answer},
    },
    judge::decided,
    limits::{HANDSHAKE_WAIT, HEAD_READ_BYTES, REFUSAL_WAIT},
    stream::Stream,
    tls::{self, ALERT_ACCESS_DENIED},
    wire::Word,
};

/// What ends the wish for a tunnel that was made (RFC 9110 section 9.3.6).
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What a client of a proxy speaks, as far as that decides how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tongue {
    /// `CONNECT`, or something that is no request at all.
    Tunnel,
    /// Requests in absolute form.
    Requests,
    Socks,
    Socks4,
    Tls,
}

/// A client that wants to go to a host.
struct Wanted {
    tongue: Tongue,
    host: Host,
    port: u16,
    /// What its `Host` field names beside that.
    named: Option<(Host, Option<u16>)>,
}

/// Why a client is not served, and what it is told.
struct No {
    decision: Box<Decision>,
    told: Told,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// That it said nothing that has a meaning.
    Malformed,
    /// That its words name two hosts.
    Misdirected,
    /// That policy is the cause.
    Denied,
    /// A reply of SOCKS.
    Reply(Reply),
    /// That it cannot log in.
    NoLogin,
}

/// A client of the proxy.
struct Client<'a> {
    proxy: &'a Arc<Proxy>,
    stream: Stream,
    destination: SocketAddr,
    /// What was read of it and not used.
    read: Vec<u8>,
}

impl Proxy {
    /// Tells whether a connection is to the proxy inside.
    pub(crate) fn is_inside_proxy(&self, destination: SocketAddr) -> bool {
        let port = Port::new(destination.port());
        let is_loopback = destination.ip().to_canonical().is_loopback();
        is_loopback && port.is_some_and(|port| self.judge.is_inside_proxy(port))
    }
}

/// Serves one connection to the proxy.
pub(crate) async fn serve(proxy: &Arc<Proxy>, stream: Stream, destination: SocketAddr) {
    let mut client = Client {
        proxy,
        stream,
        destination,
        read: Vec::new(),
    };
    loop {
        let heard = timeout(HANDSHAKE_WAIT, client.hear()).await;
        let wanted = match heard.unwrap_or_else(|_| client.late()) {
            Ok(Some(wanted)) => wanted,
            // It said nothing, so there is nothing to judge.
            Ok(None) => return,
            Err((tongue, no)) => return client.refuse(tongue, None, no).await,
        };
        let Some(asked) = client.admit(wanted).await else {
            return;
        };
        let Some((stream, read)) = Box::pin(go_on(proxy, asked)).await else {
            return;
        };
        client = Client {
            proxy,
            stream,
            destination,
            read,
        };
    }
}

impl Client<'_> {
    /// Reads where the client wants to go; none if it ends without a word.
    async fn hear(&mut self) -> Result<Option<Wanted>, (Tongue, No)> {
        if self.read.is_empty() && !self.fill().await {
            return Ok(None);
        }
        match self.read.first() {
            Some(&VERSION) => self.hear_socks().await,
            Some(&VERSION_4) => {
                let why = "SOCKS 4 is not offered";
                Err((Tongue::Socks4, malformed(why, "use SOCKS 5")))
            }
            _ if tls::begins(&self.read) => {
                let why = "the proxy inside does not speak TLS";
                Err((Tongue::Tls, malformed(why, "use `http://` in its address")))
            }
            _ => self.hear_http().await.map(Some),
        }
    }

    async fn hear_http(&mut self) -> Result<Wanted, (Tongue, No)> {
        const REMEDY: &str =
            "send `CONNECT host:port`, or a request with `http://host/` as its target";
        let wrong = |Malformed(why)| (Tongue::Tunnel, malformed(why, REMEDY));
        let mut scanner = Scanner::default();
        loop {
            match read_wish(&mut scanner, &self.read).map_err(wrong)? {
                Some(Wish::Tunnel { to, named, length }) => {
                    self.read.drain(..length);
                    return Ok(Wanted {
                        tongue: Tongue::Tunnel,
                        host: to.0,
                        port: to.1,
                        named,
                    });
                }
                Some(Wish::Request { to: (host, port) }) => {
                    return Ok(Wanted {
                        tongue: Tongue::Requests,
                        host,
                        port,
                        named: None,
                    });
                }
                None if self.fill().await => {}
                None => return Err(wrong(Malformed("the client ended before its head did"))),
            }
        }
    }

    async fn hear_socks(&mut self) -> Result<Option<Wanted>, (Tongue, No)> {
        let ended = || {
            let why = "the client ended before its request did";
            (Tongue::Socks, failed(why, Reply::Failed))
        };
        let goes_on = loop {
            if let Some((length, goes_on)) = socks::read_greeting(&self.read) {
                self.read.drain(..length);
                break goes_on;
            }
            if !self.fill().await {
                return Err(ended());
            }
        };
        if !goes_on {
            let why = "the client does not go on without a login, and nobody logs in here";
            let no = No {
                told: Told::NoLogin,
                ..failed(why, Reply::Failed)
            };
            return Err((Tongue::Socks, no));
        }
        // A client that found no address for its host ends here, and asked for nothing.
        if !self.say(&socks::NO_LOGIN_NEEDED).await || (self.read.is_empty() && !self.fill().await)
        {
            return Ok(None);
        }
        loop {
            match socks::read_request(&self.read) {
                Err(unfit) => return Err((Tongue::Socks, failed(unfit.why.0, unfit.reply))),
                Ok(Some(request)) => {
                    self.read.drain(..request.length);
                    return Ok(Some(Wanted {
                        tongue: Tongue::Socks,
                        host: request.host,
                        port: request.port,
                        named: None,
                    }));
                }
                Ok(None) if self.fill().await => {}
                Ok(None) => return Err(ended()),
            }
        }
    }

    /// Says what is wrong with a client that did not finish in time.
    fn late(&self) -> Result<Option<Wanted>, (Tongue, No)> {
        let why = "the request was not complete in time";
        match self.read.first() {
            None => Ok(None),
            Some(&VERSION) => Err((Tongue::Socks, failed(why, Reply::Failed))),
            Some(_) => Err((Tongue::Tunnel, malformed(why, ""))),
        }
    }

    /// Settles where the client goes as far as that can be done now, and tells it to go on.
    async fn admit(mut self, wanted: Wanted) -> Option<Asked> {
        let Wanted {
            tongue,
            host,
            port,
            named,
        } = wanted;
        let Some(port) = Port::new(port) else {
            let no = no_port(tongue);
            self.refuse(tongue, None, no).await;
            return None;
        };
        let unlike = named.and_then(|named| mismatch((&host, port), &named));
        let host = match host {
            // Requests are held against the host as they name it.
            Host::Address(address) if tongue != Tongue::Requests => {
                host_at(self.proxy, address.to_canonical(), port)
            }
            named @ (Host::Address(_) | Host::Name(_)) => named,
        };
        let peer = self.stream.peer_addr().ok()?;
        let request = NetRequest {
            subject: subject(self.proxy, peer, self.destination).await,
            host,
            port,
        };
        let settled = match unlike {
            Some(no) => Err(Unsettled::Refused(no)),
            None => self.settle(&request, tongue).await,
        };
        let early = match settled {
            Ok(early) => early,
            Err(Unsettled::Refused(no)) => {
                self.refuse(tongue, Some(request), no).await;
                return None;
            }
            Err(Unsettled::Unreachable(error)) => {
                self.unreachable(tongue, &error).await;
                return None;
            }
        };
        let goes_on = match tongue {
            Tongue::Tunnel => self.say(ESTABLISHED).await,
            Tongue::Socks => self.say(&Reply::Connected.bytes()).await,
            // The first answer is that of its request.
            Tongue::Requests | Tongue::Socks4 | Tongue::Tls => true,
        };
        goes_on.then_some(Asked {
            client: self.stream,
            destination: self.destination,
            request,
            head: self.read,
            early,
            is_proxied: tongue == Tongue::Requests,
        })
    }

    /// Does what is done for a connection whose first packet is held, and before it for its name.
    async fn settle(&self, request: &NetRequest, tongue: Tongue) -> Result<Early, Unsettled> {
        if let Some(decision) = self.unfit_name(request).await {
            return Err(Unsettled::Refused(No::denied(decision)));
        }
        if tongue == Tongue::Requests {
            return Ok(Early::default());
        }
        let prepared = prepare(self.proxy, request).await;
        prepared.map_err(|unmade| match unmade {
            Unmade::Denied(decision) => Unsettled::Refused(No::denied(*decision)),
            Unmade::Unreachable(error) => Unsettled::Unreachable(error),
        })
    }

    /// Returns the refusal of a name that no lookup would have given an address: that of a machine's own
    /// loopback, one that means something on one machine only, one more than a session has.
    async fn unfit_name(&self, request: &NetRequest) -> Option<Decision> {
        const LOCALHOST: &str = "localhost";
        let Host::Name(name) = &request.host else {
            return None;
        };
        let resolver = &self.proxy.resolver;
        if resolver.service(&request.host, request.port).is_some() {
            return None;
        }
        if name.labels_rev().next() == Some(LOCALHOST) {
            let reason = "loopback of the session is not reached through a proxy";
            let remedy = "connect to it directly: `NO_PROXY=localhost,127.0.0.1,::1`";
            return Some(Control::Loopback.denies(reason, remedy));
        }
        if is_special_name(name) && !resolver.is_fixed(name) {
            let remedy = "fix its address in `[network.hosts]` of the policy if it must be reached";
            let reason = "this name has no meaning outside one machine";
            return Some(Control::SpecialName.denies(reason, remedy));
        }
        if stand_in(self.proxy, name).await.is_none() {
            let reason = "the session has as many names as it can have";
            return Some(Control::UnknownAddress.denies(reason, ""));
        }
        None
    }

    /// Reads on; false at the end.
    async fn fill(&mut self) -> bool {
        let read = self.stream.fill(&mut self.read, HEAD_READ_BYTES).await;
        matches!(read, Ok(1..))
    }

    /// Says something to the client; false if it does not take it.
    async fn say(&mut self, bytes: &[u8]) -> bool {
        let said = timeout(REFUSAL_WAIT, self.stream.write_all(bytes)).await;
        matches!(said, Ok(Ok(())))
    }

    /// Records a refusal and tells the client in its own protocol. Without a `request`, what it said
    /// names no host, and the proxy itself stands for that.
    async fn refuse(mut self, tongue: Tongue, request: Option<NetRequest>, no: No) {
        let request = match request {
            Some(request) => request,
            None => match self.own_place().await {
                Some(request) => request,
                None => return self.stream.reset(),
            },
        };
        let entry = decided(request.as_request(), *no.decision);
        let record = self.proxy.judge.record(entry).await;
        let denied = || Answer::denied(&record);
        match (tongue, no.told) {
            (Tongue::Tunnel | Tongue::Requests, told) => {
                let answer = match told {
                    Told::Malformed => Answer::malformed(&record),
                    Told::Misdirected => denied().misdirected(),
                    Told::Denied | Told::Reply(_) | Told::NoLogin => denied(),
                };
                send_answer(&mut self.stream, "GET", &answer).await;
            }
            (Tongue::Socks, Told::NoLogin) => self.last(&socks::NO_WAY_TO_LOG_IN).await,
            (Tongue::Socks, Told::Reply(reply)) => self.last(&reply.bytes()).await,
            (Tongue::Socks, Told::Malformed | Told::Misdirected | Told::Denied) => {
                self.last(&Reply::NotAllowed.bytes()).await;
            }
            (Tongue::Socks4, _) => self.last(&socks::REJECTED_4).await,
            (Tongue::Tls, _) => self.last(&ALERT_ACCESS_DENIED).await,
        }
    }

    /// Tells the client that its host was not reached, which is recorded.
    async fn unreachable(mut self, tongue: Tongue, error: &Unreachable) {
        if tongue == Tongue::Socks {
            let reply = match word(error) {
                Word::Go | Word::Refused => Reply::Refused,
                Word::NoHost => Reply::NoHost,
                Word::NoNetwork => Reply::NoNetwork,
                Word::Silence => Reply::TimedOut,
            };
            return self.last(&reply.bytes()).await;
        }
        let answer = Answer::unserved(&error.full());
        send_answer(&mut self.stream, "GET", &answer).await;
    }

    /// Says something so that the client gets to see it, and closes.
    async fn last(&mut self, bytes: &[u8]) {
        if self.say(bytes).await {
            linger(&mut self.stream).await;
        }
    }

    /// Returns where the client is: at the proxy itself.
    async fn own_place(&self) -> Option<NetRequest> {
        let peer = self.stream.peer_addr().ok()?;
        Some(NetRequest {
            subject: subject(self.proxy, peer, self.destination).await,
            host: Host::Address(self.destination.ip().to_canonical()),
            port: Port::new(self.destination.port())?,
        })
    }
}

/// Why a connection is not gone on with.
enum Unsettled {
    /// Policy is the cause.
    Refused(No),
    /// The network is, which is recorded.
    Unreachable(Unreachable),
}

impl No {
    fn denied(decision: Decision) -> Self {
        Self {
            decision: Box::new(decision),
            told: Told::Denied,
        }
    }
}

/// Makes the refusal of what names no host.
fn malformed(why: &str, remedy: &str) -> No {
    No {
        decision: Box::new(Control::ProxyRequest.denies(why, remedy)),
        told: Told::Malformed,
    }
}

/// The same of a client that speaks SOCKS.
fn failed(why: &str, reply: Reply) -> No {
    No {
        told: Told::Reply(reply),
        ..malformed(why, "ask for a connection to a host and port")
    }
}

/// Makes the refusal of port 0, which no host has.
fn no_port(tongue: Tongue) -> No {
    let why = "port 0 is none";
    match tongue {
        Tongue::Socks => failed(why, Reply::Failed),
        Tongue::Tunnel | Tongue::Requests | Tongue::Socks4 | Tongue::Tls => malformed(why, ""),
    }
}

/// Returns the refusal of a head that names two hosts.
fn mismatch((to, at): (&Host, Port), (host, port): &(Host, Option<u16>)) -> Option<No> {
    let same_port = port.is_none_or(|port| port == at.get());
    if host == to && same_port {
        return None;
    }
    let reason = format!("`CONNECT` is for `{to}:{at}`, but its `Host` field names `{host}`");
    let remedy = "send the same host and port in both, or no `Host` field";
    Some(No {
        decision: Box::new(Control::NameMismatch.denies(reason, remedy)),
        told: Told::Misdirected,
    })
}
