//! Answers of our own: to what was refused, and to what could not be served.

use stockade_types::DecisionRecord;
use tokio::time::timeout;

use crate::{
    limits::{LINGER_IDLE, LINGER_TOTAL, REFUSAL_WAIT, RELAY_CHUNK_BYTES},
    stream::Stream,
    upstream::Failed,
    wire::Unanswered,
};

/// Answers a refused request with the decision as JSON.
pub(crate) async fn answer_denied(
    client: &mut Stream,
    method: &str,
    record: &Result<DecisionRecord, Unanswered>,
) {
    let status = if record.is_ok() { 403 } else { 503 };
    answer(client, status, method, &body_of(record)).await;
}

/// Answers a request that was allowed and could not be served.
pub(super) async fn answer_failed(client: &mut Stream, status: u16, method: &str, text: &str) {
    answer(client, status, method, &error_body(text)).await;
}

pub(super) fn body_of(record: &Result<DecisionRecord, Unanswered>) -> String {
    match record {
        Ok(record) => {
            serde_json::to_string(record).unwrap_or_else(|error| error_body(&error.to_string()))
        }
        Err(error) => error_body(&unrecorded(error)),
    }
}

pub(super) fn unrecorded(error: &Unanswered) -> String {
    format!("refused, because the decision could not be recorded: {error}")
}

fn error_body(text: &str) -> String {
    serde_json::json!({ "error": text }).to_string()
}

pub(super) async fn answer(client: &mut Stream, status: u16, method: &str, body: &str) {
    let phrase = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        502 => "Bad Gateway",
        _ => "Service Unavailable",
    };
    let length = body.len() + 1;
    let mut text = format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    if method != "HEAD" {
        text.push_str(body);
        text.push('\n');
    }
    // The client may be gone, which is no concern of the verdict.
    drop(timeout(REFUSAL_WAIT, client.write_all(text.as_bytes())).await);
    linger(client).await;
}

/// Closes so that the client can read what was sent: unread bytes would turn the close into a
/// reset that overtakes the answer (RFC 9112 section 9.6).
pub(crate) async fn linger(client: &mut Stream) {
    if client.end().await.is_err() {
        return;
    }
    let discard = async {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let read = client.fill(&mut buffer, RELAY_CHUNK_BYTES);
            match timeout(LINGER_IDLE, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return,
            }
        }
    };
    drop(timeout(LINGER_TOTAL, discard).await);
}

impl Failed {
    /// Tells an HTTP client.
    pub(crate) async fn answer_http(self, client: &mut Stream, method: &str) {
        match self {
            Self::Refused(record) => answer_denied(client, method, &record).await,
            Self::Unrecorded(error) => answer_denied(client, method, &Err(error)).await,
            Self::Unreachable(error) => {
                answer_failed(client, 502, method, &error.full()).await;
            }
        }
    }
}
