"""Prints what the supervisor costs: its start, its memory, payloads of `true` a second, 200 MB/s of output.

Run by hand: `python tests/e2e/bench_supervisor.py [COUNT]`. A bench, not a test: nothing here can fail for being slow.
"""

# ruff: noqa: T201 -- a bench prints
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pilot.supervisor.client import Client, Payload


def payload(root: Path, name: str, *argv: str) -> Payload:
    directory = root / name
    directory.mkdir()
    return Payload(
        name,
        argv,
        {"PATH": "/usr/bin:/bin"},
        str(directory),
        str(directory),
        str(directory / "out"),
        str(directory / "err"),
    )


def starts(root: Path, count: int = 10) -> float:
    took = []
    for number in range(count):
        state = root / f"state{number}"
        state.mkdir()
        began = time.perf_counter()
        client = Client.launch(str(state), 0.0)
        took.append(time.perf_counter() - began)
        end(client)
    return statistics.median(took)


def end(client: Client) -> None:
    client.leave()
    while client.next().kind != "lost":
        pass
    client.close()


def memory(pid: int) -> str:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return f"resident {status['VmRSS'].strip()} (anonymous {status['RssAnon'].strip()})"


def rate(client: Client, root: Path, count: int, at_once: int) -> float:
    base = root / f"rate{at_once}"
    base.mkdir()
    waiting = [payload(base, f"{at_once}.{number}", "/bin/true") for number in range(count)]
    done = 0
    began = time.perf_counter()
    for _ in range(min(at_once, count)):
        client.start(waiting.pop())
    while done < count:
        event = client.next(30)
        if event.kind == "exited":
            client.forget(event.id)
            done += 1
            if waiting:
                client.start(waiting.pop())
        elif event.kind != "started":
            raise SystemExit(f"unexpected: {event}")
    return count / (time.perf_counter() - began)


def flood(client: Client, root: Path) -> str:
    size = 1 << 30
    began = time.perf_counter()
    client.start(payload(root, "flood", "/bin/sh", "-c", f"exec head -c {size} /dev/zero"))
    while (event := client.next(60)).kind != "exited":
        pass
    client.forget("flood")
    took = time.perf_counter() - began
    kept = os.path.getsize(root / "flood" / "out")
    dropped = event.body["record"]["stdout_dropped_bytes"]
    return f"{size / took / 1e6:.0f} MB/s drained, {kept} bytes kept, {dropped} dropped"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        print(f"start to welcome: {starts(root) * 1e3:.1f} ms")
        (root / "state").mkdir()
        client = Client.launch(str(root / "state"), 0.0)
        print(f"supervisor: {memory(client.pid)}")
        for at_once in (1, 2, 4, 8):
            print(f"{count} of /bin/true, {at_once} at once: {rate(client, root, count, at_once):.0f} a second")
        print(f"flood: {flood(client, root)}")
        print(f"supervisor: {memory(client.pid)}")
        end(client)


if __name__ == "__main__":
    main()
