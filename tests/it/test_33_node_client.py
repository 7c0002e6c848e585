"""Node: CONNECT by hand over its http and tls modules (its https module does not read HTTPS_PROXY),
with the CA from NODE_EXTRA_CA_CERTS."""
import json

import pytest
import standin

SCRIPT = r"""
const http = require('http'), https = require('https'), tls = require('tls');
const proxy = new URL(process.env.HTTPS_PROXY);
function call(host, path, options = {}) {
  return new Promise((resolve, reject) => {
    const c = http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT',
                            path: host + ':443', headers: {host: host + ':443'}});
    c.on('error', reject);
    c.on('response', r => { r.resume(); resolve({connect: r.statusCode}); });
    c.on('connect', (r, socket) => {
      if (r.statusCode !== 200) { socket.destroy(); return resolve({connect: r.statusCode}); }
      const t = tls.connect({socket, servername: host}, () => {
        const q = https.request({host, port: 443, defaultPort: 443, path,
                                 method: options.method || 'GET',
                                 createConnection: () => t}, a => {
          let body = '';
          a.on('data', d => body += d);
          a.on('end', () => { resolve({status: a.statusCode, body}); t.destroy(); });
        });
        q.on('error', reject);
        q.end(options.body);
      });
      t.on('error', reject);
    });
    c.end();
  });
}
(async () => {
  const out = {};
  out.json = await call('api.example.test', '/json?n=2');
  out.post = await call('api.example.test', '/upload', {method: 'POST', body: 'n'.repeat(5000)});
  out.evil = await call('evil.example.test', '/json');
  console.log(JSON.stringify(out));
})().catch(e => { console.error(e); process.exit(1); });
"""


def test_node(home, upstream):
    if not standin.os.access("/usr/bin/node", standin.os.X_OK):
        pytest.skip("/usr/bin/node is missing (package nodejs)")
    r = home.start("/usr/bin/node", "-e", SCRIPT)
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    out = json.loads(r.stdout.splitlines()[-1])
    assert out["json"]["status"] == 200 and json.loads(out["json"]["body"])["ok"] is True
    assert json.loads(out["post"]["body"]) == {"bytes": 5000}
    assert out["evil"] == {"connect": 403}
    assert len(upstream.requests) == 2
