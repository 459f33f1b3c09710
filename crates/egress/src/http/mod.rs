//! Requests: what of them is judged, and the protocols that carry them.
//!
//! | module | what |
//! |---|---|
//! | `head` | what is judged, the same for every protocol: method, host, path, fields |
//! | `admit` | what happens to a request before anything of it is sent |
//! | `credentials` | what programs send in the place of credentials, and what servers get |
//! | `content` | what is found in requests, and what becomes of it |
//! | `calls` | calls of models, read while they pass |
//! | `mcp` | what agents and servers of tools say to each other, read and judged while it passes |
//! | `tap` | who of these reads a request |
//! | `pins` | tools of servers in these, compared before a model reads them |
//! | `unpack` | takes the codings of bodies off |
//! | `otlp` | the receiver of what agents export about themselves |
//! | `renewal` | requests for new tokens of logins, which are served here |
//! | `whole` | answers to requests of our own, and for new tokens |
//! | `answer` | what clients are told of requests that are not served |
//! | `meaning` | what the first bytes of a body say of the meaning of a request |
//! | `ages` | how old versions of packages are, which their registries are asked |
//! | `h1` | HTTP/1: the strict reader, and the connection that carries one request after another |
//! | `h2` | HTTP/2: requests side by side, to a server that speaks it or HTTP/1 |
//!
//! A protocol reads a [`Head`], has it admitted as an [`Addressed`] on its connection, and sends what
//! the proof of that holds.

mod admit;
mod ages;
mod answer;
mod calls;
mod content;
mod credentials;
pub(crate) mod h1;
pub(crate) mod h2;
mod head;
mod mcp;
mod meaning;
pub(crate) mod otlp;
mod pins;
mod renewal;
mod said;
mod stop;
mod tap;
mod unpack;
mod whole;

pub(crate) use admit::{Admitted, Carrier, Way};
pub(crate) use ages::Ages;
pub(crate) use answer::{Answer, sentence};
pub(crate) use content::{Contents, Place, Searched};
pub(crate) use credentials::{Credentials, Dressed, Uses, too_long};
pub use credentials::{CredentialsError, HeldCredential};
pub(crate) use head::{Addressed, Field, Fields, Head};
pub(crate) use pins::Known;
pub(crate) use stop::Stop;
pub(crate) use tap::Tap;
