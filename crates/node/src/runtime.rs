//! Everything of the agent that waits does so on one thread.

use std::io;

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?.block_on(future))
}
