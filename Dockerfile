# syntax=docker/dockerfile:1
# One image for every service, the broker's nats-server included:
#   docker build -t atlhyper:0.1.0 .
#   docker run --rm atlhyper:0.1.0 --help

ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_PROJECT_ENVIRONMENT=/opt/atlhyper UV_PYTHON_DOWNLOADS=never \
    UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
# The uv of the Makefile.
RUN pip install uv==0.13.8
WORKDIR /src
# What changes seldom first: a change of our code leaves the layer with the libraries as it is.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project
COPY schemas ./schemas
COPY services ./services
RUN uv sync --locked --no-dev --no-editable
COPY --chmod=0755 deploy/image/ready /opt/atlhyper/bin/ready

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="AtlHyper" \
      org.opencontainers.image.description="One control plane for a fleet, on one message bus" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/atlhyper /opt/atlhyper
# Where volumes are mounted: a new one takes its mode from here, so whoever it runs as may write there.
RUN mkdir -m 1777 /data /var/lib/atlhyper
ENV PATH=/opt/atlhyper/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp ATLHYPER_HOME=/var/lib/atlhyper
USER 65532:65532
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["atlhyper"]
CMD ["--help"]
