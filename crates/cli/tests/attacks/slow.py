"""A disk whose every write takes WRITE_MS milliseconds: slow.py BACKING DIRECTORY COUNT mounts a file
system of FUSE with one file, `image`, whose bytes are those of BACKING. Once it is unmounted, COUNT has the
number of writes."""

import ctypes
import errno
import os
import struct
import sys
import time

BACKING, DIRECTORY, COUNT = sys.argv[1:]
DELAY_S = int(os.environ["WRITE_MS"]) / 1000
# Numbers of include/uapi/linux/fuse.h.
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS = 1, 2, 3, 4, 14, 15, 16, 17
RELEASE, FSYNC, FLUSH, INIT, OPENDIR, RELEASEDIR, ACCESS = 18, 20, 25, 26, 27, 29, 34
INTERRUPT, DESTROY, BATCH_FORGET = 36, 38, 42
ROOT, IMAGE = 1, 2
WRITE_MAX = 128 * 1024

backing = os.open(BACKING, os.O_RDWR)
size = os.fstat(backing).st_size
writes = 0


def attributes(node):
    mode, length = (0o40755, 0) if node == ROOT else (0o100600, size)
    return struct.pack("<6Q10I", node, length, length // 512, *[0] * 6, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode, node, body):
    global writes
    if opcode == INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, WRITE_MAX, 0, 12, 9, WRITE_MAX, 1, 32, 0, *[0] * 8)
    if opcode == LOOKUP:
        if body.rstrip(b"\0") != b"image":
            return errno.ENOENT
        return struct.pack("<4Q2I", IMAGE, 0, 60, 60, 0, 0) + attributes(IMAGE)
    if opcode in (GETATTR, SETATTR):
        return struct.pack("<Q2I", 60, 0, 0) + attributes(node)
    if opcode in (OPEN, OPENDIR):
        return bytes(16)
    if opcode == READ:
        _, offset, length = struct.unpack_from("<2QI", body)
        return os.pread(backing, length, offset)
    if opcode == WRITE:
        _, offset, length = struct.unpack_from("<2QI", body)
        time.sleep(DELAY_S)
        writes += 1
        return struct.pack("<2I", os.pwrite(backing, body[40 : 40 + length], offset), 0)
    if opcode == STATFS:
        return struct.pack("<5Q4I6I", size // 4096, 0, 0, 1, 0, 4096, 255, 4096, 0, *[0] * 6)
    if opcode in (RELEASE, RELEASEDIR, FSYNC, FLUSH, ACCESS, DESTROY):
        return b""
    return errno.ENOSYS


device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"slow", DIRECTORY.encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit(f"fuse cannot be mounted: {os.strerror(ctypes.get_errno())}")
while True:
    try:
        request = os.read(device, WRITE_MAX + 4096)
    except OSError as error:
        # It was unmounted.
        if error.errno != errno.ENODEV:
            raise
        break
    _, opcode, unique, node = struct.unpack_from("<2I2Q", request)
    if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
        continue
    said = answer(opcode, node, request[40:])
    status, said = (-said, b"") if isinstance(said, int) else (0, said)
    os.write(device, struct.pack("<IiQ", 16 + len(said), status, unique) + said)
with open(COUNT, "w") as count:
    count.write(f"{writes}\n")
