"""Tables on terminals of any width: nothing is wider, and every port can be read."""

from __future__ import annotations

import pytest

from resolver.report.table import columns

HEADERS = ("SERVICE", "PORT", "LEVEL", "HEALTH", "HOLDER", "ANSWER")
ROWS = [
    ("api", "127.0.0.1:18086/tcp", "speaks", "healthy", "gunicorn 22982", "HTTP 200 from /healthz"),
    ("", "19999/tcp", "free", "unhealthy", "", ""),
]


@pytest.mark.parametrize("width", [30, 40, 50, 52, 60, 80, 100])
def test_nothing_is_wider_than_the_terminal_and_ports_are_whole(width: int) -> None:
    told = columns(HEADERS, ROWS, width=width)

    assert max(map(len, told.splitlines())) <= width, told
    for port in ("127.0.0.1:18086/tcp", "19999/tcp"):
        assert port in told.split()


def test_where_a_table_does_not_fit_each_row_names_its_columns() -> None:
    assert columns(HEADERS, ROWS, width=50).splitlines() == [
        "SERVICE api · PORT 127.0.0.1:18086/tcp · LEVEL",
        "  speaks · HEALTH healthy · HOLDER gunicorn 22982",
        "  · ANSWER HTTP 200 from /healthz",
        "PORT 19999/tcp · LEVEL free · HEALTH unhealthy",
    ]


def test_a_pipe_gets_a_table_of_whole_cells() -> None:
    rows = columns(HEADERS, ROWS).splitlines()
    assert [row.split()[0] for row in rows] == ["SERVICE", "api", "19999/tcp"]
    assert rows[1].endswith("HTTP 200 from /healthz")
