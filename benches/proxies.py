#!/usr/bin/env python3
"""What passing a message through a TCP proxy costs: the example `proxy` beside haproxy and socat, in turns.

Each has one thread, socat a process for each connection; in front of it and behind it is loadgen, which verifies every byte that
comes back. All share one core. Told is the proxy's processor time for each request and its answer, user and system, as the kernel
accounts for it: what else runs on the machine takes time away from all, but not from one more than from another.

usage: benches/proxies.py [ROUNDS [CORE]]      (needs haproxy and socat, or leaves them out; takes about 40 s a round)
Build before: cargo build --release --workspace --bin loadgen --example proxy
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADGEN = ROOT / "target/release/loadgen"
PROXY = ROOT / "target/release/examples/proxy"
SECONDS = 3
# Command, connections, bytes of a message.
LOADS = (("rr", 50, 64), ("rr", 50, 16_384), ("rr", 1_000, 64), ("churn", 50, 64))
BEHIND, FIRST = 8091, 8092
HAPROXY = """
global
    nbthread 1
    maxconn 5000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen proxy
    bind 127.0.0.1:{port}
    server behind 127.0.0.1:{behind}
"""


def start(name, port, folder):
    if name == "esockets":
        words = [PROXY, f"127.0.0.1:{port}", f"127.0.0.1:{BEHIND}"]
    elif name == "haproxy":
        Path(folder, "haproxy").write_text(HAPROXY.format(port=port, behind=BEHIND))
        words = ["haproxy", "-q", "-db", "-f", f"{folder}/haproxy"]
    else:
        words = ["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=1024,nodelay"]
        words.append(f"TCP:127.0.0.1:{BEHIND},nodelay")
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)


def seconds_used(process):
    """Of all threads of the process, to the nanosecond, and of its children that have ended, to a hundredth of a second."""
    folder = Path(f"/proc/{process.pid}")
    own = sum(int(path.read_text().split()[0]) for path in folder.glob("task/*/schedstat"))
    ended = (folder / "stat").read_text().rpartition(")")[2].split()[13:15]
    return own / 1e9 + sum(int(ticks) for ticks in ended) / os.sysconf("SC_CLK_TCK")


def listens(port):
    for _ in range(3000):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    sys.exit(f"nobody listens on port {port}")


def has_no_children(process):
    return not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip()


def sample(process, port, load):
    command, connections, size = load
    with tempfile.NamedTemporaryFile(suffix=".json") as results:
        words = [LOADGEN, command, f"127.0.0.1:{port}", "-c", connections, "-s", size, "-d", f"{SECONDS}s"]
        words += ["--threads", 1, "-q", "--json", results.name]
        before = seconds_used(process)
        run = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        for _ in range(1000):
            if has_no_children(process):
                break
            time.sleep(0.01)
        used = seconds_used(process) - before
        if run.returncode not in (0, 4):
            return None, run.stderr.strip().splitlines()[-1:] or run.stdout.strip().splitlines()[-1:]
        stage = json.load(results)["stages"][-1]
    return used / stage["requests_answered"] * 1e6, None


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    core = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if not (LOADGEN.exists() and PROXY.exists()):
        sys.exit("build it first: cargo build --release --workspace --bin loadgen --example proxy")
    names = ["esockets"] + [name for name in ("haproxy", "socat") if shutil.which(name)]
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory() as folder:
        behind = [LOADGEN, "serve", "--listen", f"127.0.0.1:{BEHIND}", "--shards", "1"]
        servers = [subprocess.Popen([str(word) for word in behind], stdout=subprocess.DEVNULL)]
        try:
            listens(BEHIND)
            servers += [start(name, FIRST + index, folder) for index, name in enumerate(names)]
            for index in range(len(names)):
                listens(FIRST + index)
            measure(dict(zip(names, enumerate(servers[1:]))), rounds)
        finally:
            for server in servers:
                server.terminate()
                server.wait()


def measure(proxies, rounds):
    print("| processor time of the proxy for each | " + " | ".join(proxies) + " |")
    print("|---|" + "---:|" * len(proxies))
    for load in LOADS:
        samples, failed = {name: [] for name in proxies}, {}
        for _ in range(rounds):
            for name, (index, process) in proxies.items():
                got, why = sample(process, FIRST + index, load)
                if got:
                    samples[name].append(got)
                else:
                    failed[name] = why
        cells = []
        for name, got in samples.items():
            if name in failed:
                print(f"{name}, {load}: {failed[name]}", file=sys.stderr)
            if not got:
                cells.append("fails")
                continue
            cells.append(f"{statistics.median(got):.1f} µs ({min(got):.1f}–{max(got):.1f})")
        command, connections, size = load
        what = "echo" if command == "rr" else "connect, echo, close"
        print(f"| {what}, {connections:,} × {size:,} B | " + " | ".join(cells) + " |", flush=True)


main()
