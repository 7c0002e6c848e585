"""MCP from inside of a bottle, by a client of an agent's own: every version that is spoken, what is allowed, what
was refused and which tool asks for exactly that, and that a wrong door stays shut."""
import json

import bottle
import mcp_client
import pytest

SCRIPT = mcp_client.SOURCE + r'''
import os, subprocess, sys, urllib.parse
url = urllib.parse.urlsplit(os.environ["CLAUDE_BOTTLE_SUPERVISE_URL"])
mcp = McpClient(url.hostname, url.port)
out = {"versions": [], "doors": []}
for version in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"):
    out["versions"].append(mcp.initialize(version)["protocolVersion"])
    out["tools"] = list(mcp.tools())
    mcp.close()
mcp.initialize()
out["policy"] = mcp.call("network_policy")
subprocess.run(["curl", "-s", "-o", "/dev/null", "https://docs.example.test/json"])
out["refusals"] = mcp.call("recent_refusals", limit=5)["refusals"]
asked = out["refusals"][0]["ask"]
out["asked"] = mcp.call(asked["tool"], reason="to read", wait_seconds=0, **asked["arguments"])
out["status"] = mcp.call("request_status", id=out["asked"]["id"], wait_seconds=0)
out["unknown"] = mcp.call_result("request_status", id=999, wait_seconds=0)
out["told"] = mcp.call("tell_human", message="hello")
ping = json.dumps({"jsonrpc": "2.0", "id": "p", "method": "ping"})
for method, body, fields in (
        ("POST", ping, {}), ("GET", None, {}), ("POST", ping, {"Origin": "http://localhost"}),
        ("POST", ping, {"Host": "localhost:9100"}), ("POST", ping, {"Mcp-Session-Id": "0" * 32}),
        ("POST", ping, {"MCP-Protocol-Version": "2025-06-18"}), ("POST", ping, {"Mcp-Session-Id": None})):
    out["doors"].append(mcp.exchange(method, body, fields)[0])
print(json.dumps(out))
'''


@pytest.fixture
def out(make_home, upstream, authority):
    home = make_home()
    home.write_bottle("box", routes=[bottle.route("api.example.test")], supervise=True, ca=authority.path,
                      resolve={"api.example.test": upstream.address})
    home.write_agent()
    with home.background() as running:
        r = running.exec("python3", "-c", SCRIPT)
        assert r.returncode == 0, r.stdout + r.stderr + home.logs_of_all()
        yield json.loads(r.stdout)


def test_agent_that_speaks_mcp(out):
    assert out["versions"] == ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
    assert out["tools"] == ["network_policy", "recent_refusals", "request_egress", "request_release", "request_push",
                            "request_capability", "request_status", "tell_human"]
    assert [r["host"] for r in out["policy"]["routes"]] == ["api.example.test"]
    # What was refused is asked for by its record alone.
    assert out["refusals"][0]["host"] == "docs.example.test"
    assert out["asked"]["state"] == out["status"]["state"] == "pending"
    assert out["asked"]["id"] == out["status"]["id"] == 1
    assert out["unknown"]["isError"] and out["told"]["state"] == "taken"
    assert out["doors"] == [200, 405, 403, 421, 404, 400, 400]
