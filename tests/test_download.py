"""Downloads from a local server that misbehaves in every way: what is said, what is left, what works afterwards."""

import hashlib
import http.server
import itertools
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import asdict

import pytest
from helpers import waiting

from hybridsam.core.errors import UserError
from hybridsam.data import chambers
from hybridsam.data.chambers import Archive, download

CONTENT = bytes(range(256)) * 12000  # three megabytes: several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()
NUMBERS = itertools.count()
DOWNLOAD = """
import json, sys
from pathlib import Path
from hybridsam.data import chambers
chambers.BACKOFF_SECONDS = 0
chambers.download(chambers.Archive(**json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the first word of the path."""

    def do_GET(self):
        self.server.asked[self.path] += 1
        getattr(self, self.path.split("/")[1])()

    def start(self, length=None, status=200):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def good(self):
        self.start(len(CONTENT))
        self.wfile.write(CONTENT)

    def without_length(self):
        self.start()
        self.wfile.write(CONTENT)

    def small(self):
        self.start(3)
        self.wfile.write(b"abc")

    def endless(self):
        self.start(10**12)
        self.wfile.write(CONTENT)

    def truncated(self):
        self.start(len(CONTENT))
        self.wfile.write(CONTENT[: len(CONTENT) // 2])

    def cut_without_length(self):
        self.start()
        self.wfile.write(CONTENT[:1000])

    def damaged(self):
        self.start(len(CONTENT))
        self.wfile.write(CONTENT[:-1] + b"?")

    def missing(self):
        self.start(0, 404)

    def broken(self):
        self.start(0, 503)

    def broken_once(self):
        self.good() if self.server.asked[self.path] > 1 else self.start(0, 500)

    def hangs_up_once(self):
        if self.server.asked[self.path] > 1:
            self.good()
        else:
            self.close_connection = True  # without a word

    def stalls(self):
        self.start(len(CONTENT))
        self.wfile.write(CONTENT[: 2 * chambers.CHUNK + 1])
        self.server.released.wait(waiting.BACKSTOP)

    def stalls_once(self):
        self.good() if self.server.asked[self.path] > 1 else self.stalls()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that hangs up is no news here


@pytest.fixture(scope="module")
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.released = Counter(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(chambers, "BACKOFF_SECONDS", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def archive(server):
    """The archive that the server offers in this mood, each at an address of its own."""

    def offered(mood="good", **changes):
        url = f"http://127.0.0.1:{server.server_port}/{mood}/{next(NUMBERS)}.zip"
        known = {"url": url, "md5": MD5, "licence": "CC BY 4.0", "attribution": "Nobody", "bytes": len(CONTENT)}
        return Archive(**{"name": "walks"} | known | changes)

    return offered


@pytest.fixture
def target(tmp_path):
    return tmp_path / "resources" / "walks.zip"


def left(target):
    return [path.name for path in target.parent.iterdir()] if target.parent.exists() else []


def requests_for(archive, server):
    return sum(n for path, n in server.asked.items() if archive.url.endswith(path))


def as_json(archive):
    return json.dumps(asdict(archive))


@pytest.mark.parametrize("mood", ["good", "without_length"])
def test_a_download_leaves_the_archive_and_nothing_else(archive, target, mood):
    download(archive(mood), target)
    assert target.read_bytes() == CONTENT
    assert left(target) == ["walks.zip"]


def test_an_archive_of_unknown_length_is_downloaded(archive, target):
    download(archive(bytes=0, approximate_bytes=2_000_000), target)
    assert target.read_bytes() == CONTENT


def test_a_download_replaces_an_older_file(archive, target):
    target.parent.mkdir()
    target.write_bytes(b"older")
    download(archive(), target)
    assert target.read_bytes() == CONTENT


FAULTS = {
    "wrong MD5": ("damaged", {}, ["MD5", MD5, hashlib.md5(CONTENT[:-1] + b"?").hexdigest()]),
    "truncated": ("truncated", {}, ["truncated", f"{len(CONTENT) // 2} bytes read"]),
    "truncated, length unknown": ("truncated", {"bytes": 0, "approximate_bytes": 1}, ["truncated"]),
    "truncated without a word": ("cut_without_length", {}, ["length", str(len(CONTENT)), "found 1000"]),
    "wrong length": ("small", {}, ["length", str(len(CONTENT)), "found 3"]),
    "too long": ("endless", {}, ["wrong length", str(len(CONTENT)), f"found {10**12}"]),
    "not there": ("missing", {}, ["expected status 200", "404"]),
    "always broken": ("broken", {}, ["expected status 200", "503"]),
    "no such protocol": ("good", {"url": "ftp://127.0.0.1/walks.zip"}, ["cannot be fetched", "ftp"]),
}


@pytest.mark.parametrize(("mood", "changes", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_explained_in_one_line_and_leaves_no_file(archive, target, mood, changes, words):
    offered = archive(mood, **changes)
    with pytest.raises(UserError) as refused:
        download(offered, target)
    message = str(refused.value)
    assert all(word in message for word in [offered.url, *words, "offline_dir", "walks.zip"]), message
    assert "\n" not in message
    assert left(target) == []
    download(archive(), target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("mood", "status", "requests"),
    [("broken_once", "fetched", 2), ("hangs_up_once", "fetched", 2), ("missing", "404", 1), ("broken", "503", 4)],
)
def test_only_what_may_pass_is_tried_again(archive, server, target, mood, status, requests):
    offered = archive(mood)
    if status == "fetched":
        download(offered, target)
        assert target.read_bytes() == CONTENT
    else:
        with pytest.raises(UserError, match=status):
            download(offered, target)
    assert requests_for(offered, server) == requests


def test_a_refused_connection_is_explained(archive, target):
    with socket.socket() as unused:  # bound and not listening: nobody answers at this port, and nobody else takes it
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/walks.zip"
        with pytest.raises(UserError, match="Connection refused") as refused:
            download(archive(url=url), target)
    assert url in str(refused.value) and "offline_dir" in str(refused.value) and "0x" not in str(refused.value)
    assert left(target) == []
    download(archive(), target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_given_up(archive, target, monkeypatch):
    monkeypatch.setattr(chambers, "TIMEOUT_SECONDS", (10, 0.2))
    with pytest.raises(UserError, match="timed out"):
        download(archive("stalls"), target)
    assert left(target) == []


def test_the_log_tells_size_room_and_progress(archive, target, monkeypatch, caplog):
    monkeypatch.setattr(chambers, "PROGRESS_SECONDS", 0)
    with caplog.at_level(logging.INFO, "hybridsam"):
        download(archive(), target)
    announced, *progress = [record.getMessage() for record in caplog.records]
    assert "3.1 MB" in announced and "MB free" in announced and str(target) in announced and "CC BY 4.0" in announced
    assert len(progress) >= 3 and "100 %" in progress[-1] and "MB/s" in progress[-1]


# Disks


def test_an_archive_that_does_not_fit_is_refused_before_anything_is_asked(archive, server, target):
    size = shutil.disk_usage(target.parents[1]).free * 10
    offered = archive(bytes=size)
    with pytest.raises(UserError, match=f"not enough room.*{size / 1e6:,.1f} MB.*free") as refused:
        download(offered, target)
    assert offered.url in str(refused.value)
    assert requests_for(offered, server) == 0
    assert left(target) == []


def test_a_write_that_the_system_refuses_is_explained(archive, target):
    """A limit on the size of files stands in for a full disk where nothing may be mounted."""
    offered = archive()
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000))\n{DOWNLOAD}"
    command = [sys.executable, "-c", limited, as_json(offered), str(target)]
    error = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    for word in ("UserError", offered.url, "cannot be written", "File too large", "needs 3.1 MB", "offline_dir"):
        assert word in error.splitlines()[-1], error
    assert left(target) == []
    download(offered, target)
    assert target.read_bytes() == CONTENT


MOUNTING = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]  # seen by the command after it alone


def can_mount(folder):
    """Whether small disks can be mounted here, and Python is still within reach beside them."""
    with suppress(OSError):
        commands = f"mount -t tmpfs none '{folder}' && '{sys.executable}' -c pass"
        return subprocess.run([*MOUNTING, commands], capture_output=True).returncode == 0
    return False


@pytest.mark.slow
def test_a_full_disk_is_explained_and_takes_what_fits_afterwards(archive, tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("no small disk can be mounted here")
    large = archive("without_length", bytes=0, approximate_bytes=1000)  # looks as if it would fit
    small = archive("small", bytes=3, md5=hashlib.md5(b"abc").hexdigest())
    (tmp_path / "disk").mkdir()
    (tmp_path / "download.py").write_text(DOWNLOAD)
    run = f"'{sys.executable}' download.py \"$%s\" disk/walks.zip; ls -A disk"
    commands = f"mount -t tmpfs -o size=2m none disk; {run % 'LARGE'}; {run % 'SMALL'}"
    environment = os.environ | {"LARGE": as_json(large), "SMALL": as_json(small)}
    result = subprocess.run(
        [*MOUNTING, commands], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    for word in ("UserError", large.url, "No space left on device", "are free in disk", "offline_dir"):
        assert word in result.stderr.splitlines()[-1], result.stderr
    assert result.stdout == "walks.zip\n"


# Killed


def test_a_killed_download_leaves_no_archive_and_the_next_one_succeeds(archive, target):
    offered = archive("stalls_once")
    part = target.with_name("walks.zip.part")
    command = [sys.executable, "-c", DOWNLOAD, as_json(offered), str(target)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    waiting.until("a first chunk", lambda: part.exists() and part.stat().st_size >= chambers.CHUNK, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left(target) == ["walks.zip.part"]
    download(offered, target)
    assert target.read_bytes() == CONTENT
    assert left(target) == ["walks.zip"]
