"""Follow what changes in a cluster: needs nothing of AtlHyper, only `pip install "nats-py[nkeys]"`.

    python follow_cluster.py CLUSTER SEED_FILE [URL]

Subject, headers and body are as docs/reference/asyncapi.yaml describes the channel `frames`; the seed file
is the reader user's, `nats/credentials/reader.nk` under ATLHYPER_HOME.
"""

import asyncio
import gzip
import json
import sys

import nats


async def main(cluster: str, seed_file: str, url: str = "nats://127.0.0.1:4222") -> None:
    async def show(message: nats.aio.msg.Msg) -> None:
        packed = message.headers.get("Content-Encoding") == "gzip"
        frame = json.loads(gzip.decompress(message.data) if packed else message.data)
        for item in frame.get("items", []):
            print(item["op"], item["resource"], item.get("namespace") or "_", item["name"], flush=True)

    client = await nats.connect(url, nkeys_seed=seed_file, inbox_prefix=b"_INBOX_reader")
    await client.subscribe(f"atlhyper.up.kubernetes.{cluster}.snapshot.*", cb=show)
    await client.flush()
    print("following", cluster, file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
