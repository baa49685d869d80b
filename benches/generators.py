#!/usr/bin/env python3
"""What generating a request costs: loadgen beside wrk and h2load, on the same nginx, in turns.

The server and the generator share one core, so that neither waits for the other in its sleep: a generator that sleeps
between two answers pays for waking up, and would be held against one that is too busy to. What is compared is the rate that
a core would generate if it did nothing else: requests answered, divided by the generator's processor time (user and
system, as the kernel accounts for it). wrk and h2load speak HTTP only; loadgen's echo, which verifies every byte, stands
beside them on its own server.

usage: benches/generators.py [ROUNDS [CORE]]      (needs nginx, wrk, h2load; takes about 40 s a round)
"""

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADGEN = ROOT / "target/release/loadgen"
CONNECTIONS = (100, 10_000)
SECONDS = 4
HTTP, ECHO = 8089, 8090
NGINX = """
worker_processes 1; daemon off; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 15000; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}; }}
}}
"""


def loadgen(connections, target):
    with tempfile.NamedTemporaryFile(suffix=".json") as results:
        run([LOADGEN, "rr", target, "-c", connections, "-d", f"{SECONDS}s", "--threads", 1, "-q", "--json", results.name])
        return json.load(results)["stages"][-1]["requests_answered"]


def wrk(connections, target):
    return int(re.search(r"(\d+) requests in", run(["wrk", "-t1", "-c", connections, "-d", f"{SECONDS}s", target]))[1])


def h2load(connections, target):
    output = run(["h2load", "--h1", "-t1", "-c", connections, "-D", SECONDS, target])
    return int(re.search(r"(\d+) succeeded", output)[1])


def run(words):
    """The exit code is not looked at: a verdict has one, too."""
    return subprocess.run([str(word) for word in words], capture_output=True, text=True).stdout


def rate(generator, connections, target):
    """Requests for each second of the generator's processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    requests = generator(connections, target)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return requests / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    core = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    missing = [tool for tool in ("nginx", "wrk", "h2load") if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)} (Debian: nginx, wrk, nghttp2-client)")
    if not LOADGEN.exists():
        sys.exit("build it first: cargo build --release --bin loadgen")
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        Path(folder, "index.html").write_text("hello\n")
        Path(folder, "conf").write_text(NGINX.format(folder=folder, port=HTTP))
        servers = [
            subprocess.Popen(["nginx", "-e", "stderr", "-c", f"{folder}/conf"]),
            subprocess.Popen([LOADGEN, "serve", "--listen", f"127.0.0.1:{ECHO}", "--shards", "1"], stdout=subprocess.DEVNULL),
        ]
        time.sleep(1)
        try:
            measure(rounds)
        finally:
            for server in servers:
                server.terminate()
                server.wait()


def measure(rounds):
    page, echo = f"http://127.0.0.1:{HTTP}/index.html", f"127.0.0.1:{ECHO}"
    rivals = {"loadgen": (loadgen, page), "wrk": (wrk, page), "h2load": (h2load, page), "loadgen, echo": (loadgen, echo)}
    print("| requests for each second of one core's time | " + " | ".join(rivals) + " |")
    print("|---|" + "---:|" * len(rivals))
    for connections in CONNECTIONS:
        rates = {name: [] for name in rivals}
        for _ in range(rounds):
            for name, (generator, target) in rivals.items():
                rates[name].append(rate(generator, connections, target))
        cells = [f"{statistics.median(it):,.0f} ({min(it):,.0f}–{max(it):,.0f})" for it in rates.values()]
        print(f"| {connections:,} connections | " + " | ".join(cells) + " |", flush=True)


main()
