import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { CertificateExpiry } from "./certificate-expiry.ts";
import { systemClock } from "./clock.ts";
import { createLogger } from "./log.ts";
import { createCertificateAuthority } from "./tls.ts";

const DAY_MS = 86_400_000;

it("time left, and a warning when it is short, over, or cannot be told", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sedge-expiry-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "cert.pem");
  const lines: { level: number; msg: string }[] = [];
  const log = createLogger({
    level: "info",
    program: "test",
    destination: { write: (line) => void lines.push(JSON.parse(line) as { level: number; msg: string }) },
  });
  const expiry = new CertificateExpiry({ file, clock: systemClock, log });
  const authority = await createCertificateAuthority();
  const issued = async (validForMs: number): Promise<void> =>
    writeFileSync(file, (await authority.issue({ commonName: "n1", notBefore: new Date(Date.now() - DAY_MS), validForMs })).cert);

  expect(expiry.secondsLeft()).toBeNaN();
  expiry.check();
  await issued(31 * DAY_MS);
  expect(expiry.secondsLeft() / 86_400).toBeCloseTo(30, 1);
  expiry.check();
  await issued(3 * DAY_MS);
  expiry.check();
  await issued(DAY_MS / 2);
  expect(expiry.secondsLeft()).toBeLessThan(0);
  expiry.check();
  expect(lines.map(({ level, msg }) => `${level} ${msg}`)).toEqual([
    "40 the certificate cannot be read",
    "40 the certificate expires soon: replace the file",
    "50 the certificate has expired: the other end refuses it; replace the file",
  ]);
});
