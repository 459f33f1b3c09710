"""Stands between ssh and the agent of a session, and asks for what the agent must not sign.

`ssh_agent.py between SOCKET LINE` runs LINE with an agent that passes everything on, and that asks for
hostile variants of each signature before it asks for the signature itself. `ssh_agent.py alone` talks to
the agent by itself. Each line of the output is the name of an attempt and the number of the answer.
"""

import os
import socket
import struct
import subprocess
import sys
import threading

AGENT = os.environ["SSH_AUTH_SOCK"]


def string(data):
    return struct.pack(">I", len(data)) + data


def strings(data):
    parts = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        parts.append(data[4 : 4 + length])
        data = data[4 + length :]
    return parts


def connect():
    agent = socket.socket(socket.AF_UNIX)
    agent.settimeout(20)
    agent.connect(AGENT)
    return agent


def receive(stream):
    head = b""
    while len(head) < 4:
        more = stream.recv(4 - len(head))
        if not more:
            return None
        head += more
    (length,) = struct.unpack(">I", head)
    body = b""
    while len(body) < length:
        more = stream.recv(length - len(body))
        if not more:
            return None
        body += more
    return body


def ask(stream, message):
    stream.sendall(string(message))
    return receive(stream)


def tell(name, answer):
    print(name, answer[0] if answer else "closed", flush=True)


def bind(host_key, session_id, signature, forwarding=0):
    name = string(b"session-bind@openssh.com")
    return b"\x1b" + name + string(host_key) + string(session_id) + string(signature) + bytes([forwarding])


def sign(key, data, flags=0):
    return b"\x0d" + string(key) + string(data) + struct.pack(">I", flags)


class Login:
    """The data of a login, to be put together otherwise."""

    def __init__(self, data):
        (length,) = struct.unpack(">I", data[:4])
        self.session_id = data[4 : 4 + length]
        rest = data[5 + length :]
        self.parts = []
        for count in (3, None):
            while count != 0 and rest:
                (length,) = struct.unpack(">I", rest[:4])
                self.parts.append(rest[4 : 4 + length])
                rest = rest[4 + length :]
                count = count - 1 if count else None
            if count == 0:
                rest = rest[1:]

    def data(self, session_id=None, kind=50, flag=1, **parts):
        names = ["user", "service", "method", "algorithm", "key", "host_key"]
        own = [parts.get(name, part) for name, part in zip(names, self.parts)]
        text = string(session_id or self.session_id) + bytes([kind])
        text += b"".join(map(string, own[:3])) + bytes([flag])
        return text + b"".join(map(string, own[3:]))


def flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


def attack(stream, last_bind, key, data, flags):
    """Asks on the connection that ssh has bound, and on others."""
    login = Login(data)
    assert login.data() == data
    variants = {
        "user": login.data(user=b"root"),
        "user-none": login.data(user=b""),
        "service": login.data(service=b"ssh-userauth"),
        "method": login.data(method=b"hostbased"),
        "algorithm": login.data(algorithm=b"ssh-rsa"),
        "unsigned": login.data(flag=0),
        "kind": login.data(kind=51),
        "session": login.data(session_id=flipped(login.session_id)),
        "inner-key": login.data(key=flipped(login.parts[4])),
        "longer": data + b"\0",
        "shorter": data[:-1],
        "commit": b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512") + string(b"\0" * 64),
        "text": b"a text",
        "nothing": b"",
    }
    if len(login.parts) == 6:
        variants["host-key"] = login.data(host_key=flipped(login.parts[5]))
    for name, text in variants.items():
        tell(name, ask(stream, sign(key, text, flags)))
    tell("flags", ask(stream, sign(key, data, flags | 2)))
    tell("other-key", ask(stream, sign(flipped(key), data, flags)))
    _, host_key, session_id, signature = strings(last_bind[1:-1])
    others = {
        "unbound": [],
        "forwarded": [bind(host_key, session_id, signature, 1)],
        "forwarded-after": [last_bind, bind(host_key, session_id, signature, 1)],
        "forwarded-before": [bind(host_key, session_id, signature, 1), last_bind],
        "bound-session": [bind(host_key, flipped(session_id), signature)],
        "bound-signature": [bind(host_key, session_id, signature[:-1] + flipped(signature[-1:]))],
        "bound-key": [bind(host_key[:-1] + flipped(host_key[-1:]), session_id, signature)],
    }
    for name, binds in others.items():
        other = connect()
        for message in binds:
            ask(other, message)
        tell(name, ask(other, sign(key, data, flags)))


def pass_on(client):
    agent = connect()
    last_bind = None
    while True:
        message = receive(client)
        if message is None:
            return
        if message[0] == 27:
            last_bind = message
        if message[0] == 13 and last_bind is not None:
            key, data = strings(message[1:-4])
            (flags,) = struct.unpack(">I", message[-4:])
            attack(agent, last_bind, key, data, flags)
            answer = ask(agent, message)
            tell("itself", answer)
            tell("again", ask(agent, message))
            other = connect()
            tell("replayed-bind", ask(other, last_bind))
            tell("replayed", ask(other, message))
        else:
            answer = ask(agent, message)
        client.sendall(string(answer))


def between(path, line):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def accept():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=pass_on, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdout.flush()
    subprocess.run(["sh", "-c", line], env={**os.environ, "SSH_AUTH_SOCK": path})


def alone():
    stream = connect()
    tell("list", ask(stream, b"\x0b"))
    for name, message in {
        "add": b"\x11" + string(b"ssh-ed25519"),
        "add-constrained": b"\x19",
        "remove": b"\x12" + string(b"key"),
        "remove-all": b"\x13",
        "lock": b"\x16" + string(b"word"),
        "unlock": b"\x17" + string(b"word"),
        "card": b"\x14",
        "old": b"\x01",
        "query": b"\x1b" + string(b"query"),
        "empty": b"",
        "cut": b"\x0d\0\0\1\0",
        "length": b"\x0d\xff\xff\xff\xff",
    }.items():
        tell(name, ask(stream, message))
    tell("list-after", ask(stream, b"\x0b"))
    long = connect()
    long.sendall(struct.pack(">I", 1 << 30) + b"\x0b")
    tell("long", receive(long))
    cut = connect()
    cut.sendall(struct.pack(">I", 100) + b"\x0b")
    cut.shutdown(socket.SHUT_WR)
    tell("cut-off", receive(cut))
    # More clients than there are, and a flood of requests.
    crowd = [connect() for _ in range(100)]
    for client in crowd:
        try:
            client.sendall(string(b"\x16"))
        except OSError:
            pass
    for client in crowd:
        client.close()
    for _ in range(2000):
        answer = ask(stream, b"\x16")
    tell("flood", answer)
    while True:
        try:
            answer = ask(connect(), b"\x0b")
        except OSError:
            answer = None
        if answer:
            break
    tell("list-last", answer)


if sys.argv[1] == "between":
    between(*sys.argv[2:])
else:
    alone()
