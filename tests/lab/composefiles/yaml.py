"""What YAML has: anchors, merge keys, tags, several documents; and what is no compose file."""

from __future__ import annotations

from tests.lab.composefiles.case import COMPOSE, OVERRIDE, Case, service, services

_TWO = service('"80:80"', '"81:81"')
_NEWER = "compose may know keys that this reader does not: a note names them"
_NOT_OURS = "this reader looks at what concerns ports: compose will refuse it by itself"

CASES = (
    # anchors and merge keys
    Case(
        "anchors",
        {
            COMPOSE: "x-p: &p\n  image: x\n  ports: ['80:80']\n"
            "services:\n  a:\n    <<: *p\n  b:\n    <<: *p\n    ports: ['81:80']\n  c: *p\n"
        },
    ),
    Case(
        "a list to merge",
        {
            COMPOSE: "x-p: &p {image: x, ports: ['80:80']}\nx-q: &q {scale: 2, ports: ['90:80']}\n"
            "services:\n  a:\n    <<: [*p, *q]\n"
        },
    ),
    Case(
        "a merge of a merge",
        {
            COMPOSE: "x-p: &p {image: x, ports: ['80:80']}\nx-q: &q {<<: *p, scale: 2}\n"
            "services:\n  a:\n    scale: 3\n    <<: *q\n"
        },
    ),
    Case(
        "an anchored entry",
        {COMPOSE: "x-p: &p '80:80'\nservices:\n  a: {image: x, ports: [*p]}\n"},
    ),
    Case(
        "an anchored list",
        {COMPOSE: "services:\n  a: {image: x, ports: &p ['80:80']}\n  b: {image: x, ports: *p}\n"},
    ),
    Case("a merge of a text", {COMPOSE: "services:\n  a:\n    <<: foo\n"}),
    Case("no such anchor", {COMPOSE: "services:\n  a: *p\n"}),
    Case("an anchor in itself", {COMPOSE: "services: &s\n  a: *s\n"}),
    # several documents
    Case("two documents", {COMPOSE: service('"80:80"') + "---\n" + service('"81:81"')}),
    Case(
        "a document that overrides",
        {COMPOSE: service('"80:80"') + "---\nservices: {web: {ports: !override ['82:82']}}\n"},
    ),
    # !override and !reset
    *(
        Case(f"over two ports: {text}", {COMPOSE: _TWO, OVERRIDE: text})
        for text in (
            "services: {web: {ports: !override ['82:82']}}\n",
            "services: {web: {ports: !reset []}}\n",
            "services: {web: {ports: !reset null}}\n",
            "services: {web: {ports: !reset ['90:90']}}\n",
            "services: {web: {ports: [!reset '80:80']}}\n",
            "services: {web: !reset null}\n",
            "services: {web: !override {image: y, ports: ['90:90']}}\n",
            "services: !override {db: {image: y, ports: ['90:90']}}\n",
            "services: !reset null\n",
            "services: {web: {ports: null}}\n",
            "services: {web: {ports: []}}\n",
            "services: {web: {ports: '80:80'}}\n",
            "services: {web: {scale: 2, network_mode: host}}\n",
            "services: {web: null}\n",
            "services: {}\n",
            "services:\n",
            "{}\n",
        )
    ),
    Case("!override in the first file", {COMPOSE: service(more="    ports: !override [80]\n")}),
    Case(
        "replicas over replicas",
        {
            COMPOSE: service(more="    deploy: {replicas: 2}\n"),
            OVERRIDE: service(more="    deploy: {replicas: 3}\n"),
        },
    ),
    Case(
        "replicas forgotten",
        {
            COMPOSE: service(more="    deploy: {replicas: 2}\n"),
            OVERRIDE: "services: {web: {deploy: !reset null}}\n",
        },
    ),
    # scale, replicas, network_mode
    *(
        Case(f"a service with {text}", {COMPOSE: service('"80:80"', more=f"    {text}\n")})
        for text in (
            "scale: 3",
            "scale: '3'",
            "scale: 0",
            "scale: 2.0",
            "scale: a",
            "scale:",
            "deploy: {replicas: 3}",
            "deploy: {replicas: 0}",
            "deploy: {replicas: 1.5}",
            "deploy: {replicas: }",
            "deploy: {mode: global}",
            "deploy:",
            "deploy: [1]",
            "network_mode: host",
            "network_mode: none",
            "network_mode: ''",
            "network_mode: 5",
        )
    ),
    Case("both the same", {COMPOSE: service(more="    scale: 3\n    deploy: {replicas: 3}\n")}),
    Case("both different", {COMPOSE: service(more="    scale: 2\n    deploy: {replicas: 3}\n")}),
    Case(
        "the network of a service",
        {COMPOSE: services(a="{image: x, network_mode: 'service:b'}", b="{image: x, ports: [80]}")},
    ),
    # names and keys
    Case("a dotted name", {COMPOSE: service('"80:80"', name="a.b-c_D")}),
    Case("a name with a blank", {COMPOSE: service(name="'a b'")}),
    Case("a number as a name", {COMPOSE: service(name="1")}),
    Case("a quoted number as a name", {COMPOSE: service('"1:1"', name="'1'")}),
    Case("yes as a name", {COMPOSE: service('"1:1"', name="yes")}),
    Case("true as a name", {COMPOSE: service('"1:1"', name="true")}),
    Case("an extension as a name", {COMPOSE: service('"1:1"', name="x-web")}),
    Case("a key twice", {COMPOSE: "services:\n  a: {image: x}\n  a: {image: y}\n"}),
    Case("a version", {COMPOSE: "version: '3.8'\n" + service('"80:80"')}),
    Case("extensions", {COMPOSE: "x-a: 1\n" + service("80", more="    x-b: [1]\n")}),
    Case("a quoted scalar", {COMPOSE: service('"80:80"', more='    "network_mode": "host"\n')}),
    Case("flow style", {COMPOSE: '{"services": {"web": {"image": "x", "ports": ["80:80"]}}}'}),
    Case("a byte order mark", {COMPOSE: "\ufeff" + service('"80:80"')}),
    Case("carriage returns", {COMPOSE: service('"80:80"').replace("\n", "\r\n")}),
    Case("a directive", {COMPOSE: "%YAML 1.1\n---\n" + service("22:22")}),
    # what is no compose file
    *(
        Case(f"a file of {text!r}", {COMPOSE: text})
        for text in (
            "",
            "# nothing\n",
            "---\n",
            "null\n",
            "abc\n",
            "- a\n",
            "name: foo\n",
            "services:\n",
            "services: [a]\n",
            "services:\n  web:\n",
            "services:\n  web: x\n",
            "services: [\n",
            "services:\n\tweb: 1\n",
            "a: b: c\n",
            "services: {}\n",
            "'unterminated\n",
            "? [a]\n: b\n",
            "a: &b\n- *c\n",
            "@\n",
            '{"services": {"web": {"image": "\\ud83d\\ude00"}}}',
        )
    ),
    # what differs on purpose
    Case("an unknown key at the top", {COMPOSE: "foo: 1\n" + service()}, ours_only=_NEWER),
    Case("an unknown key", {COMPOSE: service("80", more="    prots: [80]\n")}, ours_only=_NEWER),
    Case("version 1", {COMPOSE: "web:\n  image: x\n"}, ours_only=_NEWER),
    Case("no image", {COMPOSE: services(a="{ports: [80]}")}, ours_only=_NOT_OURS),
    Case(
        "a dependency that is not there",
        {COMPOSE: services(a="{image: x, depends_on: [b]}")},
        ours_only=_NOT_OURS,
    ),
    Case(
        "host network and networks",
        {COMPOSE: service(more="    network_mode: host\n    networks: [default]\n")},
        ours_only=_NOT_OURS,
    ),
    Case(
        "many levels",
        {COMPOSE: "x-a: " + "[" * 70 + "]" * 70 + "\n" + service("80")},
        theirs_only="what nobody writes is refused, since it may be meant to take for ever",
    ),
)
