/** `status.conditions`, as Kubernetes' own kinds have them: a list with one entry a type, so that several writers do not undo each other. */
import { column, type Schema } from "./schema.ts";

const conditions: Schema = {
  type: "array",
  maxItems: 16,
  "x-kubernetes-list-type": "map",
  "x-kubernetes-list-map-keys": ["type"],
  items: {
    type: "object",
    required: ["type", "status", "lastTransitionTime", "reason"],
    properties: {
      type: { type: "string", maxLength: 316 },
      status: { type: "string", enum: ["True", "False", "Unknown"] },
      observedGeneration: { type: "integer", format: "int64", minimum: 0 },
      lastTransitionTime: { type: "string", format: "date-time" },
      reason: { type: "string", minLength: 1, maxLength: 1024 },
      message: { type: "string", maxLength: 32768 },
    },
  },
};

export const STATUS: Schema = { description: "What became of it, written by Sedge.", type: "object", properties: { conditions } };

export const PROGRAMMED_COLUMN = column("Programmed", "string", '.status.conditions[?(@.type=="Programmed")].status');
