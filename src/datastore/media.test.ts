import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RESOURCE_INFO } from "../model/parse-resource.ts";
import { API_RESOURCES } from "./api-resources.ts";
import { Pod, PodList } from "./gen/kubernetes/core/v1/core.ts";
import { Status, Unknown, WatchEvent } from "./gen/kubernetes/meta/v1/meta.ts";
import { NetworkPolicy } from "./gen/kubernetes/networking/v1/networking.ts";
import { acceptHeader, decodeList, decodeObject, WatchDecoder, type WatchFrame } from "./media.ts";

const PROTOBUF = "application/vnd.kubernetes.protobuf";
const NO_META = { name: "", namespace: "", uid: "", resourceVersion: "", labels: {}, annotations: {} };

function envelope(apiVersion: string, kind: string, raw: Uint8Array): Buffer {
  const unknown = Unknown.encode({ typeMeta: { apiVersion, kind }, raw: Buffer.from(raw), contentEncoding: "", contentType: "" }).finish();
  return Buffer.concat([Buffer.from("k8s\0"), unknown]);
}

function protobufFrame(type: string, object: Buffer): Buffer {
  const event = WatchEvent.encode({ type, object: { raw: object } }).finish();
  const length = Buffer.alloc(4);
  length.writeUInt32BE(event.length);
  return Buffer.concat([length, event]);
}

function pod(name: string): Pod {
  return {
    metadata: { ...NO_META, name, namespace: "shop", uid: "u1", resourceVersion: "5", labels: { app: "web", empty: "" } },
    spec: {
      nodeName: "n1",
      serviceAccountName: "",
      hostNetwork: false,
      containers: [{ name: "c", restartPolicy: "", ports: [{ name: "http", containerPort: 80, protocol: "TCP", hostPort: 0, hostIP: "" }] }],
      initContainers: [{ name: "side", restartPolicy: "Always", ports: [{ name: "metrics", containerPort: 9, protocol: "UDP", hostPort: 0, hostIP: "" }] }],
    },
    status: { phase: "Running", hostIP: "", podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] },
  };
}

describe("protobuf → the JSON shape", () => {
  it("Pod: parses to the same value as its JSON form", () => {
    const json = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "a", namespace: "shop", uid: "u1", resourceVersion: "5", labels: { app: "web", empty: "" } },
      spec: {
        nodeName: "n1",
        containers: [{ name: "c", ports: [{ name: "http", containerPort: 80, protocol: "TCP" }] }],
        initContainers: [{ name: "side", restartPolicy: "Always", ports: [{ name: "metrics", containerPort: 9, protocol: "UDP" }] }],
      },
      status: { phase: "Running", podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] },
    };
    const decoded = decodeObject(envelope("v1", "Pod", Pod.encode(pod("a")).finish()), PROTOBUF);
    const want = RESOURCE_INFO.Pod.parse(json);
    expect(want.ok).toBe(true);
    expect(RESOURCE_INFO.Pod.parse(decoded)).toEqual(want);
  });

  it("NetworkPolicy: an empty selector, an absent one, a port by name, by number and absent stay different", () => {
    const empty = { matchLabels: {}, matchExpressions: [] };
    const policy: NetworkPolicy = {
      metadata: { ...NO_META, name: "p", namespace: "shop", resourceVersion: "5" },
      spec: {
        podSelector: { matchLabels: {}, matchExpressions: [{ key: "app", operator: "In", values: ["a", "b"] }] },
        policyTypes: ["Ingress"],
        ingress: [
          {
            from: [
              { podSelector: empty, namespaceSelector: undefined, ipBlock: undefined },
              { podSelector: undefined, namespaceSelector: empty, ipBlock: undefined },
              { podSelector: undefined, namespaceSelector: undefined, ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } },
            ],
            ports: [
              { protocol: "UDP", port: { type: 0, intVal: 53, strVal: "" }, endPort: 60 },
              { port: { type: 1, intVal: 0, strVal: "http" }, protocol: undefined, endPort: undefined },
              { port: undefined, protocol: "SCTP", endPort: undefined },
            ],
          },
        ],
        egress: [],
      },
    };
    const decoded = decodeObject(envelope("networking.k8s.io/v1", "NetworkPolicy", NetworkPolicy.encode(policy).finish()), PROTOBUF);
    expect(decoded["spec"]).toEqual({
      podSelector: { matchLabels: {}, matchExpressions: [{ key: "app", operator: "In", values: ["a", "b"] }] },
      policyTypes: ["Ingress"],
      egress: [],
      ingress: [
        {
          from: [{ podSelector: empty }, { namespaceSelector: empty }, { ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } }],
          ports: [{ protocol: "UDP", port: 53, endPort: 60 }, { port: "http" }, { protocol: "SCTP" }],
        },
      ],
    });
    expect(RESOURCE_INFO.NetworkPolicy.parse(decoded)).toMatchObject({ ok: true });
  });

  it("unknown fields are skipped, a list keeps its version and token", () => {
    const unknownField = Buffer.from([0xfa, 0x3e, 0x02, 0x41, 0x42]); // field 1007, two bytes
    const list = Buffer.concat([PodList.encode({ metadata: { resourceVersion: "77", continue: "next" }, items: [pod("a"), pod("b")] }).finish(), unknownField]);
    const decoded = decodeList(envelope("v1", "PodList", list), PROTOBUF);
    expect(decoded).toMatchObject({ resourceVersion: "77", continueToken: "next", items: [{ metadata: { name: "a" } }, { metadata: { name: "b" } }] });
  });
});

describe("decodeList", () => {
  it.each([
    ["no list", "{}"],
    ["a Status", '{"kind":"Status","metadata":{},"status":"Failure"}'],
    ["items of a wrong type", '{"metadata":{"resourceVersion":"1"},"items":{}}'],
    ["HTML", "<html>"],
  ])("%s → throws, for an empty list would delete everything", (_name, text) => {
    expect(() => decodeList(Buffer.from(text), "application/json")).toThrow(SyntaxError);
  });
  it("items null, as Go writes an empty list → empty", () => {
    expect(decodeList(Buffer.from('{"metadata":{"resourceVersion":"1"},"items":null}'), "application/json")).toEqual({
      items: [],
      resourceVersion: "1",
      continueToken: "",
    });
  });
  it("protobuf without the magic → throws", () => {
    expect(() => decodeList(Buffer.from("hello"), PROTOBUF)).toThrow(RangeError);
  });
});

describe("WatchDecoder", () => {
  const frames: WatchFrame["type"][] = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"];
  const protobuf = Buffer.concat([
    ...frames.map((type) => protobufFrame(type, envelope("v1", "Pod", Pod.encode(pod("pöd")).finish()))),
    protobufFrame(
      "ERROR",
      envelope(
        "v1",
        "Status",
        Status.encode({ metadata: undefined, status: "Failure", message: "too old", reason: "Expired", code: 410, details: undefined }).finish(),
      ),
    ),
  ]);
  const json = Buffer.from(
    [...frames.map((type) => ({ type, object: { metadata: { name: "pöd" } } })), { type: "ERROR", object: { code: 410, reason: "Expired" } }]
      .map((event) => `${JSON.stringify(event)}\n`)
      .join(""),
  );

  it.each([
    ["protobuf", `${PROTOBUF};stream=watch`, protobuf],
    ["JSON", "application/json", json],
  ] as const)("%s: the same frames however the bytes are cut", (_name, contentType, bytes) => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 30 }), (cuts) => {
        const decoder = new WatchDecoder(contentType);
        const places = [0, ...new Set(cuts.sort((a, b) => a - b)), bytes.length];
        const got = places.slice(1).flatMap((end, i) => decoder.push(bytes.subarray(places[i], end)));
        expect(got.map(({ type, object }) => [type, type === "ERROR" ? object["code"] : (object["metadata"] as { name: string }).name])).toEqual([
          ...frames.map((type) => [type, "pöd"]),
          ["ERROR", 410],
        ]);
      }),
    );
  });

  it.each(["not json\n", '{"type":"NEWS","object":{}}\n', '{"type":"ADDED"}\n'])("%j → throws, nothing is skipped", (text) => {
    expect(() => new WatchDecoder("application/json").push(Buffer.from(text))).toThrow(SyntaxError);
  });
  it("a length beyond any object → throws instead of waiting for gigabytes", () => {
    expect(() => new WatchDecoder(PROTOBUF).push(Buffer.from([0xff, 0xff, 0xff, 0xff, 0]))).toThrow(RangeError);
  });
});

describe("acceptHeader", () => {
  it("custom resources are asked for as JSON only", () => {
    expect(acceptHeader(API_RESOURCES.IPPool, true)).toBe("application/json");
    expect(acceptHeader(API_RESOURCES.Pod, false)).toBe(`${PROTOBUF}, application/json`);
    expect(acceptHeader(API_RESOURCES.Pod, true)).toBe(`${PROTOBUF};stream=watch, application/json`);
  });
});
