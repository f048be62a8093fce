"""Unary calls, health and reflection through the C core, message bytes as they are: what a foreign gRPC library does with our HTTP/2.

Prints one JSON object. Arguments: address, then optionally ca, certificate and key files.
"""

import json
import sys

import grpc


def channel(address, files):
    # Node refuses an address as a server name, so the certificate is judged by a name.
    options = [("grpc.ssl_target_name_override", "localhost")]
    if not files:
        return grpc.insecure_channel(address)
    ca, cert, key = (open(name, "rb").read() for name in files)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options)


def main():
    address, *files = sys.argv[1:]
    with channel(address, files) as one:
        check = one.unary_unary("/grpc.health.v1.Health/Check")
        reflect = one.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        blocks = one.unary_unary("/sedge.sync.v1.SyncService/ListBlocks")
        result = {
            "health": check(b"", timeout=10).hex(),
            "zipped": check(b"", timeout=10, compression=grpc.Compression.Gzip).hex(),
            # list_services = "*", twice on one stream.
            "reflection": [b"sedge.sync.v1.SyncService" in answer for answer in reflect(iter([b"\x3a\x01*", b"\x3a\x01*"]), timeout=10)],
            "blocks": blocks(b"\x0a\x02n1", timeout=10).hex(),
        }
        try:
            check(b"\x0a\x04nope", timeout=10)
        except grpc.RpcError as error:
            result["unknown"] = [error.code().name, error.details()]
        try:
            one.unary_unary("/no.Such/Method")(b"", timeout=10)
        except grpc.RpcError as error:
            result["unimplemented"] = error.code().name
        try:
            list(one.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=0.2))
        except grpc.RpcError as error:
            result["deadline"] = error.code().name
    print(json.dumps(result))


main()
