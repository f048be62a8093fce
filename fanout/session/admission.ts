/**
 * Bounds how many views are being sent at once. Those in the line wait, resumes before first starts (a resume is cheap and its node is already
 * enforcing); beyond the line's bound a session is refused with a delay.
 */
export interface Ticket {
  /** Gives the place up; may be called twice. */
  release(): void;
}

export interface AdmissionOptions {
  /** Answers at once. */
  readonly maxAnswers: number;
  /** Sessions in the line; the next is refused. */
  readonly maxWaiting: number;
  /** Runs something soon, setImmediate unless given: a line of short answers must not hold the event loop until it is empty. */
  readonly defer?: (run: () => void) => void;
}

interface Waiter {
  readonly admit: (ticket: Ticket) => void;
  isGone: boolean;
}

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #resumes: Waiter[] = [];
  readonly #firstStarts: Waiter[] = [];
  #answering = 0;
  #waiting = 0;
  #isDeferred = false;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  get answering(): number {
    return this.#answering;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Calls `admit` when there is a place, perhaps at once. Returns how to leave the line (or, once admitted, nothing happens: release the ticket), or
   * undefined when the line is full.
   */
  request(isResume: boolean, admit: (ticket: Ticket) => void): { leave(): void } | undefined {
    if (this.#answering < this.#options.maxAnswers && this.#waiting === 0) {
      this.#admit(admit);
      return { leave: () => undefined };
    }
    if (this.#waiting >= this.#options.maxWaiting) return undefined;
    const waiter: Waiter = { admit, isGone: false };
    (isResume ? this.#resumes : this.#firstStarts).push(waiter);
    this.#waiting++;
    return {
      leave: () => {
        if (waiter.isGone) return;
        waiter.isGone = true;
        this.#waiting--;
      },
    };
  }

  #admit(admit: (ticket: Ticket) => void): void {
    this.#answering++;
    let isReleased = false;
    admit({
      release: () => {
        if (isReleased) return;
        isReleased = true;
        this.#answering--;
        this.#defer();
      },
    });
  }

  #defer(): void {
    if (this.#waiting === 0 || this.#isDeferred) return;
    this.#isDeferred = true;
    (this.#options.defer ?? setImmediate)(() => {
      this.#isDeferred = false;
      this.#next();
    });
  }

  #next(): void {
    while (this.#answering < this.#options.maxAnswers) {
      const waiter = this.#resumes.shift() ?? this.#firstStarts.shift();
      if (waiter === undefined) return;
      if (waiter.isGone) continue;
      waiter.isGone = true;
      this.#waiting--;
      this.#admit(waiter.admit);
    }
  }
}
