#!/usr/bin/env python3
"""Feeds a folder of public egress cases to the scan engine.

usage: run_cases.py SCAN_LINES [FOLDER]; the folder comes from EGRESS_CASES, else the argument. Only
what an engine in this place would see is used: transport, input type and payload. Exits 77 (skipped)
without the folder. Fails when a category falls below what it reached before.
"""
import base64
import collections
import glob
import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

# Right answers that each category must keep. The rest of "url" is policy: addresses, blocked hosts.
FLOOR = {
    'crypto-financial': 8, 'encoding-evasion': 8, 'false-positive': 12, 'headers': 9,
    'hostname-exfiltration': 8, 'request-body': 10, 'response-fetch': 8, 'response-mitm': 7,
    'url': 11, 'websocket-dlp': 7,
}


class Engine:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def scan(self, place, text):
        data = text if isinstance(text, bytes) else text.encode()
        if not data:
            return []
        self.process.stdin.write('%s\t%s\n' % (place, data.hex()))
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit('the engine died')
        return line.split()

    def scan_url(self, url):
        parts = urlsplit(url)
        return (self.scan('host', parts.hostname or '') + self.scan('path', parts.path) +
                self.scan('query', parts.query))


def findings(engine, case):
    payload, kind = case['payload'], case['input_type']
    if kind == 'response_content':
        return engine.scan('response', payload['response_body'])
    if kind == 'websocket_frame':
        found = engine.scan_url(payload['url'])
        message = b''
        for frame in payload['frames']:
            data = frame['payload']
            message += base64.b64decode(data) if frame.get('encoding') == 'base64' else data.encode()
            if frame.get('rsv1'):
                found.append('compressed-frame')  # pipelock negotiates no compression: refused
        return found + engine.scan('body', message)
    if 'jsonrpc_messages' in payload:
        return [f for m in payload['jsonrpc_messages']
                for f in engine.scan('response' if 'result' in m else 'body', json.dumps(m))]
    headers = ''.join('%s: %s\r\n' % h for h in payload.get('headers', {}).items())
    body = payload.get('body', '')
    return (engine.scan_url(payload['url']) + engine.scan('header', headers) +
            engine.scan('body', body if isinstance(body, str) else json.dumps(body)))


def main():
    folder = os.environ.get('EGRESS_CASES') or (sys.argv[2] if len(sys.argv) > 2 else '')
    files = sorted(glob.glob(os.path.join(folder, '*', '*.json')))
    if not files:
        print('skipped: no cases at "%s"; set EGRESS_CASES to their folder' % folder)
        return 77
    engine = Engine(sys.argv[1])
    right, total = collections.Counter(), collections.Counter()
    for path in files:
        with open(path) as f:
            case = json.load(f)
        category = os.path.basename(os.path.dirname(path))
        if category not in FLOOR:
            continue
        found = findings(engine, case)
        total[category] += 1
        if ('block' if found else 'allow') == case['expected_verdict']:
            right[category] += 1
        else:
            print('%s: wanted %s, found %s' % (case['id'], case['expected_verdict'], found or 'nothing'))
    failed = False
    for category in sorted(total):
        is_low = right[category] < min(FLOOR[category], total[category])
        failed |= is_low
        print('%-24s %d of %d%s' % (category, right[category], total[category], ' (too few)' if is_low else ''))
    return 1 if failed else 0


sys.exit(main())
