"""The page of "supervise --web" in a real browser: what a human sees and does there, and what other pages
cannot do."""
import contextlib
import http.server
import json
import os
import socket
import sys
import threading
import time

import pytest

import asking
import bottle
import browser as browser_module
import standin

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "unit", "face"))

import web_world  # noqa: E402

BUILD = os.path.dirname(bottle.executable())
PROGRAM = os.path.join(BUILD, "tests", "unit", "face", "web_driver")
ARTIFACTS = os.path.join(BUILD, "artifacts")


@pytest.fixture(scope="module")
def chromium():
    if not browser_module.CHROMIUM:
        pytest.skip(browser_module.MISSING)
    b = browser_module.Browser()
    yield b
    b.close()


@pytest.fixture(scope="module")
def server():
    """Of all tests that decide nothing another one is about."""
    with web_world.driver(PROGRAM, 20) as s:
        yield s


def enter(chromium, server):
    p = chromium.page()
    p.size(1100, 800)
    p.go(f"{server.origin}/#{server.token}")
    p.wait("document.getElementById('link').textContent === 'live'")
    return p


def check(page):
    """Nothing that the page did was against its own policy, and nothing failed."""
    assert [c for c in page.complaints() if "favicon" not in c] == []


@pytest.fixture(scope="module")
def shared_page(chromium, server):
    return enter(chromium, server)


@pytest.fixture
def page(shared_page, server):
    shared_page.size(1100, 800)
    server.said()
    yield shared_page
    check(shared_page)
    if shared_page.eval("!document.getElementById('detail').hidden"):
        shared_page.key("Escape")


@pytest.fixture
def fresh(chromium):
    """(page, server): for what depends on all that waits."""
    with web_world.driver(PROGRAM, 10) as s:
        p = enter(chromium, s)
        yield p, s
        check(p)
        p.call("Page.close")


def decided(server):
    """What has gone to the keeper since the test began."""
    return [line for line in server.said().splitlines() if line.startswith(("decide ", "pause", "resume", "stop"))]


def open_request(page, number):
    page.click(f"[data-id='coder-1/{number}']")
    page.wait(f"document.getElementById('detail').dataset.id === 'coder-1/{number}'")


def wait_ready(page):
    page.wait("[...document.querySelectorAll('#actions [data-grants]')].some((b) => !b.disabled)")


def wait_done(page):
    """It was decided, and the list no longer has it."""
    page.wait("document.getElementById('detail').hidden && document.getElementById('said').className === 'good'")


def test_the_address_works_once(chromium, server, page):
    assert page.eval("location.href") == f"{server.origin}/"
    assert server.token not in page.eval("JSON.stringify(history.state) + document.documentElement.outerHTML")
    again = chromium.page(f"{server.origin}/#{server.token}")
    again.wait("!document.getElementById('closed').hidden")
    assert "used before" in again.text("#closed-why")
    # A tab of its own has no session, one that is loaded again keeps it.
    again.go(f"{server.origin}/")
    again.wait("!document.getElementById('closed').hidden")
    page.call("Page.reload")
    page.wait("document.getElementById('link').textContent === 'live'")
    again.call("Page.close")


def test_keys(fresh):
    page, server = fresh
    page.key("j")
    page.key("j")
    page.key("k")
    page.wait("document.querySelector('[aria-selected=true]').dataset.id === 'coder-1/1'")
    page.key("Enter")
    page.wait("!document.getElementById('detail').hidden")
    page.key("b")  # not long enough on the screen
    assert "Too fast" in page.text("#said") or "Read on" in page.text("#said")
    wait_ready(page)
    page.key("b")
    wait_done(page)
    page.key("Enter")  # the next one
    page.wait("document.getElementById('detail').dataset.id === 'coder-1/2'")
    page.key("r")
    page.type("not that one")
    page.key("Enter")
    page.wait("!document.querySelector('#list [data-id=\"coder-1/2\"]')")
    page.key("?")
    page.wait("document.getElementById('help').open")
    page.key("o")
    page.key("Escape")
    page.wait("!document.getElementById('help').open")
    assert decided(server) == ["decide coder-1 1 granted=1 scope=2 release=0 seconds=0 answer=",
                               "decide coder-1 2 granted=0 scope=0 release=0 seconds=0 answer=not that one"]


def test_minutes_and_warnings(server, page):
    open_request(page, 6)
    wait_ready(page)
    page.key("t")
    page.wait("document.getElementById('ask').open")
    page.eval("document.getElementById('ask-input').select()")
    page.type("15")
    page.key("Enter")
    wait_done(page)
    # A warning asks once more; the answer is no, and yes counts only after a moment.
    open_request(page, 9)
    wait_ready(page)
    page.click("[data-grants=o]")
    page.wait("document.getElementById('ask').open")
    assert "anybody can fetch" in page.text("#ask-lines")
    page.key("y")
    assert page.eval("document.getElementById('ask').open && document.getElementById('ask-yes').disabled")
    assert page.eval("document.activeElement.id") == "ask-no"
    page.key("Enter")
    page.wait("document.getElementById('said').textContent === 'Nothing was sent.'")
    page.click("[data-grants=o]")
    page.wait("document.getElementById('ask').open && !document.getElementById('ask-yes').disabled")
    page.click("#ask-yes")
    wait_done(page)
    # A held request: masked.
    open_request(page, 4)
    wait_ready(page)
    assert page.eval("[...document.querySelectorAll('[data-grants]')].map((b) => b.dataset.grants).join('')") == "pm"
    page.key("m")
    page.wait("document.getElementById('ask').open && !document.getElementById('ask-yes').disabled")
    page.key("y")
    wait_done(page)
    assert [d.split(" answer")[0] for d in decided(server)] == [
        "decide coder-1 6 granted=1 scope=2 release=0 seconds=900",
        "decide coder-1 9 granted=1 scope=1 release=0 seconds=0",
        "decide coder-1 4 granted=1 scope=1 release=2 seconds=0"]


def test_never_has_no_button(server, page):
    page.key("h")
    page.click("#recent [data-focus='coder-1/3']")
    page.wait("document.getElementById('detail').dataset.id === 'coder-1/3'")
    assert page.eval("document.querySelectorAll('[data-grants]').length") == 0
    assert "NEVER" in page.text("#findings") and "the name lies inside" in page.text("#findings")
    for key in "obta":
        page.key(key)
    assert "cannot be granted here" in page.text("#said")
    assert decided(server) == []
    page.key("h")


def test_an_agents_words_are_text(server, page):
    page.eval("window.alert = () => { document.title = 'owned'; }")
    open_request(page, 2)
    reason = page.text("#reason")
    assert "<img src=x onerror=alert(1)><script>" in reason
    for hidden in "\u202e\u200b\x1b":
        assert hidden not in page.eval("document.body.textContent")
    assert "\\u{202e}" in reason and "\\x1b" in reason
    assert page.eval("document.querySelectorAll('#detail img, #detail script, #detail [onclick]').length") == 0
    assert page.eval("document.title").endswith("claude-bottle")
    assert page.eval("getComputedStyle(document.getElementById('reason')).unicodeBidi") == "isolate"
    assert "xn--pypal-4ve.com" in page.text("#change")
    page.shot(f"{ARTIFACTS}/supervise-web.png")


def test_a_window_that_is_not_in_front_approves_nothing(server, page):
    open_request(page, 1)
    wait_ready(page)
    page.eval("window.dispatchEvent(new Event('blur'))")
    page.wait("document.querySelector('[data-grants=o]').disabled")
    page.eval("window.dispatchEvent(new Event('focus'))")
    assert page.eval("document.querySelector('[data-grants=o]').disabled")
    wait_ready(page)


def test_pause_and_stop(server, page):
    page.click("[data-focus='pause/coder-1']")
    page.wait("document.getElementById('said').textContent === 'paused'")
    # Pressed twice in a hurry it is not undone.
    page.wait("document.getElementById('bottles').innerText.includes('Give the network back')")
    page.eval("document.querySelector(\"[data-focus='pause/coder-1']\").focus()")
    page.key("Enter")
    page.wait("document.getElementById('ask').open")
    page.key("Enter")
    page.wait("document.getElementById('said').textContent === 'Nothing was sent.'")
    page.click("[data-focus='pause/coder-1']")
    page.wait("document.getElementById('ask').open")
    page.key("y")
    page.wait("document.getElementById('said').textContent === 'resumed'")
    open_request(page, 7)
    page.key("K")
    page.wait("document.getElementById('ask').open")
    page.key("Escape")
    page.wait("document.getElementById('said').textContent === 'Nothing was sent.'")
    page.key("K")
    page.wait("document.getElementById('ask').open")
    page.key("y")
    page.wait("document.getElementById('said').textContent === 'ended'")
    assert decided(server) == ["pause coder-1 0 web", "resume coder-1 0 web", "stop coder-1 0 "]


def test_an_agents_words_cover_nothing(server, page):
    """What grows out of its line ends at the fence. In some fonts marks upon marks do; a shadow does in any."""
    open_request(page, 2)
    page.eval("document.getElementById('detail').scrollTo(0, 0)")
    x, y, width, height = page.eval("""(() => {
        const r = document.getElementById('detail').getBoundingClientRect();
        return [r.x, r.y, r.width, document.querySelector('#detail > .agent').getBoundingClientRect().y - r.y];
    })()""")
    pictures = []
    for shadow in ("", "0 -60px"):
        page.eval(f"document.getElementById('reason').style.textShadow = '{shadow}'")
        pictures.append(page.call("Page.captureScreenshot", format="png",
                                  clip=dict(x=x, y=y, width=width, height=height, scale=1))["data"])
    assert pictures[0] == pictures[1]


def test_findings_come_first_and_what_a_grant_means(server, page):
    open_request(page, 2)
    order = page.eval("[...document.querySelectorAll('#findings, #change, #read-end, #reason')].map((e) => e.id)")
    assert order == ["findings", "change", "read-end", "reason"]
    for means in ("one request that fits", "also when it is resumed", "written into its manifest"):
        assert means in page.text("#means")


def test_nothing_of_a_difference_is_beyond_an_edge(server, page):
    page.eval("""(() => {
        document.getElementById('ask-text').hidden = false;
        document.getElementById('ask-text').textContent = '+' + 'x'.repeat(4000);
        document.getElementById('ask').showModal();
    })()""")
    assert page.eval("(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.getElementById('ask-text'))")
    page.eval("document.getElementById('ask').close()")


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_phone(server, page, is_dark):
    page.size(360, 640, is_dark)
    assert page.eval("document.documentElement.scrollWidth") <= 360
    page.shot(f"{ARTIFACTS}/supervise-web-phone-list-{'dark' if is_dark else 'light'}.png")
    open_request(page, 2)
    # The end of it is below the window: read on first.
    page.eval("document.getElementById('detail').scrollTo(0, 0)")
    assert page.eval("document.documentElement.scrollWidth") <= 360
    page.wait("document.getElementById('side').offsetWidth === 0")
    page.shot(f"{ARTIFACTS}/supervise-web-phone-{'dark' if is_dark else 'light'}.png")
    page.click("#back")
    page.wait("document.getElementById('detail').hidden && document.getElementById('side').offsetWidth > 0")


def test_new_ones_come_by_themselves(server, page):
    before = page.text("#waiting-title")
    server.process.send_signal(10)
    page.wait(f"document.getElementById('waiting-title').innerText !== {json.dumps(before)}", 3)
    # A name of 253 characters: its beginning and its end are in the list, and all of it where it is decided.
    page.eval("document.getElementById('list').scrollTo(0, 1e6)")
    for width in (1100, 360):
        page.size(width, 800)
        row = page.wait("""(() => {
            const e = [...document.querySelectorAll('.row .what')].find((e) => e.textContent.includes('evil.example'));
            return e && e.scrollHeight <= e.clientHeight + 1 && e.textContent;
        })()""")
        assert row.startswith("GET, POST https://api.") and row.endswith(".evil.example/**")
    page.eval("[...document.querySelectorAll('.row')].find((e) => e.textContent.includes('evil.example')).click()")
    page.wait("!document.getElementById('detail').hidden")
    assert f"api.example.com.{0:0224}.evil.example" in page.text("#change")
    assert page.eval("document.documentElement.scrollWidth") <= 360


def test_too_many_windows(chromium, server, page):
    """Past four nothing is shown by itself, and so nothing granted; connections to decide by are left."""
    head = "".join(f"{k}: {v}\r\n" for k, v in server.open(server.enter()).items())
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            s = stack.enter_context(server.connect())
            s.sendall(f"GET /api/events HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n{head}\r\n".encode())
            assert s.recv(100).startswith(b"HTTP/1.1 200 ")
        other = chromium.page(f"{server.origin}/#{server.enter()}")
        other.wait("document.getElementById('link').textContent.startsWith('too many windows')")
        open_request(other, 8)
        assert other.eval("document.querySelector('[data-grants=o]').disabled")
        assert page.text("#link") == "live"
    other.wait("document.getElementById('link').textContent === 'live'")
    other.call("Page.close")
    # Nor has the second window taken the first one's session.
    assert page.eval("""fetch('/api/state', {headers: {'X-Claude-Bottle': sessionStorage.getItem('claude-bottle-secret')}})
        .then((r) => r.status)""") == 200


def test_ten_thousand(chromium):
    with web_world.driver(PROGRAM, 9990) as server:
        page = enter(chromium, server)
        assert page.text("#waiting-title") == "Waiting (9994)"
        page.key("End")
        page.wait("document.getElementById('list').innerText.includes('h9989.example.com')")
        page.key("End")
        page.key("Enter")
        page.wait("document.getElementById('detail').dataset.id === 'coder-1/9995'")
        assert page.eval("document.querySelectorAll('.row').length") < 60
        check(page)
        page.call("Page.close")


# --- with a bottle ---

@pytest.fixture
def supervised(make_home, upstream, authority):
    """A home whose bottle may ask for docs.example.test, and it."""
    with standin.Upstream(authority, ["docs.example.test"], stem="docs") as docs:
        home = make_home()
        home.manifest = home.write_bottle(
            "box", routes=[bottle.route("api.example.test")], supervise=True, ca=authority.path,
            resolve={"api.example.test": upstream.address, "docs.example.test": docs.address})
        home.write_agent()
        with home.background() as running:
            yield home, running


def fetch(running):
    return running.exec("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10",
                        "https://docs.example.test/json").stdout.strip()


def shown_by_itself(page, slug, number):
    """Opens a request that comes while one looks."""
    page.wait(f"""document.querySelector("#list [data-id='{slug}/{number}']") !== null""")
    page.click(f"#list [data-id='{slug}/{number}']")
    page.wait(f"document.getElementById('detail').dataset.id === '{slug}/{number}'")
    wait_ready(page)


def test_a_bottle_is_granted_what_it_asks_for(chromium, supervised):
    home, running = supervised
    agent = asking.Agent(lambda script: running.exec("sh", "-c", script).stdout)
    with web_world.Server(home.argv(["supervise", "--web"]), env=home.env(), cwd=home.cwd) as server:
        page = enter(chromium, server)
        assert fetch(running) in ("403", "000")
        asked = agent.call("request_egress", host="docs.example.test", reason="<b>to</b> read \u202e it", wait_seconds=0)
        shown_by_itself(page, running.slug, asked["id"])
        assert "<b>to</b> read \\u{202e} it" in page.text("#reason")
        assert "docs.example.test" in page.text("#change")
        page.key("b")
        # What the verdict says is in force by then.
        wait_done(page)
        assert fetch(running) == "200", page.text("#said") + home.logs_of_all()
        assert agent.call("request_status", id=asked["id"])["state"] == "granted"
        page.click("summary")
        page.click("#grants [data-focus]")
        page.wait("document.getElementById('grants-count').textContent === '0'")
        assert fetch(running) in ("403", "000")
        # Always, after the difference was on the screen.
        with open(home.manifest) as f:
            before = f.read()
        asked = agent.call("request_egress", host="docs.example.test", reason="again", wait_seconds=0)
        shown_by_itself(page, running.slug, asked["id"])
        page.key("a")
        page.wait("document.getElementById('ask').open && !document.getElementById('ask-yes').disabled")
        diff = page.text("#ask-text")
        assert any(line.startswith("+") and "docs.example.test" in line for line in diff.splitlines()), diff
        with open(home.manifest) as f:
            assert f.read() == before
        page.click("#ask-yes")
        wait_done(page)
        with open(home.manifest) as f:
            assert 'docs.example.test' in f.read().replace(before, "")
        assert fetch(running) == "200"
        # One that is refused is told why.
        asked = agent.call("request_egress", host="other.example.test", reason="more", wait_seconds=0)
        shown_by_itself(page, running.slug, asked["id"])
        page.key("r")
        page.type("not today")
        page.key("Enter")
        wait_done(page)
        told = agent.call("request_status", id=asked["id"])
        assert (told["state"], told["reason"]) == ("refused", "not today")
        # What it has told, and done.
        agent.call("tell_human", message="<i>hello</i> \u202e human")
        page.click(f"[data-focus='doings/{running.slug}']")
        page.wait("document.getElementById('told').innerText.includes('<i>hello</i>')")
        assert "\\u{202e} human" in page.text("#told") and "\u202e" not in page.text("body")
        assert "docs.example.test" in page.text("#records")
        # The kill switch.
        page.click(f"[data-focus='pause/{running.slug}']")
        page.wait("document.getElementById('bottles').innerText.includes('network paused')")
        assert fetch(running) in ("403", "000")
        page.click(f"[data-focus='stop/{running.slug}']")
        page.wait("document.getElementById('ask').open")
        page.click("#ask-yes")
        page.wait("document.getElementById('said').className === 'good'", 20)
        assert bottle.wait_until(lambda: running.process.poll() is not None, 10)
        check(page)
        page.call("Page.close")
        assert server.close()[0] == 0


# --- what other pages try ---

class Elsewhere:
    """A page of another origin, which the human has open as well, or had. Its script makes all that its origin
    will ever fetch its own."""
    PAGES = {
        "/worker.js": ("text/javascript", """
            addEventListener('install', (e) => skipWaiting());
            addEventListener('activate', (e) => e.waitUntil(clients.claim()));
            addEventListener('fetch', (e) => e.respondWith(new Response('owned', {headers: {'Content-Type': 'text/html'}})));
            """),
        "/page.js": ("text/javascript", "document.title = 'owned'"),
        "/": ("text/html", "<!doctype html><title>elsewhere</title>"),
    }

    def __init__(self, address="127.0.0.1"):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.cookies.append(self.headers.get("Cookie"))
                kind, text = outer.PAGES.get(self.path, outer.PAGES["/"])
                data = text.encode()
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Cache-Control", "max-age=31536000, immutable")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.cookies = []
        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def elsewhere(address):
    e = Elsewhere(address)
    try:
        yield e
    finally:
        e.close()


ATTACK = """(async () => {
    const to = %s;
    const out = [];
    const body = JSON.stringify({slug: 'coder-1', paused: true});
    const tries = [
        [`/api/pause`, {method: 'POST', mode: 'no-cors', credentials: 'include', body}],
        [`/api/pause`, {method: 'POST', credentials: 'include', body, headers: {'Content-Type': 'application/json'}}],
        [`/api/pause`, {method: 'POST', credentials: 'include', body,
                        headers: {'Content-Type': 'application/json', 'X-Claude-Bottle': 'a'}}],
        [`/api/session`, {method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"token":"x"}'}],
        [`/api/state`, {credentials: 'include'}],
        [`/api/events`, {mode: 'no-cors', credentials: 'include'}],
        [`/page.js`, {mode: 'no-cors', credentials: 'include'}],
    ];
    for (const [path, options] of tries) {
        try {
            const r = await fetch(to + path, options);
            out.push(`${path} ${r.type} ${r.status}`);
        } catch (e) {
            out.push(`${path} failed`);
        }
    }
    const form = document.createElement('form');
    form.method = 'POST';
    form.action = to + '/api/stop';
    form.enctype = 'text/plain';
    form.target = 'sink';
    const input = document.createElement('input');
    input.name = '{"slug":"coder-1","x":"';
    input.value = '"}';
    form.append(input);
    const frame = document.createElement('iframe');
    frame.name = 'sink';
    document.body.append(frame, form);
    form.submit();
    const page = document.createElement('iframe');
    page.src = to + '/';
    document.body.append(page);
    const script = await new Promise((done) => {
        const s = document.createElement('script');
        s.src = to + '/page.js';
        s.onload = () => done('ran');
        s.onerror = () => done('refused');
        document.head.append(s);
    });
    const opened = window.open(to + '/');
    await new Promise((done) => setTimeout(done, 200));
    let inside = 'closed';
    try {
        inside = page.contentDocument ? 'open' : 'closed';
    } catch (e) {
        inside = 'closed';
    }
    let reach = 'none';
    try {
        reach = opened && opened.document && opened.document.title.includes('claude') ? 'reached' : 'none';
    } catch (e) {
        reach = 'none';
    }
    return {out, script, inside, reach};
})()"""


@pytest.mark.parametrize("is_same_site", [True, False])
def test_other_origins_do_nothing(chromium, server, page, is_same_site):
    """Another port of the same address, where the browser sends our cookie along; and another site."""
    with elsewhere(server.host if is_same_site else "127.0.0.1") as e:
        other = chromium.page(f"http://{server.host if is_same_site else 'evil.example'}:{e.port}/")
        r = other.eval(ATTACK % json.dumps(server.origin))
    for line in r["out"]:
        assert line.endswith((" failed", " opaque 0")), r
    assert (r["script"], r["reach"]) == ("refused", "none")
    if is_same_site:
        # This is why the cookie alone opens nothing.
        assert any(c and "claude-bottle-" in c for c in e.cookies)
        assert other.eval("document.cookie") == ""
        assert other.eval("sessionStorage.length") == 0
    other.call("Page.close")
    assert page.text("#link") == "live"
    assert decided(server) == []


def test_what_was_here_before_is_not_here(chromium):
    """A server that had this port has left a service worker and cached scripts in the browser."""
    with elsewhere("127.0.0.1") as e:
        former = chromium.page(f"http://127.0.0.1:{e.port}/")
        former.eval("""navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready)
            .then(() => fetch('/page.js')).then(() => 1)""")
        former.call("Page.close")
    with web_world.driver(PROGRAM, port=e.port) as server:
        page = enter(chromium, server)
        assert page.eval("document.title").endswith("claude-bottle")
        # And it leaves none itself.
        assert page.eval("navigator.serviceWorker.register('/page.js').then(() => 'registered', () => 'refused')") == "refused"
        page.call("Page.close")


@contextlib.contextmanager
def rebound(server):
    """evil.example and its port, which lead to the server: each connection goes on to it."""
    def pass_on(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                pair = listener.accept()[0], server.connect()
                both.extend(pair)
                for one, other in (pair, pair[::-1]):
                    threading.Thread(target=pass_on, args=(one, other), daemon=True).start()

    both = []
    with socket.create_server(("127.0.0.1", server.port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://evil.example:{server.port}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    for s in both:
        s.close()


def test_another_name_of_this_address_does_nothing(chromium, server, page):
    with rebound(server) as name:
        other = chromium.page(f"{name}/#{server.token}")
        assert "claude" not in (other.text("body") or "")
        assert other.eval("fetch('/api/state').then((r) => r.status, () => 0)") in (421, 0)
        other.call("Page.close")
        # It does lead there.
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(f"GET / HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode())
            assert s.recv(100).startswith(b"HTTP/1.1 200 ")
