//! Where agents inside find the receiver of their telemetry.

use std::net::{IpAddr, Ipv4Addr};

/// The address of the receiver. It is one of the addresses that stand for names inside (198.18.0.0/15,
/// which RFC 2544 keeps for benchmarks), far behind those that are given out: a connection to it goes to
/// the egress process like any other, no program inside can have it, and no port of loopback is taken.
pub const TELEMETRY_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);

/// The ports that OTLP has: gRPC, and HTTP. The receiver understands both on either.
pub const TELEMETRY_PORTS: [u16; 2] = [4317, 4318];

/// Tells whether a connection is to the receiver.
pub fn is_telemetry(address: IpAddr, port: u16) -> bool {
    address.to_canonical() == IpAddr::V4(TELEMETRY_ADDRESS) && TELEMETRY_PORTS.contains(&port)
}

#[cfg(test)]
mod tests {
    use super::{TELEMETRY_ADDRESS, is_telemetry};

    #[test]
    fn both_forms_of_the_address_lead_to_it_and_no_other_does() {
        assert!(is_telemetry(TELEMETRY_ADDRESS.into(), 4318));
        assert!(is_telemetry("::ffff:198.19.255.1".parse().unwrap(), 4317));
        assert!(!is_telemetry(TELEMETRY_ADDRESS.into(), 4319));
        assert!(!is_telemetry("198.19.255.2".parse().unwrap(), 4318));
        assert!(!is_telemetry("127.0.0.1".parse().unwrap(), 4318));
    }
}
