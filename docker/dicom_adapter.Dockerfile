# dicom-adapter: receives studies, starts published workflows as Jobs of the cluster, delivers results.
# From the repository's root:
#   docker build -f docker/dicom_adapter.Dockerfile -t clara/dicom-adapter:0.1.0 .
# BASE_IMAGE: any Debian or Ubuntu with Python 3.11 to 3.13. Wheels in wheels/ are used instead of an index.
# Helm, which makes the Jobs from a workflow's chart, is taken from wheels/helm, or from the image HELM_IMAGE.
ARG BASE_IMAGE=python:3.11-slim
ARG HELM_IMAGE=alpine/helm:3.19.0

FROM ${HELM_IMAGE} AS helm

FROM ${BASE_IMAGE} AS base
COPY scripts/image-base /usr/local/bin/
RUN image-base

FROM base AS packages
COPY scripts/image-packages requirements/images/dicom_adapter.txt wheel[s] /build/
RUN /build/image-packages /build/dicom_adapter.txt /opt/clara
COPY --from=helm /etc/passwd /usr/bin/hel[m] /usr/local/bin/hel[m] /build/helm-image/
RUN for found in /build/helm /build/helm-image/helm; do \
        if [ -f "$found" ]; then install -m 755 "$found" /opt/clara/bin/helm; break; fi; \
    done

FROM base AS code
COPY stages /opt/clara/code/stages
COPY dicom_files /opt/clara/code/dicom_files
COPY phantoms /opt/clara/code/phantoms
COPY clara_wf /opt/clara/code/clara_wf
COPY dicom_adapter /opt/clara/code/dicom_adapter
COPY clara-reference-workflows/charts /opt/clara/code/clara-reference-workflows/charts
RUN chmod -R a+rX /opt/clara && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/clara/code

FROM base
RUN mkdir -p /clara-io /etc/clara && chown 10001:10001 /clara-io
COPY --from=packages /opt/clara /opt/clara
COPY --from=code /opt/clara/code /opt/clara/code
ENV PATH=/opt/clara/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 TCP_NODELAY=1
WORKDIR /tmp
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 104 8080
ENV CLARA_ADAPTER_CONFIG=/etc/clara/dicom-server-config.yaml
# Whether a study can be taken now; a configuration elsewhere is named in CLARA_ADAPTER_CONFIG.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-m", "clara_wf", "adapter", "health"]
ENTRYPOINT ["python", "-m", "clara_wf", "adapter"]
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clara/dicom-adapter" \
      org.opencontainers.image.description="From the modality to the workflow and back to the PACS" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.vendor="clara-stages" \
      org.opencontainers.image.licenses="Apache-2.0"
