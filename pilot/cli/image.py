"""`pilot image`: the data-science images of this node."""

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial

import click

from pilot.cli.exits import Exit, Stop
from pilot.config.settings import load_settings
from pilot.config.units import parse_size
from pilot.model.files import ImageUsed
from pilot.ports import PortError


def _size(_context: click.Context, _option: click.Parameter, value: str) -> int:
    try:
        return parse_size(value)
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from None


_FORMS = click.Choice(["auto", "sif", "directory", "both"])
_STYLE = click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
_FORM = click.option(
    "--form",
    type=_FORMS,
    default="auto",
    show_default=True,
    help="A directory starts fastest; auto: if the disk allows.",
)


@click.group(name="image", epilog="Example: pilot image build ml-base && pilot image ls")
def group() -> None:
    """Builds, brings, verifies, lists and evicts images."""


@group.command(epilog="Example: pilot image build ml-torch --arg FLAVOUR=cuda --form sif")
@click.argument("image")
@_FORM
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="A build argument of the definition.")
@_STYLE
def build(image: str, form: str, arguments: tuple[str, ...], style: str) -> None:
    """Builds IMAGE: a name (ml-base, ml-torch) or a definition file. What is there already is not built again."""
    from pilot.assemble.images import build_image

    pairs = [_pair(each) for each in arguments]
    _show(build_image(load_settings().settings, image, form, pairs, _progress), style)


@group.command(epilog="Example: pilot image pull docker://python:3.12-slim")
@click.argument("reference")
@_FORM
@click.option("--name", default="", help="The name in the store; default: the reference, or the file's name.")
@_STYLE
def pull(reference: str, form: str, name: str, style: str) -> None:
    """Brings REFERENCE (docker://, oras://, or a SIF file; `@sha256:...` pins) into the store."""
    from pilot.assemble.images import pull_image

    _show(pull_image(load_settings().settings, reference, form, name, _progress), style)


@group.command(epilog="Example: pilot image verify ml-base")
@click.argument("references", nargs=-1)
@_STYLE
def verify(references: tuple[str, ...], style: str) -> int:
    """Reads every byte of the images named, or of all; exits 71 where one is damaged."""
    from pilot.assemble.images import list_images, verify_image

    settings = load_settings().settings
    wanted = references or tuple(each.path for each in list_images(settings))
    rows = [_verified(partial(verify_image, settings), each) for each in wanted]
    if style == "json":
        click.echo(json.dumps(rows))
    else:
        for row in rows:
            click.echo(f"{row['status']:<8} {row['reference']} {row['detail'] or row['sha256']}")
    return Exit.OK if all(row["status"] == "ok" for row in rows) else Exit.UNFIT


@group.command(epilog="Example: pilot image ls --format json")
@_STYLE
def ls(style: str) -> None:
    """Every image at hand, unverified."""
    from pilot.assemble.images import list_images

    _show(list_images(load_settings().settings), style)


@group.command(epilog="Example: pilot image gc --budget 20GiB")
@click.option(
    "--budget", callback=_size, default="0", metavar="SIZE", help="Room for images; 0 = the disk they are on."
)
@click.option("--high", type=click.FloatRange(0, 1), default=0.85, show_default=True, help="Above this share, evict.")
@click.option(
    "--low", type=click.FloatRange(0, 1), default=0.80, show_default=True, help="Until this share is reached."
)
@_STYLE
def gc(budget: int, high: float, low: float, style: str) -> None:
    """Evicts the least recently used images; never one that a pilot holds."""
    from pilot.assemble.images import collect_images

    _show(collect_images(load_settings().settings, budget, high, low), style)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Stop(f"--arg {text}: write NAME=VALUE", Exit.USAGE)
    return name, value


def _progress(text: str) -> None:
    sys.stderr.write(f"pilot: {text}\n")


def _verified(verify_one: Callable[[str], ImageUsed], reference: str) -> dict[str, str]:
    try:
        found = verify_one(reference)
    except PortError as error:
        code = str(error.fault.code)
        return {"reference": reference, "status": code, "sha256": "", "detail": error.fault.detail}
    return {"reference": reference, "status": "ok", "sha256": found.sha256, "detail": ""}


def _show(images: Iterable[object], style: str) -> None:
    """The columns of `pilot image ls`, which other programs read as JSON."""
    rows = [{name: getattr(each, name) for name in ("name", "path", "sha256", "form", "bytes")} for each in images]
    if style == "json":
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(
            f"{row['name']:<16} {row['form']:<10} {row['bytes'] / 2**20:>8.0f} MiB  {row['sha256'][:12]}  {row['path']}"
        )
