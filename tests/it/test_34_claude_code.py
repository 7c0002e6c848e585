"""Claude Code itself in a bottle, against a stub of its API that streams: the real agent, the real
key outside, the placeholder inside."""
import json
import os

import bottle
import pytest
import standin
from claude import REAL_KEY, check_streams, deltas_of, start, write


@pytest.fixture
def claude_home(make_home, stub, authority, claude_code):
    home = make_home()
    write(home, stub, authority, expose=[claude_code],
          env={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"})
    return home


def test_answer_arrives_as_it_streams(claude_home, stub, claude_code):
    asked = check_streams(claude_home, stub, start(claude_home, f"{claude_code}/claude"))
    # Every exchange has its record, and none holds the key or a query.
    records = claude_home.records()
    allowed = [r for r in records if r["verdict"] == "allow" and r.get("path") == "/v1/messages"]
    assert len(allowed) >= len([r for r in asked if r.path.split("?")[0] == "/v1/messages"]), records
    assert not standin.find_secret(json.dumps(records).encode(), REAL_KEY)


def test_key_is_nowhere_in_the_bottle(claude_home, stub, claude_code):
    if os.geteuid() != 0:
        pytest.skip("only root may read the agent's memory")
    import threading
    stub.gate = threading.Event()
    p = start(claude_home, f"{claude_code}/claude")
    try:
        assert stub.at_gate.wait(60), p.poll()
        # In the middle of the answer: the key is on the wire outside, the agent is alive.
        slug = claude_home.slugs()[-1]
        with open(f"{claude_home.state}/{slug}/bottle.json") as f:
            keeper = json.load(f)["pid"]
        by_role = {}
        for pid in bottle.descendants(keeper):
            by_role.setdefault(bottle.role_of(pid), []).append(pid)
        agents = by_role.get("agent", []) + by_role.get("bwrap", [])
        claude = [q for q in agents if "claude" in " ".join(bottle.cmdline(q)[:1])]
        assert claude, by_role
        for pid in agents + by_role["pipelock"]:
            found, read = standin.memory_finds(pid, REAL_KEY)
            assert not found, (pid, bottle.cmdline(pid), found)
            assert read > 100_000, f"read {read} bytes of {bottle.cmdline(pid)}"
            environ = open(f"/proc/{pid}/environ", "rb").read()
            assert not standin.find_secret(environ, REAL_KEY), bottle.cmdline(pid)
        # controls: the placeholder is there to be found, and keyd does hold the key
        environ = open(f"/proc/{claude[0]}/environ", "rb").read()
        name = b"ANTHROPIC_API_KEY="
        placeholder = [v for v in environ.split(b"\0") if v.startswith(name)][0][len(name):]
        assert len(placeholder) >= 12 and placeholder.decode() != REAL_KEY
        assert "plain" in standin.memory_finds(claude[0], placeholder.decode())[0]
        assert "plain" in standin.memory_finds(by_role["keyd"][0], REAL_KEY)[0]
        assert not stub.saw(placeholder)
        # The files of the bottle, the agent's home included.
        for folder, _, files in os.walk(f"{claude_home.state}/{slug}"):
            for name in files:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    data = open(path, "rb").read()
                    assert not standin.find_secret(data, REAL_KEY), path
    finally:
        stub.gate.set()
    _, result = deltas_of(p)
    assert p.wait(30) == 0 and result["result"] == stub.answer_text


def test_finds_its_human_over_mcp(make_home, stub, authority, claude_code):
    """It finds the server in the file that the bottle has put there, lists its tools and calls one. Told to wait
    for the server and to show its tools at once, else its first request to the model is without them."""
    home = make_home()
    write(home, stub, authority, expose=[claude_code], supervise=True,
          env={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
               "ENABLE_TOOL_SEARCH": "false", "MCP_CONNECTION_NONBLOCKING": "0"})
    asked = {"host": "docs.example.test", "methods": ["GET"], "reason": "The documentation is there.", "wait_seconds": 0}
    stub.pause, stub.tool = 0, ("mcp__claude-bottle__request_egress", asked)
    p = start(home, f"{claude_code}/claude", "--allowedTools", stub.tool[0],
              "--mcp-config", "/etc/claude-bottle/mcp.json")
    _, result = deltas_of(p)
    error = p.stderr.read().decode()
    assert p.wait(60) == 0 and result and not result["is_error"], error + home.logs_of_all()
    offered = {t.rpartition("__")[2] for t in stub.tools if t.startswith("mcp__claude-bottle__")}
    assert {"network_policy", "recent_refusals", "request_egress", "request_release", "request_push",
            "request_capability", "request_status", "tell_human"} <= offered, stub.tools
    said = json.dumps(stub.tool_results)
    assert "pending" in said, said
    [slug] = home.slugs()
    listed = json.loads(home.run("requests", "list", slug, "--all", "--json", check=True).stdout)
    assert [r["change"]["host"] for r in listed] == ["docs.example.test"], listed
