# The study's recipe to the letter: pixels in [0, 1], one (random) order for all epochs, the schedule of 100 epochs.
# Its accuracies are multiples of 1/8000 in training and of 1/5000 in testing, so it trained on the larger split, which
# STL-10 calls test, and tested on the smaller; so does this.
_base_ = ['../datasets/stl10.py', '../schedules/adamw_cosine.py', '../classification_runtime.py']
data_preprocessor = dict(mean=[0., 0., 0.], std=[255., 255., 255.])
train_dataloader = dict(dataset=dict(split='test'), sampler=dict(type='FixedOrderSampler', seed=0))
val_dataloader = dict(dataset=dict(split='train'))
test_dataloader = dict(dataset=dict(split='train'))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=100)]
