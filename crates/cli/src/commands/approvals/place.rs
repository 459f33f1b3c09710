//! Whose questions a command is about: those of sessions on this machine, or those of the server.

use super::{
    Command,
    server::{Doing, How},
};

/// Whose questions a command is about.
pub(super) enum Where {
    /// Those of sessions on this machine.
    Here(Option<Command>),
    /// Those of the server, with its address if it was given.
    There(Option<String>, Doing),
}

/// Tells whose questions a command is about.
///
/// # Errors
/// What does not go together.
pub(super) fn of_server(
    server: Option<String>,
    command: Option<Command>,
) -> Result<Where, &'static str> {
    let needs_server =
        "`--watch`, `--shown`, `--passphrase-file` and a reason to allow need `--server`";
    let Some(url) = server else {
        let is_plain = |how: &How| how.shown.is_none() && how.passphrase_file.is_none();
        let fits = match &command {
            Some(Command::List { watch }) => !watch,
            Some(Command::Allow { reason, how, .. }) => reason.is_none() && is_plain(how),
            Some(Command::Deny { how, .. }) => is_plain(how),
            None
            | Some(
                Command::Show { .. }
                | Command::Grants
                | Command::Revoke { .. }
                | Command::Key { .. },
            ) => true,
        };
        return fits.then_some(Where::Here(command)).ok_or(needs_server);
    };
    let doing = match command {
        None | Some(Command::Key { .. }) => Doing::List { watch: false },
        Some(Command::List { watch }) => Doing::List { watch },
        Some(Command::Show { id }) => Doing::Show { id },
        Some(Command::Allow {
            everywhere: true, ..
        }) => return Err("`--everywhere` is about rules of yours, and goes without `--server`"),
        Some(Command::Allow {
            id,
            scope,
            reason,
            how,
            everywhere: false,
        }) => Doing::Allow {
            id,
            reach: scope,
            reason,
            how,
        },
        Some(Command::Deny { session: true, .. }) => {
            return Err(
                "`--session` goes without `--server`: a no to the server is for one question",
            );
        }
        Some(Command::Deny {
            id,
            reason,
            how,
            session: false,
        }) => Doing::Deny { id, reason, how },
        Some(Command::Grants | Command::Revoke { .. }) => {
            return Err(
                "grants are of sessions on this machine; take it back there, without `--server`",
            );
        }
    };
    // Without an address it is where the person is signed in.
    Ok(Where::There(Some(url).filter(|url| !url.is_empty()), doing))
}
