"""Takes a backup of one cluster through Backstay's NATS API, with nothing but nats-py (see protocol/README.md).

    python backup.py nats://USER:PASSWORD@HOST:4222 CLUSTER

Prints, as one JSON object, what it learnt on the way; a test reads that.
"""

import asyncio
import json
import sys
import time

import nats

API = "backstay.v1.api"
OK = 1
PATIENCE = 60


class Refused(Exception):
    """The coordinator's error: a code and a text."""

    def __init__(self, error):
        super().__init__(error["text"])
        self.code = error["code"]


async def ask(client, verb, kind, **request):
    """One request; the result, or the error as an exception."""
    reply = await client.request(f"{API}.{verb}.{kind}", json.dumps(request).encode(), timeout=20)
    answer = json.loads(reply.data)
    if answer.get("error"):
        raise Refused(answer["error"])
    return answer["result"]


async def get(client, kind, **request):
    """Every resource that is asked for, page by page."""
    items = []
    while True:
        page = await ask(client, "get", kind, **request)
        items += page["items"]
        if not page.get("next"):
            return items
        request["after"] = page["next"]


async def service(client, question):
    """What the service says of itself: PING, INFO or STATS."""
    return json.loads((await client.request(f"$SRV.{question}.backstay", b"", timeout=5)).data)


def manual_backup(cluster):
    metadata = {"namespace": "ephemeral", "type": "EtcdManualBackups.omni.sidero.dev", "id": cluster}
    return {"metadata": metadata, "spec": {"backupat": {"seconds": int(time.time()), "nanos": 0}}}


async def until_ok(client, cluster):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            status = (await get(client, "etcdbackupstatuses", id=cluster))[0]["spec"]
            if status["status"] == OK:
                return status
        except Refused as refused:
            # No attempt has been made yet.
            if refused.code != "not_found":
                raise
            status = None
        if time.monotonic() > deadline:
            raise TimeoutError(f"the status is {status}")
        await asyncio.sleep(0.2)


async def main(url, cluster):
    client = await nats.connect(url)
    try:
        told = {"ping": await service(client, "PING"), "info": await service(client, "INFO")}
        told["types"] = {
            kind: [item["metadata"]["id"] for item in await get(client, kind)]
            for kind in ("clusters", "clusteruuids", "etcdbackups3configs", "etcdbackupoverallstatuses")
        }
        told["applied"] = await ask(client, "apply", "etcdmanualbackups", resource=manual_backup(cluster))
        told["status"] = await until_ok(client, cluster)
        told["backups"] = await get(client, "etcdbackups", selector=f"omni.sidero.dev/cluster={cluster}")
        try:
            await ask(client, "apply", "etcdmanualbackups", resource=manual_backup("nowhere"))
        except Refused as refused:
            told["error"] = {"code": refused.code, "text": str(refused)}
        told["stats"] = await service(client, "STATS")
        print(json.dumps(told))
    finally:
        await client.close()


asyncio.run(main(*sys.argv[1:]))
