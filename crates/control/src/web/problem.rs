//! What is answered if something is not done: RFC 9457 for programs, a page for people.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use stockade_api::Problem as Told;

use crate::ControlError;

/// Why a request was not carried out, and what to do.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// What is told.
    pub(crate) told: Told,
    /// Whether the next step is to sign in.
    pub(crate) sign_in: bool,
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        Self::failed(&error)
    }
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: String, remedy: String) -> Self {
        Self {
            told: Told::new(status.as_u16(), kind, title).remedy(remedy),
            sign_in: false,
        }
    }

    /// Something in the request is wrong.
    pub(crate) fn wrong(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (detail, remedy) = (detail.into(), remedy.into());
        Self::new(StatusCode::BAD_REQUEST, "request-wrong", detail, remedy)
    }

    /// Something in the request is wrong, of a kind that programs know by its name.
    pub(crate) fn of_kind(kind: &str, detail: &str, remedy: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            kind,
            detail.to_owned(),
            remedy.to_owned(),
        )
    }

    /// What it needs is away.
    pub(crate) fn unavailable(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (detail, remedy) = (detail.into(), remedy.into());
        Self::new(StatusCode::BAD_GATEWAY, "unavailable", detail, remedy)
    }

    /// The caller is not signed in.
    pub(crate) fn signed_out() -> Self {
        let mut problem = Self::new(
            StatusCode::UNAUTHORIZED,
            "signed-out",
            "you are not signed in, or your session has ended".to_owned(),
            "sign in".to_owned(),
        );
        problem.sign_in = true;
        problem
    }

    /// The caller has not proved lately who it is.
    pub(crate) fn stale() -> Self {
        let mut problem = Self::new(
            StatusCode::FORBIDDEN,
            "sign-in-too-old",
            "this needs a sign-in that is less than 5 minutes old".to_owned(),
            "sign in again".to_owned(),
        );
        problem.sign_in = true;
        problem
    }

    /// A name, a password, a code or a passkey is wrong. It does not say which.
    pub(crate) fn not_known(remedy: &str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "signed-out",
            "the name, the password, the code or the passkey is wrong".to_owned(),
            remedy.to_owned(),
        )
    }

    /// The caller may not do this.
    pub(crate) fn forbidden(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (detail, remedy) = (detail.into(), remedy.into());
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail, remedy)
    }

    /// There is no such thing, or the caller may not know of it: both have the same text.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is no such page or object, or it is not for your roles".to_owned(),
            "go to the overview, or ask an administrator for a role".to_owned(),
        )
    }

    /// It has changed meanwhile, or is in a state that does not allow it.
    pub(crate) fn conflict(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (detail, remedy) = (detail.into(), remedy.into());
        Self::new(StatusCode::CONFLICT, "conflict", detail, remedy)
    }

    /// Too many attempts.
    pub(crate) fn later(detail: impl Into<String>, retry_s: u64) -> Self {
        let remedy = format!("try again in {retry_s} s");
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-attempts",
            detail.into(),
            remedy,
        );
        problem.told.retry_ms = Some(retry_s.saturating_mul(1000));
        problem
    }

    /// The request is for another host than this server's.
    pub(crate) fn other_host(expected: &str) -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "another-host",
            "the request names another host than this server's".to_owned(),
            format!("open {expected}"),
        )
    }

    /// The body is too long.
    pub(crate) fn too_long(bytes_max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            format!("the body has more than {bytes_max} bytes"),
            "send less".to_owned(),
        )
    }

    /// The server failed; what exactly is in its own log, not in the answer.
    pub(crate) fn failed(error: &dyn std::error::Error) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            stockade_types::chain(error),
            "try again; if it stays, look at the log of `stockade serve`".to_owned(),
        )
    }

    pub(crate) fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Answers a program.
    pub(crate) fn json(&self) -> Response<Body> {
        let body = serde_json::to_vec(&self.told).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code();
        let kind = HeaderValue::from_static(Told::MEDIA_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(wait_ms) = self.told.retry_ms {
            let seconds = HeaderValue::from(wait_ms.div_ceil(1000));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
