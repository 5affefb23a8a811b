# The study's recipe to the letter: pixels in [0, 1], one order for all epochs, the schedule of 100 epochs also where
# fewer are run. The order is a fixed random one: CIFAR-10's own files are in some random order too, but a folder of
# images is in the order of its classes, and unshuffled would teach one class after the other.
_base_ = ['../datasets/cifar10.py', '../schedules/adamw_cosine.py', '../classification_runtime.py']
data_preprocessor = dict(mean=[0., 0., 0.], std=[255., 255., 255.])
train_dataloader = dict(sampler=dict(type='FixedOrderSampler', seed=0))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=100)]
