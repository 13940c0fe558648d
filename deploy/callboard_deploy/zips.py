"""The zips that are uploaded: made as `sam package` makes them, measured, and compared byte by byte."""

import hashlib
import struct
from pathlib import Path

from . import REPOSITORY

BUILT = REPOSITORY / ".aws-sam/build"
FUNCTIONS = ("Api", "Dispatch", "Worker", "Migrate")
# Design, "How fast": zipped bytes at most. Migrate has no bar of its own.
BARS_BYTES = {"Api": 5_000_000, "Dispatch": 4_000_000, "Worker": 6_000_000}
# ELF, e_machine.
MACHINES = {62: "x86_64", 183: "arm64"}


def make(built, into):
    """Zips every function of a build into a directory; the paths by function.

    SAM's own function is used: it writes no times, so equal files make equal zips, and what is measured is what is uploaded.
    """
    from samcli.lib.package.utils import make_zip_with_lambda_permissions

    into.mkdir(parents=True, exist_ok=True)
    return {name: Path(make_zip_with_lambda_permissions(str(into / name), str(built / name))) for name in FUNCTIONS}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differing(left, right):
    """The functions whose zips are not the same bytes."""
    return [name for name in FUNCTIONS if left[name].read_bytes() != right[name].read_bytes()]


def architecture(binary):
    """What an executable was built for: `x86_64`, `arm64`, or the number that ELF has for it."""
    head = binary.read_bytes()[:20]
    if head[:4] != b"\x7fELF":
        raise ValueError(f"{binary} is no ELF executable")
    (machine,) = struct.unpack("<H", head[18:20])
    return MACHINES.get(machine, str(machine))


def over_bar(zips):
    """A sentence for each zip that is larger than its bar."""
    sizes = {name: path.stat().st_size for name, path in zips.items()}
    return [
        f"{name}'s zip is {sizes[name]:,} bytes, its bar {bar:,}" for name, bar in BARS_BYTES.items() if sizes[name] > bar
    ]
