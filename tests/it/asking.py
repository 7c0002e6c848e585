"""The agent asks, the human decides: an MCP client that is curl in the bottle, as an agent without a library
of its own would use it, and the human's side by `claude-bottle requests`."""
import json
import shlex

import mcp_client


class Agent(mcp_client.McpClient):
    """sh(script) runs in the bottle and gives what it printed."""

    def __init__(self, sh):
        super().__init__(None)
        self.sh = sh

    def transport(self, method, body, fields):
        flags = " ".join("-H " + shlex.quote(f"{name}: {value}") for name, value in fields.items())
        if body is not None:
            flags += " --data-binary " + shlex.quote(body)
        out = self.sh(f'curl -sS -i --max-time {self.timeout} -X {method} {flags} "$CLAUDE_BOTTLE_SUPERVISE_URL"')
        head, _, text = out.replace("\r\n", "\n").partition("\n\n")
        first, *rest = head.splitlines() or [""]
        answered = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}
        words = first.split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, answered, text

    def call(self, name, **arguments):
        if not self.session:
            self.initialize()
        return super().call(name, **arguments)


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
