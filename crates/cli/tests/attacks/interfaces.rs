//! The session's own network (N34): no interface, address, route or filter of it changes, and no other
//! network is entered.

use crate::attacks::matrix::{Matrix, closed};

/// What root can do to a network is not done from inside, and neither is a network of one's own made.
#[test]
fn n34_the_sessions_network_is_not_changed() {
    let attempts = [
        closed("bridge", "ip link add lab0 type bridge").twin("ns 'ip link add lab0 type bridge'"),
        closed("pair", "ip link add lab0 type veth peer name lab1")
            .twin("ns 'ip link add lab0 type veth peer name lab1'"),
        closed("down", "ip link set lo down").twin("ns 'ip link set lo up && ip link set lo down'"),
        closed("address", "ip address add 192.0.2.1/32 dev lo")
            .twin("ns 'ip address add 192.0.2.1/32 dev lo'"),
        closed("route", "ip route add 192.0.2.0/24 dev lo")
            .twin("ns 'ip link set lo up && ip route add 192.0.2.0/24 dev lo'"),
        closed("rule", "ip rule add from all lookup 7 priority 7")
            .twin("ns 'ip rule add from all lookup 7 priority 7'"),
        // An empty route table would make every address foreign.
        closed("local", "ip route flush table local && ! ip route show table local | grep -q .")
            .twin("ns 'ip link set lo up && ip route flush table local && ! ip route show table local | grep -q .'"),
        closed("filter", "iptables -F OUTPUT").twin("ns 'iptables -F OUTPUT'"),
        closed("redirect", "iptables -t nat -F").twin("ns 'iptables -t nat -F'"),
        closed("shaping", "tc qdisc add dev lo root handle 1: pfifo")
            .twin("ns 'ip link set lo up && tc qdisc add dev lo root handle 1: pfifo'"),
        closed("forwarding", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            .twin("ns 'echo 1 > /proc/sys/net/ipv4/ip_forward'"),
        // Cloning devices have no file inside; that there are files is the control.
        closed("device", "[ -e /dev/net/tun ] || [ -e /dev/vhost-net ] || [ -e /dev/vsock ]")
            .twin("[ -e /dev/null ]"),
        closed("own-network", "unshare --user --map-root-user --net true"),
        closed("another-network", "nsenter --net=/proc/1/ns/net true")
            .twin("ns 'nsenter --net=/proc/self/ns/net true'"),
        closed("by-descriptor", "exec 7< /proc/self/ns/net && sys 308 7 1073741824")
            .twin("ns 'exec 7< /proc/self/ns/net && sys 308 7 1073741824'"),
    ];
    Matrix {
        tools: &["ip", "iptables", "tc", "nsenter"],
        ..Matrix::new("N34", &attempts)
    }
    .check();
}
