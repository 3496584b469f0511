"""WebSocket by the `websockets` library.

    websocket_peer.py server         serves on a free port, which it prints
    websocket_peer.py client PORT    prints one JSON object, scenario to result
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def server():
    async def echo(connection):
        try:
            async for message in connection:
                if message == "close":
                    await connection.close(4001, "as asked")
                    return
                await connection.send(message)
        except ConnectionClosed:
            pass

    async with serve(echo, "127.0.0.1", 0, max_size=None, subprotocols=["chat"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


async def client(port):
    results = {}
    async with connect(f"ws://127.0.0.1:{port}/ws", max_size=None, subprotocols=["chat"]) as connection:
        results["subprotocol"] = connection.subprotocol
        for name, message in [("text", "h\u00e9llo"), ("binary", b"\x00\xff"), ("empty", ""), ("big", "x" * (1 << 20))]:
            await connection.send(message)
            results[name] = await connection.recv() == message
        await asyncio.wait_for(await connection.ping(), 5)
        results["ping"] = True
        await connection.send("close")
        try:
            await connection.recv()
        except ConnectionClosed as closed:
            results["closed by server"] = [closed.rcvd.code, closed.rcvd.reason]
    async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["chat"]) as connection:
        await connection.close(4002, "client")
        results["closed by client"] = connection.close_code
    try:
        async with connect(f"ws://127.0.0.1:{port}/denied"):
            results["denied"] = "connected"
    except InvalidStatus as refused:
        results["denied"] = refused.response.status_code
    print(json.dumps(results))


asyncio.run(server() if sys.argv[1] == "server" else client(sys.argv[2]))
