# contrail: `make start` runs the whole stack, `make test` tests it.

CARGO ?= cargo
# What builds and runs the stack; `contrail` itself names what else is missing.
TOOLS = cargo cc c++ make pkg-config java mvn npm
RELEASE = target/release
FAILPOINTS = target/failpoints
# Checks licences and sources of dependencies; built once, for this checkout alone.
DENY_VERSION = 0.20.2
DENY = target/tools/bin/cargo-deny

# Linters of Nix and Python, by exact versions.
NIXFMT_VERSION = 0.5.3
NIXFMT = target/tools/bin/nixfmt
DEADNIX_VERSION = 1.3.1
DEADNIX = target/tools/bin/deadnix
PYTHON = python3
# Airflow with its providers, and the mail catcher: fetched when they are asked for.
AIRFLOW = var/parts/airflow
MAIL = var/parts/mail
# Builders of Grafana's dashboards.
GRAFANA = target/tools/grafana
LINTERS = target/tools/python
SCRIPTS = nixos/check tests-vm airflow grafana

.DEFAULT_GOAL := help
.PHONY: help start start-airflow airflow-parts airflow-test stop parts build failpoints test scenarios soak bench lint nix-lint nix-check python-lint tools \
	metrics dashboards start-observability observability-parts observability-test

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

start: build parts ## Build and fetch everything, start the stack, watch it; Ctrl-C stops it.
	@exec $(RELEASE)/contrail up

start-airflow: build airflow-parts ## Add Airflow, PostgreSQL and a mail catcher to the stack that runs.
	@$(RELEASE)/contrail start airflow

start-observability: build observability-parts ## Add Prometheus, Alertmanager and a mail catcher to the stack that runs.
	@$(RELEASE)/contrail start observability

start-observability observability-parts observability-test: TOOLS += prometheus prometheus-alertmanager prometheus-node-exporter
observability-parts: tools $(MAIL)/.requirements

airflow-parts: TOOLS += python3
airflow-parts: tools $(AIRFLOW)/.requirements $(MAIL)/.requirements

# Exactly what the lists name, by their sums. The list is whole: pip looks for nothing beside it.
$(AIRFLOW)/.requirements: airflow/requirements.txt
	@mkdir -p $(AIRFLOW)
	$(PYTHON) -m venv --clear $(AIRFLOW)
	$(AIRFLOW)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes -r $<
	@cp $< $@

$(MAIL)/.requirements: services/stack/parts/mail/package-lock.json
	@mkdir -p $(MAIL)
	@cp services/stack/parts/mail/package.json services/stack/parts/mail/.npmrc $< $(MAIL)/
	cd $(MAIL) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@cp $< $@

stop: ## Stop a stack that runs in another terminal.
	@$(RELEASE)/contrail down

build: tools ## Build all programs.
	$(CARGO) build --release --workspace --bins

parts: build ## Fetch Kafka, the schema registry and the ClickHouse engine.
	@$(RELEASE)/contrail parts

# Both sets lie side by side: the one that can be killed at named places, and the one that is used.
failpoints: tools ## Build the programs that tests can kill at named places, into target/failpoints.
	$(CARGO) build --release -p flight-producer -p flight-ingester --features failpoints
	@mkdir -p $(FAILPOINTS)
	@cp $(RELEASE)/flight-producer $(RELEASE)/flight-ingester $(FAILPOINTS)/
	$(CARGO) build --release --workspace --bins
	@cp $(RELEASE)/flight-mock $(RELEASE)/clickhouse-embedded $(RELEASE)/contrail $(FAILPOINTS)/

# ClickHouse's clients for Python and Go come from Python's registry, into target/clients.
test: TOOLS += python3
test: failpoints parts ## Run all tests.
	$(CARGO) test --release --workspace
	@$(MAKE) --no-print-directory scenarios
	@$(MAKE) --no-print-directory airflow-test
	@$(MAKE) --no-print-directory observability-test

airflow-test: build parts airflow-parts ## Test the DAGs on a real Airflow and the local stack.
	cd airflow/tests && ../../$(AIRFLOW)/bin/python -m unittest -v

$(GRAFANA): grafana/requirements.txt
	$(PYTHON) -m venv --clear $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes -r $<
	@touch $@

metrics: tools ## Write docs/metrics.md anew from what the services register.
	CONTRAIL_WRITE_METRICS=1 $(CARGO) test --release --workspace --test metrics

dashboards: $(GRAFANA) ## Write Grafana's dashboards anew from grafana/contrail_grafana.
	$(GRAFANA)/bin/python grafana/generate.py

observability-test: TOOLS += python3 promtool
observability-test: build parts observability-parts airflow-parts $(GRAFANA) ## Test dashboards and alerts on the engine and the local stack.
	cd grafana/tests && $(PYTHON) -m unittest -v

scenarios: build parts ## Run the scenarios of the VM tests on the local stack.
	$(PYTHON) tests-vm/local.py

# make soak SEED=7 FAULTS=200: each is optional. The state is kept between slices; remove it for another soak.
SOAK = $(CURDIR)/target/soak
soak: build parts ## Run a slice of the soak: faults at random for half an hour, then the whole account.
	CONTRAIL_SOAK_DIR=$(SOAK) $(if $(SEED),CONTRAIL_FAULTS_SEED=$(SEED)) $(if $(FAULTS),CONTRAIL_SOAK_FAULTS=$(FAULTS)) \
		$(CARGO) test --release --workspace --test faults soak::soak -- --exact --ignored --nocapture

# make bench ONLY=a,h ROUNDS=5 ROWS=1000000 COMPARE=latest: each is optional.
bench: build parts ## Measure everything beside its peers and limits (some 20 minutes).
	@$(RELEASE)/contrail-bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(ROWS),--rows $(ROWS)) $(if $(COMPARE),--compare $(COMPARE)) $(BENCH_ARGS)

$(DENY):
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --debug --no-default-features --root target/tools

$(NIXFMT):
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install nixfmt_rs --version $(NIXFMT_VERSION) --locked --debug --root target/tools

$(DEADNIX):
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install deadnix --version $(DEADNIX_VERSION) --locked --debug --root target/tools

$(LINTERS): nixos/check/requirements.txt
	$(PYTHON) -m venv --clear $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

nix-lint: tools $(NIXFMT) $(DEADNIX) ## Check what can be told of the Nix files without Nix.
	$(PYTHON) nixos/check/lint.py target/tools/bin

python-lint: $(LINTERS) $(GRAFANA) airflow-parts ## Check the Python of the DAGs, the dashboards, the VM tests and nix-check.
	$(LINTERS)/bin/ruff format --check $(SCRIPTS)
	$(LINTERS)/bin/ruff check $(SCRIPTS)
	MYPYPATH=tests-vm $(LINTERS)/bin/mypy --strict tests-vm/local.py tests-vm/*/*.py nixos/check/*.py
	MYPYPATH=airflow:tests-vm:airflow/tests $(LINTERS)/bin/mypy --strict --python-executable $(AIRFLOW)/bin/python \
		airflow/contrail_dags airflow/dags airflow/tests
	MYPYPATH=grafana:grafana/tests:airflow:tests-vm:airflow/tests $(LINTERS)/bin/mypy --strict --python-executable $(GRAFANA)/bin/python \
		grafana/contrail_grafana grafana/generate.py grafana/tests

# Needs tools from outside the project, see docs/nix.md.
nix-check: nix-lint $(LINTERS) parts airflow-parts ## Evaluate the flake and run what its modules generate.
	$(PYTHON) nixos/check/evaluate.py

lint: tools $(DENY) nix-lint python-lint ## Check formatting, lints, documentation, licences and sources of dependencies.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps
	$(DENY) --locked check bans licenses sources

# One line for everything that is missing, with the command that installs it.
tools:
	@missing=; packages=; \
	for tool in $(TOOLS); do \
		command -v $$tool > /dev/null && continue; \
		missing="$$missing $$tool"; \
		case $$tool in \
			cargo) echo "cargo is missing: install Rust 1.95 or newer with rustup (package rustup, then: rustup default stable)" >&2; continue ;; \
			cc | c++ | make) package=build-essential ;; \
			java) package=default-jre-headless ;; \
			mvn) package=maven ;; \
			python3) package=python3-venv ;; \
			promtool) package=prometheus ;; \
			*) package=$$tool ;; \
		esac; \
		case " $$packages " in *" $$package "*) ;; *) packages="$$packages $$package" ;; esac; \
	done; \
	if ! pkg-config --exists openssl 2> /dev/null; then \
		missing="$$missing openssl.pc"; packages="$$packages libssl-dev"; \
	fi; \
	if [ -n "$$packages" ]; then \
		[ "$$(id -u)" = 0 ] && sudo= || sudo="sudo "; \
		echo "missing:$$missing. Install with: $${sudo}apt-get install -y$$packages (Debian, Ubuntu; elsewhere the packages that provide them)" >&2; \
	fi; \
	[ -z "$$missing" ]
