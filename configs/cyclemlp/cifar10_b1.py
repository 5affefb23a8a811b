_base_ = [
    '../_base_/models/cyclemlp_b1.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/classification_runtime.py',
]
