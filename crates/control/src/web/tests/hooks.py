# What schemathesis does not know of the pages: forms have a token, and fields.
import json
import os
import random

import schemathesis

FIELDS = """do text message after reason why plan canaries shadow_minutes canary_minutes min_sessions
min_decisions verdict scope digest stage password code name roles owner minutes role note state answer
credential challenge response person user node session acknowledged""".split()
VALUES = [
    "", "0", "-1", "18446744073709551616", "yes", "approve", "allow", "schema = 1\n", "[", "\x00", "\u202e",
    "a" * 5000, "{}", '{"id":"x","response":{}}', "admin", "sha256:" + "0" * 64,
]


IDS = json.loads(os.environ["LAB_IDS"])


@schemathesis.hook
def before_call(context, case, kwargs):
    chance = random.Random(repr((case.path_parameters, case.query, case.body))[:500] + case.path)
    for name in list(case.path_parameters or {}):
        if name in IDS and chance.random() < 0.7:
            case.path_parameters[name] = IDS[name]
    if case.method != "POST":
        return
    fields = dict(case.body) if isinstance(case.body, dict) else {}
    for name in chance.sample(FIELDS, 6):
        fields[name] = chance.choice(VALUES)
    fields["token"] = os.environ["LAB_TOKEN"]
    case.body = fields
    case.media_type = "application/x-www-form-urlencoded"
