"""Sends frames of HTTP/2 as they are given, and says what came back."""
import os, socket, ssl, struct, sys, time

PORT = int(sys.argv[1])
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'


def frame(kind, flags, stream, payload=b''):
    return struct.pack('>I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + payload


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    n = len(value)
    if n < 127:
        return bytes([n]) + value
    out, n = b'\x7f', n - 127
    while n >= 128:
        out, n = out + bytes([n % 128 + 128]), n // 128
    return out + bytes([n]) + value


def block(fields):
    """Each field as a literal that is not indexed."""
    return b''.join(b'\x00' + text(name) + text(value) for name, value in fields)


def request(path='/allowed/x', method='GET', scheme='https', authority='good.test:%d' % PORT, more=()):
    pseudo = [(':method', method), (':scheme', scheme), (':path', path), (':authority', authority)]
    return [(n, v) for n, v in pseudo if v is not None] + list(more)


def head(fields, stream=1, end=True):
    return frame(1, 4 | (1 if end else 0), stream, block(fields))


class Link:
    def __init__(self, settings=b'', room=None):
        context = ssl.create_default_context()
        context.set_alpn_protocols(['h2'])
        raw = socket.socket()
        if room:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        raw.settimeout(10)
        raw.connect(('good.test', PORT))
        self.socket = context.wrap_socket(raw, server_hostname='good.test')
        self.buffer = b''
        self.send(PREFACE + frame(4, 0, 0, settings))

    def send(self, data):
        """False if the other side takes no more."""
        try:
            self.socket.sendall(data)
            return True
        except (OSError, ssl.SSLError):
            return False

    def next(self):
        while True:
            if len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], 'big')
                if len(self.buffer) >= 9 + length:
                    kind, flags = self.buffer[3], self.buffer[4]
                    stream = int.from_bytes(self.buffer[5:9], 'big') & 0x7fffffff
                    payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
                    return kind, flags, stream, payload
            try:
                more = self.socket.recv(65536)
            except (OSError, ssl.SSLError):
                more = b''
            if not more:
                return None
            self.buffer += more

    def outcome(self, stream=1):
        """Returns how a stream, or the connection before it, ended."""
        while True:
            got = self.next()
            if got is None:
                return 'closed'
            kind, flags, at, payload = got
            if kind == 7:
                return 'goaway %d' % int.from_bytes(payload[4:8], 'big')
            if kind == 3 and at == stream:
                return 'reset %d' % int.from_bytes(payload, 'big')
            if kind == 1 and at == stream:
                return '200' if payload[:1] == b'\x88' else 'refused'


def one(name, *parts):
    link = Link()
    link.send(b''.join(parts))
    print(name, link.outcome(), flush=True)


def malformed():
    one('good', head(request()))
    body = frame(0, 1, 1, b'12345')
    cases = {
        'uppercase': head(request(more=[('X-Upper', 'a')])),
        'connection': head(request(more=[('connection', 'close')])),
        'transfer-encoding': head(request(method='POST', more=[('transfer-encoding', 'chunked')]), end=False) + body,
        'upgrade': head(request(more=[('upgrade', 'h2c')])),
        'http2-settings': head(request(more=[('http2-settings', 'AAMAAABkAAQAAP')])),
        'te': head(request(more=[('te', 'gzip')])),
        'two-paths': head([(':path', '/allowed/a')] + request()),
        'two-methods': head([(':method', 'POST')] + request()),
        'late-pseudo': head([('a', 'b')] + request()),
        'unknown-pseudo': head([(':other', 'b')] + request()),
        'status': head([(':status', '200')] + request()),
        'no-path': head(request(path=None)),
        'empty-path': head(request(path='')),
        'no-method': head(request(method=None)),
        'no-scheme': head(request(scheme=None)),
        'no-authority': head(request(authority=None)),
        'scheme-http': head(request(scheme='http')),
        'scheme-ftp': head(request(scheme='ftp')),
        'lower-method': head(request(method='get')),
        'method-space': head(request(method='GET /private HTTP/1.1\r\nx:')),
        'path-space': head(request(path='/allowed/x HTTP/1.1\r\nHost: good.test\r\n\r\nGET /private')),
        'path-crlf': head(request(path='/allowed/x\r\nx-a: b')),
        'path-backslash': head(request(path='/allowed\\x')),
        'path-relative': head(request(path='allowed/x')),
        'path-absolute': head(request(path='https://evil.test/allowed/x')),
        'path-star': head(request(path='*')),
        'value-crlf': head(request(more=[('x-a', 'b\r\nTransfer-Encoding: chunked')])),
        'value-lf': head(request(more=[('x-a', 'b\ny: c')])),
        'value-nul': head(request(more=[('x-a', 'b\x00c')])),
        'value-padded': head(request(more=[('x-a', ' b')])),
        'name-space': head(request(more=[('x-a ', 'b')])),
        'name-colon': head(request(more=[('x-a: b\r\nhost', 'evil.test')])),
        'name-empty': head(request(more=[('', 'b')])),
        'authority-user': head(request(authority='good.test@evil.test')),
        'authority-crlf': head(request(authority='good.test\r\nx: y')),
        'authority-other': head(request(authority='evil.test')),
        'authority-port': head(request(authority='good.test:1')),
        'host-other': head(request(more=[('host', 'evil.test')])),
        'two-hosts': head(request(authority=None, more=[('host', 'good.test')] * 2)),
        'connect': head([(':method', 'CONNECT'), (':authority', 'evil.test:443')]),
        'trace': head(request(method='TRACE')),
        'length-twice': head(request(method='POST', more=[('content-length', '5'), ('content-length', '6')]), end=False) + body,
        'length-same': head(request(method='POST', more=[('content-length', '5')] * 2), end=False) + body,
        'length-sign': head(request(method='POST', more=[('content-length', '+5')]), end=False) + body,
        'length-short': head(request(method='POST', more=[('content-length', '4')]), end=False) + body,
        'length-bodyless': head(request(method='POST', more=[('content-length', '5')])),
        'too-many': head(request(more=[('x-%d' % n, 'a') for n in range(200)])),
        'too-long': head(request(more=[('x-%d' % n, 'a' * 8000) for n in range(2)])) and b''.join(
            frame(1 if n == 0 else 9, 4 if n == 9 else 0, 1, part)
            for n, part in enumerate([block(request())] + [block([('x-%d' % n, 'a' * 16000)]) for n in range(9)])),
        'even-stream': head(request(), stream=2),
        'push': frame(5, 4, 1, struct.pack('>I', 2) + block(request())),
        'data-first': body,
        'hpack': frame(1, 5, 1, b'\xff\xff\xff\xff\xff\xff'),
        'long-frame': frame(0, 0, 1, b'x' * 20000),
    }
    for name, parts in cases.items():
        one(name, parts)


def flood(name, link, parts, count):
    for n in range(count):
        if not link.send(parts(n)):
            break
    print(name, link.outcome(2 ** 31 - 1), flush=True)


def floods():
    end = struct.pack('>I', 8)
    link = Link()
    flood('rapid-reset', link, lambda n: head(request(), 2 * n + 1) + frame(3, 0, 2 * n + 1, end), 3000)
    link = Link()

    def slowly(n):
        time.sleep(0.002)
        before = frame(3, 0, 2 * n - 1, end) if n else b''
        return before + head(request('/allowed/never'), 2 * n + 1)
    flood('slow-reset', link, slowly, 400)
    link = Link()
    start = frame(1, 0, 1, block(request()))
    flood('continuation', link, lambda n: (start if n == 0 else b'') + frame(9, 0, 1, block([('x', 'y' * 8000)])), 3000)
    link = Link()
    start = frame(1, 0, 1, block(request()))
    flood('empty-continuation', link, lambda n: (start if n == 0 else b'') + frame(9, 0, 1), 100000)
    link = Link()
    indexed = b'\x40' + text('x') + text('y' * 4000)
    bomb = frame(1, 1, 1, block(request()) + indexed) + frame(9, 0, 1, b'\xbe' * 16000) + frame(9, 4, 1, b'\xbe' * 16000)
    flood('hpack-bomb', link, lambda n: bomb, 1)
    link = Link()
    flood('empty-data', link, lambda n: (head(request('/echo', 'POST'), end=False) if n == 0 else b'') + frame(0, 0, 1), 20000)
    # These are answered as long as the other side reads, which it does not: they are not read on then.
    for name, kind, payload in [('settings', 4, b''), ('ping', 6, b'12345678')]:
        link = Link(room=4096)
        link.socket.settimeout(1)
        taken = 0
        while taken < 2000000 and link.send(frame(kind, 0, 0, payload) * 1000):
            taken += 1000
        print(name, 'stopped' if taken < 2000000 else 'taken', flush=True)
    # Windows that stay shut: nothing is read of the server beyond what may wait.
    link = Link(struct.pack('>HI', 4, 0))
    link.send(b''.join(head(request('/large/6000000'), 2 * n + 1) for n in range(20)))
    link.socket.settimeout(1)
    seen = set()
    while (got := link.next()) is not None:
        seen.add(got[0])
    print('window', 'data' if 0 in seen else 'no data', 'heads' if 1 in seen else 'no heads', flush=True)
    return link


def main():
    if sys.argv[2] == 'malformed':
        return malformed()
    kept = floods()
    # Others go on while all of that is open.
    one('after', head(request()))
    kept.socket.close()


main()
