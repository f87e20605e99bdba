"""Environment files: our block, all else to the byte, and values with an old port in them."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from resolver.errors import UltraPortsError, UsageError
from resolver.portspec import parse
from resolver.reservations.candidates import Source
from resolver.reservations.export import block, replace_file
from resolver.reservations.export.block import (
    apply,
    lines,
    overrides,
    values_in_block,
    without_block,
)
from resolver.reservations.export.env_file import Change, changes
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import Assigned
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from pathlib import Path

PORTS = {"API_PORT": "8086", "API_HOST": "127.0.0.1"}
BLOCK = (
    b"# >>> ultra-ports >>>\n"
    b"# written by `ultra-ports assign`; changes in here do not last\n"
    b"API_PORT=8086\n"
    b"API_HOST=127.0.0.1\n"
    b"# <<< ultra-ports <<<"
)


def made(raw: bytes) -> bytes:
    return apply(raw, PORTS, ".env")


def test_an_empty_file_gets_the_block_alone() -> None:
    assert made(b"") == BLOCK + b"\n"


@pytest.mark.parametrize(
    ("raw", "gap"),
    [
        (b"A=1\n", b""),
        (b"A=1", b"\n"),
        (b"\xef\xbb\xbfA=1\n", b""),
        (b"\xef\xbb\xbf", b""),
        (b"A=\xff\xfe\x80\n", b""),
        (b"\n\n", b""),
    ],
)
def test_it_is_added_at_the_end(raw: bytes, gap: bytes) -> None:
    assert made(raw) == raw + gap + BLOCK + b"\n"


def test_lines_of_windows_stay_so() -> None:
    crlf = BLOCK.replace(b"\n", b"\r\n")
    assert made(b"A=1\r\nB=2") == b"A=1\r\nB=2\r\n" + crlf + b"\r\n"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nZ=1", b"\n\n\n"])
@pytest.mark.parametrize("start", [b"", b"A=1\n", b"\xef\xbb\xbf", b"  "])
def test_an_old_block_is_replaced_where_it_stands(start: bytes, end: bytes) -> None:
    old = b"# >>> ultra-ports >>>\nOLD=1\n# <<< ultra-ports <<<"
    assert made(start + old + end) == start + BLOCK + end


@pytest.mark.parametrize(
    "raw",
    [
        b"# >>> ultra-ports >>>\nA=1\n",
        b"A=1\n# <<< ultra-ports <<<\n",
        BLOCK + b"\n" + BLOCK,
        b"# <<< ultra-ports <<<\n# >>> ultra-ports >>>\n",
        b"# >>> ultra-ports >>>\n" + BLOCK,
    ],
)
def test_a_damaged_block_is_an_error(raw: bytes) -> None:
    with pytest.raises(UsageError, match=r"^\.env: .*nothing was changed"):
        made(raw)
    assert without_block(raw.decode()) == raw.decode()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_wide_characters_are_refused(encoding: str) -> None:
    with pytest.raises(UsageError, match="UTF-16"):
        made("A=1\n".encode(encoding))


def test_a_mark_in_the_middle_of_a_line_is_none() -> None:
    raw = b'A="# >>> ultra-ports >>>"\nB=1 # <<< ultra-ports <<<\n'
    assert made(raw) == raw + BLOCK + b"\n"


def test_the_block_can_be_read_and_left_out() -> None:
    raw = b"API_PORT=1\n" + BLOCK + b"\nB=2\n"
    assert values_in_block(raw, "") == PORTS
    assert without_block(raw.decode()) == "API_PORT=1\n\nB=2\n"


def test_lines_have_numbers() -> None:
    raw = b"\xef\xbb\xbf# c\nexport A = 1 \r\nB: 2\nnothing\n" + BLOCK
    assert [(each.number, each.key, each.value, each.block) for each in lines(raw, "")] == [
        (2, "A", b"1", False),
        (3, "B", b"2", False),
        (7, "API_PORT", b"8086", True),
        (8, "API_HOST", b"127.0.0.1", True),
    ]


def test_of_two_lines_that_set_a_variable_the_last_one_wins() -> None:
    raw = b"API_PORT=1\n" + BLOCK + b"\nAPI_HOST=x\nOTHER=1\n"
    assert [(line.number, wins) for line, wins in overrides(raw, list(PORTS), "")] == [
        (1, False),
        (7, True),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("URL=http://localhost:8085/", True),
        ("HOSTS=localhost:3000,127.0.0.1:8085", True),
        ("URL=http://db:8085/", True),
        ("LISTEN=:8085", True),
        ("MAP='127.0.0.1:8085:80'", True),
        ("VITE_PORT=8085", True),
        ('VITE_PORT="8085"', True),
        ("URL=http://localhost:80850", False),
        ("URL=http://localhost:18085", False),
        ("URL=http://localhost:808", False),
        ("URL=http://u:8085@localhost/", False),  # a password
        ("URL=redis://:8085@localhost:1", False),
        ("URL=x # http://localhost:8085", False),
        ("N=8085", False),
        ("ID=x8085y", False),
    ],
)
def test_a_value_says_a_port_in_an_address_or_where_its_key_is_called_so(
    text: str,
    says: bool,  # noqa: FBT001
) -> None:
    (line,) = lines(text.encode(), "")
    assert line.says(8085) is says


def got(service: str, preferred: int, port: int) -> Assigned:
    options = parse([str(preferred)])
    wanted = ServiceRequest(service, f"{service.upper()}_PORT", options)
    return Assigned(wanted, wanted.at(port), Source.POOL)


def test_an_old_port_is_told_only_where_it_is_clear_what_became_of_it() -> None:
    assert changes([got("a", 3000, 3001)], {"A_PORT": "3001"}) == (Change("a", 3000, 3001),)
    assert changes([got("a", 3001, 3001)], {"A_PORT": "3000"}) == (Change("a", 3000, 3001),)
    assert changes([got("a", 3001, 3001)], {"A_PORT": "$OTHER"}) == ()
    assert changes([got("a", 3000, 3001), got("b", 3001, 3002)], {}) == (Change("a", 3000, 3001),)
    assert changes([got("a", 3000, 3000), got("b", 3000, 3001)], {}) == ()
    assert changes([got("a", 3000, 3001), got("b", 3000, 3002)], {}) == ()


# --- on disk --------------------------------------------------------------------------------------


def test_mode_and_links_are_kept_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "env", tmp_path / ".env"
    file.write_bytes(b"A=1")
    file.chmod(0o640)
    link.symlink_to(file)
    replace_file.update(link, made)
    assert link.is_symlink()
    assert file.read_bytes() == b"A=1\n" + BLOCK + b"\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["env"]


def test_a_new_file_has_the_mode_of_new_files(tmp_path: Path) -> None:
    plain, file = tmp_path / "plain", tmp_path / ".env"
    plain.touch()
    replace_file.update(file, made)
    assert file.stat().st_mode == plain.stat().st_mode


@pytest.mark.root
def test_the_owner_is_kept(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("giving files away needs root")
    file = tmp_path / ".env"
    file.write_bytes(b"")
    os.chown(file, 1234, 4321)
    file.chmod(0o600)
    replace_file.update(file, made)
    status = file.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 4321, 0o600)


def test_what_is_right_already_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    replace_file.update(file, made)
    before = file.stat()
    replace_file.update(file, made)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("kind", ["directory", "pipe", "loop", "missing"])
def test_what_is_no_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".env"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path = tmp_path / "none" / ".env"
    with pytest.raises(UsageError, match=r"\.env"):
        replace_file.update(path, made)


def test_who_changes_the_file_meanwhile_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"A=1\n")
    edits: list[bytes] = []

    def edit(raw: bytes) -> bytes:
        if not edits:
            file.write_bytes(b"A=2\nB=3\n")  # as an editor would
        edits.append(raw)
        return made(raw)

    replace_file.update(file, edit)
    assert edits == [b"A=1\n", b"A=2\nB=3\n"]
    assert file.read_bytes() == b"A=2\nB=3\n" + BLOCK + b"\n"


def test_one_who_changes_it_all_the_time_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    edits: list[bytes] = []

    def edit(raw: bytes) -> bytes:
        edits.append(raw)
        file.write_bytes(b"N=%d\n" % len(edits))
        return made(raw)

    with pytest.raises(UltraPortsError, match="nothing was changed"):
        replace_file.update(file, edit)
    assert file.read_bytes() == b"N=%d\n" % len(edits)
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_writers_wait_for_one_another(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    writer = threading.Thread(target=replace_file.update, args=(file, made))
    try:
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        assert not file.exists()
    finally:
        os.close(descriptor)
        writer.join()
    wait_until(file.exists, "the writer has had its turn")


def test_a_failed_write_leaves_the_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"# >>> ultra-ports >>>\n")
    with pytest.raises(UsageError):
        replace_file.update(file, made)
    assert file.read_bytes() == b"# >>> ultra-ports >>>\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_nobody_could_mean_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    with file.open("wb") as sparse:
        sparse.truncate(replace_file.LONGEST + 1)
    with pytest.raises(UsageError, match="too long"):
        replace_file.read(file)
    assert block.split(b"", "") == block.Parts(b"")
