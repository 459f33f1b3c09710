//! How people are told that something waits or went wrong: webhooks, chats and mail.
//!
//! | module | what |
//! |---|---|
//! | `events` | where what is told comes from |
//! | `words` | how it is said, for each form of channel |
//! | `webhook` | signatures, and requests to receivers |
//! | `mail` | the relay of mail, and messages |
//! | `smtp` | the dialogue with it |
//! | `deliver` | which delivery is tried when |
//! | `making` | new channels |
//!
//! What happens is noted in the transaction in which it happens, so that no kill loses it. It is told at
//! least once, under one id. Telling is beside everything else: no question waits for a receiver.

mod deliver;
mod events;
mod mail;
mod making;
mod smtp;
mod webhook;
mod words;

#[cfg(test)]
pub(crate) use deliver::DELAYS_MS;
pub(crate) use mail::probe;
pub use mail::{MailSettings, MailTls};
pub(crate) use making::{new_row, too_many};
