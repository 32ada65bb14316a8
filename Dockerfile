# The images for the CPU: `reranker` (the last stage, built unless another is named) and `operator`.
#
#   docker build .                        the server, with the demo model inside
#   docker build --target operator .      the operator
#
# What runs has no shell and no package manager. Another base that has glibc 2.36 or later and a CA bundle:
# --build-arg RUN_IMAGE=...
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS tools
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked cargo-auditable@0.7.7
WORKDIR /source

# Dependencies come from the cache of the builder; each binary carries their list, which scanners read (`cargo audit bin`,
# `syft`, `trivy`).
FROM tools AS build-operator
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target,id=reranker-operator \
    CARGO_TARGET_DIR=/target cargo auditable build --release --locked --package reranker-operator && \
    install --strip -D /target/release/reranker-operator /image/usr/bin/reranker-operator && \
    install -D --mode 644 LICENSE /image/usr/share/doc/reranker/LICENSE

FROM tools AS build-server
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target,id=reranker-server \
    CARGO_TARGET_DIR=/target cargo auditable build --release --locked --package reranker && \
    install --strip -D /target/release/reranker /image/usr/bin/reranker && \
    install -D --mode 644 LICENSE /image/usr/share/doc/reranker/LICENSE

FROM ${RUN_IMAGE} AS operator
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="reranker-operator" \
      org.opencontainers.image.description="Keeps RerankerDeployment objects of a Kubernetes cluster running and scaled" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-operator /image /
USER 65532:65532
EXPOSE 8081 9443
ENTRYPOINT ["/usr/bin/reranker-operator"]
CMD ["run"]

FROM ${RUN_IMAGE} AS server
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="reranker" \
      org.opencontainers.image.description="Reranking models behind gRPC and the ZeroEntropy HTTP API, on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-server /image /
USER 65532:65532
EXPOSE 8080 50051 9090
ENTRYPOINT ["/usr/bin/reranker"]
CMD ["serve"]
