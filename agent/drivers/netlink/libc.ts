/**
 * The few libc calls that netlink needs, through koffi: the only file that touches the FFI.
 *
 * Invariant: every call is synchronous, so nothing can run between setns(2) and setns back on this thread; a failed call
 * throws with errno by name. The one exception is `sendAside`. Rejected: koffi's asynchronous calls for the rest (they run on a thread of
 * their own, in whatever network namespace it has, and a pending recv keeps the process from exiting) and node:ffi (experimental).
 */
import koffi from "koffi";

export type SystemCall = "socket" | "bind" | "getsockname" | "setsockopt" | "send" | "recv" | "setns" | "open" | "close";

/** A libc call that returned -1. */
export class SystemCallError extends Error {
  readonly call: SystemCall;
  readonly errno: number;
  /** "EPERM", "ENOENT", … */
  readonly code: string;

  constructor(call: SystemCall, errno: number, what: string) {
    super(`${call} ${what}: ${errnoName(errno)}`);
    this.name = "SystemCallError";
    this.call = call;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

const errnoNames = new Map<number, string>();
for (const [name, value] of Object.entries(koffi.os.errno)) {
  // Aliases: keep the name that kernel people use.
  if (name !== "EWOULDBLOCK" && name !== "ENOTSUP" && name !== "EDEADLOCK") errnoNames.set(value, name);
}

/** "ENOENT" for 2; "errno 1234" for a number that this platform has no name for. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? `errno ${errno}`;
}

/** 2 for "ENOENT". */
export function errnoNumber(name: string): number {
  const value = koffi.os.errno[name];
  if (value === undefined) throw new RangeError(`no errno is called ${name}`);
  return value;
}

type Native<Arguments extends readonly unknown[]> = (...args: Arguments) => number;

const library = koffi.load(null);
const native = {
  socket: library.func("int socket(int, int, int)") as Native<[number, number, number]>,
  bind: library.func("int bind(int, const void*, uint32_t)") as Native<[number, Uint8Array, number]>,
  getsockname: library.func("int getsockname(int, void*, void*)") as Native<[number, Uint8Array, Uint8Array]>,
  setsockopt: library.func("int setsockopt(int, int, int, const void*, uint32_t)") as Native<[number, number, number, Uint8Array, number]>,
  send: library.func("intptr_t send(int, const void*, size_t, int)") as Native<[number, Uint8Array, number, number]>,
  recv: library.func("intptr_t recv(int, void*, size_t, int)") as Native<[number, Uint8Array, number, number]>,
  setns: library.func("int setns(int, int)") as Native<[number, number]>,
  open: library.func("int open(const char*, int)") as Native<[string, number]>,
  close: library.func("int close(int)") as Native<[number]>,
  if_nametoindex: library.func("unsigned int if_nametoindex(const char*)") as Native<[string]>,
};

type SendAside = (fd: number, bytes: Uint8Array, length: number, flags: number, done: (error: Error | null, sent: number) => void) => void;
const nativeSendAside = (native.send as unknown as { readonly async: SendAside }).async;

const EINTR = errnoNumber("EINTR");
const EAGAIN = errnoNumber("EAGAIN");
const AF_NETLINK = 16;
const O_CLOEXEC = 0o2000000;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const CLONE_NEWNET = 0x40000000;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const BPF_LOAD_WORD_ABSOLUTE = 0x20;
const BPF_JUMP_IF_EQUAL = 0x15;
const BPF_RETURN = 0x06;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

function check(call: SystemCall, result: number, what: string): number {
  if (result >= 0) return result;
  throw new SystemCallError(call, koffi.errno(), what);
}

/** A netlink socket of the given NETLINK_* protocol; close it with `close`. */
export function netlinkSocket(protocol: number): number {
  return check("socket", native.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), `AF_NETLINK protocol ${protocol}`);
}

/** Bind to a port id of the kernel's choice; returns it. */
export function bindNetlink(fd: number): number {
  const address = Buffer.alloc(12);
  address.writeUInt16LE(AF_NETLINK, 0);
  check("bind", native.bind(fd, address, address.length), "netlink socket");
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length, 0);
  check("getsockname", native.getsockname(fd, address, length), "netlink socket");
  return address.readUInt32LE(4);
}

/** setsockopt(2) with a 32-bit value. */
export function setSocketOption(fd: number, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value, 0);
  check("setsockopt", native.setsockopt(fd, level, option, bytes, bytes.length), `level ${level} option ${option}`);
}

/** setsockopt(2) with a struct timeval (SO_RCVTIMEO). */
export function setSocketTimeout(fd: number, level: number, option: number, milliseconds: number): void {
  const bytes = Buffer.alloc(16);
  bytes.writeBigInt64LE(BigInt(Math.floor(milliseconds / 1000)), 0);
  bytes.writeBigInt64LE(BigInt(Math.floor((milliseconds % 1000) * 1000)), 8);
  check("setsockopt", native.setsockopt(fd, level, option, bytes, bytes.length), `level ${level} option ${option}`);
}

/**
 * Attach a classic BPF program (SO_ATTACH_FILTER) of four instructions: datagrams whose 32-bit word at `offset` is `value`
 * (both little endian) are dropped in the kernel.
 */
export function dropDatagramsWith(fd: number, word: { readonly offset: number; readonly value: number }): void {
  const program = Buffer.alloc(4 * 8);
  const instructions = [
    // BPF loads are big endian, so the value is compared swapped.
    { code: BPF_LOAD_WORD_ABSOLUTE, ifTrue: 0, ifFalse: 0, operand: word.offset },
    { code: BPF_JUMP_IF_EQUAL, ifTrue: 0, ifFalse: 1, operand: swapBytes(word.value) },
    { code: BPF_RETURN, ifTrue: 0, ifFalse: 0, operand: 0 },
    { code: BPF_RETURN, ifTrue: 0, ifFalse: 0, operand: 0xffff_ffff },
  ];
  for (const [index, { code, ifTrue, ifFalse, operand }] of instructions.entries()) {
    program.writeUInt16LE(code, index * 8);
    program.writeUInt8(ifTrue, index * 8 + 2);
    program.writeUInt8(ifFalse, index * 8 + 3);
    program.writeUInt32LE(operand, index * 8 + 4);
  }
  // struct sock_fprog: a count, padding, and a pointer to the program.
  const filter = Buffer.alloc(16);
  filter.writeUInt16LE(instructions.length, 0);
  filter.writeBigUInt64LE(koffi.address(program), 8);
  check("setsockopt", native.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, filter, filter.length), "SO_ATTACH_FILTER");
}

function swapBytes(value: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value, 0);
  return bytes.readUInt32BE(0);
}

/** Send one datagram whole. */
export function send(fd: number, bytes: Uint8Array): void {
  for (;;) {
    const sent = native.send(fd, bytes, bytes.length, 0);
    if (sent >= 0) return;
    const errno = koffi.errno();
    if (errno !== EINTR) throw new SystemCallError("send", errno, `${bytes.length} bytes`);
  }
}

/**
 * As `send`, on a thread of koffi's, for a request that the kernel works on for long: the event loop goes on meanwhile. The socket, not the thread, says
 * which network namespace is meant. The bytes must stay as they are until it settles.
 */
export function sendAside(fd: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    nativeSendAside(fd, bytes, bytes.length, 0, (error, sent) => {
      // See watchReadable for the detour.
      setImmediate(() => {
        if (error !== null) reject(error);
        // errno is the other thread's; the kernel refuses a whole datagram only for want of memory.
        else if (sent < 0) reject(new SystemCallError("send", errnoNumber("ENOBUFS"), `${bytes.length} bytes`));
        else resolve();
      });
    });
  });
}

/**
 * Receive one datagram into `into`; its length, or undefined when there is none (`wait: false`) or none came in the
 * socket's receive time-out. A length above `into.length` means that the rest was cut off.
 */
export function receive(fd: number, into: Uint8Array, { wait }: { readonly wait: boolean }): number | undefined {
  for (;;) {
    const received = native.recv(fd, into, into.length, MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT));
    if (received >= 0) return received;
    const errno = koffi.errno();
    if (errno === EAGAIN) return undefined;
    if (errno !== EINTR) throw new SystemCallError("recv", errno, "netlink socket");
  }
}

export function close(fd: number): void {
  check("close", native.close(fd), `descriptor ${fd}`);
}

/**
 * Run `action` with this thread inside the network namespace at `path` (e.g. "/run/netns/pod", "/proc/4711/ns/net").
 * `action` must be synchronous. If the way back fails, the process is in a foreign namespace and must not go on: the
 * thrown error is fatal.
 */
export function inNetns<T>(path: string, action: () => T): T {
  const target = check("open", native.open(path, O_CLOEXEC), path);
  try {
    const own = check("open", native.open("/proc/thread-self/ns/net", O_CLOEXEC), "/proc/thread-self/ns/net");
    try {
      check("setns", native.setns(target, CLONE_NEWNET), path);
      try {
        return action();
      } finally {
        check("setns", native.setns(own, CLONE_NEWNET), "back to the own network namespace");
      }
    } finally {
      close(own);
    }
  } finally {
    close(target);
  }
}

/** Index of an interface of the thread's network namespace, without the lock of all interfaces that a netlink request waits for; undefined: there is none. */
export function interfaceIndex(name: string): number | undefined {
  const index = native.if_nametoindex(name);
  return index === 0 ? undefined : index;
}

/** An open descriptor of a namespace, to name it in netlink messages (IFLA_NET_NS_FD). Close it after use. */
export function openNetns(path: string): number {
  return check("open", native.open(path, O_CLOEXEC), path);
}

/**
 * Call `onReadable` from the event loop whenever `fd` has data. Level-triggered: read until empty. Keeps the process alive.
 *
 * koffi calls back outside of Node's callback scope, where promises that are resolved do not go on until something else
 * happens in the process; the detour over setImmediate, in the same turn of the loop, brings the call into one.
 */
export function watchReadable(fd: number, onReadable: () => void): { stop(): void } {
  let isStopped = false;
  const handle = koffi.node.poll(fd, { readable: true }, () => {
    setImmediate(() => {
      if (!isStopped) onReadable();
    });
  });
  return {
    stop(): void {
      isStopped = true;
      handle.stop();
      handle.close();
    },
  };
}
