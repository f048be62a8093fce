// What people do with kubectl, and what it prints.
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { at } from "./api-client.ts";
import { type GetScope, POLICIES, POOLS, uniqueName } from "./api-objects.ts";
import { findGoTool } from "./start.ts";

/** SEDGE_KUBECTL, the machine's, or the one built from Go modules. */
export function findKubectl(): string | undefined {
  const named = process.env["SEDGE_KUBECTL"];
  if (named !== undefined && named !== "") return named;
  return existsSync("/usr/bin/kubectl") ? "/usr/bin/kubectl" : findGoTool("kubectl");
}

interface Output {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export function kubectlCases(scope: GetScope): void {
  const binary = findKubectl();
  if (binary === undefined) {
    it.skip("kubectl: skipped, there is no kubectl (set SEDGE_KUBECTL, or node scripts/build-go-tools.mjs kubectl)", () => undefined);
    return;
  }
  describe("kubectl", () => {
    let home = "";
    beforeAll(async () => {
      home = await mkdtemp(join(tmpdir(), "sedge-kubectl-"));
    });
    afterAll(() => rm(home, { recursive: true, force: true }));

    const environment = (): NodeJS.ProcessEnv => ({ ...process.env, KUBECONFIG: scope().kubeconfigPath, HOME: home, KUBECACHEDIR: join(home, "cache") });
    function run(...args: readonly string[]): Promise<Output> {
      return new Promise((resolve) => {
        execFile(binary ?? "", args, { env: environment(), timeout: 60_000 }, (error, out, err) =>
          resolve({ code: error === null ? 0 : Number(error.code ?? 1), out, err }),
        );
      });
    }
    async function file(name: string, text: string): Promise<string> {
      const path = join(home, name);
      await writeFile(path, text);
      return path;
    }
    const policy = (name: string, port: number): string =>
      `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: ${name}}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Ingress]\n  ingress: [{from: [{podSelector: {}}], ports: [{port: ${port}, protocol: TCP}]}]\n`;

    it("apply: created, unchanged, configured, pruned field gone", async () => {
      const ns = await scope().namespace();
      const path = await file(`${ns}.yaml`, policy("web", 80));
      expect((await run("apply", "-n", ns, "-f", path)).out.trim()).toBe("networkpolicy.networking.k8s.io/web created");
      expect((await run("apply", "-n", ns, "-f", path)).out.trim()).toBe("networkpolicy.networking.k8s.io/web unchanged");
      await writeFile(path, policy("web", 81));
      expect((await run("diff", "-n", ns, "-f", path)).code).toBe(1);
      expect((await run("apply", "-n", ns, "-f", path)).out.trim()).toBe("networkpolicy.networking.k8s.io/web configured");
      const live = await scope().api.ask("GET", `${POLICIES(ns)}/web`);
      expect(at(live.body, "spec", "ingress", 0, "ports")).toEqual([{ port: 81, protocol: "TCP" }]);
    });

    it("apply of a custom kind, then label, annotate, get, delete", async () => {
      const name = uniqueName("pool");
      const path = await file(
        `${name}.yaml`,
        `apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: ${name}}\nspec: {cidr: 10.9.0.0/16, natOutgoing: true}\n`,
      );
      expect((await run("apply", "-f", path)).out.trim()).toBe(`ippool.projectcalico.org/${name} created`);
      expect((await run("label", "ippool", name, "team=net")).out).toContain("labeled");
      expect((await run("annotate", "ippool", name, "why=test")).out).toContain("annotated");
      expect((await run("patch", "ippool", name, "--type=merge", "-p", '{"spec":{"disabled":true}}')).out).toContain("patched");
      const shown = await run("get", "ippools", "-l", "team=net", "--field-selector", `metadata.name=${name}`);
      expect(shown.out.split("\n")[0]?.split(/\s\s+/)).toEqual(["NAME", "CIDR", "BLOCK SIZE", "NAT", "DISABLED", "AGE"]);
      expect(shown.out).toMatch(new RegExp(`${name}\\s+10\\.9\\.0\\.0/16\\s+true\\s+true`));
      expect((await run("delete", "ippool", name)).out).toContain(`"${name}" deleted`);
      expect((await scope().api.ask("GET", `${POOLS}/${name}`)).code).toBe(404);
    });

    it("apply refuses an unknown field and says which", async () => {
      const ns = await scope().namespace();
      const path = await file(`${ns}-bad.yaml`, policy("bad", 80).replace("podSelector: {matchLabels", "podSelektor: {matchLabels"));
      const { code, err } = await run("apply", "-n", ns, "-f", path);
      expect([code, err]).toEqual([1, expect.stringContaining('unknown field "spec.podSelektor"')]);
    });

    it("apply --server-side: applied, conflict with the other manager named, forced", async () => {
      const ns = await scope().namespace();
      const path = await file(`${ns}-ssa.yaml`, policy("web", 80));
      expect((await run("apply", "--server-side", "-n", ns, "-f", path)).out).toContain("serverside-applied");
      await run("patch", "-n", ns, "networkpolicy", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/ingress/0/ports/0/port","value":443}]');
      const conflict = await run("apply", "--server-side", "-n", ns, "-f", path);
      expect([conflict.code, conflict.err]).toEqual([1, expect.stringMatching(/conflict with "kubectl-patch".*: \.spec\.ingress/)]);
      expect((await run("apply", "--server-side", "--force-conflicts", "-n", ns, "-f", path)).out).toContain("serverside-applied");
    });

    it("client-side apply, then server-side apply of the same file: no conflict", async () => {
      const ns = await scope().namespace();
      const path = await file(`${ns}-move.yaml`, policy("web", 80));
      await run("apply", "-n", ns, "-f", path);
      await writeFile(path, policy("web", 90));
      const moved = await run("apply", "--server-side", "-n", ns, "-f", path);
      expect([moved.code, moved.out]).toEqual([0, expect.stringContaining("serverside-applied")]);
    });

    it("create, replace, edit, describe", async () => {
      const ns = await scope().namespace();
      const path = await file(`${ns}-create.yaml`, policy("web", 80));
      expect((await run("create", "-n", ns, "-f", path)).out).toContain("created");
      await writeFile(path, policy("web", 8443));
      expect((await run("replace", "-n", ns, "-f", path)).out).toContain("replaced");
      const editor = await file("editor.sh", "#!/bin/sh\nsed -i 's/8443/9443/' \"$1\"\n");
      await chmod(editor, 0o755);
      const edited = await new Promise<string>((resolve) =>
        execFile(binary, ["edit", "-n", ns, "networkpolicy", "web"], { env: { ...environment(), KUBE_EDITOR: editor }, timeout: 60_000 }, (_error, out, err) =>
          resolve(out + err),
        ),
      );
      expect(edited).toContain("edited");
      const described = (await run("describe", "-n", ns, "networkpolicy", "web")).out;
      expect(described).toContain("To Port: 9443/TCP");
      expect(described).toContain("app=web");
    });

    it("create namespace, create serviceaccount, run, get -o wide, delete a pod", async () => {
      const ns = uniqueName("t");
      expect((await run("create", "namespace", ns)).out.trim()).toBe(`namespace/${ns} created`);
      expect((await run("create", "serviceaccount", "worker", "-n", ns)).out.trim()).toBe("serviceaccount/worker created");
      expect((await run("run", "web", "-n", ns, "--image=registry.example/web:1", "--port=80", "--labels=app=web")).out.trim()).toBe("pod/web created");
      expect((await run("get", "pods", "-n", ns, "-o", "wide")).out.split("\n")[0]?.split(/\s\s+/)).toEqual([
        "NAME",
        "READY",
        "STATUS",
        "RESTARTS",
        "AGE",
        "IP",
        "NODE",
        "NOMINATED NODE",
        "READINESS GATES",
      ]);
      expect((await run("delete", "pod", "web", "-n", ns)).out).toContain('"web"');
      expect((await run("get", "pod", "web", "-n", ns)).err).toContain('pods "web" not found');
    });

    it("get -w shows what happens", async () => {
      const ns = await scope().namespace();
      const watching = spawn(binary, ["get", "networkpolicies", "-n", ns, "-w", "--no-headers", "--output-watch-events"], {
        env: environment(),
        stdio: ["ignore", "pipe", "ignore"],
      });
      const lines = createInterface({ input: watching.stdout })[Symbol.asyncIterator]();
      const path = await file(`${ns}-watch.yaml`, policy("seen", 80));
      await run("apply", "-n", ns, "-f", path);
      expect((await lines.next()).value).toMatch(/^ADDED\s+seen\s+app=web/);
      await run("delete", "-n", ns, "networkpolicy", "seen");
      expect((await lines.next()).value).toMatch(/^DELETED\s+seen/);
      watching.kill();
    });

    it("apply of a kind that is not served says so", async () => {
      const path = await file("gadget.yaml", "apiVersion: gadgets.example.com/v1\nkind: Gadget\nmetadata: {name: g}\n");
      const { code, err } = await run("apply", "-f", path);
      expect(err).toContain('no matches for kind "Gadget" in version "gadgets.example.com/v1"');
      expect(code).toBe(1);
    });

    it("explain and api-resources know the kinds", async () => {
      expect((await run("explain", "networkpolicy.spec.ingress.from.ipBlock")).out).toMatch(/cidr\s+<string>/);
      expect((await run("explain", "ippools.spec.blockSize")).out).toMatch(/blockSize <integer>/);
      const lines = (await run("api-resources", "--no-headers")).out.split("\n");
      for (const kind of ["Node", "Namespace", "Pod", "NetworkPolicy", "IPPool", "IPAMBlock", "BlockAffinity", "Lease", "CustomResourceDefinition"])
        expect(lines.some((line) => line.trimEnd().endsWith(` ${kind}`))).toBe(true);
    });
  });
}
