//! The client's end of one request of HTTP/2.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, header};
use stockade_policy::Decision;
use tokio::time::timeout;

use crate::{
    gate,
    http::{Answer, Stop, Tap, h1::Malformed},
    limits::RELAY_IDLE,
    scrub::{Passage, Scrubber},
};

/// What became of a request that was sent.
pub(crate) enum Outcome {
    /// Its response was passed on whole.
    Whole,
    /// The client took it back, or is gone.
    TakenBack,
    /// The server ended it with this.
    Reset(Reason),
    /// The server did not take it, and nothing came of it.
    NotTaken,
    /// The server is gone.
    Broken,
    /// The rest of it must not leave, or the rest of the response not be read.
    Refused(Box<Decision>),
    /// The rest of it must not leave, which is recorded; the client is told this.
    Answered(Box<Answer>),
    /// What the client sent after the head is not what it must be.
    Malformed(Malformed),
    /// The response is not one.
    Answer(Malformed),
    /// The response cannot be searched for credentials.
    Unsearchable,
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(decision) => Self::Refused(decision),
            Stop::Answered(answer) => Self::Answered(answer),
        }
    }
}

/// The client's end of one request.
pub(crate) struct Client {
    respond: SendResponse<Bytes>,
    /// The body of the response, once its head was sent.
    body: Option<SendStream<Bytes>>,
    /// What takes values of credentials out of what the server says.
    scrub: Option<(Arc<Scrubber>, Passage)>,
    /// Reads the response.
    tap: Tap,
}

impl Client {
    /// Begins with nothing said.
    pub(crate) fn new(respond: SendResponse<Bytes>) -> Self {
        Self {
            respond,
            body: None,
            scrub: None,
            tap: Tap::default(),
        }
    }

    /// Has the response read while it is passed on.
    pub(crate) fn follow(&mut self, tap: Tap) {
        self.tap = tap;
    }

    /// Has values of credentials taken out of what is passed on.
    pub(crate) fn scrub(&mut self, scrubber: Arc<Scrubber>) {
        self.scrub = Some((scrubber, Passage::default()));
    }

    /// Tells whether values of credentials would not be seen in a response with this head.
    pub(crate) fn cannot_search(&self, fields: &HeaderMap, is_whole: bool) -> bool {
        let mut codings = fields.get_all(header::CONTENT_ENCODING).iter();
        self.scrub.is_some() && !is_whole && codings.any(|coding| coding != "identity")
    }

    /// Takes values of credentials out of fields.
    fn clean(&self, fields: &mut HeaderMap) {
        let Some((scrubber, _)) = &self.scrub else {
            return;
        };
        for value in fields.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            scrubber.clean(&mut bytes);
            // What is put in place of a value has no other kind of characters.
            if let Ok(clean) = HeaderValue::from_bytes(&bytes) {
                *value = clean;
            }
        }
    }

    /// Waits until the client takes the request back.
    pub(crate) fn poll_withdrawn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.body {
            None => self.respond.poll_reset(context).map(drop),
            Some(body) => body.poll_reset(context).map(drop),
        }
    }

    /// Waits for `what`; `None` when the client takes the request back first, or nothing comes for long.
    pub(crate) async fn unless_withdrawn<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        let either = poll_fn(|context| {
            if let Poll::Ready(value) = what.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            self.poll_withdrawn(context).map(|()| None)
        });
        timeout(RELAY_IDLE, either).await.ok().flatten()
    }

    /// Passes a head before the one of the response on.
    pub(crate) fn interim(&mut self, mut response: Response<()>) -> Result<(), h2::Error> {
        self.clean(response.headers_mut());
        self.respond.send_informational(response)
    }

    /// Sends the head of the response; `is_whole` is whether it has no body.
    pub(crate) fn start(
        &mut self,
        mut head: Response<()>,
        is_whole: bool,
    ) -> Result<(), h2::Error> {
        self.clean(head.headers_mut());
        let codings = head.headers().get_all(header::CONTENT_ENCODING).iter();
        self.tap
            .head(head.status().as_u16(), codings.map(HeaderValue::as_bytes));
        self.body = Some(self.respond.send_response(head, is_whole)?);
        if is_whole {
            self.tap.is_whole();
        }
        Ok(())
    }

    /// Passes bytes of the body on, as the client takes them; the error is what becomes of the request.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Outcome> {
        self.tap.answer(&bytes);
        self.tap.recorded().await.map_err(Outcome::Refused)?;
        let bytes = match &mut self.scrub {
            None => bytes,
            Some((scrubber, passage)) => {
                let whole = 0..bytes.len();
                let clean = passage.push(scrubber, &bytes, &[whole], false);
                if clean.is_empty() {
                    return Ok(());
                }
                clean.into()
            }
        };
        self.pass(bytes).await.map_err(|_| Outcome::TakenBack)
    }

    async fn pass(&mut self, bytes: Bytes) -> Result<(), h2::Error> {
        match &mut self.body {
            Some(body) => match timeout(RELAY_IDLE, gate::write(body, bytes)).await {
                Ok(written) => written,
                Err(_) => Err(Reason::CANCEL.into()),
            },
            None => Err(Reason::INTERNAL_ERROR.into()),
        }
    }

    /// Ends the body, with the fields that come after it, once all of it was passed on.
    pub(crate) async fn finish(
        &mut self,
        mut trailers: Option<HeaderMap>,
    ) -> Result<(), h2::Error> {
        if let Some(trailers) = &mut trailers {
            self.clean(trailers);
        }
        if let Some((scrubber, passage)) = &mut self.scrub {
            let rest = passage.push(scrubber, &[], &[], true);
            if !rest.is_empty() {
                self.pass(rest.into()).await?;
            }
        }
        self.end(trailers)
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), h2::Error> {
        let Some(body) = &mut self.body else {
            return Err(Reason::INTERNAL_ERROR.into());
        };
        match trailers {
            Some(trailers) => body.send_trailers(trailers)?,
            None => body.send_data(Bytes::new(), true)?,
        }
        self.tap.is_whole();
        Ok(())
    }

    /// Ends the request without a response, or in the middle of it.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    /// Sends an answer of ours, if no other was begun; half an answer must not look like a whole one.
    pub(crate) async fn answer(&mut self, method: &str, answer: Answer) {
        // It is no answer of the server's.
        self.tap = Tap::default();
        let Ok(response) = response(&answer) else {
            return self.reset(Reason::INTERNAL_ERROR);
        };
        let ends = method == "HEAD" || answer.body.is_empty();
        if self.body.is_some() {
            return self.reset(Reason::CANCEL);
        }
        // The client may be gone, which is no concern of the verdict.
        if self.start(response, ends).is_err() || ends {
            return;
        }
        if self.write(answer.body.into()).await.is_ok() {
            drop(self.finish(None).await);
        }
    }
}

fn response(answer: &Answer) -> Result<Response<()>, http::Error> {
    let head = Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, answer.kind)
        .header(header::CONTENT_LENGTH, HeaderValue::from(answer.body.len()))
        .header(header::CACHE_CONTROL, "no-store");
    let fields = answer.fields.iter();
    let head = fields.fold(head, |head, (name, value)| head.header(*name, value));
    head.body(())
}
