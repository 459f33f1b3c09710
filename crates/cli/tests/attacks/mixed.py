"""Makes ACTIONS actions of every kind, in WORKERS processes at once, in an order drawn from SEED, and
writes what each came to: mixed.py ACTIONS WORKERS SEED HOST PORT. A line of `account-N` is the number of an
action, its kind, and `done` or `refused` as this program was told."""

import http.client
import os
import random
import socket
import sys

ACTIONS, WORKERS, SEED, PORT = (int(word) for word in (*sys.argv[1:4], sys.argv[5]))
# Looked up once: a name that is looked up again and again is only counted.
FRIEND = socket.gethostbyname(sys.argv[4])
PLAIN = os.path.abspath("plain1")
REFUSED = os.path.abspath("asked1")


def mark(number):
    return f"q{number:05}x"


def create(name):
    os.close(os.open(f"new/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def run(program, name):
    process = os.posix_spawn(program, [program, name], {})
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0:
        raise OSError("it failed")


def connect(name):
    # Each number has an address and a port of its own, in a network for documentation.
    number = int(name[1:-1])
    with socket.socket() as one:
        one.settimeout(10)
        one.connect((f"198.51.100.{1 + number // 1000}", 20000 + number % 1000))
        # If the connection is refused in its own protocol, it is made first.
        one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if not one.recv(1) or one.recv(9)[-3:] != b"200":
            raise OSError("refused")


def request(method, name):
    one = http.client.HTTPConnection(FRIEND, PORT, timeout=20)
    one.request(method, f"/{name}", headers={"Host": f"{sys.argv[4]}:{PORT}"})
    answer = one.getresponse()
    answer.read()
    one.close()
    if answer.status != 200:
        raise OSError("refused")


KINDS = {
    "create": create,
    "remove": lambda name: os.remove(f"old/{name}"),
    "rename": lambda name: os.rename(f"old/{name}", f"new/{name}"),
    "directory": lambda name: os.mkdir(f"new/{name}"),
    "link": lambda name: os.symlink("nowhere", f"new/{name}"),
    "execute": lambda name: run(PLAIN, name),
    "create-kept": lambda name: os.mkdir(f"kept/{name}"),
    "rename-kept": lambda name: os.rename(f"old/{name}", f"kept/{name}"),
    "remove-kept": lambda name: os.remove(f"kept/old/{name}"),
    "execute-refused": lambda name: run(REFUSED, name),
    "name": lambda name: socket.getaddrinfo(f"{name}.stranger.test", 80),
    "connect": connect,
    "get": lambda name: request("GET", name),
    "delete": lambda name: request("DELETE", name),
}
# Processes and connections take longer than the rest, so that there are fewer of them.
RARE = {"execute", "execute-refused", "name", "connect", "get", "delete"}
WEIGHTS = [1 if kind in RARE else 3 for kind in KINDS]


def work(worker):
    draw = random.Random(SEED * 1000 + worker)
    with open(f"account-{worker}", "w") as account:
        for number in range(worker, ACTIONS, WORKERS):
            (kind,) = draw.choices(list(KINDS), WEIGHTS)
            try:
                KINDS[kind](mark(number))
                came = "done"
            except OSError:
                came = "refused"
            account.write(f"{number} {kind} {came}\n")


workers = []
for worker in range(WORKERS):
    process = os.fork()
    if process == 0:
        work(worker)
        os._exit(0)
    workers.append(process)
sys.exit(any(os.waitpid(process, 0)[1] for process in workers))
