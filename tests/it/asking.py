"""The agent asks, the human decides: an MCP client that is curl in the bottle, as an agent without a library
of its own would use it, and the human's side by `claude-bottle requests`."""
import json
import shlex

ACCEPT = "application/json, text/event-stream"


class Agent:
    """sh(script) runs in the bottle and gives what it printed."""

    def __init__(self, sh):
        self.sh, self.session, self.number = sh, None, 0

    def post(self, message, *headers):
        """(status, headers in lower case, body) of one POST."""
        lines = ["Content-Type: application/json", f"Accept: {ACCEPT}", *headers]
        if self.session:
            lines += [f"Mcp-Session-Id: {self.session}", "MCP-Protocol-Version: 2025-11-25"]
        flags = " ".join("-H " + shlex.quote(line) for line in lines)
        text = message if isinstance(message, str) else json.dumps(message)
        out = self.sh(f"curl -sS -i --max-time 70 {flags} --data-binary {shlex.quote(text)} "
                      '"$CLAUDE_BOTTLE_SUPERVISE_URL"')
        head, _, body = out.replace("\r\n", "\n").partition("\n\n")
        first, *rest = head.splitlines() or [""]
        fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}
        words = first.split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, fields, body

    def request(self, method, params=None):
        """The result, or the error, of one JSON-RPC request."""
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method}
        if params is not None:
            message["params"] = params
        status, _, body = self.post(message)
        if status != 200:
            raise AssertionError(f"{method}: {status} {body[:200]}")
        answer = json.loads(body)
        assert answer.get("id") == self.number, answer
        return answer.get("result", answer.get("error"))

    def begin(self):
        status, fields, body = self.post({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {"protocolVersion": "2025-11-25", "capabilities": {},
                       "clientInfo": {"name": "curl", "version": "1"}}})
        assert status == 200, (status, body)
        self.session = fields.get("mcp-session-id")
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return json.loads(body)["result"]

    def call(self, tool, **arguments):
        """What the tool answers, structured."""
        if not self.session:
            self.begin()
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        return result.get("structuredContent", result)


class Human:
    """Decides by command, as a script would."""

    def __init__(self, home, slug):
        self.home, self.slug = home, slug

    def run(self, *words, check=True):
        return self.home.run("requests", *words, check=check)

    def pending(self):
        return json.loads(self.run("list", self.slug, "--json").stdout)

    def show(self, number):
        return json.loads(self.run("show", self.slug, str(number), "--json").stdout)

    def approve(self, number, *options, check=True):
        """Exactly what was shown."""
        seen = self.show(number)
        return self.run("approve", self.slug, str(number), "--hash", seen["hash"], *options, check=check)

    def refuse(self, number, reason="no", check=True):
        seen = self.show(number)
        return self.run("refuse", self.slug, str(number), "--hash", seen["hash"], "--reason", reason, check=check)
