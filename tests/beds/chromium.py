"""A real browser without a screen, spoken to over two pipes: no port, no driver, nothing but Chromium itself."""

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
SWITCHES = (
    "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--password-store=basic", "--force-color-profile=srgb",
)  # fmt: skip
# The browser reads orders from descriptor 3 and answers on 4.
WITH_PIPES = """
import fcntl, os, sys
aside = [fcntl.fcntl(int(each), fcntl.F_DUPFD_CLOEXEC, 100) for each in sys.argv[1:3]]
for number, each in enumerate(aside, 3):
    os.dup2(each, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
Message = dict[str, object]


class Browser:
    """One browser with one page; `said` is all that its console and its security rules had to say."""

    def __init__(self, process: "subprocess.Popen[bytes]", to: int, back: int, log: Path) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._process, self._to, self._back, self._log = process, to, back, log
        self._number, self._rest, self._session = 0, b"", ""
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = str(self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **arguments: object) -> Message:
        """One command of the DevTools protocol, answered."""
        self._number += 1
        order: Message = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._to, json.dumps(order).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            message = self._next(until)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]  # type: ignore[return-value]
            self._note(message)

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Goes there, in a window of that size."""
        mobile = width < 600
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])
        self.do("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def ask(self, script: str) -> object:
        """The value of that expression in the page."""
        answer = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")  # type: ignore[attr-defined]

    def wait(self, script: str) -> None:
        """Until that expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.ask(f"!!({script})"):
            seen = str(self.ask("document.body.innerText"))[:2000] if time.monotonic() >= until else ""
            assert not seen, f"never true: {script}; it was said: {self.said}; the page: {seen}"
            select.select([], [], [], 0.05)

    def picture(self, whole: bool = True) -> bytes:
        """A screenshot, PNG."""
        shot = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(str(shot["data"]))

    def _next(self, until: float) -> Message:
        while b"\0" not in self._rest:
            left = until - time.monotonic()
            assert select.select([self._back], [], [], max(left, 0.0))[0], "the browser does not answer"
            octets = os.read(self._back, 1 << 20)
            assert octets, f"the browser ended with {self._process.wait(PATIENCE)}: {self._log.read_text()[-2000:]}"
            self._rest += octets
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)  # type: ignore[no-any-return]

    def _note(self, message: Message) -> None:
        params = message.get("params", {})
        assert isinstance(params, dict)
        if message.get("method") == "Log.entryAdded":
            self.said.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif message.get("method") == "Runtime.exceptionThrown":
            self.said.append(f"exception: {params['exceptionDetails']}")
        elif message.get("method") == "Runtime.consoleAPICalled":
            self.said.append(f"{params['type']}: {params['args']}")
        elif message.get("method") == "Page.javascriptDialogOpening":
            self.said.append(f"dialog: {params['message']}")
        elif message.get("method") == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])


def chromium() -> str:
    """The program; fetched where there is none."""
    order = [str(ROOT / "scripts/get-chromium"), "--print"]
    return subprocess.run(order, check=True, capture_output=True, text=True, timeout=600).stdout.strip()


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser, in a folder of its own; a short name, since a socket's path may have a hundred letters."""
    place = tempfile.TemporaryDirectory(prefix="b-", dir="/tmp", ignore_cleanup_errors=True)
    with place as folder, _browsing(Path(folder)) as browser:
        yield browser


@contextmanager
def _browsing(folder: Path) -> Iterator[Browser]:
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()

    switches = [*SWITCHES, f"--user-data-dir={folder}/profile"]
    if os.geteuid() == 0 or not _may_sandbox():
        switches.append("--no-sandbox")  # root, and users without namespaces, have no other way
    own = {"HOME": str(folder), "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    log = folder / "browser.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", WITH_PIPES, str(to_read), str(back_write), chromium(), *switches],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **own}, pass_fds=(to_read, back_write),
            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True,
        )  # fmt: skip
    os.close(to_read)
    os.close(back_write)
    try:
        browser = Browser(process, to_write, back_read, log)
        yield browser
        browser._session = ""
        browser.do("Browser.close")
        process.wait(PATIENCE)
    finally:
        os.close(to_write)
        os.close(back_read)
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)


def _may_sandbox() -> bool:
    return (
        subprocess.run(["unshare", "-U", "-p", "-n", "--fork", "true"], check=False, capture_output=True).returncode
        == 0
    )
