# kpush. `make help` says what there is.

E2E_LIMIT = 14m
SEED = 1

help: ## what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## a thousand messages, the sidecar killed with -9 in the middle: what kpush promises, in seconds
	@go run ./e2e/demo

build: ## bin/kpush; TAGS=otel: with traces
	go build -trimpath -tags '$(TAGS)' -o bin/kpush .

# Nothing of the machine's paths, users or clocks goes in, nor Go's id of the build, so that the same source makes the same bytes. netgo, osusergo: no code of glibc's that would
# load more at run time (its linker warns of getaddrinfo all the same). nethttpomithttp2: kpush speaks HTTP/1.1 alone, which is 0.5 MB less.
static: ## the image's binary, as OUT (bin/kpush): static, reproducible; VERSION=…, TAGS=otel
	CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags 'netgo,osusergo,nethttpomithttp2,$(TAGS)' \
	  -ldflags '-s -w -buildid= -linkmode external -extldflags -static -X main.version=$(or $(VERSION),dev)' -o '$(or $(OUT),bin/kpush)' .

check: ## what needs the network or longer: image size, reproducible, arm64, kustomize, workflow, SBOM, vulnerabilities
	go test -count=1 -tags check -timeout 30m -v ./release

release: ## dist/: binaries of both architectures, image, bill of materials, checksums; VERSION=1.2.3 (docs in CONTRIBUTING.md)
	release/make '$(VERSION)'

test: lint unit e2e ## everything: lint, unit tests with the race detector, the stories on a real Kafka

lint: ## go vet and gofmt
	go vet ./...
	go vet -tags otel,check ./...
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt these files: $$unformatted" >&2; exit 1; }

unit: ## every package but e2e, with the race detector
	@.ci/race
	go test -race -timeout 2m ./simulation -for 5s
	go test -timeout 2m ./simulation
	go test -race -timeout 2m -tags otel ./tracing

# one package after the other: the stories measure time, and one that only missed a bound of time is told once more, alone; a failed one leaves its logs in bin/
e2e: ## the built binary against a real Kafka (KPUSH_TEST_BROKERS, else Docker, else a JDK 17 with Maven)
	@mkdir -p bin; note=$$(mktemp); \
	KPUSH_E2E_NOTE=$$note go test -count=1 -p 1 -parallel 3 -v -timeout $(E2E_LIMIT) -artifacts -outputdir "$(CURDIR)/bin" ./e2e/...; \
	code=$$?; cat $$note; rm -f $$note; exit $$code

MISLED = ^(TestABrokerThatTakesNoMetadata|TestAClientThatNeverComesBack|TestARenewedPassword)$$

# seeded: SEED=n; the table at the end says what was kept, and what could not be run and why
faults: ## kill -9, power cuts, broken disks and brokers, again and again, against docs/guarantees.md (10 minutes)
	@mkdir -p bin; note=$$(mktemp); \
	KPUSH_E2E_NOTE=$$note go test -count=1 -v -parallel 3 -timeout 20m -artifacts -outputdir "$(CURDIR)/bin" ./e2e/faults -all -seed $(SEED) >bin/faults.log 2>&1; code=$$?; \
	go test -count=1 -v -timeout 5m ./e2e -run '$(MISLED)' >>bin/faults.log 2>&1 || { code=1; echo "A story of misled clients or renewed credentials failed."; }; \
	cat $$note; rm -f $$note; test $$code = 0 || grep -E '^ +[a-z_]+_test.go|^panic|^--- FAIL' bin/faults.log; \
	echo "The whole log is bin/faults.log."; exit $$code

# every history follows from its seed: SEED=n is one of them, made smaller if it fails
simulate: ## the core in a simulated world that fails in every way, for MINUTES=10; SEED=n: one history (docs/simulation.md)
	go test ./simulation -run TestSimulate -v -timeout 0 $(if $(filter-out 1,$(SEED)),-seed $(SEED) -shrink,-workers $$(nproc) -for $(or $(MINUTES),10)m -first $$(date +%s))

defences: ## each defence taken out of the program in turn: the simulation has to miss it within a minute (an hour at the most)
	go test ./simulation -run TestEachDefenceIsMissed -defences 1m -v -timeout 0

# a whole run writes docs/benchmarks.md; ONLY=regexp runs some of the benchmarks of e2e/bench and writes nothing
bench: ## messages/s, CPU and memory beside the floor and the plain loop, against their bounds (8 minutes; ONLY=regexp)
	go test ./e2e/bench -run '^$$' -bench '$(or $(ONLY),.)' -benchtime 1x -timeout 15m $(if $(ONLY),,-write "$(CURDIR)/docs/benchmarks.md")

.PHONY: help demo build static check release test lint unit e2e faults simulate defences bench
