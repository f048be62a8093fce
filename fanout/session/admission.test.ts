import { describe, expect, it } from "vitest";
import { Admission, type Ticket } from "./admission.ts";

describe("admission", () => {
  it("S10 bounds answers, lets resumes go first, refuses beyond the line, and a leaver frees its place in it", () => {
    const admission = new Admission({ maxAnswers: 1, maxWaiting: 3, defer: (run) => run() });
    const admitted: string[] = [];
    const tickets: Ticket[] = [];
    const ask = (name: string, isResume: boolean): { leave(): void } | undefined =>
      admission.request(isResume, (ticket) => {
        admitted.push(name);
        tickets.push(ticket);
      });
    ask("a", false);
    ask("b", false);
    const leaver = ask("c", false);
    ask("d", true);
    expect(ask("e", true)).toBeUndefined();
    leaver?.leave();
    leaver?.leave();
    expect(admission.waiting).toBe(2);
    ask("f", false);
    expect(admitted).toEqual(["a"]);
    for (let i = 0; i < 3; i++) {
      tickets[i]?.release();
      tickets[i]?.release();
    }
    expect(admitted).toEqual(["a", "d", "b", "f"]);
    expect(admission.answering).toBe(1);
    tickets[3]?.release();
    expect([admission.answering, admission.waiting]).toEqual([0, 0]);
  });

  it("a release inside admit lets the next go, one by one", () => {
    const deferred: (() => void)[] = [];
    const admission = new Admission({ maxAnswers: 1, maxWaiting: 10, defer: (run) => deferred.push(run) });
    let first: Ticket | undefined;
    const order: number[] = [];
    admission.request(true, (ticket) => {
      first = ticket;
    });
    for (let i = 0; i < 5; i++)
      admission.request(true, (ticket) => {
        order.push(i);
        ticket.release();
      });
    first?.release();
    expect(order).toEqual([]);
    for (let run = deferred.shift(); run !== undefined; run = deferred.shift()) run();
    expect(order).toEqual([0, 1, 2, 3, 4]);
    expect(admission.answering).toBe(0);
  });
});
