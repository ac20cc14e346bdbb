# dicom-writer: mask + original series -> DICOM. From the repository's root:
#   docker build -f docker/dicom_writer.Dockerfile -t clara/dicom-writer:0.1.0 .
# BASE_IMAGE: any Debian or Ubuntu with Python 3.11 to 3.13. Wheels in wheels/ are used instead of an index.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
COPY scripts/image-base /usr/local/bin/
RUN image-base

FROM base AS packages
COPY scripts/image-packages requirements/images/dicom_writer.txt wheel[s] /build/
RUN /build/image-packages /build/dicom_writer.txt /opt/clara

FROM base AS code
COPY stages /opt/clara/code/stages
COPY dicom_files /opt/clara/code/dicom_files
COPY dicom_writer /opt/clara/code/dicom_writer
RUN chmod -R a+rX /opt/clara && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/clara

FROM base
RUN mkdir -p /app/input /app/source /app/output /app/locks /app/logs /publish \
    && chown 10001:10001 /app/output /app/locks /app/logs /publish
COPY --from=packages /opt/clara /opt/clara
COPY --from=code /opt/clara/code /opt/clara/code
ENV PATH=/opt/clara/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "dicom_writer"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clara/dicom-writer" \
      org.opencontainers.image.description="Mask to DICOM results, each read back and verified" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
