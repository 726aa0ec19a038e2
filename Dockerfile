# syntax=docker/dockerfile:1

# The node as an image: `docker build -t penstock .`, then
# `docker run -p 8080:8080 -v penstock:/data -e PENSTOCK_ADMIN_KEY=... penstock`.

FROM rust:1.95-bookworm AS tools
WORKDIR /build
RUN apt-get update && apt-get install --yes --no-install-recommends jq && rm -rf /var/lib/apt/lists/*
# Turns the workspace into a recipe of its dependencies alone, so that they are a layer of their own.
RUN cargo install --locked cargo-chef@0.1.78

FROM tools AS recipe
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM tools AS build
# Built anew only when a dependency changes.
COPY --from=recipe /build/recipe.json .
RUN cargo chef cook --release --locked --package penstock --recipe-path recipe.json
COPY . .
# For `penstock_build_info`: `docker build --build-arg PENSTOCK_COMMIT=$(git rev-parse HEAD)`.
ARG PENSTOCK_COMMIT=unknown
RUN cargo build --release --locked --package penstock
# The bill of materials of this binary.
RUN .ci/sbom >sbom.cdx.json

FROM debian:bookworm-slim
# A number, because orchestrators that insist on a user who is not root cannot check a name.
RUN groupadd --gid 10001 penstock \
    && useradd --uid 10001 --gid penstock --no-create-home --home-dir /data --shell /usr/sbin/nologin penstock \
    && install -d -o penstock -g penstock -m 0700 /data
# For `penstock get` and `put` over https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /build/LICENSE /build/sbom.cdx.json /usr/share/doc/penstock/
COPY --from=build /build/target/release/penstock /usr/local/bin/

# Loopback is of no use in a container: what is published to the outside is decided by `docker run -p`.
ENV PENSTOCK_BIND=0.0.0.0:8080 PENSTOCK_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8080
# Drains: no new streams, running ones go on for `server.drain_grace`; the process ends within 29 s (server.drain_*). `docker stop`
# kills after 10 s unless told otherwise: `docker stop --time 30`.
STOPSIGNAL SIGTERM
# Liveness, not readiness: a node whose database is down still streams what it holds leases for, and a restart ends that.
# By bash itself, because the image has no curl, and needs none otherwise.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${PENSTOCK_BIND##*:} && printf 'GET /health/live HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]
ENTRYPOINT ["penstock"]
CMD ["serve"]
