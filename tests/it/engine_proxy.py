"""Stands between claude-bottle and a Docker engine's socket, and changes what passes: a request's
JSON, an answer's, or what the engine has been made to do by the time that it is asked. So a wall can
be broken in exactly one place, and an engine can be one that is not installed here.

It speaks one exchange a connection, as the client under test does; after the request it only moves
bytes, both ways and with half-closes, so that hijacked streams and endless answers pass.
"""
import json
import os
import re
import socket
import threading
import time

HEAD_MAX = 1 << 20
VERSION = re.compile(r"^/v\d+\.\d+")


class Rule:
    def __init__(self, method, path, before, request, answer, refuse, stall_s, times):
        self.method, self.path = method, re.compile(path)
        self.before, self.request, self.answer = before, request, answer
        self.refuse, self.stall_s, self.left = refuse, stall_s, times

    def fits(self, method, path):
        return self.left != 0 and method == self.method and self.path.search(VERSION.sub("", path))


class Proxy:
    """.host is what DOCKER_HOST is to be. upstream: the engine's socket; None: there is no engine, and
    every request needs a rule that refuses it."""

    def __init__(self, folder, upstream=None):
        self.socket, self.upstream = f"{folder}/p{os.urandom(4).hex()}.sock", upstream
        self.host = f"unix://{self.socket}"
        self.rules, self.seen, self.failures = [], [], []
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        os.chmod(self.socket, 0o666)
        self.listener.listen(64)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def on(self, method, path, before=None, request=None, answer=None, refuse=None, stall_s=0,
           times=-1):
        """For requests whose path (without the version) path is found in; the first rule that fits is
        the one. before(path, body) is called with the request in hand; request(body) returns another
        body; answer(body) another answer's; refuse is a (status, body) to be answered without asking
        the engine; stall_s goes by before anything else. times: so often."""
        self.rules.append(Rule(method, path, before, request, answer, refuse, stall_s, times))

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.exchange, args=(client,), daemon=True).start()

    def exchange(self, client):
        try:
            self.pass_on(client)
        except OSError:
            pass
        except Exception as e:  # what a test's function found is the test's to hear
            self.failures.append(e)
        finally:
            client.close()

    def find(self, method, path):
        with self.lock:
            self.seen.append(f"{method} {VERSION.sub('', path)}")
            for rule in self.rules:
                if rule.fits(method, path):
                    rule.left -= 1
                    return rule
        return None

    def pass_on(self, client):
        head, rest = read_head(client)
        if not head:
            return
        method, path = head.split(b" ", 2)[:2]
        method, path = method.decode(), path.decode()
        rule = self.find(method, path)
        if not rule:
            self.splice_with_engine(client, head + rest)
            return
        body = rest + read_exactly(client, length_of(head) - len(rest))
        time.sleep(rule.stall_s)
        if rule.before:
            rule.before(path, json.loads(body) if body else None)
        if rule.refuse:
            client.sendall(answer_of(*rule.refuse))
            return
        if rule.request:
            body = json.dumps(rule.request(json.loads(body))).encode()
            head = with_length(head, len(body))
        if rule.answer:
            status, text = self.ask(head + body)
            client.sendall(answer_of(status, rule.answer(json.loads(text))))
            return
        self.splice_with_engine(client, head + body)

    def dial(self):
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(self.upstream)
        return engine

    def ask(self, request):
        """(status, body) of one exchange whose answer is had whole."""
        with self.dial() as engine:
            engine.sendall(request)
            head, rest = read_head(engine)
            status = int(head.split(b" ", 2)[1])
            if b"\r\ntransfer-encoding: chunked" in head.lower():
                while not rest.endswith(b"0\r\n\r\n"):
                    rest += engine.recv(65536)
                return status, unchunk(rest)
            return status, rest + read_exactly(engine, length_of(head) - len(rest))

    def splice_with_engine(self, client, data):
        if not self.upstream:
            raise AssertionError(f"nobody to ask: {data[:80]!r}")
        with self.dial() as engine:
            engine.sendall(data)
            back = threading.Thread(target=move, args=(engine, client), daemon=True)
            back.start()
            move(client, engine)
            back.join()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)
        os.unlink(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def move(source, target):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone: whoever reads from the other is to see that.
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def read_head(s):
    data = b""
    while b"\r\n\r\n" not in data and len(data) < HEAD_MAX:
        more = s.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise OSError("cut")
        data += more
    return data


def length_of(head):
    m = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    return int(m.group(1)) if m else 0


def with_length(head, n):
    return re.sub(rb"(\r\ncontent-length: *)\d+", rb"\g<1>%d" % n, head, flags=re.I)


def unchunk(data):
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        n = int(size.split(b";")[0], 16)
        out, data = out + data[:n], data[n + 2:]
        if n == 0:
            break
    return out


def answer_of(status, body):
    text = json.dumps(body).encode()
    return (b"HTTP/1.1 %d Because\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n" % (status, len(text)) + text)
