# The server and one bundle: `docker build .` for a CPU, `docker build --target cuda .` for a GPU. Needs BuildKit (cache mounts, --chmod).
#
#   build ── build-cpu ───┐                  build-*   make the environment, in stages that are thrown away
#     └───── build-cuda ─┐│                  rooms     the code of the served rooms, listed once for both targets
#   rooms ───────────────┤│                  runtime   settings and bundle, what both targets share
#   runtime ── cuda ─────┘│
#     └─────── cpu ───────┘
#
# It copies models/, engine/, api/, scoring/ and a bundle. That this is enough to serve and to score is the import rule seen from outside.

# Any image of Debian's kind with `python` (3.11 or newer), its pip and its venv will do, for both targets: the CUDA libraries come as wheels.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
# Without pip: what nobody calls in the final image cannot be called by an intruder either.
RUN python -m venv --without-pip /opt/venv
# README.md and LICENSE belong to the project's metadata; the licence ends up in the environment, as Apache-2.0 asks of copies.
COPY pyproject.toml constraints.txt README.md LICENSE ./

# The two onnxruntime packages overwrite each other: one stage each, never one environment for both.
FROM build AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --constraint constraints.txt '.[serve,otel,cuda]'

FROM build AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/venv/bin/python install --constraint constraints.txt '.[serve,otel,cpu]'

# Readable for every user and writable for none, whatever umask the checkout was made with.
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
# The rooms are no installed packages: PYTHONPATH finds them, also for `docker exec` from another folder.
# No .pyc and no home: everything runs on a read-only root file system. pip has compiled the libraries already.
# ONNX Runtime's wheels report to their maker unless told not to before they load; and they keep a device's number in a home that is not here.
# In a container the loopback address would reach nobody. The port is written here so that the health check sees a changed one.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    KORE_HOST=0.0.0.0 \
    KORE_PORT=8000
# First the layers that change least: bundle, environment, code.
COPY --chmod=0555 bundles/default/ /app/bundles/default/
# By number: an orchestrator that demands a user other than root cannot judge a name.
USER 10001:10001
EXPOSE 8000
# On SIGTERM /ready turns 503, what is inside is answered, then the process ends: give it 50 s (`docker stop --timeout 50`).
STOPSIGNAL SIGTERM
# Alive, not ready: a server that still loads must not be restarted. Python's own client, because the base image has no curl; without proxies,
# because HTTP_PROXY would take the request out of the container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['KORE_PORT'] + '/health', timeout=2)"]
# Exec form: the server itself is process 1 and gets the signal.
CMD ["python", "-m", "api"]

FROM runtime AS cuda
# The NVIDIA runtime reads the first two and mounts the driver. Asked for CUDA the server refuses to start on a CPU instead of being slow there.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    KORE_DEVICE=cuda
COPY --from=build-cuda /opt/venv /opt/venv
COPY --from=rooms /app /app

FROM runtime AS cpu
ENV KORE_DEVICE=cpu
COPY --from=build-cpu /opt/venv /opt/venv
COPY --from=rooms /app /app
