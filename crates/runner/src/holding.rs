//! Connections of the session whose first packet the kernel holds: the egress process is asked what
//! becomes of each, and its word is what the program is told.

use stockade_egress::wire::{Connecting, FromSupervisor, Replies, Word as Said};
use stockade_sys::net::{HeldConnections, Word};

/// Tells the egress process of held connections until the session is gone.
pub(crate) fn serve(held: &HeldConnections, replies: &Replies) {
    loop {
        let arrived = match held.receive() {
            Ok(arrived) => arrived,
            // So many that some were lost: they are sent again.
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

/// Returns the word as the kernel is told it.
pub(crate) const fn word(said: Said) -> Word {
    match said {
        Said::Go => Word::Go,
        Said::Refused => Word::Refused,
        Said::NoHost => Word::NoHost,
        Said::NoNetwork => Word::NoNetwork,
        Said::Silence => Word::Silence,
    }
}
