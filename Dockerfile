# The images of restain: `cpu` (the default target), `cuda` and `train`.
#
#   docker build --target cpu --tag restain:cpu .        or `make image`; podman and buildah work too
#
# An image contains Debian, one program and its libraries: no compiler, no Python, and no trainer in the server's images.
# docs/operating.md describes how to run it; deploy/image/test.sh builds it without a container engine or registry.

ARG RUST_IMAGE=rust:1.95.0-slim-trixie
ARG DEBIAN_IMAGE=debian:13.8-slim


# Native libraries: wheels pinned by version and digest, fetched by the same script as in a checkout.
FROM ${DEBIAN_IMAGE} AS fetch
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip
WORKDIR /source
COPY tools/fetch.py tools/fetch.py

FROM fetch AS onnxruntime
RUN python3 tools/fetch.py onnxruntime

FROM fetch AS onnxruntime-cuda
RUN python3 tools/fetch.py onnxruntime-cuda

FROM fetch AS libtorch
RUN python3 tools/fetch.py libtorch


# The programs. Cache mounts keep cargo's downloads and build files between builds, outside the image.
FROM ${RUST_IMAGE} AS source
WORKDIR /source
COPY Cargo.toml Cargo.lock build.rs ./
COPY benches/*.rs benches/
COPY docs/tile.png docs/tiles.safetensors docs/references.safetensors docs/
COPY proto proto
COPY src src
COPY crates crates
COPY deploy/image/crates.sh deploy/image/crates.sh

FROM source AS build
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,id=restain-serve,target=/source/target \
    cargo build --release --locked --bin restain \
    && install -D target/release/restain /out/restain \
    && deploy/image/crates.sh restain > /out/crates

FROM source AS build-train
RUN apt-get update && apt-get install --yes --no-install-recommends g++
# The same path as in the final image, where the program looks for it.
ENV LIBTORCH=/opt/libtorch
COPY --from=libtorch /source/.deps/libtorch /opt/libtorch
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,id=restain-train,target=/source/target \
    cargo build --release --locked -p restain-train --features collectives \
    && install -D target/release/restain-train /out/restain-train \
    && deploy/image/crates.sh restain-train > /out/crates


# The base of all images.
FROM ${DEBIAN_IMAGE} AS base
COPY LICENSE /usr/share/doc/restain/LICENSE
USER 65532:65532
STOPSIGNAL SIGTERM
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The restain authors" \
      org.opencontainers.image.version="0.1.0"

FROM base AS server
USER root
# The cache and added styles. The server writes nowhere else.
RUN install --directory --owner=65532 --group=65532 /var/lib/restain /var/lib/restain/cache /var/lib/restain/state
USER 65532:65532
COPY models/demo /models/demo
COPY deploy/image/restain.toml /etc/restain/restain.toml
COPY --from=build /out/restain /usr/local/bin/restain
ENV RESTAIN_CONFIG=/etc/restain/restain.toml ORT_DYLIB_PATH=/opt/onnxruntime/lib/libonnxruntime.so
VOLUME /var/lib/restain
# HTTP, gRPC, and probes without TLS and keys, as in restain.toml.
EXPOSE 8080 8081 8082
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["/usr/local/bin/restain", "health", "http://127.0.0.1:8082/health/ready"]
ENTRYPOINT ["/usr/local/bin/restain"]
CMD ["serve"]


# Bills of materials: linked crates, fetched wheels, and Debian packages.
FROM onnxruntime AS sbom-cpu
COPY tools/sbom.py tools/sbom.py
COPY Cargo.lock ./
COPY models/demo models/demo
COPY --from=build /out/crates crates
COPY --from=base /var/lib/dpkg/status dpkg-status
RUN python3 tools/sbom.py restain --crates crates --wheels .deps/onnxruntime/pins.json --debian dpkg-status --bundles models > sbom.cdx.json

FROM onnxruntime-cuda AS sbom-cuda
COPY tools/sbom.py tools/sbom.py
COPY Cargo.lock ./
COPY models/demo models/demo
COPY --from=build /out/crates crates
COPY --from=base /var/lib/dpkg/status dpkg-status
RUN python3 tools/sbom.py restain --crates crates --wheels .deps/onnxruntime-cuda/pins.json --debian dpkg-status --bundles models > sbom.cdx.json

FROM onnxruntime AS sbom-train
COPY tools/sbom.py tools/sbom.py
COPY Cargo.lock ./
COPY --from=libtorch /source/.deps/libtorch/pins.json libtorch.json
COPY --from=build-train /out/crates crates
COPY --from=base /var/lib/dpkg/status dpkg-status
RUN python3 tools/sbom.py restain-train --crates crates --wheels .deps/onnxruntime/pins.json libtorch.json --debian dpkg-status > sbom.cdx.json


# The trainer, for CPUs. docs/operating.md describes how to add libtorch's GPU libraries.
FROM base AS train
COPY --from=libtorch /source/.deps/libtorch/lib /opt/libtorch/lib
COPY --from=onnxruntime /source/.deps/onnxruntime /opt/onnxruntime
COPY --from=build-train /out/restain-train /usr/local/bin/restain-train
COPY --from=sbom-train /source/sbom.cdx.json /usr/share/doc/restain/sbom.cdx.json
# The export runs ONNX Runtime, to check that the exported graph agrees with the trained weights.
ENV ORT_DYLIB_PATH=/opt/onnxruntime/lib/libonnxruntime.so
ARG REVISION=unknown
LABEL org.opencontainers.image.title="restain-train" \
      org.opencontainers.image.description="Trainer of the style-mixing Vision Transformers that restain serves" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["/usr/local/bin/restain-train"]
CMD ["--help"]


# The server for NVIDIA GPUs. NVIDIA's container toolkit adds the node's driver.
FROM server AS cuda
COPY --from=onnxruntime-cuda /source/.deps/onnxruntime-cuda /opt/onnxruntime
COPY --from=sbom-cuda /source/sbom.cdx.json /usr/share/doc/restain/sbom.cdx.json
ENV LD_LIBRARY_PATH=/opt/onnxruntime/lib NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility RESTAIN_DEVICES=cuda:0 \
    RESTAIN_AUGMENT_DEVICES=cuda:0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="restain" \
      org.opencontainers.image.description="Server of domain-shifted histopathology tiles, on NVIDIA GPUs" \
      org.opencontainers.image.revision="${REVISION}"


# The server for CPUs.
FROM server AS cpu
COPY --from=onnxruntime /source/.deps/onnxruntime /opt/onnxruntime
COPY --from=sbom-cpu /source/sbom.cdx.json /usr/share/doc/restain/sbom.cdx.json
ARG REVISION=unknown
LABEL org.opencontainers.image.title="restain" \
      org.opencontainers.image.description="Server of domain-shifted histopathology tiles" \
      org.opencontainers.image.revision="${REVISION}"
