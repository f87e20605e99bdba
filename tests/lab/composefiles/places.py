"""Where a project is: its files, its `.env`, its name and its profiles."""

from __future__ import annotations

from tests.lab.composefiles.case import COMPOSE, OVERRIDE, Case, service, services


def _web(port: str, name: str = "web") -> str:
    return service(f"'{port}'", name=name)


_ONE, _OTHER = _web("80:80", "a"), _web("81:80", "b")
_VARIABLE = _web("${P:-1}:${Q:-2}")
_PROFILES = {
    COMPOSE: services(
        a="{image: x, ports: ['1:1']}",
        b="{image: x, ports: ['2:1'], profiles: [p]}",
        c="{image: x, ports: ['3:1'], profiles: [q, r]}",
        d="{image: x, ports: ['4:1'], profiles: []}",
    )
}

CASES = (
    # default names
    Case("compose.yml", {"compose.yml": _ONE, "docker-compose.yml": _OTHER}),
    Case("compose.yaml", {"compose.yml": _ONE, COMPOSE: _OTHER}),
    Case("docker-compose.yml", {"docker-compose.yaml": _ONE, "docker-compose.yml": _OTHER}),
    Case("docker-compose.yaml", {"docker-compose.yaml": _ONE}),
    Case("an override", {COMPOSE: _ONE, OVERRIDE: _OTHER}),
    Case(
        "an override of another name",
        {"docker-compose.yaml": _ONE, "compose.override.yml": _OTHER},
    ),
    Case(
        "two overrides",
        {
            COMPOSE: _ONE,
            "docker-compose.override.yml": _OTHER,
            "compose.override.yml": _web("82:80", "c"),
        },
    ),
    Case(
        "two spellings of the override",
        {COMPOSE: _ONE, OVERRIDE: _OTHER, "compose.override.yml": _web("82:80", "c")},
    ),
    Case("-f has no override", {COMPOSE: _ONE, OVERRIDE: _OTHER}, ("-f", COMPOSE)),
    Case("above", {COMPOSE: _ONE, OVERRIDE: _OTHER, "sub/x": ""}, where="sub"),
    Case("nowhere", {"x": ""}),
    # -f and COMPOSE_FILE
    Case("-f twice", {"a.yaml": _ONE, "b.yaml": _OTHER}, ("-f", "a.yaml", "-f", "b.yaml")),
    Case("-f twice the same", {"a.yaml": _ONE}, ("-f", "a.yaml", "-f", "a.yaml")),
    Case("-f above", {"a.yaml": _ONE, "sub/x": ""}, ("-f", "../a.yaml"), where="sub"),
    Case("-f of no file", {"x": ""}, ("-f", "nope.yaml")),
    Case("-f of a directory", {"x/y": ""}, ("-f", "x")),
    Case(
        "-f in two directories",
        {
            "a/c.yaml": _VARIABLE,
            "b/d.yaml": _OTHER,
            "a/.env": "P=5",
            "b/.env": "P=7",
            ".env": "P=6",
        },
        ("-f", "a/c.yaml", "-f", "b/d.yaml"),
    ),
    Case(
        "COMPOSE_FILE",
        {"a.yaml": _ONE, "b.yaml": _OTHER, COMPOSE: _VARIABLE},
        environ={"COMPOSE_FILE": "a.yaml:b.yaml"},
    ),
    Case(
        "COMPOSE_PATH_SEPARATOR",
        {"a.yaml": _ONE, "b.yaml": _OTHER},
        environ={"COMPOSE_FILE": "a.yaml;b.yaml", "COMPOSE_PATH_SEPARATOR": ";"},
    ),
    Case(
        "-f over COMPOSE_FILE",
        {"a.yaml": _ONE, "b.yaml": _OTHER},
        ("-f", "b.yaml"),
        {"COMPOSE_FILE": "a.yaml"},
    ),
    Case("an empty COMPOSE_FILE", {COMPOSE: _ONE}, environ={"COMPOSE_FILE": ""}),
    Case("a COMPOSE_FILE of no file", {COMPOSE: _ONE}, environ={"COMPOSE_FILE": "nope"}),
    Case("a COMPOSE_FILE with an end", {COMPOSE: _ONE}, environ={"COMPOSE_FILE": "compose.yaml:"}),
    Case(
        "COMPOSE_FILE in .env",
        {
            "a.yaml": _ONE,
            "b.yaml": _OTHER,
            ".env": "COMPOSE_FILE=a.yaml;b.yaml\nCOMPOSE_PATH_SEPARATOR=;",
        },
    ),
    Case(
        "COMPOSE_FILE in .env, from below",
        {COMPOSE: _OTHER, "a.yaml": _ONE, ".env": "COMPOSE_FILE=a.yaml", "sub/x": ""},
        where="sub",
    ),
    Case(
        "COMPOSE_FILE beside another .env",
        {"d/a.yaml": _VARIABLE, ".env": "COMPOSE_FILE=d/a.yaml\nP=8", "d/.env": "P=9\nQ=10"},
    ),
    # .env
    Case(".env", {COMPOSE: _VARIABLE, ".env": "P=5"}),
    Case(".env from below", {COMPOSE: _VARIABLE, ".env": "P=5", "sub/x": ""}, where="sub"),
    Case(
        ".env below is not read",
        {COMPOSE: _VARIABLE, ".env": "P=5", "sub/.env": "P=6\nQ=7"},
        where="sub",
    ),
    Case("the environment over .env", {COMPOSE: _VARIABLE, ".env": "P=5"}, environ={"P": "7"}),
    Case("an empty one over .env", {COMPOSE: _VARIABLE, ".env": "P=5"}, environ={"P": ""}),
    Case(".env that is a directory", {COMPOSE: _VARIABLE, ".env/x": "P=5"}),
    Case(".env that makes no sense", {COMPOSE: _ONE, ".env": "A B=1"}),
    Case(
        "COMPOSE_ENV_FILES",
        {COMPOSE: _VARIABLE, ".env": "P=5\nQ=5", "one": "P=6", "two": "Q=$P$P"},
        environ={"COMPOSE_ENV_FILES": "one,two"},
    ),
    Case(
        "COMPOSE_ENV_FILES of no file",
        {COMPOSE: _VARIABLE, ".env": "P=5"},
        environ={"COMPOSE_ENV_FILES": "one"},
    ),
    Case(
        "COMPOSE_ENV_FILES in .env",
        {COMPOSE: _VARIABLE, ".env": "P=5\nCOMPOSE_ENV_FILES=one", "one": "P=6"},
    ),
    *(
        Case(
            f"COMPOSE_DISABLE_ENV_FILE={value}",
            {COMPOSE: _VARIABLE, ".env": "P=5"},
            environ={"COMPOSE_DISABLE_ENV_FILE": value},
        )
        for value in ("1", "true", "0", "maybe", "")
    ),
    # the project's name
    Case("-p", {COMPOSE: _ONE}, ("-p", "foo")),
    Case("-p of no name", {COMPOSE: _ONE}, ("-p", "Foo")),
    *(
        Case(f"name: {name}", {COMPOSE: f"name: {name}\n{_ONE}"})
        for name in ("bar", "Bar", "b${X:-ar}", "''", "5", "[a]", "__", "")
    ),
    Case("a name in both files", {COMPOSE: f"name: bar\n{_ONE}", OVERRIDE: "name: baz\n"}),
    Case("a name over name:", {COMPOSE: f"name: bar\n{_ONE}"}, ("-p", "foo")),
    *(
        Case(
            f"COMPOSE_PROJECT_NAME={name}",
            {COMPOSE: f"name: bar\n{_ONE}"},
            environ={"COMPOSE_PROJECT_NAME": name},
        )
        for name in ("env", "E V", "")
    ),
    Case("a name in .env", {COMPOSE: f"name: bar\n{_ONE}", ".env": "COMPOSE_PROJECT_NAME=dot"}),
    *(
        Case(f"a directory {name}", {f"{name}/{COMPOSE}": _ONE}, where=name)
        for name in ("My_-. Dir", "_x-Y", "__", "é")
    ),
    Case("the directory of -f", {"Dee/c.yaml": _ONE}, ("-f", "Dee/c.yaml")),
    # profiles
    Case("no profile", _PROFILES),
    Case("a profile", _PROFILES, ("--profile", "p")),
    Case("two profiles", _PROFILES, ("--profile", "p", "--profile", "r")),
    Case("every profile", _PROFILES, ("--profile", "*")),
    Case("no such profile", _PROFILES, ("--profile", "zz")),
    Case("a comma in a profile", _PROFILES, ("--profile", "p,q")),
    Case("an empty profile", _PROFILES, ("--profile", "")),
    Case("COMPOSE_PROFILES", _PROFILES, environ={"COMPOSE_PROFILES": "p, q"}),
    Case("COMPOSE_PROFILES=*", _PROFILES, environ={"COMPOSE_PROFILES": "*"}),
    Case("both", _PROFILES, ("--profile", "p"), {"COMPOSE_PROFILES": "q"}),
    Case("COMPOSE_PROFILES in .env", {**_PROFILES, ".env": "COMPOSE_PROFILES=p"}),
    Case(
        "profiles of two files",
        {**_PROFILES, OVERRIDE: "services: {b: {profiles: [z]}}\n"},
        ("--profile", "z"),
    ),
    Case("profiles that are a text", {COMPOSE: services(a="{image: x, profiles: p}")}),
    Case("profiles that are numbers", {COMPOSE: services(a="{image: x, profiles: [1]}")}),
    Case("nothing enabled", {COMPOSE: services(a="{image: x, profiles: [p], ports: ['1:1']}")}),
    Case(
        "a bad port that is not enabled",
        {COMPOSE: services(a="{image: x, profiles: [p], ports: [z]}")},
    ),
    Case(
        "a dependency does not enable",
        {
            COMPOSE: services(
                a="{image: x, depends_on: {b: {condition: service_started, required: false}}}",
                b="{image: x, profiles: [p], ports: ['80:80']}",
            )
        },
    ),
)
