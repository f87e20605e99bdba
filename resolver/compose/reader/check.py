"""What of a compose file is looked at: whether it has the shape that compose wants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from resolver.compose.reader.tree import Items, Number, Place, Table, place_of
from resolver.errors import UsageError
from resolver.interpolation import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)
_WHOLE = re.compile(r"[-+]?[0-9]{1,9}", re.ASCII)
_TOP = frozenset(
    {
        "version",
        "name",
        "include",
        "services",
        "networks",
        "volumes",
        "secrets",
        "configs",
        "models",
    }
)
# The keys of a service in the Compose Specification, November 2026, and no longer in it.
_SERVICE = frozenset(
    """
    annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs
    container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime
    cpu_shares cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices
    dns dns_opt dns_search domainname entrypoint env_file environment expose extends external_links
    extra_hosts gpus group_add healthcheck hostname image init ipc isolation label_file labels links
    logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models network_mode
    networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop
    privileged profiles provider pull_policy read_only restart runtime scale secrets security_opt
    shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits
    use_api_socket user userns_mode uts volumes volumes_from working_dir
    """.split()  # noqa: SIM905 - eighty words
)


def check(model: Table, path: Path) -> None:
    """Looks at one file laid over those before it.

    Raises:
        UsageError: it has not the shape that compose wants, as far as that concerns ports.
    """
    _of(model, "name", str, "a text", path, "")
    _of(model, "services", Table, "a mapping", path, "")
    for name, service in model.get("services", {}).items():
        where = f"services.{name}"
        place = place_of(service) or path
        if not _NAME.fullmatch(name):
            raise UsageError(f"{place}: {shown(name)} is no name for a service")
        if not isinstance(service, Table):
            raise UsageError(f"{place}: {where} is a mapping")
        _check_service(service, where, place)


def _check_service(service: Table, where: str, place: Path | Place) -> None:
    _of(service, "ports", Items, "a list", place, where)
    _of(service, "profiles", Items, "a list", place, where)
    _of(service, "network_mode", str, "a text", place, where)
    _of(service, "deploy", Table | None, "a mapping", place, where)
    if not all(isinstance(each, str) for each in service.get("profiles", ())):
        raise UsageError(f"{place_of(service['profiles'])}: {where}.profiles is a list of names")
    replicas(service, where)


def replicas(service: Table, where: str) -> int:
    """How many containers the service would have.

    Raises:
        UsageError: that is no number, or two different ones.
    """
    deploy = service.get("deploy") or Table()
    given = [
        _whole(table[key], f"{place_of(table[key]) or table.place}: {where}.{name}")
        for table, key, name in (
            (service, "scale", "scale"),
            (deploy, "replicas", "deploy.replicas"),
        )
        if key in table
    ]
    if len(set(given)) > 1:
        raise UsageError(
            f"{service.place}: {where} has {given[0]} as scale, {given[1]} as replicas"
        )
    return max(0, given[0]) if given else 1


def _whole(value: object, where: str) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, Number):
        raise UsageError(f"{where} is a number")
    return int(value)


def _of(table: Table, key: str, kind: Any, what: str, place: object, where: str) -> None:  # noqa: ANN401 - isinstance's
    if key in table and not isinstance(table[key], kind):
        at = place_of(table[key]) or place
        raise UsageError(f"{at}: {where}{'.' if where else ''}{key} is {what}")


def unknown(model: Table) -> Iterator[str]:
    """What this reader does not know: compose may refuse it, or know it since lately."""
    for key in model:
        if key not in _TOP and not key.startswith("x-"):
            yield f"{model.place}: {key!a} is no key of a compose file that is known here"
    for name, service in model.get("services", {}).items():
        for key in service:
            if key not in _SERVICE and not key.startswith("x-"):
                yield f"{service.place}: services.{name} has {key!a}, which is not known here"
