"""Datasets that the OpenMMLab libraries lack; each module needs its own library and is imported by configs."""
