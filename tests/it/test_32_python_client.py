"""Python's own HTTP client, through the environment that the bottle sets."""
import json

SCRIPT = r"""
import json, urllib.request, urllib.error, ssl, os
B = "https://api.example.test"
out = {}
out["json"] = json.load(urllib.request.urlopen(B + "/json?n=2", timeout=20))
r = urllib.request.Request(B + "/upload", data=b"z" * 70000, headers={"Content-Type": "text/plain"})
out["upload"] = json.load(urllib.request.urlopen(r, timeout=20))
out["chunked"] = urllib.request.urlopen(B + "/chunked", timeout=20).read().decode()
try:
    urllib.request.urlopen("https://evil.example.test/", timeout=20)
    out["evil"] = "REACHED"
except OSError as e:
    out["evil"] = str(e)
try:
    urllib.request.urlopen(urllib.request.Request(B + "/json", method="DELETE"), timeout=20)
    out["delete"] = "REACHED"
except urllib.error.HTTPError as e:
    out["delete"] = [e.code, json.load(e)]
print(json.dumps(out))
"""


def test_urllib(home, upstream):
    r = home.start("/usr/bin/python3", "-c", SCRIPT)
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    out = json.loads(r.stdout.splitlines()[-1])
    assert out["json"] == {"ok": True, "items": [0, 1]}
    assert out["upload"] == {"bytes": 70000}
    assert out["chunked"].endswith("piece 7\n")
    assert "REACHED" not in out["evil"] and "403" in out["evil"]
    assert out["delete"][0] == 403 and out["delete"][1]["reason"] == "method-not-allowed"
    assert {x.method for x in upstream.requests} == {"GET", "POST"}
