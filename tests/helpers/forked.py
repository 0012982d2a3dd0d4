"""Snakemake in a copy of a process that has it imported: half as long as a start of Python, and no less real.

Each copy has a folder, environment and output of its own, and imports the project's library and runs its rules itself.
"""

import gc
import io
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


def run(arguments, cwd, environment, stderr=subprocess.STDOUT):
    """``python -m snakemake`` with these arguments; as :func:`subprocess.run` with text.

    stderr: ``subprocess.STDOUT`` or ``PIPE``.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err" if stderr == subprocess.PIPE else "out")
        order = {"arguments": arguments, "cwd": str(cwd), "environment": environment, "out": str(out), "err": str(err)}
        server = _server()
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        errors = err.read_text() if err != out else None
        return subprocess.CompletedProcess(arguments, code, out.read_text(), errors)


@cache
def _server():
    """The process that copies itself; it ends with its input, that is with this process."""
    command = [sys.executable, "-P", __file__]  # -P: beside this file lies nothing that it imports
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve():
    from snakemake.cli import get_argument_parser, main

    get_argument_parser()  # finds and imports plugins
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        if not (child := os.fork()):
            _become(order)
            sys.exit(main())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(order):
    """Make this copy what ``python -m snakemake`` is in that folder and environment."""
    sys.stdin = io.StringIO()  # what was read of the orders to come is the parent's
    for number, name in enumerate((os.devnull, order["out"], order["err"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    own = order["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [order["cwd"], *filter(None, own)]
    sys.argv = ["snakemake", *order["arguments"]]


if __name__ == "__main__":
    _serve()
