//! `what = "file"`: changes of files.

mod body;
mod features;
mod fit;
mod index;
mod probe;
mod read;
mod request;
mod words;

pub(crate) use body::FileBody;
pub(crate) use features::FileFeatures;
pub(crate) use index::PathIndex;
pub(crate) use probe::probe;
pub(crate) use read::{FIELDS, body};
pub use request::{FileContent, FileRequest};
pub use stockade_types::Access;
