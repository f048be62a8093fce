// Command foreign-go-client is a node of the sync protocol that shares nothing with the product but the .proto files,
// which it reads at run time: grpc-go for the stream, protocompile and dynamicpb for the messages.
//
// It is the judge of two claims: that any gRPC client can be a node, and that the comments in the .proto files are enough
// to write one. So it checks what they promise: hashes over the bytes as sent, buckets, digests, commits, acknowledgements.
//
// stdout: one JSON object a line, {"session", "kind", "message"?, …}; the last has kind "end". Exit codes: 0 done; 1 the stream
// ended otherwise; 2 usage; 3 the server broke a promise.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type options struct {
	address, node, protoDir           string
	caFile, certFile, keyFile, server string
	plaintext, ack, quiet             bool
	commits, sessions, bucketBits     int
	timeout                           time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", "", "`host:port` of the server (required)")
	flag.StringVar(&o.node, "node", "", "node `name` (required)")
	flag.StringVar(&o.protoDir, "proto-dir", "proto", "`directory` that holds sedge/sync/v1/sync.proto")
	flag.BoolVar(&o.plaintext, "plaintext", false, "no TLS")
	flag.StringVar(&o.caFile, "ca", "", "PEM `file`: trusted roots")
	flag.StringVar(&o.certFile, "cert", "", "PEM `file`: the node's certificate")
	flag.StringVar(&o.keyFile, "key", "", "PEM `file`: its key")
	flag.StringVar(&o.server, "server-name", "", "name expected in the server's certificate; default: the host of --address")
	flag.BoolVar(&o.ack, "ack", true, "acknowledge each commit as received and programmed")
	flag.BoolVar(&o.quiet, "quiet", false, "leave the messages themselves out of the output")
	flag.IntVar(&o.commits, "commits", 0, "end a session after in-sync and so `many` live commits")
	flag.IntVar(&o.sessions, "sessions", 1, "`number` of sessions one after the other; each later one states the digests of the one before")
	flag.IntVar(&o.bucketBits, "bucket-bits", 4, "the view has two to the power of this `many` buckets")
	flag.DurationVar(&o.timeout, "timeout", 30*time.Second, "end with an error after this `time`")
	flag.Parse()
	if o.address == "" || o.node == "" || flag.NArg() != 0 || o.bucketBits < 0 || o.bucketBits > 12 {
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(run(o))
}

func run(o options) int {
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	schema, err := loadSchema(ctx, o.protoDir)
	if err != nil {
		return fail(2, 0, err)
	}
	transport, err := transportCredentials(o)
	if err != nil {
		return fail(2, 0, err)
	}
	connection, err := grpc.NewClient(o.address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return fail(2, 0, err)
	}
	defer connection.Close()
	view := newView(uint32(o.bucketBits))
	for session := 1; session <= o.sessions; session++ {
		if err := runSession(ctx, connection, schema, o, session, view); err != nil {
			var broken brokenPromise
			if errors.As(err, &broken) {
				return fail(3, session, err)
			}
			return fail(1, session, err)
		}
	}
	print(map[string]any{"kind": "end", "records": len(view.hashes), "revision": view.revision, "keys": view.keys()})
	return 0
}

// fail prints the last line. A refused stream says in a trailer when to come again.
func fail(code, session int, err error) int {
	line := map[string]any{"kind": "end", "session": session, "error": err.Error()}
	if answer, isStatus := status.FromError(err); isStatus && code == 1 {
		line["code"], line["error"] = answer.Code().String(), answer.Message()
	}
	var refused refusal
	if errors.As(err, &refused) {
		answer := status.Convert(refused.error)
		line["code"], line["error"] = answer.Code().String(), answer.Message()
		if delay := refused.trailer.Get("retry-after-ms"); len(delay) > 0 {
			line["retryAfterMs"] = delay[0]
		}
	}
	print(line)
	return code
}

type refusal struct {
	error
	trailer metadata.MD
}

func print(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", text)
}

func transportCredentials(o options) (credentials.TransportCredentials, error) {
	if o.plaintext {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{ServerName: o.server}
	if o.caFile != "" {
		roots, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("--ca %s: no certificate in it", o.caFile)
		}
	}
	if o.certFile != "" {
		pair, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
