//! One request of HTTP/2, from its head to its end.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::Request;
use stockade_policy::{AsRequest as _, NetRequest};
use stockade_types::DecisionId;
use tokio::time::timeout;

use super::{
    client::{Client, Outcome},
    head::{self, Judged},
    link::Link,
    servers::Server,
    to_h1, to_h2,
    upload::{TooLong, Upload},
};
use crate::{
    http::{Admitted, Answer, Head, Searched, Tap, Uses, Way, too_long},
    judge::{Allowed, Waiter, Withdrawn},
    limits::{OPENING_WAIT, TOKEN_REQUEST_BYTES_MAX},
};

/// How a request came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was answered, or could not be.
    Answered,
    /// The client took it back.
    TakenBack,
}

/// The client's end while somebody is asked.
struct Asking(Mutex<Client>);

impl Withdrawn for Asking {
    fn poll_withdrawn(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        client.poll_withdrawn(context)
    }
}

/// Serves one request.
pub(crate) async fn serve(
    link: Arc<Link>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> End {
    let (parts, body) = request.into_parts();
    let mut client = Client::new(respond);
    let (head, carried) = match head::read(&parts, body.is_end_stream()) {
        Ok(read) => read,
        Err(malformed) => {
            let remedy = "send the request in strict HTTP/2";
            let answer = link.carrier().malformed(malformed.0, remedy).await;
            client.answer(parts.method.as_str(), answer).await;
            return End::Answered;
        }
    };
    drop(parts);
    let mut body = Upload::new(body);
    if link.carrier().renews(&head) {
        return Box::pin(renew(&link, (head, carried), body, client)).await;
    }
    let reading = link.carrier().reading(&head);
    let mut opening = body.read_ahead(reading).await;
    let asking = Asking(Mutex::new(client));
    let (ages, waiter) = (&link.proxy.ages, Waiter::Request(&asking));
    Box::pin(ages.complete(link.carrier(), &head, &mut opening.meaning, waiter)).await;
    let request = link.carrier().addressed(head, carried, opening);
    let admitted = Box::pin(admit(&link, &request, &asking)).await;
    let mut client = asking
        .0
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let (admitted, server) = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => {
            client.answer(&request.head.method, answer).await;
            return End::Answered;
        }
    };
    let Admitted {
        allowed,
        mut revocations,
        uses,
        decision,
    } = admitted;
    let ids = allowed.approval_ids();
    let sent = (&*allowed, &uses, decision);
    let carrier = link.carrier();
    let (judge, http) = (&carrier.proxy.judge, allowed.permitted.get().as_request());
    let denied = || judge.denies_open(&http, &allowed.decision);
    let outcome = tokio::select! {
        outcome = forward(&link, sent, server, (body, &mut client)) => Some(outcome),
        closing = revocations.any_of(&ids, denied) => {
            judge.closed(http.clone(), closing).await;
            None
        }
    };
    let Some(outcome) = outcome else {
        client.reset(Reason::CANCEL);
        return End::Answered;
    };
    end(&link, &request, client, outcome).await
}

/// Serves a request for new tokens of a login.
async fn renew(
    link: &Link,
    (head, carried): (Head, head::Carried),
    mut body: Upload,
    client: Client,
) -> End {
    let carrier = link.carrier();
    let whole = timeout(OPENING_WAIT, body.read_whole(TOKEN_REQUEST_BYTES_MAX)).await;
    let asking = Asking(Mutex::new(client));
    let answer = match whole {
        Err(_) | Ok(None) => return End::TakenBack,
        Ok(Some(Ok(body))) => carrier.renew(&head, body, Waiter::Request(&asking)).await,
        Ok(Some(Err(TooLong))) => {
            let decision = too_long(&head.path);
            let request = carrier.addressed(head.clone(), carried, Vec::new().into());
            carrier.refuse(&request, decision).await
        }
    };
    let mut client = asking
        .0
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    client.answer(&head.method, answer).await;
    End::Answered
}

/// Takes a request through all that happens before it is sent.
async fn admit(
    link: &Link,
    request: &Judged,
    asking: &Asking,
) -> Result<(Admitted<head::Carried>, Option<Server>), Answer> {
    let mut server = link.servers.take().await;
    let way = if server.is_some() {
        Way::Open
    } else {
        Way::Closed(Box::pin(async {
            server = Some(link.servers.open(link.carrier()).await?);
            Ok(())
        }))
    };
    let waiter = Waiter::Request(asking);
    let admitted = link.carrier().admit(request, waiter, way).await;
    match admitted {
        Ok(admitted) => Ok((admitted, server)),
        Err(answer) => {
            if let Some(Server::One(upstream)) = server {
                link.servers.keep(upstream);
            }
            Err(answer)
        }
    }
}

/// Sends a request and passes its response back.
async fn forward(
    link: &Link,
    (allowed, uses, decision): (&Allowed<Judged>, &Uses, DecisionId),
    server: Option<Server>,
    (mut body, client): (Upload, &mut Client),
) -> Outcome {
    let request = allowed.permitted.get();
    let denied = &allowed.decision.terms.content_denied;
    let carrier = link.carrier();
    let mut content = match carrier.proxy.contents.body(&request.head, denied) {
        Ok(content) => content,
        Err(decision) => return Outcome::Refused(decision),
    };
    if request.carried.websocket {
        content.is_socket();
    }
    if let Err(decision) = content.refusal() {
        return Outcome::Refused(decision);
    }
    let tap = Tap::new(&carrier, request, decision);
    body.follow(tap.clone());
    client.follow(tap.clone());
    let outcome = send(link, (allowed, uses), server, (body, client), &mut content).await;
    if let Outcome::Refused(_) = outcome {
        tap.is_refused();
    }
    carrier.found_in_body(decision, &mut content);
    outcome
}

/// Sends a request whose body is searched.
async fn send(
    link: &Link,
    (allowed, uses): (&Allowed<Judged>, &Uses),
    server: Option<Server>,
    (body, client): (Upload, &mut Client),
    content: &mut Searched<'_>,
) -> Outcome {
    let credentials = &link.proxy.credentials;
    let NetRequest { host, port, .. } = link.carrier().request();
    if let Some(scrubber) = credentials.scrubber(host, *port) {
        client.scrub(scrubber);
    }
    let dressed = credentials.dress(&allowed.permitted, uses);
    let Some(server) = client.unless_withdrawn(usable(link, server)).await else {
        return Outcome::TakenBack;
    };
    match server {
        Some(Server::One(upstream)) => {
            let to = (allowed, &dressed);
            let (outcome, kept) = to_h1::forward(to, upstream, (body, client), content).await;
            if let Some(upstream) = kept {
                link.servers.keep(upstream);
            }
            outcome
        }
        Some(Server::Two(mut streams)) => {
            let to = (allowed, &dressed);
            to_h2::forward(to, &mut streams, (body, client), content).await
        }
        None => Outcome::Broken,
    }
}

/// Waits until a server takes the request; one that takes no more over a connection gets another one,
/// once. Nothing was sent until then.
async fn usable(link: &Link, server: Option<Server>) -> Option<Server> {
    let mut streams = match server? {
        Server::Two(streams) => streams,
        one @ Server::One(_) => return Some(one),
    };
    if streams.ready().await.is_ok() {
        return Some(Server::Two(streams));
    }
    link.servers.retire();
    link.servers.open(link.carrier()).await.ok()
}

/// Tells the client of an end that is not the one of the response.
async fn end(link: &Link, request: &Judged, mut client: Client, outcome: Outcome) -> End {
    let carrier = link.carrier();
    let answer = match outcome {
        Outcome::Whole => return End::Answered,
        Outcome::TakenBack => return End::TakenBack,
        Outcome::Reset(reason) => {
            client.reset(reason);
            return End::Answered;
        }
        Outcome::NotTaken => {
            // The client may send it again (RFC 9113 section 8.7).
            client.reset(Reason::REFUSED_STREAM);
            return End::Answered;
        }
        Outcome::Broken => {
            let host = &request.host;
            let text = format!("`{host}` did not send a response that could be read");
            Answer::unserved(&text)
        }
        Outcome::Refused(decision) => carrier.stop(request, *decision).await,
        Outcome::Answered(answer) => *answer,
        Outcome::Malformed(malformed) => carrier.malformed(malformed.0, "").await,
        Outcome::Answer(malformed) => carrier.bad_answer(malformed.0).await,
        Outcome::Unsearchable => carrier.unsearchable(request).await,
    };
    client.answer(&request.head.method, answer).await;
    End::Answered
}
