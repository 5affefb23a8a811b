_base_ = 'default_runtime.py'
default_scope = 'mmpretrain'
custom_imports = dict(
    imports=['mmcyclemlp', 'mmcyclemlp.engine', 'mmcyclemlp.datasets.cifar10', 'mmcyclemlp.datasets.digits'],
    allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
