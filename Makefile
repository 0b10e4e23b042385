# What one can do here; each target is one script. CLUSTER=name chooses a cluster.
export KUSTODY_CACHE ?= $(HOME)/.cache/kustody
export CARGO_TARGET_DIR ?= $(KUSTODY_CACHE)/target
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check bench cluster-up cluster-down cluster-env generate images clean prove

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## from nothing to a training and a serving pod with a secret, on a cluster that keeps running
	@scripts/demo.sh

test: ## everything, on a real cluster
	@scripts/test.sh

check: ## format, lints, gates
	@scripts/check.sh

bench: ## figures against floors, with targets
	@scripts/bench.sh

cluster-up: ## a cluster to play with
	@scripts/cluster-up.sh

cluster-down: ## ends it, and leaves nothing
	@tests/cluster/down.sh

cluster-env: ## prints what makes kubectl and helm reach it: eval "$(make -s cluster-env)"
	@. tests/cluster/env.sh && echo "export PATH=$$CLUSTER_DIR/bin:\$$PATH"

generate: ## CRDs, roles, the chart's schema, the reference
	@. scripts/lib.sh && cargo xtask generate

images: ## builds the images; prints the directory that they are in
	@scripts/images.sh

clean: ## removes what was built here; the programs of the cluster stay in ~/.cache/kustody/bin
	@rm -rf "$(CARGO_TARGET_DIR)" "$(KUSTODY_CACHE)/images" "$(KUSTODY_CACHE)/log"

prove: ## the long proofs; each alone: make prove-kill [ROUNDS=300] [SEED=1]
	@scripts/prove.sh

prove-%:
	@scripts/prove.sh $*
