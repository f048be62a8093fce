package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	syncFile   = "sedge/sync/v1/sync.proto"
	syncMethod = "/sedge.sync.v1.SyncService/Sync"
)

type schema struct {
	agentMessage, serverMessage protoreflect.MessageDescriptor
}

func loadSchema(ctx context.Context, protoDir string) (schema, error) {
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{protoDir}}),
	}
	files, err := compiler.Compile(ctx, syncFile)
	if err != nil {
		return schema{}, fmt.Errorf("--proto-dir %s: %w", protoDir, err)
	}
	messages := files[0].Messages()
	found := schema{messages.ByName("AgentMessage"), messages.ByName("ServerMessage")}
	if found.agentMessage == nil || found.serverMessage == nil {
		return schema{}, fmt.Errorf("%s has no AgentMessage or no ServerMessage", syncFile)
	}
	return found, nil
}

// encodeAgentMessage takes the JSON form of the message, so that the field names here are those of the .proto file.
func (s schema) encodeAgentMessage(value map[string]any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	message := dynamicpb.NewMessage(s.agentMessage)
	if err := protojson.Unmarshal(text, message); err != nil {
		return nil, fmt.Errorf("AgentMessage %s: %w", text, err)
	}
	return proto.Marshal(message)
}

// decodeServerMessage returns the message and its JSON form. Fields that the .proto file does not know are a broken promise:
// both come from one commit.
func (s schema) decodeServerMessage(raw []byte) (protoreflect.Message, json.RawMessage, error) {
	message := dynamicpb.NewMessage(s.serverMessage)
	if err := proto.Unmarshal(raw, message); err != nil {
		return nil, nil, brokenPromise("ServerMessage: " + err.Error())
	}
	if len(message.GetUnknown()) > 0 {
		return nil, nil, brokenPromise("ServerMessage: unknown fields")
	}
	text, err := protojson.Marshal(message)
	return message, text, err
}

// rawCodec hands the bytes through: hashes are defined over what was sent, not over what a library would make of it.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}
