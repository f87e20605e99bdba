"""The files of a project → one tree: each file's documents laid over one another, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from resolver.compose.reader import place, ports
from resolver.compose.reader.check import check
from resolver.compose.reader.document import documents
from resolver.compose.reader.merge import extended, fill, forget, lay
from resolver.compose.reader.tree import LARGEST, Budget, Items, Table, Text, place_of
from resolver.errors import UsageError
from resolver.interpolation import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from resolver.compose.reader.document import Document, Route

_LONGEST_CHAIN = 100  # services that extend one another, or files that include one another


class Loader(Struct, frozen=True):
    """What reading a file needs to know: paths in it are relative to `folder`.

    `included` are the files on the way here. `base` marks a file that is read for a service in it
    that another one extends: what it extends and includes itself is not looked at then.
    """

    folder: Path
    environ: Mapping[str, str]
    budget: Budget
    included: tuple[Path, ...] = ()
    base: bool = False
    read: dict[Path, tuple[Document, ...]] = field(default_factory=dict)
    bases: dict[Path, Table] = field(default_factory=dict)

    def load(self, paths: Iterable[Path]) -> Table:
        """The files as one tree, the later ones over the earlier ones.

        Raises:
            UsageError: a file is missing, is no compose file, or names something that is not there.
        """
        model = Table()
        for path in paths:
            for document in self.documents(path):
                model = self.over(model, document, path)
        return model

    def documents(self, path: Path) -> tuple[Document, ...]:
        """What stands in a file, which is parsed once."""
        if path not in self.read:
            text = place.read_text(path, LARGEST)
            self.budget.read(len(text), path)
            self.read[path] = tuple(documents(text, path, self.budget))
        return self.read[path]

    def over(self, model: Table, document: Document, path: Path) -> Table:
        """The tree with one more document over it."""
        if document.value is None:
            raise UsageError(f"{path}: an empty compose file")
        if not isinstance(document.value, Table):
            raise UsageError(f"{path}: a compose file is a mapping at the top")
        upper: Table = fill(document.value, self.environ, self.budget)
        if not self.base:
            _Extender(self, path).all(upper, document.forgotten)
        forget(model, document.forgotten)
        if not self.base:
            self.include(upper, path)
        merged: Table = lay(upper, model)
        check(merged, path)
        for name, service in merged.get("services", {}).items():
            if isinstance(service.get("ports"), Items):
                where = f"services.{name}.ports"
                service["ports"] = ports.unique(ports.entries(service["ports"], where, self.budget))
        return merged

    # --- include ----------------------------------------------------------------------------------

    def include(self, model: Table, path: Path) -> None:
        """Adds what the files under `include` have; nothing of it may be there already."""
        wanted = model.pop("include", None)
        if wanted is None:
            return
        if not isinstance(wanted, Items):
            raise UsageError(f"{place_of(wanted) or path}: include is a list")
        trail = (*self.included, path)
        if len(trail) > _LONGEST_CHAIN:
            raise UsageError(f"{path}: files include one another more than {_LONGEST_CHAIN} deep")
        for each in wanted:
            found = self.included_model(each, place_of(each) or wanted.place, trail)
            _import(found, model)

    def included_model(self, value: Any, where: object, trail: tuple[Path, ...]) -> Table:  # noqa: ANN401
        """The tree of one entry of `include`."""
        entry = Table(path=value) if isinstance(value, str) else value
        if not isinstance(entry, Table) or not (names := _texts(entry.get("path"))):
            raise UsageError(f"{where}: an entry of include is a path, or a mapping with one")
        paths = [self.local(name, where) for name in names]
        if paths[0] in trail:
            route = " includes ".join(str(each) for each in (*trail, paths[0]))
            raise UsageError(f"{where}: files include one another: {route}")
        folder = paths[0].parent
        if given := entry.get("project_directory"):
            folder = place.absolute(self.folder, str(given))
        files = [place.absolute(self.folder, each) for each in _texts(entry.get("env_file"))]
        found = place.variables(files or place.default(folder), self.environ)
        environ = place.over(self.environ, found)
        inner = replace(self, folder=folder, environ=environ, included=trail, bases={})
        return inner.load(paths)

    def local(self, name: str, where: object) -> Path:
        """The path of a file that another one names."""
        if "://" in name or name.startswith(("git@", "github.com/")):
            raise UsageError(f"{where}: {shown(name)}: only docker compose reads remote files")
        return place.absolute(self.folder, name)


# --- extends --------------------------------------------------------------------------------------


class _Extender(Struct, frozen=True):
    """Works out `extends` in one file."""

    loader: Loader
    path: Path

    def all(self, model: Table, routes: tuple[Route, ...]) -> None:
        """Each service of the file, in its place."""
        services = model.get("services", Table())
        if not isinstance(services, Table):
            raise UsageError(f"{place_of(services) or self.path}: services is a mapping")
        for name in services:
            services[name] = self.one(name, services, (), routes)

    def one(
        self,
        name: str,
        services: Table,
        trail: tuple[tuple[Path, str], ...],
        routes: tuple[Route, ...],
    ) -> Any:  # noqa: ANN401 - checked later
        """A service with everything that it inherits."""
        service = services[name]
        if not isinstance(service, Table) or "extends" not in service:
            return service
        where = f"{service.place}: services.{name}.extends"
        base, file = _reference(service["extends"], where)
        inner = self
        if file:
            path = self.loader.local(file, where)
            loader = replace(self.loader, folder=path.parent, base=True)
            inner = _Extender(loader, path)
            if path not in loader.bases:
                loader.bases[path] = loader.load([path])
            services = loader.bases[path].get("services") or Table()
            routes += tuple(each for doc in loader.documents(path) for each in doc.forgotten)
        step = (inner.path, base)
        if step in trail or len(trail) > _LONGEST_CHAIN:
            raise UsageError(f"{where}: the services extend one another in a circle, or too deep")
        if base not in services:
            raise UsageError(f"{where}: there is no service {shown(base)} in {inner.path}")
        found = inner.one(base, services, (*trail, step), routes)
        if not isinstance(found, Table):
            return service
        return extended(name, service, found, routes, self.loader.budget)


def _reference(value: object, where: str) -> tuple[str, str]:
    """The service that is meant, and its file, empty for the same one."""
    if isinstance(value, str):
        return value, ""
    service = value.get("service") if isinstance(value, Table) else None
    file = value.get("file") if isinstance(value, Table) else None
    if not isinstance(service, str) or not isinstance(file, str | None):
        raise UsageError(f"{where} is a service, or a mapping with service and file")
    return service, file or ""


def _texts(value: object) -> tuple[Text, ...]:
    values = value if isinstance(value, Items) else (value,)
    return tuple(each for each in values if isinstance(each, Text))


def _import(found: Table, model: Table) -> None:
    """Adds the services of an included tree.

    Raises:
        UsageError: a service is there already, and not the same.
    """
    services = found.get("services")
    if services is None:
        return
    own = model.setdefault("services", Table())
    for name, service in services.items():
        if name in own and own[name] != service:
            raise UsageError(
                f"{place_of(service)}: the service {shown(name)} is defined elsewhere too: an "
                "included one can be changed in an override file only"
            )
        own[name] = service
