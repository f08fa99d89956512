"""Reports: plain data and its renderers.

`model` turns an `Analysis` and its findings into a `Report` as the JSON contract describes it; `terminal`, `markdown`
and `json` render that, and nothing else. Text from a capture is hostile until a renderer has escaped it.
"""
