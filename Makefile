# A thin front over CMake and the scripts in deploy/dev; `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: build demo observe test bench experts lint format clean help

build: ## build the programs into build/bin
	@deploy/dev/bootstrap.sh build
	@deploy/dev/build.sh release programs

demo: build ## install what is missing, build, fetch the model, and show it at work
	@deploy/demo/demo.sh build/bin "$$(deploy/dev/fetch-model.sh)"

observe: build ## serve with some load and a Prometheus beside it, until Ctrl-C
	@deploy/observe/observe.sh build/bin "$$(deploy/dev/fetch-model.sh)" "$$(deploy/dev/fetch-prometheus.sh)"

test: ## build everything and run every test
	@deploy/dev/bootstrap.sh build test
	@deploy/dev/build.sh release
	@deploy/dev/test.sh release

bench: ## measure speed beside llama.cpp, the cost of the hop, and memory
	@deploy/dev/bootstrap.sh build bench
	@tests/bench/run.sh

experts: build ## train the experts whose packages are missing; DATA=FOLDER holds the domains' data
	@deploy/dev/experts.sh "$(DATA)"

lint: ## run every linter
	@deploy/dev/bootstrap.sh build lint
	@deploy/dev/lint.sh

format: ## format the C++ sources in place
	@deploy/dev/bootstrap.sh lint
	@git ls-files '*.cc' '*.h' | xargs clang-format -i

clean: ## remove the build tree (the fetched model stays in the cache folder)
	@rm -rf build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "YES=1 installs missing Debian packages without asking; JOBS=N sets the parallel compilations."
