"""Ask the server of forked.py to do what Python is asked here: forked_client.py SOCKET PYTHON ARGUMENT …"""

import json
import os
import socket
import sys

address, python, *arguments = sys.argv[1:]
if not arguments or (arguments[0].startswith("-") and arguments[0] != "-m"):
    os.execv(python, [python, *arguments])
order = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
with socket.socket(socket.AF_UNIX) as server:
    server.connect(address)
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(f"{json.dumps(order)}\n".encode())
    code = int(server.makefile().read())
sys.exit(code if code >= 0 else 128 - code)  # as a shell says that a signal ended it
