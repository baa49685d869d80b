"""A client of the Python package `websockets`, which compresses by itself: what it sends to the echo server at this port
has to come back, whatever it offers. Exit: 0 it did; 77 the package is not there, or too old.
"""

import random
import sys

try:
    from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Offer
    from websockets.sync.client import connect
except ImportError as error:
    print(error)
    sys.exit(77)

OFFERS = [
    {"client_max_window_bits": True},
    {"client_max_window_bits": 9},
    {"server_no_context_takeover": True, "client_no_context_takeover": True},
    *({"server_max_window_bits": bits} for bits in range(9, 16)),
]


def text(size):
    """Words that come again now and then, from near and from far."""
    words = [f"word{number} κόσμε " for number in range(500)]
    return "".join(random.choices(words, k=size // 12 + 1))[:size]


def converse(socket):
    for size in [0, 1, 255, 256, 257, 1000, 5000, 40_000, 300_000]:
        for message in [text(size), text(size).encode(), random.randbytes(size)]:
            socket.send(message)
            assert socket.recv() == message, size
    # Several fragments, each of them compressed behind the one before it.
    pieces = [text(random.randrange(2000)) for _ in range(50)]
    socket.send(iter(pieces))
    assert socket.recv() == "".join(pieces)


random.seed(7)
for offer in OFFERS:
    uri = f"ws://127.0.0.1:{sys.argv[1]}/"
    with connect(uri, compression=None, extensions=[Offer(**offer)], max_size=None) as socket:
        [agreed] = socket.protocol.extensions
        assert agreed.name == "permessage-deflate" and agreed.remote_no_context_takeover, agreed
        converse(socket)
print(f"{len(OFFERS)} offers: all came back")
