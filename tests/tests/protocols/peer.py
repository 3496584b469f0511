"""Real clients and servers for the protocol tests: grpcio and websockets.

usage: peer.py grpc-server | grpc-client PORT | ws-server | ws-client PORT
A server prints its port; a client prints one JSON object, scenario to result.
"""

import asyncio
import json
import sys
import threading
import time
from concurrent import futures


def as_is(data):
    return data


# --- gRPC -------------------------------------------------------------------------------------------------------


def grpc_server():
    import grpc

    cancelled = threading.Event()

    def unary(request, context):
        metadata = dict(context.invocation_metadata())
        if "x-fail" in metadata:
            context.set_trailing_metadata((("x-why", "asked"),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100% \u00e9")
        if "x-sleep" in metadata:
            time.sleep(float(metadata["x-sleep"]))
        context.send_initial_metadata((("x-hello", metadata.get("x-name", "nobody")),))
        context.set_trailing_metadata((("x-bye", "now"), ("x-data-bin", b"\x00\x01\xff")))
        return request

    def numbers(request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def total(requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def echo(requests, context):
        for request in requests:
            yield request

    def endless(request, context):
        context.add_callback(cancelled.set)
        number = 0
        while context.is_active() and number < 2000:
            yield str(number).encode()
            number += 1
            time.sleep(0.01)

    def was_cancelled(request, context):
        return b"yes" if cancelled.wait(3) else b"no"

    def handler(kind, function):
        return kind(function, request_deserializer=as_is, response_serializer=as_is)

    methods = {
        "Unary": handler(grpc.unary_unary_rpc_method_handler, unary),
        "Numbers": handler(grpc.unary_stream_rpc_method_handler, numbers),
        "Total": handler(grpc.stream_unary_rpc_method_handler, total),
        "Echo": handler(grpc.stream_stream_rpc_method_handler, echo),
        "Endless": handler(grpc.unary_stream_rpc_method_handler, endless),
        "WasCancelled": handler(grpc.unary_unary_rpc_method_handler, was_cancelled),
    }
    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def grpc_client(port):
    import grpc

    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
    grpc.channel_ready_future(channel).result(timeout=10)

    def method(kind, name):
        return getattr(channel, kind)(f"/{name}", request_serializer=as_is, response_deserializer=as_is)

    unary = method("unary_unary", "test.Test/Unary")
    numbers = method("unary_stream", "test.Test/Numbers")
    total = method("stream_unary", "test.Test/Total")
    echo = method("stream_stream", "test.Test/Echo")
    endless = method("unary_stream", "test.Test/Endless")
    was_cancelled = method("unary_unary", "test.Test/WasCancelled")

    def own(metadata):
        return sorted([key, value if isinstance(value, str) else list(value)] for key, value in metadata if key.startswith("x-") and not key.startswith("x-envoy"))

    def outcome(action):
        try:
            return action()
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details(), "trailers": own(error.trailing_metadata() or ())}

    def unary_with_metadata():
        answer, call = unary.with_call(b"ping", metadata=(("x-name", "test"),), timeout=10)
        return [answer.decode(), own(call.initial_metadata()), own(call.trailing_metadata()), call.code().name]

    def back_and_forth():
        received = []
        condition = threading.Event()

        def requests():
            for number in range(20):
                yield f"{number}".encode()
                # The next request is sent only after the answer to this one: no side may hold data back.
                if not condition.wait(5):
                    return
                condition.clear()

        for answer in echo(requests(), timeout=20):
            received.append(answer.decode())
            condition.set()
        return received

    def cancel():
        call = endless(b"")
        first = [next(call).decode() for _ in range(3)]
        call.cancel()
        return [first, was_cancelled(b"", timeout=10).decode()]

    big = bytes(range(256)) * (4 << 12)
    results = {
        "unary": outcome(unary_with_metadata),
        "empty": outcome(lambda: len(unary(b"", timeout=10))),
        "big": outcome(lambda: unary(big, timeout=30) == big),
        "error": outcome(lambda: unary(b"x", metadata=(("x-fail", "1"),), timeout=10)),
        "server streaming": outcome(lambda: [n.decode() for n in numbers(b"500", timeout=20)] == [str(n) for n in range(500)]),
        "no messages": outcome(lambda: [n.decode() for n in numbers(b"0", timeout=20)]),
        "client streaming": outcome(lambda: total((b"x" * 1000 for _ in range(1000)), timeout=30).decode()),
        "bidirectional": outcome(back_and_forth),
        "deadline": outcome(lambda: unary(b"", metadata=(("x-sleep", "2"),), timeout=0.3))["code"],
        "route timeout": outcome(lambda: unary(b"", metadata=(("x-sleep", "2"), ("x-route", "quick")), timeout=10)),
        "cancel": outcome(cancel),
        "unknown method": outcome(lambda: method("unary_unary", "test.Test/None")(b"", timeout=10))["code"],
        "no route": outcome(lambda: method("unary_unary", "other.Service/None")(b"", timeout=10)),
        "backend away": outcome(lambda: unary(b"", metadata=(("x-route", "gone"),), timeout=10))["code"],
    }
    with futures.ThreadPoolExecutor(20) as pool:
        many = [pool.submit(unary, str(number).encode(), timeout=30) for number in range(500)]
        results["many"] = all(call.result() == str(number).encode() for number, call in enumerate(many))
    print(json.dumps(results))


# --- WebSocket --------------------------------------------------------------------------------------------------


async def ws_server():
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

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


async def ws_client(port):
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus

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


def main():
    what, *rest = sys.argv[1:]
    if what == "grpc-server":
        grpc_server()
    elif what == "grpc-client":
        grpc_client(rest[0])
    elif what == "ws-server":
        asyncio.run(ws_server())
    elif what == "ws-client":
        asyncio.run(ws_client(rest[0]))
    else:
        sys.exit(__doc__)


main()
