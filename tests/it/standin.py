"""What stands in for the internet: a certificate authority, TLS upstreams and canaries on loopback.

Everything here binds 127.0.0.1 and keeps what it saw, so that a test decides by what arrived, never
by what a client said. Also used by tools/demo; needs python3-cryptography and nothing else.
"""
import base64
import datetime
import gzip
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A CA in a folder: ca.pem, and NAME.pem (key and chain) for what it issues."""

    def __init__(self, folder, name="stand-in root"):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.utcnow()
        self.cert = (
            x509.CertificateBuilder()
            .subject_name(self.name).issuer_name(self.name).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                           critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .sign(self.key, hashes.SHA256()))
        self.pem = self.cert.public_bytes(serialization.Encoding.PEM).decode()
        self.path = os.path.join(self.folder, "ca.pem")
        with open(self.path, "w") as f:
            f.write(self.pem)

    def issue(self, hosts, stem="server", days=29):
        """The path of a PEM file with key and certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        names = [x509.IPAddress(ipaddress.ip_address(h)) if h.replace(".", "").isdigit()
                 else x509.DNSName(h) for h in hosts]
        cert = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])]))
            .issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
                           if hasattr(x509, "ExtendedKeyUsageOID") else
                           x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256()))
        path = os.path.join(self.folder, stem + ".pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            f.write(key.private_bytes(serialization.Encoding.PEM,
                                      serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()))
            f.write(cert.public_bytes(serialization.Encoding.PEM))
            f.write(self.pem.encode())
        return path


class Seen:
    """One request as the upstream got it."""

    def __init__(self, method, path, headers, body, sni):
        self.at = time.time()
        self.method, self.path, self.headers, self.body, self.sni = method, path, headers, body, sni

    @property
    def host(self):
        return self.header("host")

    def header(self, name):
        for k, v in self.headers:
            if k.lower() == name.lower():
                return v
        return None

    def raw(self):
        """Everything of it in one byte string, for searching."""
        head = f"{self.method} {self.path}\n" + "".join(f"{k}: {v}\n" for k, v in self.headers)
        return head.encode("utf-8", "surrogateescape") + b"\n" + self.body

    def __repr__(self):
        return f"<{self.method} {self.host}{self.path} {len(self.body)} bytes>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def body_chunks(self):
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            while True:
                n = int(self.rfile.readline().split(b";")[0], 16)
                piece = self.rfile.read(n)
                self.rfile.readline()
                if n == 0:
                    return
                yield piece
        else:
            n = int(self.headers.get("Content-Length") or 0)
            if n:
                yield self.rfile.read(n)

    def handle_any(self):
        if (self.headers.get("Expect") or "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = b"".join(self.body_chunks())
        sni = getattr(self.connection, "sni_seen", None)
        seen = Seen(self.command, self.path, list(self.headers.items()), body, sni)
        self.server.owner.note(seen)
        try:
            self.server.owner.answer(self, seen)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any

    def reply(self, status, body, kind="application/json", extra=()):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        elif isinstance(body, str):
            body = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for k, v in extra:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def start_chunks(self, status=200, kind="text/plain", extra=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for k, v in extra:
            self.send_header(k, v)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        if isinstance(data, str):
            data = data.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end_chunks(self):
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    allow_reuse_address = True

    def __init__(self, owner, context):
        self.owner, self.context = owner, context
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request, client_address):
        pass

    def finish_request(self, request, client_address):
        # The handshake belongs to the connection's own thread: a client that stalls must not
        # stop the others.
        if self.context:
            request.settimeout(30)
            request = self.context.wrap_socket(request, server_side=True)
        self.RequestHandlerClass(request, client_address, self)
        if self.context:
            # Without close_notify an answer that ends with the connection may have been cut.
            try:
                request.settimeout(1)
                request.unwrap()
            except (OSError, ValueError):
                pass

    def process_request(self, request, client_address):
        self.owner.connections += 1
        super().process_request(request, client_address)


class Upstream:
    """An HTTPS server for the given names on 127.0.0.1:port, in threads of this process."""

    def __init__(self, authority, hosts, stem=None, plain=False, certificate=None):
        self.hosts = list(hosts)
        self.requests, self.connections, self.lock = [], 0, threading.Lock()
        context = None
        if not plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate or authority.issue(self.hosts, stem or hosts[0]))
            context.sni_callback = self._sni
        self.server = _Server(self, context)
        self.port = self.server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever,
                                       kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @staticmethod
    def _sni(connection, name, _context):
        connection.sni_seen = name

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def note(self, seen):
        with self.lock:
            self.requests.append(seen)

    def forget(self):
        with self.lock:
            self.requests.clear()

    def saw(self, needle):
        """True if any request carried these bytes, anywhere."""
        needle = needle.encode() if isinstance(needle, str) else needle
        with self.lock:
            return any(needle in r.raw() for r in self.requests)

    # --- what it answers ---

    def answer(self, h, seen):
        url = urllib.parse.urlsplit(seen.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        name = url.path.strip("/").split("/")[0].replace("-", "_") or "index"
        page = getattr(self, "page_" + name, None)
        if page is None:
            return h.reply(404, {"error": "no such page", "path": url.path})
        return page(h, seen, url, query)

    def page_index(self, h, _seen, _url, _query):
        h.reply(200, "a stand-in for the internet\n", "text/plain")

    def page_json(self, h, _seen, _url, query):
        h.reply(200, {"ok": True, "items": list(range(int(query.get("n", 10))))})

    def page_echo(self, h, seen, _url, _query):
        """Tells the client everything that it sent, credentials included."""
        h.reply(200, {"method": seen.method, "path": seen.path,
                      "headers": {k.lower(): v for k, v in seen.headers},
                      "body": seen.body.decode("utf-8", "replace")})

    def page_text(self, h, _seen, _url, query):
        h.reply(200, "x" * int(query.get("bytes", 1024)), "text/plain")

    def page_sse(self, h, _seen, _url, query):
        h.start_chunks(kind="text/event-stream", extra=[("Cache-Control", "no-cache")])
        for i in range(int(query.get("n", 5))):
            h.chunk(f"event: tick\ndata: {{\"i\":{i},\"at\":{time.time():.6f}}}\n\n")
            time.sleep(int(query.get("pause_ms", 100)) / 1000)
        h.end_chunks()

    def page_chunked(self, h, _seen, _url, query):
        h.start_chunks()
        for i in range(int(query.get("n", 8))):
            h.chunk(f"piece {i}\n")
        h.end_chunks()

    def page_gzip(self, h, _seen, _url, query):
        h.reply(200, gzip.compress(b'{"packed":true}' + b" " * int(query.get("pad", 0))),
                extra=[("Content-Encoding", "gzip")])

    def page_big(self, h, _seen, _url, query):
        left = int(query.get("bytes", 10 << 20))
        h.send_response(200)
        h.send_header("Content-Type", "application/octet-stream")
        h.send_header("Content-Length", str(left))
        h.end_headers()
        piece = bytes(range(256)) * 256
        while left > 0:
            h.wfile.write(piece[:left])
            left -= len(piece)

    def page_redirect(self, h, _seen, _url, query):
        h.reply(302, b"", extra=[("Location", query.get("to", "/json"))])

    def page_status(self, h, _seen, _url, query):
        h.reply(int(query.get("code", 200)), {"status": query.get("code")})

    def page_slow(self, h, _seen, _url, query):
        time.sleep(int(query.get("ms", 1000)) / 1000)
        h.reply(200, {"slow": True})

    def page_close(self, h, _seen, _url, _query):
        """A body that only the end of the connection ends."""
        h.send_response(200)
        h.send_header("Content-Type", "text/plain")
        h.send_header("Connection", "close")
        h.end_headers()
        h.wfile.write(b"until the end\n")
        h.close_connection = True

    def page_upload(self, h, seen, _url, _query):
        h.reply(200, {"bytes": len(seen.body)})


class GitUpstream(Upstream):
    """Serves repositories below a folder over smart HTTP, through git's own http-backend."""
    backend_timeout_s = 60

    def __init__(self, authority, hosts, folder, **kw):
        self.folder = str(folder)
        super().__init__(authority, hosts, **kw)

    @staticmethod
    def backend():
        path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True).stdout.strip()
        return os.path.join(path, "git-http-backend")

    def answer(self, h, seen):
        url = urllib.parse.urlsplit(seen.path)
        body = seen.body
        if seen.header("content-encoding") == "gzip":
            body = gzip.decompress(body)
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.folder, "GIT_HTTP_EXPORT_ALL": "1",
               "REQUEST_METHOD": seen.method, "PATH_INFO": urllib.parse.unquote(url.path),
               "QUERY_STRING": url.query, "CONTENT_TYPE": seen.header("content-type") or "",
               "CONTENT_LENGTH": str(len(body)), "REMOTE_USER": "agent", "REMOTE_ADDR": "127.0.0.1",
               "GIT_PROTOCOL": seen.header("git-protocol") or "", "HOME": self.folder,
               "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
               "GIT_CONFIG_VALUE_0": "*"}
        out = subprocess.run([self.backend()], input=body, env=env, capture_output=True,
                             timeout=self.backend_timeout_s).stdout
        head, _, rest = out.partition(b"\r\n\r\n")
        status, extra, kind = 200, [], "text/plain"
        for line in head.decode().split("\r\n"):
            k, _, v = line.partition(": ")
            if k.lower() == "status":
                status = int(v.split()[0])
            elif k.lower() == "content-type":
                kind = v
            elif k:
                extra.append((k, v))
        h.reply(status, rest, kind, extra)


class MessagesStub(Upstream):
    """As much of the Anthropic Messages API as an agent needs, streaming word by word."""

    def __init__(self, authority, hosts=("api.anthropic.com",), answer_text=None, pause_ms=80, **kw):
        self.answer_text = answer_text or "The bottle holds. Every word of this answer came on its own."
        self.pause = pause_ms / 1000
        self.sent = []  # (time, text) of each delta
        self.at_gate, self.gate = threading.Event(), None  # gate: an Event to wait for, half way
        self.heard = None  # a Semaphore: after each delta, wait for its reader's release
        self.unheard = None  # the first delta that nobody heard of while it was the last one sent
        self.tool = None  # (name, arguments): what the model calls first, if the agent offers it
        self.tools, self.tool_results = set(), []  # what it was offered; what its calls gave
        super().__init__(authority, hosts, **kw)

    def answer(self, h, seen):
        path = urllib.parse.urlsplit(seen.path).path
        if path == "/v1/messages/count_tokens":
            return h.reply(200, {"input_tokens": 12})
        if path == "/v1/messages" and seen.method == "POST":
            asked = json.loads(seen.body)
            self.tools |= {t.get("name", "") for t in asked.get("tools", [])}
            results = [part for m in asked.get("messages", []) if isinstance(m["content"], list)
                       for part in m["content"] if part.get("type") == "tool_result"]
            self.tool_results = results or self.tool_results
            if self.tool and self.tool[0] in self.tools and not results and asked.get("stream"):
                return self.stream_tool(h, asked)
            return self.stream(h, asked) if asked.get("stream") else self.whole(h, asked)
        if path == "/v1/models":
            return h.reply(200, {"data": [], "has_more": False})
        return h.reply(404, {"type": "error", "error": {"type": "not_found_error", "message": path}})

    def message(self, asked, content, stop):
        return {"id": "msg_standin0001", "type": "message", "role": "assistant",
                "model": asked.get("model", "claude"), "content": content, "stop_reason": stop,
                "stop_sequence": None,
                "usage": {"input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 0,
                          "cache_read_input_tokens": 0}}

    def whole(self, h, asked):
        h.reply(200, self.message(asked, [{"type": "text", "text": self.answer_text}], "end_turn"))

    def begin(self, h, asked):
        """A stream has begun; what writes its events."""
        h.start_chunks(kind="text/event-stream; charset=utf-8",
                       extra=[("Cache-Control", "no-cache"), ("request-id", "req_standin0001")])

        def event(kind, **fields):
            h.chunk(f"event: {kind}\ndata: {json.dumps(dict(type=kind, **fields))}\n\n")

        event("message_start", message=self.message(asked, [], None))
        return event

    def stream_tool(self, h, asked):
        name, arguments = self.tool
        event = self.begin(h, asked)
        event("content_block_start", index=0,
              content_block={"type": "tool_use", "id": "toolu_standin01", "name": name, "input": {}})
        event("content_block_delta", index=0,
              delta={"type": "input_json_delta", "partial_json": json.dumps(arguments)})
        event("content_block_stop", index=0)
        event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None},
              usage={"output_tokens": 8})
        event("message_stop")
        h.end_chunks()

    def stream(self, h, asked):
        event = self.begin(h, asked)
        event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        event("ping")
        words = self.answer_text.split(" ")
        for i, word in enumerate(words):
            text = word + (" " if i + 1 < len(words) else "")
            if self.gate and i == len(words) // 2:
                self.at_gate.set()
                self.gate.wait(300)
            self.sent.append((time.time(), text))
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
            if not self.heard:
                time.sleep(self.pause)
            elif self.unheard is None and not self.heard.acquire(timeout=60):
                self.unheard = text
        event("content_block_stop", index=0)
        event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None},
              usage={"output_tokens": len(words)})
        event("message_stop")
        h.end_chunks()


class Listener:
    """A canary: accepts TCP (or takes UDP datagrams) on 127.0.0.1 or another address, keeps what came."""

    def __init__(self, kind=socket.SOCK_STREAM, address="127.0.0.1", port=0):
        self.kind, self.got, self.stopping = kind, [], False
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        if kind == socket.SOCK_STREAM:
            self.socket.listen(64)
        self.socket.settimeout(0.1)
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while not self.stopping:
            try:
                if self.kind == socket.SOCK_STREAM:
                    c, peer = self.socket.accept()
                    c.settimeout(0.3)
                    try:
                        data = c.recv(4096)
                    except OSError:
                        data = b""
                    self.got.append((time.time(), peer, data))
                    try:
                        c.sendall(b"canary\n")
                    except OSError:
                        pass
                    c.close()
                else:
                    data, peer = self.socket.recvfrom(4096)
                    self.got.append((time.time(), peer, data))
                    self.answer(data, peer)
            except socket.timeout:
                continue
            except OSError:
                return

    def answer(self, data, peer):
        self.socket.sendto(b"canary\n", peer)

    def close(self):
        self.stopping = True
        self.thread.join(2)
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class NameServer(Listener):
    """A DNS authority that answers every A question with 127.0.0.1 and keeps the names asked for."""

    def __init__(self, address="127.0.0.1", port=0):
        self.names = []
        super().__init__(socket.SOCK_DGRAM, address, port)

    def answer(self, data, peer):
        labels, i = [], 12
        while i < len(data) and data[i]:
            labels.append(data[i + 1:i + 1 + data[i]].decode("ascii", "replace"))
            i += 1 + data[i]
        self.names.append(".".join(labels))
        question = data[12:i + 5]
        reply = (data[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question +
                 b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + bytes([127, 0, 0, 1]))
        self.socket.sendto(reply, peer)


def encodings(secret):
    """A secret's value as it may lie around: name -> bytes. Base64 in its three alignments is cut to
    the part that does not depend on the neighbours."""
    raw = secret.encode() if isinstance(secret, str) else secret
    out = {"plain": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode(),
           "reversed": raw[::-1], "utf-16": raw.decode("latin-1").encode("utf-16-le"),
           "percent": "".join("%%%02X" % b for b in raw).encode()}
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw)
        out[f"base64+{shift}"] = whole[(0, 2, 3)[shift]:][:(len(raw) * 4) // 3 - 4]
        out[f"base64url+{shift}"] = out[f"base64+{shift}"].replace(b"+", b"-").replace(b"/", b"_")
    return {k: v for k, v in out.items() if len(v) >= 8}


def find_secret(data, secret):
    """The names of the encodings of secret that occur in data."""
    return sorted(k for k, v in encodings(secret).items() if v in data)


def memory_finds(pid, secret, limit_bytes=3 << 30):
    """The encodings of secret that lie in a process's memory, and how much of it was read."""
    needles = encodings(secret)
    found, read = set(), 0
    try:
        maps = open(f"/proc/{pid}/maps").read().splitlines()
        mem = open(f"/proc/{pid}/mem", "rb", 0)
    except OSError:
        return found, 0
    with mem:
        for line in maps:
            span, rights = line.split()[:2]
            if rights[0] != "r" or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            at, end = (int(x, 16) for x in span.split("-"))
            while at < end and read < limit_bytes:
                try:
                    mem.seek(at)
                    data = mem.read(min(end - at, 16 << 20))
                except (OSError, ValueError, OverflowError):
                    break
                if not data:
                    break
                read += len(data)
                found |= {k for k, v in needles.items() if v in data}
                # Overlap, so that nothing hides at the seam.
                at += len(data) if at + len(data) >= end else max(len(data) - 4096, 4096)
    return found, read


def have(command):
    return shutil.which(command) is not None
