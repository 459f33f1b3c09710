"""Every address of the world: answers names and requests at each of them, and keeps what arrives."""
import json, os, socket, struct, subprocess, sys, threading, time

seen = open(sys.argv[1], "a", buffering=1)
lock = threading.Lock()


def note(*what):
    with lock:
        seen.write(json.dumps(what) + "\n")


def ip(line):
    subprocess.run(["ip"] + line.split(), check=True)


while not os.path.exists("/proc/sys/net/ipv6/conf/v1"):
    time.sleep(0.005)
for line in (
    "link set lo up", "address add 10.77.0.2/24 dev v1", "-6 address add fd77::2/64 dev v1 nodad",
    "link set v1 up", "route add local 0.0.0.0/0 dev lo table main",
    "-6 route add local ::/0 dev lo table main",
):
    ip(line)

# What each name has: one answer after the other, the last one stays.
NAMES = {
    "good.test": [["8.8.4.4"]],
    "six.good.test": [["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd77::2", "fd00:ec2::254", "::"]],
    "flip.good.test": [["8.8.4.4"], ["10.77.0.2"], ["169.254.169.254"], ["127.0.0.1"]],
    "mixed.good.test": [["10.77.0.2", "169.254.169.254", "8.8.4.4", "0.0.0.0"]],
    "own.good.test": [["10.77.0.1", "127.0.0.1", "0.0.0.0"]],
    "alias.good.test": [["evil.test", "9.9.9.9"]],
    "denied.good.test": [["149.112.112.112"]],
    "inner.good.test": [["evil.test", "169.254.169.254"]],
}
asked = {}


def answer(query):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    name, kind = ".".join(labels).lower(), struct.unpack(">H", query[at + 1:at + 3])[0]
    question = query[12:at + 5]
    note("dns", name, kind)
    if name not in NAMES:
        # Other names exist too, at one address.
        values = ["9.9.9.9"]
    else:
        turns = NAMES[name]
        with lock:
            turn = asked.get((name, kind), 0)
            asked[(name, kind)] = turn + 1
        values = turns[min(turn, len(turns) - 1)]
    records, owner = [], b"\xc0\x0c"
    for value in values:
        if value[0].isalpha() and "." in value:
            data = b"".join(bytes([len(part)]) + part.encode() for part in value.split(".")) + b"\0"
            records.append(owner + struct.pack(">HHIH", 5, 1, 0, len(data)) + data)
            owner = data
            continue
        family, own = (socket.AF_INET6, 28) if ":" in value else (socket.AF_INET, 1)
        if own == kind:
            data = socket.inet_pton(family, value)
            records.append(owner + struct.pack(">HHIH", kind, 1, 0, len(data)) + data)
    return query[:2] + struct.pack(">5H", 0x8180, 1, len(records), 0, 0) + question + b"".join(records)


def names():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # The answer comes from where the question went.
    s.setsockopt(socket.IPPROTO_IP, 8, 1)
    s.bind(("0.0.0.0", 53))
    while True:
        query, control, _, peer = s.recvmsg(4096, 256)
        to = [data[8:12] for level, kind, data in control if level == socket.IPPROTO_IP and kind == 8]
        try:
            s.sendmsg([answer(query)], [(socket.IPPROTO_IP, 8, struct.pack("i", 0) + to[0] + to[0])], 0, peer)
        except (IndexError, OSError):
            pass


def converse(s):
    try:
        data = s.recv(65536)
        if data[:4] in (b"GET ", b"POST"):
            note("http", s.getsockname()[0], data.split(b"\r\n")[0].decode("latin-1"))
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlab\n")
        s.close()
    except OSError:
        pass


def listen(family, port):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("", port))
    s.listen(64)
    while True:
        threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()


def packets(s):
    while True:
        frame, (_, _, direction, *_) = s.recvfrom(65536)
        # What the world itself sends.
        if direction == socket.PACKET_OUTGOING:
            continue
        kind, body = frame[12:14], frame[14:]
        if kind == b"\x08\x00":
            protocol, rest = body[9], body[(body[0] & 15) * 4:]
            to = socket.inet_ntop(socket.AF_INET, body[16:20])
        elif kind == b"\x86\xdd":
            protocol, rest = body[6], body[40:]
            to = socket.inet_ntop(socket.AF_INET6, body[24:40])
        else:
            continue
        # What the kernel says of itself on the link: neighbours, routers, groups.
        if (protocol == 58 and 130 <= rest[0] <= 143) or protocol == 0:
            continue
        port = struct.unpack(">H", rest[2:4])[0] if protocol in (6, 17) else 0
        note("packet", protocol, to, port, rest.decode("latin-1"))


raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind(("v1", 0))
jobs = [(packets, (raw,)), (names, ())]
jobs += [(listen, (family, port)) for family in (socket.AF_INET, socket.AF_INET6) for port in (53, 80, 443, 853)]
for job, arguments in jobs:
    threading.Thread(target=job, args=arguments, daemon=True).start()
time.sleep(0.05)
note("up")
time.sleep(120)
