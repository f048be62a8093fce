/**
 * What FelixConfiguration objects say for each node, told to that node alone: `default`, then the oldest object whose selector matches the node, then
 * `node.NAME`, each field by itself, the last that states it.
 *
 * Invariant: a node of which nothing is said has no record, so that clusters without these objects pay nothing. What an object says is a function of the
 * present objects alone. Rejected: one record for all nodes with what differs in others, since an agent would have to know the precedence.
 */
import type { Problem } from "../model/event.ts";
import type { NodeName } from "../model/names.ts";
import { nodeOfConfiguration } from "../model/parse-felix-configuration.ts";
import type { NodeSettings as NodeSettingsRecord } from "../model/record.ts";
import type { FelixConfiguration, Labels, Node, ResourceKey } from "../model/resource.ts";
import type { StatedSettings } from "../model/stated-settings.ts";
import { parseSelector, SelectorError } from "../selector/parse-selector.ts";
import type { Selector } from "../selector/selector.ts";
import type { Ledger } from "./ledger.ts";
import { NodeRecords } from "./node-records.ts";

interface Selective {
  readonly configuration: FelixConfiguration;
  readonly selector: Selector;
}

export class NodeSettings {
  readonly #onProblems: (key: ResourceKey, problems: readonly Problem[]) => void;
  readonly #records = new NodeRecords<NodeSettingsRecord>((node, labels) => {
    const stated = this.#stated(node, labels);
    return Object.keys(stated).length === 0 ? undefined : { kind: "node-settings", node, ...stated };
  });
  readonly #ofNode = new Map<string, StatedSettings>();
  readonly #selective = new Map<string, Selective>();
  #byAge: readonly Selective[] = [];
  #common: StatedSettings = {};

  /** `onProblems`: of an object's selector; empty when there is none (any more). */
  constructor(options: { readonly onProblems: (key: ResourceKey, problems: readonly Problem[]) => void }) {
    this.#onProblems = options.onProblems;
  }

  setNode(name: NodeName, node: Node | undefined): void {
    this.#records.setNode(name, node);
  }

  set(name: string, configuration: FelixConfiguration | undefined): void {
    const node = nodeOfConfiguration(name);
    if (node !== undefined) {
      if (configuration === undefined) this.#ofNode.delete(node);
      else this.#ofNode.set(node, configuration.settings);
      this.#records.markDirty(node as NodeName);
      return;
    }
    if (name === "default") this.#common = configuration?.settings ?? {};
    else this.#setSelective(name, configuration);
    this.#records.markAllDirty();
  }

  commit(ledger: Ledger): void {
    this.#records.commit(ledger);
  }

  #setSelective(name: string, configuration: FelixConfiguration | undefined): void {
    this.#selective.delete(name);
    const problems: Problem[] = [];
    if (configuration !== undefined && configuration.nodeSelector !== "") {
      try {
        this.#selective.set(name, { configuration, selector: parseSelector(configuration.nodeSelector) });
      } catch (error) {
        if (!(error instanceof SelectorError) && !(error instanceof RangeError)) throw error;
        problems.push({ field: "spec.nodeSelector", message: `${error.message}: it is for no node as it is` });
      }
    }
    this.#onProblems({ kind: "FelixConfiguration", namespace: "", name }, problems);
    const age = ({ configuration: { createdAt, name: own } }: Selective): string => `${createdAt === "" ? "~" : createdAt} ${own}`;
    this.#byAge = [...this.#selective.values()].sort((a, b) => (age(a) < age(b) ? -1 : 1));
  }

  #stated(name: NodeName, labels: Labels): StatedSettings {
    const selected = this.#byAge.find(({ selector }) => selector.matches((label) => labels[label]));
    return { ...this.#common, ...selected?.configuration.settings, ...this.#ofNode.get(name) };
  }
}
