package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// runSession opens the stream, says Hello with what the view holds, and follows it until in-sync and `commits` live commits.
func runSession(ctx context.Context, connection *grpc.ClientConn, schema schema, o options, session int, view *view) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	description := &grpc.StreamDesc{StreamName: "Sync", ClientStreams: true, ServerStreams: true}
	stream, err := connection.NewStream(ctx, description, syncMethod, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	send := func(message map[string]any) error {
		raw, err := schema.encodeAgentMessage(message)
		if err != nil {
			return err
		}
		return stream.SendMsg(&raw)
	}
	if err := send(map[string]any{"hello": view.hello(o.node)}); err != nil && !errors.Is(err, io.EOF) {
		return err // io.EOF: the reason comes with RecvMsg
	}

	welcomed := false
	liveCommits, inSync := 0, false
	for !inSync || liveCommits < o.commits {
		var raw []byte
		if err := stream.RecvMsg(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the server ended the stream with OK")
			}
			return refusal{err, stream.Trailer()}
		}
		message, text, err := schema.decodeServerMessage(raw)
		if err != nil {
			return err
		}
		kind := kindOf(message)
		line := map[string]any{"session": session, "kind": kind, "bytes": len(raw)}
		if !o.quiet {
			line["message"] = text
		}
		body := message.Get(message.Descriptor().Fields().ByName(kind)).Message()
		if welcomed == (kind == "welcome") {
			return brokenPromise(fmt.Sprintf("%s: Welcome is the first message, and comes once", kind))
		}
		switch kind {
		case "welcome":
			welcomed = true
			err = view.welcome(body)
		case "update":
			err = view.collect(raw)
			if err == nil && boolean(body, "commit") {
				err = view.commit(body, !inSync)
				line["records"], line["revision"] = len(view.hashes), view.revision
				if inSync {
					liveCommits++
				} else {
					line["inSync"], inSync = true, true
				}
				if err == nil && o.ack {
					revision := strconv.FormatUint(view.revision, 10)
					err = send(map[string]any{"ack": map[string]any{"receivedRevision": revision, "programmedRevision": revision}})
				}
			}
		case "heartbeat":
			err = view.heartbeat(body)
		}
		print(line)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	// An orderly end: half-close. What the server still had on its way is not waited for.
	return stream.CloseSend()
}

func kindOf(message protoreflect.Message) protoreflect.Name {
	field := message.WhichOneof(message.Descriptor().Oneofs().ByName("message"))
	if field == nil {
		return "none"
	}
	return field.Name()
}

func boolean(message protoreflect.Message, name protoreflect.Name) bool {
	return message.Get(message.Descriptor().Fields().ByName(name)).Bool()
}

func number(message protoreflect.Message, name protoreflect.Name) uint64 {
	return message.Get(message.Descriptor().Fields().ByName(name)).Uint()
}

func has(message protoreflect.Message, name protoreflect.Name) bool {
	return message.Has(message.Descriptor().Fields().ByName(name))
}
