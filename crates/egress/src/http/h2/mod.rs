//! HTTP/2 inside TLS that was opened: requests of one connection side by side, each judged, answered
//! and ended by itself.
//!
//! The frames are those of the crate `h2`, which refuses what no frame may be. What it does not judge is
//! refused here: [`head`] reads a request as strictly as HTTP/1 is read, so that nothing becomes another
//! request on its way to a server of HTTP/1.
//!
//! | module | what |
//! |---|---|
//! | `link` | what the requests of one connection share |
//! | `client` | the client's end of one request |
//! | `head` | request heads, read and written anew |
//! | `serve` | one connection: its requests, its bounds, its end |
//! | `request` | one request from its head to its end |
//! | `servers` | the connections to the server that requests of one connection share |
//! | `to_h2` | a request on its way to a server of HTTP/2 |
//! | `to_h1` | the same, translated for a server of HTTP/1 |

mod client;
mod head;
mod link;
mod request;
mod serve;
mod servers;
#[cfg(test)]
mod tests;
mod to_h1;
mod to_h2;
mod upload;

pub(crate) use link::Link;
pub(crate) use serve::serve;
