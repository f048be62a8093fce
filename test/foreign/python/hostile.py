"""Peers that break the sync protocol, through the C core: messages are made from the .proto files alone (compiled at run time).

Reads one JSON object from stdin: `targets` ({name, address, secureAddress}), `tls` ({ca, cert, key}: files of a node) and `cases`
({name, stream: "agent" | "relay", secure, steps}). Runs every case at every target, each on a stream of its own, and prints a JSON line for
each: {target, case, code, details, retryAfterMs, received}. Steps, in order:
  {"say": message in protobuf's JSON form; "@" in it is the target's name}   {"hex": bytes of a message as they are}   {"zeros": so many bytes}
  {"until": kind of message | "commit"}      reads until one has come
  {"stay": true}                             the stream is left open and its code is STAYS; all of them until the process ends
After the steps it only reads, until the server ends the stream. The last line is {"done": true}; then it waits for stdin to close.
"""

import json
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import json_format

TIMEOUT_SECONDS = 20
STREAMS_AT_ONCE = 16


class Peer:
    def __init__(self, given, target, messages):
        self.target = target
        self.messages = messages
        files = {name: open(path, "rb").read() for name, path in given["tls"].items()}
        credentials = grpc.ssl_channel_credentials(files["ca"], files["key"], files["cert"])
        self.plain = grpc.insecure_channel(target["address"])
        self.secure = grpc.secure_channel(target["secureAddress"], credentials, [("grpc.ssl_target_name_override", "localhost")])

    def run(self, case, kept):
        method, sent_type, received_type = self.messages[case["stream"]]
        open_stream = (self.secure if case.get("secure") else self.plain).stream_stream(method)
        outgoing = queue.SimpleQueue()
        stream = open_stream(iter(outgoing.get, None), timeout=TIMEOUT_SECONDS)
        received = []

        def read():
            message = received_type.FromString(next(stream))
            received.append(message.WhichOneof("message") or "none")
            return message

        result = {"target": self.target["name"], "case": case["name"]}
        try:
            for step in case["steps"]:
                if "say" in step:
                    text = json.dumps(step["say"]).replace("@", self.target["name"])
                    outgoing.put(json_format.Parse(text, sent_type()).SerializeToString())
                elif "hex" in step:
                    outgoing.put(bytes.fromhex(step["hex"]))
                elif "zeros" in step:
                    outgoing.put(bytes(step["zeros"]))
                elif "until" in step:
                    while True:
                        message = read()
                        is_commit = received[-1] == "update" and message.update.commit
                        if step["until"] == received[-1] or (step["until"] == "commit" and is_commit):
                            break
                elif "stay" in step:
                    kept.append((stream, outgoing))
                    return {**result, "code": "STAYS", "details": "", "received": received}
            while True:
                read()
        except StopIteration:
            return {**result, "code": "OK", "details": "", "received": received}
        except grpc.RpcError:
            delay = dict(stream.trailing_metadata() or ()).get("retry-after-ms")
            return {**result, "code": stream.code().name, "details": stream.details(), "received": received, **({"retryAfterMs": delay} if delay else {})}
        finally:
            if not any(stream is one for one, _ in kept):
                outgoing.put(None)


def main():
    given = json.loads(sys.stdin.readline())
    sys.path.insert(0, given["protoDir"])
    sync, relay = grpc.protos("sedge/sync/v1/sync.proto"), grpc.protos("sedge/sync/v1/relay.proto")
    messages = {
        "agent": ("/sedge.sync.v1.SyncService/Sync", sync.AgentMessage, sync.ServerMessage),
        "relay": ("/sedge.sync.v1.RelayService/Relay", relay.RelayMessage, relay.RelayServerMessage),
    }
    kept = []
    lock = threading.Lock()

    def run(peer, case):
        result = peer.run(case, kept)
        with lock:
            print(json.dumps(result), flush=True)

    peers = [Peer(given, target, messages) for target in given["targets"]]
    with ThreadPoolExecutor(STREAMS_AT_ONCE) as pool:
        for ended in [pool.submit(run, peer, case) for case in given["cases"] for peer in peers]:
            ended.result()
    print(json.dumps({"done": True}), flush=True)
    sys.stdin.read()


main()
