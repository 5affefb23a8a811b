# `make demo` trains CycleMLP on handwritten digits, `make demo-detection` and `make demo-segmentation` find them in
# scenes; `make test` runs the tests. Everything lies in .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install
MMCV := onedl-mmcv==2.3.6
RUNS := work_dirs
DIGITS := digits_b1
SCENES := digit-scenes_retinanet_b1
SEGMENTS := digit-scenes_fpn_b1
# Mixed precision, where the processor multiplies bfloat16; elsewhere it would be slower.
AMP := $(shell grep -qm1 -e avx512_bf16 -e amx_bf16 /proc/cpuinfo 2>/dev/null && echo --amp)

.PHONY: help demo demo-detection demo-segmentation test test-fast soak env ops docs lint clean

help:
	@echo 'make demo   train and test CycleMLP-B1 on the embedded digits (about 5 minutes from nothing)'
	@echo 'make demo-detection   find digits in cluttered scenes and draw them (10 minutes, after a set-up as for tests)'
	@echo 'make demo-segmentation   the same, pixel by pixel (8 minutes, after a set-up as for make demo)'
	@echo 'make test   the tests, after a set-up with compiled operators (about 10 minutes, once)'
	@echo 'make test-fast   the quick ones among them: no training, no GPU, no network'
	@echo 'make soak   kills 40 runs, damages files for 10 minutes, and draws 2,000 examples of each operator (long)'
	@echo 'make env    only the environment, in $(VENV)'
	@echo "make ops    the environment with mmcv's operators compiled, for detection and backend='deform_conv'"
	@echo 'make docs   the documentation as a site, with the Python interfaces, in build/docs'
	@echo 'make lint   ruff, mypy, codespell, shellcheck'
	@echo 'make clean  remove $(VENV), caches and builds; results in work_dirs/ and data/ stay'

env: $(VENV)/.env
ops: $(VENV)/.ops

define train_digits
@echo '== Training CycleMLP-B1 on 1,438 handwritten digits: about 2 minutes on 2 cores'
$(PY) tools/train.py configs/cyclemlp/$(DIGITS).py
endef

demo: $(VENV)/.env
	$(train_digits)
	$(PY) tools/test.py configs/cyclemlp/$(DIGITS).py $$(cat $(RUNS)/$(DIGITS)/last_checkpoint) --work-dir $(RUNS)/$(DIGITS)/test
	@echo '== Curves: $(RUNS)/$(DIGITS)/curves.png; checkpoint:' $$(cat $(RUNS)/$(DIGITS)/last_checkpoint)

$(RUNS)/$(DIGITS)/epoch_15.pth: | $(VENV)/.env
	$(train_digits)

demo-detection: $(VENV)/.ops $(RUNS)/$(DIGITS)/epoch_15.pth
	@echo '== Training a RetinaNet on 1,000 scenes of digits: about 6 minutes on 2 cores'
	$(PY) tools/train.py configs/cyclemlp/$(SCENES).py
	$(PY) tools/infer.py configs/cyclemlp/$(SCENES).py $$(cat $(RUNS)/$(SCENES)/last_checkpoint) --score 0.4 \
	    $$(ls data/digit_scenes/val/*.png | head -12)
	@echo '== Curves: $(RUNS)/$(SCENES)/curves.png; pictures: $(RUNS)/$(SCENES)/infer/vis/'

demo-segmentation: $(VENV)/.env
	@echo '== Training a Semantic FPN on 2,000 scenes of digits: about 7 minutes on 2 cores with bfloat16'
	$(PY) tools/train.py configs/cyclemlp/$(SEGMENTS).py $(AMP)
	$(PY) tools/infer.py configs/cyclemlp/$(SEGMENTS).py $$(cat $(RUNS)/$(SEGMENTS)/last_checkpoint) \
	    $$(ls data/digit_scenes/val/*.png | head -12)
	@echo '== Curves: $(RUNS)/$(SEGMENTS)/curves.png; pictures: $(RUNS)/$(SEGMENTS)/infer/vis/'

# A process per core, each with one thread: two OpenMP pools on two cores stall each other. A process that has nothing
# left to do takes tests of another, so files stay together, with what their tests share, until the end.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --maxprocesses 8 --dist worksteal

test: $(VENV)/.ops $(VENV)/.tests
	$(PYTEST)

test-fast: $(VENV)/.ops $(VENV)/.tests
	$(PYTEST) -m 'not slow and not cuda and not network'

soak: $(VENV)/.ops $(VENV)/.tests
	OMP_NUM_THREADS=1 $(PY) -m tests.soak

docs: $(VENV)/.tests
	$(PY) -m sphinx -q -W --keep-going -c docs . build/docs
	@echo '== The site: build/docs/index.html'

lint: $(VENV)/.tests
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" pre-commit run --all-files

clean:
	rm -rf $(VENV) build dist *.egg-info mmcyclemlp/.mim .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit( \
	    "mmcyclemlp was tested with Python 3.10 to 3.13, but $(PYTHON) is %d.%d; run: make PYTHON=python3.11" % v)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo 'No virtual environment could be made; on Debian run: apt-get install python3-venv'; exit 1; }

$(VENV)/.env: $(PY) setup.py $(addprefix requirements/,torch.txt runtime.txt mminstall.txt cls.txt det.txt seg.txt)
	@echo '== Installing torch, the OpenMMLab packages and mmcyclemlp into $(VENV): about 5 GB, 2 to 3 minutes'
	$(PIP) 'setuptools>=70.1,<82' -r requirements/torch.txt
	@# mmcv's build is told apart by neither torch nor operators in pip's cache, so it gets none.
	$(PIP) --no-cache-dir -r requirements/torch.txt -r requirements/mminstall.txt $(MMCV)
	$(PIP) -r requirements/torch.txt $(patsubst %,-r requirements/%.txt,mminstall runtime cls det seg)
	@# opencv-python needs the system's libGL, which bare machines lack; opencv-python-headless does not.
	@$(PY) -c 'import cv2' 2>/dev/null || $(PIP) --force-reinstall --no-deps opencv-python-headless==$$( \
	    $(PY) -c 'from importlib.metadata import version; print(version("opencv-python-headless"))')
	$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.ops: $(VENV)/.env tools/install/build_mmcv_ops.sh
	$(PIP) --quiet ninja packaging
	@tools/install/build_mmcv_ops.sh $(PY) $(MMCV)
	@touch $@

$(VENV)/.tests: $(VENV)/.env $(patsubst %,requirements/%.txt,tests export docs)
	$(PIP) -r requirements/torch.txt $(patsubst %,-r requirements/%.txt,mminstall tests export docs)
	@touch $@
