# A Triton server for CPUs, the one that `clara-wf test` starts. From the repository's root:
#   docker build -f docker/model_server.Dockerfile -t clara/model-server:0.1.0 .
#   docker run --shm-size 2g -v ./models:/models:ro -p 127.0.0.1:8001:8001 clara/model-server:0.1.0
# In production the official Triton image serves the same models.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
COPY scripts/image-base /usr/local/bin/
RUN image-base

FROM base AS server
COPY stages/errors.py /build/stages/
COPY stages/runtime /build/stages/runtime
COPY clara_wf/__init__.py /build/clara_wf/
COPY clara_wf/model_server /build/clara_wf/model_server
COPY scripts/image-model-server wheel[s] /build/
RUN /build/image-model-server

FROM base
COPY --from=server /opt/triton /opt/triton
ENV PATH=/opt/triton/python/bin:$PATH LD_LIBRARY_PATH=/opt/triton/server/nvidia_pytriton.libs HOME=/tmp \
    CUDA_VISIBLE_DEVICES= PYTHONDONTWRITEBYTECODE=1
RUN mkdir /models
WORKDIR /models
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
ENTRYPOINT ["python", "-I", "-S", "/opt/triton/start.py"]
CMD ["--model-repository=/models", "--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false"]
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clara/model-server" \
      org.opencontainers.image.description="Triton server for CPUs with an ONNX backend" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.vendor="clara-stages" \
      org.opencontainers.image.licenses="Apache-2.0"
