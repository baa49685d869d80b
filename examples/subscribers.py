#!/usr/bin/env python3
"""Subscribers of the example push, who tell how long a message takes until the last of them has read it.

    cargo run --release --example push -- 1234 50000 &
    examples/subscribers.py 50000 1234          # and how many messages: 5, unless a third number says otherwise

Each process holds what `ulimit -n` allows; so there are several. Each connection takes a port of its address, so each process
has an address of its own, 127.1.0.1 and so on. Have them in a network namespace of their own (`unshare -rn`, `ip link set lo
up`), where nobody else needs the ports and what is left in TIME_WAIT is gone with it.
"""

import multiprocessing
import os
import resource
import select
import socket
import sys
import time
from array import array

PATIENCE = 60  # seconds for a message to reach everybody
IP_BIND_ADDRESS_NO_PORT = 24  # the port is chosen when it is known whom to connect to: see ip(7)
PORTS = 12_000  # of some 28,000: the kernel looks for a free one longer and longer


def connect(source, port):
    """A connection as a bare number: a million objects would be in the way."""
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.connect(("127.0.0.1", port))
    return client.detach()


def subscribe(pipe, number, count, port):
    """One process: `count` connections. It is told of each message before that is published, and says when it arrived."""
    source = f"127.1.{number // 250}.{number % 250 + 1}"
    poll = select.epoll()
    for _ in range(count):
        poll.register(connect(source, port), select.EPOLLIN)
    pipe.send(count)
    poll.register(pipe.fileno(), select.EPOLLIN)
    arrived, news, deadline = array("q"), None, None
    while True:
        for fd, _ in poll.poll(None if deadline is None else 0.1, 1024):
            if fd == pipe.fileno():
                news = pipe.recv()
                if news is None:
                    return
                arrived, deadline = array("q"), time.monotonic() + PATIENCE
                continue
            data = os.read(fd, 4096)
            if not data:
                sys.exit(f"process {number}: the server has closed a connection")
            # Signs of life come, too, and what was published before. So short a line comes in one piece.
            if news is not None and news in data:
                arrived.append(time.monotonic_ns())
        if deadline is not None and (len(arrived) == count or time.monotonic() > deadline):
            pipe.send(arrived)
            deadline = None


def publish(publisher, pipes, news):
    """When it arrived with each who has it, in milliseconds since it was sent, from the soonest to the latest."""
    for pipe in pipes:
        pipe.send(news)
    sent = time.monotonic_ns()
    publisher.sendall(b"publish " + news)
    return sorted((at - sent) / 1e6 for pipe in pipes for at in pipe.recv())


def main():
    count, port, messages = (int(word) for word in (sys.argv[1:] + ["1000", "1234", "5"][len(sys.argv) - 1 :])[:3])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    each = min(limit[1] - 200, PORTS)
    pipes, began = [], time.monotonic()
    for number in range(-(-count // each)):
        ours, theirs = multiprocessing.Pipe()
        part = min(each, count - number * each)
        multiprocessing.Process(target=subscribe, args=(theirs, number, part, port), daemon=True).start()
        theirs.close()  # its end there means the end here
        pipes.append(ours)
    print(f"{sum(pipe.recv() for pipe in pipes)} connected in {time.monotonic() - began:.1f} s", flush=True)
    publisher = socket.create_connection(("127.0.0.1", port))
    # Some may be in the kernel's queue yet: whoever hears this is there.
    attempts = 1
    while (there := len(publish(publisher, pipes, b"is everybody there? %d\n" % attempts))) < count:
        print(f"{there} are there yet", flush=True)
        attempts += 1
    for number in range(messages):
        news = b"news %d\n" % number
        at = publish(publisher, pipes, news)
        if not at:
            sys.exit(f"nobody has heard message {number}")
        print(f"message {number}: {len(at)} have it; the first after {at[0]:.1f} ms, half of them after "
              f"{at[len(at) // 2]:.1f} ms, the last after {at[-1]:.1f} ms", flush=True)
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
