"""gRPC without a proxy and without generated code.

    xds_client.py server NAME         serves /test.Echo/Say on a free port, prints the port, answers NAME
    xds_client.py client TARGET       for each line N on stdin: N calls; prints {"answers": {NAME: count}, "errors": [..]}
"""

import json
import sys
from collections import Counter
from concurrent import futures

import grpc

METHOD = "/test.Echo/Say"


def serve(name):
    def say(request, context):
        return name.encode()

    handler = grpc.method_handlers_generic_handler(
        "test.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((handler,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def call(target):
    say = grpc.insecure_channel(target).unary_unary(METHOD)
    for line in sys.stdin:
        answers, errors = Counter(), []
        for _ in range(int(line)):
            try:
                answers[say(b"", timeout=20, wait_for_ready=True).decode()] += 1
            except grpc.RpcError as error:
                errors.append(f"{error.code()}: {error.details()}")
        print(json.dumps({"answers": answers, "errors": errors[:3]}), flush=True)


if __name__ == "__main__":
    {"server": serve, "client": call}[sys.argv[1]](sys.argv[2])
