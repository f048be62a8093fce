/**
 * The images' Dockerfiles, to be built from the root of the checkout: docker build -f manifests/images/fanout.Dockerfile .
 *
 * Packages are installed in a stage of their own, so that no package manager's cache and no compiler is in what runs. Sources run as they are. Only the
 * folders that a program may import are copied (test/architecture.test.ts says which). Optional packages are installed, since koffi's library is one; the pinned Node, another one, goes again: the base image has it.
 */
const NODE = "node:26-bookworm-slim";

const MODULES = `FROM ${NODE} AS modules
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund && rm -rf node_modules/node-linux-* node_modules/.bin
`;

const CNI = `FROM ${NODE} AS cni
WORKDIR /build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-pip
COPY scripts/build-cni.mjs scripts/single-build.mjs scripts/
COPY cni cni
RUN node scripts/build-cni.mjs
`;

/** Reference plugins for nodes that have none: hostPorts, the loopback interface that container runtimes want, traffic shaping, sysctls. */
const PLUGINS = `FROM ${NODE} AS plugins
RUN apt-get update && apt-get install -y --no-install-recommends containernetworking-plugins
`;

/** Folders of each image, besides package.json. */
export const IMAGE_FOLDERS = { fanout: ["bin", "fanout", "src"], agent: ["bin", "agent", "src"] } as const;

export function renderImages(): ReadonlyMap<string, string> {
  const program = (folders: readonly string[]): string =>
    [
      "WORKDIR /opt/sedge",
      "COPY --from=modules /build/node_modules node_modules",
      "COPY package.json ./",
      ...folders.map((folder) => `COPY ${folder} ${folder}`),
    ].join("\n");
  return new Map([
    [
      "fanout.Dockerfile",
      `# Server, issuer, controllers and command line: root is not needed for any.\n${MODULES}
FROM ${NODE}
${program(IMAGE_FOLDERS.fanout)}
USER 65532:65532
ENTRYPOINT ["node", "/opt/sedge/bin/sedge.ts"]
CMD ["fanout"]
`,
    ],
    [
      "agent.Dockerfile",
      `# Node agent and CNI executable. Root, with the capabilities that the DaemonSet leaves it: the kernel lets nobody else program its tables.\n${MODULES}
${CNI}
${PLUGINS}
FROM ${NODE}
${program(IMAGE_FOLDERS.agent)}
COPY --from=cni /build/dist/cni/sedge-cni cni/sedge-cni
COPY --from=plugins /usr/lib/cni/portmap /usr/lib/cni/loopback /usr/lib/cni/bandwidth /usr/lib/cni/tuning cni/plugins/
USER 0:0
ENTRYPOINT ["node", "/opt/sedge/bin/sedge.ts"]
CMD ["agent"]
`,
    ],
  ]);
}
