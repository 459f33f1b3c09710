//! How a machine that is enrolled connects.

use crate::{
    http::{Connection, HttpError, Server},
    identity::{Certificate, Enrolment, NodeKey},
    tls::{self, TlsError},
};

/// Connects to the server of an enrolment.
pub(crate) async fn connection<E: From<HttpError> + From<TlsError>>(
    enrolment: &Enrolment,
    certificate: &Certificate,
    key: &NodeKey,
) -> Result<Connection, E> {
    let server = Server::parse(&enrolment.url)?;
    let tls = tls::mutual(&enrolment.authority, &certificate.pem, key.seed())?;
    Ok(Connection::open(&server, tls).await?)
}
