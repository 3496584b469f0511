"""WebSocket by the `websockets` library.

    websocket_peer.py server              serves on a free port, which it prints
    websocket_peer.py client PORT         prints one JSON object, scenario to result
    websocket_peer.py client PORT PATH    prints the status with which the path is refused
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def server():
    closes = asyncio.Queue()

    async def echo(connection):
        try:
            async for message in connection:
                if message == "last close":
                    await connection.send(str(await asyncio.wait_for(closes.get(), 5)))
                    continue
                if message == "ping me":
                    await asyncio.wait_for(await connection.ping(b"data"), 5)
                    await connection.send("ponged")
                    continue
                if message == "close":
                    await connection.close(4001, "as asked")
                    return
                await connection.send(message)
        except ConnectionClosed:
            pass
        if connection.close_code != 1000:
            closes.put_nowait([connection.close_code, connection.close_reason])

    async with serve(echo, "127.0.0.1", 0, max_size=None, subprotocols=["chat"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


async def client(port):
    results = {}
    async with connect(f"ws://127.0.0.1:{port}/ws", max_size=None, subprotocols=["chat"]) as connection:
        results["subprotocol"] = connection.subprotocol
        messages = {"text": "h\u00e9llo", "binary": b"\x00\xff", "empty": "", "big": "x" * (1 << 20)}
        messages["big binary"] = bytes(range(256)) * 4096
        for name, message in messages.items():
            await connection.send(message)
            results[name] = await connection.recv() == message
        await asyncio.wait_for(await connection.ping(), 5)
        results["ping"] = True
        await connection.send("ping me")
        results["ping by server"] = await connection.recv()
        await connection.send("close")
        try:
            await connection.recv()
        except ConnectionClosed as closed:
            results["closed by server"] = [closed.rcvd.code, closed.rcvd.reason]
    async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["chat"]) as connection:
        await connection.close(4002, "by the client")
        results["closed by client"] = connection.close_code
    async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["chat"]) as connection:
        await connection.send("last close")
        results["server saw"] = await connection.recv()
    results["denied"] = await refusal(port, "/denied")
    print(json.dumps(results))


async def refusal(port, path):
    try:
        async with connect(f"ws://127.0.0.1:{port}{path}"):
            return "connected"
    except InvalidStatus as refused:
        return refused.response.status_code


async def print_refusal(port, path):
    print(json.dumps(await refusal(port, path)))


if sys.argv[1] == "server":
    asyncio.run(server())
else:
    asyncio.run(client(sys.argv[2]) if len(sys.argv) == 3 else print_refusal(*sys.argv[2:]))
