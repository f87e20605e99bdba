"""Images that are made of this machine's own files, for a machine without a registry."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.engine import LABEL, Engine, add_directories, add_link
from tests.lab.processes import ROOT, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

PIP = Path("/opt/pip")  # where the image has pip
CONTEXT = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "resolver")
LEFT_OUT = re.compile(
    r"/(__pycache__|test|tests|idlelib|tkinter|site-packages|dist-packages|config-[^/]+"
    r"|EXTERNALLY-MANAGED)(/|$)"
)
# Binary wheels expect these of every machine (PEP 600), whether or not the interpreter needs them.
GLIBC = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6", "libutil.so.1")
_LIBRARY = re.compile(r"(/\S+) \(0x")


def import_python(engine: Engine) -> str:
    """Imports an image with this interpreter, pip and a shell; returns its reference.

    Everything is where it is on this machine, so that the interpreter finds it.
    """
    reference = f"{LABEL}:python-{engine.mark}"
    folders = dict.fromkeys(["/usr/local/bin", f"{sys.base_prefix}/bin", "/usr/bin"])
    changes = [f"ENV PATH={':'.join(folders)}", f"ENV PYTHONPATH={PIP}"]
    options = [f"--change={change}" for change in changes]
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as tar:
            _fill(tar)
        engine("import", *options, "-", reference, stdin=stream.getvalue())
    return reference


def _fill(tar: tarfile.TarFile) -> None:
    add_directories(tar, "usr", "tmp", "root", "etc", "proc", "sys", "dev", "run", "var", "var/tmp")
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            add_link(tar, name, f"usr/{name}")
    interpreter = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    for source in (interpreter, stdlib, *_libraries(interpreter, stdlib)):
        tar.add(source, str(source), filter=_kept)
    if interpreter.name != "python3":
        add_link(tar, str(interpreter.with_name("python3")), interpreter.name)
    tar.add(Path(sysconfig.get_path("purelib"), "pip"), str(PIP / "pip"), filter=_kept)
    _add_shell(tar)
    _add_text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if LEFT_OUT.search(f"/{member.name}") else member


def _libraries(interpreter: Path, stdlib: Path) -> Iterator[Path]:
    """The shared libraries of the interpreter and its extension modules (ldd(1))."""
    modules = sorted((stdlib / "lib-dynload").glob("*.so"))
    said = subprocess.run(
        [_tool("ldd"), str(interpreter), *map(str, modules)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = {Path(name).parent.resolve() / Path(name).name for name in _LIBRARY.findall(said)}
    for libc in [path for path in found if path.name.startswith("libc.so")]:
        found |= {libc.with_name(name) for name in GLIBC if libc.with_name(name).exists()}
        found |= set(libc.parent.glob("libgcc_s.so.1"))  # pthread_exit loads it
    yield from sorted(found)


def _add_shell(tar: tarfile.TarFile) -> None:
    tar.add(Path(_tool("busybox")).resolve(), "usr/bin/busybox")
    for applet in ("sh", "rm"):
        add_link(tar, f"usr/bin/{applet}", "busybox")


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    tar.addfile(member, io.BytesIO(text.encode()))


def _tool(name: str) -> str:
    return shutil.which(name) or unavailable(f"{name} is missing")


def write_context(directory: Path) -> None:
    """Writes a build context with the project and the wheels that its installation needs.

    The build itself has no network: whatever is missing here would make it fail.
    """
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*settings["build-system"]["requires"], *settings["project"]["dependencies"]]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", f"--wheel-dir={directory}/wheelhouse", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        unavailable(f"no wheels for the image: {done.stderr}")


def build(engine: Engine, base: str, directory: Path, target: str = "") -> str:
    """Builds the project's image, or that `target`, on a local base; returns its reference."""
    reference = f"{LABEL}:ultra-ports{target}-{engine.mark}"
    arguments = (f"BASE={base}", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/src/wheelhouse")
    options = [f"--build-arg={argument}" for argument in arguments]
    options += [f"--target={target}"] if target else []
    engine("build", "--network=none", "--force-rm", *options, f"--tag={reference}", str(directory))
    return reference
