# The list of commands. CI runs the same targets. `make` alone prints the list.
PYTHON ?= python3
# KORE_PORT=9000 and `make serve PORT=9000` mean the same. These are not `?=`: many shells define HOST, PORT or URL.
# An environment made for CUDA stays one until DEVICE=cpu: `make loadtest` must not remove a GPU server's runtime.
DEVICE := $(or $(filter-out auto,$(KORE_DEVICE)),$(if $(wildcard .venv/serve-cuda .venv/develop-cuda),cuda,cpu))
BUNDLE := $(or $(KORE_BUNDLE),bundles/default)
HOST := $(or $(KORE_HOST),127.0.0.1)
PORT := $(or $(KORE_PORT),8000)
LOG_FORMAT := $(or $(KORE_LOG_FORMAT),text)
# A profile of loadtest/gates.yaml, for `make loadtest`.
PROFILE := short
URL :=
FLAGS :=
BIN := .venv/bin
RUNTIME_EXTRA := $(if $(filter cuda,$(DEVICE)),cuda,cpu)
ON_DEVICE := $(if $(filter cuda,$(DEVICE)),--device cuda)
# A development environment can serve too, so nothing is installed for that.
SERVE := $(or $(if $(filter cpu,$(RUNTIME_EXTRA)),$(wildcard .venv/develop)),.venv/serve-$(RUNTIME_EXTRA))
DEVELOP := .venv/develop$(if $(filter cuda,$(DEVICE)),-cuda)
DEVELOP_EXTRAS := serve,otel,train,search,track,augment,export,scoring,cluster,loadtest,test
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
# --quiet twice: pip prints errors only, no warnings.
INSTALL := $(BIN)/pip install --quiet --quiet --constraint constraints.txt
# $(call need,NAME,meaning) stops before the command starts when a variable is missing.
need = $(if $($(1)),,$(error $(1)=… is missing: $(2)))
# The two ONNX Runtime packages overwrite each other, and then CUDA is gone. So the other one is removed first.
no-cpu-runtime = $(if $(wildcard .venv/serve-cpu .venv/develop),\
	$(BIN)/pip uninstall --quiet --yes onnxruntime && rm -f .venv/serve-cpu .venv/develop)
no-cuda-runtime = $(if $(wildcard .venv/serve-cuda .venv/develop-cuda),\
	$(BIN)/pip uninstall --quiet --yes onnxruntime-gpu && rm -f .venv/serve-cuda .venv/develop-cuda)

ADDRESS := http://$(if $(findstring :,$(HOST)),[$(HOST)],$(HOST)):$(PORT)
KEY := $(if $(KORE_API_KEY), -H "Authorization: Bearer $$KORE_API_KEY")
define REQUEST
curl -s $(ADDRESS)/relations$(KEY) -H 'Content-Type: application/json' -d '{"sentence": "배우 윤가람은 1990년 3월 2일 부산에서 태어났다.", "subject_entity": {"word": "윤가람", "type": "PER"}, "object_entity": {"word": "1990년 3월 2일", "type": "DAT"}, "top_k": 3}'
endef
export REQUEST
FRONTS ?= 0 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help serve score test test-all lint train export bundle image image-test manifests loadtest trials soak benchmark benchmark-peers benchmark-short benchmark-gpu prove-gpu audit clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

serve: $(SERVE) ## start the server on 127.0.0.1:8000 (BUNDLE=…, DEVICE=cuda, PORT=…)
	@printf '\nWhen the log says "ready", open %s/ in a browser, or send this request:\n\n%s\n\n' "$(ADDRESS)" "$$REQUEST"
	@exec $(BIN)/python -m api --host $(HOST) --port $(PORT) --bundle $(BUNDLE) --log-format $(LOG_FORMAT) $(ON_DEVICE)

score: $(SERVE) ## predict the relations of a file: INPUT=rows.jsonl OUTPUT=predictions.jsonl (FLAGS="--resume --top-k 3")
	$(call need,INPUT,a file of rows)$(call need,OUTPUT,the file to write)
	$(BIN)/python -m scoring $(INPUT) $(OUTPUT) --bundle $(BUNDLE) $(ON_DEVICE) $(FLAGS)

test: $(DEVELOP) ## run the quick tests: about five minutes on two cores (FLAGS="-k queue")
	$(PYTEST) -m 'not slow' $(FLAGS)

test-all: $(DEVELOP) ## run all tests; those on real rows need KLUE_RE_DATA, the folder of the KLUE-RE rows
	$(PYTEST) $(FLAGS)

lint: $(DEVELOP) ## check format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

train: $(DEVELOP) ## train one member: RECIPE=recipes/default/member-6.yaml
	$(call need,RECIPE,a recipe such as recipes/default/member-6.yaml)
	$(BIN)/python -m training.train $(RECIPE)

export: $(DEVELOP) ## export checkpoints into a bundle: CHECKPOINTS="runs/a runs/b" OUTPUT=bundles/mine DATA=rows.jsonl (FLAGS=…)
	$(call need,CHECKPOINTS,finished members)$(call need,OUTPUT,the new bundle)$(call need,DATA,labelled rows for the proof)
	$(BIN)/python -m export $(CHECKPOINTS) --output $(OUTPUT) --data $(DATA) $(FLAGS)

image: ## build the container image kore-serve:cpu, or with DEVICE=cuda kore-serve:cuda
	docker build --target $(RUNTIME_EXTRA) --tag kore-serve:$(RUNTIME_EXTRA) .

image-test: ## build the same image without Docker, start it and ask it: root, buildah, mmdebstrap; minutes (DEVICE=cuda)
	$(PYTHON) -m deploy.image --target $(RUNTIME_EXTRA)

manifests: $(DEVELOP) ## render the Kubernetes manifests, and check them against Kubernetes' schemas and the server
	$(BIN)/python -m deploy.kubernetes.check

bundle: $(DEVELOP) ## train and export as the default bundle was: KORE_ENCODER=…, KLUE_RE_DATA=…, OUTPUT=…; hours without a GPU
	$(call need,KORE_ENCODER,a small pretrained encoder)$(call need,KLUE_RE_DATA,the folder of the KLUE-RE rows)
	$(call need,OUTPUT,the new bundle)
	for recipe in member-6 further-6 member-12 further-12; do \
		$(BIN)/python -m training.train recipes/default/$$recipe.yaml || exit 1; done
	test -e runs/default/teachers.npz || $(BIN)/python -m training.teach runs/default/further/member-6 \
		runs/default/further/member-12 --data $(KLUE_RE_DATA)/train.jsonl --output runs/default/teachers.npz
	$(BIN)/python -m training.train recipes/default/trunk.yaml
	test -e runs/default/calibrated/trunk || $(BIN)/python -m training.calibrate runs/default/trunk \
		--data $(KLUE_RE_DATA)/validation.jsonl --output runs/default/calibrated/trunk \
		--train $(KLUE_RE_DATA)/train.jsonl --prior-shift labels --strength 0.25
	$(BIN)/python -m export runs/default/calibrated/trunk --output $(OUTPUT) --name default --weights 1,19,80,100 \
		--precision int8,fp16-from-int8 --data $(KLUE_RE_DATA)/validation.jsonl \
		--calibration $(KLUE_RE_DATA)/train.jsonl --source recipes/default/source.json --notice recipes/default/NOTICE.md
	$(BIN)/python -m export.cascade $(OUTPUT) --data $(KLUE_RE_DATA)/validation.jsonl --loss 0.3 --auprc-loss 2
	$(BIN)/python -m export.card $(OUTPUT) --data $(KLUE_RE_DATA)/validation.jsonl \
		--train $(KLUE_RE_DATA)/train.jsonl --licence cc-by-sa-4.0 --about recipes/default/about.md

loadtest: $(DEVELOP) ## run a load test with latency gates: PROFILE=short|spike|soak|mixed|batch, BUNDLE=… or URL=… of a running server
	$(BIN)/python -m loadtest $(PROFILE) $(if $(URL),--url $(URL),--bundle $(BUNDLE))

trials: $(DEVELOP) ## try to break a server, in one process and with two fronts (FRONTS="0 2"): hostile requests, overload, reloads at full load and a hundred of them, large requests in a crowd, its OpenAPI document; minutes each
	status=0; for fronts in $(FRONTS); do export KORE_HTTP_PROCESSES=$$fronts; \
	for trial in hostile overload "upheaval --bundle $(BUNDLE)" "crowd --bundle $(BUNDLE)" "swaps --bundle $(BUNDLE)" openapi; do \
	echo "loadtest.$$trial, $$fronts front processes"; $(BIN)/python -m loadtest.$$trial || status=1; done; done; exit $$status

soak: $(DEVELOP) ## run ten minutes of steady load
	$(BIN)/python -m loadtest.soak

benchmark-peers: $(DEVELOP) | runs/tiny/bundle ## compare with other servers, then what each costs by itself, and write the tables of docs/performance.md
	status=0; $(BIN)/python -m benchmarks.peers --only served,ours,plain,litserve,bentoml,mosec,ray,ray-haproxy,triton,infinity,vllm --rounds 3 --seconds 4 --output benchmarks/measured/peers || status=1; \
	$(BIN)/python -m benchmarks.peers --overhead --bundle runs/tiny/bundle --seconds 4 --output benchmarks/measured/overhead || status=1; \
	$(BIN)/python -m docs.generate && $(BIN)/python -m docs.plots || status=1; exit $$status

# A bundle that costs nothing: its answers are worth nothing.
runs/tiny/bundle: | $(DEVELOP)
	$(BIN)/python -m training.tiny_encoder runs/tiny/encoder
	$(BIN)/python -m training.train recipes/tiny/train.yaml
	$(BIN)/python -m export runs/tiny/member --output runs/tiny/bundle --data recipes/tiny/validation.jsonl

benchmark: $(DEVELOP) ## measure the machine's limit, each part's worth, and other servers: about an hour on an idle machine
	status=0; for part in ceiling ablation peers; do $(BIN)/python -m benchmarks.$$part || status=1; done; exit $$status

benchmark-short: $(DEVELOP) ## measure the other servers in one short round: under five minutes once they are installed
	$(BIN)/python -m benchmarks.peers --short

benchmark-gpu: .venv/develop-cuda ## measure a roberta-large ensemble and the bundle on a GPU, against PyTorch and over HTTP: ten minutes
	$(BIN)/python -m benchmarks.gpu --bundle $(BUNDLE)

prove-gpu: $(DEVELOP) .venv-cuda/installed ## prove on a machine without a GPU what can be proven of the GPU path: minutes, and 2.2 GB of wheels
	$(BIN)/python -m benchmarks.gpu.prove --cuda-python .venv-cuda/bin/python

.PHONY: docs
docs: $(DEVELOP) .venv/docs ## build the documents as a site that needs no network: site/index.html
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

audit: $(DEVELOP) ## look up known vulnerabilities of the pinned packages in a public database
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean: ## remove the environment and caches
	rm -rf .venv .venv-cuda .venv-peers .pytest_cache .mypy_cache .ruff_cache

# The environment is made again when its Python is missing or too old. Its packages are then installed again.
.venv/bin/python: $(if $(shell $(BIN)/python -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),,no-environment)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make … PYTHON=python3.12")'
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }

.PHONY: no-environment
no-environment:

.venv/serve-cpu: SIZE := about 250 MB, about a minute
.venv/serve-cuda: SIZE := several GB with the CUDA libraries, several minutes
.venv/serve-%: pyproject.toml constraints.txt .venv/bin/python
	@echo "Installing the server into .venv: ONNX Runtime, FastAPI, tokenizers ($(SIZE))."
	@$(if $(filter cuda,$*),$(no-cpu-runtime),$(no-cuda-runtime))
	@$(INSTALL) '.[serve,$*]'
	@touch $@

.venv/develop .venv/develop-cuda: pyproject.toml constraints.txt .venv/bin/python
	@echo "Installing all tools into .venv: PyTorch, transformers, Ray, test tools (about 2.7 GB, about two minutes;"
	@echo "longer on a slow connection, and larger where PyTorch or ONNX Runtime bring CUDA)."
	@$(if $(filter %-cuda,$@),$(no-cpu-runtime),$(no-cuda-runtime))
	@$(INSTALL) '.[$(DEVELOP_EXTRAS),$(if $(filter %-cuda,$@),cuda,cpu)]'
	@touch $@

# An environment of its own: in .venv, the CUDA runtime would replace the one for CPUs.
.venv-cuda/installed: pyproject.toml constraints.txt
	@echo "Installing ONNX Runtime for CUDA with NVIDIA's libraries into .venv-cuda (2.2 GB, about a minute)."
	@$(PYTHON) -m venv --clear .venv-cuda
	@.venv-cuda/bin/pip install --quiet --quiet --constraint constraints.txt '.[cuda]'
	@touch $@

.venv/docs: pyproject.toml constraints.txt .venv/bin/python
	@echo "Installing mkdocs-material (about 40 MB)."
	@$(INSTALL) '.[docs]'
	@touch $@
