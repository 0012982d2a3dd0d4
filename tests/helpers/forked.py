"""A Python whose processes are copies of one that has imported their packages: no less real, and started at once.

Each copy has arguments, a folder, an environment and files of its own, and imports the library of the project that it
runs in. Whatever else than ``-m module`` and ``script.py`` it is asked, Python itself does (forked_client.py).
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path

# What the library, the workflow and its notebooks import. Not the library itself, as every project has a copy of it;
# nor ipykernel.kernelapp, which reads the environment as it is imported.
PACKAGES = (
    "snakemake.cli",
    "torch",
    "torchdiffeq",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.stats",
    "sympy",
    "sklearn.ensemble",
    "xarray",
    "netCDF4",
    "matplotlib.figure",
    "papermill",
    "ipykernel.ipkernel",
)


@cache
def executable():
    """A program to be called as ``python`` is; it lasts as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    program, address = folder / "python", folder / "socket"
    client = [sys.executable, "-IS", str(Path(__file__).with_name("forked_client.py")), str(address), sys.executable]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, "-P", __file__, str(program), str(address)]  # -P: beside it lies nothing of theirs
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server.stdout.readline()
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.communicate)  # a server ends with its input
    return str(program)


def _serve(program, address):
    for package in PACKAGES:
        importlib.import_module(package)
    sys.modules["snakemake.cli"].get_argument_parser()  # finds and imports plugins
    gc.freeze()
    sys.executable = program
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who answers
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print(flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                return _answer(connection)
            connection.close()


def _answer(connection):
    """In a copy of the server: have one of this do as ordered, and send its exit code; end it with its client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    order = json.loads(connection.makefile().readline())
    ended, running = os.pipe()
    if child := os.fork():
        os.close(running)  # so that its end is the child's
        if connection in select.select([ended, connection], [], [])[0]:
            os.kill(child, signal.SIGTERM)
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    code = _exit_code(order)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to take down all that is imported would take longer than most copies run


def _exit_code(order):
    """Do as ordered; the exit code that Python would end with."""
    try:
        _become(**order)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _become(arguments, folder, environment):
    """Make this process what ``python`` with these arguments is in that folder and environment."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    if threads := environment.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, folder)
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _serve(*sys.argv[1:])
