# The toolkit, to build stages on. From the repository's root:
#   docker build -f docker/stages.Dockerfile -t clara/stages:0.1.0 .
# A stage's own Dockerfile begins with FROM clara/stages:0.1.0; packages are added by
#   USER root
#   RUN pip install --no-cache-dir NAME
#   USER 10001:10001
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
COPY scripts/image-base /usr/local/bin/
RUN image-base

FROM base AS packages
COPY scripts/image-packages requirements/images/stages.txt wheel[s] /build/
RUN /build/image-packages /build/stages.txt /opt/clara --keep-pip

FROM base AS code
COPY stages /opt/clara/code/stages
RUN chmod -R a+rX /opt/clara && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/clara

FROM base
RUN mkdir -p /app/input /app/source /app/output /app/locks /app/logs /publish \
    && chown 10001:10001 /app/output /app/locks /app/logs /publish
COPY --from=packages /opt/clara /opt/clara
COPY --from=code /opt/clara/code /opt/clara/code
ENV PATH=/opt/clara/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
RUN NUMBA_CACHE_DIR=/opt/clara/clara-compiled python -m stages.segmentation.warm_up && chmod -R a+rX /opt/clara/clara-compiled
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
# Runs a program that knows nothing of locks as a stage; a stage in Python names its own entry point.
ENTRYPOINT ["python", "-m", "stages"]
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clara/stages" \
      org.opencontainers.image.description="Toolkit for stages: driver, locks, volumes, geometry, Triton client" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.vendor="clara-stages" \
      org.opencontainers.image.licenses="Apache-2.0"
