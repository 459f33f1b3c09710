//! New channels.

use super::webhook::draw_secret;
use crate::{
    ControlError,
    clock::now,
    notice::{CHANNELS_MAX, Channel},
    random,
    state::ChannelRow,
};

/// Makes the row of a new channel, once what was given is accepted.
///
/// # Errors
/// When it is not accepted, or leads where the server sends nothing.
pub(crate) async fn new_row(channel: Channel) -> Result<ChannelRow, ControlError> {
    channel.check()?;
    channel.check_place().await?;
    Ok(ChannelRow {
        id: random::name("c-")?,
        secret: draw_secret(&channel)?,
        channel,
        owner: None,
        created: now(),
        skipped: 0,
    })
}

/// Says that there are too many channels.
pub(crate) fn too_many() -> ControlError {
    ControlError::Value {
        what: "the channels",
        value: format!("{CHANNELS_MAX} are there"),
        expected: "at most 64; remove one with `--remove ID`",
    }
}
