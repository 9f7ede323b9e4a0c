# kpush in an image of its own: one static binary, certificate authorities, an empty state folder. No shell.
#   docker build -t kpush --build-arg VERSION=1.0.0 .        with traces: --build-arg TAGS=otel
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
# otel: with traces, 3.6 MB more.
ARG TAGS
# kpush speaks HTTP/1.1 alone: without net/http's second version the image is 0.5 MB smaller.
# The linker's warning about getaddrinfo is harmless: bookworm's glibc has the resolver built in.
RUN CGO_ENABLED=1 go build -trimpath -tags netgo,osusergo,nethttpomithttp2,$TAGS \
      -ldflags "-s -w -linkmode external -extldflags -static -X main.version=$VERSION" -o /root/kpush . \
 && mkdir /root/state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /root/kpush /bin/kpush
# A new named volume takes the owner of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /root/state /var/lib/kpush
USER 65532:65532
EXPOSE 9400
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/bin/kpush", "-healthz"]
ENTRYPOINT ["/bin/kpush"]
