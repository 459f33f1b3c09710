//! The session's network: a loopback to which every address is routed, and the owner of a socket.

mod diag;
mod hold;
mod listen;
mod netlink;
mod nftables;
mod route;

pub use diag::{Protocol, SocketDiagnosis};
pub use hold::{Held, HeldConnections, Word};
pub use listen::{
    Datagram, Families, bind, dns_socket, listen, listen_local, original_destination,
    receive_datagram, send_datagram,
};
pub use nftables::{hold_all_tcp, redirect_all_tcp};
pub use route::{bring_up_loopback, route_everything_to_loopback};
