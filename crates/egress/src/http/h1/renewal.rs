//! Requests for new tokens of a login: they are read whole, and answered here.

use tokio::time::timeout;

use super::{
    Malformed,
    answer::send_answer,
    body::Body,
    chunked::{Manner, Piece},
    head::RequestHead,
    opening::CONTINUE,
    serve::{Exchange, Next},
};
use crate::{
    http::too_long,
    judge::Waiter,
    limits::{HEAD_READ_BYTES, OPENING_WAIT, TOKEN_REQUEST_BYTES_MAX},
};

/// Why a body was not read.
enum Unread {
    Gone,
    TooLong,
    Malformed(Malformed),
}

impl Exchange<'_> {
    /// Serves a request for new tokens.
    pub(super) async fn renew(&mut self, request: RequestHead) -> Next {
        let RequestHead { head, carried } = request;
        let mut body = Body::new(carried.framing, Manner::Strict);
        let waits = head.fields.iter().any(|field| field.is("expect"));
        if waits && self.pending.is_empty() && self.client.write_all(CONTINUE).await.is_err() {
            return Next::Close;
        }
        let read = timeout(OPENING_WAIT, self.read_whole(&mut body)).await;
        let answer = match read.unwrap_or(Err(Unread::Gone)) {
            Ok(body) => {
                let waiter = Waiter::Connection {
                    client: self.client,
                    destination: self.destination,
                };
                self.carrier.renew(&head, body, waiter).await
            }
            Err(Unread::Gone) => return Next::Close,
            Err(Unread::Malformed(malformed)) => {
                self.refuse_malformed(malformed).await;
                return Next::Close;
            }
            Err(Unread::TooLong) => {
                let decision = too_long(&head.path);
                let request = self
                    .carrier
                    .addressed(head.clone(), carried, Vec::new().into());
                self.carrier.refuse(&request, decision).await
            }
        };
        send_answer(self.client, &head.method, &answer).await;
        Next::Close
    }

    async fn read_whole(&mut self, body: &mut Body) -> Result<Vec<u8>, Unread> {
        let mut whole = Vec::new();
        loop {
            let pending = std::mem::take(&mut self.pending);
            let read = body.read(&pending, |piece| match piece {
                Piece::Data(bytes) => whole.extend_from_slice(bytes),
                Piece::Trailer(_) => {}
            });
            read.map_err(Unread::Malformed)?;
            if whole.len() > TOKEN_REQUEST_BYTES_MAX {
                return Err(Unread::TooLong);
            }
            if body.is_done() {
                return Ok(whole);
            }
            match self.client.fill(&mut self.pending, HEAD_READ_BYTES).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Unread::Gone),
            }
        }
    }
}
