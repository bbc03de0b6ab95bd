# Three stages: `packages` has Python and what Pipfile.lock names, `test` adds the dev packages and the whole
# repository, `workshop` (the last, so the default) adds the library and the notebooks and is what people run.
# Only a change of Pipfile, Pipfile.lock, pyproject.toml or LICENSE installs packages again.

FROM python:3.11-slim-bookworm AS packages

LABEL org.opencontainers.image.title="anomaly_lib" \
      org.opencontainers.image.description="Workshop and library for industrial visual anomaly detection" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"

# tini reaps the processes that a killed kernel leaves behind and passes signals on.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/*

ARG PIPENV_VERSION=2026.10.3
ENV PATH=/opt/venv/bin:$PATH \
    VIRTUAL_ENV=/opt/venv \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# The library is installed as a link to this folder, so an empty one will do until the code is copied.
WORKDIR /opt/anomaly
COPY Pipfile Pipfile.lock pyproject.toml LICENSE ./
RUN --mount=type=secret,id=pip_index_url \
    --mount=type=bind,source=docker/sync.sh,target=/run/sync.sh \
    mkdir anomaly_lib && touch README.md anomaly_lib/__init__.py \
 && python3 -m venv /opt/venv \
 && bash /run/sync.sh

# What the entry point, the compose file and the library agree on.
ENV PATH=/opt/anomaly/docker:$PATH \
    ANOMALY_WORK=/work \
    HOME=/tmp/home \
    USER=workshop \
    SHELL=/bin/bash \
    HF_HUB_DISABLE_TELEMETRY=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN mkdir -p /work /workshop/notebooks /workshop/work
ENTRYPOINT ["entrypoint.sh"]


FROM packages AS test
RUN --mount=type=secret,id=pip_index_url \
    --mount=type=bind,source=docker/sync.sh,target=/run/sync.sh \
    bash /run/sync.sh --dev
COPY . .
RUN chmod -R a+rX .
CMD ["pytest", "-p", "no:cacheprovider"]


FROM packages AS workshop
COPY docker docker
COPY docker/jupyter /etc/jupyter
COPY anomaly_lib anomaly_lib
COPY notebooks notebooks
RUN chmod -R a+rX . && python3 -m compileall -q anomaly_lib
WORKDIR /workshop
EXPOSE 8888
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["healthcheck.sh"]
CMD ["lab.sh"]
