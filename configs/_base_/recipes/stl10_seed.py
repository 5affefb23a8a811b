# The study's recipe, with what it left out: shuffling and normalisation.
_base_ = ['../datasets/stl10.py', '../schedules/adamw_cosine.py', '../classification_runtime.py']
