/** In words, what a set is made of and whom a policy is for: selectors are in no record, since nodes do not need them. For people; never parsed. */
import type { SetUse } from "./set-source.ts";

export function describeSetUse(use: SetUse): string {
  switch (use.kind) {
    case "endpoints": {
      const of = `endpoints${use.includesSets ? " and network sets" : ""} with ${selectorText(use.selector.canonical)}`;
      return use.port === undefined ? of : `named port ${use.port.name} of ${of}`;
    }
    case "nodes":
      return `nodes with ${selectorText(use.selector.canonical)}`;
    case "service":
      return `${use.hasPorts ? "addresses and ports" : "addresses"} of service ${use.namespace}/${use.name}`;
  }
}

export function describeSubject(canonical: string): string {
  return `it applies to endpoints with ${selectorText(canonical)}`;
}

function selectorText(canonical: string): string {
  if (canonical === "") return "any labels";
  const inherited = [
    ["pcns.", "of the namespace"],
    ["pcsa.", "of the service account"],
  ].filter(([prefix = ""]) => canonical.includes(prefix));
  return inherited.length === 0 ? canonical : `${canonical} (${inherited.map(([prefix, meaning]) => `${prefix}: ${meaning}`).join(", ")})`;
}
