"""The page's server, started over a face of the tests' own, and raw requests to it."""
import json
import os
import re
import socket
import subprocess
import tempfile
import time


class Server:
    """Any program that serves the page; it tells its address on standard output."""

    def __init__(self, argv, **how):
        self.out = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self.out, text=True, bufsize=1, **how)
        self.at = 0
        self.token = self.next_token()

    def next_line(self):
        """What it prints next."""
        line = ""

        def is_there():
            nonlocal line
            data = os.pread(self.out.fileno(), 1 << 20, self.at)
            line = data[:data.find(b"\n") + 1].decode()
            return line or self.process.poll() is not None

        assert wait_for(is_there, 10, 0.005) and line, "the server has ended"
        self.at += len(line.encode())
        return line

    def said(self):
        """What it has printed since the last time."""
        data = os.pread(self.out.fileno(), 1 << 20, self.at)
        self.at += len(data)
        return data.decode()

    def next_token(self):
        while True:
            line = self.next_line()
            m = re.match(r"http://(127(?:\.\d{1,3}){3}):(\d+)/#([0-9a-f]{64})$", line.strip())
            if m:
                self.host, self.port = m.group(1), int(m.group(2))
                return m.group(3)

    def enter(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.next_token()

    def close(self):
        """Its exit status after an interrupt, and what it printed since."""
        self.process.send_signal(2)
        self.process.stdin.close()
        self.process.wait(10)
        said = self.said()
        self.out.close()
        return self.process.returncode, said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.out.close()

    @property
    def origin(self):
        return f"http://{self.host}:{self.port}"

    def connect(self):
        s = socket.create_connection((self.host, self.port), timeout=10)
        return s

    def raw(self, data):
        """All that is answered to these bytes."""
        with self.connect() as s:
            s.sendall(data)
            return read_all(s)

    def ask(self, method, path, headers=None, body=None, host=None, leave_out=()):
        fields = {"Host": host or f"{self.host}:{self.port}"}
        if method == "POST":
            fields.update({"Origin": self.origin, "Content-Type": "application/json"})
            body = json.dumps(body if body is not None else {}) if not isinstance(body, str) else body
            fields["Content-Length"] = str(len(body.encode()))
        fields.update(headers or {})
        head = "".join(f"{k}: {v}\r\n" for k, v in fields.items() if k not in leave_out)
        return Answer(self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body or ''}".encode()))

    def open(self, token=None):
        """A session: the headers that its requests need."""
        a = self.ask("POST", "/api/session", body={"token": token or self.token})
        assert a.status == 200, a
        return {"Cookie": a.fields["set-cookie"].split(";")[0], "X-Claude-Bottle": a.json["secret"]}


def driver(program, count=0, port=0, token_ms=0):
    """The page's server over a face without bottles."""
    return Server([program, str(port), str(count), str(token_ms)])


class Answer:
    def __init__(self, data):
        self.data = data
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/1.1 ") else 0
        self.fields = {k.lower(): v for k, v in (l.split(": ", 1) for l in lines[1:])}

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return repr(self.data[:300])


def read_all(s):
    data = b""
    try:
        while chunk := s.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def wait_for(condition, seconds=5, pause=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
    return False
