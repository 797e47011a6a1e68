# Set-up happens by itself, once, under .host/. COMFYUI_PATH=/some/ComfyUI runs a target on that checkout; with
# COMFYUI_PYTHON=/its/python as well nothing is set up.
PYTHON ?= python3
PYTEST_ARGS ?=
DEMO_ARGS ?=
GALLERY_ARGS ?=
MEASURE_ARGS ?=
TRAIN_ARGS ?=
BENCHMARK_ARGS ?=
EVIDENCE_ARGS ?= tables
WORKFLOWS_ARGS ?=
IN_HOST = $(PYTHON) host/install.py
# Each of the three parts runs two at a time; what starts servers, workers or a browser goes by files, which share them.
APART = tests/server tests/test_install.py tests/test_ray.py
EDITOR = tests/browser

.PHONY: demo gallery test measure train benchmark evidence workflows tables clean

demo:  ## paint one picture of what NAG does; DEMO_ARGS="--save FILE"
	@$(IN_HOST) -m host.demo $(DEMO_ARGS)

gallery:  ## paint each workflow whose models are there, with and without NAG; GALLERY_ARGS="--only flux_dev --seeds 1 2"
	@$(IN_HOST) -m host.gallery $(GALLERY_ARGS)

test:  ## run the tests; PYTEST_ARGS="tests/server -x"
ifneq ($(strip $(PYTEST_ARGS)),)
	@$(IN_HOST) -m pytest $(PYTEST_ARGS)
else
	@failed=0; \
	$(IN_HOST) -m pytest tests $(APART:%=--ignore=%) --ignore=$(EDITOR) --numprocesses 2 || failed=1; \
	$(IN_HOST) -m pytest $(APART) --numprocesses 2 --dist loadfile || failed=1; \
	$(IN_HOST) -m pytest $(EDITOR) --numprocesses 2 --dist loadfile || failed=1; \
	exit $$failed
endif

measure:  ## print the playground's table; MEASURE_ARGS="..."
	@$(IN_HOST) -m playground.measure $(MEASURE_ARGS)

train:  ## train the playground's judges, teachers and students anew, hours on two cores; TRAIN_ARGS="flux"
	@$(IN_HOST) -m playground.make $(TRAIN_ARGS)

benchmark:  ## measure what NAG costs; BENCHMARK_ARGS="--cases Flux"
	@$(IN_HOST) -m benchmarks $(BENCHMARK_ARGS)

evidence:  ## write evidence/RESULTS.md from what is kept; EVIDENCE_ARGS="figures", "paint flux", "strips", "cost", "real ..."
	@$(IN_HOST) -m evidence $(EVIDENCE_ARGS)

workflows:  ## write workflows/api/ anew from the graphs in workflows/; needs Chromium; WORKFLOWS_ARGS="flux_dev"
	@$(IN_HOST) -m host.export $(WORKFLOWS_ARGS)

tables:  ## write what auto stands for into README.md and web/docs/, from the families' declarations
	@$(IN_HOST) -m host.tables

clean:  ## remove the set-up and the output
	rm -rf .host output
