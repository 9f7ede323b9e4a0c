# kpush in an image of its own: one static binary, certificate authorities, notices, an empty state folder. No shell.
#   docker build -t kpush --build-arg VERSION=1.0.0 .        with traces: --build-arg TAGS=otel
# For linux/amd64 and linux/arm64; each is built on its own kind of machine (docker buildx build --platform …).
FROM golang:1.26-bookworm AS build
WORKDIR /src
# Unset unless given: then Go's own defaults hold.
ARG GOPROXY
ARG GOSUMDB
# The modules are a layer of their own, made again only when these two files change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
# otel: with traces, 7 MB more.
ARG TAGS
# The linker's warning about getaddrinfo is harmless: bookworm's glibc has the resolver built in.
RUN make static OUT=/root/kpush VERSION="$VERSION" TAGS="$TAGS" && mkdir /root/state

FROM scratch
ARG VERSION=dev
ARG REVISION
LABEL org.opencontainers.image.title="kpush" \
      org.opencontainers.image.description="Kafka sidecar: POSTs each message to the service beside it, and publishes for it" \
      org.opencontainers.image.source="https://github.com/kpush/kpush" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/LICENSE /src/NOTICE /src/THIRD_PARTY.txt /usr/share/doc/kpush/
COPY --from=build /root/kpush /bin/kpush
# A new named volume takes the owner of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /root/state /var/lib/kpush
USER 65532:65532
EXPOSE 9400
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/bin/kpush", "-healthz"]
ENTRYPOINT ["/bin/kpush"]
