# Drives the official Python SDK against the API named by the environment, with every reply checked against the SDK's
# types. Prints one JSON object of what it saw.
import json
import os

import cloudflare
from cloudflare import Cloudflare

account = os.environ["CLOUDFLARE_ACCOUNT_ID"]
client = Cloudflare(
    api_token=os.environ["CLOUDFLARE_API_TOKEN"],
    base_url=os.environ["CLOUDFLARE_API_BASE_URL"],
    _strict_response_validation=True,
)
seen = {}


def status(call):
    try:
        call()
        return "200"
    except cloudflare.APIStatusError as error:
        return f"{error.status_code} {error.body['errors'][0]['code']}"


def code(text):
    return f"export default {{ fetch() {{ return new Response('{text}') }}, queue() {{}} }}".encode()


def module(text):
    return [("index.js", code(text), "application/javascript+module")]


# Scripts
metadata = {
    "main_module": "index.js",
    "compatibility_date": "2026-07-01",
    "bindings": [{"type": "plain_text", "name": "A", "text": "b"}],
}
scripts = client.workers.scripts
scripts.update("from-python", account_id=account, metadata=metadata, files=module("from Python"))
scripts.subdomain.create("from-python", account_id=account, enabled=True)
seen["scripts"] = [script.id for script in scripts.list(account_id=account)]
scripts.secrets.update("from-python", account_id=account, name="S", text="hush", type="secret_text")
seen["secrets"] = [secret.name for secret in scripts.secrets.list("from-python", account_id=account)]
seen["settings"] = scripts.settings.get("from-python", account_id=account).logpush
scripts.schedules.update("from-python", account_id=account, body=[{"cron": "0 4 * * *"}])
seen["schedules"] = [s.cron for s in scripts.schedules.get("from-python", account_id=account).schedules]
seen["missing"] = status(lambda: scripts.settings.get("nothing", account_id=account))

# KV
kv = client.kv.namespaces.create(account_id=account, title="python")
client.kv.namespaces.values.update("k", account_id=account, namespace_id=kv.id, value=b"v", metadata='{"x": 1}')
seen["kv"] = client.kv.namespaces.values.get("k", account_id=account, namespace_id=kv.id).read().decode()
seen["keys"] = [key.name for key in client.kv.namespaces.keys.list(kv.id, account_id=account)]
seen["namespaces"] = [namespace.title for namespace in client.kv.namespaces.list(account_id=account)]
client.kv.namespaces.values.delete("k", account_id=account, namespace_id=kv.id)
client.kv.namespaces.delete(kv.id, account_id=account)

# R2
client.r2.buckets.create(account_id=account, name="python-bucket")
seen["buckets"] = [bucket.name for bucket in client.r2.buckets.list(account_id=account).buckets]
client.r2.buckets.delete("python-bucket", account_id=account)

# D1
d1 = client.d1.database.create(account_id=account, name="python-db")
result = next(iter(client.d1.database.query(d1.uuid, account_id=account, sql="SELECT ? AS n", params=["5"])))
seen["d1"] = [result.results, result.meta.changes]
seen["databases"] = [database.name for database in client.d1.database.list(account_id=account)]
client.d1.database.delete(d1.uuid, account_id=account)

# Queues
queue = client.queues.create(account_id=account, queue_name="python-queue")
client.queues.messages.push(queue.queue_id, account_id=account, body="hello", content_type="text")
seen["queues"] = [queue.queue_name for queue in client.queues.list(account_id=account)]
consumer = client.queues.consumers.create(
    queue.queue_id, account_id=account, type="worker", script_name="from-python", settings={"batch_size": 5}
)
seen["consumers"] = [consumer.type for consumer in client.queues.consumers.list(queue.queue_id, account_id=account)]
client.queues.delete(queue.queue_id, account_id=account)

# Workers for Platforms
namespaces = client.workers_for_platforms.dispatch.namespaces
namespaces.create(account_id=account, name="python-tenants")
seen["dispatch"] = [namespace.namespace_name for namespace in namespaces.list(account_id=account)]
place = {"account_id": account, "dispatch_namespace": "python-tenants"}
namespaces.scripts.update("tenant", **place, metadata=metadata, files=module("tenant"))
seen["tenant"] = namespaces.scripts.get("tenant", **place).script.id
seen["tenant_bindings"] = [binding.name for binding in namespaces.scripts.bindings.get("tenant", **place)]
namespaces.scripts.secrets.update("tenant", **place, name="S", text="hush", type="secret_text")
seen["tenant_secrets"] = [secret.name for secret in namespaces.scripts.secrets.list("tenant", **place)]
namespaces.scripts.delete("tenant", **place)
namespaces.delete("python-tenants", account_id=account)

seen["verified"] = client.user.tokens.verify().status
print(json.dumps(seen))
