"""A headless Chromium, spoken to in its DevTools protocol over a pipe, and the faults that it sees in a page."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from helpers.waiting import BACKSTOP

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # what a page asks of the network is seen, and goes nowhere
    "--remote-debugging-pipe",  # commands on file descriptor 3, answers on 4, each ended by a zero byte
)
DOMAINS = ("Page", "Network", "Runtime", "Log")
SMALLEST = 11  # px, of text
LOOK = """(() => {
    document.querySelectorAll("details").forEach(details => details.open = true);
    document.querySelectorAll("figure input").forEach(box => box.checked = true);
    const page = document.documentElement, small = [], texts = document.createTreeWalker(document.body, 4);
    while (texts.nextNode()) {
        const text = texts.currentNode.data.trim(), element = texts.currentNode.parentElement;
        const size = parseFloat(getComputedStyle(element).fontSize);
        if (text && element.checkVisibility() && size < SMALLEST) small.push(`${size} px: ${text.slice(0, 40)}`);
    }
    const here = location.href.split("#")[0], links = [...document.querySelectorAll("a[href]")];
    const inside = links.filter(link => link.hash && link.href.split("#")[0] == here);
    return {
        "wider than the window": page.scrollWidth > page.clientWidth ? [`${page.scrollWidth} px`] : [],
        "not shown": [...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 99)),
        "small text": small,
        "leads nowhere": inside.map(link => link.hash.slice(1)).filter(
            name => !document.getElementById(name) && !document.getElementById(decodeURIComponent(name))),
        links: links.map(link => link.href),
    };
})()""".replace("SMALLEST", str(SMALLEST))


def program() -> str | None:
    """The Chromium of this machine, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A running Chromium. Its events since the last page was opened are in ``events``."""

    def __init__(self, profile: Path) -> None:
        """profile: a folder of its own."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "bufsize": 0}
        to_its_pipes = ("sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh")
        command = [*to_its_pipes, program(), *FLAGS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(command, start_new_session=True, **pipes)
        self.events, self.calls, self.unread = [], 0, b""

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def call(self, method: str, session: str | None = None, **params) -> dict:
        """The result of a command, to the browser or to one of its pages."""
        self.calls += 1
        command = {"id": self.calls, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self.process.stdin.write(json.dumps(command).encode() + b"\0")
        while (answer := self._next()).get("id") != self.calls:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict:
        """The next message of the browser."""
        while b"\0" not in self.unread:
            assert select.select([self.process.stdout], [], [], BACKSTOP)[0], "the browser does not answer"
            received = os.read(self.process.stdout.fileno(), 1 << 20)
            assert received, "the browser has ended"
            self.unread += received
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    @contextlib.contextmanager
    def page(self, file: Path, width: int) -> Iterator[str]:
        """The session of a file that is opened and loaded in a window so wide."""
        self.events.clear()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in DOMAINS:
            self.call(f"{domain}.enable", session)
        window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", session, **window)
        self.call("Page.navigate", session, url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        yield session
        self.call("Target.closeTarget", targetId=target)

    def faults(self, file: Path, width: int) -> list[str]:
        """What is wrong with a page in a window so wide, all that it folds in unfolded, its figures at their size."""
        with self.page(file, width) as session:
            seen = self.call("Runtime.evaluate", session, expression=LOOK, returnByValue=True)["result"]["value"]
        paths = [unquote(urlsplit(link).path) for link in seen.pop("links") if link.startswith("file:")]
        seen["leads nowhere"] += [path for path in paths if not Path(path).exists()]
        return [*self._said(), *(f"{fault}: {what}" for fault, found in seen.items() for what in found)]

    def _said(self) -> Iterator[str]:
        """Errors and warnings in the console, and requests to anything but files."""
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    yield f"request: {url}"
            elif method == "Runtime.exceptionThrown":
                yield f"exception: {params['exceptionDetails']['exception'].get('description')}"
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                yield f"console: {[argument.get('value') for argument in params['args']]}"
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                yield f"log: {params['entry']['text']} {params['entry'].get('url', '')}"
