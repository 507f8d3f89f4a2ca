# syntax=docker/dockerfile:1
# Streamgate alone, statically linked, in an image with nothing else but certificates. tests/deploy/run runs these steps
# without a container engine and looks at what comes out.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_TERM_COLOR=never
# The dependencies are a layer of their own, which lives until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY crates/sim/Cargo.toml crates/sim/
COPY crates/wire/Cargo.toml crates/wire/
RUN mkdir src crates/sim/src crates/wire/src crates/wire/benches benches \
 && echo '//! A stub.' | tee src/lib.rs src/main.rs crates/sim/src/lib.rs crates/wire/src/lib.rs crates/wire/benches/wire.rs benches/routing.rs \
 && echo 'fn main() {}' >> src/main.rs \
 && cargo build --locked --release --target "$(rustc -vV | sed -n 's/^host: //p')"
COPY crates crates
COPY src src
# Newer than the stubs, whatever the files' own dates are.
RUN touch src/lib.rs src/main.rs crates/sim/src/lib.rs crates/wire/src/lib.rs \
 && cargo build --locked --release --target "$(rustc -vV | sed -n 's/^host: //p')" \
 && strip -o /streamgate target/*/release/streamgate

FROM scratch
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="streamgate" \
      org.opencontainers.image.description="An LLM token-streaming gateway: one endpoint, many providers, every token once and an honest end." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /streamgate /streamgate
# Beside the roots that the program brings; mount another file here for authorities of your own.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Numbers, because there is no /etc/passwd, and so that Kubernetes can tell it is not root.
USER 65532:65532
# Inside a container loopback would reach nobody. This holds whatever server.listen says.
ENV STREAMGATE_LISTEN=0.0.0.0:8080 \
    STREAMGATE_LOG=json
# Callers; server.admin, if the configuration sets it, is for operators and not exposed.
EXPOSE 8080
# With TLS: -e STREAMGATE_HEALTH_URL=https://127.0.0.1:8080/readyz
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 CMD ["/streamgate", "health"]
# Streams run on for server.drain (30 s) after this; give more time than that: --stop-timeout 50.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/streamgate"]
