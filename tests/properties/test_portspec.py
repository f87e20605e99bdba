"""The PORT grammar: what is printed parses to the same, and nothing else gets through."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.errors import UsageError
from resolver.model import PortNumber, PortRequest, Transport
from resolver.portspec import parse

ports = st.integers(1, 65535).map(PortNumber)
transports = st.sampled_from(Transport)
addresses = st.none() | st.ip_addresses().map(
    lambda address: str(getattr(address, "ipv4_mapped", None) or address)
)
requests = st.builds(PortRequest, ports, transports, addresses)


@given(requests)
def test_what_is_printed_parses_to_the_same(request_: PortRequest) -> None:
    (parsed,) = parse([str(request_)])
    assert (parsed.port, parsed.transport) == (request_.port, request_.transport)
    if request_.address is None:
        assert parsed.address is None
    else:
        assert parsed.address is not None
        assert ipaddress.ip_address(parsed.address) == ipaddress.ip_address(request_.address)
    assert parse([str(parsed)]) == (parsed,)


@given(st.lists(requests, min_size=1, max_size=8))
def test_lists_keep_their_order_and_drop_doubles(wanted: list[PortRequest]) -> None:
    canonical = [parse([str(each)])[0] for each in wanted]
    joined = ",".join(map(str, wanted))
    assert parse([joined]) == tuple(dict.fromkeys(canonical))
    assert parse(map(str, wanted)) == tuple(dict.fromkeys(canonical))


@given(ports, ports, transports)
def test_ranges_hold_each_port_once(first: PortNumber, last: PortNumber, kind: Transport) -> None:
    first, last = sorted((first, last))
    found = parse([f"{first}-{last}/{kind}"])
    assert [each.port for each in found] == list(range(first, last + 1))
    assert {each.transport for each in found} == {kind}


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        (":8085", "8085"),
        ("*:8085", "8085"),
        (":::8085", "8085"),
        ("localhost:8085", "8085"),
        ("LOCALHOST:8085/udp", "8085/udp"),
        ("http://localhost:8085/x,y?z=1", "8085"),
        ("https://127.0.0.1/", "127.0.0.1:443"),
        ("http://user:pw@[::1]:9000", "[::1]:9000"),
        ("redis://localhost:6379/0", "6379"),
        ("tcp://0.0.0.0:2375", "0.0.0.0:2375"),
        ("tcp/8085", "8085"),
        ("udp/53", "53/udp"),
        ("tcp/localhost:8085", "8085"),
    ],
)
def test_what_people_paste(pasted: str, meant: str) -> None:
    assert parse([pasted]) == parse([meant])


@given(ports, ports)
def test_a_backward_range_is_refused(first: PortNumber, last: PortNumber) -> None:
    if first == last:
        return
    low, high = sorted((first, last))
    with pytest.raises(UsageError, match="range"):
        parse([f"{high}-{low}"])


@given(st.text(max_size=40))
@example("٨٠٨٥")
@example("8085\n")
@example("1e3")
@example("0x1F")
@example("[::1%eth0]:80")
@example("9" * 5000)
def test_any_text_parses_or_is_named(text: str) -> None:
    try:
        found = parse([text])
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
        assert str(error).isprintable()
        assert len(str(error)) < 400
    else:
        assert all(1 <= each.port <= 65535 for each in found)
        assert set(text) <= set("0123456789abcdefABCDEF.:[]-/,tcpudp "), text
