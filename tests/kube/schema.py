"""Asks the API for whatever its own OpenAPI documents say can be asked for, and prints what came of it.

Arguments: the server, the file of its certificate authority, a token, how many requests of each operation.
"""

import collections
import sys

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some
from schemathesis.checks import not_a_server_error

server, authority, token, examples = sys.argv[1:]
session = requests.Session()
session.verify = authority
session.headers["Authorization"] = f"Bearer {token}"
codes = collections.Counter()
# Names that are there, so that not everything that is asked for is absent; and what ends them is asked for last.
names = {"namespace": "default", "name": "web"}
order = ["post", "put", "patch", "get", "delete"]


def ask(operation):
    @settings(
        max_examples=int(examples),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), data=some.data())
    def one(case, data):
        for name in case.path_parameters or {}:
            if data.draw(some.integers(0, 3)):
                case.path_parameters[name] = names[name]
        # Mostly of the right kind and name, so that there is more to refuse than that.
        if isinstance(case.body, dict) and data.draw(some.integers(0, 3)):
            kind = operation.definition.raw["x-kubernetes-group-version-kind"]
            version = "/".join(filter(None, [kind["group"], kind["version"]]))
            case.body |= {"apiVersion": version, "kind": kind["kind"]}
            case.body["metadata"] = {"name": (case.path_parameters or {}).get("name", "web")}
        # A watch ends with what there is, and who applies says who they are.
        case.query = {"fieldManager": "schema", **(case.query or {}), "timeoutSeconds": "0"}
        response = case.call(base_url=server, session=session, verify=authority, timeout=60)
        codes[response.status_code] += 1
        case.validate_response(response, checks=[not_a_server_error])
        if response.status_code >= 400:
            told = response.json()
            assert (told["kind"], told["code"]) == ("Status", response.status_code), response.text

    one()


paths = session.get(f"{server}/openapi/v3").json()["paths"]
operations = []
for path in paths.values():
    document = session.get(server + path["serverRelativeURL"]).json()
    operations += [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
for operation in sorted(operations, key=lambda operation: order.index(operation.method)):
    ask(operation)
print(len(operations), "operations:", ", ".join(f"{count} of {code}" for code, count in sorted(codes.items())))
