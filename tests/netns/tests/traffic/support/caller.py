"""A process that calls a service, and does what it is told line by line; each answer is a line of JSON."""

import errno
import json
import socket
import sys


def say(**words):
    print(json.dumps(words), flush=True)


def name(error):
    return errno.errorcode.get(error.errno, "ETIMEDOUT") if error.errno else "ETIMEDOUT"


host, port, kind, *bound = sys.argv[1:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
made = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
made.settimeout(5)
target = (host, int(port))
if bound:
    made.bind((bound[0], 0))
try:
    if kind != "udp":
        made.connect(target)
        say(peer=made.getpeername()[0], port=made.getpeername()[1], own=made.getsockname()[1])
    else:
        say(own=0)
except OSError as error:
    say(error=name(error))
    sys.exit()

for line in sys.stdin:
    try:
        if line == "ask\n" and kind != "tcp":
            if kind == "udp":
                made.sendto(b"hello", target)
            else:
                made.send(b"hello")
            text, sender = made.recvfrom(2000)
            say(text=text.decode(), peer=sender[0], port=sender[1])
        elif line == "ask\n":
            made.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            text = b""
            while b"}" not in text:
                more = made.recv(4000)
                if not more:
                    raise OSError(errno.EPIPE, "closed")
                text += more
            say(answer=json.loads(text.split(b"\r\n\r\n", 1)[1]))
        elif line == "end\n":
            made.settimeout(30)
            say(end="data" if made.recv(1) else "closed")
    except OSError as error:
        say(error=name(error))
