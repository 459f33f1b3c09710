"""Checks a signature of AWS: reads a request as JSON, prints `ok` or what differs."""

import hashlib
import hmac
import json
import sys
from urllib.parse import quote, unquote

request = json.load(sys.stdin)
fields = {}
for name, value in request["headers"]:
    fields.setdefault(name.lower(), []).append(" ".join(value.split()))
scheme, rest = fields["authorization"][0].split(" ", 1)
assert scheme == "AWS4-HMAC-SHA256", scheme
said = dict(part.strip().split("=", 1) for part in rest.split(","))
key, date, region, service, end = said["Credential"].split("/")
path, _, query = request["target"].partition("?")
if service == "s3":
    path = quote(unquote(path), safe="/-_.~")
else:
    path = quote(path, safe="/-_.~")
pairs = [part.partition("=") for part in query.split("&") if part]
pairs = sorted((quote(unquote(n), safe="-_.~"), quote(unquote(v), safe="-_.~")) for n, _, v in pairs)
names = said["SignedHeaders"].split(";")
body = hashlib.sha256(request["body"].encode()).hexdigest()
content = fields.get("x-amz-content-sha256", [body])[0]
text = "\n".join(
    [request["method"], path, "&".join(f"{n}={v}" for n, v in pairs)]
    + [f"{name}:{','.join(fields[name])}" for name in names]
    + ["", said["SignedHeaders"], content]
)
scope = f"{date}/{region}/{service}/{end}"
text = "\n".join([scheme, fields["x-amz-date"][0], scope, hashlib.sha256(text.encode()).hexdigest()])
secret = ("AWS4" + request["secret"]).encode()
for step in (date, region, service, end):
    secret = hmac.new(secret, step.encode(), "sha256").digest()
signature = hmac.new(secret, text.encode(), "sha256").hexdigest()
print("ok" if signature == said["Signature"] and "host" in names else f"differs: {request}")
