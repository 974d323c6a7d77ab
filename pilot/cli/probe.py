"""`pilot probe`: what this node is, and what this slot may use of it."""

import json
from collections.abc import Callable
from pathlib import Path

import click

from pilot.assemble.node import advertised, node_of
from pilot.config.settings import load_settings
from pilot.model.capability import Bound, Capabilities
from pilot.model.plain import full_plain

GIB = 1 << 30


@click.command(name="probe", epilog="Examples: pilot probe | pilot probe --format json | pilot probe --format classad")
@click.option("--format", "style", type=click.Choice(["text", "json", "classad"]), default="text", show_default=True)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The pilot's configuration.")
def command(style: str, config: Path | None) -> None:
    """Says what this node is, what this slot may use, and which limit decided each figure."""
    settings = load_settings(config=config).settings
    node = node_of(settings)
    if style == "json":
        click.echo(json.dumps(as_json(node)))
    elif style == "classad":
        click.echo(
            "\n".join(f"{name} = {_classad(value)}" for name, value in sorted(advertised(settings, node).items()))
        )
    else:
        click.echo("\n".join(_text(node)))


def as_json(node: Capabilities) -> dict[str, dict[str, object]]:
    """The two views, each with what belongs to it."""
    limits = node.limited_by
    return {
        "node": {
            "host": node.host,
            **_view(node.node),
            "cpu_model": node.cpu_model,
            "numa": [list(each) for each in node.numa],
            "runtime": full_plain(node.runtime),
            "images": full_plain(node.images),
            "labels": dict(node.labels),
            "probed": node.probed,
            "notes": list(node.notes),
        },
        "slot": {
            **_view(node.slot),
            "cores": list(node.cores),
            "limited_by": {
                "cpus": limits.cpus,
                "memory_bytes": limits.memory_bytes,
                "scratch_bytes": limits.scratch_bytes,
            },
            "bounds": {name: [full_plain(each) for each in bounds] for name, bounds in limits.seen},
        },
    }


def _view(view: object) -> dict[str, object]:
    found = full_plain(view)
    return found if isinstance(found, dict) else {}


def _classad(value: object) -> str:
    """A value as the ClassAd language writes it; its texts are quoted as JSON's are."""
    if isinstance(value, list | tuple):
        return f"{{ {', '.join(map(_classad, value))} }}" if value else "{}"
    return json.dumps(value)


def _text(node: Capabilities) -> list[str]:
    slot, whole, limits = node.slot, node.node, node.limited_by
    seen = dict(limits.seen)
    lines = [
        f"node    {node.host}: {node.cpu_model or whole.arch}, {whole.arch} {whole.microarch}".rstrip(),
        f"        {whole.cpus} cores in {node.numa_nodes} NUMA node(s), {_gib(whole.memory_bytes)} memory",
        f"slot    {slot.cpus} cores (limited by {limits.cpus})",
        *_bounds(seen.get("cpus", ()), str),
        f"        {_gib(slot.memory_bytes)} memory (limited by {limits.memory_bytes})",
        *_bounds(seen.get("memory_bytes", ()), _gib),
        f"        {_gib(slot.scratch_bytes)} scratch (limited by {limits.scratch_bytes})",
        *_bounds(seen.get("scratch_bytes", ()), _gib),
        f"runtime {_runtime(node)}",
        *[f"image   {each.name} ({each.form}, {_gib(each.bytes)}) sha256:{each.sha256}" for each in node.images],
        *[f"note    {each}" for each in node.notes],
    ]
    return lines if node.images else [*lines, "image   none at hand: `pilot image build ml-base` makes one"]


def _bounds(bounds: tuple[Bound, ...], show: Callable[[int], str]) -> list[str]:
    """Every bound, where more than the node's own was seen."""
    if len(bounds) < 2:
        return []
    return [f"          {show(each.value):>12}  {each.source}" for each in bounds]


def _runtime(node: Capabilities) -> str:
    found = node.runtime
    if not found.works:
        return f"{found.name}: does not work here: {found.detail}"
    kept = "jobs can be kept from the network" if found.network_none else "payloads see the host's network"
    where = f" {found.version} at {found.path}" if found.path else ""
    return f"{found.name}{where}, tried; {kept}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
