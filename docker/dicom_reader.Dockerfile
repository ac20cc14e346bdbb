# dicom-reader: DICOM folder -> volume. From the repository's root:
#   docker build -f docker/dicom_reader.Dockerfile -t clara/dicom-reader:0.1.0 .
# BASE_IMAGE: any Debian or Ubuntu with Python 3.11 to 3.13. Wheels in wheels/ are used instead of an index.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
COPY scripts/image-base /usr/local/bin/
RUN image-base

FROM base AS packages
COPY scripts/image-packages requirements/images/dicom_reader.txt wheel[s] /build/
RUN /build/image-packages /build/dicom_reader.txt /opt/clara

FROM base AS code
COPY stages /opt/clara/code/stages
COPY dicom_files /opt/clara/code/dicom_files
COPY dicom_reader /opt/clara/code/dicom_reader
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
ENTRYPOINT ["python", "-m", "dicom_reader"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clara/dicom-reader" \
      org.opencontainers.image.description="DICOM folder to volume: a CT series chosen by rules, in Hounsfield units" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
