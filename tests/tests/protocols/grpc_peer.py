"""gRPC by grpcio, without generated code.

    grpc_peer.py server                  serves /test.Peer/METHOD on a free port, which it prints
    grpc_peer.py client PORT             calls the methods and prints one JSON object, scenario to result
    grpc_peer.py client PORT routes      and what only a proxy's routes can decide
"""

import json
import queue
import sys
import threading
import zlib
from concurrent import futures

import grpc

PATIENCE = 20
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# Made by the proxy or different in every run.
VARIABLE = {"x-request-id", "x-envoy-upstream-service-time", "x-forwarded-proto", "date", "user-agent", "server"}

# Calls of Hold by key: set when the call is over.
ended = {}


def echo(request, context):
    """The request. Metadata `x-*` come back as initial and as trailing metadata."""
    mine = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-echo")]
    context.send_initial_metadata([("initial-" + key, value) for key, value in mine])
    context.set_trailing_metadata([("trailing-" + key, value) for key, value in mine])
    return request


def seen(request, context):
    """What arrived besides the message."""
    metadata = [[key, value.hex() if isinstance(value, bytes) else value] for key, value in context.invocation_metadata()]
    return json.dumps(sorted(metadata)).encode()


def count(request, context):
    """"N SIZE": N messages of SIZE bytes."""
    number, size = map(int, request.split())
    for index in range(number):
        yield bytes([index % 251]) * size


def total(requests, context):
    number = size = checksum = 0
    for message in requests:
        number, size, checksum = number + 1, size + len(message), zlib.crc32(message, checksum)
    return f"{number} messages, {size} bytes, {checksum:08x}".encode()


def chat(requests, context):
    for message in requests:
        yield b"re: " + message


def fail(request, context):
    """"CODE": ends with that status, details that need escaping and a binary trailer."""
    context.set_trailing_metadata([("grpc-status-details-bin", b"\x08\x05\x00\xff"), ("x-why", "asked for")])
    context.set_code(next(code for code in grpc.StatusCode if code.value[0] == int(request)))
    context.set_details("no: 100% \u00fcber\nline")
    return b""


def fail_late(request, context):
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "after two")


def hold(request, context):
    """Sends one message, then nothing until the client gives up."""
    over = ended.setdefault(request, threading.Event())
    context.add_callback(over.set)
    yield b"holding"
    over.wait(20)


def hold_silent(request, context):
    over = ended.setdefault(request, threading.Event())
    context.add_callback(over.set)
    over.wait(20)
    return b"too late"


def has_ended(request, context):
    """Whether the call of Hold with this key is over, after a while at most."""
    return b"ended" if ended.setdefault(request, threading.Event()).wait(5) else b"still there"


def check(request, context):
    """grpc.health.v1.Health/Check: one field, the service's name; one field back, 1 for serving."""
    service = request[2:].decode()
    if service == "unknown":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return b"\x08\x02" if service == "down" else b"\x08\x01"


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Seen": grpc.unary_unary_rpc_method_handler(seen),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Hold": grpc.unary_stream_rpc_method_handler(hold),
    "HoldSilent": grpc.unary_unary_rpc_method_handler(hold_silent),
    "HasEnded": grpc.unary_unary_rpc_method_handler(has_ended),
}


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=UNLIMITED)
    health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    handlers = [("test.Peer", METHODS), ("grpc.health.v1.Health", health)]
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(*each) for each in handlers])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


# Of the client.
results = {}


def report(name, value):
    results[name] = value


def path(method):
    return method if method.startswith("/") else f"/test.Peer/{method}"


def pairs(metadata):
    shown = ([key, value.hex() if isinstance(value, bytes) else value] for key, value in metadata or ())
    return sorted(pair for pair in shown if pair[0] not in VARIABLE)


def ending(call):
    """Status and trailers of a call that may have failed."""
    return [call.code().name, call.details(), pairs(call.trailing_metadata())]


def unary(method, message=b"", timeout=PATIENCE, **options):
    """The answer and how the call ended."""
    try:
        answer, call = channel.unary_unary(path(method)).with_call(message, timeout=timeout, **options)
        return answer, ending(call)
    except grpc.RpcError as error:
        return None, ending(error)


def digest(message):
    return f"{len(message)} bytes, {zlib.crc32(message):08x}"


def messages():
    metadata = [("x-echo-text", "plain"), ("x-echo-text", "twice"), ("x-echo-data-bin", bytes(range(256)))]
    answer, call = channel.unary_unary(path("Echo")).with_call(b"hello", timeout=PATIENCE, metadata=metadata)
    report("unary", [answer.decode(), pairs(call.initial_metadata()), ending(call)])
    answer, end = unary("Seen", metadata=[("x-kind", "unary"), ("x-data-bin", b"\0\xff")])
    report("request metadata", [[pair for pair in json.loads(answer) if pair[0] not in VARIABLE], end])
    report("empty message", list(map(str, unary("Echo", b""))))
    large = bytes(i * 7 % 251 for i in range(8 << 20))
    answer, end = unary("Echo", large)
    report("8 MiB both ways", [digest(answer or b""), answer == large, end])
    answer, end = unary("Echo", b"a" * 100_000, compression=grpc.Compression.Gzip)
    report("gzip", [digest(answer or b""), end])


def streams():
    call = channel.unary_stream(path("Count"))(b"1000 100", timeout=PATIENCE)
    whole = b"".join(call)
    report("server stream", [digest(whole), ending(call)])
    call = channel.unary_stream(path("Count"))(b"16 1048576", timeout=PATIENCE)
    report("server stream, large", [digest(b"".join(call)), ending(call)])
    call = channel.unary_stream(path("Count"))(b"0 0", timeout=PATIENCE)
    report("server stream, none", [list(call), ending(call)])
    answer = channel.stream_unary(path("Total"))((b"m" * 1000 for _ in range(1000)), timeout=PATIENCE)
    report("client stream", answer.decode())
    answer = channel.stream_unary(path("Total"))((bytes([i]) * 1048576 for i in range(16)), timeout=PATIENCE)
    report("client stream, large", answer.decode())
    report("client stream, none", channel.stream_unary(path("Total"))(iter(()), timeout=PATIENCE).decode())


def conversation():
    """Every answer is awaited before the next message is sent: nothing may be held back on the way."""
    sent = queue.Queue()
    call = channel.stream_stream(path("Chat"))(iter(sent.get, None), timeout=PATIENCE)
    answers = []
    for word in (b"a", b"b", b"c"):
        sent.put(word)
        answers.append(next(call).decode())
    sent.put(None)
    rest = list(call)
    report("bidirectional", [answers, rest, ending(call)])


def errors():
    for code in (3, 5, 7, 8, 13, 14, 16):
        report(f"status {code}", unary("Fail", str(code).encode())[1])
    call = channel.unary_stream(path("FailLate"))(b"", timeout=PATIENCE)
    received = []
    try:
        for message in call:
            received.append(message.decode())
    except grpc.RpcError:
        pass
    report("status after messages", [received, ending(call)])
    report("no such method", unary("Missing")[1])


def deadlines():
    report("client deadline", unary("HoldSilent", b"deadline", timeout=0.3)[1][0])
    report("client deadline reached the server", unary("HasEnded", b"deadline")[0].decode())


def cancellation():
    call = channel.unary_stream(path("Hold"))(b"cancelled", timeout=PATIENCE)
    first = next(call).decode()
    call.cancel()
    report("cancelled", [first, call.code().name])
    report("cancellation reached the server", unary("HasEnded", b"cancelled")[0].decode())


def together():
    """Many calls at a time on one connection."""
    with futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: unary("Echo", b"%d" % number), range(400)))
    right = sum(answer == b"%d" % number and end[0] == "OK" for number, (answer, end) in enumerate(answers))
    report("400 calls, 16 at a time", right)


def decided():
    """What the proxy's routes decide."""
    report("no route", unary("/nowhere.Peer/Echo")[1])
    report("backend away", unary("/gone.Peer/Echo")[1])
    report("no cluster", unary("/unknown.Peer/Echo", metadata=[("x-cluster", "unknown")])[1])
    report("route answers itself", unary("/direct.Peer/Echo")[1])
    report("route redirects", unary("/moved.Peer/Echo")[1])
    report("route timeout", unary("/quick.Peer/HoldSilent", b"route")[1])
    report("route timeout reached the server", unary("HasEnded", b"route")[0].decode())
    # The server is told the same deadline, and either may be the first to notice: the details differ.
    report("longest duration", unary("/limited.Peer/HoldSilent", b"duration")[1][0])
    report("longest duration reached the server", unary("HasEnded", b"duration")[0].decode())


if sys.argv[1] == "server":
    serve()
else:
    channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}", options=UNLIMITED)
    for part in (messages, streams, conversation, errors, deadlines, cancellation, together):
        part()
    if "routes" in sys.argv:
        decided()
    print(json.dumps(results))
