# Server, issuer, controllers and command line: root is not needed for any.
FROM node:26-bookworm-slim AS modules
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund && rm -rf node_modules/node-linux-* node_modules/.bin

FROM node:26-bookworm-slim
WORKDIR /opt/sedge
COPY --from=modules /build/node_modules node_modules
COPY package.json ./
COPY bin bin
COPY fanout fanout
COPY src src
USER 65532:65532
ENTRYPOINT ["node", "/opt/sedge/bin/sedge.ts"]
CMD ["fanout"]
