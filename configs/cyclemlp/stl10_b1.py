_base_ = ['../_base_/models/cyclemlp_b1.py', '../_base_/recipes/stl10_seed.py']
