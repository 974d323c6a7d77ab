"""The web page in a real browser: rows where they belong, nothing broken, nothing executed that a job says."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.model.faults import Code
from pilot.queue.service.call import Role
from pilot.queue.service.identity import Denied, Doorkeeper, Holder
from tests.beds.chromium import Browser, browsing
from tests.beds.face import HOSTILE, FaceBed, Shown, a_day, faced

ROWS = "document.querySelectorAll('#joblist [data-job]').length"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceBed]:
    with faced(tmp_path_factory.mktemp("face")) as made:
        a_day(made)
        made.settle()
        yield made


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    with browsing() as made:
        yield made


@pytest.fixture
def browser(one_browser: Browser) -> Browser:
    one_browser.open("about:blank")
    one_browser.said.clear()
    one_browser.asked.clear()
    return one_browser


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    """Nothing that a page did may have ended in a complaint."""
    yield
    browser.open("about:blank")
    assert browser.said == []


def test_the_page_shows_the_queue(bed: FaceBed, browser: Browser) -> None:
    browser.open(f"{bed.url}/")
    browser.wait(f"{ROWS} == 25")
    texts = {name: str(browser.ask(f"document.getElementById('{name}').innerText")) for name in PLACES}
    assert all(each in texts[name] for name, wanted in PLACES.items() for each in wanted), texts
    assert browser.ask("document.title") == "default: 309 waiting, 27 running"
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth") is True
    assert variety(browser.picture(whole=False)) > 40
    assert {each.split("?")[0] for each in browser.asked} == {f"{bed.url}/", f"{bed.url}/api/v1/grid/board"}


PLACES = {
    "tiles": ["309", "27", "waiting", "running"],
    "shapes": ["64 cpus, 512 GiB, 8 GPUs", "0 of 4", "needs.memory: wants 512 GiB"],
    "joblist": ["dilepton-scan-017", "step 2,720 of 4,000", "on gpu-08/1"],
    "faults": ["gpu.lost", "Xid 79", "stage-in.checksum"],
    "pilots": ["gpu-07", "4 × H100 80GB"],
    "owners": ["grace", "283"],
    "charts": ["Ended per minute", "Waiting and running"],
}


def test_a_hostile_name_is_text(bed: FaceBed, browser: Browser) -> None:
    browser.open(f"{bed.url}/")
    browser.wait(f"{ROWS} == 25")
    browser.ask("$('which').value = 'waiting'; $('which').dispatchEvent(new Event('change'))")
    browser.wait("document.querySelector('#joblist').innerText.includes('onerror')")
    named = "[...document.querySelectorAll('#joblist button')].map((each) => each.textContent)"
    assert HOSTILE in browser.ask(named)  # type: ignore[operator]
    assert browser.ask("document.querySelectorAll('main img, main script').length") == 0
    assert not any(each.startswith("dialog") for each in browser.said)


def test_the_policy_itself_would_stop_a_script(bed: FaceBed, browser: Browser) -> None:
    """Were a name ever written as HTML, it would still not run: the page's policy takes no HTML at all."""
    browser.open(f"{bed.url}/")
    browser.wait(f"{ROWS} == 25")
    write = "document.body.innerHTML = '<b>x</b>'"
    assert (
        browser.ask(f"(() => {{ try {{ {write}; return '' }} catch (problem) {{ return problem.name }} }})()")
        == "TypeError"
    )
    assert any("TrustedHTML" in each for each in browser.said)
    browser.said.clear()


def test_a_job_is_found_and_explained(bed: FaceBed, browser: Browser) -> None:
    browser.open(f"{bed.url}/")
    browser.wait(f"{ROWS} == 25")
    browser.ask("$('find').value = 'foundation'; $('find').dispatchEvent(new Event('input'))")
    browser.wait(f"{ROWS} == 1")
    browser.ask("document.querySelector('[data-job] button').click()")
    browser.wait("document.querySelector('.why p')")
    assert "needs.memory: wants 512 GiB; found: 256 GiB" in str(browser.ask("document.querySelector('.why').innerText"))


@pytest.mark.parametrize("dark", [False, True])
def test_it_can_be_read_on_a_phone(bed: FaceBed, browser: Browser, dark: bool) -> None:
    browser.open(f"{bed.url}/", width=390, height=840, dark=dark)
    browser.wait(f"{ROWS} == 25")
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth") is True
    assert browser.ask(CONTRAST) == []
    assert variety(browser.picture(whole=False)) > 40


# Text that stands out from its ground by less than WCAG's 4.5 : 1.
CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (part) => part / 255 <= .03928 ? part / 255 / 12.92 : ((part / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const solid = (colour) => colour.length < 4 || colour[3] === 1;
  const ground = (each) => {
    for (let up = each; up; up = up.parentElement) {
      const found = rgb(getComputedStyle(up).backgroundColor);
      if (solid(found)) return found;
    }
    return [255, 255, 255];
  };
  const says = (each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const weak = [];
  for (const each of document.querySelectorAll('main *, header *')) {
    if (!each.offsetParent || each.closest('.dim') || !says(each)) continue;
    const colours = [light(rgb(getComputedStyle(each).color)), light(ground(each))].sort((a, b) => b - a);
    const ratio = (colours[0] + .05) / (colours[1] + .05);
    if (ratio < 4.5) weak.push(`${each.tagName} ${each.className} ${each.textContent.slice(0, 30)} ${ratio}`);
  }
  return weak;
})()
"""


class OneToken:
    """A doorkeeper's verifier that knows two tokens."""

    issuer = "test"

    def verify(self, token: str) -> Holder:
        if token not in ("operators-token", "graces-token"):
            raise Denied(Code.CREDENTIAL_EXPIRED, "the token has expired; get a new one")
        role = Role.OPERATOR if token == "operators-token" else Role.SUBMITTER
        return Holder("root" if role is Role.OPERATOR else "grace", role, 4e9)


def test_where_a_token_is_asked_for_nothing_is_shown_without(tmp_path: Path, browser: Browser) -> None:
    door = Doorkeeper((OneToken(),), lambda token: {"iss": "test"})
    (tmp_path / "queue").mkdir()
    with faced(tmp_path / "queue", Shown(), door) as bed:
        for name in ("ada", "grace"):
            a_few(bed, name)
        browser.open(f"{bed.url}/")
        browser.wait("$('door').open")
        assert "ada" not in str(browser.ask("document.documentElement.outerHTML.split('<script>')[0]"))
        give(browser, "stale-token")
        browser.wait("$('h-said').textContent.includes('expired')")
        assert browser.ask("sessionStorage.getItem('pilot-token')") is None
        give(browser, "graces-token")
        browser.wait(f"{ROWS} == 3")
        assert "ada" not in str(browser.ask("$('main').innerText"))
        assert browser.ask("$('said').textContent") == "jobs of grace"
        assert browser.ask("$('since').textContent.startsWith('of all users; kept since ')")
        browser.ask("$('leave').click()")
        browser.wait("$('door').open")
        give(browser, "operators-token")
        browser.wait(f"{ROWS} == 6")
        assert browser.ask("localStorage.length") == 0
        assert not any("token" in each for each in browser.asked)
    refused = [each for each in browser.said if "401" in each]
    assert len(refused) >= 2
    browser.said[:] = [each for each in browser.said if each not in refused]


def a_few(bed: FaceBed, user: str) -> None:
    from tests.beds.face import job

    bed.add(*(job(f"{user}-{each}") for each in range(3)), user=user)


def give(browser: Browser, token: str) -> None:
    browser.wait("$('door').open")
    browser.ask(f"$('token').value = '{token}'; document.querySelector('#key button').click()")


def variety(png: bytes) -> int:
    """How many variety a picture has: a blank page has one."""
    assert png.startswith(b"\x89PNG")
    at, packed, width, depth = 8, b"", 0, 0
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, depth = struct.unpack(">I", body[:4])[0], {2: 3, 6: 4}[body[9]]
        if kind == b"IDAT":
            packed += body
        at += 12 + length
    raw, line = zlib.decompress(packed), width * depth + 1
    return len({hashlib.md5(raw[start : start + line]).digest() for start in range(0, len(raw), line)})
