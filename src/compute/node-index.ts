/** Nodes by their labels, for peers that are nodes. An index of its own: no selector over endpoints ever means a node. */
import type { Node } from "../model/resource.ts";
import type { IpAddress } from "../net/ip.ts";
import type { IndexedSelector, LabelItem, LabelParent, LabelValue } from "./label-index.ts";
import { isSameValue } from "./same-value.ts";
import { SelectorIndex } from "./selector-index.ts";
import { SmallSet } from "./small-collections.ts";

export class NodeItem implements LabelItem<NodeItem> {
  readonly parent: LabelParent<NodeItem>;
  labels: readonly LabelValue<NodeItem>[] = [];
  readonly matched = new SmallSet<IndexedSelector<NodeItem>>();
  addresses: readonly IpAddress[];

  constructor(parent: LabelParent<NodeItem>, addresses: readonly IpAddress[]) {
    this.parent = parent;
    this.addresses = addresses;
  }
}

export class NodeIndex {
  readonly index = new SelectorIndex<NodeItem>();
  readonly #root: LabelParent<NodeItem> = { labels: [], items: new SmallSet<NodeItem>() };
  readonly #nodes = new Map<string, NodeItem>();

  set(node: Node): void {
    const labels = Object.entries(node.labels);
    const known = this.#nodes.get(node.name);
    if (known === undefined) {
      const item = new NodeItem(this.#root, node.addresses);
      this.#nodes.set(node.name, item);
      this.index.add(item, labels);
      return;
    }
    if (!isSameValue(known.addresses, node.addresses)) {
      this.index.change(known, () => {
        known.addresses = node.addresses;
      });
    }
    this.index.relabel(known, labels);
  }

  remove(name: string): void {
    const known = this.#nodes.get(name);
    if (known === undefined) return;
    this.#nodes.delete(name);
    this.index.remove(known);
  }
}
