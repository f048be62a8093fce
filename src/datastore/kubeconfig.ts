/**
 * Finds the API server as kubectl does: a file that was named, else KUBECONFIG, else ~/.kube/config, else the service account of the pod.
 *
 * The file is parsed here; @kubernetes/client-node is loaded only for users with an exec plug-in (its exec module alone, 5 ms) or an auth-provider
 * (all of it, 0.4 s and 83 MB). Rejected: its KubeConfig for everything, at that price in every start of every command.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { type ApiConnection, type ApiCredentials, RotatedFile } from "./connection.ts";

const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

const clusterShape = z.looseObject({
  server: z.string(),
  "certificate-authority": z.string().optional(),
  "certificate-authority-data": z.string().optional(),
  "insecure-skip-tls-verify": z.boolean().optional(),
  "tls-server-name": z.string().optional(),
  "proxy-url": z.string().optional(),
});
const userShape = z.looseObject({
  "client-certificate": z.string().optional(),
  "client-certificate-data": z.string().optional(),
  "client-key": z.string().optional(),
  "client-key-data": z.string().optional(),
  token: z.string().optional(),
  tokenFile: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  as: z.string().optional(),
  exec: z.looseObject({ command: z.string() }).nullish(),
  "auth-provider": z.looseObject({ name: z.string() }).nullish(),
});
const contextShape = z.looseObject({ cluster: z.string(), user: z.string(), namespace: z.string().optional() });
const kubeconfigShape = z.looseObject({
  "current-context": z.string().nullish(),
  clusters: z.array(z.looseObject({ name: z.string(), cluster: clusterShape })).nullish(),
  users: z.array(z.looseObject({ name: z.string(), user: userShape.nullish() })).nullish(),
  contexts: z.array(z.looseObject({ name: z.string(), context: contextShape })).nullish(),
});

type Cluster = z.infer<typeof clusterShape>;
type User = z.infer<typeof userShape>;
type Kubeconfig = z.infer<typeof kubeconfigShape>;

/** The configuration cannot be used; the message names the file, the field and what to do. */
export class KubeconfigError extends Error {
  override readonly name = "KubeconfigError";
  readonly code = "KUBECONFIG";
}

export interface FindConnectionOptions {
  /** Named by the user (--kubeconfig): the only place looked at. */
  readonly file?: string | undefined;
  /** Context of the file; its current-context unless given. */
  readonly context?: string | undefined;
  /** KUBECONFIG, HOME, KUBERNETES_SERVICE_HOST and _PORT are read from it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export async function findConnection({ file, context, environment }: FindConnectionOptions): Promise<ApiConnection> {
  if (file !== undefined) return await connectionFromFiles([file], context);
  const listed = (environment["KUBECONFIG"] ?? "").split(":").filter((path) => path !== "");
  if (listed.length > 0) {
    const present = listed.filter((path) => existsSync(path));
    if (present.length === 0) throw new KubeconfigError(`KUBECONFIG: none of ${listed.join(", ")} exists`);
    return await connectionFromFiles(present, context);
  }
  const home = join(environment["HOME"] ?? "/root", ".kube", "config");
  if (existsSync(home)) return await connectionFromFiles([home], context);
  const inCluster = inClusterConnection(environment);
  if (inCluster !== undefined) return inCluster;
  throw new KubeconfigError(
    `no API server known: name a file with --kubeconfig or KUBECONFIG, or create ${home}; this is not a pod either (KUBERNETES_SERVICE_HOST is not set)`,
  );
}

/** The pod's service account, undefined outside of a pod. */
export function inClusterConnection(environment: FindConnectionOptions["environment"], directory = SERVICE_ACCOUNT): ApiConnection | undefined {
  const host = environment["KUBERNETES_SERVICE_HOST"];
  const port = environment["KUBERNETES_SERVICE_PORT"] ?? "443";
  if (host === undefined || host === "" || !existsSync(`${directory}/token`)) return undefined;
  const token = new RotatedFile(`${directory}/token`);
  const ca = new RotatedFile(`${directory}/ca.crt`);
  return {
    url: new URL(`https://${host.includes(":") ? `[${host}]` : host}:${port}`),
    origin: "service account of the pod",
    credentials: async ({ fresh = false } = {}) => ({ headers: { authorization: `Bearer ${(await token.text(fresh)).trim()}` }, ca: await ca.text(fresh) }),
  };
}

/** Several files are merged as kubectl merges them: the first that has a name wins. */
async function connectionFromFiles(files: readonly string[], wantedContext: string | undefined): Promise<ApiConnection> {
  const configs = await Promise.all(files.map(async (file) => ({ file, config: await readKubeconfig(file) })));
  const where = files.join(", ");
  const contextName = wantedContext ?? configs.map(({ config }) => config["current-context"] ?? "").find((name) => name !== "");
  if (contextName === undefined) throw new KubeconfigError(`${where}: current-context is not set; name a context`);
  const find = <T>(what: string, name: string, pick: (config: Kubeconfig) => T | undefined): { file: string; found: T } => {
    for (const { file, config } of configs) {
      const found = pick(config);
      if (found !== undefined) return { file, found };
    }
    throw new KubeconfigError(`${where}: there is no ${what} named ${JSON.stringify(name)}`);
  };
  const { found: context } = find("context", contextName, (config) => config.contexts?.find((one) => one.name === contextName)?.context);
  const { file: clusterFile, found: cluster } = find(
    "cluster",
    context.cluster,
    (config) => config.clusters?.find((one) => one.name === context.cluster)?.cluster,
  );
  const { file: userFile, found: user } = find("user", context.user, (config) => {
    const entry = config.users?.find((one) => one.name === context.user);
    return entry === undefined ? undefined : (entry.user ?? {});
  });
  if (cluster["proxy-url"] !== undefined) throw new KubeconfigError(`${clusterFile}: cluster ${context.cluster}: proxy-url is not supported`);
  if (!URL.canParse(cluster.server))
    throw new KubeconfigError(`${clusterFile}: cluster ${context.cluster}: server is no URL: ${JSON.stringify(cluster.server)}`);
  const tls = clusterTls(cluster, dirname(clusterFile));
  const identity = userIdentity(user, { name: context.user, file: userFile });
  return {
    url: new URL(cluster.server),
    origin: `${where} (context ${contextName})`,
    credentials: async ({ fresh = false } = {}) => ({ ...(await tls(fresh)), ...(await identity(fresh)) }),
  };
}

async function readKubeconfig(file: string): Promise<Kubeconfig> {
  let value: unknown;
  try {
    value = parseYaml(await readFile(file, "utf8"));
  } catch (error) {
    throw new KubeconfigError(`${file}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const result = kubeconfigShape.safeParse(value ?? {});
  if (result.success) return result.data;
  throw new KubeconfigError(`${file}: ${result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ")}`);
}

function clusterTls(cluster: Cluster, directory: string): (fresh: boolean) => Promise<Omit<ApiCredentials, "headers">> {
  const ca = textOf(cluster["certificate-authority-data"], cluster["certificate-authority"], directory);
  return async (fresh) => ({
    ...optional("ca", await ca(fresh)),
    ...optional("servername", cluster["tls-server-name"]),
    ...(cluster["insecure-skip-tls-verify"] === true ? { rejectUnauthorized: false } : {}),
  });
}

function userIdentity(
  user: User,
  { name, file }: { name: string; file: string },
): (fresh: boolean) => Promise<Pick<ApiCredentials, "headers" | "cert" | "key">> {
  const cert = textOf(user["client-certificate-data"], user["client-certificate"], dirname(file));
  const key = textOf(user["client-key-data"], user["client-key"], dirname(file));
  const tokenFile = user.tokenFile === undefined ? undefined : new RotatedFile(resolve(dirname(file), user.tokenFile));
  const plugin = pluginOf(user, { name, file });
  return async (fresh) => {
    const token = tokenFile === undefined ? user.token : (await tokenFile.text(fresh)).trim();
    const basic = user.username === undefined ? undefined : Buffer.from(`${user.username}:${user.password ?? ""}`).toString("base64");
    const authorization = token !== undefined && token !== "" ? `Bearer ${token}` : basic === undefined ? undefined : `Basic ${basic}`;
    const own = { ...optional("cert", await cert(fresh)), ...optional("key", await key(fresh)) };
    const given = await plugin?.(fresh);
    return { ...own, ...given, headers: { ...optional("authorization", authorization), ...given?.headers, ...optional("impersonate-user", user.as) } };
  };
}

/** Credentials from an exec plug-in or an auth-provider; undefined when the user has neither. */
function pluginOf(
  user: User,
  { name, file }: { name: string; file: string },
): ((fresh: boolean) => Promise<Pick<ApiCredentials, "headers" | "cert" | "key">>) | undefined {
  const { exec } = user;
  const provider = user["auth-provider"];
  if (exec === undefined && provider === undefined) return undefined;
  let authenticator: Promise<{ applyAuthentication(user: unknown, options: object): Promise<void> }> | undefined;
  return async (fresh) => {
    // It keeps what the plug-in gave until that expires: a new one asks again after a 401.
    if (fresh) authenticator = undefined;
    const options: { headers?: Record<string, string>; cert?: string; key?: string } = {};
    try {
      authenticator ??=
        exec === undefined || exec === null
          ? authProvider(name, provider)
          : import("@kubernetes/client-node/dist/exec_auth.js").then(({ ExecAuth }) => new ExecAuth() as never);
      await (await authenticator).applyAuthentication({ name, exec, authProvider: provider }, options);
    } catch (error) {
      throw new KubeconfigError(
        `${file}: user ${name}: ${exec === undefined ? "auth-provider" : `exec plug-in ${exec?.command}`} failed: ${error instanceof Error ? error.message.trim() : String(error)}`,
        { cause: error },
      );
    }
    return { headers: lowerCased(options.headers ?? {}), ...optional("cert", options.cert), ...optional("key", options.key) };
  };
}

async function authProvider(name: string, provider: unknown): Promise<{ applyAuthentication(user: unknown, options: object): Promise<void> }> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: "c", server: "https://unused.invalid", skipTLSVerify: false }],
    users: [{ name, authProvider: provider }],
    contexts: [{ name: "x", cluster: "c", user: name }],
    currentContext: "x",
  });
  return { applyAuthentication: (_user, options) => config.applyToHTTPSOptions(options) };
}

/** Inline base64 wins over a path, as in kubectl; a path is relative to its file. */
function textOf(data: string | undefined, path: string | undefined, directory: string): (fresh: boolean) => Promise<string | undefined> {
  if (data !== undefined && data !== "") {
    const text = Buffer.from(data, "base64").toString("utf8");
    return () => Promise.resolve(text);
  }
  if (path === undefined || path === "") return () => Promise.resolve(undefined);
  const file = new RotatedFile(resolve(directory, path));
  return (fresh) => file.text(fresh);
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function optional<Key extends string, Value>(key: Key, value: Value | undefined): { readonly [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [K in Key]?: Value };
}
