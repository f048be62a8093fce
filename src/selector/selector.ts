/**
 * What a label selector is to the rest of the program: a predicate with an identity and with the facts by which it can be indexed.
 *
 * Every selector of every API (Kubernetes LabelSelector, Calico's language) becomes one expression tree over an endpoint's effective labels:
 * its own labels, `projectcalico.org/namespace`, `projectcalico.org/serviceaccount`, `projectcalico.org/orchestrator`, and the inherited
 * `pcns.<label>` (namespace) and `pcsa.<label>` (service account). So a namespace selector is an ordinary condition, and one index serves all.
 */

/** Looks a label up; undefined when it is not there. */
export type LabelLookup = (key: string) => string | undefined;

/** What must hold for one label in any set of labels that the selector matches. Derived, never stronger than the selector itself. */
export interface LabelRestriction {
  /** true: the label must be there; false: it must not; undefined: nothing is known. */
  readonly mustBePresent: boolean | undefined;
  /** When known: the label has one of these values (so it is present). */
  readonly values: readonly string[] | undefined;
}

export interface Selector {
  /** Canonical text: two spellings with one meaning of the same shape have the same. It parses back to itself. */
  readonly canonical: string;
  /** Identity: "s:" + unpadded base64url of SHA-224 of "s:" + canonical. */
  readonly id: string;
  /** Labels about which something is known, for indexing. Computed anew each time. */
  readonly restrictions: ReadonlyMap<string, LabelRestriction>;
  /** Every label that the selector looks at, each once. */
  readonly labels: readonly string[];
  matches(lookup: LabelLookup): boolean;
}
