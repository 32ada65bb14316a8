"""Writes an image that runs one program of this machine, with the libraries that it loads, as a docker archive.

usage: image.py NAME PROGRAM FILE
"""

import hashlib
import io
import json
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def libraries(program):
    """The paths under which the loader looks for the program's libraries; none if it is static."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE)


def stripped(program):
    """The program without its symbols, which are most of a debug build."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["objcopy", "--strip-all", program, file.name], check=True)
        return Path(file.name).read_bytes()


def add(archive, name, data, mode=0o644):
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def main(name, program, target):
    entry = f"/usr/local/bin/{Path(program).name}"
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        add(archive, entry, stripped(program), 0o755)
        for path in libraries(program):
            add(archive, path, Path(path).read_bytes(), 0o755)
    layer = layer.getvalue()
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": MACHINES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": [entry]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    config = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
    with tarfile.open(target, "w") as archive:
        add(archive, "manifest.json", json.dumps(manifest).encode())
        add(archive, config_name, config)
        add(archive, f"{digest}.tar", layer)


if __name__ == "__main__":
    main(*sys.argv[1:])
