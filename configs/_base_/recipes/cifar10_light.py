# For runs of few epochs, where the strong recipe's mixed labels would only slow learning: crops and flips.
_base_ = ['../datasets/cifar10.py', '../schedules/adamw_cosine_warmup.py', '../classification_runtime.py']
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]))
