# The image of every process of the platform: code server, webserver, daemon, runs, exporter and migrations.
#
#   docker build --tag otc-assets:0.1.0 .
#
# docs: README.md, "Container image and compose". Both stages use one base, because the environment is bound to the
# Python that created it. To pin the base by its digest, look it up in your registry and pass
# --build-arg BASE_IMAGE=python:3.12-slim-bookworm@sha256:...
ARG BASE_IMAGE=python:3.12-slim-bookworm

# hadolint ignore=DL3006 -- the argument has the tag
FROM ${BASE_IMAGE} AS build
WORKDIR /build
COPY requirements-build.lock requirements-server.lock ./
# A package index, certificates or credentials that pip needs: --secret id=pip.conf,src=FILE. No layer contains them.
# Wheels only, so that nothing is compiled here, and only files whose hash the lock file has.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv tools \
    && python3 -m venv --without-pip /opt/otc-assets \
    && tools/bin/pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
        --requirement requirements-build.lock \
    && tools/bin/pip --python /opt/otc-assets/bin/python install --no-cache-dir --no-deps --no-compile \
        --only-binary=:all: --require-hashes --requirement requirements-server.lock
COPY pyproject.toml README.md dagster.yaml workspace.yaml ./
COPY migrations migrations
COPY otc_assets otc_assets
COPY supply_chain/base_system.py ./
# Bytecode that is valid whatever happens to the times of the files when layers are copied: a container can't write its
# own, and without bytecode each run takes twice the CPU time.
RUN tools/bin/pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir wheels . \
    && tools/bin/pip --python /opt/otc-assets/bin/python install --no-cache-dir --no-deps --no-index --no-compile \
        wheels/*.whl \
    && python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/otc-assets \
    && tools/bin/cyclonedx-py environment /opt/otc-assets/bin/python --pyproject pyproject.toml \
        --output-reproducible --output-file /opt/otc-assets/sbom.cdx.json \
    && python3 base_system.py /opt/otc-assets/sbom.cdx.json

# hadolint ignore=DL3006 -- the argument has the tag
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="otc-assets" \
    org.opencontainers.image.description="FINRA's OTC transparency data as Dagster assets" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# The official images of Python have no bytecode of the standard library.
RUN python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && mkdir /var/lib/otc-assets \
    && chown 10001:10001 /var/lib/otc-assets
COPY --from=build /opt/otc-assets /opt/otc-assets
# The account has no home. Libraries that ask for one may use /tmp.
ENV PATH=/opt/otc-assets/bin:$PATH \
    HOME=/tmp \
    OTC_HOME=/var/lib/otc-assets \
    DAGSTER_HOME=/var/lib/otc-assets/dagster \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# OTC_HOME and /tmp are the only folders that must be writable.
USER 10001:10001
WORKDIR /opt/otc-assets
ENTRYPOINT ["otc-assets"]
