# The server and one bundle: `docker build .` for a CPU, `docker build --target cuda .` for a GPU.
# Needs BuildKit (cache mounts, --chmod).
#
#   build ── build-cpu ───┐                  build-*   make the environments; these stages are not part of the image
#     └───── build-cuda ─┐│                  rooms     the code of the served rooms, listed once for both targets
#   rooms ───────────────┤│                  runtime   settings and bundle, what both targets share
#   runtime ── cuda ─────┘│
#     └─────── cpu ───────┘
#
# The image holds models/, engine/, api/, scoring/ and a bundle. Serving and scoring import no other room.

# Any Debian-like image with `python` (3.11 or newer), pip and venv works for both targets: the CUDA libraries are wheels.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
# Without pip: the final image does not need it, and an intruder cannot use it.
RUN python -m venv --without-pip /opt/venv
# The project's metadata needs README.md and LICENSE. Apache-2.0 wants the licence in every copy.
COPY pyproject.toml constraints.txt README.md LICENSE ./

# The two onnxruntime packages overwrite each other: one stage each, never one environment for both.
FROM build AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --constraint constraints.txt '.[serve,otel,cuda]'

FROM build AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --constraint constraints.txt '.[serve,otel,cpu]'

# Every user can read the files and no user can write them, with any umask of the checkout.
FROM scratch AS rooms
COPY --chmod=0555 models/ /app/models/
COPY --chmod=0555 engine/ /app/engine/
COPY --chmod=0555 api/ /app/api/
COPY --chmod=0555 scoring/ /app/scoring/

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="KoRE Serve" \
      org.opencontainers.image.description="Korean relation extraction over HTTP: a KLUE-RE ensemble with dynamic batching" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
# PYTHONPATH: the rooms are not installed packages, and `docker exec` can start in another folder.
# No .pyc files and no home folder: everything runs on a read-only root file system. pip has compiled the libraries.
# ORT_DISABLE_TELEMETRY: ONNX Runtime sends reports to its maker unless this is set before it loads, and it would
# store a device number in a home folder, which does not exist here.
# KORE_HOST: from outside a container its loopback address is out of reach.
# KORE_PORT: the health check reads it, so that it follows a changed port.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    KORE_HOST=0.0.0.0 \
    KORE_PORT=8000
# First the layers that change least: bundle, environment, code.
COPY --chmod=0555 bundles/default/ /app/bundles/default/
# A number: an orchestrator that forbids root cannot tell from a name whether the user is root.
USER 10001:10001
EXPOSE 8000
# On SIGTERM /ready answers 503, accepted requests are finished, then the process ends. Give it 50 s
# (`docker stop --timeout 50`). SIGUSR1 reloads the bundle.
STOPSIGNAL SIGTERM
# /health and not /ready: a server that still loads must not be restarted. Python's client: the base image has no
# curl. No proxies: with HTTP_PROXY the request would leave the container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['KORE_PORT'] + '/health', timeout=2)"]
# Exec form: the server itself is process 1 and receives the signals.
CMD ["python", "-m", "api"]

FROM runtime AS cuda
# The NVIDIA runtime reads the first two and mounts the driver. With KORE_DEVICE=cuda the server refuses to start
# without a GPU, instead of being slow.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    KORE_DEVICE=cuda
COPY --from=build-cuda /opt/venv /opt/venv
COPY --from=rooms /app /app

FROM runtime AS cpu
ENV KORE_DEVICE=cpu
COPY --from=build-cpu /opt/venv /opt/venv
COPY --from=rooms /app /app
