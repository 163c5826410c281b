# Everything a developer does, by name. `make` lists it.
SHELL := bash -eu -o pipefail
.DEFAULT_GOAL := help
export CGO_ENABLED ?= 0
export GOFLAGS ?= -trimpath
GO ?= go
# Of a single package's tests; most need seconds.
TIMEOUT ?= 20m
TEST := $(GO) test -count=1 -timeout $(TIMEOUT)
# The folder of the real Loki that tests run against.
LOKI := EGW_LOKI="$$(scripts/loki.sh)"
LINT := $(GO) tool -modfile=tools/go.mod golangci-lint
BUF := $(GO) tool -modfile=tools/buf/go.mod buf

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Compile the programs into bin/
	$(GO) build -o bin/ ./cmd/...

.PHONY: generate
generate: ## Write the generated code: protobuf, the BPF object and its Go
	scripts/generate.sh

.PHONY: check-generate
check-generate: ## Fail when the generated code is not what generate writes
	scripts/check-generate.sh

.PHONY: fmt
fmt: ## Format Go, C and protobuf
	$(LINT) fmt
	clang-format-19 -i bpf/src/*.[ch]
	$(BUF) format -w

.PHONY: lint
lint: ## Check Go, the import rules, and the schemas with their history
	$(GO) vet ./...
	$(LINT) run --allow-parallel-runners
	$(BUF) lint
	$(BUF) breaking --against schemas/baseline.binpb

.PHONY: test
test: deps-test build loki ## Install what is missing and run all tests, as root
	EGW_PRIVILEGED=1 $(LOKI) $(TEST) -p 1 ./...

.PHONY: test-unit
test-unit: ## What needs no root, Docker or network, with the race detector
	CGO_ENABLED=1 EGW_PRIVILEGED= EGW_LOKI= CI= $(TEST) -race ./...

.PHONY: test-bpf
test-bpf: ## The kernel side, as root
	EGW_PRIVILEGED=1 $(TEST) ./bpf/...

.PHONY: test-e2e
test-e2e: loki ## Whole programs against a Docker engine of their own, as root
	EGW_PRIVILEGED=1 $(LOKI) $(TEST) -v ./e2e/...

.PHONY: loki
loki: ## Build the real Loki of the tests into the user's cache, once, in minutes
	@scripts/loki.sh >/dev/null

.PHONY: threats
threats: ## Write the table of docs/THREATS.md from a run of the adversary, as root
	EGW_PRIVILEGED=1 $(TEST) -run TestAdversary ./e2e -update

.PHONY: vmtest
vmtest: deps-vm ## Boot Debian's kernels (K=6.1, 6.12 or all) in qemu and run the kernel side's tests there
	$(GO) run ./internal/vmtest/cmd -k $(or $(K),all) -run '$(RUN)'

.PHONY: vmtest-docker
vmtest-docker: deps-vm ## Boot a Debian 12 system with systemd and Docker in qemu: labels to denial, restarts, reboot; as root
	$(GO) run ./internal/vmtest/cmd -system -k $(or $(K),6.1) -run '$(RUN)' -disk '$(DISK)'

.PHONY: bench
bench: ## Measure, and write docs/BENCHMARKS.md, as root
	scripts/bench.sh

.PHONY: up
up: build ## Install what is missing and run all of one host, as root
	scripts/up.sh $(ARGS)

.PHONY: deps deps-test deps-dev deps-vm
deps: ## Install what the build needs (Debian)
	scripts/deps.sh build

deps-test: ## Install what the tests need besides (Debian)
	scripts/deps.sh test

deps-dev: ## Install what generate and fmt need (Debian)
	scripts/deps.sh dev

deps-vm: ## Install what vmtest needs (Debian)
	scripts/deps.sh vm

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
