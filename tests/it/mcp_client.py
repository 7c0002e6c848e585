"""An agent's side of MCP (streamable HTTP) with http.client alone: what supervise is asked in tests.

    mcp = McpClient("10.209.0.2")
    mcp.initialize()
    mcp.tools()
    answer = mcp.call("request_egress", host="api.example.com", reason="...", wait_seconds=0)
    answer["state"], answer["id"]

For code that has to run inside of a bottle, where no module of ours is, take `SOURCE`.
"""

import http.client
import json
import pathlib

PORT = 9100
LATEST = "2025-11-25"
SOURCE = pathlib.Path(__file__).read_text(encoding="utf-8") if "__file__" in globals() else None


class McpError(Exception):
    """A JSON-RPC error, or an answer of HTTP that is none."""

    def __init__(self, status, code, message):
        super().__init__(f"HTTP {status}, code {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class McpClient:
    """One session. A connection per message, as agents do it that start curl."""

    def __init__(self, host, port=PORT, timeout=70):
        self.host = host
        self.port = port
        self.timeout = timeout
        self.session = None
        self.version = None
        self.last_id = 0

    def exchange(self, method, body=None, fields=None):
        """(status, fields with names in lower case, body) of one HTTP request to /mcp; fields override the
        usual ones, and None leaves one out."""
        wanted = {"Accept": "application/json, text/event-stream"}
        if body is not None:
            wanted["Content-Type"] = "application/json"
        if self.session:
            wanted["Mcp-Session-Id"] = self.session
        if self.version:
            wanted["MCP-Protocol-Version"] = self.version
        wanted.update(fields or {})
        return self.transport(method, body, {k: v for k, v in wanted.items() if v is not None})

    def transport(self, method, body, fields):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            connection.request(method, "/mcp", body, fields)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def request(self, method, params=None):
        """The result of one request; McpError for everything else."""
        self.last_id += 1
        message = {"jsonrpc": "2.0", "id": self.last_id, "method": method}
        if params is not None:
            message["params"] = params
        status, fields, body = self.exchange("POST", json.dumps(message))
        answer = json.loads(body) if body else {}
        if status != 200 or "error" in answer:
            error = answer.get("error", {})
            raise McpError(status, error.get("code"), error.get("message", body))
        assert answer["id"] == self.last_id, answer
        if method == "initialize":
            self.session = fields["mcp-session-id"]
            self.version = answer["result"]["protocolVersion"]
        return answer["result"]

    def notify(self, method, params=None):
        message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        status, _, body = self.exchange("POST", json.dumps(message))
        if status != 202:
            raise McpError(status, None, body)

    def initialize(self, version=LATEST):
        result = self.request("initialize", {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": {"name": "mcp_client", "version": "1"},
        })
        self.notify("notifications/initialized")
        return result

    def tools(self):
        return {tool["name"]: tool for tool in self.request("tools/list")["tools"]}

    def call_result(self, name, **arguments):
        """The whole result, isError and content included."""
        return self.request("tools/call", {"name": name, "arguments": arguments})

    def call(self, name, **arguments):
        """What the tool said; the same in every version of the protocol."""
        return json.loads(self.call_result(name, **arguments)["content"][0]["text"])

    def close(self):
        status, _, _ = self.exchange("DELETE")
        self.session = self.version = None
        return status
