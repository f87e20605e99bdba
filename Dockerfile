# The whole machine, local processes and containers alike:
#
#   docker run --rm --pid=host --network=host --cap-add=SYS_PTRACE \
#     -v /var/run/docker.sock:/var/run/docker.sock ultra-ports resolve 8085
#
# --network=host shows the ports, --pid=host the processes; SYS_PTRACE lets it read which process
# owns which socket. With the engine's socket alone it stops the containers that publish a port:
#
#   docker run --rm -v /var/run/docker.sock:/var/run/docker.sock ultra-ports resolve 8085
#
# `health` and `wait` connect, and need no privilege: this target is another user than root.
#
#   docker build --target unprivileged -t ultra-ports:unprivileged .
#   docker run --rm --network=host ultra-ports:unprivileged wait 8085
#
# Any base with Python 3.11 or later and pip will do.
ARG BASE=python:3.12-slim
FROM ${BASE} AS installed

# pip reads these: for a build without a network, put wheels into the context and say
# --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/src/wheelhouse
ARG PIP_NO_INDEX=""
ARG PIP_FIND_LINKS=""

COPY . /src
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore /src && rm -rf /src

# https://github.com/opencontainers/image-spec/blob/main/annotations.md
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="ultra-ports" \
      org.opencontainers.image.description="Docker-aware port conflict resolver" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

ENTRYPOINT ["ultra-ports"]
CMD ["--help"]

FROM installed AS unprivileged
ENV HOME=/tmp
USER 65532:65532

FROM installed
