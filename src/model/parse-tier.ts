/**
 * projectcalico.org/v3 Tier. The three that are always there cannot be given another place or action: what a Tier object says against it is a problem.
 * Of another one, an order that cannot be read is last, an action that cannot be read is Deny: what holds for a tier without an object.
 */
import type { Parsed } from "./event.ts";
import { type ParseOptions, parseClosed } from "./field.ts";
import { readOrder, TOP_LEVEL, tierNameProblem } from "./parse-calico-policy.ts";
import { denyActionOf } from "./parse-calico-rule.ts";
import { OBJECT_META, readMetadata, reportIf } from "./parse-metadata.ts";
import type { Tier } from "./resource.ts";

/** Tiers that exist without an object. */
export const BUILT_IN_TIERS: ReadonlyMap<string, { readonly order: number; readonly defaultAction: "Deny" | "Pass" }> = new Map([
  ["kube-admin", { order: 1_000, defaultAction: "Pass" }],
  ["default", { order: 1_000_000, defaultAction: "Deny" }],
  ["kube-baseline", { order: 10_000_000, defaultAction: "Pass" }],
]);

export function parseTier(object: unknown, options: ParseOptions = {}): Parsed<Tier> {
  return parseClosed(object, options, (root) => {
    root.object(TOP_LEVEL);
    root.child("metadata").object(OBJECT_META);
    const { name, resourceVersion, annotations } = readMetadata(root);
    if (name !== "") reportIf(root.child("metadata").child("name"), tierNameProblem(name));
    const spec = root.child("spec").object(["order", "defaultAction"]);
    const order = readOrder(spec.child("order"));
    const action = spec.child("defaultAction").oneOf(["Deny", "Pass"] as const) ?? "Deny";
    const builtIn = BUILT_IN_TIERS.get(name);
    if (builtIn !== undefined && order !== builtIn.order) spec.child("order").problem(`of the tier ${name} is ${builtIn.order} and cannot be changed`);
    if (builtIn !== undefined && action !== builtIn.defaultAction)
      spec.child("defaultAction").problem(`of the tier ${name} is ${builtIn.defaultAction} and cannot be changed`);
    const rejects = denyActionOf(root.child("metadata").child("annotations"), annotations, false);
    const own = builtIn ?? { order, defaultAction: action };
    const value: Tier = {
      kind: "Tier",
      name,
      resourceVersion,
      order: own.order,
      defaultAction: own.defaultAction === "Deny" && rejects ? "Reject" : own.defaultAction,
    };
    return { value, isUsable: name !== "" };
  });
}
