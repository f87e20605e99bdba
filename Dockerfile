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
# Any base with Python 3.11 or later and pip will do.
ARG BASE=python:3.12-slim
FROM ${BASE}

# pip reads these: for a build without a network, put wheels into the context and say
# --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/src/wheelhouse
ARG PIP_NO_INDEX=""
ARG PIP_FIND_LINKS=""

COPY . /src
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore /src && rm -rf /src

ENTRYPOINT ["ultra-ports"]
CMD ["--help"]
