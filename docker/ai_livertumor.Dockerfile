# ai-livertumor: volume -> mask. From the repository's root:
#   docker build -f docker/ai_livertumor.Dockerfile -t clara/ai-livertumor:0.1.0 .
# With pre- and post-processing on a GPU, on a base that has the CUDA runtime, such as Ubuntu 24.04 with it:
#   --build-arg BASE_IMAGE=nvidia/cuda:12.6.3-runtime-ubuntu24.04 --build-arg PACKAGES=ai_livertumor-cuda12
# BASE_IMAGE: any Debian or Ubuntu with Python 3.11 to 3.13. Wheels in wheels/ are used instead of an index.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
# A CUDA base has no Python.
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*)
COPY scripts/image-base /usr/local/bin/
RUN image-base

FROM base AS packages
ARG PACKAGES=ai_livertumor
RUN python3 -c 'import ensurepip' 2>/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3-venv)
COPY scripts/image-packages requirements/images/${PACKAGES}.txt wheel[s] /build/
RUN /build/image-packages /build/${PACKAGES}.txt /opt/clara

FROM base AS code
COPY stages /opt/clara/code/stages
COPY ai_livertumor /opt/clara/code/ai_livertumor
RUN chmod -R a+rX /opt/clara && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/clara

FROM base
RUN mkdir -p /app/input /app/source /app/output /app/locks /app/logs /publish \
    && chown 10001:10001 /app/output /app/locks /app/logs /publish
COPY --from=packages /opt/clara /opt/clara
COPY --from=code /opt/clara/code /opt/clara/code
ENV PATH=/opt/clara/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN NUMBA_CACHE_DIR=/opt/clara/clara-compiled python -m stages.warm_up && chmod -R a+rX /opt/clara/clara-compiled
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "ai_livertumor"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clara/ai-livertumor" \
      org.opencontainers.image.description="Volume to mask of liver and tumour, by a model on a Triton server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
