//! Connections of the session whose first packet the kernel holds: the egress process decides about
//! each, and the program gets the result that it decides.

use stockade_egress::wire::{Connecting, FromSupervisor, Replies, Word as Said};
use stockade_sys::net::{HeldConnections, Word};

/// Reports held connections to the egress process until the session is gone.
pub(crate) fn serve(held: &HeldConnections, replies: &Replies) {
    loop {
        let arrived = match held.receive() {
            Ok(arrived) => arrived,
            // So many came that some were lost: their senders repeat them.
            Err(error) if error.errno() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                continue;
            }
            Err(_) => return,
        };
        for one in arrived {
            let connecting = Connecting {
                packet: one.packet,
                source: one.source,
                destination: one.destination,
            };
            if replies
                .send(&FromSupervisor::Connecting(connecting))
                .is_err()
            {
                return;
            }
        }
    }
}

/// Returns the word in the form for the kernel.
pub(crate) const fn word(said: Said) -> Word {
    match said {
        Said::Go => Word::Go,
        Said::Refused => Word::Refused,
        Said::NoHost => Word::NoHost,
        Said::NoNetwork => Word::NoNetwork,
        Said::Silence => Word::Silence,
    }
}
