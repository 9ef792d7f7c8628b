"""Leads what Schemathesis makes up to what is there: random ids would be answered with 404 only."""

import atexit
import json
import os
import random
from collections import defaultdict

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

DICE = random.Random(1)
KNOWN = json.loads(os.environ["SKEP_KNOWN"])
WITHIN = ("/values/", "/objects/", "/secrets/", "/tags/", "/tails/")


def kind(path, name):
    """As `kind` in tests/harness/accounts.rs."""
    if name == "namespace":
        return "kv" if "/kv/" in path else "objects" if "/durable_objects/" in path else "dispatch"
    if name == "secret":
        return "worker_secret" if "/secrets/" in path else "tail_secret"
    return name


@schemathesis.hook
def before_call(context, case, kwargs):
    if not case.path_parameters:
        return
    if case.meta is not None and case.meta.is_negative_at(ParameterLocation.PATH):
        return
    path = case.operation.path
    # Whose things are named: mostly one's own. What all else hangs on is not deleted.
    chance = DICE.random()
    keeps = case.method != "DELETE" or any(part in path for part in WITHIN)
    whose = "own" if keeps and chance < 0.85 else "other" if chance < 0.95 else None
    for name in list(case.path_parameters):
        if name == "account":
            case.path_parameters[name] = KNOWN["account"]
        elif whose is not None and kind(path, name) in KNOWN[whose]:
            case.path_parameters[name] = KNOWN[whose][kind(path, name)]
        elif not keeps and case.path_parameters[name] in KNOWN["own"].values():
            # Schemathesis remembers the ids that it saw in answers.
            case.path_parameters[name] = "gone"


seen = defaultdict(set)


@schemathesis.hook
def after_call(context, case, response):
    seen[f"{case.method} {case.operation.path}"].add(response.status_code)


@atexit.register
def report():
    with open(os.environ["SKEP_SEEN"], "w") as file:
        json.dump({name: sorted(statuses) for name, statuses in seen.items()}, file)


def enforces(response, authenticated):
    """Whether a request without a right token was refused: by Cloudflare's 400 and 9106 where it has none, and by the
    limit on wrong tokens, too, beside what HTTP says."""
    return response.status_code in (401, 403, 429) or (
        response.status_code == 400 and b'"code":9106' in response.content
    )


checks._enforces_auth = enforces


@schemathesis.deserializer("application/octet-stream", "application/sql", "application/javascript", "multipart/form-data")
def content(context, response):
    return {}
