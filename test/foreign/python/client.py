"""A node of the sync protocol in Python, from the .proto files alone (compiled at run time by grpcio-tools).

The second judge beside test/foreign/go: another gRPC library (the C core) and another protobuf implementation. Same flags,
same output: one JSON object a line, the last has kind "end". Exit codes: 0 done; 1 the stream ended otherwise; 2 usage;
3 the server broke a promise.
"""

import argparse
import json
import queue
import sys

import grpc
import xxhash
from google.protobuf import json_format

HASH_TAG = 0x79
HASH_LENGTH = 9
MASK = 2**64 - 1


class BrokenPromise(Exception):
    """The server did what the .proto files exclude."""


def show(**line):
    print(json.dumps(line), flush=True)


class View:
    """What a node has: a hash for each key, which is all that digests need."""

    def __init__(self, bucket_bits):
        self.bucket_bits = bucket_bits
        self.seed = 0
        self.epoch = ""
        self.revision = 0
        self.hashes = {}
        self.pending = []

    def bucket_of(self, key):
        return xxhash.xxh32_intdigest(key.encode(), self.seed & 0xFFFFFFFF) >> (32 - self.bucket_bits)

    def digest(self):
        return sum(self.hashes.values()) & MASK

    def state(self, messages):
        state = messages.ViewState(bucket_bits=self.bucket_bits)
        if self.epoch:
            sums = [0] * (1 << self.bucket_bits)
            for key, value in self.hashes.items():
                index = self.bucket_of(key)
                sums[index] = (sums[index] + value) & MASK
            state.hash_seed = self.seed
            state.digests.extend(sums)
        return state

    def welcome(self, welcome):
        self.pending = []
        if welcome.bucket_bits != self.bucket_bits:
            raise BrokenPromise(f"Welcome.bucket_bits is {welcome.bucket_bits}, the client's are {self.bucket_bits}")
        if welcome.hash_seed != self.seed:
            self.seed, self.hashes = welcome.hash_seed, {}
        self.epoch = welcome.epoch

    def check_record(self, record):
        # Here the hash is judged by this library's own deterministic encoding: the canonical one needs no more.
        raw = record.SerializeToString(deterministic=True)
        if len(raw) < HASH_LENGTH or raw[-HASH_LENGTH] != HASH_TAG:
            raise BrokenPromise(f"record {record.key!r} does not end in its hash")
        want = xxhash.xxh64_intdigest(raw[:-HASH_LENGTH], self.seed)
        if want != record.hash:
            raise BrokenPromise(f"record {record.key!r} has hash {record.hash}, its bytes have {want}")

    def collect(self, update):
        for bucket in update.buckets:
            for record in bucket.records:
                self.check_record(record)
                if self.bucket_of(record.key) != bucket.index:
                    raise BrokenPromise(f"record {record.key!r} came in bucket {bucket.index} and belongs into {self.bucket_of(record.key)}")
        for record in update.upserts:
            self.check_record(record)
        self.pending.append(update)

    def commit(self, update, is_first):
        for part in self.pending:
            replaced = {bucket.index for bucket in part.buckets}
            self.hashes = {key: value for key, value in self.hashes.items() if self.bucket_of(key) not in replaced}
            for bucket in part.buckets:
                self.hashes.update((record.key, record.hash) for record in bucket.records)
            for key in part.removed:
                self.hashes.pop(key, None)
            self.hashes.update((record.key, record.hash) for record in part.upserts)
        self.pending = []
        self.revision = update.revision
        if is_first and not update.HasField("digest"):
            raise BrokenPromise("the commit that answers Hello has no digest")
        self.check_digest("Update", update)

    def check_digest(self, name, message):
        if not self.pending and message.HasField("digest") and message.digest != self.digest():
            raise BrokenPromise(f"{name}.digest at revision {message.revision} is {message.digest}, the view's is {self.digest()}")


def run_session(stub, messages, options, session, view):
    outgoing = queue.SimpleQueue()
    hello = messages.Hello(node=options.node, version="foreign-python-client", epoch=view.epoch, revision=view.revision, view=view.state(messages))
    outgoing.put(messages.AgentMessage(hello=hello))
    stream = stub.Sync(iter(outgoing.get, None), timeout=options.timeout)
    welcomed = in_sync = False
    live_commits = 0
    try:
        for message in stream:
            kind = message.WhichOneof("message") or "none"
            line = {"session": session, "kind": kind, "bytes": message.ByteSize()}
            if not options.quiet:
                line["message"] = json_format.MessageToDict(message)
            if welcomed == (kind == "welcome"):
                raise BrokenPromise(f"{kind}: Welcome is the first message, and comes once")
            if kind == "welcome":
                welcomed = True
                view.welcome(message.welcome)
            elif kind == "heartbeat":
                view.check_digest("Heartbeat", message.heartbeat)
            elif kind == "update":
                view.collect(message.update)
                if message.update.commit:
                    view.commit(message.update, not in_sync)
                    line.update(records=len(view.hashes), revision=view.revision)
                    if in_sync:
                        live_commits += 1
                    else:
                        in_sync = line["inSync"] = True
                    if options.ack:
                        ack = messages.Ack(received_revision=view.revision, programmed_revision=view.revision)
                        outgoing.put(messages.AgentMessage(ack=ack))
            show(**line)
            if in_sync and live_commits >= options.commits:
                return
        raise RuntimeError("the server ended the stream with OK")
    finally:
        outgoing.put(None)  # half-close


def channel(options):
    if options.plaintext:
        return grpc.insecure_channel(options.address)

    def read(path):
        return open(path, "rb").read() if path else None

    credentials = grpc.ssl_channel_credentials(read(options.ca), read(options.key), read(options.cert))
    override = [("grpc.ssl_target_name_override", options.server_name)] if options.server_name else []
    return grpc.secure_channel(options.address, credentials, override)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True, help="host:port of the server")
    parser.add_argument("--node", required=True, help="node name")
    parser.add_argument("--proto-dir", default="proto", help="directory that holds sedge/sync/v1/sync.proto")
    parser.add_argument("--plaintext", action="store_true", help="no TLS")
    parser.add_argument("--ca", help="PEM file: trusted roots")
    parser.add_argument("--cert", help="PEM file: the node's certificate")
    parser.add_argument("--key", help="PEM file: its key")
    parser.add_argument("--server-name", help="name expected in the server's certificate")
    parser.add_argument("--no-ack", dest="ack", action="store_false", help="acknowledge nothing")
    parser.add_argument("--quiet", action="store_true", help="leave the messages themselves out of the output")
    parser.add_argument("--commits", type=int, default=0, help="end a session after in-sync and so many live commits")
    parser.add_argument("--sessions", type=int, default=1, help="sessions one after the other; each later one states the digests of the one before")
    parser.add_argument("--bucket-bits", type=int, default=4, help="the view has two to the power of this many buckets")
    parser.add_argument("--timeout", type=float, default=30, help="seconds for each session")
    options = parser.parse_args()

    sys.path.insert(0, options.proto_dir)
    messages, services = grpc.protos_and_services("sedge/sync/v1/sync.proto")
    view = View(options.bucket_bits)
    session = 0
    try:
        with channel(options) as connection:
            stub = services.SyncServiceStub(connection)
            for session in range(1, options.sessions + 1):
                run_session(stub, messages, options, session, view)
    except BrokenPromise as error:
        show(kind="end", session=session, error=f"broken promise: {error}")
        return 3
    except grpc.RpcError as error:
        delay = dict(error.trailing_metadata() or ()).get("retry-after-ms")
        show(kind="end", session=session, error=error.details(), code=error.code().name, **({"retryAfterMs": delay} if delay else {}))
        return 1
    except RuntimeError as error:
        show(kind="end", session=session, error=str(error))
        return 1
    show(kind="end", records=len(view.hashes), revision=str(view.revision), keys=sorted(view.hashes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
