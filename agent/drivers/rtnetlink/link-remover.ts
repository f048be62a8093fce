/**
 * Removal of interfaces without holding up the event loop: the kernel waits some 20 ms for every packet in flight before an interface is gone.
 *
 * What is asked for while one removal is under way goes as the next batch: its interfaces are put into a group of their own, which the kernel deletes in one
 * step on another thread. Invariant: `remove` resolves only after the interface is gone. A group's number is used once, so that what a crash left marked is
 * not deleted by a later batch.
 */
import { isNetlinkError } from "../netlink/error.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { deleteLinkGroup, groupLink } from "./links.ts";

interface Removal {
  readonly name: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Groups of ours: above what people number by hand. */
const FIRST_GROUP = 0x5e00_0000;
const GROUPS = 0x100_0000;

export class LinkRemover {
  readonly #socket: NetlinkSocket;
  #waiting: Removal[] = [];
  #isRunning = false;
  #group = Math.floor(Math.random() * GROUPS);

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** Throws SystemCallError. */
  static open({ netns }: { readonly netns?: string | undefined } = {}): LinkRemover {
    return new LinkRemover(NetlinkSocket.open({ protocol: NETLINK_ROUTE, netns }));
  }

  /** Of one that is not there: nothing. Rejects with NetlinkError, SystemCallError. */
  remove(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ name, resolve, reject });
      if (!this.#isRunning) {
        this.#isRunning = true;
        void this.#run();
      }
    });
  }

  close(): void {
    this.#socket.close();
  }

  async #run(): Promise<void> {
    // Whatever is asked in this turn shares the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      await this.#removeAll(batch);
    }
    this.#isRunning = false;
  }

  async #removeAll(batch: readonly Removal[]): Promise<void> {
    this.#group = (this.#group + 1) % GROUPS;
    const group = FIRST_GROUP + this.#group;
    const marked: Removal[] = [];
    for (const removal of batch) {
      try {
        groupLink(this.#socket, removal.name, group);
        marked.push(removal);
      } catch (error) {
        if (isNetlinkError(error, "ENODEV")) removal.resolve();
        else removal.reject(error);
      }
    }
    if (marked.length === 0) return;
    try {
      await deleteLinkGroup(this.#socket, group);
      for (const { resolve } of marked) resolve();
    } catch (error) {
      // The container's namespace went at the same time and took the interfaces with it.
      for (const { resolve, reject } of marked)
        if (isNetlinkError(error, "ENODEV")) resolve();
        else reject(error);
    }
  }
}
