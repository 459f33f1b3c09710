//! What a client is answered in the place of a server.

use super::{Message, Read};
use crate::tree::quote;

/// The code of an error that is the implementation's own (JSON-RPC 2.0, section 5.1).
const CODE: &str = "-32001";

/// Writes errors for all requests of a text, in the form in which they came; `None` if none of them is
/// answered.
pub fn refusal(read: &Read, reason: &str) -> Option<Vec<u8>> {
    let mut errors = Vec::new();
    for id in read.messages.iter().filter_map(Message::id) {
        let mut error = br#"{"jsonrpc":"2.0","id":"#.to_vec();
        error.extend_from_slice(id.as_bytes());
        error.extend_from_slice(format!(r#","error":{{"code":{CODE},"message":"#).as_bytes());
        quote(reason.as_bytes(), &mut error);
        error.extend_from_slice(b"}}");
        errors.push(error);
    }
    if errors.is_empty() {
        return None;
    }
    let all = errors.join(&b',');
    Some(if read.is_batch {
        [b"[", all.as_slice(), b"]"].concat()
    } else {
        all
    })
}
