# Images of Kustody: one static binary each, FROM scratch, as user 65532.
#
#   docker build --target operator -t localhost/kustody:0.1.0 .
#   docker build --target agent    -t localhost/kustody-agent:0.1.0 .
#
# The tests build the same targets from binaries that they have just made (--build-arg BINARIES=prebuilt; scripts/images.sh):
# a builder skips the stages that a target does not need, so nothing is pulled there.
ARG BINARIES=builder

FROM docker.io/library/rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
# +crt-static links glibc itself into a position-independent program; an explicit --target keeps that flag away from
# procedural macros, which must stay dynamic.
ENV CARGO_TARGET_DIR=/target RUSTFLAGS="-C target-feature=+crt-static"
# The agent's own variable: seeding from CPU jitter would cost 24 ms at every start, in every pod (docs/adr/0006).
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    set -eu; host="$(rustc -vV | sed -n 's/^host: //p')"; \
    cargo build --locked --release -p kustody --target "$host"; \
    AWS_LC_SYS_NO_JITTER_ENTROPY=1 cargo build --locked --profile agent -p kustody-agent --target "$host"; \
    mkdir /binaries; cp "/target/$host/release/kustody" "/target/$host/agent/kustody-agent" /binaries/

# The context of a prebuilt image is a directory that holds nothing but binaries/.
FROM scratch AS prebuilt
COPY binaries/ /binaries/

FROM ${BINARIES} AS binaries

FROM scratch AS operator
COPY --from=binaries /binaries/kustody /kustody
USER 65532:65532
ENTRYPOINT ["/kustody"]

FROM scratch AS agent
COPY --from=binaries /binaries/kustody-agent /kustody-agent
USER 65532:65532
ENTRYPOINT ["/kustody-agent"]
