"""The `Storage` port: what every adapter must do. One parameter per adapter; file:// is the first."""

import contextlib
import ctypes
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilot.adapters.file_url import path_of, url_of
from pilot.adapters.storage_file import FileStorage
from pilot.adapters.storage_places import Permitted, followed, personal
from pilot.model.faults import Code
from pilot.ports import Abandoned, Final, Passing, PortError, Storage

TREE = Path(__file__).parents[2]
SIZES = (0, 1, 4095, 1 << 20, (1 << 20) + 1, 3_500_000)


@dataclass
class Remote:
    """A storage under test, and what a test may do behind its back."""

    storage: Storage
    root: Path

    def url(self, name: str) -> str:
        return url_of(self.root / name)

    def put(self, name: str, data: bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return self.url(name)

    def data(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def everything(self) -> set[str]:
        return {str(each.relative_to(self.root)) for each in self.root.rglob("*") if not each.is_dir()}


@pytest.fixture(params=["file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    (tmp_path / "remote").mkdir()
    return Remote(FileStorage(), tmp_path / "remote")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def never() -> bool:
    return False


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def refusal(action: Callable[[], object]) -> PortError:
    with pytest.raises(PortError) as caught:
        action()
    assert "\n" not in caught.value.fault.detail
    return caught.value


@pytest.mark.parametrize("size", SIZES)
def test_fetched_bytes_are_the_bytes_with_both_checksums(remote: Remote, here: Path, size: int) -> None:
    data = noise(size)
    record = remote.storage.fetch(remote.put("some dir/data.root", data), here / "input", never)
    assert (here / "input").read_bytes() == data
    assert (record.name, record.bytes) == ("input", size)
    assert record.adler32 == f"{zlib.adler32(data):08x}"
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert (here / "input").stat().st_mode & 0o777 == 0o444
    assert [each.name for each in here.iterdir()] == ["input"]


@pytest.mark.parametrize("size", SIZES)
def test_stored_bytes_are_the_bytes_with_both_checksums(remote: Remote, here: Path, size: int) -> None:
    data = noise(size)
    (here / "model.onnx").write_bytes(data)
    record = remote.storage.store(here / "model.onnx", remote.url("out/17/1/model.onnx"), never)
    assert remote.data("out/17/1/model.onnx") == data
    assert (record.name, record.bytes, record.url) == ("model.onnx", size, remote.url("out/17/1/model.onnx"))
    assert (record.adler32, record.sha256) == (f"{zlib.adler32(data):08x}", hashlib.sha256(data).hexdigest())
    assert remote.everything() == {"out/17/1/model.onnx"}


def test_storing_the_same_bytes_twice_is_fine_and_other_bytes_are_refused(remote: Remote, here: Path) -> None:
    (here / "a").write_bytes(b"first")
    first = remote.storage.store(here / "a", remote.url("a"), never)
    assert remote.storage.store(here / "a", remote.url("a"), never) == first
    for other in (b"other", b"firs", b"first!", b""):
        (here / "a").write_bytes(other)
        error = refusal(lambda: remote.storage.store(here / "a", remote.url("a"), never))
        assert (error.fault.code, type(error)) == (Code.STORAGE_EXISTS, Final)
    assert remote.data("a") == b"first"
    assert remote.everything() == {"a"}


def test_of_two_who_store_one_name_at_once_one_wins_whole(remote: Remote, here: Path) -> None:
    for round_ in range(20):
        ends: list[str] = []
        threads = [threading.Thread(target=_store_one, args=(remote, here, round_, who, ends)) for who in "ab"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(ends) == ["exists", "stored"]
        assert len(set(remote.data(f"race{round_}"))) == 1


def _store_one(remote: Remote, here: Path, round_: int, who: str, ends: list[str]) -> None:
    source = here / f"{who}{round_}"
    source.write_bytes(who.encode() * 300_000)
    try:
        remote.storage.store(source, remote.url(f"race{round_}"), never)
        ends.append("stored")
    except PortError as error:
        ends.append("exists" if error.fault.code is Code.STORAGE_EXISTS else repr(error.fault))


def test_an_input_that_is_not_there(remote: Remote, here: Path) -> None:
    for name in ("nothing", "no/such/dir", "x" * 300):
        error = refusal(lambda name=name: remote.storage.fetch(remote.url(name), here / "input", never))
        assert (error.fault.code, type(error)) == (Code.STAGE_IN_MISSING, Final)
        assert name in error.fault.detail
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("at", [1, 2, 3])
def test_giving_up_leaves_nothing(remote: Remote, here: Path, at: int) -> None:
    url = remote.put("big", noise(3_500_000))
    asked = iter(range(1, 99))

    def abandon() -> bool:
        return next(asked) >= at

    with pytest.raises(Abandoned):
        remote.storage.fetch(url, here / "input", abandon)
    (here / "out").write_bytes(noise(3_500_000))
    asked = iter(range(1, 99))
    with pytest.raises(Abandoned):
        remote.storage.store(here / "out", remote.url("stored"), abandon)
    assert {each.name for each in here.iterdir()} == {"out"}
    assert remote.everything() == {"big"}


def test_a_fetch_replaces_what_an_earlier_try_left(remote: Remote, here: Path) -> None:
    (here / "input").write_bytes(b"half of an earlier")
    remote.storage.fetch(remote.put("data", b"whole"), here / "input", never)
    assert (here / "input").read_bytes() == b"whole"


# --- what is special about file:// ----------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Things of the file system that are no files."""
    places = {name: tmp_path / name for name in ("directory", "fifo", "socket", "dangling", "circle")}
    places["directory"].mkdir()
    os.mkfifo(places["fifo"])
    places["dangling"].symlink_to("nowhere")
    places["circle"].symlink_to("circle")
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 bytes
        bound.bind("socket")
    places["device"] = Path("/dev/zero")
    return places


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device", "dangling", "circle"])
def test_what_is_no_file_is_neither_fetched_nor_stored_and_never_waited_for(
    odd: dict[str, Path], here: Path, kind: str
) -> None:
    storage = FileStorage()
    fetched = refusal(lambda: storage.fetch(url_of(odd[kind]), here / "input", never))
    assert fetched.fault.code is Code.STAGE_IN_MISSING
    stored = refusal(lambda: storage.store(odd[kind], url_of(here / "stored"), never))
    assert stored.fault.code is Code.OUTPUT_ESCAPE
    over = refusal(lambda: storage.store(_written(here / "out"), url_of(odd[kind]), never))
    assert over.fault.code in (Code.STORAGE_EXISTS, Code.STORAGE_DENIED)
    assert {each.name for each in here.iterdir()} == {"out"}


def _written(path: Path, data: bytes = b"data") -> Path:
    path.write_bytes(data)
    return path


def test_a_link_to_an_input_is_followed_a_link_for_an_output_is_not(here: Path) -> None:
    _written(here / "real", b"events")
    (here / "link").symlink_to("real")
    storage = FileStorage()
    assert storage.fetch(url_of(here / "link"), here / "input", never).bytes == 6
    assert refusal(lambda: storage.store(here / "link", url_of(here / "out"), never)).fault.code is Code.OUTPUT_ESCAPE


def test_a_source_that_changes_while_it_is_copied_is_noticed(here: Path) -> None:
    source = here / "growing"
    source.write_bytes(noise(2_500_000))
    storage = FileStorage()

    def grow() -> bool:
        with source.open("ab") as file:
            file.write(b"more")
        return False

    def rewrite() -> bool:
        with source.open("r+b") as file:
            file.write(b"other")
        return False

    def cut() -> bool:
        os.truncate(source, 1_200_000)
        return False

    for change in (grow, rewrite, cut):
        source.unlink()
        source.write_bytes(noise(2_500_000))
        error = refusal(lambda change=change: storage.fetch(url_of(source), here / "input", change))
        assert (error.fault.code, type(error)) == (Code.STAGE_IN_TRUNCATED, Passing)
        source.unlink()
        source.write_bytes(noise(2_500_000))
        error = refusal(lambda change=change: storage.store(source, url_of(here / "out"), change))
        assert error.fault.code is Code.OUTPUT_MISSING
    assert {each.name for each in here.iterdir()} == {"growing"}


def test_a_full_disk_is_the_nodes_fault_on_the_way_in_and_the_storages_on_the_way_out(here: Path) -> None:
    """A real ENOSPC: no file may grow beyond a limit of the process, in a child."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(TREE)!r})
from pathlib import Path
from pilot.adapters.storage_file import FileStorage
from pilot.adapters.file_url import url_of
from pilot.ports import PortError
here = Path({str(here)!r})
(here / "big").write_bytes(b"x" * 3_000_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
for action in (lambda: FileStorage().fetch(url_of(here / "big"), here / "in", lambda: False),
               lambda: FileStorage().store(here / "big", url_of(here / "out"), lambda: False)):
    try:
        action()
    except PortError as error:
        print(error.fault.code, type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["scratch.full", "Passing", "storage.unreachable", "Passing"], done.stderr
    assert {each.name for each in here.iterdir()} == {"big"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere (issue 2: tests run as an ordinary user)")
def test_what_may_not_be_read_or_written_says_so(here: Path) -> None:
    closed = here / "closed"
    closed.mkdir()
    _written(closed / "secret")
    closed.chmod(0o500)
    (closed / "secret").chmod(0)
    storage = FileStorage()
    fetched = refusal(lambda: storage.fetch(url_of(closed / "secret"), here / "input", never))
    assert (fetched.fault.code, type(fetched)) == (Code.STORAGE_DENIED, Final)
    stored = refusal(lambda: storage.store(_written(here / "out"), url_of(closed / "new"), never))
    assert (stored.fault.code, type(stored)) == (Code.STORAGE_DENIED, Final)
    closed.chmod(0o700)


def test_a_file_in_the_way_of_a_folder_says_so(here: Path) -> None:
    _written(here / "file")
    error = refusal(lambda: FileStorage().store(_written(here / "out"), url_of(here / "file" / "x"), never))
    assert (error.fault.code, type(error)) == (Code.STORAGE_DENIED, Final)


@pytest.mark.parametrize("point", ["part.sync", "part.publish", "part.sync-directory", "storage.mkdir"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_point_a_second_try_ends_well_and_leaves_nothing(here: Path, point: str, when: str) -> None:
    _written(here / "out", noise(100_000))
    script = f"""
import sys
sys.path.insert(0, {str(TREE)!r})
from pathlib import Path
from pilot.adapters.storage_file import FileStorage
FileStorage().store(Path({str(here / "out")!r}), {url_of(here / "to" / "17" / "out")!r}, lambda: False)
"""
    armed = {**os.environ, "PILOT_FAILPOINT": f"{point}.{when}:kill"}
    killed = subprocess.run([sys.executable, "-c", script], env=armed, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    again = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert again.returncode == 0
    assert {str(each.relative_to(here)) for each in here.rglob("*") if each.is_file()} == {"out", "to/17/out"}
    assert (here / "to/17/out").read_bytes() == noise(100_000)


def test_where_no_nameless_file_can_be_made_a_hidden_name_serves(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY)  # what an old file system makes of the flag
    storage = FileStorage()
    _written(here / "out", noise(1_500_000))
    storage.store(here / "out", url_of(here / "to" / "stored"), never)
    storage.fetch(url_of(here / "out"), here / "in" / "fetched", never)
    storage.fetch(url_of(here / "out"), here / "in" / "fetched", never)
    with pytest.raises(Abandoned):
        storage.store(here / "out", url_of(here / "to" / "given up"), lambda: True)
    found = {str(each.relative_to(here)) for each in here.rglob("*") if each.is_file()}
    assert found == {"out", "to/stored", "in/fetched"}


def test_a_site_can_say_where_jobs_may_read_and_write(here: Path) -> None:
    for name in ("shared", "private"):
        (here / name).mkdir()
        _written(here / name / "file")
    (here / "shared" / "way-out").symlink_to(here / "private" / "file")
    (here / "shared" / "door").symlink_to(here / "private")
    storage = FileStorage(Permitted(readable=(here / "shared",), writable=(here / "shared",)))
    assert storage.fetch(url_of(here / "shared" / "file"), here / "ok", never).bytes == 4
    for name in ("private/file", "shared/way-out"):
        error = refusal(lambda name=name: storage.fetch(url_of(here / name), here / "input", never))
        assert error.fault.code is Code.STORAGE_DENIED
    for name in ("private/new", "shared/door/new"):
        error = refusal(lambda name=name: storage.store(here / "ok", url_of(here / name), never))
        assert error.fault.code is Code.STORAGE_DENIED


def test_what_is_the_pilots_own_is_no_ones_input(here: Path) -> None:
    (here / "journal").mkdir()
    for name in ("token", "journal/one"):
        _written(here / name)
    (here / "way-in").symlink_to(here / "token")
    storage = FileStorage(Permitted(closed=followed((here / "token", here / "journal"))))
    for name in ("token", "journal/one", "way-in"):
        error = refusal(lambda name=name: storage.fetch(url_of(here / name), here / "input", never))
        assert error.fault.code is Code.JOB_INVALID
    assert not (here / "input").exists()
    (here / "ok").write_bytes(b"more")
    for name in ("journal/two", "token"):
        error = refusal(lambda name=name: storage.store(here / "ok", url_of(here / name), never))
        assert error.fault.code is Code.JOB_INVALID
    assert not (here / "journal" / "two").exists()


def test_what_an_owner_keeps_to_himself_is_an_input_only_where_the_site_says_so(here: Path) -> None:
    _written(here / "key", b"data").chmod(0o600)
    error = refusal(lambda: FileStorage(Permitted(private=False)).fetch(url_of(here / "key"), here / "in", never))
    assert error.fault.code is Code.STORAGE_DENIED
    for permitted in (Permitted(), Permitted(readable=(here,), private=False)):
        assert FileStorage(permitted).fetch(url_of(here / "key"), here / "in", never).bytes == 4


def test_programs_and_keys_of_a_user_are_no_outputs(here: Path) -> None:
    _written(here / "key")
    storage = FileStorage(Permitted(closed=followed(personal(here)), fixed=(here / "bin",)))
    for name in (".ssh/authorized_keys", ".bashrc", ".config/pilot/config.yaml", "bin/ls"):
        error = refusal(lambda name=name: storage.store(here / "key", url_of(here / name), never))
        assert error.fault.code is Code.JOB_INVALID
    assert sorted(each.name for each in here.iterdir()) == ["key"]


def test_what_is_hidden_in_a_home_is_not_for_jobs(here: Path) -> None:
    (here / ".tool").mkdir()
    _written(here / ".tool" / "key")
    _written(here / "plain")
    for permitted in (Permitted(home=here), Permitted(home=here, private=False)):
        storage = FileStorage(permitted)
        error = refusal(lambda each=storage: each.store(here / "plain", url_of(here / ".tool" / "new"), never))
        assert (error.fault.code, error.fault.party) == (Code.JOB_INVALID, "job")
    error = refusal(lambda: storage.fetch(url_of(here / ".tool" / "key"), here / "in", never))
    assert (error.fault.code, error.fault.party) == (Code.JOB_INVALID, "job")
    named = FileStorage(Permitted(home=here, writable=(here / ".tool",)))
    assert named.store(here / "plain", url_of(here / ".tool" / "new"), never).bytes == 4


def test_another_process_view_of_the_machine_is_not_read(here: Path) -> None:
    """A payload's own files, as the path of its process's root names them: they look as if they lay elsewhere."""
    (here / "data").mkdir()
    hidden = f"mount -t tmpfs none {here}/data && echo secret >{here}/data/file && echo ready && exec sleep 60"
    with subprocess.Popen(["unshare", "-Urm", "sh", "-c", hidden], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            if other.stdout.readline() != "ready\n":
                pytest.skip("no mount namespaces for this user here")
            seen = Path(f"/proc/{other.pid}/root{here}/data/file")
            assert seen.read_text() == "secret\n"
            storage = FileStorage(Permitted(readable=(here,), closed=(Path("/proc"),)))
            refusal(lambda: storage.fetch(url_of(seen), here / "in", never))
        finally:
            other.kill()
    assert not (here / "in").exists()


@pytest.mark.parametrize("writes", [False, True])
def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(here: Path, writes: bool) -> None:
    for name in ("open", "shut"):
        (here / name).mkdir()
    _written(here / "open" / "file")
    (here / "shut" / "file").write_text("secret of another")
    _written(here / "mine")
    (here / "decoy").symlink_to(here / "shut")
    storage = FileStorage(Permitted(readable=(here / "open",), writable=(here / "open",)))
    over = threading.Event()
    swapper = threading.Thread(target=_swap, args=(here / "open", here / "decoy", over))
    swapper.start()
    try:
        for turn in range(1500):
            with contextlib.suppress(PortError):
                if writes:
                    storage.store(here / "mine", url_of(here / "open" / f"new{turn}"), never)
                else:
                    assert storage.fetch(url_of(here / "open" / "file"), here / "in", never).bytes == 4
    finally:
        over.set()
        swapper.join()
    assert [each.name for each in (here / "shut").iterdir()] == ["file"]


def _swap(one: Path, other: Path, over: threading.Event) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    while not over.is_set():
        libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)  # RENAME_EXCHANGE


# --- URLs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/a.root", "/data/a.root"),
        ("file://localhost/data/a.root", "/data/a.root"),
        ("file:///with%20blank/100%25/%E2%82%AC%3F%23", "/with blank/100%/€?#"),
        ("file:///a%ff", os.fsdecode(b"/a\xff")),
        ("file:////double//slash", "//double//slash"),
    ],
)
def test_urls_that_are_paths(url: str, path: str) -> None:
    assert path_of(url) == Path(path)


@pytest.mark.parametrize(
    "name", ["plain", "b l a n k", "100%", "a?b#c", "é€", "new\nline", os.fsdecode(b"\xff\xfe"), "%41"]
)
def test_a_path_survives_its_url(tmp_path: Path, name: str) -> None:
    assert path_of(url_of(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize(
    "url",
    [
        "/data/a.root", "file:/data/a", "file:data", "http://host/a", "root://host//a", "file://other.host/a", "file://",
        "file:///", "file:///dir/", "file:///a/../b", "file:///a%00b", "file:///a?x=1", "file:///a#1", "",
    ],
)  # fmt: skip
def test_urls_that_are_none_are_one_line(url: str) -> None:
    assert refusal(lambda: path_of(url)).fault.code is Code.JOB_INVALID
