# A server of Samesight bundles. Build: docker build -t samesight .
# Run: docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -v "$PWD/bundle:/bundles/mine:ro" samesight /bundles/mine
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY recipes recipes
COPY src src
RUN python -m venv /samesight && /samesight/bin/pip install --no-cache-dir -c requirements.lock ".[serve,sign]"

FROM python:3.12-slim
COPY --from=build /samesight /samesight
ENV PATH=/samesight/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["samesight", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--help"]
