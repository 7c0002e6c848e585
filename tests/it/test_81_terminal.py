"""`claude-bottle supervise` on a real terminal: what reaches it, what keys do, how it is left."""
import os
import re
import signal
import time

import pytest

import asking
import bottle
import tmux

DRIVER = os.path.join(bottle.build_folder(), "tests/unit/face/terminal_driver")


@pytest.fixture
def draw(tmp_path):
    """The face over made-up requests; the keeper is a file."""
    screens = []

    def make(n=4, command=None, **options):
        env = {k: os.environ[k] for k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS") if k in os.environ}
        env.update(options.pop("env", {}))
        before = options.pop("before", "")
        folder = tmp_path / f"screen-{len(screens)}"
        folder.mkdir()
        s = tmux.Screen(folder, command or f"{before}{DRIVER} {tmp_path}/log {n}", env, **options)
        screens.append(s)
        return s

    yield make
    for s in screens:
        s.close()


def sent(tmp_path):
    with open(tmp_path / "log") as f:
        return f.read().splitlines()


def open_request(s, number):
    s.expect("supervise  ", "requests ")
    s.keys(*["Down"] * (number - 1), "Enter")
    s.expect(f"Request {number} of coder-1", "hash ")


def settle():
    """As long as what is on the screen must have been there before it can be approved."""
    time.sleep(0.55)


def test_approving_by_keys(draw, tmp_path):
    s = draw()
    s.expect("4 pending", "GET, POST", "the agent says: hello")
    s.keys("o")
    s.expect("Open the request first")
    open_request(s, 1)
    settle()
    s.keys("o")
    s.expect("coder-1 1: done", "3 pending")
    assert sent(tmp_path) == ["decide coder-1 1 granted=1 scope=1 release=0 seconds=0 answer="]
    # What is selected is the request that is gone, not the one that took its row.
    s.keys("Enter")
    s.expect("No request is selected")
    s.keys("Down", "Enter")
    s.expect("Request 2 of coder-1", "WARNING upload-host")
    settle()
    s.keys("b")
    s.expect("WARNING: upload-host. Approve all the same? y/N")
    assert len(sent(tmp_path)) == 1
    settle()
    s.keys("y")
    s.expect("coder-1 2: done")
    assert sent(tmp_path)[1].startswith("decide coder-1 2 granted=1 scope=2")
    s.keys("Down", "Enter")
    s.expect("Request 3 of coder-1: held")
    s.keys("r", "nö", "Enter")
    s.expect("coder-1 3: done")
    assert sent(tmp_path)[2] == "decide coder-1 3 granted=0 scope=0 release=0 seconds=0 answer=nö"
    s.keys("q")
    s.expect("left by 0", "ended: 0")
    assert s.is_put_back()


def test_a_key_that_was_typed_ahead_approves_nothing(draw, tmp_path):
    s = draw()
    s.expect("4 pending", "GET, POST")
    s.keys("Enter", "o", "o", "o")
    s.expect("Request 1 of coder-1", "hash ")
    time.sleep(0.2)
    assert sent(tmp_path) == []


def test_a_paste_is_no_keys(draw, tmp_path):
    s = draw()
    open_request(s, 1)
    settle()
    s.tmux("set-buffer", "oyo\nqq")
    s.tmux("paste-buffer", "-p")
    s.expect("Request 1 of coder-1", "What is pasted is not taken for keys")
    assert sent(tmp_path) == []
    s.keys("o")
    s.expect("coder-1 1: done")


def test_a_report_of_the_mouse_is_no_keys(draw, tmp_path):
    """The agent's program has turned them on, in the same terminal, before."""
    reports = {draw(term=term, before="printf '\\033[?1000h\\033[?1004h'; "): report for term, report in
               ((None, b"\x1b[M o!"), ("xterm-256color", b"\x1b[<0;79;1o"), ("xterm-256color", b"\x1b[O"))}
    for s in reports:
        open_request(s, 1)
        assert s.value("mouse_any_flag") == "0"
    settle()
    for s, report in reports.items():
        s.tmux("send-keys", "-H", *(f"{b:02x}" for b in report), check=False)
    for s in reports:
        s.keys("?")  # what it had to say has been heard
    settle()
    assert sent(tmp_path) == []


def test_what_the_agent_says_moves_nothing(draw):
    """H01: in every field, made visible by nobody before."""
    s = draw()
    title, colour = s.value("pane_title"), re.compile(rb"\x1b\[[0-9;:]*m")
    s.expect("4 pending", r"evil.example/\x1b[2J", r"hello \u{202e} human")
    open_request(s, 4)
    s.expect(r"\x1b]52;c;QQ==\x07", r"\u{9b}31m", r"\u{202e}")
    for rows, columns in ((12, 40), (24, 80), (60, 200), (5, 20), (30, 100)):
        s.resize(rows, columns)
        for key in ("NPage", "NPage", "PPage"):
            s.keys(key)
        time.sleep(0.15)
    s.expect("Request 4 of coder-1", "pending")
    assert s.value("pane_title") == title and s.tmux("list-buffers") == "" and s.value("alternate_on") == "1"
    raw = colour.sub(b"", s.raw())
    assert b"\x07" not in raw and b"\x1b]" not in raw and b"\x1b[2J\\" not in raw
    assert b"\xc2\x9b" not in raw and b"\x9b31m" not in raw and "\u202e".encode() not in raw
    assert b"31m\x1b" not in raw.replace(b"\\x9b31m", b"").replace(b"\\u{9b}31m", b"")
    s.keys("q", "q")
    s.expect("ended: 0")


def test_sizes(draw):
    s = draw(rows=12, columns=40)
    s.expect("bottles", "requests 4", "egress", "decisions of")
    s.keys("Enter")
    s.expect("plain.example", "v\n")
    s.keys("NPage", "NPage", "NPage")
    s.expect("hash 01010101")
    s.resize(4, 12)
    s.expect("too small")
    s.resize(100, 300)
    s.expect("Request 1 of coder-1", "The agent says:", "| because")
    s.keys("q", "?")
    s.expect("approve once", "masked")


def test_every_way_out_puts_the_terminal_back(draw):
    screens = {number: draw() for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT,
                                             signal.SIGSEGV, signal.SIGUSR1)}
    for number, s in screens.items():
        s.expect("4 pending")
        assert not s.is_put_back()
        os.kill(s.pid_of("terminal_driver"), number)
    for number, s in screens.items():
        s.expect(f"ended: {128 + number}")
        assert s.is_put_back(), s.text()


def test_stopped_and_continued(draw):
    s = draw(command=f"exec bash --norc -i", env={"PS1": "shell$ "})
    s.keys(f"{DRIVER} /dev/null", "Enter")
    s.expect("4 pending")
    s.keys("C-z")
    s.expect("Stopped", absent=("4 pending",))
    s.keys("fg", "Enter")
    s.expect("4 pending", "requests 4")
    s.keys("q")
    s.expect("left by 0")


def test_terminals_that_cannot_be_drawn_on(draw, tmp_path):
    s = draw(term="dumb")
    s.expect("dumb", "claude-bottle requests", "ended: 1")
    s = draw(before="", command=f"{DRIVER} {tmp_path}/log </dev/null")
    s.expect("no terminal", "claude-bottle requests", "ended: 1")


def test_without_colours(draw):
    for s in (draw(env={"NO_COLOR": "1"}), draw(term="vt100")):
        open_request(s, 2)
        s.expect("WARNING upload-host")
        assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|38;5;[0-9]+)m", s.raw())


def test_a_locale_of_ascii(draw):
    s = draw(env={"LC_ALL": "C"})
    open_request(s, 4)
    s.expect(r"\u{202e}")
    assert all(c < 0x80 for c in s.raw())


def test_the_bell_is_the_humans(draw):
    s = draw(env={"RINGS": "1"})
    s.expect("4 pending")
    assert s.raw().count(b"\x07") == 1


def test_ten_thousand(draw):
    s = draw(n=10000)
    s.expect("10000 pending", "requests 500+")
    took = []
    for keys, text in ((("Enter",), "Request 1 of"), (("q",), "requests 500+"), (("End", "Enter"), "Request 500 of"),
                       (("q",), "requests 1000+"), (("v",), "grants of"), (("q", "Home", "Enter"), "Request 1 of")):
        start = time.monotonic()
        s.keys(*keys)
        s.expect(text)
        took.append(time.monotonic() - start)
    print("keys among 10,000:", ", ".join(f"{1000 * t:.0f} ms" for t in took))


def test_the_command(draw, make_home):
    home = make_home()
    s = draw(command=f"{bottle.executable()} supervise", env=home.env())
    s.expect("0 pending", "all bottles", "nothing is asked for")
    s.keys("q")
    s.expect("ended: 0")
    for words, text in ((["supervise"], "requests"), (["supervise", "x"], 'no bottle "x"'),
                        (["supervise", "--port", "1"], "--web"), (["supervise", "x", "--web"], "every bottle")):
        r = home.run(*words)
        assert r.returncode != 0 and text in r.stderr and r.stdout == ""


def test_a_real_bottle(draw, make_home, upstream, authority):
    """Refused, asked, granted by keys, allowed; and the agent's reason cannot draw."""
    home = make_home()
    home.write_bottle("box", routes=[bottle.route("other.example.test")], supervise=True, ca=authority.path,
                      resolve={"api.example.test": upstream.address})
    home.write_agent()
    running = home.background()
    try:
        agent = asking.Agent(lambda script: running.exec("sh", "-c", script).stdout)
        curl = ("curl", "-sf", "-o", "/dev/null", "https://api.example.test/json")
        assert running.exec(*curl).returncode != 0
        asked = agent.call("request_egress", host="api.example.test", reason="\x1b[2J\u202e please", wait_seconds=0)
        assert asked["state"] == "pending", asked
        s = draw(command=f"{bottle.executable()} supervise {running.slug}", env=home.env(), columns=130)
        s.expect("1 pending", "api.example.test")
        s.keys("Enter")
        s.expect("host      api.example.test", r"\x1b[2J\u{202e} please")
        settle()
        s.keys("b")
        s.expect("0 pending")
        assert agent.call("request_status", id=asked["id"])["state"] == "granted"
        assert running.exec(*curl).returncode == 0
        s.keys("v")
        s.expect("active", "bottle", "api.example.test")
        s.keys("Down", "x", "y")
        s.expect("revoked")
        assert running.exec(*curl).returncode != 0
        agent.call("request_egress", host="always.example.test", reason="again and again", wait_seconds=0)
        s.keys("q")
        s.expect("always.example.test")
        s.keys("Home", "Enter")
        s.expect("host      always.example.test", "hash ")
        settle()
        s.keys("a")
        s.expect("This would be written into", "+", "always.example.test", "y/N")
        settle()
        s.keys("y")
        s.expect("0 pending")
        with open(f"{home.folder}/.claude-bottle/bottles/box.md") as f:
            assert "always.example.test" in f.read()
        s.keys("P")
        s.expect("paused")
        s.keys("q")
        s.expect("ended: 0")
    finally:
        running.stop()
