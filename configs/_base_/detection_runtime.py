_base_ = 'default_runtime.py'
default_scope = 'mmdet'
custom_imports = dict(imports=['mmcyclemlp', 'mmcyclemlp.engine'], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
