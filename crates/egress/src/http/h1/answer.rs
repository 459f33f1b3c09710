//! Answers of our own: to what was refused, and to what could not be served.

use tokio::time::timeout;

use crate::{
    http::Answer,
    limits::{LINGER_IDLE, LINGER_TOTAL, REFUSAL_WAIT, RELAY_CHUNK_BYTES},
    stream::Stream,
};

/// Sends an answer of ours to a request with `method`, and closes.
pub(crate) async fn send_answer(client: &mut Stream, method: &str, answer: &Answer) {
    let Answer {
        status,
        kind,
        body,
        fields,
        sentence,
    } = answer;
    let phrase = match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        _ => "Service Unavailable",
    };
    // Some clients show people nothing else of an answer (pip, wget).
    let told = if sentence.is_empty() {
        String::new()
    } else {
        format!(": {sentence}")
    };
    let length = body.len();
    let lines = fields
        .iter()
        .flat_map(|(name, value)| [name, ": ", value.as_str(), "\r\n"]);
    let fields: String = lines.collect();
    let head = format!(
        "HTTP/1.1 {status} {phrase}{told}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\n{fields}Connection: close\r\n\r\n"
    );
    let body: &[u8] = if method == "HEAD" { &[] } else { body };
    let text = [head.as_bytes(), body].concat();
    // The client may be gone, which is no concern of the verdict.
    drop(timeout(REFUSAL_WAIT, client.write_all(&text)).await);
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
