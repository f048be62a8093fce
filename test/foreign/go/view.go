package main

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/OneOfOne/xxhash"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// brokenPromise: the server did what the .proto files exclude.
type brokenPromise string

func (b brokenPromise) Error() string { return "broken promise: " + string(b) }

// Field numbers of ServerMessage, Update, Bucket and Record: records are cut out of the bytes as sent.
const (
	serverMessageUpdate = 2
	updateBuckets       = 1
	updateUpserts       = 2
	updateRemoved       = 3
	bucketIndex         = 1
	bucketRecords       = 2
	recordKey           = 1
	hashTag             = 0x79
	hashLength          = 9
)

// view is what a node has: a hash for each key, which is all that digests need.
type view struct {
	bucketBits uint32
	seed       uint64
	epoch      string
	revision   uint64
	hashes     map[string]uint64
	pending    []func() // one for each Update since the last commit, in order
}

func newView(bucketBits uint32) *view {
	return &view{bucketBits: bucketBits, hashes: map[string]uint64{}}
}

func (v *view) keys() []string { return slices.Sorted(maps.Keys(v.hashes)) }

func (v *view) bucketOf(key string) uint32 {
	return uint32(uint64(xxhash.ChecksumString32S(key, uint32(v.seed))) >> (32 - v.bucketBits))
}

func (v *view) digest() (sum uint64) {
	for _, hash := range v.hashes {
		sum += hash
	}
	return sum
}

func (v *view) hello(node string) map[string]any {
	state := map[string]any{"bucketBits": v.bucketBits}
	if v.epoch != "" {
		sums := make([]uint64, 1<<v.bucketBits)
		for key, hash := range v.hashes {
			sums[v.bucketOf(key)] += hash
		}
		digests := make([]string, len(sums))
		for i, sum := range sums {
			digests[i] = strconv.FormatUint(sum, 10)
		}
		state["digests"], state["hashSeed"] = digests, strconv.FormatUint(v.seed, 10)
	}
	return map[string]any{
		"node": node, "version": "foreign-go-client", "view": state,
		"epoch": v.epoch, "revision": strconv.FormatUint(v.revision, 10),
	}
}

func (v *view) welcome(welcome protoreflect.Message) error {
	v.pending = nil
	if bits := number(welcome, "bucket_bits"); bits != uint64(v.bucketBits) {
		return brokenPromise(fmt.Sprintf("Welcome.bucket_bits is %d, the client's are %d", bits, v.bucketBits))
	}
	if seed := number(welcome, "hash_seed"); seed != v.seed {
		v.seed, v.hashes = seed, map[string]uint64{}
	}
	v.epoch = welcome.Get(welcome.Descriptor().Fields().ByName("epoch")).String()
	return nil
}

// collect checks an Update against its bytes and keeps it for the commit.
func (v *view) collect(serverMessage []byte) error {
	update, err := onlyField(serverMessage, serverMessageUpdate)
	if err != nil {
		return err
	}
	var buckets []uint32
	upserts, removed := map[string]uint64{}, []string{}
	inBuckets := map[string]uint64{}
	err = eachField(update, func(field protowire.Number, value []byte, _ uint64) error {
		switch field {
		case updateBuckets:
			index, records, err := v.readBucket(value)
			buckets = append(buckets, index)
			maps.Copy(inBuckets, records)
			return err
		case updateUpserts:
			key, hash, err := v.readRecord(value)
			upserts[key] = hash
			return err
		case updateRemoved:
			removed = append(removed, string(value))
		}
		return nil
	})
	v.pending = append(v.pending, func() {
		maps.DeleteFunc(v.hashes, func(key string, _ uint64) bool { return slices.Contains(buckets, v.bucketOf(key)) })
		maps.Copy(v.hashes, inBuckets)
		for _, key := range removed {
			delete(v.hashes, key)
		}
		maps.Copy(v.hashes, upserts)
	})
	return err
}

func (v *view) commit(update protoreflect.Message, first bool) error {
	for _, apply := range v.pending {
		apply()
	}
	v.pending = nil
	v.revision = number(update, "revision")
	if first && !has(update, "digest") {
		return brokenPromise("the commit that answers Hello has no digest")
	}
	if has(update, "digest") && number(update, "digest") != v.digest() {
		return brokenPromise(fmt.Sprintf("Update.digest at revision %d is %d, the view's is %d", v.revision, number(update, "digest"), v.digest()))
	}
	return nil
}

// heartbeat: its digest is comparable at the view's revision only.
func (v *view) heartbeat(heartbeat protoreflect.Message) error {
	if len(v.pending) == 0 && has(heartbeat, "digest") && number(heartbeat, "digest") != v.digest() {
		return brokenPromise(fmt.Sprintf("Heartbeat.digest at revision %d is %d, the view's is %d", number(heartbeat, "revision"), number(heartbeat, "digest"), v.digest()))
	}
	return nil
}

func (v *view) readBucket(raw []byte) (index uint32, records map[string]uint64, err error) {
	records = map[string]uint64{}
	err = eachField(raw, func(field protowire.Number, value []byte, integer uint64) error {
		switch field {
		case bucketIndex:
			index = uint32(integer)
		case bucketRecords:
			key, hash, err := v.readRecord(value)
			records[key] = hash
			return err
		}
		return nil
	})
	for key := range records {
		if err == nil && v.bucketOf(key) != index {
			err = brokenPromise(fmt.Sprintf("record %q came in bucket %d and belongs into %d", key, index, v.bucketOf(key)))
		}
	}
	return index, records, err
}

func (v *view) readRecord(raw []byte) (key string, hash uint64, err error) {
	if len(raw) < hashLength || raw[len(raw)-hashLength] != hashTag {
		return "", 0, brokenPromise("a record does not end in its hash")
	}
	body, tail := raw[:len(raw)-hashLength], raw[len(raw)-hashLength+1:]
	hash = binary.LittleEndian.Uint64(tail)
	err = eachField(raw, func(field protowire.Number, value []byte, _ uint64) error {
		if field == recordKey {
			key = string(value)
		}
		return nil
	})
	if want := xxhash.Checksum64S(body, v.seed); err == nil && want != hash {
		err = brokenPromise(fmt.Sprintf("record %q has hash %d, its bytes have %d", key, hash, want))
	}
	return key, hash, err
}

func onlyField(raw []byte, wanted protowire.Number) (found []byte, err error) {
	err = eachField(raw, func(field protowire.Number, value []byte, _ uint64) error {
		if field == wanted {
			found = value
		}
		return nil
	})
	return found, err
}

func eachField(raw []byte, visit func(field protowire.Number, value []byte, integer uint64) error) error {
	for len(raw) > 0 {
		field, wireType, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return brokenPromise(protowire.ParseError(n).Error())
		}
		raw = raw[n:]
		var value []byte
		var integer uint64
		switch wireType {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(raw)
		case protowire.VarintType:
			integer, n = protowire.ConsumeVarint(raw)
		default:
			n = protowire.ConsumeFieldValue(field, wireType, raw)
		}
		if n < 0 {
			return brokenPromise(protowire.ParseError(n).Error())
		}
		raw = raw[n:]
		if err := visit(field, value, integer); err != nil {
			return err
		}
	}
	return nil
}
