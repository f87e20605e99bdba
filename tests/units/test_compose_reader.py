"""Our reader by itself: variables, places, notes, and files that are meant to do harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resolver.compose import reader
from resolver.compose.model import ComposeArguments, ComposeProject, Published
from resolver.compose.reader.document import documents
from resolver.compose.reader.published import publish
from resolver.compose.reader.tree import LARGEST, Budget
from resolver.errors import UsageError
from resolver.interpolation import interpolate
from tests.lab.composefiles.case import service, services
from tests.lab.composefiles.variables import ENVIRON, READ, REFUSED

FILE = Path("/somewhere/compose.yaml")


def read(folder: Path, text: str, environ: dict[str, str] | None = None) -> ComposeProject:
    """The project of one file."""
    (folder / "compose.yaml").write_text(text, encoding="utf-8")
    return reader.read(ComposeArguments(), environ or {}, folder)


def entry(folder: Path, *ports: str, environ: dict[str, str] | None = None) -> Published:
    """The only entry of the only service."""
    ((only,),) = (each.published for each in read(folder, service(*ports), environ).services)
    return only


# --- variables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", READ)
def test_variables(text: str) -> None:
    assert interpolate(text, ENVIRON.get).text == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_variables_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        interpolate(text, ENVIRON.get)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$A", ()),
        ("$U", ("U",)),
        ("${U}:${V}:${U}", ("U", "V")),
        ("${E}", ("E",)),
        ("${U:-d}", ()),
        ("${U:-}", ()),
        ("${U-}", ()),
        ("${U:+r}", ()),
        ("${U:-$V}", ("V",)),
        ("${A:-$V}", ()),
        ("$$U", ()),
    ],
)
def test_which_variables_left_nothing(text: str, names: tuple[str, ...]) -> None:
    assert interpolate(text, ENVIRON.get).unset == names


@pytest.mark.parametrize("form", ['"${P}:80"', "{target: 80, published: '${P}'}"])
@pytest.mark.parametrize("environ", [{}, {"P": ""}])
def test_a_port_that_became_automatic(tmp_path: Path, form: str, environ: dict[str, str]) -> None:
    found = entry(tmp_path, form, environ=environ)
    assert found.first is None
    assert found.unset == ("P",)
    assert found.where == "compose.yaml:5"
    assert "${P}" in found.text


@pytest.mark.parametrize("form", ['"${P:-}:80"', '"80"', '"0:80"', '"${P:-8080}:80"'])
def test_a_port_that_was_meant_so(tmp_path: Path, form: str) -> None:
    assert entry(tmp_path, form).unset == ()


@pytest.mark.parametrize(
    "form",
    [
        '"${H}:8080:80"',
        '"${H}8080:80"',
        "{target: 80, published: 8080, host_ip: '${H}'}",
    ],
)
def test_a_port_that_lost_its_address(tmp_path: Path, form: str) -> None:
    found = entry(tmp_path, form)
    assert (found.first, found.address) == (8080, None)
    assert found.unset == ()
    assert found.exposed_by == ("H",)


@pytest.mark.parametrize("form", ['"8080:80${T}"', '"${H:-}8080:80"', '"127.0.0.1:8080:80${T}"'])
def test_a_port_that_had_no_address_to_lose(tmp_path: Path, form: str) -> None:
    assert entry(tmp_path, form).exposed_by == ()


# --- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host_port", "address", "transport", "trouble"),
    [
        ("abc", "", "", "'abc' is neither a port"),
        ("70000", "", "", "'70000' is neither a port"),
        ("-1", "", "", "is neither a port"),
        (" 80", "", "", "is neither a port"),
        ("0-5", "", "", "is neither a port"),
        ("80-79", "", "", "is neither a port"),
        ("80", "localhost", "", "'localhost' is no IP address"),
        ("80", "[::1]", "", "is no IP address"),
        ("80", "", "foo", "'foo' is neither tcp, udp nor sctp"),
    ],
)
def test_what_compose_takes_and_engines_do_not(
    host_port: str, address: str, transport: str, trouble: str
) -> None:
    assert trouble in publish("web", 80, host_port, address, transport, "").trouble


@pytest.mark.parametrize("target", [0, 70000])
def test_a_target_that_is_no_port(target: int) -> None:
    assert "is no port of a container" in publish("web", target, "80", "", "tcp", "").trouble


@pytest.mark.parametrize(
    ("host_port", "first", "last"),
    [("", None, None), ("0", None, None), ("080", 80, 80), ("80-90", 80, 90)],
)
def test_host_ports(host_port: str, first: int | None, last: int | None) -> None:
    made = publish("web", 80, host_port, "", "", "")
    assert (made.first, made.last, made.trouble) == (first, last, "")


def test_addresses_are_canonical() -> None:
    assert publish("web", 80, "80", "0:0::1", "", "").address == "::1"
    assert publish("web", 80, "80", "::ffff:127.0.0.1", "", "").address == "127.0.0.1"


# --- notes and places -----------------------------------------------------------------------------


def test_unknown_keys_are_noted(tmp_path: Path) -> None:
    project = read(tmp_path, "prots: 1\n" + service("80", more="    prots: [80]\n"))
    assert len(project.notes) == 2
    assert all("prots" in note for note in project.notes)


def test_two_default_files_are_noted(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(service())
    (note,) = read(tmp_path, service()).notes
    assert "compose.yaml is the one that counts" in note


def test_a_place_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "o.yaml").write_text("\n\n" + services(b="{image: x, ports: [80]}"))
    text = services(a="{extends: {service: b, file: d/o.yaml}}")
    (found,) = read(tmp_path, text).services[0].published
    assert found.where == "d/o.yaml:4"


def test_the_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"compose\.yaml:6: services\.web\.ports: 'abc:80'"):
        read(tmp_path, service("80", '"abc:80"'))


def test_standard_input_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="standard input"):
        reader.read(ComposeArguments(("-",)), {}, tmp_path)


# --- harm -----------------------------------------------------------------------------------------


def _bomb() -> str:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines) + "\n" + service()


def _merges() -> str:
    lines = ["x0: &x0 {a: 1}"]
    lines += [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    return "\n".join(lines) + "\n" + service()


def _chain(length: int) -> str:
    last = {f"s{length}": "{image: x}"}
    return services(**{f"s{n}": f"{{extends: s{n + 1}}}" for n in range(length)}, **last)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(_bomb(), "more than", id="a bomb of aliases"),
        pytest.param(_merges(), "more than", id="a bomb of merges"),
        pytest.param("a: &a\n  b: *a\n", "alias within itself", id="an alias within itself"),
        pytest.param("x-a: " + "[" * 100_000, "levels deep", id="deep flow"),
        pytest.param("x-a: " + "{a: " * 50_000, "levels deep", id="deep mappings"),
        pytest.param("- " * 100_000, "levels deep", id="deep lists"),
        pytest.param("a: 1\n" * (LARGEST // 4), "MiB", id="a huge file"),
        pytest.param(_chain(500), "circle", id="a long chain"),
        pytest.param('a: "\\UFFFFFFFF"\n', "no YAML", id="an escape that is no character"),
        pytest.param("a: \x07\n", "no YAML", id="a control character"),
        pytest.param("x-a: '" + "${A:-" * 10_000 + "'\n", "no text|nested", id="open braces"),
        pytest.param("x-a: " + "${A:-" * 999 + "}" * 999 + "\n", "nested", id="deep defaults"),
        pytest.param("x-a: " + "9" * 5000 + "\n" + service("'0-65535'"), "0 is no", id="numbers"),
    ],
)
def test_what_is_meant_to_do_harm_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read(tmp_path, text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_many_ports_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than"):
        read(tmp_path, services(**{f"s{n}": "{image: x, ports: ['1-65535']}" for n in range(9)}))


def test_many_includes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "i.yaml").write_text("x-a: [" + "1, " * 5_000 + "1]\n" + service())
    with pytest.raises(UsageError, match="more than"):
        read(tmp_path, "include: [" + "i.yaml, " * 5_000 + "i.yaml]\n")


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00a", b"\x7fELF\x02\x01\x01\x00", b"\x00" * 100])
def test_bytes_that_are_no_text(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "compose.yaml").write_bytes(raw)
    with pytest.raises(UsageError, match=r"no text|no YAML"):
        reader.read(ComposeArguments(), {}, tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "compose.yaml")
    with pytest.raises(UsageError, match="is no regular file"):
        reader.read(ComposeArguments(), {}, tmp_path)


def test_files_that_have_no_end(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no regular file|MiB"):
        reader.read(ComposeArguments(("/dev/zero",)), {}, tmp_path)


def test_a_path_that_is_none(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(UsageError):
            reader.read(ComposeArguments((name,)), {}, tmp_path)


def test_documents_know_what_they_reset() -> None:
    text = "services:\n  web:\n    ports: !reset []\n    image: !override x\n"
    (found,) = documents(text, FILE, Budget())
    assert found.forgotten == (("services", "web", "ports"), ("services", "web", "image"))
    assert found.value == {"services": {"web": {"image": "x"}}}
