"""The page's server, byte by byte: web_wire.py PROGRAM."""
import os
import signal
import socket
import sys
import threading
import time
import unittest

from web_world import Answer, driver, read_all, wait_for

PROGRAM = sys.argv.pop(1)
HASH = {n: f"{n:02x}" * 32 for n in range(1, 200)}
SLUG = "coder-1"


def decision(number, **more):
    return dict({"slug": SLUG, "id": number, "hash": HASH[number], "granted": True, "scope": "bottle"}, **more)


class Slow(threading.Thread):
    """A request that comes a byte now and then, which buys it no time."""

    def __init__(self, server):
        super().__init__()
        self.socket = server.connect()
        self.started = time.monotonic()
        self.took, self.answer = None, b""
        self.start()

    def run(self):
        with self.socket as s:
            s.sendall(b"GET / HTTP/1.1\r\n")
            s.settimeout(0.25)
            while time.monotonic() - self.started < 6:
                try:
                    s.sendall(b"X")
                    chunk = s.recv(4096)
                except socket.timeout:
                    continue
                except OSError:
                    break
                if not chunk:
                    break
                self.answer += chunk
        self.took = time.monotonic() - self.started


class WebTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = driver(PROGRAM, 300)
        cls.session = cls.server.open()
        # Of a server of its own, as others' connections take the place of such ones.
        cls.slow_server = driver(PROGRAM)
        cls.slow = Slow(cls.slow_server)

    @classmethod
    def tearDownClass(cls):
        cls.slow.join()
        assert 2.5 < cls.slow.took < 10, cls.slow.took
        assert Answer(cls.slow.answer or b"HTTP/1.1 408 \r\n\r\n").status == 408
        status, _ = cls.slow_server.close()
        assert status == 0, status
        status, _ = cls.server.close()
        assert status == 0, status

    def ask(self, *args, **kw):
        return self.server.ask(*args, **kw)

    def post(self, path, body, headers=None, **kw):
        return self.ask("POST", path, dict(self.session, **(headers or {})), body, **kw)

    def get(self, path, headers=None, **kw):
        return self.ask("GET", path, dict(self.session, **(headers or {})), **kw)

    def see(self, number):
        a = self.get(f"/api/request/{SLUG}/{number}")
        self.assertEqual(a.status, 200, a)
        return a.json

    # --- the page ---

    def test_page_has_every_header(self):
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            a = self.ask("GET", path)
            self.assertEqual(a.status, 200)
            self.assertTrue(a.fields["content-type"].startswith(kind))
            policy = a.fields["content-security-policy"]
            for rule in ("default-src 'none'", "script-src 'self'", "worker-src 'none'", "style-src 'self'", "connect-src 'self'",
                         "img-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
                         "require-trusted-types-for 'script'"):
                self.assertIn(rule, policy)
            self.assertNotIn("unsafe", policy)
            for name, value in (("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"),
                                ("cross-origin-opener-policy", "same-origin"), ("cache-control", "no-store"),
                                ("cross-origin-resource-policy", "same-origin"), ("x-frame-options", "DENY"),
                                ("connection", "close")):
                self.assertEqual(a.fields[name], value)
            self.assertFalse([f for f in a.fields if f.startswith("access-control-")])
            self.assertNotIn(b"style=", a.body)
            self.assertNotIn(b"innerHTML", a.body)

    def test_paths_have_one_name(self):
        for path in ("/..", "/../etc/passwd", "/page.js/", "//page.js", "/%70age.js", "/page/index.html",
                     "/api/../page.js", "/api/request/", "/api/request/coder-1", "/api/request/../coder-1/1",
                     "/api/request/coder-1/1/", "/api/request/coder-1/%31", "/api/request/coder-1/-1",
                     "/api/request/coder-1/1?x=1", "/favicon.ico", "/api", "/API/state"):
            self.assertIn(self.get(path).status, (400, 404), path)

    def test_methods(self):
        for method, path, allow in (("POST", "/", "GET"), ("HEAD", "/", "GET"), ("PUT", "/api/state", "GET"),
                                    ("GET", "/api/decide", "POST"), ("OPTIONS", "/api/decide", "POST"),
                                    ("DELETE", "/api/stop", "POST"), ("GET", "/api/session", "POST")):
            a = self.ask(method, path, self.session)
            self.assertEqual((a.status, a.fields.get("allow")), (405, allow), (method, path))
            self.assertNotIn("access-control-allow-origin", a.fields)

    # --- who asks ---

    def test_other_names_learn_nothing(self):
        here, port = self.server.host, self.server.port
        octets = [int(o) for o in here.split(".")]
        number = int.from_bytes(bytes(octets), "big")
        for host in ("localhost", f"localhost:{port}", here, f"{here}:{port + 1}", f"127.0.0.1:{port}",
                     f"evil.example:{port}", f"[::1]:{port}", f"[::ffff:{here}]:{port}", f"{here}.:{port}",
                     f"0x{number:x}:{port}", f"{number}:{port}", f"127.{number & 0xffffff}:{port}",
                     f"{octets[0]:#o}.{here.partition('.')[2]}:{port}"):
            for path in ("/", "/api/state", "/nothing"):
                a = self.get(path, host=host)
                self.assertEqual((a.status, a.body), (421, b""), host)
                self.assertEqual(set(a.fields), {"connection", "content-length"})
        for raw in (f"GET http://{here}:{port}/ HTTP/1.1\r\nHost: {here}:{port}\r\n\r\n",
                    f"GET http://evil.example/ HTTP/1.1\r\nHost: {here}:{port}\r\n\r\n",
                    f"CONNECT {here}:{port} HTTP/1.1\r\nHost: {here}:{port}\r\n\r\n",
                    f"GET / HTTP/1.1\r\nHost: {here}:{port}\r\nHost: evil.example\r\n\r\n",
                    f"GET / HTTP/1.1\r\nHost: {here}:{port}\r\nHost: {here}:{port}\r\n\r\n",
                    f"GET / HTTP/1.1\r\nHost: x@{here}:{port}\r\n\r\n",
                    "GET / HTTP/1.1\r\n\r\n"):
            a = Answer(self.server.raw(raw.encode()))
            self.assertIn(a.status, (400, 421), raw)
            self.assertEqual(a.body, b"")

    def test_other_origins(self):
        self.see(1)
        for origin in ("null", "http://evil.example", f"http://localhost:{self.server.port}",
                       f"http://127.0.0.1:{self.server.port}", f"http://{self.server.host}",
                       f"http://{self.server.host}:{self.server.port + 1}", f"https://{self.server.host}:{self.server.port}",
                       f"{self.server.origin}/", f"{self.server.origin}.evil.example"):
            a = self.post("/api/decide", decision(1), {"Origin": origin})
            self.assertEqual(a.status, 403, origin)
            self.assertEqual(self.get("/api/state", {"Origin": origin}).status, 403)
        self.assertEqual(self.post("/api/decide", decision(1), leave_out=("Origin",)).status, 403)
        for site in ("cross-site", "same-site", "none"):
            a = self.post("/api/decide", decision(1), {"Sec-Fetch-Site": site})
            self.assertEqual(a.status, 403, site)
            self.assertEqual(self.get("/api/state", {"Sec-Fetch-Site": site}).status, 403)
            self.assertEqual(self.get("/page.js", {"Sec-Fetch-Site": site}).status, 403)
        self.assertEqual(self.get("/", {"Sec-Fetch-Dest": "iframe"}).status, 403)
        self.assertEqual(self.get("/", {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}).status, 200)
        self.assertEqual(self.get("/api/state", {"Sec-Fetch-Site": "same-origin"}).status, 200)

    def test_forms_of_other_pages(self):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json;x", "multipart/form-data"):
            self.assertEqual(self.post("/api/decide", decision(1), {"Content-Type": kind}).status, 415)
        self.assertEqual(self.post("/api/decide", decision(1), leave_out=("Content-Type",)).status, 415)

    def test_both_halves_are_needed(self):
        cookie, secret = self.session["Cookie"], self.session["X-Claude-Bottle"]
        name, value = cookie.split("=")
        bad = [{}, {"Cookie": cookie}, {"X-Claude-Bottle": secret},
               {"Cookie": f"{name}=", "X-Claude-Bottle": ""}, {"Cookie": cookie, "X-Claude-Bottle": value},
               {"Cookie": f"{name}={secret}", "X-Claude-Bottle": secret},
               {"Cookie": f"x{name}={value}", "X-Claude-Bottle": secret},
               {"Cookie": cookie, "X-Claude-Bottle": secret[:-1]}]
        for headers in bad:
            for path in ("/api/state", "/api/events", f"/api/request/{SLUG}/1"):
                self.assertEqual(self.ask("GET", path, headers).status, 401, headers)
            for path in ("/api/decide", "/api/revoke", "/api/pause", "/api/stop"):
                self.assertEqual(self.ask("POST", path, headers, decision(1)).status, 401, headers)
        # Another port of this address may have set one of the same name, and it comes first.
        good = {"Cookie": f"{name}=tossed; other=1; {cookie}", "X-Claude-Bottle": secret}
        self.assertEqual(self.ask("GET", "/api/state", good).status, 200)

    # --- what is malformed ---

    def test_malformed(self):
        host = f"Host: {self.server.host}:{self.server.port}\r\n"
        post = (f"POST /api/session HTTP/1.1\r\n{host}Origin: {self.server.origin}\r\n"
                "Content-Type: application/json\r\n")
        for raw, status in ((f"GET / HTTP/1.0\r\n{host}\r\n", 505),
                            (f"GET / HTTP/1.1\n{host}\n", 400),
                            (f"GET / HTTP/1.1\r\n{host}X : 1\r\n\r\n", 400),
                            (f"GET / HTTP/1.1\r\n{host}Content-Length: 1\r\n\r\nx", 400),
                            (f"GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                            (f"TRACE / HTTP/1.1\r\n{host}\r\n", 501),
                            (f"GET / HTTP/1.1\r\n{host}X: {'a' * 17000}\r\n\r\n", 431),
                            (f"GET /{'a' * 9000} HTTP/1.1\r\n{host}\r\n", 414),
                            (f"{post}\r\n", 411),
                            (f"{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
                            (f"{post}Content-Length: 8193\r\n\r\n", 413),
                            (f"{post}Content-Length: 99999999999\r\n\r\n", 413),
                            (f"{post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}", 400),
                            (f"{post}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", 417)):
            self.assertEqual(Answer(self.server.raw(raw.encode())).status, status, raw[:200])

    def test_one_connection_is_one_request(self):
        get = f"GET / HTTP/1.1\r\nHost: {self.server.host}:{self.server.port}\r\n\r\n".encode()
        self.assertEqual(self.server.raw(get * 3).count(b"HTTP/1.1 200"), 1)
        # What follows a body is nobody's request.
        state = "".join(f"{k}: {v}\r\n" for k, v in self.session.items())
        inner = f"GET /api/state HTTP/1.1\r\nHost: {self.server.host}:{self.server.port}\r\n{state}\r\n"
        outer = (f"POST /api/pause HTTP/1.1\r\nHost: {self.server.host}:{self.server.port}\r\nOrigin: {self.server.origin}\r\n"
                 f"Content-Type: application/json\r\nContent-Length: 2\r\n{state}\r\n{{}}")
        answer = self.server.raw((outer + inner).encode())
        self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
        self.assertIn(b"HTTP/1.1 400", answer)

    def test_bodies(self):
        self.see(1)
        for body in ("[]", "{", "null", '{"slug":"coder-1"}', '{"slug":"coder-1","slug":"coder-1"}',
                     decision(1, more=1), decision(1, slug="../x"), decision(1, id=0), decision(1, id=-1),
                     decision(1, id="1"), decision(1, hash="00"), decision(1, hash=5), decision(1, granted="yes"),
                     decision(1, scope="ever"), decision(1, scope=""), decision(1, minutes=-1),
                     decision(1, minutes=1e9), decision(1, minutes="1"), decision(1, answer="x" * 512),
                     decision(1, answer=1), decision(1, scope="always"), decision(1, scope="always", manifest="00")):
            self.assertEqual(self.post("/api/decide", body).status, 400, body)
        for path in ("/api/revoke", "/api/pause", "/api/stop"):
            self.assertEqual(self.post(path, {}).status, 400)
            self.assertEqual(self.post(path, {"slug": "a/b", "id": 1, "paused": True}).status, 400)
        self.assertEqual(self.post("/api/pause", {"slug": SLUG, "paused": 1}).status, 400)

    # --- what is shown and decided ---

    def test_state_has_windows(self):
        a = self.get("/api/state").json
        self.assertEqual(len(a["pending"]), 200)
        self.assertGreaterEqual(a["total"], 300)
        self.assertIn("recent", a)
        b = self.get("/api/state?after=200").json
        self.assertEqual(len(b["pending"]), a["total"] - 200)
        self.assertFalse({r["id"] for r in a["pending"]} & {r["id"] for r in b["pending"]})
        self.assertEqual(self.get("/api/state?after=10000").json["pending"], [])
        for query in ("after=-1", "after=x", "after=", "before=1", "after=1&after=2", "after=10001"):
            self.assertEqual(self.get(f"/api/state?{query}").status, 400, query)

    def test_what_a_bottle_does(self):
        a = self.get(f"/api/bottle/{SLUG}").json
        self.assertIn("host-not-allowed", a["records"][0])
        self.assertEqual(len(a["told"]), 1)
        for rest in ("", "../x", f"{SLUG}/", f"{SLUG}?x=1", "A"):
            self.assertIn(self.get(f"/api/bottle/{rest}").status, (400, 404), rest)
        self.assertEqual(self.ask("GET", f"/api/bottle/{SLUG}").status, 401)

    def test_only_what_was_shown_is_decided(self):
        self.assertEqual(self.post("/api/decide", decision(20)).json["verdict"], "stale")
        self.assertEqual(self.see(20)["request"]["hash"], HASH[20])
        # Too soon: it was not on the screen yet.
        self.assertEqual(self.post("/api/decide", decision(20)).json["verdict"], "stale")
        self.assertEqual(self.post("/api/decide", decision(20, hash=HASH[21])).json["verdict"], "stale")
        time.sleep(0.55)
        other = self.server.open(self.server.enter())
        self.assertEqual(self.ask("POST", "/api/decide", other, decision(20)).json["verdict"], "stale")
        self.assertEqual(self.post("/api/decide", decision(20, minutes=5, answer="yes")).json["verdict"], "decided")
        self.assertEqual(self.post("/api/decide", decision(20)).json["verdict"], "already")
        self.see(21)
        self.assertEqual(self.post("/api/decide", decision(21, granted=False, answer="no")).json["verdict"], "decided")
        self.see(3)
        time.sleep(0.55)
        self.assertEqual(self.post("/api/decide", decision(3)).json["verdict"], "forbidden")
        self.assertEqual(self.post("/api/revoke", {"slug": SLUG, "id": 20}).json["verdict"], "decided")
        self.assertEqual(self.post("/api/pause", {"slug": SLUG, "paused": True}).json["text"], "paused")
        shown = self.see(20)["request"]
        self.assertEqual((shown["state"], shown["scope"]), ("granted", "bottle"))

    def test_a_keeper_that_hangs_holds_nobody(self):
        with self.server.connect() as s:
            body = '{"slug":"hung-1","paused":true}'
            head = "".join(f"{k}: {v}\r\n" for k, v in self.session.items())
            s.sendall((f"POST /api/pause HTTP/1.1\r\nHost: {self.server.host}:{self.server.port}\r\n"
                       f"Origin: {self.server.origin}\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(body)}\r\n{head}\r\n{body}").encode())
            started = time.monotonic()
            self.assertEqual(self.post("/api/stop", {"slug": SLUG}).json["text"], "ended")
            self.assertEqual(self.post("/api/pause", {"slug": "hung-1", "paused": False}).status, 503)
            self.assertLess(time.monotonic() - started, 0.9)
            self.assertEqual(Answer(read_all(s)).json["verdict"], "decided")

    def test_agents_text_is_visible(self):
        a = self.get(f"/api/request/{SLUG}/2")
        self.assertNotIn("\u202e", a.body.decode())
        self.assertNotIn("\u200b", a.body.decode())
        self.assertNotIn("\x1b", a.json["request"]["reason"])
        self.assertIn("\\u{202e}", a.json["request"]["reason"])
        self.assertEqual(a.fields["content-type"], "application/json")

    def test_findings_have_their_level(self):
        shown = self.see(2)
        self.assertEqual([(f["rule"], f["level"]) for f in shown["request"]["findings"]], [("upload-host", "warning")])
        self.assertEqual(set(shown), {"request", "means", "always"})

    # --- events, and who holds what ---

    def stream(self):
        s = self.server.connect()
        head = "".join(f"{k}: {v}\r\n" for k, v in self.session.items())
        s.sendall(f"GET /api/events HTTP/1.1\r\nHost: {self.server.host}:{self.server.port}\r\n{head}\r\n".encode())
        data = b""
        while b"\n\n" not in data.partition(b"\r\n\r\n")[2]:
            chunk = s.recv(4096)
            if not chunk:
                break
            data += chunk
        return s, Answer(data)

    def test_events(self):
        streams = [self.stream() for _ in range(4)]
        self.assertTrue(all(a.status == 200 for _, a in streams))
        s, a = self.stream()
        s.close()
        self.assertEqual(a.status, 503)
        started = time.monotonic()
        self.server.process.send_signal(signal.SIGUSR1)
        for s, _ in streams:
            self.assertIn(b"event: version\ndata: ", s.recv(4096))
        self.assertLess(time.monotonic() - started, 1)
        # Its place is free again once it is closed; what a listener says ends it.
        streams[0][0].close()
        streams[1][0].sendall(b"x")
        self.assertEqual(read_all(streams[1][0]), b"")
        s, a = self.stream()
        self.assertEqual(a.status, 200)
        for s, _ in streams[1:] + [(s, a)]:
            s.close()

    def test_idle_ones_make_room(self):
        stream, _ = self.stream()
        idle = [self.server.connect() for _ in range(40)]
        for i, s in enumerate(idle):
            s.sendall(b"GET / HTTP/1.1\r\nX: %d" % i)
        self.assertEqual(self.get("/api/state").status, 200)
        # The oldest lost their places, the stream of a session did not.
        self.assertEqual(read_all(idle[0]), b"")
        self.server.process.send_signal(signal.SIGUSR1)
        self.assertIn(b"event: version", stream.recv(4096))
        for s in idle + [stream]:
            s.close()


class TokenTest(unittest.TestCase):
    def redeem(self, server, token, **headers):
        return server.ask("POST", "/api/session", headers, {"token": token})

    def test_once(self):
        with driver(PROGRAM) as server:
            token = server.token
            # In the path or the query it is nothing.
            self.assertNotIn("set-cookie", server.ask("GET", f"/?token={token}").fields)
            for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                self.assertEqual(self.redeem(server, token, **headers).status, 403)
            a = self.redeem(server, token)
            self.assertEqual(a.status, 200)
            cookie = a.fields["set-cookie"].split("; ")
            self.assertEqual(cookie[1:], ["Path=/", "HttpOnly", "SameSite=Strict"])
            self.assertEqual(self.redeem(server, token).status, 401)
            self.assertEqual(self.redeem(server, "").status, 401)
            again = server.enter()
            self.assertNotEqual(again, token)
            self.assertEqual(self.redeem(server, token).status, 401)
            self.assertEqual(self.redeem(server, again).status, 200)

    def test_few_tries(self):
        with driver(PROGRAM) as server:
            for i in range(8):
                self.assertEqual(self.redeem(server, f"{i:064x}").status, 401)
            self.assertEqual(self.redeem(server, server.token).status, 401)
            self.assertEqual(self.redeem(server, server.enter()).status, 200)

    def test_it_grows_old(self):
        with driver(PROGRAM, token_ms=150) as server:
            self.assertIn("too old", server.next_line())
            self.assertEqual(self.redeem(server, server.token).status, 401)
            session = server.open(server.enter())
            time.sleep(0.2)  # a session is not its address
            self.assertEqual(server.ask("GET", "/api/state", session).status, 200)

    def test_the_oldest_session_ends(self):
        with driver(PROGRAM) as server:
            sessions = [server.open()] + [server.open(server.enter()) for _ in range(4)]
            self.assertEqual([server.ask("GET", "/api/state", s).status for s in sessions],
                             [401, 200, 200, 200, 200])

    def test_one_address_only(self):
        with driver(PROGRAM) as server:
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", server.port), timeout=1)
            with self.assertRaises(OSError):
                socket.create_connection(("::1", server.port), timeout=1)

    @unittest.skipIf(os.getuid() != 0, "needs root: another user connects")
    def test_other_users_get_nothing(self):
        with driver(PROGRAM) as server:
            get = f"GET / HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode()
            os.seteuid(65534)
            try:  # a socket is its maker's
                theirs = socket.socket()
            finally:
                os.seteuid(0)
            with theirs as s:
                s.connect((server.host, server.port))
                s.sendall(get)
                self.assertEqual(read_all(s), b"")
            self.assertIn(b"HTTP/1.1 200", server.raw(get))

    def test_given_port_again_at_once(self):
        with driver(PROGRAM) as server:
            port = server.port
            server.open()
            self.assertEqual(server.close()[0], 0)
            before = server.origin
        with driver(PROGRAM, port=port) as server:
            self.assertEqual(server.port, port)
            # No browser knows anything of it.
            self.assertNotEqual(server.origin, before)
            server.open()

    def test_ends_with_its_streams(self):
        with driver(PROGRAM) as server:
            session = server.open()
            head = "".join(f"{k}: {v}\r\n" for k, v in session.items())
            with server.connect() as s:
                s.sendall(f"GET /api/events HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n{head}\r\n".encode())
                self.assertTrue(wait_for(lambda: b"event" in s.recv(4096)))
                self.assertEqual(server.close()[0], 0)


if __name__ == "__main__":
    unittest.main()
