"""A process of a given name that holds a port, as container engines do: it takes connections and datagrams and says who it is."""

import select
import socket
import sys

name, host, port = sys.argv[1:]
with open("/proc/self/comm", "w") as comm:
    comm.write(name)
sockets = []
hosts = ["0.0.0.0", "::"] if host == "any" else [host]
for host in hosts:
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family, kind)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # At one address beside one at all of them.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, int(port)))
        if kind == socket.SOCK_STREAM:
            made.listen()
        sockets.append(made)
print("ready", flush=True)
while True:
    for ready in select.select(sockets, [], [])[0]:
        if ready.type == socket.SOCK_STREAM:
            ready.accept()[0].close()
        else:
            ready.sendto(name.encode(), ready.recvfrom(2000)[1])
