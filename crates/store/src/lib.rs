//! The index of sessions: what `stockade sessions` lists and how a prefix finds its session.
//!
//! Everything in it comes from the journals, which stay the truth; the file can be deleted at any
//! time and is then built again. All calls block and must not be made from within a tokio runtime.
#![forbid(unsafe_code)]

mod database;
mod error;
mod row;
mod store;

pub use error::StoreError;
pub use row::SessionRow;
pub use store::Store;
