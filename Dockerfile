# One image for all parts; the role is the argument: api, worker, topics apply, audit verify, …
#   docker build -t mailstream:0.1.0 .
#   docker run --rm --read-only --tmpfs /tmp mailstream:0.1.0 --help
# Another base (a mirror, a hardened one): --build-arg BASE_IMAGE=…; it needs Python 3.11 with pip and venv.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements-build.lock requirements-runtime.lock ./
# every package by hash, the builder too; the environment that goes into the image has no pip
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && python -m venv --without-pip /opt/mailstream \
 && /opt/build/bin/pip --python /opt/mailstream/bin/python install --require-hashes -r requirements-runtime.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/build/bin/pip --python /opt/mailstream/bin/python install --no-deps --no-index /dist/*.whl

FROM ${BASE_IMAGE}
# 10001 is a number and no name, so that Kubernetes can see that it is not root
COPY --from=build /opt/mailstream /opt/mailstream
ENV PATH=/opt/mailstream/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MAILSTREAM_DATA_DIR=/tmp/mailstream
WORKDIR /opt/mailstream
USER 10001:10001
EXPOSE 8000 8001
ENTRYPOINT ["mailstream"]
CMD ["--help"]
