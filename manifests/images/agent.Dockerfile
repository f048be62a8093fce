# Node agent and CNI executable. Root, with the capabilities that the DaemonSet leaves it: the kernel lets nobody else program its tables.
FROM node:26-bookworm-slim AS modules
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund && rm -rf node_modules/node-linux-* node_modules/.bin

FROM node:26-bookworm-slim AS cni
WORKDIR /build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-pip
COPY scripts/build-cni.mjs scripts/single-build.mjs scripts/
COPY cni cni
RUN node scripts/build-cni.mjs

FROM node:26-bookworm-slim AS plugins
RUN apt-get update && apt-get install -y --no-install-recommends containernetworking-plugins

FROM node:26-bookworm-slim
WORKDIR /opt/sedge
COPY --from=modules /build/node_modules node_modules
COPY package.json ./
COPY bin bin
COPY agent agent
COPY src src
COPY --from=cni /build/dist/cni/sedge-cni cni/sedge-cni
COPY --from=plugins /usr/lib/cni/portmap /usr/lib/cni/loopback /usr/lib/cni/bandwidth /usr/lib/cni/tuning cni/plugins/
USER 0:0
ENTRYPOINT ["node", "/opt/sedge/bin/sedge.ts"]
CMD ["agent"]
