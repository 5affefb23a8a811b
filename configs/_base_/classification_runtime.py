_base_ = 'default_runtime.py'
default_scope = 'mmpretrain'
custom_imports = dict(
    imports=[
        'mmcyclemlp', 'mmcyclemlp.engine', 'mmcyclemlp.datasets.cifar10', 'mmcyclemlp.datasets.digits',
        'mmcyclemlp.datasets.fixed_order', 'mmcyclemlp.datasets.stl10'
    ],
    allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
custom_hooks = [dict(type='CurvesHook'), dict(type='ResumeScheduleHook'), dict(type='TrainAccuracyHook')]
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
