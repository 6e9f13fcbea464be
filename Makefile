# The only list of commands; CI calls the same targets. `make` alone lists them.
PYTHON ?= python3
# The server's own settings, so that KORE_PORT and `make serve PORT=…` mean the same. Not `?=`: shells have a HOST, a PORT or a URL of their own.
# An environment that was made for CUDA stays so until DEVICE=cpu: `make loadtest` must not take the runtime away from a server on a GPU.
DEVICE := $(or $(filter-out auto,$(KORE_DEVICE)),$(if $(wildcard .venv/serve-cuda .venv/develop-cuda),cuda,cpu))
BUNDLE := $(or $(KORE_BUNDLE),bundles/default)
HOST := $(or $(KORE_HOST),127.0.0.1)
PORT := $(or $(KORE_PORT),8000)
LOG_FORMAT := $(or $(KORE_LOG_FORMAT),text)
# What `make loadtest` plays: a profile of loadtest/gates.yaml.
PROFILE := short
URL :=
FLAGS :=
BIN := .venv/bin
RUNTIME_EXTRA := $(if $(filter cuda,$(DEVICE)),cuda,cpu)
ON_DEVICE := $(if $(filter cuda,$(DEVICE)),--device cuda)
# Whoever develops can serve: nothing is fetched again.
SERVE := $(or $(if $(filter cpu,$(RUNTIME_EXTRA)),$(wildcard .venv/develop)),.venv/serve-$(RUNTIME_EXTRA))
DEVELOP := .venv/develop$(if $(filter cuda,$(DEVICE)),-cuda)
# $(call need,NAME,what it is): stops before anything is done, not after hours.
need = $(if $($(1)),,$(error $(1)=… is missing: $(2)))
# The other ONNX Runtime package must go first: installed together they overwrite each other and the CUDA provider disappears.
no-cpu-runtime = $(if $(wildcard .venv/serve-cpu .venv/develop),$(BIN)/pip uninstall --quiet --yes onnxruntime && rm -f .venv/serve-cpu .venv/develop)
no-cuda-runtime = $(if $(wildcard .venv/serve-cuda .venv/develop-cuda),$(BIN)/pip uninstall --quiet --yes onnxruntime-gpu && rm -f .venv/serve-cuda .venv/develop-cuda)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help serve score test lint train export bundle image loadtest trials soak benchmark benchmark-short benchmark-gpu audit clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

serve: $(SERVE) ## serve a bundle on 127.0.0.1:8000 (BUNDLE=…, DEVICE=cuda, PORT=…)
	@echo
	@echo "Once it says ready, ask it:"
	@echo
	@echo "curl -s http://$(if $(findstring :,$(HOST)),[$(HOST)],$(HOST)):$(PORT)/relations$(if $(KORE_API_KEY), -H \"Authorization: Bearer \$$KORE_API_KEY\") -H 'Content-Type: application/json' -d '{\"sentence\": \"배우 윤가람은 1990년 3월 2일 부산에서 태어났다.\", \"subject_entity\": {\"word\": \"윤가람\", \"type\": \"PER\"}, \"object_entity\": {\"word\": \"1990년 3월 2일\", \"type\": \"DAT\"}, \"top_k\": 3}'"
	@echo
	@exec $(BIN)/python -m api --host $(HOST) --port $(PORT) --bundle $(BUNDLE) --log-format $(LOG_FORMAT) $(ON_DEVICE)

score: $(SERVE) ## relations of a file's rows: INPUT=rows.jsonl OUTPUT=predictions.jsonl (BUNDLE=…, FLAGS="--resume --top-k 3")
	$(call need,INPUT,a file of rows)$(call need,OUTPUT,the file to write)$(BIN)/python -m scoring $(INPUT) $(OUTPUT) --bundle $(BUNDLE) $(ON_DEVICE) $(FLAGS)

test: $(DEVELOP) ## all tests; with KLUE_RE_DATA set to the folder of the KLUE-RE rows, also those on real rows
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(DEVELOP) ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

train: $(DEVELOP) ## train one member: RECIPE=recipes/default/member-6.yaml
	$(call need,RECIPE,a recipe such as recipes/default/member-6.yaml)$(BIN)/python -m training.train $(RECIPE)

export: $(DEVELOP) ## checkpoints into a bundle: CHECKPOINTS="runs/a runs/b" OUTPUT=bundles/mine DATA=rows.jsonl (FLAGS="--precision auto")
	$(call need,CHECKPOINTS,finished members)$(call need,OUTPUT,the new bundle)$(call need,DATA,labelled rows for the proof)
	$(BIN)/python -m export $(CHECKPOINTS) --output $(OUTPUT) --data $(DATA) $(FLAGS)

image: ## the container image kore-serve:cpu, or with DEVICE=cuda kore-serve:cuda
	docker build --target $(RUNTIME_EXTRA) --tag kore-serve:$(RUNTIME_EXTRA) .

bundle: $(DEVELOP) ## train and export an ensemble as the default one was: KORE_ENCODER=…, KLUE_RE_DATA=…, OUTPUT=…; hours without a GPU
	$(call need,KORE_ENCODER,a small pretrained encoder)$(call need,KLUE_RE_DATA,the folder of the KLUE-RE rows)$(call need,OUTPUT,the new bundle)
	for recipe in member-6 further-6 member-12 further-12; do $(BIN)/python -m training.train recipes/default/$$recipe.yaml || exit 1; done
	$(BIN)/python -m export runs/default/further/member-6 runs/default/further/member-12 --output $(OUTPUT) --name default --precision int8,fp16-from-int8 \
		--data $(KLUE_RE_DATA)/validation.jsonl --calibration $(KLUE_RE_DATA)/train.jsonl \
		--source recipes/default/source.json --notice recipes/default/NOTICE.md
	$(BIN)/python -m export.cascade $(OUTPUT) --data $(KLUE_RE_DATA)/validation.jsonl --loss 0.3 --auprc-loss 2

loadtest: $(DEVELOP) ## load test with latency gates: PROFILE=short|spike|soak|mixed|batch, BUNDLE=… or URL=… of a running server
	$(BIN)/python -m loadtest $(PROFILE) $(if $(URL),--url $(URL),--bundle $(BUNDLE))

trials: $(DEVELOP) ## hostile requests, overload, upheaval at full load, the OpenAPI document as a weapon: minutes each
	$(BIN)/python -m loadtest.hostile
	$(BIN)/python -m loadtest.overload
	$(BIN)/python -m loadtest.upheaval
	$(BIN)/python -m loadtest.openapi

soak: $(DEVELOP) ## ten minutes of steady load
	$(BIN)/python -m loadtest.soak

benchmark: $(DEVELOP) ## the ceiling, what each part is worth, other servers on the same work: about an hour on an idle machine
	status=0; for part in ceiling ablation peers; do $(BIN)/python -m benchmarks.$$part || status=1; done; exit $$status

benchmark-short: $(DEVELOP) ## the other servers only, one short round: under five minutes once their environments are there
	$(BIN)/python -m benchmarks.peers --short

benchmark-gpu: .venv/develop-cuda ## on a GPU: a roberta-large ensemble and the bundle against matrix rate and PyTorch, then over HTTP; ten minutes
	$(BIN)/python -m benchmarks.gpu --bundle $(BUNDLE)

.PHONY: docs
docs: $(DEVELOP) .venv/docs ## the documents as a site that needs no network: site/index.html
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

audit: $(DEVELOP) ## known vulnerabilities of what is pinned; asks a public database
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean: ## remove the environment and caches
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache

# Anew where its Python has gone or is too old; what was installed in it is then installed again.
.venv/bin/python: $(if $(shell $(BIN)/python -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),,no-environment)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make … PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }

.PHONY: no-environment
no-environment:

.venv/serve-%: pyproject.toml constraints.txt .venv/bin/python
	$(if $(filter cuda,$*),$(no-cpu-runtime),$(no-cuda-runtime))
	$(BIN)/pip install --quiet --constraint constraints.txt '.[serve,$*]'
	@touch $@

.venv/develop-cuda: pyproject.toml constraints.txt .venv/bin/python
	$(no-cpu-runtime)
	$(BIN)/pip install --quiet --constraint constraints.txt '.[serve,otel,cuda,train,search,track,augment,export,scoring,cluster,loadtest,test]'
	@touch $@

.venv/develop: pyproject.toml constraints.txt .venv/bin/python
	$(no-cuda-runtime)
	$(BIN)/pip install --quiet --constraint constraints.txt '.[serve,otel,cpu,train,search,track,augment,export,scoring,cluster,loadtest,test]'
	@touch $@

.venv/docs: pyproject.toml constraints.txt .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt '.[docs]'
	@touch $@
