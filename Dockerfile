# The two images of the service: `api` has no torch, `worker` has it for CPUs.
#
#   docker build --target api --tag faal-api .
#   docker build --target worker --tag faal-worker .
#   docker build --target worker --tag faal-worker-gpu --build-arg TORCH_INDEX= .     with CUDA, several GB larger
#
# The library is in /venv, and the packages of the service, which is no library, are in /faal. Both images keep uploads, weights and
# checkpoints in /data and are set up by FAAL_… variables (docs/reference/settings.md).

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/venv/bin/python
WORKDIR /build
RUN python -m venv --without-pip /venv && touch README.md
COPY pyproject.toml ./
COPY requirements requirements


FROM build AS build-api
# Dependencies before code: this layer is made anew only when they change.
RUN pip install --no-deps --require-hashes --requirement requirements/api.txt
COPY faal_core faal_core
COPY faal_client faal_client
RUN pip install --no-deps --no-build-isolation . && pip check && ln --symbolic /faal/scripts/faal-service /venv/bin/


FROM build AS build-worker
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-deps --require-hashes ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
  --requirement requirements/torch.txt --requirement requirements/torchvision.txt
# Torch has a layer of its own: it is large and seldom changes.
# hadolint ignore=DL3059
RUN pip install --no-deps --require-hashes --requirement requirements/worker.txt
# For torch's build with CUDA, which needs more than the packages above.
RUN pip check || pip install --no-deps --require-hashes --requirement requirements/cuda.txt
COPY faal_core faal_core
COPY faal_client faal_client
RUN pip install --no-deps --no-build-isolation . && pip check


FROM build-worker AS build-guide
# The reference is read from the code, so this needs torch, of which only the pages get into an image.
RUN pip install --no-deps --require-hashes --requirement requirements/docs.txt
COPY jobs jobs
COPY worker worker
COPY migrations migrations
COPY api api
COPY scripts scripts
COPY docs docs
RUN /venv/bin/python -m sphinx -W -q -d build/doctrees docs build/guide


FROM python:3.12-slim AS runtime
RUN useradd --uid 10001 --create-home faal && install --directory --owner faal --group faal /data
ENV PATH=/venv/bin:$PATH PYTHONPATH=/faal PYTHONUNBUFFERED=1 FAAL_DATA_DIR=/data
VOLUME /data
WORKDIR /faal
# For `alembic upgrade head`, which reads its settings here.
COPY pyproject.toml ./
COPY scripts/faal-service scripts/
COPY jobs jobs
COPY migrations migrations
USER 10001


FROM runtime AS api
ENV FAAL_HOST=0.0.0.0
COPY --from=build-api /venv /venv
COPY api api
COPY --from=build-guide /build/build/guide build/guide
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz')"]
CMD ["python", "-m", "api"]


FROM runtime AS worker
COPY --from=build-worker /venv /venv
COPY worker worker
# A worker answers nobody. One that hangs loses its lease, and another takes its job; one that dies ends the container.
HEALTHCHECK NONE
CMD ["python", "-m", "worker"]
