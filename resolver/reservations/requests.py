"""What to assign: `api:8085`, `api:8000-8100`, `api:127.0.0.1:53/udp` or `api` → requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver import portspec
from resolver.errors import UsageError
from resolver.model import PortNumber, PortRequest
from resolver.project.file import default_variable
from resolver.reservations.export.variables import distinct, scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.project.model import Project, Service

_EXAMPLES = "such as api:8085, api:8000-8100, api:127.0.0.1:8085/udp, or the service's name alone"


class ServiceRequest(Struct, frozen=True):
    """What a service would like: `options` in order of preference, of one transport and address."""

    service: str
    variable: str
    options: tuple[PortRequest, ...]
    scheme: str = "http"

    @property
    def preferred(self) -> PortRequest:
        """The first choice."""
        return self.options[0]

    def at(self, port: int) -> PortRequest:
        """The same endpoint with another port."""
        return PortRequest(PortNumber(port), self.preferred.transport, self.preferred.address)


def service_requests(arguments: Sequence[str], project: Project) -> tuple[ServiceRequest, ...]:
    """A request for each argument; without any, one for every service of the project file.

    Args:
        arguments: `SERVICE:PORT`, or `SERVICE` for one that the project knows.
        project: the services' variables, and their ports as they are without our own block in
            `.env`: what an earlier assignment came to was not asked for.

    Raises:
        UsageError: an argument makes no sense, or two share a name or a variable.
    """
    if arguments:
        found = tuple(_requested(argument, project) for argument in arguments)
    elif project.file is None:
        raise UsageError(
            f"there is no project file in {project.root} or above that names services",
            f"name them here, {_EXAMPLES}",
        )
    else:
        found = tuple(of_service(each) for each in project.services)
        if not found:
            raise UsageError(f"{project.file} names no service")
    distinct(found)
    return found


def spoken_for(found: Sequence[ServiceRequest], project: Project) -> frozenset[int]:
    """The ports of the project's other services, which no fallback shall take."""
    if project.file is None:
        return frozenset()
    here = {wanted.service for wanted in found}
    others = [each for each in project.services if each.name not in here]
    return frozenset(port for each in others for port in (each.request.port, each.standard.port))


def _requested(argument: str, project: Project) -> ServiceRequest:
    name, colon, spec = argument.partition(":")
    if not portspec.is_name(name):
        raise UsageError(f"{argument!a} does not begin with the name of a service", _EXAMPLES)
    if not colon:
        return of_service(project.service(name))
    options = _options(argument, spec)
    known = next((each for each in project.services if each.name == name), None)
    return of_service(known, *options) if known else of_name(name, *options)


def _options(argument: str, spec: str) -> tuple[PortRequest, ...]:
    try:
        options = portspec.parse([spec])
    except UsageError as error:
        raise UsageError(f"{argument!a}: {error}", _EXAMPLES) from error
    if len({(each.transport, each.address) for each in options}) > 1:
        raise UsageError(f"{argument!a}: a service has one transport and one address")
    return options


def of_service(service: Service, *options: PortRequest) -> ServiceRequest:
    """What the project says of one of its services, or these options in place of its own port."""
    options = options or (service.request,)
    probe = service.health.kind if service.health else ""
    kind = scheme(service.name, probe, options[0].transport)
    return ServiceRequest(service.name, service.variable, options, kind)


def of_name(name: str, *options: PortRequest) -> ServiceRequest:
    """A service of which the project says nothing."""
    return ServiceRequest(
        name, default_variable(name), options, scheme(name, "", options[0].transport)
    )
