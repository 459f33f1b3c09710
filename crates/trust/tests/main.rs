//! Grants: what a machine believes, and every way we know to make it believe more.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

mod forged;
mod keys;
mod lab;
mod late;
mod passkeys;
mod rollout;
mod root;
mod standing;
mod team;
mod tokens;
