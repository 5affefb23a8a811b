_base_ = ['../_base_/models/regnet.py', '../_base_/recipes/stl10_seed.py']
