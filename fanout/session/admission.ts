/**
 * Bounds how many views are being sent at once, and knows who is where in the line. Those in the line wait, resumes before first starts (a resume is cheap and its node is already
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
  /** Monotonic ms; without it delays are not known. */
  readonly now?: () => number;
}

interface Waiter {
  readonly admit: (ticket: Ticket) => void;
  /** Grows along its line. */
  readonly number: number;
  isGone: boolean;
}

/** A place in the line. Once admitted, leaving does nothing: release the ticket. */
export interface Line {
  leave(): void;
  /** Answers before this one, and about how long they take (ms; 0: not known). Undefined: not in the line any more. */
  place(): { readonly place: number; readonly delayMs: number } | undefined;
}

/** How much of a new measure goes into the average time of an answer. */
const SMOOTHING = 0.2;
const NO_LINE: Line = { leave: () => undefined, place: () => undefined };

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #resumes: Waiter[] = [];
  readonly #firstStarts: Waiter[] = [];
  #answering = 0;
  #waiting = 0;
  #isDeferred = false;
  #nextNumber = 0;
  /** How long one answer has its place, smoothed. */
  #answerMs = 0;

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
   * Calls `admit` when there is a place, perhaps at once. Undefined when the line is full.
   */
  request(isResume: boolean, admit: (ticket: Ticket) => void): Line | undefined {
    if (this.#answering < this.#options.maxAnswers && this.#waiting === 0) {
      this.#admit(admit);
      return NO_LINE;
    }
    if (this.#waiting >= this.#options.maxWaiting) return undefined;
    const waiter: Waiter = { admit, number: this.#nextNumber++, isGone: false };
    (isResume ? this.#resumes : this.#firstStarts).push(waiter);
    this.#waiting++;
    return {
      leave: () => {
        if (waiter.isGone) return;
        waiter.isGone = true;
        this.#waiting--;
      },
      place: () => (waiter.isGone ? undefined : this.#placeOf(waiter, isResume)),
    };
  }

  /** At most so many: those that left and those of the other line count until the turn comes to them. */
  #placeOf(waiter: Waiter, isResume: boolean): { readonly place: number; readonly delayMs: number } {
    const own = isResume ? this.#resumes : this.#firstStarts;
    const before = waiter.number - (own[0]?.number ?? waiter.number);
    const place = Math.min(before + (isResume ? 0 : this.#resumes.length), this.#waiting - 1);
    return { place, delayMs: Math.round(((place + 1) * this.#answerMs) / this.#options.maxAnswers) };
  }

  #admit(admit: (ticket: Ticket) => void): void {
    this.#answering++;
    let isReleased = false;
    const since = this.#options.now?.();
    admit({
      release: () => {
        if (isReleased) return;
        isReleased = true;
        this.#answering--;
        if (since !== undefined) this.#noteTime((this.#options.now?.() ?? since) - since);
        this.#defer();
      },
    });
  }

  #noteTime(ms: number): void {
    this.#answerMs = this.#answerMs === 0 ? ms : this.#answerMs + SMOOTHING * (ms - this.#answerMs);
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
