# Runs the two commands of the README:
#   docker build -t refit . && docker run --rm -v "$PWD/reports:/refit/reports" refit
FROM python:3.12-slim
# Versions of git and make do not matter here, and Debian keeps only the newest.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /refit
COPY . .
# What is installed is kept, and no second copy of it.
ENV UV_NO_CACHE=1
RUN make setup
CMD ["make", "reproduce"]
