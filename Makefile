# `make run` and `make test` install what they need; `make help` lists all targets.
VENV    ?= .venv
PYTHON  ?= python3
CONFIG  ?= manifests/laptop/sidecar.yaml
STEPS   ?= 20000
SEED    ?= 1
OVERLAY ?= kubernetes
IMAGE   ?= haproxy-sidecar:latest
NAMESPACE ?= haproxy-sidecar
KUBECTL ?= kubectl
SIDECAR  = $(VENV)/bin/haproxy-sidecar
PIP      = $(VENV)/bin/pip --disable-pip-version-check
# Exactly the versions and hashes in requirements/, including the build backend.
INSTALL  = $(PIP) install --quiet --require-hashes
COMPILE  = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command 'make lock' $(ARGS)

.PHONY: help run test test-newest test-cluster check docs lock format shell status deploy undeploy chaos bench bench-cluster build image test-image test-kubelet release clean
help:           ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

run: $(VENV)/run haproxy   ## run HAProxy, the sidecar and some demo servers on this machine
	@$(VENV)/bin/python examples/servers.py $(SIDECAR) up -c $(CONFIG)

test: $(VENV)/dev          ## run all tests on a real HAProxy (HAPROXY=path: another one, ONLY=haproxy: only those that use it)
	@haproxy/install haproxy mariadb redis chromium curl openssl ip wrk h2load
	@PYTEST="$(abspath $(VENV))/bin/python -m pytest" tests/run $(ARGS)

test-newest:               ## run all tests with the newest releases of all dependencies
	@haproxy/install haproxy python mariadb redis chromium curl openssl ip wrk h2load
	@$(PYTHON) -m venv --clear $(VENV)/newest
	@$(VENV)/newest/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@PYTEST="$(abspath $(VENV))/newest/bin/python -m pytest" tests/run $(ARGS)

test-cluster: $(VENV)/dev ## run tests on a real API server, built once with Go (takes minutes)
	@haproxy/install haproxy ip openssl
	@PYTEST="$(abspath $(VENV))/bin/python -m pytest" tests/cluster/run $(ARGS)

check: $(VENV)/dev         ## run ruff, mypy --strict and the import rules; check the lock, the chart's schema and the documents
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/python -P charts/generate --check
	@$(VENV)/bin/python -P docs/tables.py --check
	@$(VENV)/bin/python -m pytest --quiet tests/unit/common/test_lock.py tests/unit/docs

lock: $(VENV)/dev          ## pin new dependencies in requirements/ (ARGS=--upgrade: all of them)
	@needs=$$($(VENV)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", \
		"rb"))["build-system"]["requires"], sep="\n")') && \
	echo "$$needs" | $(COMPILE) pyproject.toml --extra dev - -o requirements/dev.txt && \
	$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/run.txt && \
	echo "$$needs" | $(COMPILE) - -c requirements/dev.txt -o requirements/build.txt && \
	$(VENV)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", \
		"rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' | \
	$(COMPILE) - -c requirements/dev.txt -o requirements/docs.txt

format: $(VENV)/dev        ## let ruff format the code and fix what it can; write the chart's schema and the tables of docs/
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/python -P charts/generate
	@$(VENV)/bin/python -P docs/tables.py

shell:                     ## open a Runtime API shell for `make run`, or for POD=name in kubectl's cluster
ifdef POD
	@$(KUBECTL) exec -it -n $(NAMESPACE) $(POD) -c sidecar -- haproxy-sidecar shell
else
	@$(MAKE) -s $(VENV)/run
	@$(SIDECAR) shell -c $(CONFIG)
endif

status: $(VENV)/run        ## show ports, Routes and servers of the running `make run`
	@$(SIDECAR) status -c $(CONFIG)

# Keep the number of replicas that `kubectl scale` or an autoscaler has set since.
deploy:                    ## deploy into kubectl's cluster: OVERLAY=kubernetes IMAGE=registry/haproxy-sidecar:tag
	@scaled=$$($(KUBECTL) get deployment haproxy-sidecar -n $(NAMESPACE) \
			--ignore-not-found -o 'jsonpath={.spec.replicas}') && \
		$(KUBECTL) kustomize manifests/overlays/$(OVERLAY) | \
		sed -e 's#image: haproxy-sidecar:latest$$#image: $(IMAGE)#' \
			-e "/^  name: haproxy-sidecar$$/,/^  template:/s/^  replicas: .*/  replicas: $${scaled:-2}/" | \
		$(KUBECTL) apply --server-side $(ARGS) -f -

undeploy:                  ## remove what deploy created, except the Route CRD and its Routes
	@$(KUBECTL) delete -k manifests/overlays/$(OVERLAY) -l 'undeploy!=keep' --ignore-not-found $(ARGS)

chaos: $(VENV)/dev haproxy ## run a longer random test: STEPS=20000 SEED=1
	@CHAOS_STEPS=$(STEPS) CHAOS_SEED=$(SEED) $(VENV)/bin/python -m pytest tests/chaos --timeout 0 $(ARGS)

bench: $(VENV)/dev haproxy ## measure and write the tables of docs/figures.md (half an hour); ARGS="--only churn --smoke"
	@haproxy/install wrk h2load
	@haproxies=$$(tests/haproxies) && $(VENV)/bin/python bench/all.py \
		--write docs/figures.md --haproxy haproxy $$haproxies $(ARGS)

bench-cluster: $(VENV)/dev ## the same on a real API server, built once with Go (takes minutes)
	@haproxy/install haproxy ip openssl
	@tests/cluster/within $(VENV)/bin/python bench/all.py --write docs/figures.md --only cluster against $(ARGS)

# The warning is about a mkdocs that is not the pinned one.
docs: $(VENV)/docs/made    ## render the documents as a site in run/docs, which fetches nothing from elsewhere
	@$(PYTHON) -P docs/assemble.py
	@NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --strict --clean --quiet
	@$(PYTHON) -P docs/assemble.py --check
	@echo "open run/docs/index.html"

build: $(VENV)/dev         ## build the wheel and the sdist in dist/; PROJECT_URL=https://HOST/OWNER/NAME: for an index
	@PROJECT_URL=$(PROJECT_URL) $(VENV)/bin/python -P -m hatchling build --directory dist

image:                     ## build the image IMAGE=registry/haproxy-sidecar:tag with buildah, podman or docker
	@PROJECT_URL=$(PROJECT_URL) package/image/build $(IMAGE) $(ARGS)

test-image: $(VENV)/dev    ## build the image on a base of Debian packages, and start it (root; takes minutes)
	@haproxy/install haproxy buildah mmdebstrap
	@PYTEST="$(abspath $(VENV))/bin/python -m pytest" tests/image/run $(ARGS)

test-kubelet: $(VENV)/dev  ## run the manifests on a real kubelet and containerd, built once with Go (root; takes minutes)
	@haproxy/install haproxy ip openssl buildah mmdebstrap runc cni
	@PYTEST="$(abspath $(VENV))/bin/python -m pytest" tests/kubelet/run $(ARGS)

release: check             ## VERSION=1.2.3: set it, close the changelog's section, commit and tag; pushes nothing
	@$(VENV)/bin/python -P package/release.py "$(VERSION)"

clean:                     ## remove everything that make created
	@rm -rf $(VENV) dist run examples/made-tls.yaml .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: haproxy
haproxy:
	@haproxy/install

$(VENV)/run: pyproject.toml requirements/build.txt requirements/run.txt
	@haproxy/install python
	@echo "installing haproxy-sidecar into $(VENV) (once; half a minute)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -r requirements/build.txt -r requirements/run.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/docs/made: requirements/docs.txt
	@haproxy/install python
	@echo "installing what renders the documents into $(VENV)/docs (once)" >&2
	@$(PYTHON) -m venv --clear $(VENV)/docs
	@$(VENV)/docs/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

$(VENV)/dev: $(VENV)/run requirements/dev.txt
	@echo "installing the tools for tests and checks into $(VENV) (once; a minute)" >&2
	@$(INSTALL) -r requirements/dev.txt
	@touch $@
