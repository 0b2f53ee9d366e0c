"""What a measured number stands with: the machine, the versions, and the spread over rounds."""

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def describe(packages: Sequence[str]) -> str:
    """Return a few lines of Markdown: processor, cores, load, system, versions, command."""
    one, five, _ = os.getloadavg()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    cores, system = len(os.sched_getaffinity(0)), f"{platform.system()} {platform.machine()}"
    return "\n".join(
        (
            f"- machine: {_processor()}, {cores} cores, {system}; load average {one:.1f} (1 min), {five:.1f} (5 min)",
            f"- versions: Python {platform.python_version()}, {versions}",
            f"- command: `python {' '.join(sys.argv)}`",
        )
    )


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Return the median and the range of n rounds as text: `median (least to most)`."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _processor() -> str:
    """Return the processor's name; Linux says it in /proc/cpuinfo, with family and model where the name is vague."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"
