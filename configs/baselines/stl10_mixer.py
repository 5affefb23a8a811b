_base_ = ['../_base_/models/mixer.py', '../_base_/recipes/stl10_seed.py']
model = dict(backbone=dict(img_size=96))
