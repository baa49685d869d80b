#!/usr/bin/env python3
"""The Autobahn test suite against the example `websocket`: what a server does with 517 things that clients say.

It is a program for Python 2.7, fetched with pip into target/autobahn the first time, with the versions in requirements.txt.

usage: tests/autobahn/run.py [--all | CASES...]   (default: all but most of those about compression, about two minutes;
       --all takes most of an hour, for the suite itself compresses slowly)
exit:  0 every case is OK, or informational where the suite itself does not judge; 1 some are not, which are told;
       77 skipped, because there is no Python 2.7 or the suite cannot be fetched
The report is target/autobahn/reports/index.html. A Python 2.7 that is not in PATH: PYTHON27=/where/it/is.
"""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "target/autobahn"
LIBRARY = FOLDER / "lib"
REPORTS = FOLDER / "reports"
# 8 is empty, 11 does not exist; 12 and 13 are about compression: 1,000 messages in each case, of sizes from 16 bytes (the
# first) to 128 KiB (the tenth), then in fragments. 13 asks for smaller windows, and for what else can be agreed on.
PLAIN = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
COMPRESSED = ["12.*", "13.*"]
SAMPLE = [f"12.{kind}.{case}" for kind in range(1, 6) for case in (1, 4)] + [f"13.{offer}.4" for offer in range(1, 8)]
SUITE_VERSION = "0.8.2"
SKIPPED = 77
# INFORMATIONAL: either behaviour is right, the suite notes which it saw.
FINE = {"OK", "INFORMATIONAL"}


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def python27():
    """The first Python 2.7 that runs: version managers leave stubs that do not."""
    managed = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/2.7*/bin/python")))
    for name in filter(shutil.which, [os.environ.get("PYTHON27", ""), "python2.7", *managed]):
        check = [name, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
        if subprocess.run(check, capture_output=True).returncode == 0:
            return name
    skip("the Autobahn suite takes Python 2.7, which is not here (PYTHON27=/where/it/is)")


def fetch(python):
    """The suite, unless a fetch before this one came to its end."""
    whole = LIBRARY / ".whole"
    if whole.exists():
        return
    shutil.rmtree(LIBRARY, ignore_errors=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", LIBRARY]
    steps = [pip + ["-r", HERE / "requirements.txt"], pip + ["--no-deps", f"autobahntestsuite=={SUITE_VERSION}"]]
    for step in steps:
        done = subprocess.run(step, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            skip(f"pip cannot fetch the Autobahn suite: {done.stderr.strip().splitlines()[-1:]}")
    whole.touch()


def serve():
    """The example, built and started; and its port."""
    build = ["cargo", "build", "--release", "--features", "websocket", "--example", "websocket"]
    subprocess.run(build, cwd=ROOT, check=True)
    server = subprocess.Popen([ROOT / "target/release/examples/websocket", "0"], stdout=subprocess.PIPE, text=True)
    port = re.search(r":(\d+)$", server.stdout.readline().strip())
    if port is None:
        server.kill()
        sys.exit("the example did not say where it listens")
    return server, port[1]


def examine(python, port, cases):
    spec = {
        "outdir": str(REPORTS),
        "servers": [{"agent": "esockets", "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (FOLDER / "spec.json").write_text(json.dumps(spec))
    shutil.rmtree(REPORTS, ignore_errors=True)
    start = (
        f"import site, sys; site.addsitedir({str(LIBRARY)!r}); "
        "sys.argv = ['wstest', '-m', 'fuzzingclient', '-s', 'spec.json']; "
        "from autobahntestsuite import wstest; wstest.run()"
    )
    with open(FOLDER / "suite.log", "w") as log:
        subprocess.run([python, "-W", "ignore", "-c", start], cwd=FOLDER, stdout=log, stderr=log, check=True)


def judge():
    results = json.loads((REPORTS / "index.json").read_text())["esockets"]
    wrong = 0
    for name in sorted(results, key=lambda name: [int(part) for part in name.split(".")]):
        case = results[name]
        if case["behavior"] not in FINE or case["behaviorClose"] not in FINE:
            wrong += 1
            print(f"{name}: {case['behavior']}, closing {case['behaviorClose']}")
    print(f"Autobahn {SUITE_VERSION}: {len(results)} cases, {wrong} of them not OK ({REPORTS}/index.html)")
    return 1 if wrong or not results else 0


def cases(arguments):
    if arguments == ["--all"]:
        return PLAIN + COMPRESSED
    return arguments or PLAIN + SAMPLE


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    python = python27()
    fetch(python)
    server, port = serve()
    try:
        examine(python, port, cases(sys.argv[1:]))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    return judge()


if __name__ == "__main__":
    sys.exit(main())
