# The stages: dicom_reader (DICOM folder -> volume), ai_livertumor (volume -> mask), dicom_writer (mask -> DICOM).
# From the repository's root:
#   docker build -f docker/stage.Dockerfile --build-arg STAGE=dicom_reader -t clara/dicom-reader:0.1.0 .
#   docker build -f docker/stage.Dockerfile --build-arg STAGE=ai_livertumor -t clara/ai-livertumor:0.1.0 .
#   docker build -f docker/stage.Dockerfile --build-arg STAGE=dicom_writer -t clara/dicom-writer:0.1.0 .
# ai_livertumor with pre- and post-processing on a GPU, on a base that has the CUDA runtime:
#   --build-arg BASE_IMAGE=nvidia/cuda:12.6.3-runtime-ubuntu24.04 --build-arg PACKAGES=ai_livertumor-cuda12
# BASE_IMAGE: any Debian or Ubuntu with Python 3.11 to 3.13. Wheels in wheels/ are used instead of an index.
ARG BASE_IMAGE=python:3.11-slim
ARG STAGE

FROM ${BASE_IMAGE} AS base
# A CUDA base has no Python.
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*)
COPY scripts/image-base /usr/local/bin/
RUN image-base

FROM base AS packages
ARG STAGE
ARG PACKAGES=${STAGE}
RUN case "${STAGE}" in dicom_reader | ai_livertumor | dicom_writer) ;; \
    *) echo "no stage '${STAGE}'; --build-arg STAGE=dicom_reader, ai_livertumor or dicom_writer" >&2; exit 2 ;; esac
RUN python3 -c 'import ensurepip' 2>/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3-venv)
COPY scripts/image-packages requirements/images/${PACKAGES}.txt wheel[s] /build/
RUN /build/image-packages /build/${PACKAGES}.txt /opt/clara

FROM base AS code
ARG STAGE
COPY stages /opt/clara/code/stages
COPY dicom_files /opt/clara/code/dicom_files
COPY ${STAGE} /opt/clara/code/${STAGE}
RUN chmod -R a+rX /opt/clara && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/clara

FROM base AS image
RUN mkdir -p /app/input /app/source /app/output /app/locks /app/logs /publish \
    && chown 10001:10001 /app/output /app/locks /app/logs /publish
COPY --from=packages /opt/clara /opt/clara
COPY --from=code /opt/clara/code /opt/clara/code
ENV PATH=/opt/clara/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility
# What Numba would compile at each start is compiled now, for the stage that has it.
RUN ! python -c 'import numba' 2>/dev/null \
    || (NUMBA_CACHE_DIR=/opt/clara/clara-compiled python -m stages.segmentation.warm_up && chmod -R a+rX /opt/clara/clara-compiled)
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM

FROM image AS stage-dicom_reader
ENTRYPOINT ["python", "-m", "dicom_reader"]
LABEL org.opencontainers.image.title="clara/dicom-reader" \
      org.opencontainers.image.description="DICOM folder to volume: a CT series chosen by rules, in Hounsfield units"

FROM image AS stage-ai_livertumor
ENTRYPOINT ["python", "-m", "ai_livertumor"]
LABEL org.opencontainers.image.title="clara/ai-livertumor" \
      org.opencontainers.image.description="Volume to mask of liver and tumour, by a model on a Triton server"

FROM image AS stage-dicom_writer
ENTRYPOINT ["python", "-m", "dicom_writer"]
LABEL org.opencontainers.image.title="clara/dicom-writer" \
      org.opencontainers.image.description="Mask to DICOM results, each read back and verified"

FROM stage-${STAGE}
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.vendor="clara-stages" \
      org.opencontainers.image.licenses="Apache-2.0"
