"""What a benchmark gives, and how it is shown."""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Found:
    """Samples by name with their unit; ratios; aims as (value, text, met)."""

    samples: dict[str, tuple[list[float], str]] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    aims: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str) -> None:
        """One more sample."""
        self.samples.setdefault(name, ([], unit))[0].append(value)

    def median(self, name: str) -> float:
        """The median of a row."""
        return statistics.median(self.samples[name][0])

    def ratio(self, name: str, above: str, below: str) -> None:
        """Median over median."""
        self.ratios[name] = self.median(above) / self.median(below)

    def aim(self, name: str, value: float, most: float | None = None, least: float | None = None) -> None:
        """Holds a value against its aim."""
        text = f"<= {most:g}" if most is not None else f">= {least:g}"
        self.aims[name] = (text, value <= most if most is not None else value >= (least or 0.0))


def sync_cost(found: Found, folder: Path, rounds: int = 50) -> None:
    """What one small write and fdatasync costs on this disk."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(rounds):
            began = time.perf_counter()
            os.write(file.fileno(), b"x" * 200)
            os.fdatasync(file.fileno())
            found.add("one sync", (time.perf_counter() - began) * 1000, "ms")


def conditions() -> dict[str, object]:
    """The machine and its state."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(each, 2) for each in os.getloadavg()],
        "uid": os.getuid(),
    }


def progress(text: str) -> None:
    """A line on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def show(found: Found, style: str) -> None:
    """Prints a table, or one JSON object."""
    figures = {
        name: {
            "median": round(statistics.median(values), 4),
            "unit": unit,
            "min": round(min(values), 4),
            "max": round(max(values), 4),
            "n": len(values),
        }
        for name, (values, unit) in found.samples.items()
    }
    aims = {name: {"aim": text, "met": met} for name, (text, met) in found.aims.items()}
    ratios = {name: round(value, 3) for name, value in found.ratios.items()}
    if style == "json":
        print(json.dumps({"figures": figures, "ratios": ratios, "aims": aims, "conditions": conditions()}))
        return
    for name, row in figures.items():
        print(
            f"{name:<58} {row['median']:>10.2f} {row['unit']:<8} ({row['min']:.2f} .. {row['max']:.2f}, n={row['n']})"
        )
    for name, value in ratios.items():
        print(f"{name:<58} {value:>10.2f}")
    for name, (text, met) in found.aims.items():
        print(f"aim {name:<54} {text:>10}  {'met' if met else 'NOT MET'}")
    print("on " + ", ".join(f"{key} {value}" for key, value in conditions().items()))
