//! A judged request on its way to a server of HTTP/2, and the response on its way back.

use bytes::Bytes;
use h2::Reason;
use http::{Response, StatusCode};

use super::{
    client::{Client, Outcome},
    head::{Carried, Judged, check_trailers, write},
    upload::Upload,
};
use crate::{
    gate::{Answering, Ends, Said, StreamOut, Streams, Unsent, count, size},
    http::{Answer, Dressed, Searched, Stop, h1::Malformed},
    judge::Allowed,
};

/// Sends a request and passes its response back.
pub(super) async fn forward(
    (allowed, dressed): (&Allowed<Judged>, &Dressed<'_, Carried>),
    streams: &mut Streams,
    (body, client): (Upload, &mut Client),
    content: &mut Searched<'_>,
) -> Outcome {
    let carried = allowed.permitted.get().carried;
    if carried.websocket && !streams.takes_websockets() {
        return Outcome::Answer(Malformed("it takes no WebSockets over HTTP/2"));
    }
    let Ok(head) = write(dressed) else {
        return Outcome::Malformed(Malformed("a field that cannot be sent"));
    };
    let own = size(head.headers()) + head.uri().to_string().len() + head.method().as_str().len();
    let announced = carried.length.unwrap_or(0).saturating_add(count(own));
    let ends = if carried.is_whole {
        Ends::WithHead
    } else {
        Ends::Later
    };
    let (answering, out) = match streams.send(allowed, (head, ends), (own, announced)) {
        Ok(sent) => sent,
        Err(Unsent::Refused(decision)) => return Outcome::Refused(decision),
        Err(Unsent::Failed) => return Outcome::NotTaken,
    };
    let send = send((body, content), out);
    let receive = receive(answering, client);
    both(send, receive).await
}

enum Sent {
    Whole,
    ServerGone,
    TakenBack,
    Malformed(Malformed),
    Refused(Box<stockade_policy::Decision>),
    Answered(Box<Answer>),
}

impl From<Stop> for Sent {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(decision) => Self::Refused(decision),
            Stop::Answered(answer) => Self::Answered(answer),
        }
    }
}

impl From<Unsent> for Sent {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Failed => Self::ServerGone,
            Unsent::Refused(decision) => Self::Refused(decision),
        }
    }
}

/// Runs both directions; the response decides when the request is over.
async fn both(send: impl Future<Output = Sent>, receive: impl Future<Output = Outcome>) -> Outcome {
    tokio::pin!(send, receive);
    let mut is_sent = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut send, if !is_sent => match ended {
                Sent::Malformed(malformed) => return Outcome::Malformed(malformed),
                Sent::Refused(decision) => return Outcome::Refused(decision),
                Sent::Answered(answer) => return Outcome::Answered(answer),
                Sent::TakenBack => return Outcome::TakenBack,
                // The server may still say why it did not want the rest.
                Sent::Whole | Sent::ServerGone => is_sent = true,
            },
            outcome = &mut receive => return outcome,
        }
    }
}

/// Sends the body.
async fn send(
    (mut body, content): (Upload, &mut Searched<'_>),
    mut out: StreamOut<'_, Judged>,
) -> Sent {
    if out.permitted().get().carried.is_whole {
        return Sent::Whole;
    }
    let sent = pass((&mut body, content), &mut out).await;
    match sent {
        Ok(()) => Sent::Whole,
        Err(Sent::ServerGone) => Sent::ServerGone,
        Err(other) => {
            // Half a request must not look like a whole one.
            out.reset(Reason::CANCEL);
            other
        }
    }
}

async fn pass(
    (body, content): (&mut Upload, &mut Searched<'_>),
    out: &mut StreamOut<'_, Judged>,
) -> Result<(), Sent> {
    while let Some(data) = body.data().await {
        let bytes: Bytes = data.map_err(|_| Sent::TakenBack)?;
        let passed = bytes.len();
        body.compared().await.map_err(Sent::from)?;
        let bytes = content.pass(bytes).map_err(Sent::Refused)?;
        if !bytes.is_empty() {
            out.write(bytes).await?;
        }
        // It fails for more than came, which is not said here.
        body.passed(passed);
    }
    let trailers = body.trailers().await.map_err(|_| Sent::TakenBack)?;
    content.read_fields(trailers.as_ref());
    let rest = content.end().map_err(Sent::Refused)?;
    if !rest.is_empty() {
        out.write(rest).await?;
    }
    match trailers {
        None => Ok(out.end()?),
        Some(trailers) => {
            check_trailers(&trailers).map_err(Sent::Malformed)?;
            Ok(out.end_with(trailers)?)
        }
    }
}

/// Passes the response back.
async fn receive(mut answering: Answering<'_>, client: &mut Client) -> Outcome {
    let response = loop {
        match client.unless_withdrawn(answering.next()).await {
            None => return Outcome::TakenBack,
            Some(Err(error)) => return lost(&error),
            Some(Ok(Said::Final(response))) => break response,
            Some(Ok(Said::Interim(response))) => {
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Outcome::Answer(Malformed("an upgrade, which HTTP/2 does not have"));
                }
                if client.interim(response).is_err() {
                    return Outcome::TakenBack;
                }
            }
        }
    };
    let (mut parts, mut body) = response.into_parts();
    parts.extensions = http::Extensions::new();
    let is_whole = body.is_over();
    if client.cannot_search(&parts.headers, is_whole) {
        return Outcome::Unsearchable;
    }
    if client
        .start(Response::from_parts(parts, ()), is_whole)
        .is_err()
    {
        return Outcome::TakenBack;
    }
    if is_whole {
        return Outcome::Whole;
    }
    loop {
        let counters = answering.counters();
        let bytes = match client.unless_withdrawn(body.data(counters)).await {
            None => return Outcome::TakenBack,
            Some(None) => break,
            Some(Some(Err(error))) => return lost(&error),
            Some(Some(Ok(bytes))) => bytes,
        };
        let passed = bytes.len();
        if let Err(outcome) = client.write(bytes).await {
            return outcome;
        }
        body.passed(passed);
    }
    match client.unless_withdrawn(body.trailers()).await {
        None => Outcome::TakenBack,
        Some(Err(error)) => lost(&error),
        Some(Ok(trailers)) => match client.finish(trailers).await {
            Ok(()) => Outcome::Whole,
            Err(_) => Outcome::TakenBack,
        },
    }
}

/// Says how a server ended a request.
fn lost(error: &h2::Error) -> Outcome {
    match error.reason() {
        // It is going, and says that it did not begin with this request.
        Some(Reason::NO_ERROR) if error.is_go_away() => Outcome::NotTaken,
        Some(reason) if error.is_reset() && error.is_remote() => Outcome::Reset(reason),
        Some(_) | None => Outcome::Broken,
    }
}
