"""`extends` and `include`: what comes from other services and other files."""

from __future__ import annotations

from tests.lab.composefiles.case import COMPOSE, OVERRIDE, Case, services

_BASE = services(b="{image: x, ports: ['2:2']}")
_WEB = services(web="{image: x, ports: ['1:1']}")
_DB = services(db="{image: x, ports: ['${P:-5}:5']}")


def _extends(extended: str, other: str = _BASE, **more: str) -> dict[str, str]:
    return {COMPOSE: services(a=extended), "o.yaml": other, **more}


def _includes(include: str, **files: str) -> dict[str, str]:
    """A project that includes; `i.yaml` is there, `d_i` stands for `d/i.yaml`."""
    paths = {name.replace("__", "/") + ".yaml": text for name, text in files.items()}
    return {COMPOSE: f"include: {include}\n{_WEB}", "i.yaml": _DB, **paths}


EXTENDS = (
    Case(
        "a service of the same file",
        {
            COMPOSE: services(
                a="{extends: b, ports: ['1:1']}",
                b="{image: x, ports: ['2:2'], scale: 2, network_mode: host}",
            )
        },
    ),
    Case(
        "by mapping", {COMPOSE: services(a="{extends: {service: b}}", b="{image: x, ports: [2]}")}
    ),
    Case(
        "a chain",
        {
            COMPOSE: services(
                a="{extends: {service: b}}",
                b="{extends: c, ports: ['2:2']}",
                c="{image: x, ports: ['3:3']}",
            )
        },
    ),
    Case(
        "two of one",
        {COMPOSE: services(a="{extends: c}", b="{extends: c}", c="{image: x, ports: ['2']}")},
    ),
    Case(
        "the same port",
        {COMPOSE: services(a="{extends: b, ports: ['2:2']}", b="{image: x, ports: ['2:2']}")},
    ),
    Case(
        "replicas and network",
        {
            COMPOSE: services(
                a="{extends: c, deploy: {replicas: 2}}",
                c="{image: x, deploy: {replicas: 3}, network_mode: host}",
            )
        },
    ),
    Case(
        "profiles",
        {
            COMPOSE: services(
                a="{image: x, extends: b}", b="{image: x, profiles: [p], ports: ['80:80']}"
            )
        },
    ),
    Case("another file", _extends("{extends: {service: b, file: o.yaml}, ports: ['1:1']}")),
    Case("a file by variable", _extends("{extends: {service: b, file: '${F:-o}.yaml'}}")),
    Case(
        "variables of another file",
        _extends(
            "{extends: {service: b, file: o.yaml}}", services(b="{image: x, ports: ['${P:-2}:2']}")
        ),
    ),
    Case(
        "files in directories",
        {
            COMPOSE: services(a="{extends: {service: b, file: d/o.yaml}}"),
            "d/o.yaml": services(b="{extends: {service: c, file: p.yaml}}"),
            "d/p.yaml": services(c="{image: x, ports: ['${P:-2}:2']}"),
            "d/.env": "P=9",
        },
    ),
    Case(
        "a chain in another file",
        _extends(
            "{extends: {service: b, file: o.yaml}}",
            services(b="{extends: c, ports: ['1:1']}", c="{image: x, ports: ['2:2']}"),
        ),
    ),
    Case(
        "relative to the first file",
        {
            COMPOSE: services(a="{image: x}"),
            "d/z.yaml": services(b="{extends: {service: b, file: o.yaml}}"),
            "d/o.yaml": services(b="{image: x, ports: ['2:2']}"),
            "o.yaml": services(b="{image: x, ports: ['3:3']}"),
        },
        ("-f", COMPOSE, "-f", "d/z.yaml"),
    ),
    Case(
        "a name in the other file",
        _extends("{extends: {service: b, file: o.yaml}}", "name: z\n" + _BASE),
    ),
    Case(
        "a bad port elsewhere in the file",
        _extends("{extends: {service: b, file: o.yaml}}", _BASE + "  c: {image: x, ports: [z]}\n"),
    ),
    Case(
        "an include in the other file",
        _extends(
            "{extends: {service: b, file: o.yaml}}",
            "include: [i.yaml]\n" + services(z="{image: x}"),
            **{"i.yaml": _BASE},
        ),
    ),
    Case(
        "in an override file",
        {
            COMPOSE: services(a="{image: x, ports: ['1:1']}"),
            OVERRIDE: services(a="{extends: b, ports: ['3:3']}", b="{image: x, ports: ['4:4']}"),
        },
    ),
    Case(
        "in an override file, of the first",
        {
            COMPOSE: services(a="{image: x}", b="{image: x, ports: ['2:2']}"),
            OVERRIDE: services(a="{extends: b}"),
        },
    ),
    # !override and !reset
    *(
        Case(
            f"{tag} over the base",
            {
                COMPOSE: services(
                    a=f"{{extends: b, ports: {tag} ['1:1']}}", b="{image: x, ports: ['2:2']}"
                )
            },
        )
        for tag in ("!override", "!reset")
    ),
    Case(
        "!override over a base in another file",
        _extends("{extends: {service: b, file: o.yaml}, ports: !override ['1:1']}"),
    ),
    Case(
        "!override of one name",
        {
            COMPOSE: services(b="{extends: {service: b, file: o.yaml}, ports: !override ['1:1']}"),
            "o.yaml": _BASE,
        },
    ),
    Case(
        "!override in the base, of one name",
        {
            COMPOSE: services(b="{extends: {service: b, file: o.yaml}, ports: ['1:1']}"),
            "o.yaml": services(b="{image: x, ports: !override ['2:2']}"),
        },
    ),
    # what is not there, or goes round
    Case("no such service", {COMPOSE: services(a="{image: x, extends: b}")}),
    Case("no such service in the file", _extends("{extends: {service: z, file: o.yaml}}")),
    Case("no such file", _extends("{extends: {service: b, file: p.yaml}}")),
    Case("no service named", _extends("{image: x, extends: {file: o.yaml}}")),
    Case("a list of services", _extends("{image: x, extends: [b]}")),
    Case("itself", {COMPOSE: services(a="{image: x, extends: a}")}),
    Case("a circle", {COMPOSE: services(a="{extends: b}", b="{extends: a}")}),
    Case(
        "a circle of files",
        _extends(
            "{extends: {service: b, file: o.yaml}}",
            services(b="{extends: {service: a, file: compose.yaml}}"),
        ),
    ),
    Case("a base that is null", {COMPOSE: services(a="{image: x, extends: c}", c="")}),
    Case(
        "a base that is included",
        {
            COMPOSE: "include: [i.yaml]\n" + services(a="{extends: db}"),
            "i.yaml": _DB,
        },
    ),
    Case(
        "one name in two files of one name",
        {
            COMPOSE: services(a="{extends: {service: a, file: d/o.yaml}}"),
            "d/o.yaml": services(a="{extends: {service: a, file: d/o.yaml}}"),
            "d/d/o.yaml": services(a="{image: x, ports: ['1:1']}"),
        },
    ),
)

INCLUDE = (
    Case("a file", _includes("[i.yaml]")),
    Case("nothing", _includes("")),
    Case("a text", _includes("i.yaml")),
    Case("a number", _includes("[5]")),
    Case("a variable", _includes("['${X:-i}.yaml']")),
    Case("no such file", _includes("[z.yaml]")),
    Case("the same twice", _includes("[i.yaml, i.yaml]")),
    Case("an unknown key", _includes("[{path: i.yaml, foo: x}]")),
    Case("only an include", {COMPOSE: "include: [i.yaml]\n", "i.yaml": _DB}),
    Case("a name", _includes("[i.yaml]", i="name: zz\n" + _DB)),
    Case("a profile", _includes("[i.yaml]", i=services(db="{image: x, profiles: [p]}"))),
    Case("two files", _includes("[{path: [i.yaml, j.yaml]}]", j=services(db="{ports: ['9:9']}"))),
    Case(
        "!reset of the second",
        _includes("[{path: [i.yaml, j.yaml]}]", j=services(db="{ports: !reset []}")),
    ),
    # variables
    Case("a directory's .env", {**_includes("[d/i.yaml]", d__i=_DB), "d/.env": "P=6"}),
    Case(
        "both .env",
        {**_includes("[d/i.yaml]", d__i=_DB), "d/.env": "P=6", ".env": "P=7"},
    ),
    Case(
        "the environment over .env",
        {**_includes("[d/i.yaml]", d__i=_DB), "d/.env": "P=6"},
        environ={"P": "8"},
    ),
    Case(
        "a directory's .env is its own",
        {
            COMPOSE: "include: [d/i.yaml]\n" + services(web="{image: x, ports: ['${P:-1}:1']}"),
            "d/i.yaml": _DB,
            "d/.env": "P=6",
        },
    ),
    Case(
        "project_directory",
        {**_includes("[{path: i.yaml, project_directory: d}]"), "d/.env": "P=6"},
    ),
    Case("env_file", {**_includes("[{path: i.yaml, env_file: e}]"), "e": "P=6", ".env": "Q=1"}),
    Case(
        "env_file with several",
        {**_includes("[{path: i.yaml, env_file: [e, f]}]"), "e": "P=6", "f": "P=9"},
    ),
    Case("env_file that is not there", _includes("[{path: i.yaml, env_file: e}]")),
    Case(
        "env_file /dev/null",
        {**_includes("[{path: d/i.yaml, env_file: /dev/null}]", d__i=_DB), "d/.env": "P=6"},
    ),
    # in one another
    Case(
        "an include in an include",
        {
            **_includes(
                "[d/i.yaml]",
                d__i="include: [e/j.yaml]\n" + _DB,
                d__e__j=services(c="{image: x, ports: ['${Q:-8}:8']}"),
            ),
            "d/.env": "Q=3",
        },
    ),
    Case(
        "variables of an outer include",
        {
            **_includes(
                "[{path: d/i.yaml, env_file: q}]",
                d__i="include: [e.yaml]\n" + _DB,
                d__e=services(e="{image: x, ports: ['${Z:-2}:2']}"),
            ),
            "q": "P=4\nZ=55",
            "d/.env": "Z=66",
        },
    ),
    Case(
        "env_file of an inner include",
        {
            **_includes(
                "[d/i.yaml]",
                d__i="include: [{path: e.yaml, env_file: q}]\n" + _DB,
                d__e=services(e="{image: x, ports: ['${Z:-2}:2']}"),
            ),
            "d/q": "Z=77",
        },
    ),
    Case(
        "extends in an include",
        {
            **_includes(
                "[d/i.yaml]",
                d__i=services(b="{extends: {service: c, file: e/j.yaml}}"),
                d__e__j=services(c="{image: x, ports: ['${Q:-8}:8']}"),
            ),
            "d/.env": "Q=3",
        },
    ),
    Case(
        "extends below project_directory",
        {
            **_includes(
                "[{path: [d/i.yaml], project_directory: .}]",
                d__i=services(b="{extends: {service: c, file: d/k.yaml}}"),
                d__k=services(c="{image: x, ports: ['${P:-2}:2']}"),
            ),
            "d/.env": "P=6",
            ".env": "P=7",
        },
    ),
    Case(
        "one file by two ways",
        _includes(
            "[i.yaml, j.yaml]",
            i="include: [k.yaml]\n" + _DB,
            j="include: [k.yaml]\n" + services(jj="{image: x}"),
            k=services(kk="{image: x, ports: ['3:3']}"),
        ),
    ),
    Case("a circle", _includes("[i.yaml]", i="include: [compose.yaml]\n" + _DB)),
    Case("itself", _includes("[compose.yaml]")),
    # the same name
    Case("a service of that name", _includes("[i.yaml]", i=services(web="{image: y}"))),
    Case(
        "the same service",
        {
            COMPOSE: "include: [i.yaml]\n" + services(db="{image: x}"),
            "i.yaml": services(db="{image: x}"),
        },
    ),
    Case(
        "the same service with ports",
        {COMPOSE: "include: [i.yaml]\n" + _WEB, "i.yaml": _WEB},
    ),
    Case(
        "an override file over an included service",
        {**_includes("[i.yaml]"), OVERRIDE: services(db="{ports: ['4:4']}")},
    ),
    Case(
        "!reset of an included service",
        {**_includes("[i.yaml]"), OVERRIDE: services(db="{ports: !reset []}")},
    ),
    Case("in an override file", {COMPOSE: _WEB, OVERRIDE: "include: [i.yaml]\n", "i.yaml": _DB}),
    Case(
        "in an override file, over a service",
        {
            COMPOSE: _WEB,
            OVERRIDE: "include: [i.yaml]\n",
            "i.yaml": services(web="{ports: ['7:7']}"),
        },
    ),
    Case(
        "a dependency that is included",
        {
            COMPOSE: "include: [i.yaml]\n" + services(w="{image: x, depends_on: [db]}"),
            "i.yaml": _DB,
        },
    ),
    # remote
    Case("an image of files", _includes("['oci://x/y']")),
    Case("a repository", _includes("['https://example.invalid/x.git']")),
)
