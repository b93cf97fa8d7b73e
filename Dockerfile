# docker build -t honeyguide .
# docker run -p 8080:8080 -v "$PWD/shop:/workspace" honeyguide
#
# The workspace is a volume owned by uid 10001: `honeyguide init` and `build` work in the same image, as in
# docker run -v "$PWD/shop:/workspace" -v "$PWD/data:/data:ro" honeyguide honeyguide build /workspace
FROM python:3.11-slim AS builder

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/honeyguide
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN /opt/honeyguide/bin/pip install -c constraints.txt .

FROM python:3.11-slim

RUN useradd --uid 10001 --create-home honeyguide \
    && mkdir /workspace \
    && chown honeyguide:honeyguide /workspace
COPY --from=builder /opt/honeyguide /opt/honeyguide

# Compiled kernels are kept where the user may write.
ENV PATH=/opt/honeyguide/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/home/honeyguide/numba-cache

USER honeyguide
WORKDIR /home/honeyguide
VOLUME /workspace
EXPOSE 8080
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]

CMD ["honeyguide", "serve", "/workspace", "--host", "0.0.0.0", "--port", "8080", "--no-console"]
