//! The index of sessions: `stockade sessions` lists it, and prefixes of ids are resolved with it.
//!
//! Everything in it comes from the journals, which remain the source of truth; the file can be
//! deleted at any time and is then built again. All calls block and must not be made from within a
//! tokio runtime.
#![forbid(unsafe_code)]

mod database;
mod error;
mod row;
mod store;

pub use error::StoreError;
pub use row::SessionRow;
pub use store::Store;
