//! Webhooks: signatures as Standard Webhooks has them, and requests to receivers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use stockade_types::UnixMillis;

use crate::{
    ControlError,
    notice::{Channel, Form},
    outbound::{Asking, Outbound, OutboundError, Said},
    random,
    state::ChannelRow,
};

/// What secrets begin with, so that scanners for secrets know them.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Who sends.
const AGENT: &str = concat!("Stockade/", env!("CARGO_PKG_VERSION"));

/// Draws what the messages of a channel are signed with; it is shown once. Empty for other forms.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn draw_secret(channel: &Channel) -> Result<String, ControlError> {
    match channel.form {
        Form::Webhook => {
            let bytes = random::bytes::<SECRET_BYTES>()?;
            Ok(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)))
        }
        Form::Slack | Form::Mattermost | Form::Teams | Form::Mail => Ok(String::new()),
    }
}

/// Signs a message: its id, the time of this attempt in seconds, and its body. `None` if the secret is none.
pub(crate) fn signature(secret: &str, id: &str, seconds: u64, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(tag.as_ref())))
}

/// Sends a message once.
///
/// # Errors
/// When the receiver is not reached, or does not say that it has it.
pub(crate) async fn send(
    outbound: &Outbound,
    row: &ChannelRow,
    id: &str,
    body: String,
    now: UnixMillis,
) -> Result<(), String> {
    let mut headers = vec![("user-agent", AGENT.to_owned())];
    if row.channel.form == Form::Webhook {
        let seconds = now.0 / 1_000;
        let signed = signature(&row.secret, id, seconds, &body);
        headers.extend([
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            (
                "webhook-signature",
                signed.ok_or("the channel has no secret")?,
            ),
        ]);
    }
    let asking = Asking {
        url: &row.channel.to,
        authorization: None,
        body: Said::Json {
            text: body,
            headers,
        },
    };
    let failed = |error: OutboundError| stockade_types::chain(&error);
    let (status, _) = outbound.ask(asking).await.map_err(failed)?;
    if status.is_success() {
        return Ok(());
    }
    Err(format!("the receiver answered {status}"))
}

#[cfg(test)]
mod tests {
    use super::signature;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signed.as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
        for wrong in ["", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(signature(wrong, "m", 1, "{}"), None);
        }
    }
}
